import type { StateReader, StateWriter } from '../state.js';

/** The last `capacity` numbers pushed. `at(0)` is the newest. Cost: O(1) to push; O(capacity) moves once `sorted` was asked for. */
export class Ring {
  private readonly values: Float64Array;
  /** The same numbers in ascending order, kept up to date once they were asked for: sorting anew at each question would be most of a model's time. */
  private order: Float64Array | undefined;
  private next = 0;
  private filled = 0;

  constructor(readonly capacity: number) {
    this.values = new Float64Array(capacity);
  }

  get size(): number {
    return this.filled;
  }

  /** Pushes a number; returns the one that fell out, NaN while there was room. */
  push(value: number): number {
    const out = this.filled === this.capacity ? this.values[this.next]! : Number.NaN;
    if (this.order) this.reorder(this.order, out, value);
    this.values[this.next] = value;
    this.next = (this.next + 1) % this.capacity;
    if (this.filled < this.capacity) this.filled++;
    return out;
  }

  /** The number pushed `back` pushes before the newest; NaN beyond what is kept. */
  at(back: number): number {
    if (back < 0 || back >= this.filled) return Number.NaN;
    return this.values[(this.next - 1 - back + 2 * this.capacity) % this.capacity]!;
  }

  /** The numbers in ascending order; a view that the next push changes. */
  sorted(): Float64Array {
    if (!this.order) {
      this.order = new Float64Array(this.capacity);
      for (let i = 0; i < this.filled; i++) this.order[i] = this.at(i);
      this.order.subarray(0, this.filled).sort();
    }
    return this.order.subarray(0, this.filled);
  }

  private reorder(order: Float64Array, out: number, value: number): void {
    let end = this.filled;
    if (end === this.capacity) {
      const gone = rank(order, end, out);
      order.copyWithin(gone, gone + 1, end);
      end--;
    }
    const at = rank(order, end, value);
    order.copyWithin(at + 1, at, end);
    order[at] = value;
  }

  save(writer: StateWriter): void {
    writer.u32(this.filled);
    for (let i = this.filled - 1; i >= 0; i--) writer.f64(this.at(i));
  }

  restore(reader: StateReader): void {
    this.next = 0;
    this.filled = 0;
    this.order = undefined;
    const count = reader.u32();
    for (let i = 0; i < count; i++) this.push(reader.f64());
  }
}

/** How many of the first `end` ascending numbers are smaller. */
function rank(order: Float64Array, end: number, value: number): number {
  let low = 0;
  let high = end;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (order[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Quantile of ascending numbers by linear interpolation; NaN for none. */
export function quantileOfSorted(sorted: Float64Array, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const position = Math.min(Math.max(q, 0), 1) * (sorted.length - 1);
  const low = Math.floor(position);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (position - low) * (sorted[high]! - sorted[low]!);
}
