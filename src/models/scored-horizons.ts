/** Horizons, in steps, at which errors are tracked; any other horizon takes the next longer one's figures. */
export const scoredHorizons: readonly number[] = [1, 5, 15, 60];

/** Forecasts are scored after every so many steps: scoring costs a forecast at each of these horizons. */
export const SCORE_EVERY = 3;

/** Index of the scored horizon whose figures a horizon takes. */
export function indexOfHorizon(horizon: number): number {
  const k = scoredHorizons.findIndex((scored) => scored >= horizon);
  return k < 0 ? scoredHorizons.length - 1 : k;
}
