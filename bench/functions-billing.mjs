/**
 * Is the bill right? A month of a million calls of four functions, by two processes that are killed (SIGKILL) over and over in the middle of a batch and go on from
 * their last checkpoint, so that calls come again; some are told twice at once, some are tried twice. Then a process that saw none of it is asked for the bill,
 * which has to agree with the calls' own records to the millisecond, for the month and for every day.
 * `node bench/functions-billing.mjs [calls] [kills]`, default 1,000,000 and 20; writes bench/results/functions-billing.md. Fails when the bill is not right.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, platform, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startBrokerThread } from '../dist/src/broker/broker-thread.js';
import { usageTopic } from '../dist/src/operators/usage-topic.js';
import { callAt, functions, MONTH_MS, MONTH_START, triesOf } from './functions/month.mjs';

const count = Number(process.argv[2] ?? 1_000_000);
const kills = Number(process.argv[3] ?? 20);
const PARTS = 2;
const DAY_MS = 86_400_000;
const script = fileURLToPath(new URL('./functions/billing-part.mjs', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'iguana-bench-billing-'));
const load = loadavg()[0];
const broker = await startBrokerThread({ port: 0, dataDir: join(scratch, 'broker') });
const address = `${broker.host}:${broker.port}`;
const topic = 'function-usage';

/** Runs a part until it is done; kills it so often, each time after it has worked for a while. Returns what it said at its end. */
async function runPart(part, killsLeft) {
  const directory = join(scratch, `part-${part}`);
  mkdirSync(directory, { recursive: true });
  let killed = 0;
  for (;;) {
    const args = [script, address, topic, directory, part, PARTS, count].map(String);
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    let timer;
    child.stdout.on('data', (chunk) => {
      output += chunk;
      if (timer === undefined && killed < killsLeft && output.includes('ready')) {
        timer = setTimeout(
          () => child.kill('SIGKILL'),
          (200 + ((killed * 7919) % 13) * 60) * Math.max(1, count / 500_000),
        );
      }
    });
    const [code, signal] = await new Promise((resolve) => child.once('close', (...how) => resolve(how)));
    clearTimeout(timer);
    if (signal === 'SIGKILL') {
      killed++;
      continue;
    }
    if (code !== 0) throw new Error(`a part ended with ${code}`);
    return { killed, ...JSON.parse(output.trim().split('\n').at(-1)) };
  }
}

const began = performance.now();
const ended = await Promise.all(Array.from({ length: PARTS }, (_, part) => runPart(part, Math.ceil(kills / PARTS))));
const seconds = (performance.now() - began) / 1000;

// what the calls themselves say, added up another way: in whole numbers of any size
const empty = () => ({ calls: 0n, ms: 0n, initMs: 0n, megabyteMs: 0n, initMegabyteMs: 0n, gas: 0n });
const own = new Map(functions.map(({ name }) => [name, { all: empty(), days: Array.from({ length: 31 }, empty) }]));
const up = (ms) => BigInt(Math.ceil(ms));
for (let i = 0; i < count; i++) {
  for (const one of triesOf(callAt(i, count))) {
    const { all, days } = own.get(one.function);
    for (const sums of [all, days[Math.floor((one.startedAt - MONTH_START) / DAY_MS)]]) {
      sums.calls++;
      sums.ms += up(one.durationMs);
      sums.initMs += up(one.initMs);
      sums.megabyteMs += up(one.durationMs) * BigInt(one.memoryMb);
      sums.initMegabyteMs += up(one.initMs) * BigInt(one.memoryMb);
      sums.gas += BigInt(one.gasUsed);
    }
  }
}

