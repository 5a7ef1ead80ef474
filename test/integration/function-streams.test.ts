import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Kafka } from 'kafkajs';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { encodeForecast } from '../../src/codec/encode.js';
import { type FunctionDefinition, functionSchema } from '../../src/functions/definition.js';
import type { DeployedFunction } from '../../src/functions/function-service.js';
import type { EventRecord, FunctionEvent, InvocationResult } from '../../src/functions/invocation.js';
import { queueTriggers } from '../../src/operators/queue-triggers.js';
import { streamTriggers } from '../../src/operators/stream-triggers.js';
import type { TopicTriggers } from '../../src/operators/topic-triggers.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
let kafka: Kafka;
const stops: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
  kafka = kafkaClientFor(broker.brokers);
});
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});
afterAll(() => broker.stop());

type StreamEvent = Extract<FunctionEvent, { trigger: 'stream' | 'queue' }>;
type Handler = (event: StreamEvent, options: { attempt?: number; timeoutMs?: number }) => unknown;

/** A service whose functions run here: what calls are made of is tested elsewhere. */
function serviceOf(handlers: Record<string, Handler>) {
  let n = 0;
  return {
    async invoke(name: string, event: FunctionEvent, options: object = {}): Promise<InvocationResult> {
      const output = await handlers[name]!(event as StreamEvent, options);
      const rest = { durationMs: 1, initMs: 0, cold: false, memoryUsedMb: 1, logs: [], logsTruncated: false } as const;
      return { invocationId: String(n++), output, ...rest };
    },
  };
}

function deployed(definition: object): DeployedFunction {
  const whole: FunctionDefinition = functionSchema.parse({
    runtime: 'javascript',
    code: { inline: 'x' },
    ...definition,
  });
  return { name: whole.name, version: 1, definition: whole, aliases: {} };
}

const errors: unknown[] = [];

function host(group: string, handlers: Record<string, Handler>, kind = streamTriggers): TopicTriggers {
  const triggers = kind({
    connection: { brokers: broker.brokers.split(',') },
    group,
    service: serviceOf(handlers),
    deadLetters: `${group}-dead`,
    onError: (error) => errors.push(error),
  });
  stops.push(() => triggers.stop());
  return triggers;
}

const topicOf = (what: string, partitions = 1): Promise<string> => topicNamed(uniqueName(what), partitions);

async function topicNamed(topic: string, partitions = 1): Promise<string> {
  const admin = kafka.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic, numPartitions: partitions }], waitForLeaders: true });
  await admin.disconnect();
  return topic;
}

interface Sent {
  readonly key?: string | null;
  readonly value: string | Buffer | null;
  readonly partition?: number;
  readonly timestamp?: string;
  readonly headers?: Record<string, string>;
}

async function send(topic: string, messages: readonly Sent[]): Promise<void> {
  const producer = kafka.producer();
  await producer.connect();
  for (let i = 0; i < messages.length; i += 5_000) {
    await producer.send({ topic, messages: messages.slice(i, i + 5_000).map((one) => ({ key: null, ...one })) });
  }
  await producer.disconnect();
}

interface Read {
  readonly key: string | null;
  readonly value: string;
  readonly headers: Record<string, string>;
}

/** What is committed of a topic, as it comes. */
async function follow(topic: string): Promise<Read[]> {
  const consumer = kafka.consumer({ groupId: uniqueName('look'), maxWaitTimeInMs: 50 });
  const seen: Read[] = [];
  await topicNamed(topic);
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ message: { key, value, headers = {} } }) => {
      const texts = Object.fromEntries(Object.entries(headers).map(([name, text]) => [name, String(text)]));
      seen.push({ key: key ? String(key) : null, value: String(value), headers: texts });
    },
  });
  stops.push(() => consumer.disconnect());
  return seen;
}

const numbers = (count: number, partitions = 1): Sent[] =>
  Array.from({ length: count }, (_, i) => ({ key: `k${i % 7}`, value: String(i), partition: i % partitions }));

