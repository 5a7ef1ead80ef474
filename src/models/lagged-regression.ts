import { solvePositive } from '../stats/cholesky.js';

export interface LaggedRegressionOptions {
  /** Steps back that are regressors, ascending. */
  readonly lags: readonly number[];
  /** Steps after which a row counts half. */
  readonly halfLife: number;
  /** Ridge penalty as a share of the series' variance, a row. */
  readonly penalty: number;
}

/** A linear model of the next value: intercept, then one coefficient a lag. */
export type LaggedCoefficients = Float64Array;

/**
 * y(t) = c + Σ βᵢ y(t − lagᵢ), fitted by least squares with exponential forgetting and a ridge penalty on β, at each of several ends of the
 * history: one pass over the rows, one small system an end. Rows whose target is not known count nothing. Returns undefined for an end that
 * fewer rows precede than there are lags.
 * Cost: n · lags² / 2 and lags³ / 6 an end. Source: Hoerl & Kennard 1970.
 *
 * @param values the history without gaps
 * @param known 1 where the value was measured, 0 where it was filled in
 * @param ends ascending; the fit at an end uses the values before it only
 */
export function fitLagged(
  values: Float64Array,
  known: Uint8Array,
  ends: readonly number[],
  { lags, halfLife, penalty }: LaggedRegressionOptions,
): (LaggedCoefficients | undefined)[] {
  const k = lags.length + 1;
  const gram = new Float64Array(k * k);
  const right = new Float64Array(k);
  const x = new Float64Array(k);
  x[0] = 1;
  const keep = 2 ** (-1 / halfLife);
  const longest = lags.at(-1) ?? 0;
  // sums are taken around a constant: differences of large squares would lose digits
  const shift = values[0] ?? 0;
  let squares = 0;
  let rows = 0;
  // forgetting is applied to what is added instead of to all that was: the newest row has weight `growth`, scaled back now and then
  let growth = 1;
  let at = 0;
  const fits: (LaggedCoefficients | undefined)[] = [];
  for (let t = longest; fits.length < ends.length; t++) {
    while (at < ends.length && ends[at]! <= t) {
      fits.push(rows > lags.length ? solve(gram, right, k, penalty, squares, shift) : undefined);
      at++;
    }
    if (at === ends.length || t >= values.length) break;
    if (known[t]) {
      const y = values[t]! - shift;
      for (let i = 1; i < k; i++) x[i] = values[t - lags[i - 1]!]! - shift;
      for (let i = 0; i < k; i++) {
        const weighted = growth * x[i]!;
        for (let j = 0; j <= i; j++) gram[i * k + j]! += weighted * x[j]!;
        right[i]! += weighted * y;
      }
      squares += growth * y * y;
      rows++;
    }
    growth /= keep;
    if (growth > 1e100) {
      for (let i = 0; i < gram.length; i++) gram[i]! /= growth;
      for (let i = 0; i < k; i++) right[i]! /= growth;
      squares /= growth;
      growth = 1;
    }
  }
  while (fits.length < ends.length)
    fits.push(rows > lags.length ? solve(gram, right, k, penalty, squares, shift) : undefined);
  return fits;
}

function solve(
  gram: Float64Array,
  right: Float64Array,
  k: number,
  penalty: number,
  squares: number,
  shift: number,
): LaggedCoefficients {
  const weight = gram[0]!;
  const mean = right[0]! / weight;
  const variance = Math.max(squares / weight - mean * mean, 0);
  const system = Float64Array.from(gram);
  for (let i = 1; i < k; i++) system[i * k + i]! += penalty * weight * variance + 1e-12 * weight;
  const coefficients = solvePositive(system, right, k);
  let sum = 0;
  for (let i = 1; i < k; i++) sum += coefficients[i]!;
  coefficients[0]! += shift * (1 - sum);
  return coefficients;
}

/**
 * Goes on from the first `end` values step by step, each forecast feeding the next ones; every value is kept between `low` and `high`.
 * Cost: horizon · lags.
 */
export function continueLagged(
  values: Float64Array,
  end: number,
  horizon: number,
  lags: readonly number[],
  coefficients: LaggedCoefficients,
  low: number,
  high: number,
): Float64Array {
  const out = new Float64Array(horizon);
  for (let h = 0; h < horizon; h++) {
    let sum = coefficients[0]!;
    for (let i = 0; i < lags.length; i++) {
      const back = h - lags[i]!;
      sum += coefficients[i + 1]! * (back < 0 ? values[end + back]! : out[back]!);
    }
    out[h] = Math.min(high, Math.max(low, sum));
  }
  return out;
}
