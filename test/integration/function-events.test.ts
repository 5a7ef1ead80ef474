import { afterAll, beforeAll, expect, it } from 'vitest';
import { wallClock } from '../../src/clock.js';
import { IguanaError } from '../../src/errors.js';
import { functionSchema } from '../../src/functions/definition.js';
import type { DeployedFunction } from '../../src/functions/function-service.js';
import type { CloudEvent } from '../../src/functions/invocation.js';
import { depthOf, readCloudEvent, writeCloudEvent } from '../../src/functions/triggers/cloud-events.js';
import { eventTriggers } from '../../src/functions/triggers/event-trigger.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { sink as openSink } from '../../src/kafka/sink.js';
import { tail } from '../../src/kafka/tail.js';
import { eventLimits } from '../../src/limits.js';
import { eventTopic } from '../../src/operators/event-topic.js';
import { functionOutcomes } from '../../src/operators/function-outcomes.js';
import { kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const stopping: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterAll(async () => {
  for (const stop of stopping.reverse()) await stop();
  await broker.stop();
});

interface Seen {
  readonly topic: string;
  readonly key: string | undefined;
  readonly value: string;
  readonly headers: Record<string, string>;
}

/** Functions over a topic of events of their own; `answer` stands for their code. */
async function system(functions: readonly object[], answer: (name: string, event: CloudEvent) => unknown) {
  const connection = { brokers: [broker.brokers] };
  const names = { events: uniqueName('events'), results: uniqueName('results'), failures: uniqueName('failures') };
  const deadLetters = uniqueName('dead');
  const all = [...Object.values(names), deadLetters];
  await ensureTopics(
    connection,
    all.map((topic) => ({ topic, partitions: 1 })),
  );
  const deployed: DeployedFunction[] = functions.map((one) => {
    const definition = functionSchema.parse({
      runtime: 'javascript',
      code: { inline: 'x' },
      output: names.results,
      onFailure: names.failures,
      ...one,
    });
    return { name: definition.name, version: 1, definition, aliases: {} };
  });
  const sink = openSink(kafkaClient(connection));
  await sink.connect();
  const calls: { name: string; event: CloudEvent }[] = [];
  const service: Parameters<typeof eventTriggers>[0]['service'] = {
    async invoke(name, input, { invocationId = '' } = {}) {
      if (input.trigger !== 'event') throw new Error('another trigger');
      calls.push({ name, event: input.event });
      const output = answer(name, input.event);
      const rest = { durationMs: 1, initMs: 0, cold: false, memoryUsedMb: 1, logs: [], logsTruncated: false } as const;
      return { invocationId, output, ...rest };
    },
  };
  const definitionOf = (name: string) => deployed.find((one) => one.name === name)?.definition;
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const deliver = functionOutcomes({ sink, definitionOf, onError });
  const triggers = eventTriggers({ service, clock: wallClock, deliver, onError, random: () => 0 });
  await triggers.apply(deployed);
  const topic = await eventTopic({
    connection,
    group: uniqueName('group'),
    topic: names.events,
    sink,
    triggers,
    deadLetters,
    onError,
  });
  const seen: Seen[] = [];
  const watching = tail(kafkaClient(connection), [names.results, names.failures, deadLetters], 'earliest');
  watching.messages.subscribe(({ topic: from, message }) => {
    const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, one]) => [name, String(one)]));
    seen.push({ topic: from, key: message.key?.toString(), value: String(message.value), headers });
  });
  stopping.push(async () => {
    await topic.stop();
    await triggers.stop();
    await watching.closed();
    await sink.close();
  });
  return {
    ...names,
    deadLetters,
    sink,
    topic,
    calls,
    errors,
    on: (one: string) => seen.filter(({ topic: at }) => at === one),
  };
}

const event = (more: object = {}): CloudEvent => ({
  specversion: '1.0',
  id: '1',
  source: '/shop',
  type: 'order.created',
  subject: 'order-7',
  datacontenttype: 'application/json',
  data: { amount: 5 },
  ...more,
});
const on = (eventType: string, more: object = {}) => [{ type: 'event', eventType, ...more }];

