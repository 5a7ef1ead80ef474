/**
 * What a replay is judged by: the error of forecasts at each horizon beside seasonal and plain naive, the coverage of their bounds, and
 * what scaling would have done to a service that carried the trace's load. Pure: records and numbers in, figures out.
 */
import type { DecisionRecord, ForecastRecord } from '../records.js';
import { Planner } from '../scaling/planner.js';
import type { ScalingPolicy } from '../scaling/policy.js';
import { onGrid, type TraceSeries } from './trace.js';

const DAY_MS = 86_400_000;

export interface HorizonScore {
  /** Steps ahead, as forecasts count them. */
  readonly horizonSteps: number;
  readonly forecasts: number;
  /** Mean absolute errors over the same forecasts; of several series in units of each one's plain naive error. */
  readonly error: number;
  /** The value one day before; NaN where no forecast has a day before it. */
  readonly seasonalNaiveError: number;
  /** The newest value known when the forecast was made. */
  readonly naiveError: number;
  /** Share of values within the bounds, by level in per cent. */
  readonly coverage: ReadonlyMap<number, number>;
}

interface Sums {
  count: number;
  error: number;
  naive: number;
  /** Over forecasts that have a value one day before. */
  seasonalCount: number;
  seasonal: number;
  bounded: Map<number, { within: number; of: number }>;
}

/** Takes forecasts in any order and holds them against what came. Cost: the trace once more, and O(1) a forecast. */
export class ForecastScore {
  private readonly actual: Map<string, Map<number, Map<number, number>>> = new Map();
  private readonly bySeries = new Map<string, TraceSeries>();
  private readonly sums = new Map<string, Map<number, Sums>>();

  /** Forecasts for times before `fromMs` are not judged: models are still learning. */
  constructor(
    trace: readonly TraceSeries[],
    private readonly fromMs: number,
  ) {
    for (const one of trace) this.bySeries.set(one.series.id, one);
  }

  add({ series, madeAt, stepMs, points }: ForecastRecord): void {
    const actual = this.stepsOf(series, stepMs);
    if (!actual) return;
    const known = actual.get(Math.round(madeAt / stepMs) - 1);
    for (const point of points) {
      const step = Math.round(point.timestamp / stepMs);
      const value = actual.get(step);
      if (point.timestamp < this.fromMs || value === undefined || known === undefined) continue;
      const sums = this.sumsOf(series, Math.round(point.horizonMs / stepMs));
      const error = Math.abs(value - point.value);
      sums.count++;
      sums.error += error;
      sums.naive += Math.abs(value - known);
      const dayBefore = actual.get(step - Math.round(DAY_MS / stepMs));
      if (dayBefore !== undefined) {
        sums.seasonalCount++;
        sums.seasonal += Math.abs(value - dayBefore);
      }
      for (const { level, lower, upper } of point.intervals) {
        const bounded = sums.bounded.get(level) ?? { within: 0, of: 0 };
        bounded.of++;
        if (value >= lower && value <= upper) bounded.within++;
        sums.bounded.set(level, bounded);
      }
    }
  }

  /** By horizon, shortest first. One series in its own unit; of several, the means over series of error relative to plain naive. */
  result(): HorizonScore[] {
    const horizons = [...new Set([...this.sums.values()].flatMap((h) => [...h.keys()]))].sort((a, b) => a - b);
    return horizons.map((horizonSteps) => {
      const all = [...this.sums.values()].flatMap((h) => h.get(horizonSteps) ?? []);
      const used = all.length === 1 ? all : all.filter((s) => s.naive > 0);
      const unit = (s: Sums): number => (all.length === 1 ? 1 : s.naive / s.count);
      const seasonal = used.filter((s) => s.seasonalCount > 0);
      const levels = [...new Set(all.flatMap((s) => [...s.bounded.keys()]))].sort((a, b) => a - b);
      return {
        horizonSteps,
        forecasts: all.reduce((sum, s) => sum + s.count, 0),
        error: mean(used.map((s) => s.error / s.count / unit(s))),
        seasonalNaiveError: mean(seasonal.map((s) => s.seasonal / s.seasonalCount / unit(s))),
        naiveError: mean(used.map((s) => s.naive / s.count / unit(s))),
        coverage: new Map(
          levels.map((level) => {
            const bounded = all.flatMap((s) => s.bounded.get(level) ?? []);
            return [level, bounded.reduce((n, b) => n + b.within, 0) / bounded.reduce((n, b) => n + b.of, 0)];
          }),
        ),
      };
    });
  }

