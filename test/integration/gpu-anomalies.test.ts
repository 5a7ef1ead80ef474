import { afterAll, beforeAll, expect, test } from 'vitest';
import { detect } from '../../pipelines/detect.js';
import { configSchema } from '../../src/cli/config.js';
import { withGpuRules } from '../../src/cli/gpu-part.js';
import { VirtualClock } from '../../src/clock.js';
import { decodeAnomaly } from '../../src/codec/decode.js';
import type { GpuInventory } from '../../src/gpu/inventory.js';
import { type Gpu, known } from '../../src/gpu/types.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { sink as openSink } from '../../src/kafka/sink.js';
import { stateTopic } from '../../src/kafka/state-store.js';
import { tail } from '../../src/kafka/tail.js';
import { gpuSchedulerLimits } from '../../src/limits.js';
import { gpuAgent } from '../../src/operators/gpu-agent.js';
import type { AnomalyRecord } from '../../src/records.js';
import { kafkaUnderTest, uniqueName, until } from '../support/kafka.js';
import { gpuOf, healthOf } from '../unit/gpu/gpu-fixture.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const stopping: (() => unknown)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterAll(async () => {
  for (const stop of stopping.reverse()) await stop();
  await broker.stop();
});

const none = gpuOf('none').signals;
/** Busy, cool and well. */
const well = (id: string, parts: Partial<Gpu> = {}): Gpu =>
  gpuOf(id, {
    ...{ utilization: known(97), memoryTotalMb: known(40_000), memoryUsedMb: known(38_000) },
    signals: { ...none, throttleReasons: known([]) },
    ...parts,
  });

test('a job that hangs, a GPU that throttles and one that is lost are episodes of that GPU, with what to do, until they are over', async () => {
  const connection = { brokers: [broker.brokers] };
  const group = uniqueName('gpu-rules');
  const [metrics, anomalies, deadLetters] = ['metrics', 'anomalies', 'dead'].map((what) => `${group}-${what}`) as [
    string,
    string,
    string,
  ];
  const plain = [metrics, anomalies, deadLetters].map((topic) => ({ topic, partitions: 1 }));
  await ensureTopics(connection, [...plain, stateTopic('detect', 1)]);
  const clock = new VirtualClock(Math.floor(Date.now() / 60_000) * 60_000 - 3_600_000);
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const rules = withGpuRules(configSchema.parse({ rules: [] }));
  const pipeline = await detect({
    ...{ connection, group, input: metrics, output: anomalies, deadLetters, rules, clock, onError },
  });
  stopping.push(() => pipeline.stop());
  const told: AnomalyRecord[] = [];
  const following = tail(kafkaClient(connection), [anomalies], 'earliest');
  following.messages.subscribe(({ message }) => {
    if (message.value) told.push(decodeAnomaly(message.value));
  });
  stopping.push(() => following.closed());
  const sink = openSink(kafkaClient(connection));
  stopping.push(() => sink.close());

  let gpus: readonly Gpu[] = [];
  let samples = 0;
  const inventory = (): GpuInventory => ({
    gpus: gpus.map((gpu) => ({ ...gpu, seenAt: clock.now() })),
    ...{ tools: [], takenAt: clock.now(), summary: '', problems: [] },
  });
  const every = gpuSchedulerLimits.metricsEveryMs;
  let written = 0;
  const agent = gpuAgent({
    ...{ node: 'n1', inventory: deadLetters, metrics, everyMs: every, clock, onError },
    discovery: { look: async () => inventory(), inventory },
    sink: {
      async write(topic, records) {
        if (topic !== metrics) return;
        await sink.write(topic, records);
        samples += records.length;
        written = clock.now();
      },
    },
  });
  stopping.push(() => agent.stop());
  await agent.looked;
  const pass = async (ms: number, next: readonly Gpu[]): Promise<void> => {
    gpus = next;
    for (const end = clock.now() + ms; clock.now() < end; ) {
      clock.advance(every);
      await until('the values are written', () => written === clock.now());
    }
    await until('the values are judged', () => pipeline.status().samples >= samples);
  };
  const episodesOf = (rule: string) => told.filter(({ detectors }) => detectors.includes(`rule:${rule}`));
  const minute = 60_000;
  const bad = [
    well('GPU-hung', { utilization: known(0) }),
    well('GPU-hot', { signals: { ...none, throttleReasons: known(['hw-thermal']) } }),
    well('GPU-lost', { health: healthOf('lost') }),
    well('GPU-idle', { utilization: known(0), memoryUsedMb: known(400) }),
    well('GPU-capped', { signals: { ...none, throttleReasons: known(['sw-power-cap']) } }),
  ];
  const good = bad.map(({ id }) => well(id));

  await pass(minute, good);
  const since = clock.now();
  // nine minutes and a half: too short for a job that hangs
  await pass(9.5 * minute, bad);
  await until('the throttled one', () => episodesOf('gpu-throttled').length > 0);
  expect(episodesOf('gpu-hung-job')).toEqual([]);
  await pass(minute, bad);
  const open = await until('the hung one', () => episodesOf('gpu-hung-job')[0]);
  expect(open).toMatchObject({ state: 'open', entity: 'GPU-hung', name: 'gpu_idle_memory_usage', value: 95 });
  expect(open.openedAt - since).toBeGreaterThanOrEqual(10 * minute);
  expect(open.recommendation).toMatch(/restart it when it hangs/);
  const [throttled] = episodesOf('gpu-throttled');
  expect(throttled).toMatchObject({ state: 'open', entity: 'GPU-hot', labels: { node: 'n1', gpu: 'GPU-hot' } });
  expect(throttled!.openedAt - since).toBeLessThanOrEqual(minute + 2 * every);
  expect(throttled!.recommendation).toMatch(/cooling/);
  const [lost] = episodesOf('gpu-unusable');
  expect(lost).toMatchObject({ state: 'open', entity: 'GPU-lost', severity: 'critical' });
  expect(lost!.openedAt - since).toBeLessThanOrEqual(10_000 + 2 * every);
  expect(lost!.recommendation).toMatch(/iguana gpu list/);

  await pass(minute, good);
  for (const [rule, gpu] of [
    ['gpu-hung-job', 'GPU-hung'],
    ['gpu-throttled', 'GPU-hot'],
    ['gpu-unusable', 'GPU-lost'],
  ] as const) {
    await until(`${rule} is over`, () => episodesOf(rule).length === 2);
    const [first, last] = episodesOf(rule);
    expect(last).toMatchObject({ id: first!.id, state: 'resolved', entity: gpu });
    expect(last!.resolvedAt).toBeGreaterThan(first!.openedAt);
  }
  expect(errors).toEqual([]);
}, 60_000);

test('a rule of the same name in the configuration takes the place of the one that is built in', () => {
  const own = { name: 'gpu-hung-job', pattern: 'gpu_idle_memory_usage', above: 50, forSeconds: 60 };
  const rules = withGpuRules(configSchema.parse({ rules: [own] }));
  expect(rules.filter(({ name }) => name === own.name)).toMatchObject([{ above: 50, forSeconds: 60 }]);
  expect(rules.length).toBeGreaterThan(1);
  expect(withGpuRules(configSchema.parse({ gpu: { enabled: false } }))).toEqual([]);
});
