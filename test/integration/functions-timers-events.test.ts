import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type InvokeOptions, invoke } from '../../pipelines/invoke.js';
import { functionSchema } from '../../src/functions/definition.js';
import { readCloudEvent } from '../../src/functions/triggers/cloud-events.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { tail } from '../../src/kafka/tail.js';
import type { RunningFunctions } from '../../src/operators/running-functions.js';
import { kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
const scratch = mkdtempSync(join(tmpdir(), 'iguana-functions-'));
const stopping: (() => Promise<unknown>)[] = [];
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterAll(async () => {
  for (const stop of stopping.reverse()) await stop();
  await broker.stop();
  rmSync(scratch, { recursive: true });
});

const CODE = `
export const handle = (event) => {
  if (event.trigger === 'timer') return { at: event.scheduledTime };
  if (event.trigger === 'event') return { specversion: '1.0', type: 'done', data: event.event.data };
  if (event.input === 'fail') throw new Error('as told');
  return event.input;
};`;

it('timers, events and calls of two processes: none is lost, results are on topics, one bill counts each once', async () => {
  const connection = { brokers: [broker.brokers] };
  const output = uniqueName('results');
  const ended = uniqueName('ended');
  const deadLetters = uniqueName('dead');
  await ensureTopics(
    connection,
    [output, ended, deadLetters].map((topic) => ({ topic, partitions: 1 })),
  );
  const seen: { topic: string; value: string; headers: Record<string, string> }[] = [];
  const watching = tail(kafkaClient(connection), [output, ended], 'earliest');
  watching.messages.subscribe(({ topic, message }) => {
    const headers = Object.fromEntries(Object.entries(message.headers ?? {}).map(([name, one]) => [name, String(one)]));
    seen.push({ topic, value: String(message.value), headers });
  });
  stopping.push(() => watching.closed());
  const group = uniqueName('group');
  const errors: unknown[] = [];
  const start = async (journal: string): Promise<RunningFunctions> => {
    const options: InvokeOptions = {
      kafka: { connection, group, deadLetters },
      usageKey: 'key',
      usageJournal: join(scratch, journal),
      onError: (error) => errors.push(error),
    };
    const functions = await invoke(options);
    stopping.push(() => functions.stop());
    return functions;
  };
  const [a, b] = await Promise.all([start('a'), start('b')]);
  const definition = functionSchema.parse({
    name: 'worker',
    runtime: 'javascript',
    memoryMb: 32,
    code: { inline: CODE },
    triggers: [
      // on a busy machine too every second has its run
      { type: 'timer', cron: '* * * * * *', missed: 'all', overlap: 'queue' },
      { type: 'event', eventType: 'order.*' },
    ],
    output,
    onFailure: ended,
  });
  await a.deploy({ definition, code: Buffer.from(CODE) });
  await until('the other process has it', () => b.list().length === 1);
  await Promise.all([a.settled(), b.settled()]);

  const results = () => seen.filter(({ topic }) => topic === output);
  const runs = () => results().filter(({ value }) => value.includes('"at"'));
  await until('timer runs', () => runs().length >= 3);
  for (let i = 0; i < 20; i++) {
    const event = { specversion: '1.0', id: String(i), source: '/test', type: 'order.new', data: { i } } as const;
    await (i % 2 === 0 ? a : b).publish(event);
  }
  const handled = () => results().filter(({ headers }) => headers.ce_type === 'done');
  // at least once: where the group changes meanwhile, as it may on a busy machine, an event comes again
  const numbers = () => new Set(handled().map(({ value }) => JSON.parse(value).i as number));
  await until('all events', () => numbers().size >= 20);
  expect([...numbers()].sort((x, y) => x - y)).toEqual([...Array(20).keys()]);
  const one = readCloudEvent(handled()[0]!.headers, Buffer.from(handled()[0]!.value), 'kafka');
  expect(one).toMatchObject({ source: '/functions/worker', iguanadepth: '1' });

  const { invocationId } = await b.invokeAsync('worker', 'fail', { backoffMs: 1, maxBackoffMs: 2 });
  expect(await b.asyncResult(invocationId)).toMatchObject({ state: 'failed', attempts: 3 });
  await until('it is told', () => seen.some(({ topic, value }) => topic === ended && value.includes('as told')));

  await a.delete('worker');
  await until('the other process has it not', () => b.list().length === 0);
  const times = runs().map(({ value }) => JSON.parse(value).at as string);
  expect(new Set(times).size).toBe(times.length);
  const ms = times.map((time) => Date.parse(time));
  expect(Math.max(...ms) - Math.min(...ms)).toBe((times.length - 1) * 1_000);

  // of a function that is deleted usage is kept: deployed again it is billed for all of it
  await a.deploy({ definition: { ...definition, triggers: [] }, code: Buffer.from(CODE) });
  await until('the other process has it', () => b.list().length === 1);
  const bills = await Promise.all([a, b].map((process) => process.billing('worker')));
  // what the topic has not had for 200 ms yet is in one of them: asked again they agree
  const [billA, billB] = await until('one bill', async () => {
    const [x, y] = await Promise.all([a.billing('worker'), b.billing('worker')]);
    return x.invocationCount === y.invocationCount && [x, y];
  });
  expect(billA).toEqual(billB);
  expect(bills[0]!.invocationCount).toBeGreaterThan(0);
  // the timer's runs, twenty events, three tries; a run may have been under way when its topic was last read
  expect(billA!.invocationCount).toBeGreaterThanOrEqual(times.length + 23);
  expect(billA!.invocationCount).toBeLessThanOrEqual(times.length + 25);
  expect(errors.filter((error) => !String(error).includes('as told'))).toEqual([]);
}, 60_000);
