import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { invoke } from '../../pipelines/invoke.js';
import { functionSchema } from '../../src/functions/definition.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { readPartition } from '../../src/kafka/partition-reader.js';
import type { RunningFunctions } from '../../src/operators/running-functions.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let kafka: Awaited<ReturnType<typeof kafkaUnderTest>>;
beforeAll(async () => {
  kafka = await kafkaUnderTest();
});
afterAll(() => kafka.stop());

const running: RunningFunctions[] = [];
const errors: unknown[] = [];
afterEach(async () => {
  for (const functions of running.splice(0)) await functions.stop();
  expect(errors.splice(0)).toEqual([]);
});

async function started(options: Parameters<typeof invoke>[0] = {}): Promise<RunningFunctions> {
  const functions = await invoke({ usageKey: 'key', onError: (error) => errors.push(error), ...options });
  running.push(functions);
  return functions;
}

function deployment(code: string, more: object = {}) {
  const definition = functionSchema.parse({
    name: 'f',
    runtime: 'javascript',
    memoryMb: 32,
    code: { inline: code },
    ...more,
  });
  return { definition, code: Buffer.from(code) };
}

const call = (input: unknown) => ({ trigger: 'call', input }) as const;
const answer = (text: string) => `export const handle = ({ input }) => '${text} ' + input;`;

