import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { LogConfig, PartitionLog } from '../../../../src/broker/log/log.js';
import { openPartitionLog } from '../../../../src/broker/log/partition-log.js';
import { decodeBatches, encodeBatch, type TestBatch, type TestRecord } from '../../../support/record-batch.js';

const config: LogConfig = {
  cleanupPolicy: 'delete',
  retentionMs: -1,
  retentionBytes: -1,
  segmentBytes: 1_048_576,
  deleteRetentionMs: 1_000,
  maxMessageBytes: 100_000,
};
const NOW = 10_000;

const logs: PartitionLog[] = [];
const folders: string[] = [];

afterEach(() => {
  for (const log of logs.splice(0)) log.close();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

function folder(): string {
  const made = mkdtempSync(path.join(tmpdir(), 'iguana-log-'));
  folders.push(made);
  return made;
}

function open(directory: string | null, overrides: Partial<LogConfig> = {}): PartitionLog {
  const log = openPartitionLog({ directory, config: { ...config, ...overrides }, leaderEpoch: 7 });
  logs.push(log);
  return log;
}

/** As a killed process leaves it: nothing is closed or flushed. */
function reopen(directory: string, overrides: Partial<LogConfig> = {}): PartitionLog {
  return open(directory, overrides);
}

function values(...texts: string[]): TestRecord[] {
  return texts.map((value) => ({ value }));
}

function put(log: PartitionLog, batch: TestBatch): number {
  const result = log.append(encodeBatch(batch), NOW);
  expect(result.error).toBeNull();
  return Number(result.baseOffset);
}

function keyed(key: string, value: string | null, timestamp = NOW): TestRecord {
  return { key, value, timestamp };
}

/** All records from an offset, read in pieces of maxBytes. */
function readAll(log: PartitionLog, from = log.startOffset, maxBytes = 1_000, committedOnly = false) {
  const batches = [];
  for (let offset = from; offset < log.endOffset; ) {
    const read = log.read(offset, maxBytes, committedOnly);
    if (!read || read.bytes.length === 0) break;
    const decoded = decodeBatches(read.bytes);
    batches.push(...decoded);
    const last = read.bytes;
    let at = 0;
    while (at + 12 + last.readInt32BE(at + 8) < last.length) at += 12 + last.readInt32BE(at + 8);
    offset = last.readBigInt64BE(at) + BigInt(last.readInt32BE(at + 23)) + 1n;
  }
  return batches;
}

function recordsIn(log: PartitionLog) {
  return readAll(log).flatMap((b) => (b.control ? [] : b.records));
}

function logFiles(directory: string): string[] {
  return readdirSync(directory)
    .filter((f) => f.endsWith('.log'))
    .sort();
}

for (const where of ['memory', 'disk'] as const) {
  const place = () => (where === 'disk' ? folder() : null);

  describe(`partition log in ${where === 'disk' ? 'a folder' : 'memory'}`, () => {
    it('gives offsets, writes them and the leader epoch into the batch, and leaves the checksum right', () => {
      const log = open(place());
      expect(put(log, { records: values('a', 'b') })).toBe(0);
      expect(put(log, { records: values('c') })).toBe(2);
      expect(log.endOffset).toBe(3n);
      const batches = readAll(log);
      expect(batches.map((b) => [b.baseOffset, b.leaderEpoch, b.crcHolds])).toEqual([
        [0, 7, true],
        [2, 7, true],
      ]);
      expect(batches.flatMap((b) => b.records.map((r) => [r.offset, r.value]))).toEqual([
        [0, 'a'],
        [1, 'b'],
        [2, 'c'],
      ]);
    });

    it('starts a read with the batch that contains the offset, whole even when over the limit', () => {
      const log = open(place());
      put(log, { records: values('a', 'b', 'c') });
      put(log, { records: values('d', 'e') });
      const one = log.read(1n, 1, false);
      expect(decodeBatches(one!.bytes).map((b) => b.baseOffset)).toEqual([0]);
      expect(decodeBatches(log.read(3n, 1_000, false)!.bytes).map((b) => b.baseOffset)).toEqual([3]);
      expect(decodeBatches(log.read(0n, 1_000, false)!.bytes)).toHaveLength(2);
      expect(log.read(5n, 1_000, false)!.bytes).toHaveLength(0);
      expect(log.read(6n, 1_000, false)).toBeNull();
      expect(log.read(-1n, 1_000, false)).toBeNull();
    });

    it('keeps slices read earlier unchanged while it grows', () => {
      const log = open(place());
      put(log, { records: values('first') });
      const before = log.read(0n, 1_000, false)!.bytes;
      const copy = Buffer.from(before);
      for (let i = 0; i < 200; i++) put(log, { records: values('x'.repeat(200)) });
      expect(before.equals(copy)).toBe(true);
    });

    it('refuses what is damaged, old, foreign or too large, and appends nothing of it', () => {
      const log = open(place(), { maxMessageBytes: 500 });
      const damaged = encodeBatch({ records: values('abc') });
      damaged[damaged.length - 1]! ^= 1;
      expect(log.append(damaged, NOW).error).toBe('CORRUPT_MESSAGE');
      const cut = encodeBatch({ records: values('abc') });
      expect(log.append(cut.subarray(0, cut.length - 1), NOW).error).toBe('CORRUPT_MESSAGE');
      const old = Buffer.alloc(34);
      old.writeInt8(1, 16);
      old.writeInt32BE(22, 8);
      expect(log.append(old, NOW).error).toBe('UNSUPPORTED_FOR_MESSAGE_FORMAT');
      expect(log.append(encodeBatch({ records: values('x'.repeat(500)) }), NOW).error).toBe('MESSAGE_TOO_LARGE');
      expect(log.append(encodeBatch({ records: values('a'), attributes: 32 }), NOW).error).toBe('INVALID_RECORD');
      expect(log.append(Buffer.alloc(0), NOW).error).toBe('INVALID_RECORD');
      const second = encodeBatch({ records: values('abc') });
      second[30]! ^= 1;
      expect(log.append(Buffer.concat([encodeBatch({ records: values('fine') }), second]), NOW).error).toBe(
        'CORRUPT_MESSAGE',
      );
      expect(log.endOffset).toBe(0n);
      expect(log.sizeInBytes).toBe(0);
    });

    it('gives back any sequence of batches from any offset, over segments', () => {
      const run = fc.property(
        fc.array(fc.array(fc.string({ maxLength: 40, unit: 'binary-ascii' }), { minLength: 1, maxLength: 5 }), {
          minLength: 1,
          maxLength: 30,
        }),
        fc.integer({ min: 100, max: 6_000 }),
        fc.integer({ min: 1, max: 2_000 }),
        fc.nat(),
        (written, segmentBytes, maxBytes, pick) => {
          const directory = place();
          let log = open(directory, { segmentBytes });
          for (const texts of written) put(log, { records: values(...texts) });
          const all = written.flat();
          for (let pass = 0; pass < (directory ? 2 : 1); pass++) {
            if (pass === 1) log = reopen(directory!, { segmentBytes });
            expect(log.endOffset).toBe(BigInt(all.length));
            const from = pick % all.length;
            const got = readAll(log, BigInt(from), maxBytes).flatMap((b) => b.records);
            expect(got.filter((r) => r.offset >= from).map((r) => r.value)).toEqual(all.slice(from));
            const first = got[0]!.offset;
            expect(got.map((r) => r.offset)).toEqual(got.map((_, i) => first + i));
            expect(from - first).toBeLessThan(5);
          }
        },
      );
      fc.assert(run, { numRuns: 40 });
    });

    describe('idempotent producers', () => {
      const batch = (sequence: number, count = 1, epoch = 0) =>
        encodeBatch({ producerId: 5, epoch, sequence, records: values(...Array<string>(count).fill('v')) });

      it('answers a repeated batch with its first offset and appends it once', () => {
        const log = open(place());
        for (let i = 0; i < 6; i++) log.append(batch(i * 2, 2), NOW);
        expect(log.append(batch(4, 2), NOW)).toEqual({ error: null, baseOffset: 4n, duplicate: true });
        expect(log.append(batch(2, 2), NOW)).toEqual({ error: null, baseOffset: 2n, duplicate: true });
        expect(log.append(batch(0, 2), NOW).error).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER'); // the sixth before is forgotten
        expect(log.endOffset).toBe(12n);
      });

      it('refuses gaps and older epochs, and begins at 0 in a newer one', () => {
        const log = open(place());
        log.append(batch(0), NOW);
        expect(log.append(batch(2), NOW).error).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER');
        expect(log.append(batch(1, 1, 1), NOW).error).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER');
        expect(log.append(batch(0, 1, 1), NOW).error).toBeNull();
        expect(log.append(batch(1, 1, 0), NOW).error).toBe('INVALID_PRODUCER_EPOCH');
        expect(log.endOffset).toBe(2n);
      });

      it('wraps the sequence after 2^31 − 1', () => {
        const log = open(place());
        expect(log.append(batch(2 ** 31 - 2, 3), NOW).error).toBeNull(); // …6, …7, 0
        expect(log.append(batch(1), NOW).error).toBeNull();
        expect(log.append(batch(2 ** 31 - 2, 3), NOW).duplicate).toBe(true);
      });

      it('lets producers without an id repeat whatever they send', () => {
        const log = open(place());
        for (let i = 0; i < 3; i++) expect(put(log, { epoch: 0, sequence: 0, records: values('v') })).toBe(i);
      });

      it('appends what is new of a request whose beginning was a repetition', () => {
        const log = open(place());
        log.append(batch(0), NOW);
        const result = log.append(Buffer.concat([batch(0), batch(1)]), NOW);
        expect(result).toEqual({ error: null, baseOffset: 0n, duplicate: false });
        expect(log.endOffset).toBe(2n);
      });

      it('forgets a producer after a silent day', () => {
        const log = open(place());
        log.append(batch(0), NOW);
        log.clean(config, NOW + 86_400_000);
        expect(log.append(batch(7), NOW).error).toBe('OUT_OF_ORDER_SEQUENCE_NUMBER');
        log.clean(config, NOW + 86_400_001);
        expect(log.append(batch(7), NOW).error).toBeNull();
      });
    });

    describe('transactions', () => {
      const inTransaction = (producerId: number, sequence: number, ...texts: string[]): TestBatch => ({
        producerId,
        sequence,
        transactional: true,
        records: values(...texts),
      });

      it('holds committed readers at the oldest open transaction and names aborted ones', () => {
        const log = open(place());
        put(log, { records: values('plain') }); // 0
        put(log, inTransaction(1, 0, 'a', 'b')); // 1, 2
        put(log, inTransaction(2, 0, 'c')); // 3
        expect(log.lastStableOffset).toBe(1n);
        expect(log.appendMarker(2n, 0, true, NOW)).toBe(4n);
        expect(log.lastStableOffset).toBe(1n);
        expect(readAll(log, 0n, 10_000, true).map((b) => b.baseOffset)).toEqual([0]);
        expect(log.read(1n, 10_000, true)!.bytes).toHaveLength(0);
        expect(log.appendMarker(1n, 0, false, NOW)).toBe(5n);
        expect(log.lastStableOffset).toBe(6n);
        const read = log.read(0n, 10_000, true)!;
        expect(read.abortedTransactions).toEqual([{ producerId: 1n, firstOffset: 1n }]);
        const batches = decodeBatches(read.bytes);
        expect(batches.every((b) => b.crcHolds)).toBe(true);
        expect(batches.filter((b) => b.control).map((b) => [b.producerId, b.records[0]!.key])).toEqual([
          [2, '\0\0\0\x01'],
          [1, '\0\0\0\0'],
        ]);
        expect(log.read(0n, 10_000, false)!.abortedTransactions).toEqual([]);
        expect(log.read(0n, 1, true)!.abortedTransactions).toEqual([]); // only batch 0 was read
        expect(log.read(5n, 1, true)!.abortedTransactions).toEqual([{ producerId: 1n, firstOffset: 1n }]);
      });

      it('refuses a plain batch inside a transaction and fences older epochs after a marker', () => {
        const log = open(place());
        put(log, inTransaction(1, 0, 'a'));
        expect(log.append(encodeBatch({ producerId: 1, sequence: 1, records: values('b') }), NOW).error).toBe(
          'INVALID_TXN_STATE',
        );
        log.appendMarker(1n, 1, false, NOW);
        expect(log.append(encodeBatch(inTransaction(1, 1, 'late')), NOW).error).toBe('INVALID_PRODUCER_EPOCH');
        expect(log.append(encodeBatch({ ...inTransaction(1, 0, 'next'), epoch: 1 }), NOW).error).toBeNull();
      });
    });

    it('finds the first record at or after a time, also in packed batches and after deletion', () => {
      const log = open(place(), { segmentBytes: 400 });
      const at = (timestamp: number, value = 'v'): TestRecord => ({ value, timestamp });
      expect(log.maxTimestamp()).toBeNull();
      put(log, { records: [at(1_000), at(1_500), at(1_200)] }); // 0–2
      put(log, { gzip: true, records: [at(2_000), at(3_000)] }); // 3, 4
      put(log, { records: [at(2_500)] }); // 5
      for (let i = 0; i < 10; i++) put(log, { records: [at(4_000 + i)] }); // 6–15
      expect(log.offsetForTime(0)).toEqual({ offset: 0n, timestamp: 1_000n });
      expect(log.offsetForTime(1_001)).toEqual({ offset: 1n, timestamp: 1_500n });
      expect(log.offsetForTime(1_501)).toEqual({ offset: 3n, timestamp: 2_000n });
      expect(log.offsetForTime(2_001)).toEqual({ offset: 4n, timestamp: 3_000n });
      expect(log.offsetForTime(4_005)).toEqual({ offset: 11n, timestamp: 4_005n });
      expect(log.offsetForTime(4_010)).toBeNull();
      expect(log.maxTimestamp()).toEqual({ offset: 15n, timestamp: 4_009n });
      log.deleteBefore(2n);
      expect(log.offsetForTime(0)).toEqual({ offset: 2n, timestamp: 1_200n });
      log.deleteBefore(5n);
      expect(log.offsetForTime(0)).toEqual({ offset: 5n, timestamp: 2_500n });
    });

    it('deletes records below an offset, whole segments with them, and not beyond the end', () => {
      const log = open(place(), { segmentBytes: 200 });
      for (let i = 0; i < 12; i++) put(log, { records: values('0123456789') });
      const before = log.sizeInBytes;
      expect(log.deleteBefore(7n)).toBe(7n);
      expect(log.startOffset).toBe(7n);
      expect(log.sizeInBytes).toBeLessThan(before / 1.5);
      expect(log.read(6n, 100, false)).toBeNull();
      expect(recordsIn(log).filter((r) => r.offset >= 7)).toHaveLength(5);
      expect(log.deleteBefore(3n)).toBe(7n);
      expect(() => log.deleteBefore(13n)).toThrow(RangeError);
      expect(log.deleteBefore(-1n)).toBe(12n);
      expect(put(log, { records: values('next') })).toBe(12);
    });

    it('drops old segments by size and by time, the active one only by age', () => {
      const log = open(place(), { segmentBytes: 200 });
      for (let i = 0; i < 12; i++) put(log, { records: [{ value: '0123456789', timestamp: NOW + i }] });
      const before = log.sizeInBytes;
      const freed = log.clean({ ...config, segmentBytes: 200, retentionBytes: 400 }, NOW);
      expect(log.sizeInBytes).toBe(before - freed);
      expect(log.sizeInBytes).toBeGreaterThanOrEqual(400);
      expect(log.sizeInBytes).toBeLessThan(600);
      const start = log.startOffset;
      expect(start).toBeGreaterThan(0n);
      expect(recordsIn(log)[0]!.offset).toBe(Number(start));
      log.clean({ ...config, segmentBytes: 200, retentionMs: 1_000 }, NOW + 1_000);
      expect(log.startOffset).toBe(start);
      log.clean({ ...config, segmentBytes: 200, retentionMs: 1_000 }, NOW + 2_000);
      expect(log.startOffset).toBe(12n);
      expect(log.sizeInBytes).toBe(0);
      expect(put(log, { records: values('next') })).toBe(12);
    });

    it('frees a slow topic whose active segment never fills', () => {
      const log = open(place());
      let now = NOW;
      for (let i = 0; i < 20; i++, now += 400) {
        log.append(encodeBatch({ records: [{ value: `${i}`, timestamp: now }] }), now);
        log.clean({ ...config, retentionMs: 1_000 }, now);
      }
      expect(Number(log.endOffset - log.startOffset)).toBeLessThan(10);
      expect(recordsIn(log).at(-1)!.value).toBe('19');
    });

    describe('compaction', () => {
      const compacted: Partial<LogConfig> = { cleanupPolicy: 'compact', segmentBytes: 400 };
      const cleanConfig: LogConfig = { ...config, ...compacted };

      it('keeps the newest value of each key at its offset, in packed batches too', () => {
        const log = open(place(), compacted);
        put(log, { gzip: true, records: [keyed('a', 'a0'), keyed('b', 'b1'), keyed('a', 'a2')] });
        put(log, { records: [keyed('a', 'a3'), { key: null, value: 'no key' }] });
        for (let i = 5; i < 20; i++) put(log, { records: [keyed('c', `c${i}`)] });
        expect(log.clean(cleanConfig, NOW)).toBeGreaterThan(0);
        const left = recordsIn(log);
        expect(left.map((r) => [r.offset, r.value])).toEqual(
          expect.arrayContaining([
            [1, 'b1'],
            [3, 'a3'],
            [4, 'no key'],
            [19, 'c19'],
          ]),
        );
        expect(left.some((r) => r.value === 'a0' || r.value === 'a2' || r.value === 'c5')).toBe(false);
        expect(readAll(log).every((b) => b.crcHolds)).toBe(true);
        expect(log.startOffset).toBe(0n);
        expect(log.endOffset).toBe(20n);
        expect(put(log, { records: [keyed('d', 'd20')] })).toBe(20);
      });

      it('keeps tombstones for their time, then drops them', () => {
        const log = open(place(), compacted);
        put(log, { records: [keyed('a', 'a0')] });
        put(log, { records: [keyed('a', null)] });
        for (let i = 0; i < 12; i++) put(log, { records: [keyed(`k${i}`, 'x')] });
        log.clean(cleanConfig, NOW);
        expect(recordsIn(log).filter((r) => r.key === 'a')).toMatchObject([{ offset: 1, value: null }]);
        log.clean(cleanConfig, NOW + 1_000);
        expect(recordsIn(log).filter((r) => r.key === 'a')).toHaveLength(1);
        log.clean(cleanConfig, NOW + 1_001);
        expect(recordsIn(log).filter((r) => r.key === 'a')).toHaveLength(0);
        expect(recordsIn(log)).toHaveLength(12);
      });

      it('drops aborted values and never lets an open transaction replace a committed one', () => {
        const log = open(place(), compacted);
        put(log, { records: [keyed('a', 'committed')] }); // 0
        put(log, { producerId: 1, sequence: 0, transactional: true, records: [keyed('a', 'aborted')] }); // 1
        for (let i = 0; i < 8; i++) put(log, { records: [keyed('filler', 'x'.repeat(60))] });
        log.clean(cleanConfig, NOW);
        expect(recordsIn(log).filter((r) => r.key === 'a')).toHaveLength(2);
        log.appendMarker(1n, 0, false, NOW);
        for (let i = 0; i < 8; i++) put(log, { records: [keyed('filler', 'x'.repeat(60))] });
        log.clean(cleanConfig, NOW);
        expect(recordsIn(log).filter((r) => r.key === 'a')).toMatchObject([{ value: 'committed' }]);
      });

      it('keeps a committed value in a closed segment while a later transaction on its key is open', () => {
        const log = open(place(), compacted);
        put(log, { records: [keyed('a', 'committed')] });
        for (let i = 0; i < 12; i++) put(log, { records: [keyed('filler', 'x'.repeat(60))] });
        put(log, { producerId: 1, sequence: 0, transactional: true, records: [keyed('a', 'open')] });
        expect(log.clean(cleanConfig, NOW)).toBeGreaterThan(0);
        log.appendMarker(1n, 0, false, NOW);
        expect(recordsIn(log)[0]).toMatchObject({ offset: 0, key: 'a', value: 'committed' });
      });

      it.each([8, 9, 10, 11, 12, 13, 14])('reads on beyond a gap after %i batches from any offset in it', (before) => {
        const large = { ...compacted, segmentBytes: 20_000 };
        const log = open(place(), large);
        const pad = 'x'.repeat(300); // about eleven batches fill a block of the index
        for (let i = 0; i < before; i++) put(log, { records: [keyed(`first${i}`, pad)] });
        for (let i = 0; i < 200; i++) put(log, { records: [keyed('again', pad)] });
        for (let i = 0; i < 30; i++) put(log, { records: [keyed(`last${i}`, pad)] });
        log.clean({ ...config, ...large }, NOW);
        const offsets = recordsIn(log).map((r) => r.offset);
        expect(offsets.length).toBeLessThan(200);
        for (let from = 0; from < Number(log.endOffset); from++) {
          const next = Number(log.read(BigInt(from), 1, false)!.bytes.readBigInt64BE(0));
          expect(next).toBe(offsets.find((o) => o >= from));
        }
      });

      it('keeps whole what it cannot unpack, and tombstones after it', () => {
        const log = open(place(), compacted);
        put(log, { attributes: 2, records: [keyed('a', 'hidden')] });
        put(log, { attributes: 1, records: [keyed('a', 'no gzip')] });
        put(log, { records: [keyed('a', null)] });
        for (let i = 0; i < 12; i++) put(log, { records: [keyed('b', `${i}`)] });
        log.clean(cleanConfig, NOW + 100_000);
        expect(log.read(0n, 1, false)!.bytes.readBigInt64BE(0)).toBe(0n);
        expect(log.read(1n, 1, false)!.bytes.readBigInt64BE(0)).toBe(1n);
        const tombstone = log.read(2n, 1, false)!.bytes;
        expect(decodeBatches(tombstone)[0]!.records).toMatchObject([{ offset: 2, key: 'a', value: null }]);
      });

      it('leaves as a table what a map of the records holds, whatever is written and whenever it runs', () => {
        const step = fc.oneof(
          { weight: 8, arbitrary: fc.tuple(fc.constantFrom('a', 'b', 'c', 'd'), fc.option(fc.nat(99)), fc.boolean()) },
          { weight: 1, arbitrary: fc.constant('clean' as const) },
          { weight: 1, arbitrary: fc.constant('reopen' as const) },
        );
        fc.assert(
          fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
            const directory = place();
            let log = open(directory, compacted);
            const table = new Map<string, string>();
            for (const s of steps) {
              if (s === 'clean') log.clean(cleanConfig, NOW);
              else if (s === 'reopen') {
                if (directory) log = reopen(directory, compacted);
              } else {
                const [key, number, gzip] = s;
                const value = number === null ? null : String(number);
                put(log, { gzip, records: [keyed('z', 'filler'), keyed(key, value)] });
                if (value === null) table.delete(key);
                else table.set(key, value);
                table.set('z', 'filler');
              }
            }
            const end = log.endOffset;
            log.clean(cleanConfig, NOW + 5_000);
            expect(log.endOffset).toBe(end);
            const seen = new Map<string, string>();
            let previous = -1;
            for (const record of recordsIn(log)) {
              expect(record.offset).toBeGreaterThan(previous);
              previous = record.offset;
              if (record.value === null) seen.delete(record.key!);
              else seen.set(record.key!, record.value);
            }
            expect(seen).toEqual(table);
          }),
          { numRuns: 60 },
        );
      });

      it('stays small in bytes and segments however long it runs', () => {
        const directory = place();
        const log = open(directory, { ...compacted, segmentBytes: 2_000 });
        for (let i = 0; i < 3_000; i++) {
          put(log, { records: [keyed(`k${i % 5}`, `${i}`)] });
          if (i % 50 === 0) log.clean({ ...cleanConfig, segmentBytes: 2_000 }, NOW);
        }
        expect(log.sizeInBytes).toBeLessThan(12_000);
        if (directory) expect(logFiles(directory).length).toBeLessThan(8);
      });
    });
  });
}

