/** What the broker's server asks of one partition's log. Batches are opaque record batches (format v2) as the client sent them. */

/** Why an append was refused, as Kafka's error names. */
export type AppendError =
  | 'CORRUPT_MESSAGE'
  | 'OUT_OF_ORDER_SEQUENCE_NUMBER'
  | 'INVALID_PRODUCER_EPOCH'
  | 'UNKNOWN_PRODUCER_ID'
  | 'UNSUPPORTED_FOR_MESSAGE_FORMAT'
  | 'MESSAGE_TOO_LARGE'
  | 'INVALID_RECORD'
  | 'INVALID_TXN_STATE'
  | 'KAFKA_STORAGE_ERROR';

export interface AppendResult {
  readonly error: AppendError | null;
  readonly baseOffset: bigint;
  /** True when an idempotent producer sent this batch again: baseOffset is the first append's. */
  readonly duplicate: boolean;
}

export interface ReadResult {
  /** Whole batches, the first of which contains the offset asked for; the first is whole even when over maxBytes. */
  readonly bytes: Buffer;
  /** Aborted transactions that overlap what was read (read_committed only). */
  readonly abortedTransactions: readonly { producerId: bigint; firstOffset: bigint }[];
}

export interface PartitionLog {
  readonly startOffset: bigint;
  /** Offset the next record gets. */
  readonly endOffset: bigint;
  /** First offset of the oldest open transaction, else endOffset. */
  readonly lastStableOffset: bigint;
  readonly sizeInBytes: number;
  /** Appends all batches in `records` (one produce request's partition data): checks magic, length, CRC-32C, sequences; rewrites base offset and leader epoch. */
  append(records: Buffer, nowMs: number): AppendResult;
  /** Ends a producer's transaction on this partition with a control batch. */
  appendMarker(producerId: bigint, producerEpoch: number, commit: boolean, nowMs: number): bigint;
  /** Null: the offset is out of range. Empty bytes: nothing there yet. `committedOnly` stops at lastStableOffset. */
  read(offset: bigint, maxBytes: number, committedOnly: boolean): ReadResult | null;
  /** First offset whose record timestamp is ≥ the given one, and that timestamp; null: none. */
  offsetForTime(timestampMs: number): { offset: bigint; timestamp: bigint } | null;
  maxTimestamp(): { offset: bigint; timestamp: bigint } | null;
  /** DeleteRecords: moves startOffset up (at most to endOffset), returns it. */
  deleteBefore(offset: bigint): bigint;
  /** Applies retention.ms, retention.bytes, cleanup.policy of `config`; returns bytes freed. */
  clean(config: LogConfig, nowMs: number): number;
  /** Makes everything appended so far durable. */
  flush(): void;
  close(): void;
}

export interface LogConfig {
  /** `delete`, `compact` or `compact,delete`. */
  readonly cleanupPolicy: string;
  /** ms; −1: no limit. */
  readonly retentionMs: number;
  /** Bytes; −1: no limit. */
  readonly retentionBytes: number;
  readonly segmentBytes: number;
  /** Tombstones of a compacted log stay this long, ms. */
  readonly deleteRetentionMs: number;
  readonly maxMessageBytes: number;
}
