/**
 * How fast, how late and how surely do records start a function? The process that is measured (bench/functions/stream-worker.mjs) has nothing in it but the
 * function with its trigger; the broker, producers and readers are in this one. `node bench/functions-stream.mjs [records] [records of the poison run]`, default 400,000 and
 * 1,000,000; writes bench/results/functions-stream.md. Run it on an idle machine.
 */
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { cpus, loadavg, platform, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { startBrokerThread } from '../dist/src/broker/broker-thread.js';
import { ensureTopics } from '../dist/src/kafka/admin.js';
import { kafkaClient } from '../dist/src/kafka/client.js';
import { sink as openSink } from '../dist/src/kafka/sink.js';

const wanted = Number(process.argv[2] ?? 400_000);
const many = Number(process.argv[3] ?? 1_000_000);
const WARM_UP = 100_000;
const PARTITIONS = 4;
const LATENCY_S = 20;
const POISON = Math.floor(many * 0.777);

const TRIVIAL = 'export function handle() {}';
const ECHO = 'export function handle({ records }) { return records.map(({ value }) => value); }';
const POISONED = `export function handle({ records }) {
  if (records.some(({ value }) => value.id === ${POISON})) throw new Error('poison');
  return records.map(({ value }) => value.id);
}`;

/** Processes that want a core before this one begins: figures of a busy machine are no figures. */
const [load] = loadavg();
const broker = await startBrokerThread({ port: 0, defaultPartitions: PARTITIONS });
const connection = { brokers: [`${broker.host}:${broker.port}`] };
const { brokers } = connection;

async function topicsOf(...topics) {
  await ensureTopics(
    connection,
    topics.map((topic) => ({ topic, partitions: PARTITIONS })),
  );
}

const record = (id) => ({
  key: `sensor-${id % 1_000}`,
  value: JSON.stringify({ id, sensor: `sensor-${id % 1_000}`, metric: 'temperature', value: (id % 997) / 10 }),
});

async function fill(topic, count) {
  const sink = openSink(kafkaClient(connection));
  await sink.connect();
  for (let from = 0; from < count; from += 5_000) {
    await sink.write(
      topic,
      Array.from({ length: Math.min(5_000, count - from) }, (_, i) => record(from + i)),
    );
  }
  await sink.close();
}

function worker() {
  const child = fork(fileURLToPath(new URL('functions/stream-worker.mjs', import.meta.url)), { stdio: 'inherit' });
  const waiting = new Map();
  let next = 0;
  child.on('message', ({ id, answer }) => {
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  const ask = (type, rest = {}) =>
    new Promise((resolve) => {
      const id = next++;
      waiting.set(id, resolve);
      child.send({ type, id, ...rest });
    });
  const kill = () =>
    new Promise((resolve) => {
      child.once('exit', resolve);
      child.kill('SIGKILL');
    });
  return { ask, kill };
}

async function until(what, condition, timeoutMs = 300_000) {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const definitionOf = (topic, trigger, output) => ({
  ...(output ? { output } : {}),
  triggers: [{ type: 'stream', topic, from: 'earliest', ...trigger }],
});

let turn = 0;

/** Time and CPU of all records of a topic that is full already, joining the group left out: from the first record that is done. */
async function throughput({ title, code, trigger = {}, output = false, plain = false }) {
  const { ask, kill } = worker();
  const run = async (topic, count, profiled) => {
    const group = `bench-${++turn}`;
    const out = output ? `out-${turn}` : undefined;
    if (out) await topicsOf(out, `${group}-dead`);
    if (profiled) await ask('profile');
    await (plain
      ? ask('plain', { brokers, group, code, topic })
      : ask('start', { brokers, group, code, definition: definitionOf(topic, trigger, out) }));
    let first;
    let last;
    await until(title, async () => {
      const now = await ask('status');
      if (!first && now.counts.done > 0) first = { ...now, at: performance.now() };
      last = { ...now, at: performance.now(), shares: now.shares ?? last?.shares };
      return now.counts.done >= count;
    });
    const measured = last.counts.done - first.counts.done;
    await ask('stop');
    return { title, rate: measured / ((last.at - first.at) / 1_000), core: measured / (last.cpu - first.cpu) };
  };
  await run('warm-up', WARM_UP);
  const row = await run('records', wanted);
  // a profile costs time: in a run of its own
  const profile = await shares();
  await kill();
  console.error(`${title}: ${Math.round(row.rate)} records/s, ${Math.round(row.core)} a CPU second`);
  return { ...row, shares: profile };

  async function shares() {
    const group = `bench-${++turn}`;
    const out = output ? `out-${turn}` : undefined;
    if (out) await topicsOf(out, `${group}-dead`);
    await ask('profile');
    await (plain
      ? ask('plain', { brokers, group, code, topic: 'warm-up' })
      : ask('start', { brokers, group, code, definition: definitionOf('warm-up', trigger, out) }));
    await new Promise((resolve) => setTimeout(resolve, 2_500));
    const { shares: found } = await ask('status');
    await ask('stop');
    return found;
  }
}

/** Calls `each` for every committed record of a topic as it comes. */
async function read(topic, each) {
  const consumer = kafkaClient(connection).consumer({ groupId: `read-${topic}`, maxWaitTimeInMs: 100 });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch }) => {
      for (const message of batch.messages) each(message);
    },
  });
  return consumer;
}

