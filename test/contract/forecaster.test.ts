import { linearRegression, linearRegressionLine } from 'simple-statistics';
import { describe, expect, it } from 'vitest';
import { ExponentialSmoothing } from '../../src/models/exponential-smoothing.js';
import { LinearRegression } from '../../src/models/linear-regression.js';
import { createForecaster, modelNames } from '../../src/models/registry.js';
import { SeriesForecaster } from '../../src/models/series-forecaster.js';
import { StateReader, StateWriter } from '../../src/state.js';
import { normals, uniform } from '../support/random.js';

function daily(length: number, noise: number, seed = 1): number[] {
  const next = uniform(seed);
  return Array.from({ length }, (_, i) => 100 + 30 * Math.sin((2 * Math.PI * i) / 24) + noise * (next() - 0.5));
}

const save = (one: { save(w: StateWriter): void }): Buffer => {
  const writer = new StateWriter();
  one.save(writer);
  return writer.finish();
};

describe.each(modelNames)('%s', (name) => {
  const fresh = () => createForecaster(name, { seasons: [24] });
  const learn = (values: readonly number[], model = fresh()) => {
    for (const value of values) model.learn(value);
    return model;
  };

  it('forecasts finite numbers from the start, through gaps, and for a constant', () => {
    const model = fresh();
    expect([...model.forecast(3)]).toEqual([0, 0, 0]);
    for (let i = 0; i < 200; i++) {
      model.learn(i % 7 === 3 ? Number.NaN : 5);
      expect(model.forecast(70).every(Number.isFinite)).toBe(true);
    }
    expect(model.seen).toBe(200);
    for (const value of model.forecast(70)) expect(value).toBeCloseTo(5, 6);
    expect(learn([Number.NaN, Number.NaN]).forecast(2).every(Number.isFinite)).toBe(true);
  });

  it('learns a then b as it learns a+b, also over save and restore', () => {
    const a = daily(150, 5);
    const b = daily(90, 5, 2);
    b[10] = Number.NaN;
    const whole = learn([...a, ...b]);
    const first = learn(a);
    const bytes = save(first);
    const restored = fresh();
    const reader = new StateReader(bytes);
    restored.restore(reader);
    expect(reader.done).toBe(true);
    expect([...restored.forecast(70)]).toEqual([...first.forecast(70)]);
    expect([...learn(b, restored).forecast(70)]).toEqual([...whole.forecast(70)]);
    expect([...learn(b, first).forecast(70)]).toEqual([...whole.forecast(70)]);
    expect(save(restored).equals(save(whole))).toBe(true);
  });

  it('writes into the array it is given and changes nothing by forecasting', () => {
    const model = learn(daily(100, 5));
    const before = save(model);
    const out = new Float64Array(10);
    expect(model.forecast(5, out)).toBe(out);
    expect([...out.slice(0, 5)]).toEqual([...model.forecast(5)]);
    const all = model.forecast(70);
    for (const h of [1, 2, 7, 60, 70]) expect(model.at(h)).toBeCloseTo(all[h - 1]!, 6);
    expect(save(model).equals(before)).toBe(true);
  });
});

describe('references', () => {
  it('linear regression is the least-squares line of simple-statistics', () => {
    const model = new LinearRegression();
    const values = daily(200, 20);
    for (const value of values) model.learn(value);
    const window = values.slice(-60).map((y, i) => [i, y]);
    const line = linearRegressionLine(linearRegression(window));
    const forecast = model.forecast(10);
    for (let h = 1; h <= 10; h++) expect(forecast[h - 1]).toBeCloseTo(line(59 + h), 6);
  });

  it('exponential smoothing without trend and season is the closed form Σ α(1−α)^j y(t−j)', () => {
    const model = new ExponentialSmoothing({ seasons: [], alpha: 0.4, beta: 0 });
    const values = daily(50, 20);
    for (const value of values) model.learn(value);
    let expected = (1 - 0.4) ** 49 * values[0]!;
    for (let j = 0; j < 49; j++) expected += 0.4 * 0.6 ** j * values[49 - j]!;
    expect(model.forecast(1)[0]).toBeCloseTo(expected, 9);
  });

  it('exponential smoothing continues an exact line with a damped trend', () => {
    const model = new ExponentialSmoothing({ seasons: [], alpha: 0.5, beta: 0.5, phi: 1 });
    for (let i = 0; i < 400; i++) model.learn(3 * i + 1);
    expect(model.forecast(4)[3]).toBeCloseTo(3 * 403 + 1, 3);
  });

  it('exponential smoothing with all its parameters is that of statsmodels 0.15 (Holt-Winters, known initial states)', () => {
    const model = new ExponentialSmoothing({ seasons: [6], alpha: 0.35, beta: 0.12, gamma: 0.25, phi: 0.9 });
    // five steps each: at a whole season it takes an older index than the recursion's for the newest slot
    const stored: Record<number, number[]> = {
      60: [66.756528, 74.810927, 74.722178, 67.512966, 58.354167],
      63: [69.616641, 60.597184, 60.672267, 70.89548, 76.984825],
    };
    for (let i = 0; i < 63; i++) {
      model.learn(Number((50 + 0.3 * i + 10 * Math.sin((2 * Math.PI * i) / 6) + (((i * 37) % 11) - 5)).toFixed(3)));
      const forecast = model.forecast(5);
      stored[i + 1]?.forEach((value, h) => {
        expect(forecast[h]).toBeCloseTo(value, 5);
      });
    }
    expect.assertions(10);
  });

  it('seasonal decomposition continues an exact pattern exactly, and a level shift within its decay', () => {
    const pattern = [10, -4, 3, -9, 6, -6];
    const model = createForecaster('seasonal-decomposition', { seasons: [6] });
    for (let i = 0; i < 240; i++) model.learn(100 + pattern[i % 6]!);
    const exact = model.forecast(12);
    for (let h = 0; h < 12; h++) expect(exact[h]).toBeCloseTo(100 + pattern[(240 + h) % 6]!, 6);
    for (let i = 240; i < 246; i++) model.learn(120 + pattern[i % 6]!);
    // after one season at the new level the mean over the season is there
    expect(model.forecast(1)[0]).toBeGreaterThan(115);
  });

  it('arima comes close to the best forecast of an AR(1) of changes after a hundred steps', () => {
    let [squares, best] = [0, 0];
    for (let run = 0; run < 200; run++) {
      const model = createForecaster('arima', { seasons: [] });
      let [change, level] = [0, 0];
      normals(110, run + 1).forEach((noise, i) => {
        change = 0.8 * change + noise;
        level += change;
        if (i >= 100) {
          squares += (level - model.at(1)) ** 2;
          best += noise ** 2;
        }
        model.learn(level);
      });
    }
    // the noise itself is what nobody can forecast
    expect(squares / best).toBeLessThan(1.06);
  });

  it('arima finds the coefficient of an AR(1) of changes', () => {
    const next = uniform(3);
    const model = createForecaster('arima', { seasons: [] });
    let value = 0;
    let change = 0;
    let better = 0;
    let worse = 0;
    for (let i = 0; i < 3000; i++) {
      const predicted = model.forecast(1)[0]!;
      change = 0.7 * change + next() - 0.5;
      const before = value;
      value += change;
      if (i > 500) {
        better += Math.abs(value - predicted);
        worse += Math.abs(value - before);
      }
      model.learn(value);
    }
    // the innovation's mean absolute value is 0.25, the change's about 0.25 / sqrt(1 − 0.49)
    expect(better / 2499).toBeLessThan(0.26);
    expect(worse / 2499).toBeGreaterThan(0.3);
  });
});