it('a poisoned record ends in dead letters alone, with the reason; the others are answered in order, keyed like their inputs', async () => {
  const [topic, output, success, failure] = [
    await topicOf('in'),
    await topicOf('out'),
    await topicOf('ok'),
    await topicOf('bad'),
  ];
  const group = uniqueName('poison');
  const calls = new Map<number, number>();
  const triggers = host(group, {
    f: ({ records }) => {
      for (const { offset } of records) calls.set(offset, (calls.get(offset) ?? 0) + 1);
      if (records.some(({ value }) => value === 37)) throw new Error('it hurts');
      return records.map(({ value }) => ({ twice: 2 * (value as number) }));
    },
  });
  const messages = numbers(100).map((one, i) => (i === 37 ? { ...one, headers: { trace: 'abc' } } : one));
  await send(topic, messages);
  const trigger = { type: 'stream', topic, from: 'earliest', attempts: 2, backoffMs: 1, maxBackoffMs: 2 };
  await triggers.apply([deployed({ name: 'f', output, onSuccess: success, onFailure: failure, triggers: [trigger] })]);
  const [out, dead, ok, bad] = [
    await follow(output),
    await follow(`${group}-dead`),
    await follow(success),
    await follow(failure),
  ];
  await until('the outputs', () => out.length >= 99 && dead.length >= 1 && bad.length >= 1);
  expect(out.map(({ key, value, headers }) => [key, value, headers['iguana-id']])).toEqual(
    messages.flatMap(({ key }, i) => (i === 37 ? [] : [[key, JSON.stringify({ twice: 2 * i }), `${topic}/0/${i}`]])),
  );
  expect(dead).toHaveLength(1);
  expect(dead[0]).toMatchObject({ key: 'k2', value: '37' });
  expect(dead[0]!.headers).toMatchObject({
    trace: 'abc',
    'iguana-code': 'IGU_FUNCTION_FAILED',
    'iguana-reason': 'it hurts',
    'iguana-topic': topic,
    'iguana-partition': '0',
    'iguana-offset': '37',
    'iguana-attempts': '2',
    'iguana-function': 'f',
  });
  expect(JSON.parse(bad[0]!.value)).toMatchObject({
    id: `${topic}/0/37`,
    function: 'f',
    outcome: 'failed',
    error: 'it hurts',
  });
  await until('successes', () => ok.length > 0);
  expect(JSON.parse(ok[0]!.value)).toMatchObject({ function: 'f', outcome: 'done' });
  await until('no lag', () => triggers.status()[0]!.lag === 0);
  expect(triggers.status()[0]).toMatchObject({ function: 'f', verdict: 'keeping up', counts: { done: 99, dead: 1 } });
});

it('values are decoded; what the filter leaves out starts nothing; a torn one is a dead letter', async () => {
  const topic = await topicOf('values');
  const group = uniqueName('values');
  const seen: EventRecord[] = [];
  const triggers = host(group, { f: ({ records }) => void seen.push(...records) });
  const forecast = encodeForecast(
    { id: 'i', series: 's', name: 'n', labels: {}, entity: 'e', model: 'm', madeAt: 1, stepMs: 1, points: [] },
    'avro',
  );
  const values = [Buffer.from('{"a":1}'), Buffer.from('plain'), Buffer.from([0xff, 0xfe, 0]), forecast, null];
  const all = [
    ...values.map((value) => ({ key: 'k', value })),
    { key: 'skip', value: '{}' },
    { key: 'k', value: forecast.subarray(0, 14) },
  ];
  await send(topic, all);
  await triggers.apply([
    deployed({ name: 'f', triggers: [{ type: 'stream', topic, from: 'earliest', filter: { key: 'k' } }] }),
  ]);
  const dead = await follow(`${group}-dead`);
  await until('all', () => seen.length >= 5 && dead.length >= 1);
  expect(seen.map(({ value }) => value)).toEqual([
    { a: 1 },
    'plain',
    Uint8Array.from([0xff, 0xfe, 0]),
    expect.objectContaining({ entity: 'e', model: 'm' }),
    null,
  ]);
  expect(dead[0]!.headers).toMatchObject({ 'iguana-code': 'IGU_RECORD_MALFORMED', 'iguana-attempts': '0' });
});

it('begins at a time, keeps its place over a redeployment, and stops when it is deleted', async () => {
  const topic = await topicOf('times', 2);
  const seen: unknown[] = [];
  const handlers = { f: ({ records }: StreamEvent) => void seen.push(...records.map(({ value }) => value)) };
  const triggers = host(uniqueName('times'), handlers);
  const begin = Date.now() - 60_000;
  await send(
    topic,
    Array.from({ length: 20 }, (_, i) => ({ value: String(i), partition: i % 2, timestamp: String(begin + 1000 * i) })),
  );
  const trigger = { type: 'stream', topic, from: begin + 15_000 };
  await triggers.apply([deployed({ name: 'f', triggers: [trigger] })]);
  await until('the late ones', () => seen.length >= 5);
  expect(seen.toSorted()).toEqual([15, 16, 17, 18, 19]);
  await triggers.apply([]);
  expect(triggers.status()).toEqual([]);
  await send(topic, [{ value: '20', partition: 0 }]);
  await triggers.apply([deployed({ name: 'f', triggers: [{ ...trigger, from: 'latest', batch: { size: 7 } }] })]);
  await until('what came meanwhile', () => seen.includes(20));
  expect(seen).toHaveLength(6);
});

