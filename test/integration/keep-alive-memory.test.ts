import { afterAll, beforeAll, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock.js';
import { functionSchema } from '../../src/functions/definition.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { HybridHistogram } from '../../src/functions/keep-alive.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { sink as openSink, type Sink } from '../../src/kafka/sink.js';
import { prewarmLimits } from '../../src/limits.js';
import { keepAliveMemory } from '../../src/operators/keep-alive-memory.js';
import { kafkaUnderTest } from '../support/kafka.js';

const MINUTE = 60_000;
let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
let sink: Sink;
beforeAll(async () => {
  broker = await kafkaUnderTest();
  sink = openSink(kafkaClient({ brokers: [broker.brokers] }));
  await sink.connect();
});
afterAll(async () => {
  await sink.close();
  await broker.stop();
});

/** A process with one function, from its start on. */
async function process(clock: VirtualClock, policy?: () => HybridHistogram, into: Pick<Sink, 'write'> = sink) {
  const service = new FunctionService({
    clock,
    ...(policy ? { keepAlive: policy } : {}),
    factory: () => ({
      start: async () => ({
        invoke: async () => ({ output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
        usable: true,
        memoryBytes: () => 1,
        close: async () => undefined,
      }),
    }),
  });
  const errors: unknown[] = [];
  const connection = { brokers: [broker.brokers] };
  const onError = (error: unknown) => errors.push(error);
  const memory = await keepAliveMemory({ service, connection, sink: into, clock, onError });
  const definition = functionSchema.parse({ name: 'hourly', runtime: 'javascript', code: { inline: 'x' } });
  await service.deploy({ definition, code: Buffer.from('x') });
  service.enableColdStartOptimization('hourly');
  return { service, memory, errors };
}

it('after a restart a function is expected when it would have been, until it is deleted', async () => {
  const clock = new VirtualClock(1e12);
  const call = { trigger: 'call', input: 0 } as const;
  const before = await process(clock);
  for (let i = 0; i < 20; i++) {
    await before.service.invoke('hourly', call);
    clock.advance(60 * MINUTE);
  }
  await before.service.invoke('hourly', call);
  const learnt = before.service.keepAlive('hourly');
  expect(learnt.warm.some(({ fromMs }) => fromMs > 50 * MINUTE)).toBe(true);
  await before.memory.stop();
  clock.advance(30 * MINUTE);

  const after = await process(clock);
  expect(after.service.keepAlive('hourly')).toEqual(learnt);
  const instances: number[] = [];
  for (let minute = 0; minute < 30; minute++) {
    await after.service.tick();
    instances.push(after.service.metrics('hourly').instances);
    clock.advance(MINUTE);
  }
  expect(instances[0]).toBe(0);
  expect(instances.at(-1)).toBe(1);
  expect((await after.service.invoke('hourly', call)).cold).toBe(false);

  // another policy begins anew, and what it learns is not taken for the first one's
  const other = await process(clock, () => new HybridHistogram());
  expect(other.service.keepAlive('hourly').tier).toBe('standard');
  await after.service.delete('hourly');
  await after.memory.stop();
  const last = await process(clock);
  expect(last.service.keepAlive('hourly')).not.toEqual(learnt);
  expect([after, other, last].flatMap(({ errors }) => errors)).toEqual([]);
});

it('what could not be written is written the next time', async () => {
  const clock = new VirtualClock(2e12);
  const written: (readonly (readonly [unknown, boolean])[])[] = [];
  let broken = true;
  const flaky: Pick<Sink, 'write'> = {
    async write(_topic, records) {
      if (broken) throw new Error('no broker');
      written.push(records.map(({ key, value }) => [key, value !== null] as const));
    },
  };
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  const { service, memory, errors } = await process(clock, undefined, flaky);
  const next = async () => {
    clock.advance(prewarmLimits.saveEveryMs);
    await settled();
  };
  await next();
  broken = false;
  await next();
  expect(written).toEqual([[['hourly', true]]]);
  broken = true;
  await service.delete('hourly');
  await next();
  broken = false;
  await next();
  await memory.stop();
  expect(written[1]).toEqual([['hourly', false]]);
  expect(errors).toMatchObject([{ message: 'no broker' }, { message: 'no broker' }]);
});
