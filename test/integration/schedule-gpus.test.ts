import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { type ScheduledGpus, type ScheduleGpusOptions, scheduleGpus } from '../../pipelines/schedule-gpus.js';
import { startBroker } from '../../src/broker/broker.js';
import { VirtualClock } from '../../src/clock.js';
import type { GpuInventory } from '../../src/gpu/inventory.js';
import type { Gpu } from '../../src/gpu/types.js';
import { known } from '../../src/gpu/types.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { readPartition } from '../../src/kafka/partition-reader.js';
import { gpuSchedulerLimits } from '../../src/limits.js';
import { encodeGpuInventory } from '../../src/operators/gpu-records.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';
import { uniform } from '../support/random.js';
import { gpuOf, healthOf } from '../unit/gpu/gpu-fixture.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const stopping: (() => unknown)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterEach(async () => {
  for (const stop of stopping.splice(0).reverse()) await stop();
});
afterAll(() => broker.stop());

function placeOf() {
  const name = uniqueName('gpus');
  const topics = { inventory: `${name}-inventory`, requests: `${name}-requests`, allocations: `${name}-allocations` };
  return {
    topics,
    group: name,
    metrics: `${name}-metrics`,
    forecasts: `${name}-forecasts`,
    deadLetters: `${name}-dead`,
    connection: { brokers: [broker.brokers] },
  };
}

async function start(place: ReturnType<typeof placeOf>, more: Partial<ScheduleGpusOptions> = {}) {
  const { metrics, forecasts, deadLetters } = place;
  await ensureTopics(
    place.connection,
    [metrics, forecasts, deadLetters].map((topic) => ({ topic, partitions: 1 })),
  );
  const errors: unknown[] = [];
  const gpus = await scheduleGpus({
    ...place,
    sessionTimeoutMs: 6_000,
    onError: (error) => errors.push(error),
    ...more,
  });
  stopping.push(() => gpus.stop());
  return { gpus, errors };
}

function agentOf(gpus: readonly Gpu[], node = 'n1') {
  let told = gpus;
  const inventory = (): GpuInventory => ({
    ...{ gpus: told, tools: [], takenAt: Date.now(), summary: '', problems: [] },
  });
  return {
    agent: { node, everyMs: 100, discovery: { look: async () => inventory(), inventory } },
    tell: (next: readonly Gpu[]) => {
      told = next;
    },
  };
}

const there = (gpus: ScheduledGpus, count: number) => until('GPUs', () => gpus.stats().gpus === count);

test('a GPU is told of, given, seen by all processes and given back', async () => {
  const place = placeOf();
  const { agent, tell } = agentOf([gpuOf('GPU-1', { utilization: known(3) }), gpuOf('GPU-2')]);
  const first = await start(place, { agent });
  const second = await start(place);
  await there(second.gpus, 2);
  const grant = await second.gpus.allocate('w1', {});
  expect(grant).toMatchObject({ granted: true, node: 'n1', environment: { CUDA_VISIBLE_DEVICES: expect.any(String) } });
  await until('the other one knows', () => first.gpus.find('w1'));
  expect(first.gpus.records()).toEqual(second.gpus.records());
  expect(first.gpus.canAllocate('w2', { gpuCount: 2 })).toMatchObject({ granted: false });
  expect(await first.gpus.allocate('w2', { gpuCount: 2 })).toMatchObject({ granted: false, reason: 'gpus' });
  expect([first.gpus.role, second.gpus.role].sort()).toEqual(['acting', 'standing-by']);

  const waiting = first.gpus.allocate('w2', { gpuCount: 2 }, { waitMs: 20_000 });
  await until('it waits', () => second.gpus.waiting().some(({ instance }) => instance === 'w2'));
  await second.gpus.release('w1');
  expect(await waiting).toMatchObject({ granted: true, gpuIds: expect.arrayContaining(['GPU-1', 'GPU-2']) });
  await expect(second.gpus.release('w1')).rejects.toMatchObject({ code: 'IGU_GPU_ALLOCATION' });
  expect((await second.gpus.renew('w2')).instance).toBe('w2');

  await first.gpus.release('w2');
  tell([gpuOf('GPU-1', { health: healthOf('lost') }), gpuOf('GPU-2')]);
  await until('its health is known', () => second.gpus.explain({}).gpus.some(({ code }) => code === 'health'));
  expect(await second.gpus.allocate('w3', {})).toMatchObject({ granted: true, gpuId: 'GPU-2' });
  expect([...first.errors, ...second.errors]).toEqual([]);
});

