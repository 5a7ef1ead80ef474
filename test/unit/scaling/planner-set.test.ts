import { describe, expect, it } from 'vitest';
import { type ForecastRecord, makeSeries } from '../../../src/records.js';
import { PlannerSet } from '../../../src/scaling/planner-set.js';
import { policySchema } from '../../../src/scaling/policy.js';
import { StateReader, StateWriter } from '../../../src/state.js';

const series = makeSeries('rps', { service: 'shop' });
const policy = policySchema.parse({
  name: 'p',
  entity: 'shop',
  metric: 'rps',
  targetPerInstance: 50,
  max: 20,
  initial: 2,
  startupSeconds: 300,
});

function forecast(madeAt: number, uppers: readonly number[], confidence = 0.5): ForecastRecord {
  const { id, name, labels, entity } = series;
  const points = uppers.map((upper, i) => ({
    horizonMs: (i + 1) * 300_000,
    timestamp: madeAt + (i + 1) * 300_000,
    value: 0,
    intervals: [{ level: 80, lower: 0, upper }],
    confidence,
  }));
  return { id: String(madeAt), series: id, name, labels, entity, model: 'm', madeAt, stepMs: 60_000, points };
}

it('a sample that is late or comes again decides nothing, after a restart neither', () => {
  const planners = new PlannerSet([policy]).forSeries(series);
  expect(planners.decide(60_000, 100)).toEqual([]);
  expect(planners.decide(30_000, 1000)).toEqual([]);
  expect(planners.decide(60_000, 1000)).toEqual([]);
  const writer = new StateWriter();
  planners.save(writer);
  const back = new PlannerSet([policy]).forSeries(series);
  back.restore(new StateReader(writer.finish()));
  expect(back.decide(60_000, 1000)).toEqual([]);
  expect(back.decide(60_001, 1000)).toMatchObject([{ current: 2, timestamp: 60_001 }]);
});

describe('forecasts beside metrics', () => {
  it('count only from the time they were made, however early they arrive', () => {
    const set = new PlannerSet([policy]);
    // before the series has been seen, and before its time
    set.forecast(forecast(0, [100]));
    set.forecast(forecast(600_000, [290]));
    const planners = set.forSeries(series);
    expect(planners.decide(599_999, 100)).toEqual([]);
    expect(planners.decide(600_000, 100)).toMatchObject([{ current: 2, desired: 6, predicted: 6 }]);
  });

  it('leave out repeated ones and those of series without a policy', () => {
    const set = new PlannerSet([policy]);
    const planners = set.forSeries(series);
    set.forecast(forecast(1000, [290]));
    set.forecast(forecast(1000, [1000]));
    set.forecast({ ...forecast(2000, [1000]), entity: 'other' });
    expect(planners.decide(3000, 100)).toMatchObject([{ desired: 6 }]);
  });

  it('are read at the time an instance started now would serve, between two horizons in proportion', () => {
    const set = new PlannerSet([policy]);
    const planners = set.forSeries(series);
    set.forecast(forecast(0, [100, 400]));
    // 300 s after minute 2 lies two fifths of the way from the first to the second horizon: 220
    expect(planners.decide(120_000, 100)).toMatchObject([{ desired: 5, predicted: 5, horizonMs: 300_000 }]);
    expect(planners.decide(300_000, 100)).toMatchObject([{ desired: 8, predicted: 8 }]);
  });
});
