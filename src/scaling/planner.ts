import { type DecisionRecord, type ForecastPoint, type ForecastRecord, hash64 } from '../records.js';
import type { Stateful, StateReader, StateWriter } from '../state.js';
import { desiredForRatio, ScalingLimiter } from './hpa.js';
import type { ScalingPolicy } from './policy.js';

interface Predicted {
  readonly instances: number;
  readonly value: number;
  readonly horizonMs: number;
  readonly quantile: number;
  readonly confidence: number;
}

/**
 * Decides for one policy. The reactive rule on the current value is always the lower bound; the forecast's upper quantile at the start-up
 * horizon only raises the floor early, and only while it is trusted; scale-in follows real demand. A dry run follows its own decisions, so
 * that it shows what would have been. Cost: O(recommendations in the window).
 */
export class Planner implements Stateful {
  private current: number;
  private readonly limiter: ScalingLimiter;
  private newest: Pick<ForecastRecord, 'madeAt' | 'points'> | undefined;

  constructor(readonly policy: ScalingPolicy) {
    this.current = Math.min(policy.max, Math.max(policy.min, policy.initial));
    this.limiter = new ScalingLimiter(policy.behaviour);
  }

  /** Takes a forecast of the policy's metric; the newest one counts. */
  forecast({ madeAt, points }: Pick<ForecastRecord, 'madeAt' | 'points'>): void {
    this.newest = { madeAt, points };
  }

  /** Decides on the current value of the metric; null when nothing changes. */
  decide(timestamp: number, value: number): DecisionRecord | null {
    const { min, max, targetPerInstance, minConfidence, name, entity, dryRun } = this.policy;
    const current = this.current;
    const reactive =
      current > 0 ? desiredForRatio(current, value / current, targetPerInstance) : Math.ceil(value / targetPerInstance);
    const forecast = this.predicted(timestamp);
    const trusted = forecast !== undefined && forecast.confidence >= minConfidence;
    const wished = Math.min(max, Math.max(min, reactive, trusted ? forecast.instances : 0));
    const desired = this.limiter.limit(current, wished, timestamp);
    if (desired === current) return null;
    this.limiter.changed(current, desired, timestamp);
    this.current = desired;
    const reason = reasonFor(
      value,
      targetPerInstance,
      current,
      desired,
      reactive,
      trusted ? forecast : undefined,
      wished,
    );
    return {
      id: hash64(`${name}/${entity}/${timestamp}`),
      policy: name,
      entity,
      timestamp,
      current,
      desired,
      reactive: Math.min(max, Math.max(min, reactive)),
      predicted: forecast?.instances ?? null,
      horizonMs: forecast?.horizonMs ?? null,
      quantile: forecast?.quantile ?? null,
      confidence: forecast?.confidence ?? null,
      reason,
      dryRun,
    };
  }

  /** Instances wanted now. */
  get instances(): number {
    return this.current;
  }

  save(writer: StateWriter): void {
    writer.u32(this.current).text(this.newest ? JSON.stringify(this.newest) : '');
    this.limiter.save(writer);
  }

  restore(reader: StateReader): void {
    this.current = reader.u32();
    const newest = reader.text();
    this.newest = newest === '' ? undefined : (JSON.parse(newest) as typeof this.newest);
    this.limiter.restore(reader);
  }

  /**
   * What an instance started now would meet when it serves. Between two horizons the upper bound is interpolated; a forecast that does not
   * reach so far (short steps, or it has grown old) speaks with its last point, at most for twice its own reach.
   */
  private predicted(timestamp: number): Predicted | undefined {
    const last = this.newest?.points.at(-1);
    if (!this.newest || !last || timestamp > this.newest.madeAt + 2 * last.horizonMs) return undefined;
    const { points } = this.newest;
    const startupMs = this.policy.startupSeconds * 1000;
    const at = timestamp + startupMs;
    const next = points.findIndex((p) => p.timestamp >= at);
    const right = points[next] ?? last;
    const left = points[next - 1] ?? right;
    const share = right.timestamp > left.timestamp ? (at - left.timestamp) / (right.timestamp - left.timestamp) : 1;
    const [below, above] = [this.upper(left), this.upper(right)];
    const value = below.value + share * (above.value - below.value);
    return {
      instances: Math.ceil(Math.max(0, value) / this.policy.targetPerInstance),
      value,
      horizonMs: Math.min(startupMs, right.horizonMs),
      quantile: above.quantile,
      confidence: Math.min(left.confidence, right.confidence),
    };
  }

  /** The upper end of the bounds whose level is nearest to the policy's. */
  private upper({ value, intervals }: ForecastPoint): { value: number; quantile: number } {
    const [nearest] = [...intervals].sort(
      (a, b) => Math.abs(a.level - this.policy.level) - Math.abs(b.level - this.policy.level),
    );
    return nearest ? { value: nearest.upper, quantile: 0.5 + nearest.level / 200 } : { value, quantile: 0.5 };
  }
}

function reasonFor(
  value: number,
  target: number,
  current: number,
  desired: number,
  reactive: number,
  forecast: Predicted | undefined,
  wished: number,
): string {
  const short = (x: number): string => String(Number(x.toPrecision(3)));
  const each = current > 0 ? `${short(value / current)} each` : 'no instance';
  if (desired < current)
    return `demand is ${short(value)}, ${each}, under the target of ${short(target)}: ${wished} are enough and nobody asked for more in the window`;
  if (forecast && forecast.instances > reactive) {
    const minutes = Math.round(forecast.horizonMs / 60_000);
    const when = minutes >= 1 ? `${minutes} min` : `${forecast.horizonMs / 1000} s`;
    return `up to ${short(forecast.value)} is forecast in ${when} (quantile ${short(forecast.quantile)}, confidence ${forecast.confidence.toFixed(2)}): ${forecast.instances} will be needed, ${reactive} now`;
  }
  return `demand is ${short(value)}, ${each}, over the target of ${short(target)}: ${reactive} are needed`;
}
