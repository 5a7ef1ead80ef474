import { quantileSorted } from 'simple-statistics';
import type { Interval } from '../records.js';
import { confidence } from './confidence.js';
import { FittedMedian } from './fitted-median.js';
import { modelNames } from './registry.js';
import { findSeasons, seasonCandidates } from './season.js';
import { SeriesForecaster } from './series-forecaster.js';

/** `fitted` needs the whole history; the others learn it step by step, as they do on a stream. */
export const batchModelNames = ['fitted', ...modelNames] as const;

export interface BatchForecastOptions {
  /** Season lengths in steps, or `auto` to look for them. Default `auto`. */
  readonly seasons?: 'auto' | readonly number[];
  /** Seasons in steps that the calendar suggests, tried beside those found; a day and a week for hourly steps are 24 and 168. Default: none. */
  readonly calendar?: readonly number[];
  /** One of `batchModelNames`. Default `fitted`. */
  readonly model?: string;
  /** Levels of the bounds, per cent. Default 80 and 95. */
  readonly levels?: readonly number[];
}

export interface BatchForecastPoint {
  readonly value: number;
  readonly intervals: readonly Interval[];
  /** 0 (no better than seasonal naive) to 1. */
  readonly confidence: number;
}

/** Ends of the history from which it is forecast again, to see how far off that would have been. */
const ORIGINS = 16;
/** Fewer tell nothing about bounds. */
const FEWEST_ORIGINS = 4;
/** A season needs this many whole repetitions. */
const REPETITIONS = 3;
/** Steps that a history needs for `fitted`. */
const LEAST_STEPS = 30;

/**
 * Forecasts a history at once, with bounds and confidence. `fitted` is the median of several fits over the history (see `FittedMedian`). It
 * is fitted also at up to 16 earlier ends: the errors from there choose between the seasons, scale the bounds (conformal: each error in
 * proportion to the mean error of the other ends at nearly the same horizon) and are compared with seasonal naive's for the confidence. A
 * history too short for that goes to the `ensemble`. Steps beyond those tried take the furthest one's bounds, widened by the square root of
 * time.
 * Cost: about 2 ms for 1,000 steps and the seasons 24 and 168. Errors: `IGU_NOT_FOUND` for a model of another name.
 *
 * @param values one a step, oldest first; NaN where a step is missing
 */
export function forecastHistory(
  values: Float64Array,
  horizon: number,
  { seasons = 'auto', calendar = [], model = 'fitted', levels = [80, 95] }: BatchForecastOptions = {},
): BatchForecastPoint[] {
  const plain = seasons === 'auto' ? findSeasons(withoutGaps(values), seasonCandidates) : ascending(seasons);
  if (model !== 'fitted') return learnt(values, horizon, plain, model, levels);
  const sets = seasons === 'auto' ? seasonSets(values.length, plain, calendar) : [whole(values.length, plain)];
  const plan = planOf(values.length, horizon, sets);
  if (!plan) return learnt(values, horizon, plain, 'ensemble', levels);
  const tried = sets.map((one) => backtest(new FittedMedian(values, one, [...plan.ends, values.length]), values, plan));
  const best = tried.reduce((a, b) => (b.total < a.total ? b : a));
  const scaled = scaledErrors(best, plan);
  const sorted = scaled.flat().sort(byNumber);
  const coverage = coverageSince(scaled);
  const forecast = best.fit.forecast(plan.ends.length, horizon);
  return Array.from(forecast, (value, h) => {
    const near = pooled(best, Math.min(h, plan.reach - 1), plan);
    const beyond = (h + 1) / Math.min(h + 1, plan.reach);
    const intervals = levels.map((level) => {
      const side = sorted.length > 0 ? quantileSorted(sorted, level / 100) * near.error * Math.sqrt(beyond) : 0;
      return { level, lower: value - side, upper: value + side };
    });
    return { value, intervals, confidence: confidence(near.error, near.naive, coverage, near.count) / beyond };
  });
}

interface Plan {
  readonly ends: readonly number[];
  /** Steps forecast from each end. */
  readonly reach: number;
}

interface Backtest {
  readonly fit: FittedMedian;
  /** Absolute error from each end at each step, and seasonal naive's; NaN where nothing was measured. */
  readonly errors: readonly Float64Array[];
  readonly naiveErrors: readonly Float64Array[];
  readonly total: number;
}

/** The sets of seasons to choose from: those found, with a week of each and a seventh of each; and the calendar's. */
function seasonSets(
  length: number,
  found: readonly number[],
  calendar: readonly number[],
): readonly (readonly number[])[] {
  const related = found.flatMap((s) => [7 * s, s / 7].filter((one) => seasonCandidates.includes(one)));
  const first = whole(length, [...found, ...related]);
  const suggested = whole(length, calendar);
  return suggested.length > 0 && suggested.join() !== first.join() ? [first, suggested] : [first];
}

