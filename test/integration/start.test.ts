import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { encodeSamplesColumnar } from '../../src/codec/encode.js';
import type { ForecastRecord } from '../../src/records.js';
import { kafkaClientFor, until } from '../support/kafka.js';

interface Event {
  readonly event: string;
  readonly broker?: string;
  readonly page?: string;
  readonly what?: string;
  readonly record?: unknown;
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-start-'));
const running: ChildProcess[] = [];

afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('exit', resolve));
    }
  }
  rmSync(folder, { recursive: true, force: true });
});

async function start(
  ...args: string[]
): Promise<{ child: ChildProcess; events: Event[]; started: Event; tookMs: number }> {
  const from = performance.now();
  const child = spawn(process.execPath, ['dist/src/cli/main.js', 'start', '--json', '--port', '0', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.push(child);
  const events: Event[] = [];
  let rest = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    const lines = (rest + chunk.toString()).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) events.push(JSON.parse(line) as Event);
  });
  const started = await until('the banner', () => events.find((e) => e.event === 'started'));
  return { child, events, started, tookMs: performance.now() - from };
}

/** Time of the newest sample of the generated service that the page has. */
async function generatedTime({ page }: Event): Promise<number | undefined> {
  const answer = (await (await fetch(new URL('/api/series', page))).json()) as {
    name: string;
    timestamp: number | null;
  }[];
  return answer.find((one) => one.name === 'requests_per_second')?.timestamp ?? undefined;
}

it('shows forecasts, anomalies and decisions at once, survives kill -9 with what it had learnt, and stops cleanly', async () => {
  const data = path.join(folder, 'data');
  const first = await start('--demo', '--data', data, '--broker-port', '0');
  expect(first.tookMs).toBeLessThan(15_000);
  for (const kind of ['forecast', 'anomaly', 'decision']) {
    await until(kind, () => first.events.some((e) => e.event === kind && JSON.stringify(e.record).includes('shop')));
  }
  const page = await fetch(first.started.page!);
  expect(page.status).toBe(200);
  // a metric of our own, acknowledged by the broker before the kill
  const kafka = kafkaClientFor(first.started.broker!);
  const producer = kafka.producer();
  await producer.connect();
  const now = Date.now();
  const samples = Array.from({ length: 40 }, (_, i) => ({
    name: 'orders',
    labels: { service: 'till' },
    timestamp: now - 60_000 + 1000 * i,
    value: 50 + (i % 5),
  }));
  await producer.send({
    topic: 'metrics',
    acks: -1,
    messages: samples.map((s) => ({ key: 'till', value: JSON.stringify(s) })),
  });
  await until('a forecast of it', () =>
    first.events.some((e) => e.event === 'forecast' && (e.record as ForecastRecord).name === 'orders'),
  );
  await producer.disconnect();
  const seenBefore = await until('a generated sample', () => generatedTime(first.started));
  first.child.kill('SIGKILL');
  await new Promise((resolve) => first.child.once('exit', resolve));

  const second = await start('--demo', '--data', data, '--broker-port', '0');
  const admin = kafkaClientFor(second.started.broker!).admin();
  await admin.connect();
  const offsets = await admin.fetchTopicOffsets('metrics');
  expect(offsets.reduce((sum, o) => sum + Number(o.high), 0)).toBeGreaterThanOrEqual(40);
  const [committed] = await admin.fetchOffsets({ groupId: 'iguana-forecast', topics: ['metrics'] });
  expect(committed!.partitions.some((p) => Number(p.offset) > 0)).toBe(true);
  await admin.disconnect();
  // one more sample of our metric: with the state of before, a forecast comes a few steps later, not after learning anew
  const again = kafkaClientFor(second.started.broker!).producer();
  await again.connect();
  const more = Array.from({ length: 7 }, (_, i) => ({ ...samples[0]!, timestamp: now - 19_000 + 1000 * i }));
  await again.send({ topic: 'metrics', messages: more.map((s) => ({ key: 'till', value: JSON.stringify(s) })) });
  await until('a forecast of it again', () =>
    second.events.some((e) => e.event === 'forecast' && (e.record as ForecastRecord).name === 'orders'),
  );
  await again.disconnect();
  // the generated day goes on where it stood: its newest sample is later than before the kill, and not by a new beginning
  await until(
    'a later generated sample',
    async () => ((await generatedTime(second.started)) ?? 0) > seenBefore,
    30_000,
  );
  expect(await generatedTime(second.started)).toBeLessThan(seenBefore + 4 * 86_400_000);

  const asked = performance.now();
  second.child.kill('SIGINT');
  const code = await new Promise((resolve) => second.child.once('exit', resolve));
  expect(code).toBe(130);
  expect(performance.now() - asked).toBeLessThan(3_000);
}, 120_000);

