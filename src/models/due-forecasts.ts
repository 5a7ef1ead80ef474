import type { Stateful, StateReader, StateWriter } from '../state.js';
import { SCORE_EVERY, scoredHorizons } from './scored-horizons.js';

/**
 * Forecasts that wait for what comes: one row of numbers for each scored horizon and each step at which forecasts are scored (every third).
 * A row that waits for nothing begins with NaN. Memory: 32 rows.
 */
export class DueForecasts implements Stateful {
  private readonly rows: Float64Array[];

  constructor(private readonly width: number) {
    this.rows = scoredHorizons.map((h) => new Float64Array(slotsOf(h) * width).fill(Number.NaN));
  }

  /** The numbers kept for horizon k; rows begin where `place` and `due` say. */
  of(k: number): Float64Array {
    return this.rows[k]!;
  }

  /** Where the row of a forecast made after `step` begins. */
  place(step: number, k: number): number {
    return (((step + 1) / SCORE_EVERY) % slotsOf(scoredHorizons[k]!)) * this.width;
  }

  /** Where the row of the forecast for `step` begins; −1 when there is none. */
  due(step: number, k: number): number {
    const made = step - scoredHorizons[k]!;
    if (made < 0 || (made + 1) % SCORE_EVERY !== 0) return -1;
    const at = this.place(made, k);
    return Number.isNaN(this.rows[k]![at]!) ? -1 : at;
  }

  clear(): void {
    for (const rows of this.rows) rows.fill(Number.NaN);
  }

  save(writer: StateWriter): void {
    for (const rows of this.rows) writer.f64s(rows);
  }

  restore(reader: StateReader): void {
    for (const rows of this.rows) rows.set(reader.f64s());
  }
}

/** Rows that wait at the same time, the one that is due among them. */
function slotsOf(horizon: number): number {
  return Math.floor(horizon / SCORE_EVERY) + 1;
}