/** From handing a record to the producer until a reader of the output topic has what the function made of it. */
async function latency({ title, trigger = {} }) {
  const { ask, kill } = worker();
  const topic = `late-${++turn}`;
  const out = `late-out-${turn}`;
  await topicsOf(topic, out);
  await ask('start', { brokers, group: `late-${turn}`, code: ECHO, definition: definitionOf(topic, trigger, out) });
  const times = [];
  const consumer = await read(out, ({ value }) => {
    const { at } = JSON.parse(String(value));
    times.push({ at, ms: performance.now() - at });
  });
  const producer = kafkaClient(connection).producer();
  await producer.connect();
  const total = 1_000 * (LATENCY_S + 5);
  const begin = performance.now();
  let sent = 0;
  await new Promise((resolve) => {
    const timer = setInterval(() => {
      const due = Math.min(total, Math.floor(performance.now() - begin));
      if (due === sent) return;
      const messages = [];
      for (; sent < due; sent++) {
        messages.push({ key: `k${sent % 100}`, value: JSON.stringify({ id: sent, at: performance.now() }) });
      }
      producer.send({ topic, acks: 1, messages }).catch(fail);
      if (sent < total) return;
      clearInterval(timer);
      resolve();
    }, 1);
  });
  await until(title, () => times.length >= total);
  await producer.disconnect();
  await consumer.disconnect();
  await ask('stop');
  await kill();
  // the first seconds are joining and compiling
  const measured = times
    .filter(({ at }) => at > begin + 5_000)
    .map(({ ms }) => ms)
    .sort((a, b) => a - b);
  const at = (q) => measured[Math.min(measured.length - 1, Math.floor(q * measured.length))];
  console.error(`${title}: p50 ${at(0.5).toFixed(1)} ms, p99 ${at(0.99).toFixed(1)} ms of ${measured.length}`);
  return { title, p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1), count: measured.length };
}

