import type { StateReader, StateWriter } from '../state.js';
import { Ring } from '../stats/ring.js';
import type { Forecaster, ForecasterOptions } from './forecaster.js';

/** The value one season ago; the last value while less than a season is known or without a season. Cost: O(1), one season of memory. */
export class SeasonalNaive implements Forecaster {
  readonly name = 'seasonal-naive';
  private readonly season: number;
  private readonly values: Ring;
  seen = 0;

  constructor(options: ForecasterOptions) {
    this.season = options.seasons.at(-1) ?? 1;
    this.values = new Ring(this.season);
  }

  learn(value: number): void {
    this.seen++;
    if (Number.isFinite(value)) this.values.push(value);
    else if (this.values.size > 0) this.values.push(this.values.at(this.back(1)));
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    for (let h = 1; h <= horizon; h++) out[h - 1] = this.at(h);
    return out;
  }

  at(horizon: number): number {
    return this.values.size === 0 ? 0 : this.values.at(this.back(horizon));
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.values.restore(reader);
  }

  private back(h: number): number {
    return this.values.size < this.season ? 0 : this.season - 1 - ((h - 1) % this.season);
  }
}
