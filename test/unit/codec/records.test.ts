import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeAvro, schemaNames, schemaOf } from '../../../src/codec/avro.js';
import { ByteTable } from '../../../src/codec/byte-table.js';
import { deadLetter } from '../../../src/codec/dead-letter.js';
import { decodeAction, decodeAnomaly, decodeDecision, decodeForecast } from '../../../src/codec/decode.js';
import { encodeAction, encodeAnomaly, encodeDecision, encodeForecast } from '../../../src/codec/encode.js';
import { fingerprint64 } from '../../../src/codec/fingerprint.js';
import { IguanaError } from '../../../src/errors.js';
import type { ActionRecord, AnomalyRecord, DecisionRecord, ForecastRecord } from '../../../src/records.js';

const text = fc.string({ maxLength: 8 });
const finite = fc.double({ noNaN: true, noDefaultInfinity: true }).map((x) => x + 0);
const time = fc.integer({ min: 0, max: 4e12 });
const labels = fc.dictionary(text, text, { maxKeys: 3 });
const nullable = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: null });

const interval = fc.record({ level: finite, lower: finite, upper: finite });
const point = fc.record({
  horizonMs: finite,
  timestamp: finite,
  value: finite,
  intervals: fc.array(interval, { maxLength: 2 }),
  confidence: finite,
});
const forecast: fc.Arbitrary<ForecastRecord> = fc.record({
  id: text,
  series: text,
  name: text,
  labels,
  entity: text,
  model: text,
  madeAt: time,
  stepMs: finite,
  points: fc.array(point, { maxLength: 3 }),
});
const anomaly: fc.Arbitrary<AnomalyRecord> = fc.record({
  id: text,
  state: fc.constantFrom('open', 'update', 'resolved'),
  series: text,
  name: text,
  labels,
  entity: text,
  type: fc.constantFrom('statistical', 'missing'),
  severity: fc.constantFrom('info', 'critical'),
  detectors: fc.array(text, { maxLength: 3 }),
  openedAt: time,
  updatedAt: time,
  resolvedAt: nullable(time),
  value: finite,
  expected: finite,
  lower: finite,
  upper: finite,
  score: finite,
  confidence: finite,
  reason: text,
  recommendation: text,
});
const count = fc.integer({ min: 0, max: 1000 });
const decision: fc.Arbitrary<DecisionRecord> = fc.record({
  id: text,
  policy: text,
  entity: text,
  timestamp: time,
  current: count,
  desired: count,
  reactive: count,
  predicted: nullable(count),
  horizonMs: nullable(finite),
  quantile: nullable(finite),
  confidence: nullable(finite),
  reason: text,
  dryRun: fc.boolean(),
});
const action: fc.Arbitrary<ActionRecord> = fc.record({
  id: text,
  rule: text,
  anomaly: text,
  entity: text,
  timestamp: time,
  kind: fc.constantFrom('restart', 'alert'),
  parameters: labels,
  outcome: fc.constantFrom('done', 'planned'),
  reason: text,
  dryRun: fc.boolean(),
});

describe('records', () => {
  const roundTrip = <T>(
    of: fc.Arbitrary<T>,
    encode: (record: T, format: 'json' | 'avro') => Buffer,
    decode: (bytes: Buffer) => T,
  ) => {
    fc.assert(
      fc.property(of, fc.constantFrom('json' as const, 'avro' as const), (record, format) => {
        expect(decode(encode(record, format))).toEqual(record);
      }),
    );
  };
  it('come back as they were written, in both formats', () => {
    roundTrip(forecast, encodeForecast, decodeForecast);
    roundTrip(anomaly, encodeAnomaly, decodeAnomaly);
    roundTrip(decision, encodeDecision, decodeDecision);
    roundTrip(action, encodeAction, decodeAction);
  });

  it('are refused with the field that is wrong', () => {
    const one = fc.sample(decision, 1)[0]!;
    expect(() => decodeDecision(Buffer.from(JSON.stringify({ ...one, desired: 'many' })))).toThrow(
      /IGU_RECORD_MALFORMED.*"desired" is "many"/,
    );
    expect(() => decodeDecision(Buffer.from('{'))).toThrow(/IGU_RECORD_MALFORMED/);
    expect(() => decodeDecision(Buffer.from('null'))).toThrow(/IGU_RECORD_MALFORMED/);
    expect(() => decodeForecast(encodeDecision(one, 'avro'))).toThrow(/a record of decisions, not of forecasts/);
    expect(() => decodeDecision(encodeDecision(one, 'avro').subarray(0, 12))).toThrow(/IGU_RECORD_MALFORMED/);
    expect(() => decodeDecision(Buffer.from('c301', 'hex'))).toThrow(/IGU_SCHEMA_UNKNOWN/);
  });
});

