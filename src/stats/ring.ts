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
