import type { StateReader, StateWriter } from '../state.js';
import { Ring } from '../stats/ring.js';
import type { Detector } from './detector.js';

const READY = 10;

/** |x − mean| / standard deviation over the last `window` values (default 60), running sums. Cost: O(1). */
export class ZScore implements Detector {
  readonly name: string = 'z-score';
  protected readonly values: Ring;
  private sum = 0;
  private sumOfSquares = 0;
  /** Subtracted before squaring, against cancellation for large values of small spread. */
  private shift = Number.NaN;

  constructor(window = 60) {
    this.values = new Ring(window);
  }

  get ready(): boolean {
    return this.values.size >= READY;
  }

  get expected(): number {
    return this.values.size === 0 ? 0 : this.shift + this.sum / this.values.size;
  }

  get scale(): number {
    const n = this.values.size;
    return n === 0 ? 0 : Math.sqrt(Math.max(0, this.sumOfSquares / n - (this.sum / n) ** 2));
  }

  score(value: number): number {
    if (!this.ready) return 0;
    return distance(value, this.expected, this.scale);
  }

  learn(value: number): void {
    if (Number.isNaN(this.shift)) this.shift = value;
    const y = value - this.shift;
    const out = this.values.push(value) - this.shift;
    this.sum += y;
    this.sumOfSquares += y * y;
    if (!Number.isNaN(out)) {
      this.sum -= out;
      this.sumOfSquares -= out * out;
    }
  }

  save(writer: StateWriter): void {
    writer.f64(this.sum).f64(this.sumOfSquares).f64(this.shift);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.sum = reader.f64();
    this.sumOfSquares = reader.f64();
    this.shift = reader.f64();
    this.values.restore(reader);
  }
}

/**
 * |value − expected| in units of scale. A scale of zero (constant history) is taken as a millionth of the value's size, so that
 * any change of a constant scores high and finite, and none scores zero.
 */
export function distance(value: number, expected: number, scale: number): number {
  const unit = Math.max(scale, 1e-6 * Math.max(Math.abs(expected), Math.abs(value), 1e-300));
  return Math.min(Math.abs(value - expected) / unit, 1e9);
}
