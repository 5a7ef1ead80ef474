/**
 * One partition's log: appending, reading, recovery, retention and compaction belong together since all move the same segments.
 * Appending costs the header, the checksum and one copy (memory) or one write (file); a write is in the page cache before it is acknowledged,
 * so a killed process loses nothing and `flush` guards against a lost machine.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { AppendError, AppendResult, LogConfig, PartitionLog, ReadResult } from './log.js';
import { ProducerState } from './producer-state.js';
import {
  type BatchHeader,
  batchCrcHolds,
  batchMagicAt,
  batchSizeAt,
  controlBatch,
  isCommitMarker,
  placeBatch,
  readBatchHeader,
  recordsOf,
  rewriteBatch,
} from './record-batch.js';
import { replaceFile, Segment } from './segment.js';
import { TransactionIndex } from './transaction-index.js';

export interface OpenOptions {
  /** Folder of this partition; null keeps the log in memory. */
  readonly directory: string | null;
  readonly config: LogConfig;
  /** Written into every batch. Default 0. */
  readonly leaderEpoch?: number;
}

const START_FILE = 'start-offset';
/** A compacted topic's active segment is rolled when it has at least this many bytes, so that it can be compacted. */
const COMPACT_ROLL_BYTES = 1_048_576;

/** Opens (and, from a directory, recovers) a partition's log. Errors: those of the file system. */
export function openPartitionLog(options: OpenOptions): PartitionLog {
  return new Log(options);
}

class Log implements PartitionLog {
  private segments: Segment[] = [];
  private producers = new ProducerState();
  private transactions = new TransactionIndex();
  private start = 0;
  private end = 0;
  private config: LogConfig;
  private readonly directory: string | null;
  private readonly leaderEpoch: number;

  constructor(options: OpenOptions) {
    this.directory = options.directory;
    this.config = options.config;
    this.leaderEpoch = options.leaderEpoch ?? 0;
    if (this.directory) this.recover(this.directory);
    if (this.segments.length === 0) this.roll(Date.now());
  }

  get startOffset(): bigint {
    return BigInt(this.start);
  }

  get endOffset(): bigint {
    return BigInt(this.end);
  }

  get lastStableOffset(): bigint {
    return BigInt(this.transactions.lastStableOffset(this.end));
  }

  get sizeInBytes(): number {
    return this.segments.reduce((sum, s) => sum + s.size, 0);
  }

  append(records: Buffer, nowMs: number): AppendResult {
    const parsed = this.parse(records);
    if (typeof parsed === 'string') return { error: parsed, baseOffset: -1n, duplicate: false };
    let first: number | undefined;
    for (const { position, header } of parsed) {
      const verdict = this.producers.check(header);
      if (verdict.kind === 'error') return { error: verdict.error, baseOffset: -1n, duplicate: false };
      if (verdict.kind === 'duplicate') return { error: null, baseOffset: BigInt(verdict.baseOffset), duplicate: true };
      first ??= this.end;
      placeBatch(records, position, this.end, this.leaderEpoch);
      const placed = { ...header, baseOffset: this.end };
      this.active(header.size, nowMs).append(records.subarray(position, position + header.size), placed);
      this.learn(placed);
    }
    return { error: null, baseOffset: BigInt(first ?? this.end), duplicate: false };
  }

  appendMarker(producerId: bigint, producerEpoch: number, commit: boolean, nowMs: number): bigint {
    const offset = this.end;
    const batch = controlBatch(offset, this.leaderEpoch, producerId, producerEpoch, commit, nowMs);
    const header = readBatchHeader(batch, 0);
    this.active(batch.length, nowMs).append(batch, header);
    this.learn(header, commit);
    return BigInt(offset);
  }

  read(offset: bigint, maxBytes: number, committedOnly: boolean): ReadResult | null {
    const from = Number(offset);
    if (from < this.start || from > this.end) return null;
    const limit = committedOnly ? this.transactions.lastStableOffset(this.end) : this.end;
    for (let s = this.segmentFor(from); s < this.segments.length; s++) {
      const segment = this.segments[s]!;
      const index = segment.find(from);
      if (index === segment.batchCount) continue;
      if (segment.batchBase(index) >= limit) break;
      const bytes = segment.read(index, maxBytes, limit);
      return { bytes, abortedTransactions: committedOnly ? this.transactions.abortedBetween(from, limit) : [] };
    }
    return { bytes: Buffer.alloc(0), abortedTransactions: [] };
  }

  offsetForTime(timestampMs: number): { offset: bigint; timestamp: bigint } | null {
    const wanted = BigInt(timestampMs);
    for (const segment of this.segments) {
      const index = segment.findTime(wanted);
      if (index < 0) continue;
      const found = firstRecordAt(segment.batch(index), wanted);
      if (found.offset >= BigInt(this.start)) return found;
    }
    return null;
  }

