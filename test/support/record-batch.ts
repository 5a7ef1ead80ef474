/** Writes and reads record batches (format v2) for tests, on its own: bit by bit, sharing nothing with the broker. */
import { gunzipSync, gzipSync } from 'node:zlib';

export interface TestRecord {
  readonly key?: string | null;
  readonly value: string | null;
  /** ms; default 1,000. */
  readonly timestamp?: number;
}

export interface TestBatch {
  readonly records: readonly TestRecord[];
  readonly producerId?: number;
  readonly epoch?: number;
  readonly sequence?: number;
  readonly transactional?: boolean;
  readonly gzip?: boolean;
  /** Set other attribute bits, such as a codec number whose bytes the test does not write. */
  readonly attributes?: number;
}

export interface DecodedRecord {
  readonly offset: number;
  readonly key: string | null;
  readonly value: string | null;
  readonly timestamp: number;
}

export interface DecodedBatch {
  readonly baseOffset: number;
  readonly leaderEpoch: number;
  readonly producerId: number;
  readonly control: boolean;
  readonly crcHolds: boolean;
  readonly records: DecodedRecord[];
}

/** CRC-32C straight from its polynomial. */
export function slowCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  }
  return (crc ^ 0xffffffff) >>> 0;
}

export function encodeBatch(batch: TestBatch): Buffer {
  const times = batch.records.map((r) => r.timestamp ?? 1_000);
  const baseTimestamp = times[0] ?? 0;
  const records = batch.records.map((record, i) => {
    const body = Buffer.concat([
      Buffer.from([0]),
      signed(times[i]! - baseTimestamp),
      signed(i),
      field(record.key ?? null),
      field(record.value),
      signed(0),
    ]);
    return Buffer.concat([signed(body.length), body]);
  });
  const plain = Buffer.concat(records);
  const payload = batch.gzip ? gzipSync(plain) : plain;
  const out = Buffer.alloc(61 + payload.length);
  payload.copy(out, 61);
  out.writeBigInt64BE(0n, 0);
  out.writeInt32BE(out.length - 12, 8);
  out.writeInt32BE(-1, 12);
  out.writeInt8(2, 16);
  out.writeInt16BE((batch.attributes ?? 0) | (batch.gzip ? 1 : 0) | (batch.transactional ? 16 : 0), 21);
  out.writeInt32BE(batch.records.length - 1, 23);
  out.writeBigInt64BE(BigInt(baseTimestamp), 27);
  out.writeBigInt64BE(BigInt(Math.max(...times)), 35);
  out.writeBigInt64BE(BigInt(batch.producerId ?? -1), 43);
  out.writeInt16BE(batch.epoch ?? 0, 51);
  out.writeInt32BE(batch.sequence ?? 0, 53);
  out.writeInt32BE(batch.records.length, 57);
  out.writeUInt32BE(slowCrc32c(out.subarray(21)), 17);
  return out;
}

export function decodeBatches(bytes: Buffer): DecodedBatch[] {
  const batches: DecodedBatch[] = [];
  for (let at = 0; at < bytes.length; ) {
    const batch = bytes.subarray(at, at + 12 + bytes.readInt32BE(at + 8));
    at += batch.length;
    const baseOffset = Number(batch.readBigInt64BE(0));
    const attributes = batch.readInt16BE(21);
    const payload = batch.subarray(61);
    batches.push({
      baseOffset,
      leaderEpoch: batch.readInt32BE(12),
      producerId: Number(batch.readBigInt64BE(43)),
      control: (attributes & 32) !== 0,
      crcHolds: slowCrc32c(batch.subarray(21)) === batch.readUInt32BE(17),
      records: decodeRecords(
        attributes & 1 ? gunzipSync(payload) : payload,
        batch.readInt32BE(57),
        baseOffset,
        Number(batch.readBigInt64BE(27)),
      ),
    });
  }
  return batches;
}

function decodeRecords(payload: Buffer, count: number, baseOffset: number, baseTimestamp: number): DecodedRecord[] {
  let at = 0;
  const next = (): number => {
    let raw = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = payload.readUInt8(at++);
      raw |= BigInt(byte & 127) << shift;
      if (byte < 128) return Number((raw >> 1n) ^ -(raw & 1n));
    }
  };
  const text = (): string | null => {
    const length = next();
    if (length < 0) return null;
    at += length;
    return payload.toString('latin1', at - length, at);
  };
  return Array.from({ length: count }, () => {
    next();
    at += 1;
    const timestamp = baseTimestamp + next();
    const offset = baseOffset + next();
    const key = text();
    const value = text();
    next();
    return { offset, key, value, timestamp };
  });
}

function field(text: string | null): Buffer {
  return text === null
    ? signed(-1)
    : Buffer.concat([signed(Buffer.byteLength(text, 'latin1')), Buffer.from(text, 'latin1')]);
}

function signed(value: number): Buffer {
  const big = BigInt(value);
  let raw = BigInt.asUintN(64, (big << 1n) ^ (big >> 63n));
  const bytes: number[] = [];
  while (raw > 127n) {
    bytes.push(Number(raw & 127n) | 128);
    raw >>= 7n;
  }
  bytes.push(Number(raw));
  return Buffer.from(bytes);
}
