/** Record batches, format v2: the header that a broker reads, and the records that compaction reads. Source: Kafka's message format. */
import { gunzipSync } from 'node:zlib';
import { crc32c } from './crc32c.js';

/** Bytes before the records. */
export const BATCH_HEADER_BYTES = 61;
/** Bytes before what `batchLength` counts. */
export const LOG_OVERHEAD_BYTES = 12;
const CRC_START = 21;
/** Most bytes one batch may unpack to; a larger one stays opaque, so that a small message cannot take all memory. */
const MAX_UNPACKED_BYTES = 67_108_864;

export interface BatchHeader {
  readonly baseOffset: number;
  /** Of the whole batch, with offset and length. */
  readonly size: number;
  readonly lastOffsetDelta: number;
  readonly maxTimestamp: bigint;
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly baseSequence: number;
  readonly recordCount: number;
  /** 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd. */
  readonly codec: number;
  readonly transactional: boolean;
  readonly control: boolean;
}

/** Size of the batch at `position`, or 0 when it is not whole. */
export function batchSizeAt(bytes: Buffer, position: number): number {
  if (position + BATCH_HEADER_BYTES > bytes.length) return 0;
  const size = LOG_OVERHEAD_BYTES + bytes.readInt32BE(position + 8);
  return size < BATCH_HEADER_BYTES || position + size > bytes.length ? 0 : size;
}

/** Size that a batch's own header claims. */
export function batchSizeOf(bytes: Buffer, position: number): number {
  return LOG_OVERHEAD_BYTES + bytes.readInt32BE(position + 8);
}

export function lastOffsetAt(bytes: Buffer, position: number): number {
  return Number(bytes.readBigInt64BE(position)) + bytes.readInt32BE(position + 23);
}

/** Format version; 2 is the only one stored. Versions 0 and 1 have theirs at the same place. */
export function batchMagicAt(bytes: Buffer, position: number): number {
  return bytes.readInt8(position + 16);
}

export function batchCrcHolds(bytes: Buffer, position: number, size: number): boolean {
  return bytes.readUInt32BE(position + 17) === crc32c(bytes, position + CRC_START, position + size);
}

export function readBatchHeader(bytes: Buffer, position: number): BatchHeader {
  const attributes = bytes.readInt16BE(position + 21);
  return {
    baseOffset: Number(bytes.readBigInt64BE(position)),
    size: LOG_OVERHEAD_BYTES + bytes.readInt32BE(position + 8),
    lastOffsetDelta: bytes.readInt32BE(position + 23),
    maxTimestamp: bytes.readBigInt64BE(position + 35),
    producerId: bytes.readBigInt64BE(position + 43),
    producerEpoch: bytes.readInt16BE(position + 51),
    baseSequence: bytes.readInt32BE(position + 53),
    recordCount: bytes.readInt32BE(position + 57),
    codec: attributes & 7,
    transactional: (attributes & 16) !== 0,
    control: (attributes & 32) !== 0,
  };
}

/** Gives the batch its place: both fields lie before what the checksum covers. */
export function placeBatch(bytes: Buffer, position: number, baseOffset: number, leaderEpoch: number): void {
  bytes.writeBigInt64BE(BigInt(baseOffset), position);
  bytes.writeInt32BE(leaderEpoch, position + 12);
}

export interface RawRecord {
  readonly offsetDelta: number;
  readonly timestampDelta: number;
  readonly key: Buffer | null;
  readonly isTombstone: boolean;
  /** The record with its length. */
  readonly bytes: Buffer;
}

/** The records of a batch; null when it stays opaque: packed by a codec that Node lacks, or not what its header says. */
export function recordsOf(batch: Buffer): RawRecord[] | null {
  const { codec, recordCount } = readBatchHeader(batch, 0);
  if (codec > 1) return null;
  try {
    const blob = batch.subarray(BATCH_HEADER_BYTES);
    return parseRecords(codec === 1 ? gunzipSync(blob, { maxOutputLength: MAX_UNPACKED_BYTES }) : blob, recordCount);
  } catch {
    // the checksum held, so a client wrote it like this; consumers get the bytes as they are
    return null;
  }
}