  /** Values by number of the step that a forecaster's grid gives them. */
  private stepsOf(id: string, stepMs: number): Map<number, number> | undefined {
    const trace = this.bySeries.get(id);
    if (!trace) return undefined;
    const byStep = this.actual.get(id) ?? new Map<number, Map<number, number>>();
    this.actual.set(id, byStep);
    let steps = byStep.get(stepMs);
    if (!steps) {
      const { timestamps, values } = onGrid(trace, stepMs);
      steps = new Map();
      for (let i = 0; i < timestamps.length; i++) steps.set(Math.round(timestamps[i]! / stepMs) - 1, values[i]!);
      byStep.set(stepMs, steps);
    }
    return steps;
  }

  private sumsOf(series: string, horizon: number): Sums {
    const byHorizon = this.sums.get(series) ?? new Map<number, Sums>();
    this.sums.set(series, byHorizon);
    let sums = byHorizon.get(horizon);
    if (!sums) {
      sums = { count: 0, error: 0, naive: 0, seasonalCount: 0, seasonal: 0, bounded: new Map() };
      byHorizon.set(horizon, sums);
    }
    return sums;
  }
}

export interface InstanceChange {
  readonly timestamp: number;
  readonly instances: number;
}

export interface ScalingOutcome {
  /** Work that came while too few instances served, of all work, 0–1. There is no queue: it is lost. */
  readonly unserved: number;
  /** Share of time with too few instances. */
  readonly shortTime: number;
  /** Instances paid for, starting ones included, mean over time. */
  readonly meanInstances: number;
  readonly actions: number;
}

export interface ServiceModel {
  /** Load that one instance carries at full use, in the trace's unit. */
  readonly capacity: number;
  /** ms from a decision until a new instance serves. */
  readonly startupMs: number;
  readonly initial: number;
  /** What comes before is played but not counted, ms. */
  readonly fromMs: number;
}

/**
 * Plays changes of a service's size against a load. Fluid model without a queue: in each interval between two samples work = load × time
 * arrives, instances that serve carry `capacity` × time of it, the rest is lost. A new instance serves `startupMs` after its decision;
 * scale-in takes the youngest at once.
 * The sample at a time is the mean load since the sample before; gaps of more than twice the usual interval are left out. Cost: O(samples ×
 * instances).
 */
export function playScaling(
  load: TraceSeries,
  changes: readonly InstanceChange[],
  model: ServiceModel,
): ScalingOutcome {
  const { capacity, startupMs, initial, fromMs } = model;
  const { timestamps, values } = load;
  const usual = medianGap(timestamps);
  /** When each instance begins to serve, oldest first. */
  const serving = Array.from({ length: initial }, () => Number.NEGATIVE_INFINITY);
  let [work, lost, short, time, paid, actions, next] = [0, 0, 0, 0, 0, 0, 0];
  for (let i = 1; i < timestamps.length; i++) {
    const [begin, end] = [timestamps[i - 1]!, timestamps[i]!];
    for (; next < changes.length && changes[next]!.timestamp <= begin; next++) {
      const { timestamp, instances } = changes[next]!;
      while (serving.length < instances) serving.push(timestamp + startupMs);
      serving.length = instances;
      if (timestamp >= fromMs) actions++;
    }
    if (begin < fromMs || end - begin > 2 * usual) continue;
    const cuts = [begin, ...serving.filter((at) => at > begin && at < end), end].sort((a, b) => a - b);
    for (let c = 1; c < cuts.length; c++) {
      const [from, to] = [cuts[c - 1]!, cuts[c]!];
      const carried = capacity * serving.filter((at) => at <= from).length;
      const missing = Math.max(0, values[i]! - carried);
      lost += missing * (to - from);
      if (missing > 0) short += to - from;
    }
    work += values[i]! * (end - begin);
    paid += serving.length * (end - begin);
    time += end - begin;
  }
  return { unserved: lost / work, shortTime: short / time, meanInstances: paid / time, actions };
}

