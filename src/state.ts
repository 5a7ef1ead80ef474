/** Compact binary form of learnt state: what models and detectors write when saved and read when restored. Little-endian. */
import { IguanaError } from './errors.js';

/** Anything whose learnt state survives a restart. `restore` of what `save` wrote gives the same answers as before. */
export interface Stateful {
  save(writer: StateWriter): void;
  restore(reader: StateReader): void;
}

export class StateWriter {
  private buffer = Buffer.allocUnsafe(256);
  private length = 0;

  u32(value: number): this {
    this.room(4);
    this.length = this.buffer.writeUInt32LE(value >>> 0, this.length);
    return this;
  }

  f64(value: number): this {
    this.room(8);
    this.length = this.buffer.writeDoubleLE(value, this.length);
    return this;
  }

  bool(value: boolean): this {
    return this.u32(value ? 1 : 0);
  }

  text(value: string): this {
    return this.bytes(Buffer.from(value, 'utf8'));
  }

  bytes(value: Uint8Array): this {
    this.u32(value.length);
    this.room(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
    return this;
  }

  /** The first `count` numbers of an array, with their count. */
  f64s(values: ArrayLike<number>, count = values.length): this {
    this.u32(count);
    this.room(8 * count);
    for (let i = 0; i < count; i++) this.length = this.buffer.writeDoubleLE(values[i]!, this.length);
    return this;
  }

  /** What `write` writes, preceded by its length: read back with `bytes()`. */
  nested(write: (writer: StateWriter) => void): this {
    this.room(4);
    const at = this.length;
    this.length += 4;
    write(this);
    this.buffer.writeUInt32LE(this.length - at - 4, at);
    return this;
  }

  /** A copy of all that was written. */
  finish(): Buffer {
    return Buffer.from(this.buffer.subarray(0, this.length));
  }

  private room(bytes: number): void {
    if (this.length + bytes <= this.buffer.length) return;
    const bigger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + bytes));
    this.buffer.copy(bigger, 0, 0, this.length);
    this.buffer = bigger;
  }
}

/** Reads what `StateWriter` wrote, in the same order. Reading past the end throws `IGU_STATE_INCOMPATIBLE`. */
export class StateReader {
  private position = 0;
  private readonly buffer: Buffer;

  constructor(bytes: Uint8Array) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  u32(): number {
    return this.buffer.readUInt32LE(this.take(4));
  }

  f64(): number {
    return this.buffer.readDoubleLE(this.take(8));
  }

  bool(): boolean {
    return this.u32() !== 0;
  }

  text(): string {
    return this.bytes().toString('utf8');
  }

  bytes(): Buffer {
    const length = this.u32();
    const start = this.take(length);
    return this.buffer.subarray(start, start + length);
  }

  f64s(): Float64Array {
    const count = this.u32();
    const start = this.take(8 * count);
    const out = new Float64Array(count);
    for (let i = 0; i < count; i++) out[i] = this.buffer.readDoubleLE(start + 8 * i);
    return out;
  }

  get done(): boolean {
    return this.position === this.buffer.length;
  }

  private take(bytes: number): number {
    const start = this.position;
    if (start + bytes > this.buffer.length)
      throw new IguanaError('IGU_STATE_INCOMPATIBLE', {
        what: 'a record',
        why: `it ends after ${this.buffer.length} bytes`,
      });
    this.position += bytes;
    return start;
  }
}
