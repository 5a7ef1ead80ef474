import type { StateReader, StateWriter } from '../state.js';
import { Ring } from '../stats/ring.js';
import type { Forecaster } from './forecaster.js';

/** Steps in the window: long against noise, short against a changing trend. */
const WINDOW = 60;

/**
 * A straight line through the last 60 steps by least squares, extended. With x counted back from the newest step, the sums change in O(1):
 * moving the origin by one turns Sxy into Sxy + Sy. Missing steps take the line's own value.
 */
export class LinearRegression implements Forecaster {
  readonly name = 'linear-regression';
  private readonly values = new Ring(WINDOW);
  private sumY = 0;
  /** Σ age·y, age 0 for the newest. */
  private sumAgeY = 0;
  seen = 0;

  learn(value: number): void {
    this.seen++;
    const y = Number.isFinite(value) ? value : this.at(1);
    const before = this.values.size;
    const out = this.values.push(y);
    this.sumAgeY += this.sumY;
    if (!Number.isNaN(out)) {
      this.sumAgeY -= before * out;
      this.sumY -= out;
    }
    this.sumY += y;
    // rounding errors of running sums do not pile up: recomputed once a window
    if (this.seen % WINDOW === 0) this.recompute();
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    for (let h = 1; h <= horizon; h++) out[h - 1] = this.at(h);
    return out;
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).f64(this.sumY).f64(this.sumAgeY);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.sumY = reader.f64();
    this.sumAgeY = reader.f64();
    this.values.restore(reader);
  }

  at(h: number): number {
    const n = this.values.size;
    if (n === 0) return 0;
    const meanAge = (n - 1) / 2;
    const meanY = this.sumY / n;
    const varianceAge = (n * (n * n - 1)) / 12;
    const slopePerAge = n > 1 ? (this.sumAgeY - n * meanAge * meanY) / varianceAge : 0;
    return meanY + slopePerAge * (-h - meanAge);
  }

  private recompute(): void {
    this.sumY = 0;
    this.sumAgeY = 0;
    for (let age = 0; age < this.values.size; age++) {
      const y = this.values.at(age);
      this.sumY += y;
      this.sumAgeY += age * y;
    }
  }
}