describe('without Kafka', () => {
  test('functions are deployed, called in both ways, paused, billed and deleted', async () => {
    const functions = await started();
    expect(await functions.deploy(deployment(answer('one')))).toMatchObject({ name: 'f', version: 1 });
    expect(await functions.deploy(deployment(answer('one')))).toMatchObject({ version: 1 });
    expect(await functions.deploy(deployment(answer('two')))).toMatchObject({ version: 2 });
    expect((await functions.invoke('f', call('x'))).output).toBe('two x');
    const { invocationId } = await functions.invokeAsync('f', 'y');
    expect(await functions.asyncResult(invocationId)).toMatchObject({ state: 'succeeded', output: 'two y' });
    expect(functions.asyncCall(invocationId)).toMatchObject({ state: 'succeeded', attempts: 1 });
    expect(functions.cancelAsyncCall(invocationId)).toBe(false);
    expect(functions.metrics('f').totalInvocations).toBe(2);
    expect(await functions.billing('f')).toMatchObject({ invocationCount: 2 });
    await functions.pause('f');
    expect(functions.stats('f').paused).toBe(true);
    await functions.delete('f');
    await expect(functions.invoke('f', call(1))).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
    for (const change of [() => functions.delete('f'), () => functions.pause('f'), () => functions.billing('f')])
      await expect(change()).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
  });

  test('what cannot be started, or never comes, is refused before anybody calls it', async () => {
    const functions = await started();
    await functions.deploy(deployment(answer('one')));
    await expect(functions.deploy(deployment('export const handle = ;'))).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
    });
    await expect(
      functions.deploy(deployment(answer('two'), { triggers: [{ type: 'timer', cron: '0 0 31 2 *' }] })),
    ).rejects.toMatchObject({ code: 'IGU_CONFIG' });
    await expect(functions.deploy(deployment(answer('two'), { secrets: { KEY: 'none' } }))).rejects.toThrow(
      /secret none \(for KEY\) is not there; put it into the secrets file, or into the environment, and deploy again/,
    );
    expect((await functions.invoke('f', call('x'))).output).toBe('one x');
    expect(functions.list()).toMatchObject([{ version: 1 }]);
  });

  test('secrets are read where the function runs; an alias shares calls out', async () => {
    const functions = await started({ secret: (name) => (name === 'token' ? 'hidden' : undefined) });
    const code = 'export const handle = () => process.env.TOKEN';
    await functions.deploy(deployment(code, { secrets: { TOKEN: 'token' } }));
    await functions.deploy(deployment(`${code} + '!'`, { secrets: { TOKEN: 'token' } }));
    expect((await functions.invoke('f', call(0))).output).toBe('hidden!');
    expect(JSON.stringify([...functions.records])).not.toContain('hidden');
    await expect(functions.setAlias('f', 'live', { 1: 1 })).rejects.toMatchObject({ code: 'IGU_USAGE' });
    await functions.setAlias('f', 'live', { 2: 1 });
    await functions.deploy(deployment(`${code} + '?'`, { secrets: { TOKEN: 'token' } }));
    expect((await functions.invoke('f', call(0), { qualifier: 'live' })).output).toBe('hidden!');
    expect((await functions.invoke('f', call(0))).output).toBe('hidden?');
  });

  test('a call that does not end does not keep the process from stopping', async () => {
    const functions = await started();
    await functions.deploy(deployment('export const handle = () => new Promise(() => undefined);'));
    const hanging = functions.invoke('f', call(1)).catch((error: { code: string }) => error.code);
    await until('the call', () => functions.metrics('f').concurrency === 1);
    const asked = performance.now();
    await functions.stop();
    expect(performance.now() - asked).toBeLessThan(2_000);
    expect(await hanging).toBe('IGU_FUNCTION_CRASHED');
  });

  test('timers and events call the alias that their trigger names', async () => {
    const functions = await started();
    const triggers = [
      { type: 'timer', cron: '* * * * * *', alias: 'live' },
      { type: 'event', eventType: 'order.*', alias: 'live' },
      { type: 'event', eventType: 'refund.*' },
    ];
    const code = 'export const handle = (event, { version }) => console.log(event.trigger, version);';
    await functions.deploy(deployment(code));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment(code, { triggers }));
    await functions.settled();
    const event = { specversion: '1.0', source: 'test' } as const;
    for (const type of ['order.made', 'refund.made']) await functions.publish({ ...event, id: type, type });
    const lines = () => new Set(functions.logs('f').map(({ line }) => line));
    await until('all', () => lines().size === 3);
    expect([...lines()].toSorted()).toEqual(['info event 1', 'info event 2', 'info timer 1']);
    expect((await functions.invoke('f:live', call(0))).invocationId).not.toBe('');
    const { invocationId } = await functions.invokeAsync('f:1', 0);
    expect(await functions.asyncResult(invocationId)).toMatchObject({ state: 'succeeded' });
    await functions.deleteAlias('f', 'live');
    await expect(functions.invoke('f:live', call(0))).rejects.toThrow(/IGU_FUNCTION_NOT_FOUND no function f:live/);
    await expect(functions.deleteAlias('f', 'live')).rejects.toMatchObject({ code: 'IGU_NOT_FOUND' });
    expect(Object.keys(functions.records.get('f')!.versions)).toEqual(['2']);
    errors.length = 0;
  });

  test('a timer and an event start functions; paused ones are not started', async () => {
    const functions = await started();
    const code = 'export const handle = (event) => { console.log(event.trigger); }';
    const triggers = [
      { type: 'timer', cron: '* * * * * *' },
      { type: 'event', eventType: 'order.*' },
    ];
    await functions.deploy(deployment(code, { triggers }));
    await functions.settled();
    expect(functions.stats('f').triggers).toEqual([
      { type: 'timer', source: '* * * * * *', counts: expect.objectContaining({ missed: 0, overlapped: 0 }) },
      { type: 'event', source: 'order.*' },
    ]);
    const event = { specversion: '1.0', id: '1', source: 'test', type: 'order.made' } as const;
    await functions.publish(event);
    const lines = () => functions.logs('f').map(({ line }) => line);
    await until('both', () => lines().includes('info timer') && lines().includes('info event'));
    await functions.pause('f');
    await functions.settled();
    const before = lines().length;
    await functions.publish({ ...event, id: '2' });
    await functions.publish({ ...event, id: '3', type: 'order.paid' });
    await functions.resume('f');
    await functions.settled();
    await until('a timer again', () => lines().length > before);
    expect(lines().filter((line) => line === 'info event')).toHaveLength(1);
    expect(functions.stats('f').triggers[0]!.counts!.runs).toBeGreaterThanOrEqual(2);
  });
});

