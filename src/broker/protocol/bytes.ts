/** Kafka's primitive types, non-flexible encoding, big-endian. */

/** Thrown for a request that ends too early or lies about its lengths; the connection is closed then, as Kafka does. */
export class MalformedRequest extends Error {}

export class ByteReader {
  private position = 0;

  constructor(private readonly buffer: Buffer) {}

  int8(): number {
    return this.buffer.readInt8(this.take(1));
  }

  int16(): number {
    return this.buffer.readInt16BE(this.take(2));
  }

  int32(): number {
    return this.buffer.readInt32BE(this.take(4));
  }

  int64(): bigint {
    return this.buffer.readBigInt64BE(this.take(8));
  }

  string(): string | null {
    const length = this.int16();
    if (length < 0) return null;
    const start = this.take(length);
    return this.buffer.toString('utf8', start, start + length);
  }

  /** A view of the request's own bytes. */
  bytes(): Buffer | null {
    const length = this.int32();
    if (length < 0) return null;
    const start = this.take(length);
    return this.buffer.subarray(start, start + length);
  }

  /** An array cannot have more items than bytes are left. */
  assertArray(length: number): void {
    if (length > this.buffer.length - this.position)
      throw new MalformedRequest(`an array of ${length} items does not fit`);
  }

  private take(length: number): number {
    const start = this.position;
    if (length < 0 || start + length > this.buffer.length)
      throw new MalformedRequest(`the request ends after ${this.buffer.length} bytes`);
    this.position += length;
    return start;
  }
}

/** Bytes above which a field becomes a chunk of its own instead of being copied. */
const OWN_CHUNK_BYTES = 2048;

export class ByteWriter {
  private readonly chunks: Buffer[] = [];
  private buffer = Buffer.allocUnsafe(512);
  private length = 0;
  private done = 0;

  int8(value: number): void {
    this.length = this.room(1).writeInt8(value, this.length);
  }

  int16(value: number): void {
    this.length = this.room(2).writeInt16BE(value, this.length);
  }

  int32(value: number): void {
    this.length = this.room(4).writeInt32BE(value, this.length);
  }

  int64(value: bigint): void {
    this.length = this.room(8).writeBigInt64BE(value, this.length);
  }

  string(value: string | null): void {
    if (value === null) {
      this.int16(-1);
      return;
    }
    const size = Buffer.byteLength(value);
    this.int16(size);
    const written = this.room(size).write(value, this.length);
    this.length += written;
  }

  bytes(value: Buffer | null): void {
    if (value === null) {
      this.int32(-1);
      return;
    }
    this.int32(value.length);
    if (value.length < OWN_CHUNK_BYTES) {
      value.copy(this.room(value.length), this.length);
      this.length += value.length;
      return;
    }
    this.seal();
    this.chunks.push(value);
    this.done += value.length;
  }

  /** All that was written, as chunks in order, and its size. */
  finish(): { chunks: Buffer[]; size: number } {
    this.seal();
    return { chunks: this.chunks, size: this.done };
  }

  private seal(): void {
    if (this.length === 0) return;
    this.chunks.push(this.buffer.subarray(0, this.length));
    this.done += this.length;
    this.buffer = this.buffer.subarray(this.length);
    this.length = 0;
  }

  private room(bytes: number): Buffer {
    if (this.length + bytes > this.buffer.length) {
      this.seal();
      this.buffer = Buffer.allocUnsafe(Math.max(4096, bytes));
    }
    return this.buffer;
  }
}