test('any Kafka client may ask and listen; what is no request goes to the dead letters', async () => {
  const place = placeOf();
  const { agent } = agentOf([gpuOf('GPU-1')]);
  const { gpus, errors } = await start(place, { agent });
  await there(gpus, 1);
  const kafka = kafkaClientFor(broker.brokers);
  const producer = kafka.producer();
  const consumer = kafka.consumer({ groupId: `${place.group}-listener` });
  await Promise.all([producer.connect(), consumer.connect()]);
  stopping.push(() => Promise.all([producer.disconnect(), consumer.disconnect()]));
  const events: { type: string; request: string; record: { environment: Record<string, string> } | null }[] = [];
  const letters: (string | undefined)[] = [];
  await consumer.subscribe({ topics: [place.topics.allocations, place.deadLetters], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ topic, message: { value, headers } }) => {
      if (topic === place.deadLetters) letters.push(headers?.['iguana-code']?.toString());
      else if (value) events.push(JSON.parse(value.toString()));
    },
  });
  const send = (value: string) => producer.send({ topic: place.topics.requests, messages: [{ key: 'w', value }] });
  await send('{"id":"r1","action":"allocate","instance":"train","request":{"memoryMb":1000,"leaseMs":null}}');
  await send('{"id":"r2","action":"allocate","instance":"other","request":{"gpus":1}}');
  await send('no JSON');
  await send('{"id":"r3","action":"release","allocation":"train"}');
  const answer = await until('the last answer', () => events.find(({ request }) => request === 'r3'));
  expect(answer.type).toBe('released');
  expect(events.find(({ request }) => request === 'r1')).toMatchObject({
    type: 'allocated',
    record: { instance: 'train', environment: { CUDA_VISIBLE_DEVICES: 'GPU-1' } },
  });
  await until('dead letters', () => letters.length === 2);
  expect(letters).toEqual(['IGU_RECORD_MALFORMED', 'IGU_RECORD_MALFORMED']);
  expect(errors).toHaveLength(2);
});

test('a node that is silent takes nothing new', async () => {
  const place = placeOf();
  const { gpus } = await start(place);
  const producer = kafkaClientFor(broker.brokers).producer();
  await producer.connect();
  stopping.push(() => producer.disconnect());
  const value = encodeGpuInventory({ node: 'old', timestamp: Date.now(), gpus: [gpuOf('GPU-1')] });
  await producer.send({ topic: place.topics.inventory, messages: [{ key: 'old', value }] });
  await there(gpus, 1);
  expect(gpus.nodes()).toMatchObject([{ node: 'old', silent: false }]);
  // another process, for which it is as if it had been told long ago
  const ago = encodeGpuInventory({ node: 'ago', timestamp: Date.now() - 3_600_000, gpus: [gpuOf('GPU-2')] });
  await producer.send({ topic: place.topics.inventory, messages: [{ key: 'ago', value: ago }] });
  // and one whose clock is ahead
  const ahead = encodeGpuInventory({ node: 'soon', timestamp: Date.now() + 3_600_000, gpus: [gpuOf('GPU-3')] });
  await producer.send({ topic: place.topics.inventory, messages: [{ key: 'soon', value: ahead }] });
  const late = await start(place);
  expect(late.gpus.nodes()).toMatchObject([
    { node: 'ago', silent: true },
    { node: 'old', silent: false },
    { node: 'soon', silent: false },
  ]);
  expect(late.gpus.nodes()[2]!.at).toBeLessThanOrEqual(Date.now());
  expect(late.gpus.stats()).toMatchObject({ gpus: 3, healthy: 2 });
  expect(late.gpus.canAllocate('w', { gpuCount: 1, node: 'ago' })).toMatchObject({ granted: false });
});

