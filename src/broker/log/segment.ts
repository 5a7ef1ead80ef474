/**
 * A contiguous piece of a log, in memory or in a file, with a sparse index: one entry for each block of about 4 KiB, so that a log of many small
 * batches costs little memory. Inside a block the headers are walked.
 */
import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { BATCH_HEADER_BYTES, type BatchHeader, batchSizeOf, lastOffsetAt, readBatchHeader } from './record-batch.js';

/** A block of the index ends with the batch that makes it this large: every batch of it begins within these bytes. */
const BLOCK_BYTES = 4_096;
/** Bytes read at once when all batches are walked. */
const WALK_BYTES = 1_048_576;

/** Where a segment's bytes are. Slices read stay valid: written bytes are never changed in place. */
interface Storage {
  append(bytes: Buffer): void;
  read(position: number, length: number): Buffer;
  flush(): void;
  close(): void;
  remove(): void;
}

class MemoryStorage implements Storage {
  private buffer = Buffer.allocUnsafe(BLOCK_BYTES);
  private length = 0;

  append(bytes: Buffer): void {
    if (this.length + bytes.length > this.buffer.length) {
      const bigger = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + bytes.length));
      this.buffer.copy(bigger, 0, 0, this.length);
      this.buffer = bigger;
    }
    bytes.copy(this.buffer, this.length);
    this.length += bytes.length;
  }

  read(position: number, length: number): Buffer {
    return this.buffer.subarray(position, position + length);
  }

  flush(): void {}
  close(): void {}
  remove(): void {}
}

class FileStorage implements Storage {
  private readonly fd: number;
  private length: number;
  private closed = false;
  private dirty = false;
  private torn = false;

  constructor(readonly file: string) {
    this.fd = openSync(file, 'a+');
    this.length = fstatSync(this.fd).size;
  }

  append(bytes: Buffer): void {
    if (this.torn) this.truncate(this.length);
    this.torn = true;
    this.dirty = true;
    try {
      writeFully(this.fd, bytes);
    } catch (error) {
      // half a batch must not stay before the next one; where that fails too, the next append tries again before it writes
      try {
        this.truncate(this.length);
      } catch {}
      throw error;
    }
    this.torn = false;
    this.length += bytes.length;
  }

  read(position: number, length: number): Buffer {
    const out = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const n = readSync(this.fd, out, done, length - done, position + done);
      if (n === 0) throw new RangeError(`${this.file} ends before ${position + length}`);
      done += n;
    }
    return out;
  }

  truncate(length: number): void {
    ftruncateSync(this.fd, length);
    this.length = length;
    this.dirty = true;
    this.torn = false;
  }

  get size(): number {
    return this.length;
  }

  get modifiedAt(): number {
    return fstatSync(this.fd).mtimeMs;
  }

  flush(): void {
    if (this.dirty && !this.closed) fsyncSync(this.fd);
    this.dirty = false;
  }

  close(): void {
    if (!this.closed) closeSync(this.fd);
    this.closed = true;
  }

  remove(): void {
    this.close();
    rmSync(this.file, { force: true });
  }
}

export interface WalkedBatch {
  readonly header: BatchHeader;
  readonly bytes: Buffer;
}

export class Segment {
  private readonly blockOffsets: number[] = [];
  private readonly blockPositions: number[] = [];
  private readonly blockTimestamps: number[] = [];
  private newest = -1;
  size = 0;

  private constructor(
    readonly baseOffset: number,
    private readonly storage: Storage,
    /** When its first batch was appended, ms. */
    private firstAppendMs: number,
  ) {}

  static inMemory(baseOffset: number): Segment {
    return new Segment(baseOffset, new MemoryStorage(), -1);
  }

