import { CompressionTypes, type Kafka } from 'kafkajs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { detect } from '../../pipelines/detect.js';
import { forecast } from '../../pipelines/forecast.js';
import { scale } from '../../pipelines/scale.js';
import { readableValue } from '../../src/codec/readable.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { stateTopic } from '../../src/kafka/state-store.js';
import { tail } from '../../src/kafka/tail.js';
import type { RunningPipeline } from '../../src/operators/series-pipeline.js';
import type { AnomalyRecord, ForecastRecord } from '../../src/records.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';
import { normals } from '../support/random.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
let kafka: Kafka;
const running: RunningPipeline[] = [];

beforeAll(async () => {
  broker = await kafkaUnderTest();
  kafka = kafkaClientFor(broker.brokers);
});
afterAll(async () => {
  await Promise.all(running.map((one) => one.stop()));
  await broker.stop();
});

interface Names {
  input: string;
  forecasts: string;
  anomalies: string;
  deadLetters: string;
  group: string;
}

async function topicsFor(): Promise<Names> {
  const names = {
    input: uniqueName('metrics'),
    forecasts: uniqueName('forecasts'),
    anomalies: uniqueName('anomalies'),
    deadLetters: uniqueName('dead-letters'),
    group: uniqueName('g'),
  };
  const { group: _, ...topics } = names;
  await ensureTopics({ brokers: [broker.brokers] }, [
    ...Object.values(topics).map((topic) => ({ topic, partitions: 2 })),
    ...['forecast', 'detect', 'scale'].map((one) => stateTopic(one, 2)),
  ]);
  return names;
}

function optionsFor(names: Names, output: string) {
  return {
    connection: { brokers: [broker.brokers] },
    group: names.group,
    input: names.input,
    output,
    deadLetters: names.deadLetters,
    checkpointEveryMs: 100,
    onError: (error: unknown) => expect.fail(String(error)),
  };
}

async function collect<T>(
  topic: string,
): Promise<{ seen: { key: string; value: T; headers: Record<string, string> }[]; closed(): Promise<void> }> {
  const seen: { key: string; value: T; headers: Record<string, string> }[] = [];
  const following = tail(kafka, [topic], 'earliest');
  const subscription = following.messages.subscribe(({ message }) => {
    const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([k, v]) => [k, String(v)]));
    seen.push({ key: String(message.key), value: readableValue(message.value ?? Buffer.alloc(0)) as T, headers });
  });
  return {
    seen,
    async closed() {
      subscription.unsubscribe();
      await following.closed();
    },
  };
}

const START = Date.now() - 3_600_000;

async function produce(topic: string, values: readonly number[], from = 0): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  const messages = values.map((value, i) => ({
    key: 'shop',
    value: JSON.stringify({
      name: 'requests',
      labels: { service: 'shop' },
      timestamp: START + (from + i) * 1000,
      value,
    }),
  }));
  await producer.send({ topic, messages });
  await producer.disconnect();
}

const quiet = (count: number, seed: number): number[] => normals(count, seed).map((v) => 100 + v);

it('turns metrics into forecasts, and sends what cannot be read to dead letters with the reason', async () => {
  const names = await topicsFor();
  running.push(await forecast(optionsFor(names, names.forecasts)));
  const forecasts = await collect<ForecastRecord>(names.forecasts);
  const letters = await collect<unknown>(names.deadLetters);
  await produce(names.input, quiet(100, 1));
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic: names.input, messages: [{ key: 'shop', value: '{"name":' }] });
  await producer.disconnect();
  await until('forecasts', () => forecasts.seen.length >= 16);
  await until('a dead letter', () => letters.seen.length >= 1);
  const last = forecasts.seen.at(-1)!;
  expect(last.key).toBe('shop');
  expect(last.value).toMatchObject({ name: 'requests', entity: 'shop', model: 'ensemble', stepMs: 1000 });
  expect(last.value.points.map((p) => p.horizonMs)).toEqual([1000, 5000, 15_000, 60_000]);
  const [point] = last.value.points;
  expect(point!.value).toBeGreaterThan(95);
  expect(point!.value).toBeLessThan(105);
  expect(point!.intervals[1]!.lower).toBeLessThan(point!.value);
  expect(letters.seen[0]!.headers).toMatchObject({
    'iguana-code': 'IGU_RECORD_MALFORMED',
    'iguana-topic': names.input,
    'iguana-offset': expect.stringMatching(/^\d+$/),
  });
  await Promise.all([forecasts.closed(), letters.closed()]);
});

