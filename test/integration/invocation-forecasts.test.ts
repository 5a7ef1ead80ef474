import { afterAll, beforeAll, expect, it } from 'vitest';
import { forecast } from '../../pipelines/forecast.js';
import { VirtualClock } from '../../src/clock.js';
import { functionSchema } from '../../src/functions/definition.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { kafkaClient } from '../../src/kafka/client.js';
import { sink as openSink } from '../../src/kafka/sink.js';
import { stateTopic } from '../../src/kafka/state-store.js';
import { invocationForecastsOn } from '../../src/operators/invocation-forecasts.js';
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

it('forecasts of a function, made from its own rates, have instances ready before it is called', async () => {
  const connection = { brokers: [broker.brokers] };
  const [metrics, forecasts, deadLetters] = ['metrics', 'forecasts', 'dead'].map(uniqueName) as [
    string,
    string,
    string,
  ];
  const topics = [metrics, forecasts, deadLetters].map((topic) => ({ topic, partitions: 1 }));
  await ensureTopics(connection, [...topics, stateTopic('forecast', 2)]);
  const clock = new VirtualClock(Math.floor((Date.now() - 12 * 3_600_000) / 60_000) * 60_000);
  const service = new FunctionService({
    clock,
    factory: () => ({
      start: async () => ({
        invoke: async () => ({ output: 0, durationMs: 20_000, memoryUsedMb: 1, logs: [], logsTruncated: false }),
        usable: true,
        memoryBytes: () => 1,
        close: async () => undefined,
      }),
    }),
  });
  const definition = functionSchema.parse({ name: 'f', runtime: 'javascript', code: { inline: 'x' } });
  await service.deploy({ definition, code: Buffer.from('x') });
  const sink = openSink(kafkaClient(connection));
  await sink.connect();
  const errors: unknown[] = [];
  const onError = (error: unknown) => errors.push(error);
  const foreseen: { readonly concurrency: number; readonly until: number }[] = [];
  const watched = {
    list: () => service.list(),
    metrics: (name: string) => service.metrics(name),
    expectLoad: (name: string, concurrency: number, end: number) => {
      foreseen.push({ concurrency, until: end });
      service.expectLoad(name, concurrency, end);
    },
  };
  const following = invocationForecastsOn({ service: watched, clock, connection, sink, metrics, forecasts, onError });
  const pipeline = await forecast({
    ...{ connection, group: uniqueName('group'), input: metrics, output: forecasts, deadLetters, onError },
    everySteps: 1,
  });
  stopping.push(
    () => following.stop(),
    () => pipeline.stop(),
    () => sink.close(),
  );

  // half an hour of rising and falling load, over and over
  const callsIn = (minute: number) => Math.round(9 + 8 * Math.sin((2 * Math.PI * minute) / 30));
  for (let minute = 0; minute < 180; minute++) {
    for (let i = 0; i < callsIn(minute); i++) await service.invoke('f', { trigger: 'call', input: 0 });
    clock.advance(60_000);
    await service.tick();
  }
  await until('forecasts that are better than last day', () => foreseen.some(({ concurrency }) => concurrency >= 1));
  await until('all samples are learnt', () => pipeline.status().samples >= 358);
  expect(foreseen.every(({ until: end }) => end <= clock.now() + 11 * 60_000)).toBe(true);
  // up to 17 calls of a third of a minute each: 5.7 at once
  expect(Math.max(...foreseen.map(({ concurrency }) => concurrency))).toBeLessThan(20);
  await service.tick();
  expect(service.metrics('f').instances).toBeGreaterThan(0);
  expect(errors).toEqual([]);
});