  maxTimestamp(): { offset: bigint; timestamp: bigint } | null {
    let newest = -1n;
    for (const segment of this.segments) if (segment.maxTimestamp > newest) newest = segment.maxTimestamp;
    return newest < 0n ? null : this.offsetForTime(Number(newest));
  }

  deleteBefore(offset: bigint): bigint {
    const wanted = offset < 0n ? this.end : Number(offset);
    if (wanted > this.end) throw new RangeError(`offset ${wanted} is beyond the end ${this.end}`);
    if (wanted > this.start) this.moveStart(wanted);
    this.dropWhile((segment, next) => (next?.baseOffset ?? this.end) <= this.start && segment !== this.segments.at(-1));
    return this.startOffset;
  }

  clean(config: LogConfig, nowMs: number): number {
    this.config = config;
    const before = this.sizeInBytes;
    if (config.cleanupPolicy.includes('delete')) {
      const oldest = BigInt(nowMs - config.retentionMs);
      const active = this.segments.at(-1)!;
      if (config.retentionMs >= 0 && active.batchCount > 0 && active.maxTimestamp < oldest) this.roll(nowMs);
      if (config.retentionMs >= 0) this.dropWhile((s) => s !== this.segments.at(-1) && s.maxTimestamp < oldest);
      if (config.retentionBytes >= 0) {
        let size = this.sizeInBytes;
        this.dropWhile((s) => {
          const drop = s !== this.segments.at(-1) && size - s.size >= config.retentionBytes;
          if (drop) size -= s.size;
          return drop;
        });
      }
    }
    if (config.cleanupPolicy.includes('compact')) {
      if (this.segments.at(-1)!.size >= Math.min(COMPACT_ROLL_BYTES, config.segmentBytes)) this.roll(nowMs);
      this.compact(nowMs);
    }
    return before - this.sizeInBytes;
  }

  flush(): void {
    this.segments.at(-1)?.flush();
  }

  close(): void {
    for (const segment of this.segments) segment.close();
  }

  /** The batches of a produce request, or why it is refused as a whole: nothing of it is appended then. */
  private parse(records: Buffer): { position: number; header: BatchHeader }[] | AppendError {
    const batches: { position: number; header: BatchHeader }[] = [];
    for (let position = 0; position < records.length; ) {
      const size = batchSizeAt(records, position);
      if (size === 0) return 'CORRUPT_MESSAGE';
      if (batchMagicAt(records, position) !== 2) return 'UNSUPPORTED_FOR_MESSAGE_FORMAT';
      if (size > this.config.maxMessageBytes) return 'MESSAGE_TOO_LARGE';
      if (!batchCrcHolds(records, position, size)) return 'CORRUPT_MESSAGE';
      const header = readBatchHeader(records, position);
      if (header.control || header.recordCount <= 0 || header.lastOffsetDelta !== header.recordCount - 1)
        return 'INVALID_RECORD';
      batches.push({ position, header });
      position += size;
    }
    return batches.length > 0 ? batches : 'INVALID_RECORD';
  }

  private learn(header: BatchHeader, commit?: boolean): void {
    this.producers.note(header);
    if (header.control) this.transactions.end(header.producerId, header.baseOffset, commit === true);
    else if (header.transactional) this.transactions.begin(header.producerId, header.baseOffset);
    this.end = header.baseOffset + header.lastOffsetDelta + 1;
  }

  private active(bytes: number, nowMs: number): Segment {
    const last = this.segments.at(-1)!;
    return last.size > 0 && last.size + bytes > this.config.segmentBytes ? this.roll(nowMs) : last;
  }

  private roll(nowMs: number): Segment {
    const segment = this.directory
      ? Segment.inFile(this.directory, this.end, nowMs).segment
      : Segment.inMemory(this.end, nowMs);
    this.segments.push(segment);
    return segment;
  }

  /** Index of the segment in which `offset` lies or would lie. */
  private segmentFor(offset: number): number {
    let s = this.segments.length - 1;
    while (s > 0 && this.segments[s]!.baseOffset > offset) s--;
    return s;
  }

  private moveStart(offset: number): void {
    this.start = offset;
    this.transactions.forgetBefore(offset);
    if (!this.directory) return;
    const file = path.join(this.directory, START_FILE);
    writeFileSync(`${file}.new`, String(offset));
    renameSync(`${file}.new`, file);
  }

