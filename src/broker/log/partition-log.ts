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
  type RawRecord,
  readBatchHeader,
  recordsOf,
  rewriteBatch,
} from './record-batch.js';
import { flushDirectory, replaceFile, Segment, segmentFileName } from './segment.js';
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
/** A producer silent for so long is forgotten, ms: one day, Kafka's producer.id.expiration.ms. */
const PRODUCER_EXPIRY_MS = 86_400_000;

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
  /** Everything below was compacted once; what lies between here and the active segment is dirty. */
  private compactedTo = 0;
  /** When all tombstones that compaction kept are due to go, ms. */
  private tombstonesDueAt = Number.POSITIVE_INFINITY;
  private namesChanged = false;

  constructor(options: OpenOptions) {
    this.directory = options.directory;
    this.config = options.config;
    this.leaderEpoch = options.leaderEpoch ?? 0;
    if (this.directory) this.recover(this.directory);
    if (this.segments.length === 0) this.roll();
  }

  get startOffset(): bigint {
    return BigInt(this.start);
  }

  get endOffset(): bigint {
    return BigInt(this.end);
  }

  get lastStableOffset(): bigint {
    return BigInt(this.stable());
  }

  get sizeInBytes(): number {
    return this.segments.reduce((sum, s) => sum + s.size, 0);
  }

  append(records: Buffer, nowMs: number): AppendResult {
    const parsed = this.parse(records);
    if (typeof parsed === 'string') return refused(parsed);
    let first: number | undefined;
    let again: number | undefined;
    for (const { position, header } of parsed) {
      const verdict = this.producers.check(header);
      if (verdict.kind === 'error') return refused(verdict.error);
      if (verdict.kind === 'duplicate') {
        again ??= verdict.baseOffset;
        continue;
      }
      if (!header.transactional && this.transactions.isOpen(header.producerId)) return refused('INVALID_TXN_STATE');
      placeBatch(records, position, this.end, this.leaderEpoch);
      const placed = { ...header, baseOffset: this.end };
      try {
        this.active(header.size).append(records.subarray(position, position + header.size), placed, nowMs);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        return refused('KAFKA_STORAGE_ERROR');
      }
      first ??= this.end;
      this.learn(placed, nowMs);
    }
    return { error: null, baseOffset: BigInt(again ?? first ?? this.end), duplicate: first === undefined };
  }

  appendMarker(producerId: bigint, producerEpoch: number, commit: boolean, nowMs: number): bigint {
    const offset = this.end;
    const batch = controlBatch(offset, this.leaderEpoch, producerId, producerEpoch, commit, nowMs);
    const header = readBatchHeader(batch, 0);
    this.active(batch.length).append(batch, header, nowMs);
    this.learn(header, nowMs, commit);
    return BigInt(offset);
  }

  read(offset: bigint, maxBytes: number, committedOnly: boolean): ReadResult | null {
    const from = Number(offset);
    if (from < this.start || from > this.end) return null;
    const limit = committedOnly ? this.stable() : this.end;
    for (let s = this.segmentFor(from); s < this.segments.length; s++) {
      const segment = this.segments[s]!;
      const position = segment.seek(from);
      if (position < 0) continue;
      const { bytes, next } = segment.read(position, maxBytes, limit);
      return { bytes, abortedTransactions: committedOnly ? this.transactions.abortedBetween(from, next) : [] };
    }
    return { bytes: Buffer.alloc(0), abortedTransactions: [] };
  }

  offsetForTime(timestampMs: number): { offset: bigint; timestamp: bigint } | null {
    const wanted = BigInt(Math.ceil(timestampMs));
    for (const segment of this.segments) {
      if (segment.newestTimestamp < timestampMs) continue;
      for (const { header, bytes } of segment.batches(segment.seekTime(timestampMs))) {
        if (header.maxTimestamp < wanted || header.baseOffset + header.lastOffsetDelta < this.start) continue;
        const found = firstRecordAt(bytes, wanted, this.startOffset);
        if (found) return found;
      }
    }
    return null;
  }

  maxTimestamp(): { offset: bigint; timestamp: bigint } | null {
    let newest = -1;
    for (const segment of this.segments) {
      if (segment.baseOffset >= this.start) newest = Math.max(newest, segment.newestTimestamp);
      else {
        for (const { header } of segment.batches()) {
          if (header.baseOffset + header.lastOffsetDelta >= this.start)
            newest = Math.max(newest, Number(header.maxTimestamp));
        }
      }
    }
    return newest < 0 ? null : this.offsetForTime(newest);
  }

  deleteBefore(offset: bigint): bigint {
    const wanted = offset < 0n ? this.end : Number(offset); // −1: everything there is
    if (wanted > this.end) throw new RangeError(`offset ${wanted} is beyond the end ${this.end}`);
    if (wanted > this.start) this.moveStart(wanted);
    this.dropWhile((_, next) => next.baseOffset <= this.start);
    return this.startOffset;
  }

  clean(config: LogConfig, nowMs: number): number {
    this.config = config;
    const before = this.sizeInBytes;
    if (config.cleanupPolicy.includes('delete')) this.retain(config, nowMs);
    if (config.cleanupPolicy.includes('compact')) {
      if (this.segments.at(-1)!.size >= Math.min(COMPACT_ROLL_BYTES, config.segmentBytes)) this.roll();
      this.compact(nowMs);
    }
    this.producers.expire(nowMs - PRODUCER_EXPIRY_MS, (id) => this.transactions.isOpen(id));
    return before - this.sizeInBytes;
  }

  flush(): void {
    for (const segment of this.segments) segment.flush();
    if (this.directory && this.namesChanged) flushDirectory(this.directory);
    this.namesChanged = false;
  }

  close(): void {
    for (const segment of this.segments) segment.close();
  }

  /** Drops whole old segments; the active one is rolled first when it is older than the retention time, so that slow topics shrink too. */
  private retain(config: LogConfig, nowMs: number): void {
    const oldest = nowMs - config.retentionMs;
    const active = this.segments.at(-1)!;
    if (config.retentionMs >= 0) {
      if (!active.isEmpty && (active.retentionTimestamp < oldest || active.firstAppendAt < oldest)) this.roll();
      this.dropWhile((s) => s.retentionTimestamp < oldest);
    }
    if (config.retentionBytes >= 0) {
      let size = this.sizeInBytes;
      this.dropWhile((s) => {
        const drop = size - s.size >= config.retentionBytes;
        if (drop) size -= s.size;
        return drop;
      });
    }
  }

  /** The batches of a produce request, or why it is refused as a whole: nothing of it is appended then. */
  private parse(records: Buffer): { position: number; header: BatchHeader }[] | AppendError {
    const batches: { position: number; header: BatchHeader }[] = [];
    for (let position = 0; position < records.length; ) {
      if (position + 17 <= records.length && batchMagicAt(records, position) !== 2)
        return 'UNSUPPORTED_FOR_MESSAGE_FORMAT';
      const size = batchSizeAt(records, position);
      if (size === 0) return 'CORRUPT_MESSAGE';
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

  private stable(): number {
    return Math.max(this.start, this.transactions.lastStableOffset(this.end));
  }

  private learn(header: BatchHeader, nowMs: number, commit?: boolean): void {
    this.producers.note(header, nowMs);
    if (header.control) this.transactions.end(header.producerId, header.baseOffset, commit === true);
    else if (header.transactional) this.transactions.begin(header.producerId, header.baseOffset);
    this.end = header.baseOffset + header.lastOffsetDelta + 1;
  }

  private active(bytes: number): Segment {
    const last = this.segments.at(-1)!;
    return last.size > 0 && last.size + bytes > this.config.segmentBytes ? this.roll() : last;
  }

  private roll(): Segment {
    const segment = this.directory ? Segment.inFile(this.directory, this.end).segment : Segment.inMemory(this.end);
    this.namesChanged = true;
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

  /** Removes segments from the front, never the active one. */
  private dropWhile(drop: (segment: Segment, next: Segment) => boolean): void {
    while (this.segments.length > 1 && drop(this.segments[0]!, this.segments[1]!)) {
      this.segments.shift()!.remove();
      const first = this.segments[0]!.baseOffset;
      if (first > this.start) this.moveStart(first);
    }
  }

  /**
   * Keeps of every key the newest value (and everything without a key) in closed segments below the last stable offset, and merges what became small.
   * Offsets stay. Runs when at least half of the closed bytes are new since the last run, or tombstones are due. Cost: reads the whole log once;
   * memory: the keys and one segment.
   */
  private compact(nowMs: number): void {
    const stable = this.stable();
    const closed = this.segments.slice(0, -1).filter((_, i) => this.segments[i + 1]!.baseOffset <= stable);
    const bytesOf = (list: readonly Segment[]): number => list.reduce((sum, s) => sum + s.size, 0);
    const dirty = bytesOf(closed.filter((s) => s.baseOffset >= this.compactedTo));
    if ((dirty === 0 || dirty * 2 < bytesOf(closed)) && nowMs < this.tombstonesDueAt) return;
    const survey = this.survey(stable);
    this.tombstonesDueAt = Number.POSITIVE_INFINITY;
    let group: Segment[] = [];
    let kept: Buffer[] = [];
    let size = 0;
    for (const segment of closed) {
      const survivors = this.survivors(segment, survey, nowMs);
      const more = survivors.reduce((sum, batch) => sum + batch.length, 0);
      if (group.length > 0 && size + more > this.config.segmentBytes) {
        this.replaceSegments(group, kept, size);
        [group, kept, size] = [[], [], 0];
      }
      group.push(segment);
      for (const batch of survivors) kept.push(batch);
      size += more;
    }
    if (group.length > 0) this.replaceSegments(group, kept, size);
    this.compactedTo = this.segments.find(
      (_s, i) => (this.segments[i + 1]?.baseOffset ?? Infinity) > stable,
    )!.baseOffset;
  }

  /** Offset of every key's newest committed record below `stable`, and of the first batch whose records cannot be read. */
  private survey(stable: number): Survey {
    const newest = new Map<string, number>();
    let firstOpaque = Number.POSITIVE_INFINITY;
    for (const segment of this.segments) {
      for (const { header, bytes } of segment.batches()) {
        if (header.baseOffset >= stable) break;
        if (header.control || this.isAborted(header)) continue;
        const records = recordsOf(bytes);
        if (!records) firstOpaque = Math.min(firstOpaque, header.baseOffset);
        for (const { key, offsetDelta } of records ?? []) {
          if (key) newest.set(key.toString('latin1'), header.baseOffset + offsetDelta);
        }
      }
    }
    return { newest, firstOpaque };
  }

  /** The batches of a segment without what newer records replaced. */
  private survivors(segment: Segment, survey: Survey, nowMs: number): Buffer[] {
    const kept: Buffer[] = [];
    for (const { header, bytes } of segment.batches()) {
      // the last batch of the log stays, or a reader would wait for an end that never comes
      const isLast = header.baseOffset + header.lastOffsetDelta === this.end - 1;
      const records = header.control || isLast ? null : recordsOf(bytes);
      const staying = records?.filter((record) => this.stays(record, header, survey, nowMs));
      if (staying?.length === 0) continue;
      kept.push(staying && staying.length < records!.length ? rewriteBatch(bytes, staying) : Buffer.from(bytes));
    }
    return kept;
  }

  private stays(record: RawRecord, header: BatchHeader, { newest, firstOpaque }: Survey, nowMs: number): boolean {
    if (!record.key) return true;
    const offset = header.baseOffset + record.offsetDelta;
    if (newest.get(record.key.toString('latin1')) !== offset) return false;
    // an older value of its key may hide in an opaque batch: without the tombstone it would rise again
    if (!record.isTombstone || offset > firstOpaque) return true;
    const due = Number(header.maxTimestamp) + this.config.deleteRetentionMs;
    if (due < nowMs) return false;
    this.tombstonesDueAt = Math.max(Number.isFinite(this.tombstonesDueAt) ? this.tombstonesDueAt : 0, due + 1);
    return true;
  }

  /** Puts one segment with `batches` in the place of neighbours. A crash in between leaves absorbed files, which recovery removes. */
  private replaceSegments(old: readonly Segment[], batches: readonly Buffer[], size: number): void {
    const first = old[0]!;
    if (old.length === 1 && size === first.size) return;
    let fresh: Segment;
    if (this.directory) {
      replaceFile(this.directory, first.baseOffset, batches);
      fresh = Segment.inFile(this.directory, first.baseOffset).segment;
      for (const batch of batches) fresh.note(readBatchHeader(batch, 0));
    } else {
      fresh = Segment.inMemory(first.baseOffset);
      for (const batch of batches) fresh.append(batch, readBatchHeader(batch, 0), first.firstAppendAt);
    }
    this.segments.splice(this.segments.indexOf(first), old.length, fresh);
    first.close();
    for (const absorbed of old.slice(1)) absorbed.remove();
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
    this.start = bases[0] ?? 0;
    if (names.includes(START_FILE)) {
      const stored = Number(readFileSync(path.join(directory, START_FILE), 'utf8'));
      if (Number.isSafeInteger(stored)) this.start = Math.max(this.start, stored);
    }
    this.end = bases[0] ?? 0;
    for (const base of bases) {
      const last = base === bases.at(-1);
      if (base < this.end) {
        // compaction merged it into the segment before and was cut off before it could remove it
        rmSync(path.join(directory, segmentFileName(base)));
        continue;
      }
      const { segment, storage } = Segment.inFile(directory, base);
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
        this.learn(header, Date.now(), header.control && isCommitMarker(bytes.subarray(position, position + size)));
        position += size;
      }
      this.end = Math.max(this.end, base);
      this.segments.push(segment);
    }
    this.end = Math.max(this.end, this.start);
  }
}

interface Survey {
  readonly newest: ReadonlyMap<string, number>;
  readonly firstOpaque: number;
}

function refused(error: AppendError): AppendResult {
  return { error, baseOffset: -1n, duplicate: false };
}

/** Whether the file system said no, such as a full disk: what the world can do, and no bug. */
export function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error;
}

/** The first record of a batch at or after a time and an offset; where its records cannot be read, the first that may be it. */
function firstRecordAt(batch: Buffer, wanted: bigint, from: bigint): { offset: bigint; timestamp: bigint } | null {
  const base = batch.readBigInt64BE(0);
  const baseTimestamp = batch.readBigInt64BE(27);
  const records = recordsOf(batch);
  if (!records) {
    const timestamp = baseTimestamp >= wanted ? baseTimestamp : batch.readBigInt64BE(35);
    return { offset: base > from ? base : from, timestamp };
  }
  for (const record of records) {
    const timestamp = baseTimestamp + BigInt(record.timestampDelta);
    const offset = base + BigInt(record.offsetDelta);
    if (timestamp >= wanted && offset >= from) return { offset, timestamp };
  }
  return null;
}