it('a group begun at the end loses nothing to a restart before its first record; a partition added later is read from its beginning', async () => {
  const topic = await topicOf('latest', 1);
  const seen: unknown[] = [];
  const group = uniqueName('latest');
  const definition = deployed({ name: 'f', triggers: [{ type: 'stream', topic }] });
  const handlers = { f: ({ records }: StreamEvent) => void seen.push(...records.map(({ value }) => value)) };
  await send(topic, [{ value: '"before"', partition: 0 }]);
  const first = host(group, handlers);
  await first.apply([definition]);
  await until('assigned', () => first.status()[0]!.partitions.length === 1);
  const admin = kafka.admin();
  await admin.connect();
  await until(
    'a place',
    async () =>
      (await admin.fetchOffsets({ groupId: `${group}-f-${topic}`, topics: [topic] }))[0]!.partitions[0]!.offset === '1',
  );
  await first.stop();
  await send(topic, [{ value: '"between"', partition: 0 }]);
  await admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] });
  await admin.disconnect();
  await send(topic, [{ value: '"added"', partition: 1 }]);
  const second = host(group, handlers);
  await second.apply([definition]);
  await until('both', () => seen.length >= 2);
  expect(seen.toSorted()).toEqual(['added', 'between']);
});

it('a topic that is deleted and made anew is read from its beginning', async () => {
  const topic = await topicOf('anew');
  const seen: unknown[] = [];
  const triggers = host(uniqueName('anew'), {
    f: ({ records }) => void seen.push(...records.map(({ value }) => value)),
  });
  await triggers.apply([deployed({ name: 'f', triggers: [{ type: 'stream', topic, from: 'earliest' }] })]);
  await send(topic, numbers(10));
  await until('the old ones', () => seen.length === 10);
  const admin = kafka.admin();
  await admin.connect();
  await admin.deleteTopics({ topics: [topic] });
  await until('it is gone', async () => !(await admin.listTopics()).includes(topic));
  // who reads it may bring it about as well
  await until('made anew', async () => {
    await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] }).catch(() => false);
    return (await admin.listTopics()).includes(topic);
  });
  await admin.disconnect();
  await send(topic, [{ value: '"new"', partition: 0 }]);
  await until('the new one', () => seen.includes('new'), 30_000);
});

it('order by key: slow keys hold nobody up, each key in order, and nothing is read beyond the bound', async () => {
  const topic = await topicOf('keys');
  const byKey = new Map<string, number[]>();
  let release: (() => void) | undefined;
  const blocked = new Promise<void>((resolve) => {
    release = resolve;
  });
  const triggers = host(uniqueName('keys'), {
    f: async ({ records }) => {
      if (records.some(({ key }) => key === 'k0')) await blocked;
      for (const { key, value } of records) {
        const values = byKey.get(key!) ?? [];
        values.push(value as number);
        byKey.set(key!, values);
      }
    },
  });
  await send(topic, numbers(30_000));
  const trigger = { type: 'stream', topic, from: 'earliest', order: 'key', parallel: 4, batch: { size: 50 } };
  await triggers.apply([deployed({ name: 'f', triggers: [trigger] })]);
  const done = () => triggers.status()[0]!.counts.done;
  // 10,000 are held: those of the other six keys among them are done
  await until('the other keys', () => done() >= 8_000);
  expect(byKey.has('k0')).toBe(false);
  expect(triggers.status()[0]!.lag).toBe(30_000);
  release!();
  await until('all', () => done() === 30_000);
  for (const [key, values] of byKey) {
    expect(values).toEqual(Array.from({ length: 30_000 }, (_, i) => i).filter((i) => `k${i % 7}` === key));
  }
});

