import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startBroker } from '../../src/broker/broker.js';
import { type UsageRecord, usageRecord } from '../../src/functions/billing.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { readPartition } from '../../src/kafka/partition-reader.js';
import { usageLimits } from '../../src/limits.js';
import { type UsageTopic, type UsageTopicOptions, usageTopic } from '../../src/operators/usage-topic.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const scratch = mkdtempSync(join(tmpdir(), 'iguana-usage-'));
const stopping: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterAll(async () => {
  for (const stop of stopping.reverse()) await stop();
  await broker.stop();
  rmSync(scratch, { recursive: true });
});

async function open(topic: string, more: Partial<UsageTopicOptions> = {}): Promise<UsageTopic> {
  const usage = await usageTopic({ connection: { brokers: [broker.brokers] }, topic, keys: ['key'], ...more });
  let stopped: Promise<void> | undefined;
  const stop = () => {
    stopped ??= usage.stop();
    return stopped;
  };
  stopping.push(stop);
  return Object.defineProperties({ ...usage, stop }, { counts: { get: () => usage.counts } }) as UsageTopic;
}

function call(id: string, more: Partial<UsageRecord> & { durationMs?: number } = {}, key = 'key'): UsageRecord {
  const fields = { function: 'f', version: 1, startedAt: 1_000, initMs: 0, memoryMb: 512, gasUsed: 0, success: true };
  return usageRecord({ invocationId: id, durationMs: 200, ...fields, ...more }, key);
}

