import { IguanaError } from '../../errors.js';

/** Reads the integers, names and ranges of the WebAssembly binary format from a range of bytes; every fault is `IGU_WASM_MALFORMED` with its offset. */
export class ByteReader {
  constructor(
    readonly bytes: Uint8Array,
    public position = 0,
    public end = bytes.length,
  ) {}

  get done(): boolean {
    return this.position >= this.end;
  }

  fail(what: string, offset = this.position): never {
    throw new IguanaError('IGU_WASM_MALFORMED', { what, offset });
  }

  u8(): number {
    if (this.position >= this.end) this.fail('ends too early');
    return this.bytes[this.position++]!;
  }

  /** Unsigned LEB128 of up to 32 bits. */
  u32(): number {
    const byte = this.u8();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let shift = 7; shift < 35; shift += 7) {
      const next = this.u8();
      if (shift === 28 && next > 0x0f) this.fail('integer too large');
      value |= (next & 0x7f) << shift;
      if (next < 0x80) return value >>> 0;
    }
    return this.fail('integer too long');
  }

  /** Signed LEB128 of up to 33 bits (block types) or 32 bits (constants). */
  s33(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 5; i++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      scale *= 128;
      if (byte < 0x80) return byte & 0x40 ? value - scale : value;
    }
    return this.fail('integer too long');
  }

  /** Skips a signed LEB128 of up to 64 bits. */
  skipS64(): void {
    for (let i = 0; i < 10; i++) if (this.u8() < 0x80) return;
    this.fail('integer too long');
  }

  skip(count: number): void {
    if (count > this.end - this.position) this.fail('ends too early');
    this.position += count;
  }

  /** A count of things that take at least one byte each: what cannot fit is refused before anything is made of it. */
  count(): number {
    const count = this.u32();
    if (count > this.end - this.position) this.fail(`count ${count} exceeds what follows`);
    return count;
  }

  name(): string {
    const length = this.u32();
    const start = this.position;
    this.skip(length);
    try {
      return utf8.decode(this.bytes.subarray(start, this.position));
    } catch {
      return this.fail('name is not UTF-8', start);
    }
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
