import { type DecisionRecord, type ForecastRecord, hash64 } from '../records.js';
import type { Stateful, StateReader, StateWriter } from '../state.js';
import { desiredForRatio, ScalingLimiter } from './hpa.js';
import type { ScalingPolicy } from './policy.js';

interface Predicted {
  readonly instances: number;
  readonly value: number;
  readonly horizonMs: number;
  readonly quantile: number;
  readonly confidence: number;
  readonly until: number;
}

/**
 * Decides for one policy. The reactive rule on the current value is always the lower bound; the forecast's upper quantile at the start-up horizon only raises the floor early,
 * and only while it is trusted; scale-in follows real demand. A dry run follows its own decisions, so that it shows what would have been. Cost: O(recommendations in the window).
 */
export class Planner implements Stateful {
  private current: number;
  private readonly limiter: ScalingLimiter;
  private predicted: Predicted | undefined;

  constructor(readonly policy: ScalingPolicy) {
    this.current = Math.min(policy.max, Math.max(policy.min, policy.initial));
    this.limiter = new ScalingLimiter(policy.behaviour);
  }

  /** Takes a forecast of the policy's metric: the first horizon that covers the start-up time counts. */
  forecast(record: ForecastRecord): void {
    const horizonMs = this.policy.startupSeconds * 1000;
    const point = record.points.find((p) => p.horizonMs >= horizonMs) ?? record.points.at(-1);
    if (!point) return;
    const interval = point.intervals.reduce<(typeof point.intervals)[number] | undefined>(
      (best, one) =>
        best === undefined || Math.abs(one.level - this.policy.level) < Math.abs(best.level - this.policy.level)
          ? one
          : best,
      undefined,
    );
    const value = interval?.upper ?? point.value;
    this.predicted = {
      instances: Math.ceil(Math.max(0, value) / this.policy.targetPerInstance),
      value,
      horizonMs: point.horizonMs,
      quantile: interval ? 0.5 + interval.level / 200 : 0.5,
      confidence: point.confidence,
      // a forecast speaks for the time up to its horizon, and a little longer while the next one is on its way
      until: record.madeAt + 2 * point.horizonMs,
    };
  }

  /** Decides on the current value of the metric; null when nothing changes. */
  decide(timestamp: number, value: number): DecisionRecord | null {
    const { min, max, targetPerInstance, minConfidence, name, entity, dryRun } = this.policy;
    const current = this.current;
    const reactive =
      current > 0 ? desiredForRatio(current, value / current, targetPerInstance) : Math.ceil(value / targetPerInstance);
    const forecast = this.predicted && timestamp <= this.predicted.until ? this.predicted : undefined;
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
    writer.u32(this.current).text(this.predicted ? JSON.stringify(this.predicted) : '');
    this.limiter.save(writer);
  }

  restore(reader: StateReader): void {
    this.current = reader.u32();
    const predicted = reader.text();
    this.predicted = predicted === '' ? undefined : (JSON.parse(predicted) as Predicted);
    this.limiter.restore(reader);
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