describe('damaged avro', () => {
  it('is read as something else or refused, in bounded time, whatever byte is changed', () => {
    const whole = fc.sample(forecast, 20).map((record) => encodeForecast(record, 'avro'));
    fc.assert(
      fc.property(
        fc.constantFrom(...whole),
        fc.nat(),
        fc.uint8Array({ minLength: 1, maxLength: 9 }),
        (bytes, at, put) => {
          const damaged = Buffer.from(bytes);
          damaged.set(
            put.subarray(0, Math.max(0, damaged.length - 10 - (at % (damaged.length - 10)))),
            10 + (at % (damaged.length - 10)),
          );
          try {
            decodeForecast(damaged);
          } catch (error) {
            expect(error).toBeInstanceOf(IguanaError);
          }
        },
      ),
      { numRuns: 2000 },
    );
    // an array of 2^50 points
    const one = encodeForecast({ ...fc.sample(forecast, 1)[0]!, points: [] }, 'avro');
    const huge = Buffer.concat([one.subarray(0, one.length - 1), Buffer.from('80808080808080040000', 'hex')]);
    expect(() => decodeForecast(huge)).toThrow(/torn or damaged/);
  });
});

describe('schemas', () => {
  it('have the fingerprints that another Avro implementation gives them', () => {
    // the first two: Avro's own test data; the others: fastavro, fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO")
    expect(fingerprint64('"null"').readBigUInt64LE().toString(16)).toBe('63dd24e7cc258f8a');
    expect(fingerprint64('"int"').readBigUInt64LE().toString(16)).toBe('7275d51a3f395c8f');
    const sample = encodeAvro('metrics', { name: 'a', labels: {}, timestamp: 1, value: 1 });
    expect(sample.toString('hex', 0, 10)).toBe('c3014b1c6fd4d18c7740');
    const empty = encodeAvro('metrics-batch', { series: [], seriesNumbers: [], timestamps: [], values: [] });
    expect(empty.toString('hex', 0, 10)).toBe('c3016f189c7226b78b77');
    // name "a", no labels, zigzag 1 = 2, IEEE 754 1.0, little-endian
    expect(sample.toString('hex', 10)).toBe('02610002000000000000f03f');
    expect(schemaOf(sample)).toBe('metrics');
  });

  it('are all readable', () => {
    expect(schemaNames.length).toBe(13);
    const event = {
      specversion: '1.0',
      id: '1',
      source: '/s',
      type: 't',
      subject: null,
      time: null,
      datacontenttype: 'text/plain',
      extensions: { iguanadepth: '1' },
      data: Buffer.from('x'),
    };
    expect(schemaOf(encodeAvro('function-events', event))).toBe('function-events');
  });
});

describe('byte table', () => {
  it('finds what was added and nothing else', () => {
    const bytes = fc.uint8Array({ maxLength: 12 });
    fc.assert(
      fc.property(fc.array(bytes, { maxLength: 60 }), fc.array(bytes, { maxLength: 20 }), (known, others) => {
        const table = new ByteTable(10_000, 1 << 20);
        const model = new Map<string, number>();
        const viewOf = (b: Uint8Array) => new DataView(b.buffer, b.byteOffset, b.length);
        known.forEach((b, i) => {
          const key = b.join();
          if (model.has(key)) return;
          model.set(key, i);
          table.add(viewOf(b), 0, b.length, i);
        });
        for (const b of [...known, ...others, ...known]) {
          const entry = table.find(viewOf(b), 0, b.length);
          expect(entry < 0 ? undefined : table.valueOf(entry)).toBe(model.get(b.join()));
          const guess = table.guess(viewOf(b), 0, b.length);
          if (guess >= 0) expect(model.get(b.subarray(0, table.lengthOf(guess)).join())).toBe(table.valueOf(guess));
        }
      }),
    );
  });

  it('stops taking entries at its bounds and counts what it refused', () => {
    const view = new DataView(Buffer.from('abcdefgh').buffer.slice(0));
    const few = new ByteTable(2, 100);
    expect([few.add(view, 0, 1, 1), few.add(view, 0, 2, 2), few.add(view, 0, 3, 3), few.refused]).toEqual([
      0, 1, -1, 1,
    ]);
    const small = new ByteTable(10, 4);
    expect([small.add(view, 0, 3, 1), small.add(view, 0, 2, 2), small.refused]).toEqual([0, -1, 1]);
  });
});

describe('dead letter', () => {
  it('keeps the bytes and says why and where', () => {
    const value = Buffer.from('{');
    const source = { topic: 'metrics', partition: 3, offset: '17', key: null, value };
    expect(deadLetter(source, 'IGU_RECORD_MALFORMED', 'no end')).toEqual({
      key: null,
      value,
      headers: {
        'iguana-code': 'IGU_RECORD_MALFORMED',
        'iguana-reason': 'no end',
        'iguana-topic': 'metrics',
        'iguana-partition': '3',
        'iguana-offset': '17',
      },
    });
  });

  it('cuts what would not fit into a message, and says how long it was', () => {
    const source = { topic: 'metrics', partition: 0, offset: '1', key: Buffer.alloc(2e6), value: Buffer.alloc(3e6) };
    const { key, value, headers } = deadLetter(source, 'IGU_RECORD_MALFORMED', 'x'.repeat(1e6));
    const size = key!.length + value!.length + Object.values(headers).join('').length;
    expect(size).toBeLessThan(1_000_000);
    expect(headers['iguana-cut']).toBe('3000000');
  });
});
