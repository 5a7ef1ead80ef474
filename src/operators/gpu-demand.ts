import type { Clock } from '../clock.js';
import { encodeSamplesJson, type SampleRecord } from '../codec/encode.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';
import type { GpuDemandForecast, GpuForecaster } from '../gpu/preallocation.js';
import type { GpuEvent } from '../gpu/scheduler.js';
import type { ConnectionOptions } from '../kafka/client.js';
import type { Sink } from '../kafka/sink.js';
import type { ForecastRecord } from '../records.js';
import { followForecasts } from './forecast-topic.js';

/** GPUs that an owner was given anew in a step. */
const METRIC = 'gpu_requested';
/** Time between two values, ms. */
const STEP_MS = 60_000;
/** The bound of a forecast that demand is planned by, per cent: two-sided. */
const LEVEL = 80;
/** A forecast made so long ago says nothing any more, in its steps. */
const MAX_AGE_STEPS = 10;

export interface GpuDemandOptions {
  readonly connection: ConnectionOptions;
  readonly sink: Pick<Sink, 'write'>;
  /** Topics. */
  readonly metrics: string;
  readonly forecasts: string;
  /** Whose demand is measured. */
  readonly pairs: readonly { readonly owner: string; readonly model: string }[];
  /** Only who decides tells, so that nothing is counted twice. */
  readonly acting: () => boolean;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
}

export interface GpuDemand {
  observe(event: GpuEvent): void;
  readonly forecast: GpuForecaster;
  stop(): Promise<void>;
}

/** Demand for GPUs as a metric, and the forecasts that come of it. */
export function gpuDemand(options: GpuDemandOptions): GpuDemand {
  const { connection, sink, metrics, forecasts, pairs, acting, clock, onError } = options;
  const asked = new Map<string, number>(pairs.map(({ owner, model }) => [keyOf(owner, model), 0]));
  const newest = new Map<string, ForecastRecord>();
  const publish = async (): Promise<void> => {
    const now = clock.now();
    const samples = pairs.map(({ owner, model }): SampleRecord => {
      const value = asked.get(keyOf(owner, model))!;
      asked.set(keyOf(owner, model), 0);
      return { name: METRIC, labels: { entity: `gpus:${owner}`, owner, model }, timestamp: now, value };
    });
    if (!acting()) return;
    await sink.write(
      metrics,
      samples.map((sample) => ({ key: sample.labels.entity!, value: encodeSamplesJson([sample]) })),
    );
  };
  let publishing: Promise<void> = Promise.resolve();
  const stopPublishing = clock.every(STEP_MS, () => {
    publishing = publish().catch(onError);
  });
  const take = (record: ForecastRecord): void => {
    const { owner, model } = record.labels;
    if (record.name !== METRIC || owner === undefined || model === undefined) return;
    const key = keyOf(owner, model);
    if (asked.has(key)) newest.set(key, record);
  };
  const following = followForecasts(connection, forecasts, take, onError);
  return {
    observe({ type, record }) {
      if (type !== 'allocated' || record?.kind !== 'allocation') return;
      const { model } = JSON.parse(record.request) as GpuRequest;
      const key = keyOf(record.owner, model ?? '');
      const so = asked.get(key);
      if (so !== undefined) asked.set(key, so + record.holdings.length);
    },
    forecast(owner, model, horizonMs) {
      const record = newest.get(keyOf(owner, model));
      if (!record || clock.now() - record.madeAt > MAX_AGE_STEPS * record.stepMs) return undefined;
      return demandOver(record, horizonMs);
    },
    async stop() {
      stopPublishing();
      await Promise.all([publishing, following.stop()]);
    },
  };
}

/**
 * What is expected in all over a time, of a forecast step by step: the mean of its points up to then, as often as there are steps; errors of steps count as independent of each other.
 */
export function demandOver({ points, stepMs }: ForecastRecord, horizonMs: number): GpuDemandForecast | undefined {
  const within = points.filter(({ horizonMs: ahead }) => ahead <= horizonMs);
  const used = within.length > 0 ? within : points.slice(0, 1);
  if (used.length === 0) return undefined;
  const steps = horizonMs / stepMs;
  let value = 0;
  let variance = 0;
  for (const point of used) {
    const interval = point.intervals.find(({ level }) => level >= LEVEL);
    if (!interval) return undefined;
    value += Math.max(0, point.value) / used.length;
    variance += Math.max(0, interval.upper - point.value) ** 2 / used.length;
  }
  const level = used[0]!.intervals.find((interval) => interval.level >= LEVEL)!.level;
  // half of what is outside a two-sided interval is above it
  return {
    horizonMs,
    value: value * steps,
    upper: value * steps + Math.sqrt(variance * steps),
    level: 0.5 + level / 200,
  };
}

function keyOf(owner: string, model: string): string {
  return JSON.stringify([owner, model]);
}
