import type { StateReader, StateWriter } from '../state.js';

/** The last `capacity` numbers pushed. `at(0)` is the newest. */
export class Ring {
  private readonly values: Float64Array;
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

  /** The numbers in ascending order. */
  sorted(): Float64Array {
    const out = new Float64Array(this.filled);
    for (let i = 0; i < this.filled; i++) out[i] = this.at(i);
    return out.sort();
  }

  save(writer: StateWriter): void {
    writer.u32(this.filled);
    for (let i = this.filled - 1; i >= 0; i--) writer.f64(this.at(i));
  }

  restore(reader: StateReader): void {
    this.next = 0;
    this.filled = 0;
    const count = reader.u32();
    for (let i = 0; i < count; i++) this.push(reader.f64());
  }
}

/** Quantile of ascending numbers by linear interpolation; NaN for none. */
export function quantileOfSorted(sorted: Float64Array, q: number): number {
  if (sorted.length === 0) return Number.NaN;
  const position = Math.min(Math.max(q, 0), 1) * (sorted.length - 1);
  const low = Math.floor(position);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low]! + (position - low) * (sorted[high]! - sorted[low]!);
}
