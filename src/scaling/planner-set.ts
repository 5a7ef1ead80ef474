import type { DecisionRecord, ForecastRecord, Series } from '../records.js';
import { type Stateful, StateReader, type StateWriter } from '../state.js';
import { Planner } from './planner.js';
import type { ScalingPolicy } from './policy.js';

/** The planners of one series: one a policy that watches it, often none. */
export class SeriesPlanners implements Stateful {
  constructor(private readonly planners: readonly Planner[]) {}

  forecast(record: ForecastRecord): void {
    for (const planner of this.planners) planner.forecast(record);
  }

  decide(timestamp: number, value: number): DecisionRecord[] {
    return this.planners.flatMap((planner) => planner.decide(timestamp, value) ?? []);
  }

  save(writer: StateWriter): void {
    writer.u32(this.planners.length);
    for (const planner of this.planners) {
      writer.text(planner.policy.name).nested((w) => planner.save(w));
    }
  }

  /** A policy that has gone is left out; one that is new begins at its initial count. */
  restore(reader: StateReader): void {
    for (let n = reader.u32(); n > 0; n--) {
      const name = reader.text();
      const saved = new StateReader(reader.bytes());
      this.planners.find((p) => p.policy.name === name)?.restore(saved);
    }
  }
}

/** Makes planners for the series that policies watch, and hands forecasts to them. */
export class PlannerSet {
  private readonly bySeries = new Map<string, SeriesPlanners>();

  constructor(private readonly policies: readonly ScalingPolicy[]) {}

  forSeries(series: Series): SeriesPlanners {
    const watching = this.policies.filter((p) => p.metric === series.name && p.entity === series.entity);
    const planners = new SeriesPlanners(watching.map((policy) => new Planner(policy)));
    if (watching.length > 0) this.bySeries.set(series.id, planners);
    return planners;
  }

  forecast(record: ForecastRecord): void {
    this.bySeries.get(record.series)?.forecast(record);
  }
}
