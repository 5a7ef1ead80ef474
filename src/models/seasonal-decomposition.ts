import type { StateReader, StateWriter } from '../state.js';
import { Ring } from '../stats/ring.js';
import type { Forecaster, ForecasterOptions } from './forecaster.js';
import { powersOf } from './powers.js';

/** Weight of the newest deviation in a seasonal index. */
const INDEX_WEIGHT = 0.2;
/** Weight of the newest remainder in the short-lived level. */
const REMAINDER_WEIGHT = 0.3;
/** What is left of the present remainder one step later. */
const REMAINDER_DECAY = 0.97;
const decay = powersOf(REMAINDER_DECAY);

/**
 * Trend + season + remainder, step by step: the trend is the mean of the last whole season (the centred average of classical decomposition,
 * known half a season late), indices are smoothed deviations from it, and the remainder of the last steps fades out in the forecast.
 * Without a season: the faded remainder around the mean of the last 60 steps. Cost: O(1), two seasons of memory. Source: Macaulay 1931;
 * Cleveland et al. 1990 for the order of operations.
 */
export class SeasonalDecomposition implements Forecaster {
  readonly name = 'seasonal-decomposition';
  private readonly season: number;
  private readonly values: Ring;
  private readonly indices: Float64Array;
  private readonly known: Uint8Array;
  private sum = 0;
  private remainder = 0;
  seen = 0;

  constructor(options: ForecasterOptions) {
    this.season = options.seasons.at(-1) ?? 1;
    this.values = new Ring(this.season > 1 ? this.season : 60);
    this.indices = new Float64Array(this.season);
    this.known = new Uint8Array(this.season);
  }

  learn(value: number): void {
    const slot = this.seen % this.season;
    const y = Number.isFinite(value) ? value : this.at(1);
    this.seen++;
    const out = this.values.push(y);
    this.sum += Number.isNaN(out) ? y : y - out;
    if (this.seen % this.values.capacity === 0) this.resum();
    const trend = this.sum / this.values.size;
    if (this.season > 1 && this.values.size === this.season) {
      // the mean over the last season is centred half a season ago: that value's deviation is the clean one
      const back = this.season >> 1;
      const centre = (slot - back + this.season) % this.season;
      const deviation = this.values.at(back) - trend;
      this.indices[centre] = this.known[centre]
        ? this.indices[centre]! + INDEX_WEIGHT * (deviation - this.indices[centre]!)
        : deviation;
      this.known[centre] = 1;
    }
    this.remainder += REMAINDER_WEIGHT * (y - trend - this.indices[slot]! - this.remainder);
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    const trend = this.values.size === 0 ? 0 : this.sum / this.values.size;
    let remainder = this.remainder;
    for (let h = 1; h <= horizon; h++) {
      remainder *= REMAINDER_DECAY;
      out[h - 1] = trend + this.indices[(this.seen + h - 1) % this.season]! + remainder;
    }
    return out;
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).f64(this.sum).f64(this.remainder).f64s(this.indices).bytes(this.known);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.sum = reader.f64();
    this.remainder = reader.f64();
    this.indices.set(reader.f64s());
    this.known.set(reader.bytes());
    this.values.restore(reader);
  }

  at(horizon: number): number {
    const trend = this.values.size === 0 ? 0 : this.sum / this.values.size;
    return (
      trend +
      this.indices[(this.seen + horizon - 1) % this.season]! +
      this.remainder * (decay[horizon] ?? REMAINDER_DECAY ** horizon)
    );
  }

  private resum(): void {
    this.sum = 0;
    for (let i = 0; i < this.values.size; i++) this.sum += this.values.at(i);
  }
}
