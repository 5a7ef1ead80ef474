/** Steps of history the network sees. */
export const LAGS = 48;
/** Steps the network forecasts at once; longer horizons take its own forecasts as history. */
export const AHEAD = 24;
/** History, and the same steps one season earlier for the shortest and the longest season. */
export const INPUTS = LAGS + 2 * AHEAD;

/** Scaled numbers beyond this are cut: a step far outside its window must not drown the others. */
const LARGEST = 10;

/** Values by position relative to now: 0 the newest, negative before it, positive the forecast so far. */
export type ValueAt = (position: number) => number;

/** One look at a series: what the network is given, and how its answer is read. */
export class Window {
  readonly inputs = new Float64Array(INPUTS);
  /** Seasonal naive for the steps ahead; the network says what to add, in units of `scale`. */
  readonly base = new Float64Array(AHEAD);
  scale = 1;

  /**
   * Looks from `origin` (0: now) at `known` values up to there. Inputs are scaled by the window's own mean and standard deviation, so that
   * one network serves series of any level. Cost: O(LAGS + AHEAD).
   */
  look(at: ValueAt, origin: number, known: number, seasons: readonly number[]): void {
    const lags = Math.min(LAGS, known);
    let mean = 0;
    for (let j = 0; j < lags; j++) mean += at(origin - j);
    mean /= lags;
    let squares = 0;
    for (let j = 0; j < lags; j++) squares += (at(origin - j) - mean) ** 2;
    // a constant has no scale of its own: what the network adds to it is then nothing
    this.scale = Math.max(Math.sqrt(squares / lags), 1e-9 * Math.abs(mean), 1e-12);
    const { inputs, scale } = this;
    for (let j = 0; j < LAGS; j++) inputs[j] = cut((at(origin - Math.min(j, lags - 1)) - mean) / scale);
    const shortest = fitting(seasons[0], known);
    const longest = fitting(seasons.at(-1), known) ?? shortest;
    for (let h = 1; h <= AHEAD; h++) {
      const near = at(origin + seasonBack(h, shortest));
      const far = at(origin + seasonBack(h, longest));
      inputs[LAGS + h - 1] = cut((near - mean) / scale);
      inputs[LAGS + AHEAD + h - 1] = cut((far - mean) / scale);
      this.base[h - 1] = far;
    }
  }

  /** What the network should have said of the value `h` steps ahead. */
  target(h: number, value: number): number {
    return cut((value - this.base[h - 1]!) / this.scale);
  }

  /** The value `h` steps ahead, given what the network said. */
  value(h: number, said: number): number {
    const value = this.base[h - 1]! + this.scale * cut(said);
    return Number.isFinite(value) ? value : this.base[h - 1]!;
  }
}

/** A season, when as much is known. */
function fitting(season: number | undefined, known: number): number | undefined {
  return season !== undefined && season <= known ? season : undefined;
}

/** Where the step `h` ahead was one season before, or the newest step without a season. */
function seasonBack(h: number, season: number | undefined): number {
  return season === undefined ? 0 : h - season * Math.ceil(h / season);
}

function cut(x: number): number {
  return x > LARGEST ? LARGEST : Math.max(x, -LARGEST);
}
