/** Scored forecasts below which confidence is capped in proportion. */
const ENOUGH = 30;
/** Coverage may be off the promised 90 % by this much before it counts. */
const TOLERANCE = 0.05;

/**
 * How far a forecast may be trusted, 0–1: its skill against seasonal naive at the horizon, 1 − MAE / MAE(naive), capped while few forecasts
 * were scored and when the bounds do not hold what they promise. 0 means no better than last season. Errors never make it negative.
 */
export function confidence(error: number, naiveError: number, coverage: number, scored: number): number {
  if (scored === 0 || !Number.isFinite(error) || !Number.isFinite(naiveError)) return 0;
  const skill = naiveError > 0 ? 1 - error / naiveError : error === 0 ? 1 : 0;
  const off = Math.max(0, Math.abs(coverage - 0.9) - TOLERANCE);
  const cap = Math.min(1, scored / ENOUGH) * Math.max(0, 1 - 4 * off);
  return Math.max(0, Math.min(1, skill, cap));
}
