import { median } from 'simple-statistics';
import { continueLagged, fitLagged, type LaggedCoefficients } from './lagged-regression.js';

/** Seasons (the shortest one's) after which a step counts half in the fits. */
const HALF_LIFE_SEASONS = 14;
const LEAST_HALF_LIFE = 48;
const PENALTY = 0.0005;
/** Forecasts stay within the history's range, widened by this share of it. */
const ROOM = 0.3;
/** Repetitions of the longest season that its shape is the mean of. */
const SHAPES = 3;

interface Member {
  /** Forecast from the history's first `end` values, between low and high; undefined when there was too little to fit. */
  forecast(o: number, end: number, horizon: number, low: number, high: number): Float64Array | undefined;
}

/**
 * The median, at each step ahead, of five forecasts of a whole history: autoregressions with the season's lags on the values, on their
 * logarithms and on their differences over a season; the mean shape of the last longest seasons at the last one's level; seasonal naive.
 * One of them may fail without harm.
 * All are fitted at several ends of the history in one pass; at each end only what came before is known.
 * Cost: n · lags² · 3 / 2 with up to 4 + 11 · seasons lags.
 */
export class FittedMedian {
  private readonly scale: number;
  private readonly values: Float64Array;
  private readonly season: number;
  private readonly members: readonly Member[];

  /**
   * @param values one a step; NaN where a step is missing
   * @param seasons in steps, shortest first
   * @param ends ascending lengths of the histories to forecast from
   */
  constructor(
    values: Float64Array,
    seasons: readonly number[],
    private readonly ends: readonly number[],
  ) {
    this.season = seasons[0] ?? 1;
    this.scale = values.reduce((most, value) => (Number.isFinite(value) ? Math.max(most, Math.abs(value)) : most), 0);
    if (this.scale === 0) this.scale = 1;
    const { filled, known } = fill(values, this.season, this.scale);
    this.values = filled;
    const room = Math.floor((ends[0] ?? 0) / 2);
    const lags = lagsOf(seasons).filter((lag) => lag <= room);
    const positive = filled.every((value) => value > 0);
    this.members = [
      this.regression(known, lags),
      ...(positive ? [this.logRegression(known, lags)] : []),
      this.differenceRegression(
        known,
        lags.filter((lag) => lag + this.season <= room),
      ),
      ...(seasons.length > 0 ? [this.shape(seasons.at(-1)!, positive)] : []),
      { forecast: (_, end, horizon) => this.naive(end, horizon) },
    ];
  }