describe('one series', () => {
  const STEP = 60_000;
  const make = () => new SeriesForecaster({ seasonsMs: [24 * STEP] });
  const run = (values: readonly number[], one = make(), from = 0) => {
    values.forEach((value, i) => {
      one.learn((from + i) * STEP + 1000, value);
    });
    return one;
  };

  it('finds the step, beats seasonal naive on noise, and its 90 % bounds hold 90 %', () => {
    const values = daily(4000, 40);
    const one = make();
    let inside = 0;
    let asked = 0;
    values.forEach((value, i) => {
      const point = i > 500 ? one.forecast([1], [90])[0] : undefined;
      const before = one.steps;
      one.learn(i * STEP, value);
      if (!point || one.steps === before) return;
      // the step that has just ended holds the value before
      const actual = values[i - 1]!;
      asked++;
      if (actual >= point.intervals[0]!.lower && actual <= point.intervals[0]!.upper) inside++;
    });
    expect(one.stepMs).toBe(STEP);
    // forecasts were asked one step before the value that ended: coverage is near the promise
    expect(asked).toBeGreaterThan(3000);
    const [first] = one.accuracy();
    expect(first!.error).toBeLessThan(first!.naiveError);
    expect(first!.coverage).toBeGreaterThan(0.82);
    expect(first!.coverage).toBeLessThan(0.97);
    expect(inside / asked).toBeGreaterThan(0.8);
    const [point] = one.forecast([1], [80, 95]);
    expect(point!.confidence).toBeGreaterThan(0);
    expect(point!.confidence).toBeLessThanOrEqual(1);
    expect(point!.intervals[1]!.upper - point!.intervals[1]!.lower).toBeGreaterThan(
      point!.intervals[0]!.upper - point!.intervals[0]!.lower,
    );
  });

  it('has no confidence in what seasonal naive does as well', () => {
    const one = run(daily(500, 0));
    expect(one.forecast([1], [90])[0]!.confidence).toBe(0);
  });

  it('counts late samples, averages a step, fills gaps and starts anew after a long silence', () => {
    const one = new SeriesForecaster({ stepMs: STEP, seasonsMs: [] });
    expect(one.learn(0, 1)).toBe(false);
    one.learn(30_000, 3);
    expect(one.learn(STEP, 5)).toBe(true);
    expect(one.forecast([1], [90])[0]!.value).toBeCloseTo(2, 9);
    one.learn(10, 100);
    expect(one.late).toBe(1);
    one.learn(5 * STEP, 5);
    expect(one.steps).toBe(5);
    expect(one.learn(6 * STEP, Number.NaN)).toBe(false);
    one.learn(100_000 * STEP, 5);
    expect(one.steps).toBe(0);
  });

  it('leaves out values that no model could reckon with', () => {
    const one = new SeriesForecaster({ stepMs: STEP });
    for (let i = 0; i < 300; i++) one.learn(i * STEP, i === 100 || i === 101 ? 1.7e308 : 5);
    for (const { value, intervals } of one.forecast([1, 60], [95])) {
      expect(value).toBeCloseTo(5, 6);
      expect(intervals.every(({ lower, upper }) => Number.isFinite(lower + upper))).toBe(true);
    }
  });

  it('goes on after save and restore as if nothing had happened, also while the step is not known', () => {
    for (const split of [3, 700]) {
      const values = daily(1000, 10);
      const whole = run(values);
      const first = run(values.slice(0, split));
      const restored = make();
      restored.restore(new StateReader(save(first)));
      run(values.slice(split), restored, split);
      expect(restored.forecast([1, 15, 60], [80, 95])).toEqual(whole.forecast([1, 15, 60], [80, 95]));
      expect(save(restored).equals(save(whole))).toBe(true);
    }
  });
});
