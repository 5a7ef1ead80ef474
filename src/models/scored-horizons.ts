/** Horizons, in steps, at which errors are tracked; any other horizon takes the next longer one's figures. */
export const scoredHorizons: readonly number[] = [1, 5, 15, 60];
