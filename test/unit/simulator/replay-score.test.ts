import { describe, expect, it } from 'vitest';
import { type ForecastRecord, makeSeries } from '../../../src/records.js';
import { policySchema } from '../../../src/scaling/policy.js';
import {
  ForecastScore,
  foresightChanges,
  playScaling,
  quantileOf,
  reactiveChanges,
  reactiveTargetFor,
} from '../../../src/simulator/replay-score.js';
import type { TraceSeries } from '../../../src/simulator/trace.js';

const MINUTE = 60_000;
const series = makeSeries('requests', {});
const load = (values: readonly number[], stepMs = MINUTE): TraceSeries => ({
  series,
  timestamps: Float64Array.from(values, (_, i) => i * stepMs),
  values: Float64Array.from(values),
});

describe('forecast score', () => {
  const forecast = (
    madeAt: number,
    points: readonly [steps: number, value: number, half: number][],
  ): ForecastRecord => ({
    id: 'f',
    series: series.id,
    name: series.name,
    labels: {},
    entity: series.entity,
    model: 'm',
    madeAt,
    stepMs: MINUTE,
    points: points.map(([steps, value, half]) => ({
      horizonMs: steps * MINUTE,
      timestamp: madeAt + (steps - 1) * MINUTE,
      value,
      intervals: [{ level: 80, lower: value - half, upper: value + half }],
      confidence: 0.5,
    })),
  });

  it('compares with what came, with the newest value and with a day before', () => {
    const values = Array.from({ length: 3000 }, (_, i) => i);
    const score = new ForecastScore([load(values)], 0);
    // at minute 2000 the newest value that is over is 1999; one step ahead is minute 2000 itself
    score.add(
      forecast(2000 * MINUTE, [
        [1, 2003, 1],
        [5, 2002, 5],
      ]),
    );
    score.add(
      forecast(2001 * MINUTE, [
        [1, 2002, 1],
        [5, 2004, 5],
      ]),
    );
    const [one, five] = score.result();
    expect(one).toMatchObject({ horizonSteps: 1, forecasts: 2, error: 2, naiveError: 1, seasonalNaiveError: 1440 });
    expect(one!.coverage.get(80)).toBe(0.5);
    expect(five).toMatchObject({ horizonSteps: 5, forecasts: 2, error: 1.5, naiveError: 5, seasonalNaiveError: 1440 });
    expect(five!.coverage.get(80)).toBe(1);
  });

  it('leaves out times before the begin, times without a value and unknown series', () => {
    const score = new ForecastScore([load([1, 2, 3])], 2 * MINUTE);
    score.add(forecast(MINUTE, [[1, 2, 1]]));
    score.add(forecast(2 * MINUTE, [[5, 2, 1]]));
    score.add({ ...forecast(2 * MINUTE, [[1, 2, 1]]), series: 'other' });
    expect(score.result().reduce((n, h) => n + h.forecasts, 0)).toBe(0);
    score.add(forecast(2 * MINUTE, [[1, 5, 1]]));
    const [one] = score.result();
    expect(one).toMatchObject({ forecasts: 1, error: 2, naiveError: 1 });
    expect(one!.seasonalNaiveError).toBeNaN();
  });
});

describe('playing scaling', () => {
  const model = { capacity: 10, startupMs: 90_000, initial: 1, fromMs: 0 };

  it('loses what comes before a new instance serves, and pays for it from the decision on', () => {
    // 20 arrive a minute from the first to the fifth sample; the second instance is asked for at minute 1 and serves at 2.5
    const outcome = playScaling(load([20, 20, 20, 20, 20]), [{ timestamp: MINUTE, instances: 2 }], model);
    expect(outcome.unserved).toBeCloseTo((10 * 2.5) / (20 * 4), 12);
    expect(outcome.shortTime).toBeCloseTo(2.5 / 4, 12);
    expect(outcome.meanInstances).toBeCloseTo((1 + 2 * 3) / 4, 12);
    expect(outcome.actions).toBe(1);
  });

  it('takes the youngest instances at once, and leaves out gaps and what comes before the begin', () => {
    const changes = [
      { timestamp: 0, instances: 3 },
      { timestamp: MINUTE, instances: 1 },
    ];
    expect(playScaling(load([0, 10, 10, 10]), changes, model)).toMatchObject({ unserved: 0, actions: 2 });
    const gap = load([10, 10, 10, 10, 10]);
    gap.timestamps[4] = 100 * MINUTE;
    expect(playScaling(gap, [], model).meanInstances).toBe(1);
    expect(playScaling(load([0, 50, 10, 10]), [], { ...model, fromMs: MINUTE })).toMatchObject({
      unserved: 0,
      actions: 0,
    });
  });
});

describe('rules to compare with', () => {
  const policy = policySchema.parse({
    name: 'p',
    entity: 'requests',
    metric: 'requests',
    targetPerInstance: 7,
    initial: 2,
    startupSeconds: 180,
  });
  const jump = load(Array.from({ length: 600 }, (_, i) => (i % 60 < 30 ? 14 : 35)));
  const model = { capacity: 10, startupMs: 180_000, initial: 2, fromMs: 0 };

  it('reacts after a jump without, and before it with a perfect forecast, which then loses nothing', () => {
    const reactive = reactiveChanges(jump, policy);
    const foresight = foresightChanges(jump, policy);
    expect(reactive[0]).toEqual({ timestamp: 30 * MINUTE, instances: 5 });
    expect(foresight[0]).toEqual({ timestamp: 26 * MINUTE, instances: 5 });
    // at each of ten jumps 15 a minute are lost for the minute before it is seen and the three of the start-up
    expect(playScaling(jump, reactive, model).unserved).toBeCloseTo((10 * 4 * 15) / (300 * (14 + 35) - 14), 12);
    expect(playScaling(jump, foresight, model).unserved).toBe(0);
  });

  it('finds the target at which the reactive rule costs as much', () => {
    const target = reactiveTargetFor(jump, policy, model, 5);
    const cost = playScaling(
      jump,
      reactiveChanges(jump, { ...policy, targetPerInstance: target }),
      model,
    ).meanInstances;
    expect(target).toBeLessThan(7);
    expect(Math.abs(cost - 5)).toBeLessThan(0.6);
  });

  it('takes quantiles as the value that a share lies below', () => {
    expect(quantileOf(Float64Array.of(5, 1, 3, 2, 4), 0.5)).toBe(3);
    expect(quantileOf(Float64Array.of(5, 1), 0.999)).toBe(5);
  });
});