  static inFile(directory: string, baseOffset: number): { segment: Segment; storage: FileStorage } {
    const storage = new FileStorage(path.join(directory, segmentFileName(baseOffset)));
    return { segment: new Segment(baseOffset, storage, storage.size > 0 ? storage.modifiedAt : -1), storage };
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  get firstAppendAt(): number {
    return this.firstAppendMs;
  }

  /** The newest record time in the segment, ms; −1 when no record has one. */
  get newestTimestamp(): number {
    return this.newest;
  }

  /** What time-based retention goes by: the newest record's time, or the first append where records have none. */
  get retentionTimestamp(): number {
    return this.newest >= 0 ? this.newest : this.firstAppendMs;
  }

  append(bytes: Buffer, header: BatchHeader, nowMs: number): void {
    this.storage.append(bytes);
    if (this.firstAppendMs < 0) this.firstAppendMs = nowMs;
    this.note(header);
  }

  /** Enters a batch that the storage holds already. */
  note(header: BatchHeader): void {
    const last = this.blockPositions.length - 1;
    const timestamp = Number(header.maxTimestamp);
    if (last < 0 || this.size - this.blockPositions[last]! >= BLOCK_BYTES) {
      this.blockOffsets.push(header.baseOffset);
      this.blockPositions.push(this.size);
      this.blockTimestamps.push(timestamp);
    } else if (timestamp > this.blockTimestamps[last]!) this.blockTimestamps[last] = timestamp;
    if (timestamp > this.newest) this.newest = timestamp;
    this.size += header.size;
  }

  /** Position of the first batch that ends at or after `offset`; −1 when there is none. Cost: a search and one short read. */
  seek(offset: number): number {
    let low = 0;
    let high = this.blockOffsets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.blockOffsets[middle]! <= offset) low = middle + 1;
      else high = middle;
    }
    // the block before may end below the offset (a gap of compaction): then it is the first batch of this one
    if (low === 0) return this.size > 0 ? 0 : -1;
    const start = this.blockPositions[low - 1]!;
    const end = this.blockPositions[low] ?? this.size;
    const heads = this.storage.read(start, Math.min(end - start, BLOCK_BYTES + BATCH_HEADER_BYTES));
    for (let at = 0; start + at < end; at += batchSizeOf(heads, at)) {
      if (lastOffsetAt(heads, at) >= offset) return start + at;
    }
    return end < this.size ? end : -1;
  }

  /** Whole batches from `position`: as many as fit into maxBytes, at least one, all beginning below `below`; `next` is the offset after them. */
  read(position: number, maxBytes: number, below: number): { bytes: Buffer; next: number } {
    let chunk = this.storage.read(position, Math.min(Math.max(maxBytes, BATCH_HEADER_BYTES), this.size - position));
    const firstSize = batchSizeOf(chunk, 0);
    if (Number(chunk.readBigInt64BE(0)) >= below) return { bytes: Buffer.alloc(0), next: below };
    if (firstSize > chunk.length) chunk = this.storage.read(position, firstSize);
    let end = firstSize;
    let next = lastOffsetAt(chunk, 0) + 1;
    while (end + BATCH_HEADER_BYTES <= chunk.length) {
      const size = batchSizeOf(chunk, end);
      if (end + size > chunk.length || Number(chunk.readBigInt64BE(end)) >= below) break;
      next = lastOffsetAt(chunk, end) + 1;
      end += size;
    }
    return { bytes: chunk.subarray(0, end), next };
  }

  /** All batches in order, from a position that `seek` or `seekTime` gave. */
  *batches(from = 0): Generator<WalkedBatch> {
    for (let position = from; position < this.size; ) {
      const { bytes } = this.read(position, WALK_BYTES, Number.POSITIVE_INFINITY);
      for (let at = 0; at < bytes.length; ) {
        const header = readBatchHeader(bytes, at);
        yield { header, bytes: bytes.subarray(at, at + header.size) };
        at += header.size;
      }
      position += bytes.length;
    }
  }

  /** Position before which no batch has a record at or after `timestamp`. */
  seekTime(timestamp: number): number {
    const block = this.blockTimestamps.findIndex((t) => t >= timestamp);
    return block < 0 ? this.size : this.blockPositions[block]!;
  }

  flush(): void {
    this.storage.flush();
  }

  close(): void {
    this.storage.close();
  }

  remove(): void {
    this.storage.remove();
  }
}

export function segmentFileName(baseOffset: number): string {
  return `${String(baseOffset).padStart(20, '0')}.log`;
}

/** Puts a rewritten segment in the place of the old one; a crash leaves either the old or the new file. */
export function replaceFile(directory: string, baseOffset: number, batches: readonly Buffer[]): void {
  const target = path.join(directory, segmentFileName(baseOffset));
  const fresh = `${target}.cleaned`;
  const fd = openSync(fresh, 'w');
  try {
    for (const batch of batches) writeFully(fd, batch);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, target);
  flushDirectory(directory);
}

/** Makes created, renamed and removed names durable. */
export function flushDirectory(directory: string): void {
  if (process.platform === 'win32') return; // directories cannot be opened there
  const fd = openSync(directory, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function writeFully(fd: number, bytes: Buffer): void {
  let done = 0;
  while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done);
}