describe('partition log on disk', () => {
  it('comes back after a kill with offsets, sequences, transactions and start offset', () => {
    const directory = folder();
    const small = { segmentBytes: 300 };
    const log = open(directory, small);
    for (let i = 0; i < 6; i++) put(log, { producerId: 9, sequence: i, records: values(`v${i}`) });
    put(log, { producerId: 1, sequence: 0, transactional: true, records: values('gone') }); // 6
    log.appendMarker(1n, 0, false, NOW); // 7
    put(log, { producerId: 2, sequence: 0, transactional: true, records: values('open') }); // 8
    log.deleteBefore(1n);
    const again = reopen(directory, small);
    expect([again.startOffset, again.endOffset, again.lastStableOffset]).toEqual([1n, 9n, 8n]);
    expect(again.sizeInBytes).toBe(log.sizeInBytes);
    expect(again.read(6n, 10_000, true)!.abortedTransactions).toEqual([{ producerId: 1n, firstOffset: 6n }]);
    const repeated = encodeBatch({ producerId: 9, sequence: 3, records: values('v3') });
    expect(again.append(repeated, NOW)).toEqual({ error: null, baseOffset: 3n, duplicate: true });
    expect(again.appendMarker(2n, 0, true, NOW)).toBe(9n);
    expect(again.lastStableOffset).toBe(10n);
  });

  it('cuts off a torn tail at every length and goes on from there', () => {
    const directory = folder();
    const log = open(directory);
    put(log, { records: values('one', 'two') });
    const whole = log.sizeInBytes;
    put(log, { records: values('three') });
    const all = log.sizeInBytes;
    const file = path.join(directory, logFiles(directory)[0]!);
    for (let length = whole; length < all; length += 7) {
      const copy = folder();
      copyFileSync(file, path.join(copy, path.basename(file)));
      truncateSync(path.join(copy, path.basename(file)), length);
      const recovered = open(copy);
      expect(recovered.endOffset).toBe(2n);
      expect(statSync(path.join(copy, path.basename(file))).size).toBe(whole);
      expect(put(recovered, { records: values('again') })).toBe(2);
      expect(recordsIn(recovered).map((r) => r.value)).toEqual(['one', 'two', 'again']);
    }
  });

  it('cuts off a tail with a wrong checksum, with zeros or with noise', () => {
    const tails: ((good: Buffer) => Buffer)[] = [
      () => Buffer.alloc(4_096),
      () => Buffer.alloc(300, 0xa5),
      (good) => Buffer.concat([good.subarray(0, good.length - 1), Buffer.from([good.at(-1)! ^ 1])]),
    ];
    for (const tail of tails) {
      const directory = folder();
      put(open(directory), { records: values('kept') });
      const file = path.join(directory, logFiles(directory)[0]!);
      appendFileSync(file, tail(readFileSync(file)));
      const recovered = open(directory);
      expect(recovered.endOffset).toBe(1n);
      expect(recordsIn(recovered).map((r) => r.value)).toEqual(['kept']);
    }
  });

  it('removes what an interrupted compaction left', () => {
    const compacted: Partial<LogConfig> = { cleanupPolicy: 'compact', segmentBytes: 400 };
    const directory = folder();
    const log = open(directory, compacted);
    for (let i = 0; i < 20; i++) put(log, { records: [keyed(i < 3 || i > 6 ? 'a' : `k${i}`, `v${i}`)] });
    const absorbed = logFiles(directory)[1]!;
    const kept = folder();
    copyFileSync(path.join(directory, absorbed), path.join(kept, absorbed));
    log.clean({ ...config, ...compacted }, NOW);
    expect(existsSync(path.join(directory, absorbed))).toBe(false);
    const expected = recordsIn(log);
    copyFileSync(path.join(kept, absorbed), path.join(directory, absorbed));
    writeFileSync(path.join(directory, `${absorbed}.cleaned`), 'half');
    const again = reopen(directory, compacted);
    expect(recordsIn(again)).toEqual(expected);
    expect(existsSync(path.join(directory, absorbed))).toBe(false);
    expect(readdirSync(directory).some((f) => f.endsWith('.cleaned'))).toBe(false);
  });

  it.runIf(existsSync('/dev/full'))('says that the disk is full and stays as it was', () => {
    const directory = folder();
    symlinkSync('/dev/full', path.join(directory, '00000000000000000000.log'));
    const log = open(directory);
    expect(log.append(encodeBatch({ records: values('a') }), NOW).error).toBe('KAFKA_STORAGE_ERROR');
    expect([log.endOffset, log.sizeInBytes]).toEqual([0n, 0]);
  });

  it('flushes closed segments too', () => {
    const directory = folder();
    const log = open(directory, { segmentBytes: 100 });
    for (let i = 0; i < 5; i++) put(log, { records: values('a') });
    expect(() => log.flush()).not.toThrow();
    expect(logFiles(directory)).toHaveLength(5);
  });
});