  private dropWhile(drop: (segment: Segment, next: Segment | undefined) => boolean): void {
    while (this.segments.length > 1 && drop(this.segments[0]!, this.segments[1])) {
      this.segments.shift()!.remove();
      const first = this.segments[0]!.baseOffset;
      if (first > this.start) this.moveStart(first);
    }
  }

  /** Keeps of every key the newest value (and everything without a key), in all but the active segment. */
  private compact(nowMs: number): void {
    const newest = new Map<string, number>();
    for (const segment of this.segments) {
      for (let i = 0; i < segment.batchCount; i++) {
        const batch = segment.batch(i);
        const header = readBatchHeader(batch, 0);
        if (header.control || this.isAborted(header)) continue;
        for (const record of recordsOf(batch) ?? []) {
          if (record.key) newest.set(record.key.toString('latin1'), header.baseOffset + record.offsetDelta);
        }
      }
    }
    for (let s = 0; s < this.segments.length - 1; s++) {
      const compacted = this.compactSegment(this.segments[s]!, newest, nowMs);
      if (compacted) this.segments[s] = compacted;
    }
  }

  /** The segment without what newer records replaced, or undefined when all of it stays. */
  private compactSegment(segment: Segment, newest: ReadonlyMap<string, number>, nowMs: number): Segment | undefined {
    const kept: Buffer[] = [];
    let size = 0;
    for (let i = 0; i < segment.batchCount; i++) {
      const batch = segment.batch(i);
      const header = readBatchHeader(batch, 0);
      const records = header.control ? null : recordsOf(batch);
      const stay = records?.filter((record) => {
        if (!record.key) return true;
        const offset = header.baseOffset + record.offsetDelta;
        if (newest.get(record.key.toString('latin1')) !== offset) return false;
        return !record.isTombstone || header.maxTimestamp >= BigInt(nowMs - this.config.deleteRetentionMs);
      });
      if (stay?.length === 0) continue;
      const out = stay && stay.length < records!.length ? rewriteBatch(batch, stay) : batch;
      kept.push(out);
      size += out.length;
    }
    if (size === segment.size) return undefined;
    let fresh: Segment;
    if (this.directory) {
      replaceFile(this.directory, segment.baseOffset, Buffer.concat(kept));
      segment.close();
      fresh = Segment.inFile(this.directory, segment.baseOffset, segment.createdAt).segment;
      for (const batch of kept) fresh.note(readBatchHeader(batch, 0));
    } else {
      fresh = Segment.inMemory(segment.baseOffset, segment.createdAt);
      for (const batch of kept) fresh.append(batch, readBatchHeader(batch, 0));
    }
    return fresh;
  }

  private isAborted(header: BatchHeader): boolean {
    return header.transactional && this.transactions.isAborted(header.producerId, header.baseOffset);
  }

  /** Reads every header again; in the last segment every checksum too, cutting off a torn tail. */
  private recover(directory: string): void {
    mkdirSync(directory, { recursive: true });
    const names = readdirSync(directory);
    for (const name of names) if (name.endsWith('.cleaned')) rmSync(path.join(directory, name));
    const bases = names
      .filter((name) => /^\d{20}\.log$/.test(name))
      .map((name) => Number(name.slice(0, 20)))
      .sort((a, b) => a - b);
    if (names.includes(START_FILE)) this.start = Number(readFileSync(path.join(directory, START_FILE), 'utf8'));
    else this.start = bases[0] ?? 0;
    this.end = bases[0] ?? 0;
    for (const base of bases) {
      const last = base === bases.at(-1);
      const { segment, storage } = Segment.inFile(directory, base, Date.now());
      const bytes = storage.read(0, storage.size);
      let position = 0;
      while (position < bytes.length) {
        const size = batchSizeAt(bytes, position);
        if (size === 0 || (last && !batchCrcHolds(bytes, position, size))) {
          storage.truncate(position);
          break;
        }
        const header = readBatchHeader(bytes, position);
        segment.note(header);
        this.learn(header, header.control && isCommitMarker(bytes.subarray(position, position + size)));
        position += size;
      }
      this.end = Math.max(this.end, base);
      this.segments.push(segment);
    }
    this.end = Math.max(this.end, this.start);
  }
}

/** The first record of a batch at or after a time; the batch's first record where its codec hides the records. */
function firstRecordAt(batch: Buffer, wanted: bigint): { offset: bigint; timestamp: bigint } {
  const base = batch.readBigInt64BE(0);
  const baseTimestamp = batch.readBigInt64BE(27);
  for (const record of recordsOf(batch) ?? []) {
    const timestamp = baseTimestamp + BigInt(record.timestampDelta);
    if (timestamp >= wanted) return { offset: base + BigInt(record.offsetDelta), timestamp };
  }
  return { offset: base, timestamp: batch.readBigInt64BE(35) };
}