describe('over Kafka', () => {
  const group = () => {
    const definitions = uniqueName('functions');
    const connection = { brokers: kafka.brokers.split(',') };
    return { connection, group: definitions, deadLetters: 'dead-letters', definitions };
  };

  test('what one process deploys, all have, with the same versions, aliases and pauses; and after a restart', async () => {
    const shared = group();
    const [a, b] = [await started({ kafka: shared }), await started({ kafka: shared })];
    await a.deploy(deployment(answer('one')));
    await until('the function', () => b.list().length === 1);
    expect((await b.invoke('f', call('x'))).output).toBe('one x');
    expect(await b.deploy(deployment(answer('two')))).toMatchObject({ version: 2 });
    await until('the version', () => a.list()[0]?.version === 2);
    expect((await a.invoke('f', call('x'))).output).toBe('two x');
    // the process that deployed it, and the one that did not
    await b.setAlias('f', 'live', { 2: 1 });
    await a.pause('f');
    await a.setColdStartOptimization('f', true);
    await until('the alias', () => b.stats('f').paused && b.list()[0]?.aliases.live !== undefined);
    expect(await a.deploy(deployment(answer('three')))).toMatchObject({ version: 3 });
    for (const functions of running.splice(0)) await functions.stop();

    const c = await started({ kafka: shared });
    expect(c.list()).toMatchObject([{ name: 'f', version: 3, aliases: { live: { 2: 1 } } }]);
    expect(c.stats('f').paused).toBe(true);
    expect(c.records.get('f')!.optimised).toBe(true);
    expect((await c.invoke('f', call('x'), { qualifier: 'live' })).output).toBe('two x');
    expect((await c.invoke('f', call('x'))).output).toBe('three x');
    await c.delete('f');
    const d = await started({ kafka: shared });
    expect(d.list()).toEqual([]);
    expect(await d.billing('f').catch((error: { code: string }) => error.code)).toBe('IGU_FUNCTION_NOT_FOUND');
  }, 60_000);

  test('another group on the same cluster has functions, versions and bills of its own', async () => {
    const connection = { brokers: kafka.brokers.split(',') };
    const of = (group: string) => started({ kafka: { connection, group, deadLetters: 'dead-letters' } });
    const [one, other] = [uniqueName('one'), uniqueName('an other/')];
    const [a, b] = [await of(one), await of(other)];
    await a.deploy(deployment(answer('one')));
    expect(await b.deploy(deployment(answer('other')))).toMatchObject({ version: 1 });
    await a.deploy(deployment(answer('one again')));
    expect((await b.invoke('f', call('x'))).output).toBe('other x');
    expect(b.list()).toMatchObject([{ version: 1 }]);
    await a.invoke('f', call('x'));
    await a.invoke('f', call('x'));
    expect([(await a.billing('f')).invocationCount, (await b.billing('f')).invocationCount]).toEqual([2, 1]);
    await b.delete('f');
    expect((await a.invoke('f', call('x'))).output).toBe('one again x');
    const admin = kafkaClientFor(kafka.brokers).admin();
    await admin.connect();
    const topics = await admin.listTopics();
    await admin.disconnect();
    for (const topic of ['iguana-functions', 'function-usage', 'iguana-state-timers', 'iguana-state-keep-alive'])
      expect(topics).toContain(`${topic}-${one}`);
    expect(topics.filter((topic) => topic.includes(other))).toEqual([]);
  }, 60_000);

  test('an event that one process publishes starts its functions in one of them; what they return is written', async () => {
    const shared = group();
    const both = [await started({ kafka: shared }), await started({ kafka: shared })];
    const output = uniqueName('out');
    await ensureTopics(shared.connection, [{ topic: output, partitions: 1 }]);
    const code = 'export const handle = ({ event }) => { console.log(event.id); return { seen: event.id }; }';
    const triggers = [{ type: 'event', eventType: `${output}.*`, filter: { 'data.total': { gt: 10 } } }];
    await both[0]!.deploy(deployment(code, { triggers, output }));
    await until('the function', () => both[1]!.list().length === 1);
    for (const [i, total] of [5, 50, 500].entries()) {
      const event = {
        specversion: '1.0',
        id: `e${i}`,
        source: 'test',
        type: `${output}.made`,
        data: { total },
      } as const;
      await both[1]!.publish(event);
    }
    const seen = () => both.flatMap((one) => one.logs('f').map(({ line }) => line)).sort();
    await until('both', () => seen().length === 2, 30_000);
    expect(seen()).toEqual(['info e1', 'info e2']);
    const written: string[] = [];
    await until('the results', async () => {
      written.length = 0;
      await readPartition(kafkaClientFor(kafka.brokers), output, 0, ({ value }) => written.push(value!.toString()));
      return written.length > 0;
    });
    expect(JSON.parse(written[0]!).seen).toMatch(/^e[12]$/);
  }, 60_000);

  test('records of a topic start a function in one of the processes, not while it is paused, and none is lost', async () => {
    const shared = group();
    const both = [await started({ kafka: shared }), await started({ kafka: shared })];
    const [input, output] = [uniqueName('in'), uniqueName('out')];
    await ensureTopics(shared.connection, [
      { topic: input, partitions: 2 },
      { topic: output, partitions: 1 },
    ]);
    const code = 'export const handle = ({ records }) => records.map(({ value }) => value.n * 2);';
    const triggers = [{ type: 'stream', topic: input, from: 'earliest' }];
    await both[0]!.deploy(deployment(code, { triggers, output }));
    const producer = kafkaClientFor(kafka.brokers).producer();
    await producer.connect();
    const send = (from: number, to: number) => {
      const numbers = Array.from({ length: to - from }, (_, i) => from + i);
      return producer.send({
        topic: input,
        messages: numbers.map((n) => ({ key: `k${n}`, value: JSON.stringify({ n }) })),
      });
    };
    const results = async () => {
      const seen: number[] = [];
      await readPartition(kafkaClientFor(kafka.brokers), output, 0, ({ value }) => seen.push(Number(value)));
      return seen.sort((a, b) => a - b);
    };
    await send(0, 50);
    await until('the results', async () => (await results()).length >= 50, 30_000);
    expect(both.map((one) => one.stats('f').triggers[0])).toMatchObject([
      { type: 'stream', source: input },
      { type: 'stream', source: input },
    ]);
    await both[1]!.pause('f');
    await until('the pause', () => both.every((one) => one.stats('f').paused));
    await Promise.all(both.map((one) => one.settled()));
    const before = (await results()).length;
    await send(50, 80);
    await both[0]!.resume('f');
    await until('the rest', async () => (await results()).length >= 80, 30_000);
    expect(before).toBe(50);
    expect(new Set(await results())).toEqual(new Set(Array.from({ length: 80 }, (_, i) => 2 * i)));
    await until('the standing', () => both.some((one) => one.stats('f').triggers[0]?.verdict === 'keeping up'));
    await producer.disconnect();
  }, 90_000);

  test('records that are given up and dropped are counted by trigger, calls go to the alias it names', async () => {
    const shared = group();
    const functions = await started({ kafka: shared });
    const input = uniqueName('in');
    await ensureTopics(shared.connection, [{ topic: input, partitions: 1 }]);
    const code = `export const handle = ({ records }, { version }) => {
      console.log('version ' + version);
      if (records[0].value.bad) throw new Error('bad');
    }`;
    const queue = { type: 'queue', topic: input, attempts: 1, deadLetters: false, alias: 'live' };
    const stream = { type: 'stream', topic: input, from: 'earliest', batch: { size: 1 }, attempts: 2, backoffMs: 0 };
    const triggers = [
      queue,
      { ...stream, filter: { 'value.bad': true }, deadLetters: false },
      { ...stream, filter: { 'value.bad': false }, alias: 'live' },
    ];
    await functions.deploy(deployment(code));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment(code, { triggers }));
    const producer = kafkaClientFor(kafka.brokers).producer();
    await producer.connect();
    const messages = [true, false, false].map((bad, i) => ({ key: `${i}`, value: JSON.stringify({ bad }) }));
    await producer.send({ topic: input, messages });
    await producer.disconnect();
    const counts = () => functions.stats('f').triggers.map((one) => one.counts);
    const whole = { done: 2, givenUp: 1, filtered: 0, calls: 3, failedCalls: 1 };
    await until('all of them', () =>
      counts().every((one) => (one?.done ?? 0) + (one?.givenUp ?? 0) + (one?.filtered ?? 0) === 3),
    );
    expect(counts()).toEqual([
      whole,
      { ...whole, done: 0, filtered: 2, calls: 2, failedCalls: 2 },
      { ...whole, givenUp: 0, filtered: 1, calls: 2, failedCalls: 0 },
    ]);
    const lines = functions.logs('f').filter(({ line }) => line.startsWith('info version'));
    const called = (version: number) => lines.filter(({ line }) => line === `info version ${version}`).length;
    expect([called(1), called(2)]).toEqual([5, 2]);
    // they are kept while it is paused
    await functions.pause('f');
    await functions.settled();
    await functions.resume('f');
    await until('the standing', () => counts()[0]?.calls === 3);
  }, 60_000);

  test('one process of a group has a timer', async () => {
    const shared = group();
    const both = [await started({ kafka: shared }), await started({ kafka: shared })];
    const code = 'export const handle = ({ scheduledTime }) => console.log(scheduledTime)';
    await both[0]!.deploy(deployment(code, { triggers: [{ type: 'timer', cron: '* * * * * *' }] }));
    const seen = () => both.flatMap((one) => (one.list().length ? one.logs('f').map(({ line }) => line) : []));
    await until('three runs', () => seen().length >= 3, 30_000);
    expect(new Set(seen()).size).toBe(seen().length);
  }, 60_000);
});