test('a node that is silent for a day is forgotten, by the topic too', async () => {
  const place = placeOf();
  const clock = new VirtualClock(Date.now());
  const { gpus } = await start(place, { clock });
  await until('it acts', () => gpus.role === 'acting');
  const producer = kafkaClientFor(broker.brokers).producer();
  await producer.connect();
  stopping.push(() => producer.disconnect());
  const value = encodeGpuInventory({ node: 'gone', timestamp: clock.now(), gpus: [gpuOf('GPU-1')] });
  await producer.send({ topic: place.topics.inventory, messages: [{ key: 'gone', value }] });
  await there(gpus, 1);
  clock.advance(gpuSchedulerLimits.nodeSilentMs + 2_000);
  expect(gpus.nodes()).toMatchObject([{ node: 'gone', silent: true }]);
  clock.advance(gpuSchedulerLimits.forgetNodeMs);
  expect(gpus.nodes()).toEqual([]);
  // nobody who begins at that time knows of it
  const records: (Buffer | null)[] = [];
  const reading = kafkaClientFor(broker.brokers);
  await until('it is deleted', async () => {
    records.length = 0;
    await readPartition(reading, place.topics.inventory, 0, (record) => records.push(record.value));
    return records.at(-1) === null;
  });
});

test('allocations that are deleted and made anew get all that stands once more', async () => {
  const place = placeOf();
  const { agent } = agentOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')]);
  const first = await start(place, { agent });
  const second = await start(place, { decide: false });
  await there(second.gpus, 3);
  for (const name of ['w1', 'w2']) await second.gpus.allocate(name, { leaseMs: null });
  const admin = kafkaClientFor(broker.brokers).admin();
  await admin.connect();
  stopping.push(() => admin.disconnect());
  await admin.deleteTopics({ topics: [place.topics.allocations] });
  await until('it is gone', async () => !(await admin.listTopics()).includes(place.topics.allocations));
  await ensureTopics(place.connection, [{ topic: place.topics.allocations, partitions: 1 }]);
  // an error of that time may be all that comes of the first request
  await until(
    'the next one is given',
    async () => (await second.gpus.allocate('w3', { leaseMs: null })).granted,
    40_000,
  );
  const late = await start(place, { decide: false });
  const names = ({ gpus }: typeof late) => gpus.records().map(({ owner }) => owner);
  await until('all that stood is there', () => names(late).length === 3);
  for (const one of [first, second, late]) expect(names(one).sort()).toEqual(['w1', 'w2', 'w3']);
}, 60_000);

test('while the broker is gone no lease ends, and then all goes on', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'iguana-gpus-'));
  stopping.push(() => rm(directory, { recursive: true, force: true }));
  let own = await startBroker({ port: 0, dataDir: directory });
  stopping.push(() => own.stop());
  const clock = new VirtualClock(Date.now());
  const place = { ...placeOf(), connection: { brokers: [`${own.host}:${own.port}`] } };
  const { agent } = agentOf([gpuOf('GPU-1')]);
  const { gpus } = await start(place, { agent, clock });
  const advance = async (ms: number): Promise<void> => {
    for (let left = ms; left > 0; left -= 1_000) {
      clock.advance(1_000);
      await new Promise((resolve) => setImmediate(resolve));
    }
  };
  await until('GPUs', async () => {
    await advance(1_000);
    return gpus.stats().gpus === 1;
  });
  await gpus.allocate('w1', { leaseMs: 60_000 });
  const { port } = own;
  await own.stop();
  await advance(90_000);
  own = await startBroker({ port, dataDir: directory });
  // the clock stands still until there is news: the lease is over, and its heartbeat comes
  await until('it is heard', () => gpus.renew('w1').catch(() => undefined), 40_000);
  await until('it tells again', async () => {
    await advance(1_000);
    return gpus.nodes()[0]?.silent === false;
  });
  await advance(30_000);
  expect(gpus.find('w1')).toBeDefined();
  expect(gpus.stats()).toMatchObject({ expired: 0 });
}, 90_000);