const readBegan = performance.now();
const reader = await usageTopic({ connection: { brokers: [address] }, topic, keys: ['key'] });
const wrong = [];
function compare(what, bill, sums) {
  const cost =
    (Number(sums.calls) / 1e6) * 0.2 + (Number(sums.megabyteMs + sums.initMegabyteMs) / 1_024_000) * 0.0000166667;
  const differences = {
    calls: BigInt(bill.invocationCount) - sums.calls,
    ms: BigInt(bill.computeTimeMs) - sums.ms,
    initMs: BigInt(bill.initTimeMs) - sums.initMs,
    gas: BigInt(bill.gasUsed) - sums.gas,
    gbSeconds: bill.gbSeconds === Number(sums.megabyteMs) / 1024 / 1000 ? 0n : 1n,
    cost: Math.abs(bill.estimatedCostUsd - cost) <= 1e-12 * Math.max(1, cost) ? 0n : 1n,
  };
  for (const [field, difference] of Object.entries(differences))
    if (difference !== 0n) wrong.push(`${what}: ${field} differs by ${difference}`);
}
const rows = [];
let rebuildSeconds;
let compared = 0;
for (const [name, { all, days }] of own) {
  const bill = await reader.getBilling(name, { start: MONTH_START, end: MONTH_START + MONTH_MS });
  rebuildSeconds ??= (performance.now() - readBegan) / 1000;
  compare(name, bill, all);
  for (const [day, sums] of days.entries()) {
    const start = MONTH_START + day * DAY_MS;
    compare(`${name}, day ${day + 1}`, await reader.getBilling(name, { start, end: start + DAY_MS }), sums);
  }
  compared += 32;
  rows.push(
    `| ${name} | ${bill.invocationCount} | ${bill.computeTimeMs} | ${all.ms} | ${bill.initTimeMs} | ${bill.gbSeconds.toFixed(3)} | ${bill.estimatedCostUsd.toFixed(6)} |`,
  );
}
const memory = process.memoryUsage().rss / 2 ** 20;
await reader.stop();
await broker.stop();
rmSync(scratch, { recursive: true });

const killed = ended.reduce((sum, one) => sum + one.killed, 0);
const lost = ended.reduce((sum, one) => sum + one.lost, 0);
const worst = (of) => Math.max(...ended.map(of));
const records = [...own.values()].reduce((sum, { all }) => sum + Number(all.calls), 0);
const text = `# The bill of a month with crashes

${count.toLocaleString('en')} calls of four functions (${records.toLocaleString('en')} tries), made by ${PARTS} processes that were killed with SIGKILL ${killed} times in the middle of a batch of 500 calls and went on from
their last checkpoint; every 97th call was told twice at once. The bill is that of a process which read the topic afterwards; "own records" are the calls' durations
added up in whole numbers of any size.

| function | tries billed | compute ms billed | of own records | init ms | GB-seconds | USD |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

Compared: ${compared} bills (the month and each of its 31 days, of each function), in tries, compute ms, init ms, GB-seconds, gas and price: ${wrong.length === 0 ? 'all equal' : `${wrong.length} differences`}. Records lost: ${lost}.

| | |
| --- | ---: |
| taking a record, with its line in the journal, p50 | ${(worst(({ p50 }) => p50) * 1000).toFixed(1)} µs |
| p99 | ${(worst(({ p99 }) => p99) * 1000).toFixed(1)} µs |
| all calls, crashes and restarts | ${seconds.toFixed(1)} s |
| first bill of a process: reading and checking ${records.toLocaleString('en')} records and those that came twice | ${rebuildSeconds.toFixed(1)} s |
| memory of that process | ${memory.toFixed(0)} MB |

Node ${process.version}, ${cpus().length} × ${cpus()[0].model.trim()}, ${platform()} ${release()}, ${new Date().toISOString().slice(0, 10)}. Load average when it began: ${load.toFixed(1)}.
\`node bench/functions-billing.mjs ${count} ${kills}\`
`;
writeFileSync(new URL('./results/functions-billing.md', import.meta.url), text);
process.stdout.write(text);
if (wrong.length > 0) {
  process.stderr.write(`${wrong.slice(0, 20).join('\n')}\n`);
  process.exit(1);
}
