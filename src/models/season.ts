/** Season lengths looked for when none is given, steps: hours of a day and week, minutes of an hour and day, days of a week and year, months. */
export const seasonCandidates: readonly number[] = [7, 12, 24, 48, 60, 96, 144, 168, 288, 336, 1440, 2016];

/** Autocorrelation below which a season is not believed. */
const BELIEVED = 0.3;
/** A season needs this many whole repetitions to be seen. */
const REPETITIONS = 2;

/**
 * Seasons of a history among candidates, in steps, shortest first: those at whose lag the autocorrelation of the differenced series is 0.3
 * or more. A multiple of a season is kept only when it explains clearly more. Cost: O(length × candidates).
 */
export function findSeasons(values: Float64Array, candidates: readonly number[]): number[] {
  const changes = new Float64Array(Math.max(0, values.length - 1));
  for (let i = 0; i < changes.length; i++) changes[i] = values[i + 1]! - values[i]!;
  const found: { steps: number; correlation: number }[] = [];
  for (const steps of [...candidates].sort((a, b) => a - b)) {
    if (steps < 2 || values.length < REPETITIONS * steps) continue;
    const correlation = autocorrelation(changes, steps);
    if (correlation < BELIEVED) continue;
    const shorter = found.filter((f) => steps % f.steps === 0).at(-1);
    if (!shorter || correlation > shorter.correlation + 0.05) found.push({ steps, correlation });
  }
  return found.map((f) => f.steps);
}

/** Correlation of a series with itself `lag` steps ago, −1 to 1; 0 for a constant. */
export function autocorrelation(values: Float64Array, lag: number): number {
  const n = values.length;
  if (n <= lag) return 0;
  let mean = 0;
  for (const value of values) mean += value;
  mean /= n;
  let variance = 0;
  let covariance = 0;
  for (let i = 0; i < n; i++) {
    const d = values[i]! - mean;
    variance += d * d;
    if (i >= lag) covariance += d * (values[i - lag]! - mean);
  }
  return variance === 0 ? 0 : (covariance / variance) * (n / (n - lag));
}