it('events in both modes start functions, whose results go to their output with the event in the headers', async () => {
  const {
    topic,
    sink,
    events,
    results,
    failures,
    deadLetters,
    calls,
    on: at,
  } = await system(
    [
      { name: 'total', triggers: on('order.*', { filter: { 'data.amount': { gt: 1 } } }) },
      { name: 'split', triggers: on('order.split') },
      { name: 'broken', triggers: on('order.broken') },
    ],
    (name, { data }) => {
      if (name === 'broken') throw new IguanaError('IGU_FUNCTION_CODE', { name, what: 'no' });
      return name === 'split' ? ['a', { specversion: '1.0', type: 'part', subject: 'b' }] : { saw: data };
    },
  );
  await topic.emit(event());
  await topic.emit(event({ id: '2', type: 'order.split', data: { amount: 1 } }));
  await topic.emit(event({ id: '3', type: 'order.broken', data: { amount: 1 } }));
  await topic.emit(event());
  const binary = writeCloudEvent(event({ id: '4' }), 'binary');
  await sink.write(events, [
    { key: 'k', ...binary },
    { key: 'k', value: '{"no":"event"}' },
  ]);
  await until('all outcomes', () => at(results).length >= 4 && at(failures).length >= 1 && at(deadLetters).length >= 1);
  expect(calls.map(({ name, event: { id } }) => `${name} ${id}`).sort()).toEqual([
    'broken 3',
    'split 2',
    'total 1',
    'total 4',
  ]);
  const made = at(results).map(({ headers, value }) => readCloudEvent(headers, Buffer.from(value), 'kafka'));
  expect(made.filter(({ source }) => source === '/functions/total')).toMatchObject([
    { type: 'iguana.function.result', data: { saw: { amount: 5 } }, iguanadepth: '1' },
    { type: 'iguana.function.result', data: { saw: { amount: 5 } }, iguanadepth: '1' },
  ]);
  expect(made.filter(({ source }) => source === '/functions/split').map(({ type }) => type)).toEqual([
    'iguana.function.result',
    'part',
  ]);
  expect(at(results).find(({ value }) => value.includes('saw'))).toMatchObject({
    key: 'order-7',
    value: '{"saw":{"amount":5}}',
  });
  expect(JSON.parse(at(failures)[0]!.value)).toMatchObject({ function: 'broken', outcome: 'failed', cold: false });
  expect(at(deadLetters)[0]).toMatchObject({
    value: '{"no":"event"}',
    headers: { 'iguana-code': 'IGU_RECORD_MALFORMED' },
  });
});

it('a function that emits what starts it is ended at the bound, and the event kept', async () => {
  const circle: { events: string; calls: { event: CloudEvent }[] } = { events: '', calls: [] };
  const made = await system([{ name: 'circle', triggers: on('again') }], (_, cause) => {
    void made.topic
      .emit({ ...event({ id: `${cause.id}+`, type: 'again' }), iguanadepth: depthOf(cause) + 1 })
      .catch((error) => circle.calls.push(error));
    return null;
  });
  await made.topic.emit(event({ type: 'again' }));
  await until('the bound', () => circle.calls.length > 0);
  expect(made.calls.length).toBe(eventLimits.maxDepth + 1);
  expect(circle.calls).toMatchObject([{ code: 'IGU_FUNCTION_EVENT_DEPTH' }]);
  const deep = writeCloudEvent(event({ id: 'deep', type: 'again', iguanadepth: 99 }), 'structured');
  await made.sink.write(made.events, [{ key: 'k', ...deep }]);
  const letter = await until('the dead letter', () => made.on(made.deadLetters)[0]);
  expect(letter.headers['iguana-code']).toBe('IGU_FUNCTION_EVENT_DEPTH');
  // an event in binary form is its headers: with them it can be sent again
  const binary = writeCloudEvent(event({ id: 'deep too', type: 'again', iguanadepth: 99 }), 'binary');
  await made.sink.write(made.events, [{ key: 'k', ...binary }]);
  const { headers, value } = await until('the second', () => made.on(made.deadLetters)[1]);
  expect(headers['iguana-code']).toBe('IGU_FUNCTION_EVENT_DEPTH');
  expect(readCloudEvent(headers, Buffer.from(value), 'kafka')).toMatchObject({ id: 'deep too', type: 'again' });
});

it('a result that no record can be made of is a failure of the function, and the next event is handled', async () => {
  const {
    topic,
    failures,
    results,
    on: at,
  } = await system([{ name: 'odd', triggers: on('*') }], (_, { id }) => {
    if (id === '1') return { specversion: '1.0', type: 7 };
    return id === '2' ? 'x'.repeat(1_000_000) : 'fine';
  });
  for (const id of ['1', '2', '3']) await topic.emit(event({ id }));
  await until('both', () => at(failures).length === 2 && at(results).length === 1);
  expect(at(failures).every(({ value }) => value.includes('IGU_RECORD_MALFORMED'))).toBe(true);
});

it('what no broker takes fails its function alone, and no event waits behind it', async () => {
  const {
    topic,
    results,
    failures,
    calls,
    on: at,
  } = await system([{ name: 'wordy', triggers: on('order.*') }], (_, { id }) => ({
    specversion: '1.0',
    type: 'answer',
    subject: id === 'long' ? 's'.repeat(2_000_000) : id,
  }));
  await topic.emit(event({ id: 'long' }));
  await topic.emit(event({ id: 'short' }));
  await until('both to be told', () => at(results).length === 1 && at(failures).length === 1);
  expect(at(results)[0]!.key).toBe('short');
  expect(JSON.parse(at(failures)[0]!.value).error).toMatch(/^IGU_RECORD_MALFORMED .*wordy returned 4000\d{3} bytes/);
  expect(calls.length).toBe(2);
  const large = topic.emit(event({ id: 'large', data: 'x'.repeat(1_000_000) }));
  await expect(large).rejects.toThrow(/^IGU_RECORD_MALFORMED .*event large has 1000\d{3} bytes/);
});
