/** A contiguous piece of a log, in memory or in a file, with the place of every batch. */
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
import type { BatchHeader } from './record-batch.js';

/** Where a segment's bytes are. Slices read stay valid: written bytes are never changed in place. */
interface Storage {
  append(bytes: Buffer): void;
  read(position: number, length: number): Buffer;
  flush(): void;
  close(): void;
  remove(): void;
}

class MemoryStorage implements Storage {
  private buffer = Buffer.allocUnsafe(4096);
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

  constructor(readonly file: string) {
    this.fd = openSync(file, 'a+');
    this.length = fstatSync(this.fd).size;
  }

  append(bytes: Buffer): void {
    let done = 0;
    while (done < bytes.length) done += writeSync(this.fd, bytes, done, bytes.length - done);
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
  }

  get size(): number {
    return this.length;
  }

  flush(): void {
    fsyncSync(this.fd);
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

export class Segment {
  private readonly offsets: number[] = [];
  private readonly lastOffsets: number[] = [];
  private readonly positions: number[] = [];
  private readonly timestamps: bigint[] = [];
  size = 0;

  private constructor(
    readonly baseOffset: number,
    private readonly storage: Storage,
    readonly createdAt: number,
  ) {}

  static inMemory(baseOffset: number, nowMs: number): Segment {
    return new Segment(baseOffset, new MemoryStorage(), nowMs);
  }

  static inFile(directory: string, baseOffset: number, nowMs: number): { segment: Segment; storage: FileStorage } {
    const storage = new FileStorage(path.join(directory, segmentFileName(baseOffset)));
    return { segment: new Segment(baseOffset, storage, nowMs), storage };
  }

  get batchCount(): number {
    return this.offsets.length;
  }

  /** The newest record time in the segment, ms; −1 when it is empty. */
  get maxTimestamp(): bigint {
    let newest = -1n;
    for (const t of this.timestamps) if (t > newest) newest = t;
    return newest;
  }

  append(bytes: Buffer, header: BatchHeader): void {
    this.storage.append(bytes);
    this.note(header);
  }

  /** Enters a batch that the storage holds already. */
  note(header: BatchHeader): void {
    this.offsets.push(header.baseOffset);
    this.lastOffsets.push(header.baseOffset + header.lastOffsetDelta);
    this.positions.push(this.size);
    this.timestamps.push(header.maxTimestamp);
    this.size += header.size;
  }

  /** Index of the first batch that ends at or after `offset`; batchCount when there is none. */
  find(offset: number): number {
    let low = 0;
    let high = this.offsets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.lastOffsets[middle]! < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Whole batches from index `first`: as many as fit into maxBytes, at least one, all beginning below `below`. */
  read(first: number, maxBytes: number, below: number): Buffer {
    const start = this.positions[first]!;
    let end = start;
    for (let i = first; i < this.offsets.length && this.offsets[i]! < below; i++) {
      const next = this.positions[i + 1] ?? this.size;
      if (i > first && next - start > maxBytes) break;
      end = next;
    }
    return this.storage.read(start, end - start);
  }

  batch(index: number): Buffer {
    const start = this.positions[index]!;
    return this.storage.read(start, (this.positions[index + 1] ?? this.size) - start);
  }

  /** First batch whose newest record is at or after `timestamp`; −1: none. */
  findTime(timestamp: bigint): number {
    return this.timestamps.findIndex((t) => t >= timestamp);
  }

  batchBase(index: number): number {
    return this.offsets[index]!;
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
export function replaceFile(directory: string, baseOffset: number, bytes: Buffer): void {
  const target = path.join(directory, segmentFileName(baseOffset));
  const fresh = `${target}.cleaned`;
  const fd = openSync(fresh, 'w');
  try {
    let done = 0;
    while (done < bytes.length) done += writeSync(fd, bytes, done, bytes.length - done);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(fresh, target);
}
