import type { StateReader, StateWriter } from '../state.js';
import { Ring } from './ring.js';

/** The last `capacity` values both in order of time and sorted: O(log window) to find, a short move of memory to insert. */
export class SortedWindow {
  private readonly ring: Ring;
  private readonly values: Float64Array;
  private count = 0;

  constructor(readonly capacity: number) {
    this.ring = new Ring(capacity);
    this.values = new Float64Array(capacity);
  }

  get size(): number {
    return this.count;
  }

  push(value: number): void {
    const out = this.ring.push(value);
    if (!Number.isNaN(out)) {
      const at = this.lowerBound(out);
      this.values.copyWithin(at, at + 1, this.count);
      this.count--;
    }
    const at = this.lowerBound(value);
    this.values.copyWithin(at + 1, at, this.count);
    this.values[at] = value;
    this.count++;
  }

  /** Quantile by linear interpolation; NaN without values. */
  quantile(q: number): number {
    const last = this.count - 1;
    if (last < 0) return Number.NaN;
    const position = Math.min(Math.max(q, 0), 1) * last;
    const low = Math.floor(position);
    const value = this.values[low]!;
    return low === last ? value : value + (position - low) * (this.values[low + 1]! - value);
  }

  /** How many values are at least `value`. */
  countAtLeast(value: number): number {
    return this.count - this.lowerBound(value);
  }

  /** Median of |x − centre| over the window, by two pointers from the centre outwards. */
  medianDistance(centre: number): number {
    if (this.count === 0) return 0;
    let right = this.lowerBound(centre);
    let left = right - 1;
    const half = (this.count - 1) >> 1;
    let previous = 0;
    for (let i = 0; i <= half + 1; i++) {
      const toLeft = left >= 0 ? centre - this.values[left]! : Number.POSITIVE_INFINITY;
      const toRight = right < this.count ? this.values[right]! - centre : Number.POSITIVE_INFINITY;
      const next = Math.min(toLeft, toRight);
      if (toLeft <= toRight) left--;
      else right++;
      if (i === half && this.count % 2 === 1) return next;
      if (i === half + 1) return (previous + next) / 2;
      previous = next;
    }
    return previous;
  }

  save(writer: StateWriter): void {
    this.ring.save(writer);
  }

  restore(reader: StateReader): void {
    this.ring.restore(reader);
    this.count = this.ring.size;
    for (let i = 0; i < this.count; i++) this.values[i] = this.ring.at(i);
    this.values.subarray(0, this.count).sort();
  }

  private lowerBound(value: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.values[middle]! < value) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