export const changesOf = (decisions: readonly DecisionRecord[]): InstanceChange[] =>
  decisions
    .map(({ timestamp, desired }) => ({ timestamp, instances: desired }))
    .sort((a, b) => a.timestamp - b.timestamp);

/** What the same rule does without forecasts: plain horizontal pod autoscaling, evaluated at every sample. */
export function reactiveChanges(load: TraceSeries, policy: ScalingPolicy): InstanceChange[] {
  return planned(load, new Planner(policy));
}

/**
 * The target at which the rule without forecasts pays for `meanInstances` over time: what the instances that a forecast costs would have
 * brought when simply kept running.
 * By bisection; cost: twelve plays.
 */
export function reactiveTargetFor(
  load: TraceSeries,
  policy: ScalingPolicy,
  model: ServiceModel,
  meanInstances: number,
): number {
  let [low, high] = [policy.targetPerInstance / 8, policy.targetPerInstance * 2];
  for (let i = 0; i < 12; i++) {
    const targetPerInstance = Math.sqrt(low * high);
    const outcome = playScaling(load, reactiveChanges(load, { ...policy, targetPerInstance }), model);
    if (outcome.meanInstances > meanInstances) low = targetPerInstance;
    else high = targetPerInstance;
  }
  return Math.sqrt(low * high);
}

/**
 * What it would do with a perfect forecast of the largest load until an instance started now serves and the next decision is due: the bound
 * of what forecasts can give.
 */
export function foresightChanges(load: TraceSeries, policy: ScalingPolicy): InstanceChange[] {
  const { timestamps, values } = load;
  const startupMs = policy.startupSeconds * 1000;
  const stepMs = medianGap(timestamps);
  const planner = new Planner({ ...policy, minConfidence: 0 });
  return planned(load, planner, (i) => {
    const now = timestamps[i]!;
    let most = values[i]!;
    for (let j = i + 1; j < timestamps.length && timestamps[j]! <= now + startupMs + stepMs; j++)
      most = Math.max(most, values[j]!);
    const timestamp = now + startupMs;
    planner.forecast({
      madeAt: now,
      points: [{ horizonMs: startupMs, timestamp, value: most, intervals: [], confidence: 1 }],
    });
  });
}

function planned(
  { timestamps, values }: TraceSeries,
  planner: Planner,
  before?: (i: number) => void,
): InstanceChange[] {
  const changes: InstanceChange[] = [];
  for (let i = 0; i < timestamps.length; i++) {
    before?.(i);
    const decision = planner.decide(timestamps[i]!, values[i]!);
    if (decision) changes.push({ timestamp: decision.timestamp, instances: decision.desired });
  }
  return changes;
}

/** The value below which a share of the values lies. */
export function quantileOf(values: Float64Array, share: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

/** The median time between samples, ms; 0 for fewer than two. */
export function medianGap(timestamps: Float64Array): number {
  const gaps = new Float64Array(Math.max(0, timestamps.length - 1));
  for (let i = 0; i < gaps.length; i++) gaps[i] = timestamps[i + 1]! - timestamps[i]!;
  return gaps.length === 0 ? 0 : quantileOf(gaps, 0.5);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, v) => sum + v, 0) / values.length;
}
