/** Writes the WebAssembly binary format into one growing buffer. */
export class ByteWriter {
  private buffer: Uint8Array<ArrayBuffer>;
  length = 0;

  constructor(capacity = 1024) {
    this.buffer = new Uint8Array(capacity);
  }

  /** What was written. A view: valid until the next write. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.buffer.subarray(0, this.length);
  }

  private room(count: number): void {
    if (this.length + count <= this.buffer.length) return;
    const grown = new Uint8Array(Math.max(this.buffer.length * 2, this.length + count));
    grown.set(this.bytes);
    this.buffer = grown;
  }

  u8(byte: number): this {
    if (this.length === this.buffer.length) this.room(1);
    this.buffer[this.length++] = byte;
    return this;
  }

  u32(value: number): this {
    if (value < 0x80) return this.u8(value);
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.u8((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    return this.u8(rest);
  }

  /** Signed LEB128 of any integer that a number holds exactly. */
  signed(value: number): this {
    let rest = value;
    for (;;) {
      const low = rest - Math.floor(rest / 128) * 128;
      rest = Math.floor(rest / 128);
      if ((rest === 0 && low < 0x40) || (rest === -1 && low >= 0x40)) return this.u8(low);
      this.u8(low | 0x80);
    }
  }

  raw(bytes: ArrayLike<number>): this {
    this.room(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
    return this;
  }

  /** Copies `source[from, to)`. */
  copy(source: Uint8Array, from: number, to: number): this {
    const count = to - from;
    if (count <= 0) return this;
    this.room(count);
    if (count < 24) {
      for (let i = from; i < to; i++) this.buffer[this.length++] = source[i]!;
      return this;
    }
    this.buffer.set(source.subarray(from, to), this.length);
    this.length += count;
    return this;
  }

  name(text: string): this {
    const encoded = Buffer.from(text, 'utf8');
    return this.u32(encoded.length).raw(encoded);
  }

  /** A byte length, then what `write` writes. */
  sized(write: (into: this) => void): this {
    const at = this.length;
    this.raw([0x80, 0x80, 0x80, 0x80, 0x00]);
    const from = this.length;
    write(this);
    let size = this.length - from;
    for (let i = 0; i < 4; i++) {
      this.buffer[at + i] = (size & 0x7f) | 0x80;
      size >>>= 7;
    }
    this.buffer[at + 4] = size;
    return this;
  }

  section(id: number, write: (into: this) => void): this {
    return this.u8(id).sized(write);
  }

  /** A copy of exactly what was written. */
  finish(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.length);
  }
}