describe('usage', () => {
  it.each(['json', 'avro'] as const)('is billed alike in every process, each try once (%s)', async (format) => {
    const topic = uniqueName('usage');
    const [a, b] = await Promise.all([open(topic, { format }), open(topic, { format })]);
    a.record(call('one'));
    a.record(call('one'));
    b.record(call('one'));
    b.record(call('one', { attempt: 2 }));
    b.record(call('two', { function: 'g', gasUsed: 12 }));
    await Promise.all([a.flush(), b.flush()]);
    for (const process of [a, b, await open(topic)]) {
      expect(await process.getBilling('f')).toMatchObject({ invocationCount: 2, computeTimeMs: 400, gbSeconds: 0.2 });
      expect(await process.getBilling('g')).toMatchObject({ invocationCount: 1, gasUsed: 12 });
      expect((await process.getBilling('g', { start: 60_000, end: 90_000 })).invocationCount).toBe(0);
    }
    expect((await a.getBilling('g')).estimatedCostUsd).toBeCloseTo(0.00000186667, 16);
  });

  it('leaves out what has no right signature, and what is no usage', async () => {
    const topic = uniqueName('usage');
    const errors: unknown[] = [];
    const usage = await open(topic, { onError: (error) => errors.push(error) });
    usage.record(call('right'));
    await usage.flush();
    const producer = kafkaClientFor(broker.brokers).producer();
    await producer.connect();
    const values = [
      JSON.stringify(call('forged', {}, 'other')),
      JSON.stringify({ ...call('more'), billedMs: 1 }),
      'no',
    ];
    await producer.send({ topic, messages: values.map((value) => ({ value })) });
    await producer.disconnect();
    expect(await usage.getBilling('f')).toMatchObject({ invocationCount: 1 });
    expect(usage.counts.refused).toBe(3);
    expect(errors.every((error) => String(error).includes('IGU_RECORD_MALFORMED'))).toBe(true);
    const turned = await open(topic, { keys: ['newer', 'other', 'key'] });
    expect(await turned.getBilling('f')).toMatchObject({ invocationCount: 2 });
  });

  it('of a killed process is in the journal, to the last record', async () => {
    const topic = uniqueName('usage');
    const journal = join(scratch, 'killed');
    const { recorded } = await killedWhileRecording(topic, journal, 500);
    expect(readdirSync(journal).length).toBeGreaterThan(0);
    const next = await open(topic, { journal });
    await next.flush();
    const bill = await next.getBilling('f');
    // it may have been killed between a record and saying so
    expect(bill.invocationCount - recorded).toBeGreaterThanOrEqual(0);
    expect(bill.invocationCount - recorded).toBeLessThanOrEqual(1);
    const ms = Array.from({ length: bill.invocationCount }, (_, i) => 1 + (i % 50)).reduce((a, b) => a + b, 0);
    expect(bill.computeTimeMs).toBe(ms);
    await until('the journal is empty', () => readdirSync(journal).length === 0);
    // and by a process that never saw the journal
    expect(await (await open(topic)).getBilling('f')).toMatchObject({ computeTimeMs: ms });
  }, 60_000);

  it('of a killed process without a journal lacks the newest records only', async () => {
    const topic = uniqueName('usage');
    const { recorded, at, killedAt } = await killedWhileRecording(topic, '-', 2_500);
    const bill = await (await open(topic)).getBilling('f');
    expect(bill.invocationCount).toBeGreaterThan(0);
    expect(bill.invocationCount).toBeLessThanOrEqual(recorded + 1);
    // what was recorded a second before the end (five times the interval of writing) is there
    const sure = at.filter((time) => time < killedAt - 1_000).length;
    expect(sure).toBeGreaterThan(0);
    expect(bill.invocationCount).toBeGreaterThanOrEqual(sure);
    const ms = Array.from({ length: bill.invocationCount }, (_, i) => 1 + (i % 50)).reduce((a, b) => a + b, 0);
    expect(bill.computeTimeMs).toBe(ms);
  }, 60_000);

  it.each([
    ['a journal', 0],
    ['no journal', 20_000],
  ])(
    'waits in bounded memory while the topic cannot be reached: with %s',
    async (how, lost) => {
      // a broker of its own, which goes away and comes back
      const data = mkdtempSync(join(scratch, 'broker-'));
      const first = await startBroker({ port: 0, dataDir: data });
      const topic = uniqueName('usage');
      const errors: unknown[] = [];
      const usage = await usageTopic({
        connection: { brokers: [`127.0.0.1:${first.port}`] },
        topic,
        keys: ['key'],
        onError: (error) => errors.push(error),
        ...(lost === 0 ? { journal: mkdtempSync(join(scratch, 'away-')) } : {}),
      });
      usage.record(call('before'));
      await usage.flush();
      await first.stop();
      const away = usageLimits.maxWaiting + 20_000;
      for (let i = 0; i < away; i++) usage.record(call(`away-${i}`));
      expect(usage.counts).toMatchObject({ lost, waiting: lost === 0 ? 20_000 : usageLimits.maxWaiting });
      expect(errors.length).toBeGreaterThan(lost === 0 ? -1 : 0);
      const second = await startBroker({ port: first.port, dataDir: data });
      await until('all is written', () => usage.counts.waiting === 0 && usage.counts.written > 1, 60_000);
      const seen = await readAll(`127.0.0.1:${first.port}`, topic);
      expect([how, new Set(seen).size]).toEqual([how, away - lost + 1]);
      await usage.stop();
      await second.stop();
    },
    90_000,
  );

  it('a torn line of the journal is left out, the rest is counted', async () => {
    const journal = mkdtempSync(join(scratch, 'torn-'));
    const line = JSON.stringify(call('whole'));
    writeFileSync(
      join(journal, 'usage-3.jsonl'),
      `${line}\n{"broken\n${JSON.stringify(call('second'))}\n${line.slice(0, 40)}`,
    );
    const usage = await open(uniqueName('usage'), { journal });
    await usage.flush();
    expect(await usage.getBilling('f')).toMatchObject({ invocationCount: 2 });
    expect(usage.counts.refused).toBe(1);
  });
});

/** Runs a process that records usage, kills it in the middle with SIGKILL; says how many it had recorded, and when each. */
async function killedWhileRecording(topic: string, journal: string, afterMs: number) {
  const dist = new URL('../../dist/', import.meta.url).href;
  const script = new URL('./usage-killed.mjs', import.meta.url).pathname;
  const child = spawn(process.execPath, [script, dist, broker.brokers, topic, journal], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk) => {
    output += String(chunk);
  });
  const exited = once(child, 'close');
  const lines = () => output.split('\n').slice(0, -1);
  await until('some records', () => {
    const all = lines();
    const time = (line: string | undefined) => Number(line?.split(' ')[1]);
    return all.length > 500 && time(all.at(-1)) - time(all[0]) > afterMs;
  });
  const killedAt = Date.now();
  child.kill('SIGKILL');
  await exited;
  const all = lines();
  return { recorded: all.length, at: all.map((line) => Number(line.split(' ')[1])), killedAt };
}

/** Ids of all records of a topic. */
async function readAll(brokers: string, topic: string): Promise<string[]> {
  const ids: string[] = [];
  await readPartition(kafkaClient({ brokers: [brokers] }), topic, 0, ({ value }) => {
    ids.push(JSON.parse(String(value)).invocationId);
  });
  return ids;
}