  /** From the end number o. */
  forecast(o: number, horizon: number): Float64Array {
    const end = this.ends[o]!;
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < end; i++) {
      low = Math.min(low, this.values[i]!);
      high = Math.max(high, this.values[i]!);
    }
    const room = ROOM * (high - low);
    // what has never been negative (a count, a load) does not become it
    const floor = low >= 0 ? Math.max(0, low - room) : low - room;
    const forecasts = this.members.flatMap((member) => member.forecast(o, end, horizon, floor, high + room) ?? []);
    return Float64Array.from({ length: horizon }, (_, h) => median(forecasts.map((one) => one[h]!)) * this.scale);
  }

  /** From the end number o, with the shortest season. */
  seasonalNaive(o: number, horizon: number): Float64Array {
    return this.naive(this.ends[o]!, horizon).map((value) => value * this.scale);
  }

  private naive(end: number, horizon: number): Float64Array {
    const { season } = this;
    return Float64Array.from({ length: horizon }, (_, h) => this.values[end - season + (h % season)]!);
  }

  private fit(
    values: Float64Array,
    known: Uint8Array,
    lags: readonly number[],
    back = 0,
  ): (LaggedCoefficients | undefined)[] {
    const halfLife = Math.max(LEAST_HALF_LIFE, HALF_LIFE_SEASONS * this.season);
    return fitLagged(
      values,
      known,
      this.ends.map((end) => end - back),
      { lags, halfLife, penalty: PENALTY },
    );
  }

  private regression(known: Uint8Array, lags: readonly number[]): Member {
    const fits = this.fit(this.values, known, lags);
    return {
      forecast: (o, end, horizon, low, high) =>
        fits[o] && continueLagged(this.values, end, horizon, lags, fits[o], low, high),
    };
  }

  private logRegression(known: Uint8Array, lags: readonly number[]): Member {
    const logs = this.values.map(Math.log);
    const fits = this.fit(logs, known, lags);
    return {
      forecast: (o, end, horizon, low, high) => {
        const fit = fits[o];
        if (!fit) return undefined;
        let least = Number.POSITIVE_INFINITY;
        for (let i = 0; i < end; i++) least = Math.min(least, this.values[i]!);
        const floor = Math.log(Math.max(low, least / 2));
        return continueLagged(logs, end, horizon, lags, fit, floor, Math.log(high)).map(Math.exp);
      },
    };
  }

  private differenceRegression(known: Uint8Array, lags: readonly number[]): Member {
    const { season, values } = this;
    const length = Math.max(0, values.length - season);
    const differences = Float64Array.from({ length }, (_, i) => values[i + season]! - values[i]!);
    const measured = Uint8Array.from({ length }, (_, i) => known[i + season]! & known[i]!);
    const fits = this.fit(differences, measured, lags, season);
    return {
      forecast: (o, end, horizon, low, high) => {
        const fit = fits[o];
        if (!fit) return undefined;
        const out = continueLagged(differences, end - season, horizon, lags, fit, low - high, high - low);
        for (let h = 0; h < horizon; h++) {
          const before = h < season ? values[end - season + h]! : out[h - season]!;
          out[h] = Math.min(high, Math.max(low, before + out[h]!));
        }
        return out;
      },
    };
  }

  private shape(season: number, positive: boolean): Member {
    return {
      forecast: (_, end, horizon) => {
        const whole = Math.min(SHAPES, Math.floor(end / season));
        if (whole === 0) return undefined;
        const level = mean(this.values, end - season, end);
        const shape = new Float64Array(season);
        for (let back = 1; back <= whole; back++) {
          const from = end - back * season;
          const around = mean(this.values, from, from + season);
          for (let i = 0; i < season; i++) {
            const value = this.values[from + i]!;
            shape[i]! += (positive ? value / around : value - around) / whole;
          }
        }
        return Float64Array.from({ length: horizon }, (_, h) => {
          const one = shape[h % season]!;
          return positive ? level * one : level + one;
        });
      },
    };
  }
}

/**
 * The last steps, half a season, the steps around one and two seasons, a third; of longer seasons the steps around them and around them
 * less a short one.
 */
function lagsOf([season, ...longer]: readonly number[]): number[] {
  const lags = new Set([1, 2, 3, 4]);
  const around = (lag: number): void => {
    for (let i = -1; i <= 1; i++) lags.add(lag + i);
  };
  if (season !== undefined) {
    lags.add(season >> 1).add(3 * season);
    around(season);
    around(2 * season);
    for (const one of longer) {
      around(one - season);
      around(one);
      for (const times of [4, 5]) if (times * season < one) lags.add(times * season);
    }
  }
  return [...lags].filter((lag) => lag > 0).sort((a, b) => a - b);
}

/** Values as shares of the scale. A missing step takes the value a season before, or the last one. */
function fill(values: Float64Array, season: number, scale: number): { filled: Float64Array; known: Uint8Array } {
  const filled = new Float64Array(values.length);
  const known = new Uint8Array(values.length);
  let last = (values.find(Number.isFinite) ?? 0) / scale;
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i]!)) {
      known[i] = 1;
      last = values[i]! / scale;
      filled[i] = last;
    } else filled[i] = i >= season ? filled[i - season]! : last;
  }
  return { filled, known };
}

function mean(values: Float64Array, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += values[i]!;
  return sum / (to - from);
}
