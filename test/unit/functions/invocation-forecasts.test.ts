import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import type { SampleRecord } from '../../../src/codec/encode.js';
import { functionSchema } from '../../../src/functions/definition.js';
import { FunctionService } from '../../../src/functions/function-service.js';
import { type InvocationForecastOptions, invocationForecasts } from '../../../src/operators/invocation-forecasts.js';
import type { ForecastPoint, ForecastRecord } from '../../../src/records.js';

const MINUTE = 60_000;

/** A service with one function whose calls take as long as they are told to. */
async function made(more: Partial<InvocationForecastOptions> = {}, definition: object = {}) {
  const clock = new VirtualClock(1_000_000 * MINUTE);
  const service = new FunctionService({
    clock,
    factory: () => ({
      start: async () => ({
        invoke: async (event) => {
          const durationMs = event.trigger === 'call' ? Number(event.input) : 1;
          return { output: 0, durationMs, memoryUsedMb: 1, logs: [], logsTruncated: false };
        },
        usable: true,
        memoryBytes: () => 1,
        close: async () => undefined,
      }),
    }),
  });
  const parsed = functionSchema.parse({ name: 'f', runtime: 'javascript', code: { inline: 'x' }, ...definition });
  await service.deploy({ definition: parsed, code: Buffer.from('x') });
  const samples: SampleRecord[] = [];
  const forecasts = invocationForecasts({
    service,
    clock,
    publish: async (some) => void samples.push(...some),
    ...more,
  });
  const instances = async () => {
    await service.tick();
    return service.metrics('f').instances;
  };
  return { clock, service, samples, forecasts, instances };
}

function forecast(clock: VirtualClock, name: string, points: Partial<ForecastPoint>[], more = {}): ForecastRecord {
  const madeAt = clock.now();
  const labels = { entity: 'function:f' };
  const rest = { id: '1', series: 's', entity: 'function:f', model: 'm', madeAt, stepMs: MINUTE };
  const full = points.map((point, i) => ({
    horizonMs: (i + 1) * MINUTE,
    timestamp: madeAt + (i + 1) * MINUTE,
    value: 0,
    intervals: [],
    confidence: 0.5,
    ...point,
  }));
  return { ...rest, name, labels, points: full, ...more };
}

describe('invocation forecasts', () => {
  test('rate and concurrency of every function are measured each minute', async () => {
    const { clock, service, samples, forecasts } = await made({ process: 'a' });
    clock.advance(MINUTE);
    for (let i = 0; i < 30; i++) await service.invoke('f', { trigger: 'call', input: 4_000 });
    clock.advance(MINUTE);
    clock.advance(MINUTE);
    await forecasts.stop();
    const labels = { entity: 'function:f', process: 'a' };
    const [first, second] = [clock.now() - MINUTE, clock.now()];
    expect(samples).toEqual([
      { name: 'function_invocations', labels, timestamp: first, value: 0.5 },
      // thirty calls of four seconds in a minute
      { name: 'function_concurrency', labels, timestamp: first, value: 2 },
      { name: 'function_invocations', labels, timestamp: second, value: 0 },
      { name: 'function_concurrency', labels, timestamp: second, value: 0 },
    ]);
    clock.advance(MINUTE);
    expect(samples.length).toBe(4);
  });

  test('a forecast of load raises instances ahead, by its upper bound, and they go after it', async () => {
    const { clock, forecasts, instances } = await made();
    expect(await instances()).toBe(0);
    const interval = { level: 80, lower: 1, upper: 7 };
    forecasts.forecast(forecast(clock, 'function_concurrency', [{ value: 4 }, { value: 5, intervals: [interval] }]));
    // seven calls at once, seven tenths of one in an instance
    expect(await instances()).toBe(10);
    clock.advance(3 * MINUTE);
    expect(await instances()).toBeLessThan(10);
    await forecasts.stop();
  });

  test.each([
    ['a call within the time that a cold start is worth', { value: 1 / 60 / 200 }, {}, 1],
    ['a call too seldom', { value: 1 / 60 / 300 }, {}, 0],
    ['what is no better than last day', { value: 1, confidence: 0 }, {}, 0],
    ['what is too far ahead', { value: 1, timestamp: 1_000_000 * MINUTE + 20 * MINUTE }, {}, 0],
    ['another process', { value: 1 }, { labels: { entity: 'function:f', process: 'b' } }, 0],
    ['a function that is not there', { value: 1 }, { entity: 'function:g' }, 0],
    ['what is no function', { value: 1 }, { entity: 'f' }, 0],
    ['another metric', { value: 1 }, { name: 'cpu' }, 0],
  ])('of %s', async (_, point, more, expected) => {
    const { clock, forecasts, instances } = await made();
    forecasts.forecast(forecast(clock, 'function_invocations', [point], more));
    expect(await instances()).toBe(expected);
    await forecasts.stop();
  });

  test('a function that is not to be scaled by forecasts is left alone', async () => {
    const { clock, forecasts, instances } = await made({}, { scaling: { enablePredictiveScaling: false } });
    forecasts.forecast(forecast(clock, 'function_concurrency', [{ value: 4 }]));
    expect(await instances()).toBe(0);
    await forecasts.stop();
  });

  test('a timer finds its instance ready, also of a function that is optimised', async () => {
    let due = 0;
    const { clock, service, forecasts, instances } = await made({ nextRuns: () => new Map([['f', due]]) });
    service.enableColdStartOptimization('f');
    due = clock.now() + 5 * MINUTE;
    const seen: number[] = [];
    for (let second = 0; second < 300; second++) {
      clock.advance(1_000);
      seen.push(await instances());
    }
    expect(seen.indexOf(1)).toBe(289);
    const { cold } = await service.invoke('f', { trigger: 'timer', scheduledTime: '' });
    expect(cold).toBe(false);
    due += 60 * MINUTE;
    for (let second = 0; second < 120; second++) {
      clock.advance(1_000);
      await instances();
    }
    expect(await instances()).toBe(0);
    expect(service.keepAlive('f')).toEqual(expect.objectContaining({ prewarmMs: 0 }));
    await forecasts.stop();
  });
});