test('what is deleted in the topic is over, though the event that ended it was compacted away', async () => {
  const place = placeOf();
  const { agent } = agentOf([gpuOf('GPU-1')]);
  const first = await start(place, { agent });
  await there(first.gpus, 1);
  const grant = await first.gpus.allocate('w1', { leaseMs: null });
  if (!grant.granted) throw new Error(grant.what);
  await first.gpus.stop();
  const producer = kafkaClientFor(broker.brokers).producer();
  await producer.connect();
  stopping.push(() => producer.disconnect());
  await producer.send({
    topic: place.topics.allocations,
    messages: [{ key: grant.allocation.id, value: null, partition: 0 }],
  });
  const second = await start(place, { agent });
  expect(second.gpus.records()).toEqual([]);
  expect(await second.gpus.allocate('w2', {})).toMatchObject({ granted: true, gpuId: 'GPU-1' });
});

test('topics with more than one partition are refused, and costs that cannot be', async () => {
  const place = placeOf();
  await ensureTopics(place.connection, [{ topic: place.topics.requests, partitions: 2 }]);
  await expect(scheduleGpus(place)).rejects.toMatchObject({ code: 'IGU_GPU_TOPIC' });
  const preallocate = [{ owner: 'team', model: 'A100', waiting: 0 }];
  await expect(scheduleGpus({ ...placeOf(), preallocate })).rejects.toThrow(RangeError);
});

const program = path.join(import.meta.dirname, 'gpu-scheduler-killed.mjs');

/** Another process that may decide; resolves when it does, or, standing by, when it runs. */
async function another(place: ReturnType<typeof placeOf>, when: 'acting' | 'running'): Promise<ChildProcess> {
  const child = spawn(process.execPath, [program, JSON.stringify(place), when], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  stopping.push(() => child.kill('SIGKILL'));
  await once(child.stdout!, 'data');
  return child;
}

test('when the scheduler is killed another one goes on: nothing is lost and nothing is given twice', async () => {
  const place = placeOf();
  const { agent } = agentOf(Array.from({ length: 6 }, (_, i) => gpuOf(`GPU-${i}`)));
  const { gpus } = await start(place, { agent, decide: false });
  const first = await another(place, 'acting');
  await Promise.all([another(place, 'running'), there(gpus, 6)]);
  const random = uniform(7);
  const whole = (below: number) => Math.floor(random() * below);
  const held = new Map<string, readonly string[]>();
  let granted = 0;
  const ask = async (name: string): Promise<void> => {
    if (held.delete(name)) return gpus.release(name);
    const share = random() < 0.5;
    const request = share ? { computeShare: 0.5, leaseMs: null } : { gpuCount: 1 + whole(2), leaseMs: null };
    const answer = await gpus.allocate(name, request);
    if (!answer.granted) return;
    granted++;
    held.set(name, answer.gpuIds);
  };
  for (let round = 0; round < 30; round++) {
    const names = new Set(Array.from({ length: 4 }, () => `w${whole(12)}`));
    const asking = [...names].map(ask);
    // in the middle of its work
    if (round === 15) first.kill('SIGKILL');
    await Promise.all(asking);
  }
  expect(granted).toBeGreaterThan(10);
  expect(gpus.role).toBe('standing-by');
  const records = gpus.records();
  const inLedger = records.flatMap((record) =>
    record.kind === 'allocation' ? [[record.instance, record.holdings.map(({ gpuId }) => gpuId)]] : [],
  );
  expect(Object.fromEntries(inLedger)).toEqual(Object.fromEntries(held));
  const milli = new Map<string, number>();
  for (const { holdings } of records)
    for (const { gpuId, shareMilli } of holdings) milli.set(gpuId, (milli.get(gpuId) ?? 0) + shareMilli);
  for (const [gpu, sum] of milli) expect(sum, gpu).toBeLessThanOrEqual(1_000);
  // whoever reads the topic from its beginning sees the same
  const late = await start(place, { decide: false });
  expect(
    late.gpus
      .records()
      .map(({ id }) => id)
      .sort(),
  ).toEqual(records.map(({ id }) => id).sort());
}, 60_000);
