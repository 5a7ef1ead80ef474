import { z } from 'zod';
import { type AnomalyRecord, hash64, type Series } from '../records.js';
import type { Stateful, StateReader, StateWriter } from '../state.js';
import { wildcard } from '../wildcard.js';
import { recommendationFor } from './recommendation.js';

/** What the user holds to be anomalous: a value, or its change, beyond a bound for some time. At least one bound. */
export const ruleSchema = z
  .strictObject({
    name: z.string().min(1),
    /** Metric name; `*` stands for any characters. */
    pattern: z.string().min(1),
    /** Anomalous above this value. */
    above: z.number().optional(),
    /** Anomalous below this value. */
    below: z.number().optional(),
    /** Anomalous when it rises faster than this, per second. */
    risesFasterThan: z.number().positive().optional(),
    /** Anomalous when it falls faster than this, per second. */
    fallsFasterThan: z.number().positive().optional(),
    /** How long it has to hold before it counts, s. */
    forSeconds: z.number().min(0).default(0),
    severity: z.enum(['info', 'warning', 'critical']).default('warning'),
  })
  .refine(
    (rule) => [rule.above, rule.below, rule.risesFasterThan, rule.fallsFasterThan].some((bound) => bound !== undefined),
    {
      message: 'a rule needs above, below, risesFasterThan or fallsFasterThan',
    },
  );

export type Rule = z.infer<typeof ruleSchema>;

/** Whether a rule is about a metric. */
export function matchesRule(pattern: string, metric: string): boolean {
  return wildcard(pattern).test(metric);
}

/** One rule on one series: opens an episode when the rule has been broken for its time, resolves it when it holds again. Cost: O(1). */
export class RuleWatch implements Stateful {
  private brokenSince = Number.NaN;
  private openedAt = Number.NaN;
  private worst = 0;
  private limit = 0;
  private type: 'threshold' | 'rate-change' = 'threshold';
  private last = Number.NaN;
  private lastTime = 0;

  constructor(
    private readonly series: Series,
    readonly rule: Rule,
  ) {}

  /** Judges a value; what to publish, or null. Times ascend. */
  observe(timestamp: number, value: number): AnomalyRecord | null {
    const broken = this.breach(timestamp, value);
    this.last = value;
    this.lastTime = timestamp;
    if (broken === null) {
      this.brokenSince = Number.NaN;
      if (Number.isNaN(this.openedAt)) return null;
      const record = this.record('resolved', timestamp, this.worst, 'the rule holds again');
      this.openedAt = Number.NaN;
      return record;
    }
    if (Number.isNaN(this.brokenSince)) {
      this.brokenSince = timestamp;
      this.worst = value;
    }
    if (Math.abs(value - broken.limit) > Math.abs(this.worst - broken.limit)) this.worst = value;
    if (!Number.isNaN(this.openedAt) || timestamp - this.brokenSince < this.rule.forSeconds * 1000) return null;
    this.openedAt = timestamp;
    this.limit = broken.limit;
    this.type = broken.type;
    return this.record('open', timestamp, value, broken.reason);
  }

  save(writer: StateWriter): void {
    writer.f64(this.brokenSince).f64(this.openedAt).f64(this.worst).f64(this.last).f64(this.lastTime);
    writer.f64(this.limit).text(this.type);
  }

  restore(reader: StateReader): void {
    this.brokenSince = reader.f64();
    this.openedAt = reader.f64();
    this.worst = reader.f64();
    this.last = reader.f64();
    this.lastTime = reader.f64();
    this.limit = reader.f64();
    this.type = reader.text() === 'threshold' ? 'threshold' : 'rate-change';
  }

  private breach(
    timestamp: number,
    value: number,
  ): { reason: string; limit: number; type: 'threshold' | 'rate-change' } | null {
    const { name, above, below, risesFasterThan, fallsFasterThan } = this.rule;
    if (above !== undefined && value > above)
      return { reason: `rule ${name}: above ${above}`, limit: above, type: 'threshold' };
    if (below !== undefined && value < below)
      return { reason: `rule ${name}: below ${below}`, limit: below, type: 'threshold' };
    const seconds = (timestamp - this.lastTime) / 1000;
    if (!(seconds > 0) || Number.isNaN(this.last)) return null;
    const speed = (value - this.last) / seconds;
    const text = (bound: number): string =>
      `rule ${name}: ${Number(Math.abs(speed).toPrecision(3))} a second, the limit is ${bound}`;
    if (risesFasterThan !== undefined && speed > risesFasterThan)
      return { reason: `${text(risesFasterThan)} up`, limit: this.last, type: 'rate-change' };
    if (fallsFasterThan !== undefined && -speed > fallsFasterThan)
      return { reason: `${text(fallsFasterThan)} down`, limit: this.last, type: 'rate-change' };
    return null;
  }

  private record(state: 'open' | 'resolved', timestamp: number, value: number, reason: string): AnomalyRecord {
    const { id, name, labels, entity } = this.series;
    const { limit, type } = this;
    return {
      id: hash64(`${id}/rule/${this.rule.name}/${this.openedAt}`),
      state,
      series: id,
      name,
      labels,
      entity,
      type,
      severity: this.rule.severity,
      detectors: [`rule:${this.rule.name}`],
      openedAt: this.openedAt,
      updatedAt: timestamp,
      resolvedAt: state === 'resolved' ? timestamp : null,
      value,
      expected: limit,
      lower: this.rule.below ?? Math.min(limit, value),
      upper: this.rule.above ?? Math.max(limit, value),
      score: 12,
      confidence: 1,
      reason,
      recommendation: state === 'resolved' ? '' : recommendationFor(name, value > limit ? 'above' : 'below'),
    };
  }
}
