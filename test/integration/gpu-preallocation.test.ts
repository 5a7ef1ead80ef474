import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { forecast } from '../../pipelines/forecast.js';
import { scheduleGpus } from '../../pipelines/schedule-gpus.js';
import { VirtualClock } from '../../src/clock.js';
import { decodeForecast } from '../../src/codec/decode.js';
import type { Reservation } from '../../src/gpu/ledger.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { sink as openSink } from '../../src/kafka/sink.js';
import { stateTopic } from '../../src/kafka/state-store.js';
import { tail } from '../../src/kafka/tail.js';
import { encodeGpuInventory } from '../../src/operators/gpu-records.js';
import { kafkaUnderTest, uniqueName, until } from '../support/kafka.js';
import { gpuOf } from '../unit/gpu/gpu-fixture.js';

const MINUTE = 60_000;

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const stopping: (() => unknown)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterEach(async () => {
  for (const stop of stopping.splice(0).reverse()) await stop();
});
afterAll(() => broker.stop());

test('forecasts of demand reserve GPUs before they are asked for; their owner uses them, and what is not used is given back', async () => {
  const connection = { brokers: [broker.brokers] };
  const group = uniqueName('ahead');
  const topicOf = (what: string) => `${group}-${what}`;
  const [metrics, forecasts, deadLetters] = [topicOf('metrics'), topicOf('forecasts'), topicOf('dead')];
  const topics = {
    inventory: topicOf('inventory'),
    requests: topicOf('requests'),
    allocations: topicOf('allocations'),
  };
  const plain = [metrics, forecasts, deadLetters].map((topic) => ({ topic, partitions: 1 }));
  await ensureTopics(connection, [...plain, stateTopic('forecast', 2)]);
  const clock = new VirtualClock(Math.floor((Date.now() - 12 * 3_600_000) / MINUTE) * MINUTE);
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const pipeline = await forecast({
    ...{ connection, group, input: metrics, output: forecasts, deadLetters, onError },
    everySteps: 1,
  });
  stopping.push(() => pipeline.stop());
  const rule = { owner: 'team', model: 'A100', leadMs: MINUTE, reviewMs: MINUTE, idleBudget: 1 };
  const gpus = await scheduleGpus({
    ...{ connection, group, topics, metrics, forecasts, deadLetters, clock, onError },
    preallocate: [rule],
  });
  stopping.push(() => gpus.stop());
  await until('it acts', () => gpus.role === 'acting');
  let newest = 0;
  const following = tail(kafkaClient(connection), [forecasts], 'earliest');
  following.messages.subscribe(({ message }) => {
    if (message.value) newest = Math.max(newest, decodeForecast(message.value).madeAt);
  });
  stopping.push(() => following.closed());
  const sink = openSink(kafkaClient(connection));
  stopping.push(() => sink.close());
  const all = Array.from({ length: 16 }, (_, i) => gpuOf(`GPU-${i}`));

  const pass = async (ms: number): Promise<void> => {
    for (const end = clock.now() + ms; clock.now() < end; ) {
      clock.advance(15_000);
      const value = encodeGpuInventory({ node: 'n1', timestamp: clock.now(), gpus: all });
      await sink.write(topics.inventory, [{ key: 'n1', value, partition: 0 }]);
      await until('GPUs are heard of', () => gpus.nodes()[0]?.at === clock.now());
    }
  };
  let minutes = 0;
  let jobs = 0;
  /** So many jobs of a minute each begin; what comes of that is known. */
  const minute = async (count: number): Promise<void> => {
    const asked = { owner: 'team', model: 'A100', leaseMs: null };
    const names = Array.from({ length: count }, () => `job-${++jobs}`);
    const answers = await Promise.all(names.map((name) => gpus.allocate(name, asked)));
    expect(answers.map(({ granted }) => granted)).toEqual(names.map(() => true));
    await pass(MINUTE);
    minutes++;
    await until('the demand is learnt', () => pipeline.status().samples >= minutes);
    // a step is over when the next one begins
    if (newest > 0) await until('the forecast', () => newest >= clock.now() - 2 * MINUTE);
    await Promise.all(names.map((name) => gpus.release(name)));
  };
  const reservations = () => gpus.records().filter((record): record is Reservation => record.kind === 'reservation');
  const report = () => gpus.preallocation()[0];

  await pass(15_000);
  // long ones, by whose use idle time is measured
  for (const name of ['long-1', 'long-2', 'long-3'])
    await gpus.allocate(name, { owner: 'team', model: 'A100', leaseMs: null });
  for (let i = 0; i < 60 && reservations().length < 2; i++) await minute(3);
  expect(report()).toMatchObject({ owner: 'team', model: 'A100', missing: 0 });
  const kept = reservations();
  expect(kept.length).toBeGreaterThanOrEqual(2);
  expect(kept.length).toBeLessThanOrEqual(8);
  expect(kept.every(({ owner }) => owner === 'team')).toBe(true);

  // all others are taken, and there is none for anybody but the owner
  const free = all.length - 3 - kept.length;
  expect(await gpus.allocate('others', { gpuCount: free, leaseMs: null })).toMatchObject({ granted: true });
  expect(await gpus.allocate('stranger', {})).toMatchObject({ granted: false, reason: 'gpus' });
  const mine = await gpus.allocate('mine', { owner: 'team', model: 'A100', leaseMs: null });
  expect(mine).toMatchObject({ granted: true });
  if (mine.granted) expect(kept.flatMap(({ holdings }) => holdings.map(({ gpuId }) => gpuId))).toContain(mine.gpuId);
  expect(reservations()).toHaveLength(kept.length - 1);
  // no room for what would replace it
  await pass(MINUTE);
  expect(reservations().length).toBeGreaterThanOrEqual(kept.length - 1);
  expect(gpus.stats().idleReservedHours).toBeGreaterThan(0);

  // nobody asks any more
  minutes++;
  for (let i = 0; i < 40 && reservations().length > 0; i++) await minute(0);
  expect(reservations()).toEqual([]);
  expect(report()).toMatchObject({ reserved: 0 });
  expect(await gpus.allocate('stranger', {})).toMatchObject({ granted: true });
  expect(errors).toEqual([]);
}, 60_000);
