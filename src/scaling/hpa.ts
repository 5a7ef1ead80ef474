/**
 * The reactive rule of Kubernetes' Horizontal Pod Autoscaler (autoscaling/v2): desired = ⌈current × value / target⌉ outside of a tolerance,
 * then stabilisation windows, rate policies and bounds. Pure: time comes with each call. Source: Kubernetes documentation, "Horizontal Pod
 * Autoscaling", algorithm details.
 */
import type { Stateful, StateReader, StateWriter } from '../state.js';

export interface RatePolicy {
  readonly type: 'instances' | 'percent';
  readonly value: number;
  readonly periodSeconds: number;
}

export interface ScalingRules {
  /** The largest desired count of the window (for scale-in) or the smallest (for scale-out) counts, s. */
  readonly stabilizationWindowSeconds: number;
  readonly selectPolicy: 'max' | 'min' | 'disabled';
  readonly policies: readonly RatePolicy[];
}

export interface Behaviour {
  readonly scaleUp: ScalingRules;
  readonly scaleDown: ScalingRules;
}

/** Kubernetes' defaults: up at once, by 4 instances or 100 % in 15 s; down after 300 s, by 100 % in 15 s. */
export const defaultBehaviour: Behaviour = {
  scaleUp: {
    stabilizationWindowSeconds: 0,
    selectPolicy: 'max',
    policies: [
      { type: 'instances', value: 4, periodSeconds: 15 },
      { type: 'percent', value: 100, periodSeconds: 15 },
    ],
  },
  scaleDown: {
    stabilizationWindowSeconds: 300,
    selectPolicy: 'max',
    policies: [{ type: 'percent', value: 100, periodSeconds: 15 }],
  },
};

export const TOLERANCE = 0.1;

/** What the value alone asks for: ⌈current × value / target⌉, or current while the ratio is within the tolerance. `value` is per instance. */
export function desiredForRatio(
  current: number,
  valuePerInstance: number,
  target: number,
  tolerance = TOLERANCE,
): number {
  const ratio = valuePerInstance / target;
  if (Math.abs(ratio - 1) <= tolerance) return current;
  return Math.ceil(Number((current * ratio).toFixed(9)));
}

interface Event {
  readonly at: number;
  /** Instances added (positive) or removed (negative). */
  readonly change: number;
}

/** Remembers recommendations and changes of one service and bends a wish to what the behaviour allows now. */
export class ScalingLimiter implements Stateful {
  private recommendations: { at: number; desired: number }[] = [];
  private events: Event[] = [];

  constructor(private readonly behaviour: Behaviour = defaultBehaviour) {}

  /** What may be done at `nowMs` about a wish; call once an evaluation. */
  limit(current: number, wished: number, nowMs: number): number {
    const { scaleUp, scaleDown } = this.behaviour;
    const longest = Math.max(scaleUp.stabilizationWindowSeconds, scaleDown.stabilizationWindowSeconds) * 1000;
    this.recommendations = this.recommendations.filter((r) => r.at > nowMs - longest);
    const within = (seconds: number): number[] =>
      this.recommendations.filter((r) => r.at > nowMs - seconds * 1000).map((r) => r.desired);
    // a rise waits until the whole window asked for it, a fall until nobody in the window asked for more
    const up = Math.min(wished, ...within(scaleUp.stabilizationWindowSeconds));
    const down = Math.max(wished, ...within(scaleDown.stabilizationWindowSeconds));
    this.recommendations.push({ at: nowMs, desired: wished });
    let desired = current;
    if (desired < up) desired = up;
    if (desired > down) desired = down;
    if (desired > current) return Math.max(current, Math.min(desired, this.bound(current, scaleUp, nowMs, 1)));
    if (desired < current) return Math.min(current, Math.max(desired, this.bound(current, scaleDown, nowMs, -1)));
    return current;
  }

  /** Tells that a change was made (or would have been, in a dry run that follows its own decisions). */
  changed(from: number, to: number, nowMs: number): void {
    if (to !== from) this.events.push({ at: nowMs, change: to - from });
    this.events = this.events.filter((e) => e.at > nowMs - 3_600_000);
  }

  save(writer: StateWriter): void {
    writer.f64s(this.recommendations.flatMap((r) => [r.at, r.desired]));
    writer.f64s(this.events.flatMap((e) => [e.at, e.change]));
  }

  restore(reader: StateReader): void {
    this.recommendations = pairs(reader.f64s()).map(([at, desired]) => ({ at, desired }));
    this.events = pairs(reader.f64s()).map(([at, change]) => ({ at, change }));
  }

  private bound(current: number, rules: ScalingRules, nowMs: number, direction: 1 | -1): number {
    if (rules.selectPolicy === 'disabled') return current;
    const bounds = rules.policies.map(({ type, value, periodSeconds }) => {
      const recent = this.events.filter(
        (e) => e.at > nowMs - periodSeconds * 1000 && Math.sign(e.change) === direction,
      );
      const start = current - recent.reduce((sum, e) => sum + e.change, 0);
      if (type === 'instances') return start + direction * value;
      return direction > 0 ? Math.ceil(start * (1 + value / 100)) : Math.floor(start * (1 - value / 100));
    });
    if (bounds.length === 0) return direction > 0 ? Number.POSITIVE_INFINITY : 0;
    const most = rules.selectPolicy === 'max' ? direction > 0 : direction < 0;
    return most ? Math.max(...bounds) : Math.min(...bounds);
  }
}

function pairs(numbers: Float64Array): [number, number][] {
  return Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i]!, numbers[2 * i + 1]!]);
}