function parseRecords(body: Buffer, recordCount: number): RawRecord[] {
  const records: RawRecord[] = [];
  const cursor = { at: 0 };
  for (let i = 0; i < recordCount; i++) {
    const start = cursor.at;
    const length = varint(body, cursor);
    const end = cursor.at + length;
    if (length <= 0 || end > body.length) throw new RangeError('a record reaches beyond its batch');
    cursor.at += 1;
    const timestampDelta = varint(body, cursor);
    const offsetDelta = varint(body, cursor);
    const keyLength = varint(body, cursor);
    const key = keyLength < 0 ? null : body.subarray(cursor.at, cursor.at + keyLength);
    cursor.at += Math.max(0, keyLength);
    const isTombstone = varint(body, cursor) < 0;
    if (cursor.at > end) throw new RangeError('a key reaches beyond its record');
    cursor.at = end;
    records.push({ offsetDelta, timestampDelta, key, isTombstone, bytes: body.subarray(start, end) });
  }
  return records;
}

/** The batch with only some of its records, uncompressed; offsets, sequences and times stay as they are. */
export function rewriteBatch(batch: Buffer, kept: readonly RawRecord[]): Buffer {
  const out = Buffer.concat([batch.subarray(0, BATCH_HEADER_BYTES), ...kept.map((r) => r.bytes)]);
  out.writeInt32BE(out.length - LOG_OVERHEAD_BYTES, 8);
  out.writeInt16BE(out.readInt16BE(21) & ~7, 21);
  out.writeInt32BE(kept.length, 57);
  return sealed(out);
}

/** The control batch that ends a transaction: key (version 0, type 0 abort | 1 commit), value (version 0, coordinator epoch 0). */
export function controlBatch(
  baseOffset: number,
  leaderEpoch: number,
  producerId: bigint,
  epoch: number,
  commit: boolean,
  nowMs: number,
): Buffer {
  // attributes, timestamp delta, offset delta, key length 4, key, value length 6, value, no headers; lengths are zig-zag varints
  const record = Buffer.from([0, 0, 0, 8, 0, 0, 0, commit ? 1 : 0, 12, 0, 0, 0, 0, 0, 0, 0]);
  const out = Buffer.alloc(BATCH_HEADER_BYTES + 1 + record.length);
  out.writeBigInt64BE(BigInt(baseOffset), 0);
  out.writeInt32BE(out.length - LOG_OVERHEAD_BYTES, 8);
  out.writeInt32BE(leaderEpoch, 12);
  out.writeInt8(2, 16);
  out.writeInt16BE(16 | 32, 21);
  out.writeBigInt64BE(BigInt(nowMs), 27);
  out.writeBigInt64BE(BigInt(nowMs), 35);
  out.writeBigInt64BE(producerId, 43);
  out.writeInt16BE(epoch, 51);
  out.writeInt32BE(-1, 53);
  out.writeInt32BE(1, 57);
  out[BATCH_HEADER_BYTES] = record.length * 2;
  record.copy(out, BATCH_HEADER_BYTES + 1);
  return sealed(out);
}

/** True for a commit marker, false for an abort marker. */
export function isCommitMarker(batch: Buffer): boolean {
  return recordsOf(batch)?.[0]?.key?.readInt16BE(2) === 1;
}

function sealed(batch: Buffer): Buffer {
  batch.writeUInt32BE(crc32c(batch, CRC_START), 17);
  return batch;
}

function varint(bytes: Buffer, cursor: { at: number }): number {
  let value = 0;
  let scale = 1;
  for (;;) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new RangeError('a number reaches beyond its batch');
    value += (byte & 127) * scale;
    if (byte < 128) break;
    scale *= 128;
  }
  return value % 2 === 1 ? -(value + 1) / 2 : value / 2;
}
