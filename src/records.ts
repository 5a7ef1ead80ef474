/** The records that travel on topics, and the columnar batch they travel in inside the process. Types only, save the interning table. */
import { createHash } from 'node:crypto';

export type Labels = Readonly<Record<string, string>>;

/** A metric name with labels. `id` is a 64-bit hash (16 hex digits) of the canonical form `name{k="v",…}` with sorted keys. */
export interface Series {
  readonly id: string;
  readonly name: string;
  readonly labels: Labels;
  /** What the series measures (service or instance): the Kafka key. */
  readonly entity: string;
  readonly canonical: string;
}

/**
 * Samples of one input batch, columnar: sample i is `(series[seriesIndex[i]], timestamps[i], values[i])`.
 * `length` samples are valid in each column; the arrays may be longer. Values are finite, times in range.
 */
export interface SampleBatch {
  readonly topic: string;
  readonly partition: number;
  /** Offset of the first and last Kafka message read (also when all of it was dead-lettered). */
  readonly firstOffset: bigint;
  readonly lastOffset: bigint;
  readonly length: number;
  /** Index of each sample's series in the process-wide `SeriesTable`. */
  readonly seriesIndex: Int32Array;
  /** ms since 1970, event time. */
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

export interface Interval {
  /** Per cent, e.g. 95. */
  readonly level: number;
  readonly lower: number;
  readonly upper: number;
}

/** One forecast of one series, made at one time for several horizons. Topic `forecasts`, key = entity. */
export interface ForecastRecord {
  /** Derived from series, madeAt: the same input gives the same id again. */
  readonly id: string;
  readonly series: string;
  readonly name: string;
  readonly labels: Labels;
  readonly entity: string;
  readonly model: string;
  /** Event time of the last sample used, ms. */
  readonly madeAt: number;
  /** Grid step of the series, ms. */
  readonly stepMs: number;
  readonly points: readonly ForecastPoint[];
}

export interface ForecastPoint {
  /** ms ahead of madeAt. */
  readonly horizonMs: number;
  readonly timestamp: number;
  readonly value: number;
  readonly intervals: readonly Interval[];
  /** 0 (no better than seasonal naive) to 1. */
  readonly confidence: number;
}

export type AnomalyType = 'statistical' | 'threshold' | 'rate-change' | 'pattern' | 'correlation' | 'missing';
export type Severity = 'info' | 'warning' | 'critical';

/** An episode on one series: the same id on open, update and resolve. Topic `anomalies`, key = entity. */
export interface AnomalyRecord {
  readonly id: string;
  readonly state: 'open' | 'update' | 'resolved';
  readonly series: string;
  readonly name: string;
  readonly labels: Labels;
  readonly entity: string;
  readonly type: AnomalyType;
  readonly severity: Severity;
  readonly detectors: readonly string[];
  readonly openedAt: number;
  readonly updatedAt: number;
  readonly resolvedAt: number | null;
  /** The most anomalous value so far and what was expected then. */
  readonly value: number;
  readonly expected: number;
  readonly lower: number;
  readonly upper: number;
  /** −log10 of the calibrated p-value. */
  readonly score: number;
  readonly confidence: number;
  readonly reason: string;
  readonly recommendation: string;
}

/** What scaling would change, or changed, and why. Topic `decisions`, key = entity. */
export interface DecisionRecord {
  readonly id: string;
  readonly policy: string;
  readonly entity: string;
  readonly timestamp: number;
  readonly current: number;
  readonly desired: number;
  /** What the reactive rule alone asks for. */
  readonly reactive: number;
  /** What the forecast alone asks for; null without a usable forecast. */
  readonly predicted: number | null;
  readonly horizonMs: number | null;
  readonly quantile: number | null;
  readonly confidence: number | null;
  readonly reason: string;
  readonly dryRun: boolean;
}

/** What was done about an anomaly, or would have been. Topic `actions`, key = entity. */
export interface ActionRecord {
  readonly id: string;
  readonly rule: string;
  /** Id of the episode that caused it. */
  readonly anomaly: string;
  readonly entity: string;
  readonly timestamp: number;
  readonly kind: 'restart' | 'scale' | 'alert' | 'webhook' | 'invoke';
  readonly parameters: Readonly<Record<string, string>>;
  readonly outcome: 'done' | 'failed' | 'skipped' | 'planned';
  readonly reason: string;
  readonly dryRun: boolean;
}

/** Canonical text of a name with labels: `name{a="1",b="2"}`, keys sorted, `name` alone without labels. */
export function canonicalSeries(name: string, labels: Labels): string {
  const keys = Object.keys(labels).sort();
  if (keys.length === 0) return name;
  return `${name}{${keys.map((k) => `${k}=${JSON.stringify(labels[k])}`).join(',')}}`;
}

/** The entity of a series: the first of the labels `entity`, `service`, `instance`, `host` that it has, else the metric name. */
export function entityOf(name: string, labels: Labels): string {
  return labels.entity ?? labels.service ?? labels.instance ?? labels.host ?? name;
}

export function makeSeries(name: string, labels: Labels, entity = entityOf(name, labels)): Series {
  const canonical = canonicalSeries(name, labels);
  return { id: hash64(canonical), name, labels, entity, canonical };
}

/** 64-bit hash as 16 hex digits: the first 8 bytes of SHA-256. Called once a series, never a sample. */
export function hash64(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** Gives every series of the process a small number, so that state lives in arrays. Grows only; bounded by its user. */
export class SeriesTable {
  private readonly byCanonical = new Map<string, number>();
  private readonly all: Series[] = [];

  get size(): number {
    return this.all.length;
  }

  intern(name: string, labels: Labels, entity?: string): number {
    const canonical = canonicalSeries(name, labels);
    const known = this.byCanonical.get(canonical);
    if (known !== undefined) return known;
    const index = this.all.length;
    this.all.push(makeSeries(name, labels, entity));
    this.byCanonical.set(canonical, index);
    return index;
  }

  /** The number of a series that is known, else −1; takes nothing in. */
  find(name: string, labels: Labels): number {
    return this.byCanonical.get(canonicalSeries(name, labels)) ?? -1;
  }

  get(index: number): Series {
    const series = this.all[index];
    if (!series) throw new RangeError(`no series ${index}`);
    return series;
  }
}