/** The seasons that a history of this length repeats often enough. */
function whole(length: number, seasons: readonly number[]): number[] {
  return ascending(seasons).filter((s) => length >= REPETITIONS * s);
}

function ascending(seasons: readonly number[]): number[] {
  return [...new Set(seasons)].sort((a, b) => a - b);
}

function withoutGaps(values: Float64Array): Float64Array {
  let last = values.find(Number.isFinite) ?? 0;
  return values.map((value) => {
    if (Number.isFinite(value)) last = value;
    return last;
  });
}

/** The same ends for all sets of seasons, so that they are compared on the same steps; a whole number of seasons apart. */
function planOf(length: number, horizon: number, sets: readonly (readonly number[])[]): Plan | undefined {
  const longest = Math.max(1, ...sets.flat());
  const shortest = Math.max(1, ...sets.map((one) => one[0] ?? 1));
  const least = Math.max(LEAST_STEPS, (REPETITIONS - 1) * longest);
  const reach = Math.min(horizon, Math.floor((length - least) / 3));
  if (reach < 1) return undefined;
  const gap = shortest * Math.max(1, Math.round(reach / 2 / shortest));
  const ends: number[] = [];
  for (let end = length - reach; end >= least && ends.length < ORIGINS; end -= gap) ends.unshift(end);
  return ends.length < FEWEST_ORIGINS ? undefined : { ends, reach };
}

function backtest(fit: FittedMedian, values: Float64Array, { ends, reach }: Plan): Backtest {
  const from = (end: number, forecast: Float64Array): Float64Array =>
    forecast.map((value, h) => {
      const error = Math.abs(values[end + h]! - value);
      return Number.isFinite(error) ? error : Number.NaN;
    });
  const errors = ends.map((end, o) => from(end, fit.forecast(o, reach)));
  let total = 0;
  for (const row of errors) for (const error of row) if (!Number.isNaN(error)) total += error;
  return { fit, errors, naiveErrors: ends.map((end, o) => from(end, fit.seasonalNaive(o, reach))), total };
}

/** Mean errors near a horizon, without those of one end when one is named. */
function pooled(
  { errors, naiveErrors }: Backtest,
  h: number,
  { reach }: Plan,
  without = -1,
): { error: number; naive: number; count: number } {
  const side = 2 + Math.floor(h / 12);
  const to = Math.min(reach - 1, h + side);
  let error = 0;
  let naive = 0;
  let count = 0;
  for (let o = 0; o < errors.length; o++) {
    if (o === without) continue;
    for (let g = Math.max(0, h - side); g <= to; g++) {
      if (Number.isNaN(errors[o]![g]!)) continue;
      error += errors[o]![g]!;
      naive += naiveErrors[o]![g]!;
      count++;
    }
  }
  return count === 0 ? { error: 0, naive: 0, count } : { error: error / count, naive: naive / count, count };
}

/** Errors of each end as multiples of the other ends' mean error near the same horizon: its own would make large errors look small. */
function scaledErrors(test: Backtest, plan: Plan): number[][] {
  return test.errors.map((row, o) => {
    const scaled: number[] = [];
    for (let h = 0; h < plan.reach; h++) {
      const scale = pooled(test, h, plan, o).error;
      if (scale > 0 && !Number.isNaN(row[h]!)) scaled.push(row[h]! / scale);
    }
    return scaled;
  });
}

/** How often 90 % bounds known at half of the ends would have held at the later half. */
function coverageSince(scaled: readonly number[][]): number {
  const half = scaled.length >> 1;
  const before = scaled.slice(0, half).flat().sort(byNumber);
  const after = scaled.slice(half).flat();
  if (before.length === 0 || after.length === 0) return 0.9;
  const bound = quantileSorted(before, 0.9);
  return after.filter((one) => one <= bound).length / after.length;
}

const byNumber = (a: number, b: number): number => a - b;

const STEP = 1000;

function learnt(
  values: Float64Array,
  horizon: number,
  seasons: readonly number[],
  model: string,
  levels: readonly number[],
): BatchForecastPoint[] {
  const one = new SeriesForecaster({ model, stepMs: STEP, seasonsMs: seasons.map((steps) => steps * STEP) });
  values.forEach((value, i) => {
    one.learn(i * STEP, value);
  });
  one.finish();
  return one.forecast(
    Array.from({ length: horizon }, (_, h) => h + 1),
    levels,
  );
}