it('takes a free port when the usual one is taken, says so, and names a data directory it cannot use', async () => {
  const first = await start('--memory', '--broker-port', '0');
  const port = first.started.broker!.split(':')[1]!;
  const second = await start('--memory', '--broker-port', port);
  expect(second.started.broker).not.toBe(first.started.broker);
  await until('the note', () =>
    second.events.some((e) => e.event === 'note' && e.what?.includes(`port ${port} is taken`)),
  );
  const taken = path.join(folder, 'file');
  mkdirSync(folder, { recursive: true });
  writeFileSync(taken, 'not a folder');
  const refused = spawn(
    process.execPath,
    ['dist/src/cli/main.js', 'start', '--data', taken, '--port', '0', '--broker-port', '0'],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  running.push(refused);
  let text = '';
  refused.stderr?.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  const code = await new Promise((resolve) => refused.once('exit', resolve));
  expect(code).toBe(1);
  expect(text).toMatch(/^IGU_DATA_DIR .*; give a writable directory/);
  expect(text.trim().split('\n').length).toBe(1);
}, 60_000);

it('ends at once for a file of functions that is not right, and when it is asked to while it starts', async () => {
  mkdirSync(folder, { recursive: true });
  const ended = async (config: string, ...args: string[]) => {
    const file = path.join(folder, 'wrong.yaml');
    writeFileSync(file, config);
    const child = spawn(process.execPath, ['dist/src/cli/main.js', 'start', '--port', '0', '--config', file, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.push(child);
    let text = '';
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
    }
    const code = new Promise((resolve) => child.once('exit', resolve));
    return { child, code, text: () => text };
  };
  const data = path.join(folder, 'untouched');
  const began = performance.now();
  for (const [config, said] of [
    [`functions: {secretsFile: ${path.join(folder, 'no.yaml')}}`, /^IGU_FILE_MISSING cannot read .*no\.yaml; .*\n$/],
    [`functions: {usageKeyFile: ${path.join(folder, 'wrong.yaml', 'key')}}`, /^IGU_FILE_WRITE .*\n$/],
  ] as const) {
    const { code, text } = await ended(config, '--data', data, '--broker-port', '0');
    expect(await code).toBe(1);
    expect(text()).toMatch(said);
  }
  expect(existsSync(data)).toBe(false);
  const key = path.join(data, 'usage.key');
  mkdirSync(data);
  writeFileSync(key, '\n');
  const empty = await ended('', '--data', data, '--broker-port', '0');
  expect(await empty.code).toBe(2);
  expect(empty.text()).toMatch(/^IGU_CONFIG .*usage\.key: the key that usage is signed with is empty; .*\n$/);
  expect(performance.now() - began).toBeLessThan(20_000);

  // a broker that takes connections and says nothing
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const connected = new Promise<void>((resolve) => silent.once('connection', () => resolve()));
  const { child, code } = await ended('', '--brokers', `127.0.0.1:${(silent.address() as AddressInfo).port}`);
  await connected;
  const asked = performance.now();
  child.kill('SIGTERM');
  expect(await code).toBe(0);
  expect(performance.now() - asked).toBeLessThan(3_000);
  silent.close();
}, 60_000);

it('shows metrics in every form they may come in, and acts on its own wishes alone, and on none of a policy that is a dry run', async () => {
  mkdirSync(folder, { recursive: true });
  const config = path.join(folder, 'iguana.yaml');
  const sleep = '[-e, "setInterval(() => {}, 1000)"]';
  const policy = (name: string, rest: string): string =>
    `  - {name: ${name}, entity: e, metric: m, targetPerInstance: 1, initial: 1, process: {command: ${process.execPath}, args: ${sleep}}${rest}}\n`;
  writeFileSync(config, `policies:\n${policy('dry', '')}${policy('acting', ', dryRun: false')}`);
  const { started, child } = await start('--memory', '--broker-port', '0', '--config', config);
  const producer = kafkaClientFor(started.broker!).producer();
  await producer.connect();
  const instances = (): number => {
    const { stdout } = spawnSync('ps', ['-o', 'args=', '--ppid', String(child.pid)], { encoding: 'utf8' });
    // the program may be asking a tool of the system meanwhile
    return stdout.split('\n').filter((command) => command.includes('setInterval')).length;
  };
  // somebody else's decision is nothing to act on
  const forged = {
    ...{ id: 'd', policy: 'acting', entity: 'e', timestamp: Date.now(), current: 1, desired: 9, reactive: 9 },
    ...{ predicted: null, horizonMs: null, quantile: null, confidence: null, reason: 'r', dryRun: false },
  };
  await producer.send({ topic: 'decisions', messages: [{ value: JSON.stringify(forged) }] });
  const send = async (name: string, service: string, value: number): Promise<void> => {
    const sample = { name, labels: { service }, timestamp: Date.now(), value };
    await producer.send({ topic: 'metrics', messages: [{ key: service, value: encodeSamplesColumnar([sample]) }] });
    await new Promise((resolve) => setTimeout(resolve, 200));
  };
  await until('two instances', async () => {
    await send('m', 'e', 2);
    return instances() === 2;
  });
  await until('the series', async () => {
    await send('in_columns', 'till', 1);
    return (await (await fetch(new URL('/api/series', started.page))).text()).includes('in_columns');
  });
  await producer.disconnect();
  expect(instances()).toBe(2);
}, 60_000);