for (const exactlyOnce of [false, true]) {
  it(`two members: partitions move and nothing is lost${exactlyOnce ? ' or doubled' : ''}`, async () => {
    const [topic, output] = [await topicOf('move', 4), await topicOf('moved', 2)];
    const group = uniqueName('move');
    const handlers: Record<string, Handler> = {
      f: async ({ records }) => {
        await new Promise((resolve) => setTimeout(resolve, 2));
        return records.map(({ value }) => value);
      },
    };
    const definition = deployed({
      name: 'f',
      output,
      triggers: [{ type: 'stream', topic, from: 'earliest', exactlyOnce, order: 'key', batch: { size: 10 } }],
    });
    const out = await follow(output);
    await send(topic, numbers(4_000, 4));
    const first = host(group, handlers);
    await first.apply([definition]);
    await until('a beginning', () => out.length > 100);
    const second = host(group, handlers);
    await second.apply([definition]);
    await until(
      'sharing',
      () => second.status()[0]!.partitions.length === 2 && first.status()[0]!.partitions.length === 2,
    );
    await send(
      topic,
      numbers(2_000, 4).map((one, i) => ({ ...one, value: String(4_000 + i) })),
    );
    await first.stop();
    await until('all of them', () => new Set(out.map(({ value }) => value)).size === 6_000, 30_000);
    if (exactlyOnce) expect(out).toHaveLength(6_000);
  });

  it(`kill -9 in the middle: nothing is lost${exactlyOnce ? ' or doubled' : ''}`, async () => {
    const [topic, output] = [await topicOf('kill', 2), await topicOf('killed', 2)];
    const group = uniqueName('kill');
    const out = await follow(output);
    const dead = await follow(`${group}-dead`);
    await send(topic, numbers(10_000, 2));
    const program = fileURLToPath(new URL('../support/stream-function.mjs', import.meta.url));
    const begin = (): ChildProcess => {
      const child = spawn(
        process.execPath,
        [program, broker.brokers, group, topic, output, String(exactlyOnce), broker.real ? '6000' : '1500'],
        {
          stdio: 'inherit',
        },
      );
      stops.push(async () => void child.kill('SIGKILL'));
      return child;
    };
    for (const atLeast of [500, 4_000]) {
      const child = begin();
      await until('some outputs', () => out.length >= atLeast, 40_000);
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    begin();
    const ids = () => new Set([...out, ...dead].map(({ value }) => value));
    await until('all of them', () => ids().size === 10_000, 60_000);
    expect(new Set(dead.map(({ value }) => value)).size).toBe(10);
    if (exactlyOnce) expect([out.length, dead.length]).toEqual([9_990, 10]);
  }, 120_000);
}

it('a queue: each record by itself, those of a key in order, late, as often as promised', async () => {
  const topic = await topicOf('queue', 2);
  const group = uniqueName('queue');
  const seen: { key: string | null; value: unknown; at: number; attempt: number; timeoutMs: number }[] = [];
  let most = 0;
  let now = 0;
  const triggers = host(
    group,
    {
      f: async ({ records, trigger }, { attempt = 0, timeoutMs = 0 }) => {
        expect([trigger, records.length]).toEqual(['queue', 1]);
        const [{ key, value }] = records as [EventRecord];
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, 5));
        now--;
        seen.push({ key, value, at: Date.now(), attempt, timeoutMs });
        if (value === 5) throw new Error('never');
      },
    },
    queueTriggers,
  );
  const sentAt = Date.now();
  await send(topic, numbers(40, 2));
  const trigger = { type: 'queue', topic, delayMs: 300, parallel: 3, attempts: 3, backoffMs: 1, visibilityMs: 5_000 };
  await triggers.apply([deployed({ name: 'f', triggers: [trigger] })]);
  const dead = await follow(`${group}-dead`);
  await until('all', () => seen.length === 42 && dead.length === 1);
  expect(most).toBe(3);
  expect(Math.min(...seen.map(({ at }) => at))).toBeGreaterThanOrEqual(sentAt + 300);
  expect(seen.filter(({ value }) => value === 5).map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(dead[0]!.headers).toMatchObject({ 'iguana-attempts': '3', 'iguana-reason': 'never' });
  expect(seen[0]!.timeoutMs).toBe(5_000);
  // a key's records of one partition
  for (const parity of [0, 1]) {
    for (const key of new Set(seen.map((one) => one.key))) {
      const values = seen.flatMap((one) =>
        one.key === key && Number(one.value) % 2 === parity && one.attempt === 1 ? [one.value as number] : [],
      );
      expect(values).toEqual(values.toSorted((a, b) => a - b));
    }
  }
});
