import { type AnomalyRecord, hash64, type Series } from '../records.js';
import { type Stateful, StateReader, type StateWriter } from '../state.js';
import { matchesRule, type Rule, RuleWatch } from './rule.js';
import { SeriesDetector, type SeriesDetectorOptions } from './series-detector.js';

export interface SeriesWatchOptions extends SeriesDetectorOptions {
  readonly rules?: readonly Rule[];
}

/** A series is missing when nothing came for this many of its usual gaps, and at least for `SILENT_AT_LEAST_MS`. */
const SILENT_GAPS = 10;
const SILENT_AT_LEAST_MS = 30_000;
/** Arrivals apart from each other before it is known how a series comes; what arrives in one go has no usual gap. */
const KNOWN_ARRIVALS = 10;
const APART_MS = 50;
const GAP_WEIGHT = 0.1;

/**
 * All that is watched of one series in a stream: its detectors, the user's rules, counters' resets, and whether it still comes. A counter (its name ends in `_total`) is judged by its
 * increase, so that a reset to zero is no anomaly. Late and repeated samples say nothing about now and are left out. Cost: the detectors', and O(1) a rule.
 */
export class SeriesWatch implements Stateful {
  private readonly detector: SeriesDetector;
  private readonly rules: RuleWatch[];
  private readonly isCounter: boolean;
  private counter = Number.NaN;
  /** Wall time of the last sample and usual gap between samples, ms; how they come, not what they say. */
  private arrivedAt = Number.NaN;
  private gap = Number.NaN;
  private arrivals = 0;
  private missingSince = Number.NaN;

  constructor(
    private readonly series: Series,
    options: SeriesWatchOptions = {},
  ) {
    this.detector = new SeriesDetector(series, options);
    this.rules = (options.rules ?? [])
      .filter((rule) => matchesRule(rule.pattern, series.name))
      .map((rule) => new RuleWatch(series, rule));
    this.isCounter = series.name.endsWith('_total');
  }

  /** Judges and learns a sample that arrived at `nowMs`; what is to be published goes to `publish`. */
  observe(timestamp: number, value: number, nowMs: number, publish: (record: AnomalyRecord) => void): void {
    this.arrive(nowMs, publish);
    if (timestamp <= this.detector.newest) return;
    for (const rule of this.rules) {
      const record = rule.observe(timestamp, value);
      if (record) publish(record);
    }
    const { event } = this.detector.observe(timestamp, this.isCounter ? this.increase(value) : value);
    if (event) publish(event);
  }

  /** Call now and then: says once when the series has stopped. */
  checkSilence(nowMs: number): AnomalyRecord | null {
    const silence = nowMs - this.arrivedAt;
    if (this.arrivals < KNOWN_ARRIVALS || !Number.isNaN(this.missingSince)) return null;
    if (!(silence > Math.max(SILENT_AT_LEAST_MS, SILENT_GAPS * this.gap))) return null;
    this.missingSince = this.arrivedAt;
    return this.missing('open', nowMs);
  }

  save(writer: StateWriter): void {
    this.detector.save(writer);
    writer
      .f64(this.counter)
      .f64(this.arrivedAt)
      .f64(this.gap)
      .f64(this.missingSince)
      .u32(this.arrivals)
      .u32(this.rules.length);
    for (const rule of this.rules) writer.text(rule.rule.name).nested((w) => rule.save(w));
  }

  /** Rules that have gone are left out, new ones begin. */
  restore(reader: StateReader): void {
    this.detector.restore(reader);
    this.counter = reader.f64();
    this.arrivedAt = reader.f64();
    this.gap = reader.f64();
    this.missingSince = reader.f64();
    this.arrivals = reader.u32();
    for (let n = reader.u32(); n > 0; n--) {
      const name = reader.text();
      const saved = new StateReader(reader.bytes());
      this.rules.find((one) => one.rule.name === name)?.restore(saved);
    }
  }

  private arrive(nowMs: number, publish: (record: AnomalyRecord) => void): void {
    if (!Number.isNaN(this.missingSince)) {
      publish(this.missing('resolved', nowMs));
      this.missingSince = Number.NaN;
    } else if (nowMs - this.arrivedAt >= APART_MS) {
      // a pause of this process says nothing about the series
      const gap = Math.min(
        nowMs - this.arrivedAt,
        Number.isNaN(this.gap) ? Number.POSITIVE_INFINITY : SILENT_GAPS * this.gap,
      );
      this.gap = Number.isNaN(this.gap) ? gap : this.gap + GAP_WEIGHT * (gap - this.gap);
      this.arrivals++;
    }
    this.arrivedAt = nowMs;
  }

  /** NaN for the first value: nothing is known of its increase. */
  private increase(value: number): number {
    const before = this.counter;
    this.counter = value;
    if (Number.isNaN(before)) return Number.NaN;
    // after a reset the counter has counted from zero
    return value >= before ? value - before : value;
  }

  private missing(state: 'open' | 'resolved', nowMs: number): AnomalyRecord {
    const { id, name, labels, entity } = this.series;
    const seconds = Math.round((nowMs - this.missingSince) / 1000);
    return {
      id: hash64(`${id}/missing/${this.missingSince}`),
      state,
      series: id,
      name,
      labels,
      entity,
      type: 'missing',
      severity: 'warning',
      detectors: ['silence'],
      openedAt: this.missingSince,
      updatedAt: nowMs,
      resolvedAt: state === 'resolved' ? nowMs : null,
      value: seconds,
      expected: Math.round(this.gap) / 1000,
      lower: 0,
      upper: Math.max(SILENT_AT_LEAST_MS, SILENT_GAPS * this.gap) / 1000,
      score: 12,
      confidence: 1,
      reason:
        state === 'open'
          ? `nothing came for ${seconds} s, usually there is a sample every ${Number((this.gap / 1000).toPrecision(2))} s`
          : 'samples come again',
      recommendation: state === 'open' ? `check ${entity} and what sends ${name}` : '',
    };
  }
}
