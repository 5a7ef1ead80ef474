import type { Clock } from '../clock.js';
import { encodeSamplesJson, type SampleRecord } from '../codec/encode.js';
import { IguanaError } from '../errors.js';
import type { FunctionService } from '../functions/function-service.js';
import type { ConnectionOptions } from '../kafka/client.js';
import type { Sink } from '../kafka/sink.js';
import { prewarmLimits } from '../limits.js';
import type { ForecastRecord, Labels } from '../records.js';
import { followForecasts } from './forecast-topic.js';

/** Calls a second, and calls at once, of a function in a process: means over a step. */
const RATE = 'function_invocations';
const CONCURRENCY = 'function_concurrency';
/** Forecasts less sure than this are no better than last day's value, and wake nothing. */
const MIN_CONFIDENCE = 0.05;
/** Bound of the forecast concurrency that instances are made ready for, per cent. */
const LEVEL = 80;
/** Any load that is one instance's. */
const ONE_INSTANCE = 1e-6;
const MINUTE_MS = 60_000;

export interface InvocationForecastOptions {
  readonly service: Pick<FunctionService, 'list' | 'metrics' | 'expectLoad'>;
  readonly clock: Clock;
  /** Takes the measured rates to where metrics are forecast. */
  readonly publish: (samples: readonly SampleRecord[]) => Promise<void>;
  /** Names the process where several share the work: each has its own rates and its own instances. The same after a restart. Default: none. */
  readonly process?: string;
  /** When timers are due, as `TimerTriggers` says. */
  readonly nextRuns?: () => ReadonlyMap<string, number>;
  /** Minutes for which an instance may be idle to save one cold start (default 240): a forecast of a call in that time keeps one warm. */
  readonly coldStartWorthMinutes?: number;
  readonly onError?: (error: unknown) => void;
}

export interface InvocationForecasts {
  /** Takes a forecast of any series; those of this process's functions raise their instances ahead of the load. */
  forecast(record: ForecastRecord): void;
  stop(): Promise<void>;
}

/**
 * Has instances ready before they are called: measures how often each function is called and how many calls it has at once, follows the forecasts made of
 * that, and knows when timers are due. Functions with `enablePredictiveScaling: false` are measured, and left alone.
 * Cost: two samples a function and minute.
 */
export function invocationForecasts(options: InvocationForecastOptions): InvocationForecasts {
  const { service, clock, publish, process, nextRuns, coldStartWorthMinutes = 240, onError } = options;
  const before = new Map<string, { readonly calls: number; readonly busyMs: number }>();
  let measuredAt = clock.now();
  const entityOf = (name: string): string => `function:${name}`;
  const labelsOf = (name: string): Labels => ({
    entity: entityOf(name),
    ...(process === undefined ? {} : { process }),
  });

  const measure = async (): Promise<void> => {
    const now = clock.now();
    const elapsed = now - measuredAt;
    measuredAt = now;
    const samples: SampleRecord[] = [];
    const names = new Set<string>();
    for (const { name } of service.list()) {
      names.add(name);
      const { totalInvocations: calls, successfulInvocations, averageDurationMs } = service.metrics(name);
      const busyMs = successfulInvocations * averageDurationMs;
      const last = before.get(name);
      before.set(name, { calls, busyMs });
      // of one that was deleted and deployed again counting begins anew
      if (!last || calls < last.calls) continue;
      const sample = (metric: string, value: number) =>
        samples.push({ name: metric, labels: labelsOf(name), timestamp: now, value: Math.max(0, value) });
      sample(RATE, (calls - last.calls) / (elapsed / 1000));
      sample(CONCURRENCY, (busyMs - last.busyMs) / elapsed);
    }
    for (const name of before.keys()) if (!names.has(name)) before.delete(name);
    if (samples.length > 0) await publish(samples);
  };

  const expect = (name: string, concurrency: number, until: number): void => {
    try {
      service.expectLoad(name, concurrency, until);
    } catch (error) {
      // it may have been deleted since
      if (!(error instanceof IguanaError && error.code === 'IGU_FUNCTION_NOT_FOUND')) throw error;
    }
  };

  const made = new Map<string, number>();
  const prewarmTimers = (): void => {
    const now = clock.now();
    for (const [name, at] of nextRuns?.() ?? []) {
      if (at - now > prewarmLimits.timerLeadMs || made.get(name) === at) continue;
      made.set(name, at);
      expect(name, ONE_INSTANCE, at + prewarmLimits.timerKeepMs);
    }
  };

  let underWay: Promise<void> = Promise.resolve();
  const stopMeasuring = clock.every(prewarmLimits.stepMs, () => {
    underWay = measure().catch((error) => onError?.(error));
  });
  const stopTimers = nextRuns ? clock.every(1_000, prewarmTimers) : undefined;
  return {
    forecast({ name: metric, labels, entity, points, stepMs }) {
      if ((metric !== RATE && metric !== CONCURRENCY) || labels.process !== process) return;
      const name = entity.startsWith('function:') ? entity.slice('function:'.length) : undefined;
      if (name === undefined) return;
      const now = clock.now();
      const near = points.filter(
        ({ timestamp }) => timestamp >= now - stepMs && timestamp <= now + prewarmLimits.aheadMs,
      );
      const sure = near.filter(({ confidence }) => confidence >= MIN_CONFIDENCE);
      const until = Math.max(0, ...sure.map(({ timestamp }) => timestamp + stepMs));
      if (metric === RATE) {
        const perMinute = Math.max(0, ...sure.map(({ value }) => (value * MINUTE_MS) / 1000));
        if (perMinute * coldStartWorthMinutes >= 1) expect(name, ONE_INSTANCE, until);
        return;
      }
      const most = Math.max(0, ...sure.map((point) => upperBound(point)));
      // less than one call at once says nothing of whether there is one: the rate does
      if (most >= 1) expect(name, most, until);
    },
    async stop() {
      stopMeasuring();
      stopTimers?.();
      await underWay;
    },
  };
}

function upperBound({ value, intervals }: ForecastRecord['points'][number]): number {
  return Math.max(value, intervals.find(({ level }) => level >= LEVEL)?.upper ?? value);
}

/** The same, with rates on a topic of metrics and forecasts from the topic of a forecasting pipeline. */
export function invocationForecastsOn(
  options: Omit<InvocationForecastOptions, 'publish'> & {
    readonly connection: ConnectionOptions;
    readonly sink: Sink;
    /** Topics. */
    readonly metrics: string;
    readonly forecasts: string;
  },
): InvocationForecasts {
  const { connection, sink, metrics, forecasts, onError, ...rest } = options;
  const publish = (samples: readonly SampleRecord[]): Promise<void> =>
    sink.write(
      metrics,
      samples.map((sample) => ({ key: sample.labels.entity ?? null, value: encodeSamplesJson([sample]) })),
    );
  const made = invocationForecasts({ ...rest, publish, ...(onError ? { onError } : {}) });
  const following = followForecasts(connection, forecasts, made.forecast, (error) => onError?.(error));
  return {
    forecast: made.forecast,
    async stop() {
      await Promise.all([made.stop(), following.stop()]);
    },
  };
}
