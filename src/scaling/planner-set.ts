import { scalingLimits } from '../limits.js';
import type { DecisionRecord, ForecastRecord, Series } from '../records.js';
import { type Stateful, StateReader, type StateWriter } from '../state.js';
import { Planner } from './planner.js';
import type { ScalingPolicy } from './policy.js';

/** The planners of one series: one a policy that watches it, often none. */
export class SeriesPlanners implements Stateful {
  /** Time of the newest sample judged, ms. */
  private newest = Number.NEGATIVE_INFINITY;

  /** `forecasts` of the series in the order they were made, taken from as time comes to them. */
  constructor(
    private readonly planners: readonly Planner[],
    private readonly forecasts: ForecastRecord[],
  ) {}

  /**
   * Only forecasts that had been made at the sample's time count: a pipeline that is behind must not know what comes. A sample that is late,
   * or comes again, says nothing about now and decides nothing.
   */
  decide(timestamp: number, value: number): DecisionRecord[] {
    if (timestamp <= this.newest) return [];
    this.newest = timestamp;
    let known = 0;
    while (known < this.forecasts.length && this.forecasts[known]!.madeAt <= timestamp) known++;
    const newest = this.forecasts.splice(0, known).at(-1);
    if (newest) for (const planner of this.planners) planner.forecast(newest);
    return this.planners.flatMap((planner) => planner.decide(timestamp, value) ?? []);
  }

  /** What each policy wants now. */
  get wanted(): { readonly policy: ScalingPolicy; readonly instances: number }[] {
    return this.planners.map(({ policy, instances }) => ({ policy, instances }));
  }

  save(writer: StateWriter): void {
    writer.f64(this.newest).u32(this.planners.length);
    for (const planner of this.planners) {
      writer.text(planner.policy.name).nested((w) => planner.save(w));
    }
  }

  /** A policy that has gone is left out; one that is new begins at its initial count. */
  restore(reader: StateReader): void {
    this.newest = reader.f64();
    for (let n = reader.u32(); n > 0; n--) {
      const name = reader.text();
      const saved = new StateReader(reader.bytes());
      this.planners.find((p) => p.policy.name === name)?.restore(saved);
    }
  }
}

/** Makes planners for the series that policies watch, and keeps forecasts for them until their time has come. */
export class PlannerSet {
  private readonly forecasts = new Map<string, ForecastRecord[]>();

  constructor(private readonly policies: readonly ScalingPolicy[]) {}

  forSeries({ id, name, entity }: Series): SeriesPlanners {
    const watching = this.policies.filter((p) => p.metric === name && p.entity === entity);
    return new SeriesPlanners(
      watching.map((policy) => new Planner(policy)),
      this.waiting(id),
    );
  }

  /** A forecast that is not newer than the last of its series is left out, as is one that no policy asks for. */
  forecast(record: ForecastRecord): void {
    if (!this.policies.some((p) => p.metric === record.name && p.entity === record.entity)) return;
    const waiting = this.waiting(record.series);
    const last = waiting.at(-1);
    if (last && record.madeAt <= last.madeAt) return;
    waiting.push(record);
    if (waiting.length > scalingLimits.maxWaitingForecasts) waiting.shift();
  }

  private waiting(series: string): ForecastRecord[] {
    let waiting = this.forecasts.get(series);
    if (!waiting) {
      waiting = [];
      this.forecasts.set(series, waiting);
    }
    return waiting;
  }
}