/** One poisoned record among many, and the process killed in the middle. */
async function poison({ title, trigger }) {
  const group = `poison-${++turn}`;
  const out = `poison-out-${turn}`;
  await topicsOf(out, `${group}-dead`);
  const seen = new Uint8Array(many);
  let outputs = 0;
  let once = 0;
  const dead = [];
  const readers = [
    await read(out, ({ value }) => {
      outputs++;
      if (seen[Number(value)]++ === 0) once++;
    }),
    await read(`${group}-dead`, ({ value, headers }) => {
      dead.push({ id: JSON.parse(String(value)).id, attempts: String(headers['iguana-attempts']) });
    }),
  ];
  const definition = definitionOf('many', { attempts: 3, backoffMs: 10, ...trigger }, out);
  const begin = () => {
    const one = worker();
    void one.ask('start', { brokers, group, code: POISONED, definition, sessionTimeoutMs: 6_000 });
    return one;
  };
  const first = begin();
  await until(title, () => once >= many / 3);
  await first.kill();
  const second = begin();
  await until(title, () => once >= many - 1 && dead.length > 0);
  await second.ask('stop');
  await second.kill();
  await Promise.all(readers.map((one) => one.disconnect()));
  const lost = many - 1 - once;
  const doubled = outputs - once;
  const letters = new Set(dead.map(({ id }) => id));
  console.error(`${title}: ${lost} lost, ${doubled} doubled, dead letters ${JSON.stringify(dead)}`);
  if (lost > 0 || letters.size !== 1 || !letters.has(POISON)) throw new Error(`${title}: not as promised`);
  if (trigger.exactlyOnce && (doubled > 0 || dead.length !== 1)) throw new Error(`${title}: not as promised`);
  return { title, once, doubled, dead: dead.length, attempts: dead[0].attempts };
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

await topicsOf('warm-up', 'records', 'many');
await fill('warm-up', WARM_UP);
await fill('records', wanted);
const rows = [
  await throughput({ title: 'kafkajs alone, code in its own thread', code: TRIVIAL, plain: true }),
  await throughput({ title: 'trivial function', code: TRIVIAL }),
  await throughput({ title: 'trivial function, order by key', code: TRIVIAL, trigger: { order: 'key' } }),
  await throughput({ title: 'records back to a topic', code: ECHO, output: true }),
  await throughput({
    title: 'records back to a topic, exactly once',
    code: ECHO,
    output: true,
    trigger: { exactlyOnce: true },
  }),
];
const late = [
  await latency({ title: 'at least once' }),
  await latency({ title: 'exactly once', trigger: { exactlyOnce: true } }),
];
await fill('many', many);
const sure = [
  await poison({ title: 'at least once', trigger: {} }),
  await poison({ title: 'exactly once, order by key', trigger: { exactlyOnce: true, order: 'key' } }),
];
await broker.stop();

const number = (n) => Math.round(n).toLocaleString('en-US');
const ms = (n) => n.toFixed(1);
const names = [...new Set(rows.flatMap(({ shares }) => Object.keys(shares ?? {})))];
const text = `# Functions started by a stream

One process with one JavaScript function in one worker thread, ${PARTITIONS} partitions, JSON records of about 80 bytes, batches of up to 100; the broker (in memory), producers and readers are in another process
on the same machine. \`node bench/functions-stream.mjs ${wanted} ${many}\`

${cpus().length} × ${cpus()[0]?.model.trim()}, ${platform()} ${release()}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}, load average before it began: ${load.toFixed(1)}.

## Records a second

${number(wanted)} records that are there already, from the first that is done to the last, after ${number(WARM_UP)} others. "A core": records divided by the CPU seconds of the whole process, all its threads
together. The first row is what there is to compare with: no isolation, no order by key, no retries, no dead letters.

| | records/s | records a second and core | of kafkajs alone |
| --- | ---: | ---: | ---: |
${rows.map((r) => `| ${r.title} | ${number(r.rate)} | ${number(r.core)} | ${((100 * r.core) / rows[0].core).toFixed(0)} % |`).join('\n')}

Where the main thread's time goes, per cent of its busy time (a run of ${number(WARM_UP)} with the profiler on, joining the group included):

| | ${rows.map((r) => r.title).join(' | ')} |
| --- |${rows.map(() => ' ---: |').join('')}
${names.map((name) => `| ${name} | ${rows.map((r) => (r.shares?.[name] ?? 0).toFixed(0)).join(' | ')} |`).join('\n')}

## End to end

1,000 records a second for ${LATENCY_S} s: from handing a record to the producer until a reader of the output topic has what the function made of it; producing, two trips through the broker and reading are in it.

| | p50 ms | p99 ms | p99.9 ms | most ms | records |
| --- | ---: | ---: | ---: | ---: | ---: |
${late.map((r) => `| ${r.title} | ${ms(r.p50)} | ${ms(r.p99)} | ${ms(r.p999)} | ${ms(r.max)} | ${number(r.count)} |`).join('\n')}

## One poisoned record among ${number(many)}

The function throws whenever it is given that record; the process is killed (SIGKILL) after a third of the records and started again. Read committed, by ids.

| | answered | lost | doubled | dead letters of the poisoned record | of others | its tries |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${sure.map((r) => `| ${r.title} | ${number(r.once)} | 0 | ${number(r.doubled)} | ${r.dead} | 0 | ${r.attempts} |`).join('\n')}
`;
writeFileSync(fileURLToPath(new URL('results/functions-stream.md', import.meta.url)), text);
console.log(text);
process.exit(0);