it('goes on when what cannot be read is larger than a dead letter may be', async () => {
  const names = await topicsFor();
  const pipeline = await detect(optionsFor(names, names.anomalies));
  running.push(pipeline);
  const letters = await collect<unknown>(names.deadLetters);
  const producer = kafka.producer();
  await producer.connect();
  // packed it is small
  const value = `{${'x'.repeat(3_000_000)}`;
  await producer.send({ topic: names.input, compression: CompressionTypes.GZIP, messages: [{ key: 'shop', value }] });
  await producer.disconnect();
  await produce(names.input, quiet(5, 1));
  await until('all is read', () => pipeline.status().samples >= 5);
  await until('the dead letter', () => letters.seen.length >= 1);
  expect(letters.seen[0]!.headers).toMatchObject({ 'iguana-cut': String(value.length) });
  await letters.closed();
});

it('scales on when something else than forecasts is written to their topic', async () => {
  const names = await topicsFor();
  const errors: string[] = [];
  const pipeline = await scale({
    ...optionsFor(names, uniqueName('decisions')),
    forecasts: names.forecasts,
    policies: [],
    onError: (error) => errors.push(String(error)),
  });
  running.push(pipeline);
  const producer = kafka.producer();
  await producer.connect();
  const strange = [Buffer.from([0xc3, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 'null', '{"points":1}'];
  await until('the errors', async () => {
    await producer.send({ topic: names.forecasts, messages: strange.map((value) => ({ value })) });
    return ['IGU_SCHEMA_UNKNOWN', 'IGU_RECORD_MALFORMED'].every((code) => errors.some((e) => e.includes(code)));
  });
  await producer.disconnect();
  await produce(names.input, quiet(5, 1));
  await until('all is read', () => pipeline.status().samples >= 5);
});

it('opens an anomaly once, goes on after a restart with what it had learnt, and writes nothing twice', async () => {
  const names = await topicsFor();
  const anomalies = await collect<AnomalyRecord>(names.anomalies);
  const first = await detect(optionsFor(names, names.anomalies));
  await produce(names.input, [...quiet(200, 2), 160]);
  await until('the anomaly', () => anomalies.seen.length >= 1);
  expect(anomalies.seen[0]!.value).toMatchObject({ state: 'open', entity: 'shop', value: 160 });
  await until('all is read', () => first.status().samples >= 201);
  await first.stop();
  expect(first.status()).toMatchObject({ lag: 0, verdict: 'keeping up', samples: 201, series: 1 });
  const second = await detect(optionsFor(names, names.anomalies));
  running.push(second);
  await produce(names.input, quiet(20, 3), 201);
  await until('the end of the episode', () => anomalies.seen.some((a) => a.value.state === 'resolved'));
  // the episode that ends is the one that was opened before the restart: its state came back
  expect(anomalies.seen.map((a) => a.value.state)).toEqual(['open', 'resolved']);
  expect(anomalies.seen[1]!.value.id).toBe(anomalies.seen[0]!.value.id);
  expect(second.status().samples).toBe(20);
  await anomalies.closed();
});

it('state has as many partitions as its input, also when that got more of them', async () => {
  const connection = { brokers: [broker.brokers] };
  const name = uniqueName('grown');
  const { topic } = stateTopic(name, 1);
  expect((await ensureTopics(connection, [stateTopic(name, 1)])).get(topic)).toBe(1);
  expect((await ensureTopics(connection, [stateTopic(name, 3)])).get(topic)).toBe(3);
  expect((await ensureTopics(connection, [stateTopic(name, 2)])).get(topic)).toBe(3);
});
