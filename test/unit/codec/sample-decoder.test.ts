import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { encodeAvro } from '../../../src/codec/avro.js';
import { encodeSamplesColumnar, encodeSamplesJson } from '../../../src/codec/encode.js';
import { SampleDecoder } from '../../../src/codec/sample-decoder.js';
import { SeriesTable } from '../../../src/records.js';

const NOW = 1_700_000_000_000;

function decoder(schemaIds = new Map<number, 'metrics'>()) {
  const table = new SeriesTable();
  const one = new SampleDecoder(table, { clock: new VirtualClock(NOW), schemaIds });
  const decode = (...values: (string | Buffer | null)[]) => {
    const messages = values.map((v, i) => ({ offset: String(i), value: v === null ? null : Buffer.from(v) }));
    const { batch, failed } = one.decode('metrics', 0, messages);
    const samples = Array.from({ length: batch.length }, (_, i) => ({
      series: table.get(batch.seriesIndex[i]!).canonical,
      timestamp: batch.timestamps[i],
      value: batch.values[i],
    }));
    return { samples, failed, batch };
  };
  return { decode, table };
}

const sample = (value: number, timestamp = NOW) => ({ name: 'cpu', labels: { service: 'shop' }, timestamp, value });

describe('json', () => {
  it('reads single samples and arrays, the first time by JSON.parse and then by the scanner, with the same result', () => {
    const { decode } = decoder();
    const text = JSON.stringify(sample(1.25));
    const array = JSON.stringify([sample(-3e-7), sample(4), sample(1e21)]);
    for (let round = 0; round < 3; round++) {
      const { samples, failed } = decode(text, array);
      expect(failed).toEqual([]);
      expect(samples.map((s) => s.value)).toEqual([1.25, -3e-7, 4, 1e21]);
      expect(samples[0]).toEqual({ series: 'cpu{service="shop"}', timestamp: NOW, value: 1.25 });
    }
  });

  it('gives every number exactly as JSON.parse does', () => {
    const { decode } = decoder();
    decode(JSON.stringify(sample(0)));
    const check = (number: number, text: string): void => {
      const { samples } = decode(`{"name":"cpu","labels":{"service":"shop"},"timestamp":${NOW},"value":${text}}`);
      expect(Object.is(samples[0]?.value, number)).toBe(true);
    };
    fc.assert(
      fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) =>
        check(JSON.parse(JSON.stringify(x)) as number, JSON.stringify(x)),
      ),
    );
    fc.assert(
      fc.property(fc.integer(), fc.integer({ min: 0, max: 999_999_999 }), (a, b) =>
        check(Number(`${a}.${b}`), `${a}.${b}`),
      ),
    );
    check(-0, '-0');
    check(Number('12345678901234567890'), '12345678901234567890');
  });

  it('reads other orders of keys, spaces, escapes, ISO times and missing labels', () => {
    const { decode } = decoder();
    const { samples, failed } = decode(
      `{"value": 1, "timestamp": ${NOW}, "name": "a"}`,
      `{"name": "b", "labels": {"k": "x\\"y"}, "timestamp": ${NOW}, "value": 2}`,
      `{"name": "b", "labels": {"k": "x\\"y"}, "timestamp": ${NOW}, "value": 3}`,
      `{"name":"c","labels":{},"timestamp":"2023-11-14T22:13:20.000Z","value":4}`,
      `{"name":"d","labels":{"timestamp":"5"},"timestamp":${NOW},"value":5}`,
      `{"name":"d","labels":{"timestamp":"5"},"timestamp":${NOW},"value":6}`,
    );
    expect(failed).toEqual([]);
    expect(samples.map((s) => [s.series, s.value])).toEqual([
      ['a', 1],
      ['b{k="x\\"y"}', 2],
      ['b{k="x\\"y"}', 3],
      ['c', 4],
      ['d{timestamp="5"}', 5],
      ['d{timestamp="5"}', 6],
    ]);
    expect(samples.every((s) => s.timestamp === NOW)).toBe(true);
  });

  it('keeps the good samples of an array and names the bad ones', () => {
    const { decode } = decoder();
    const text = JSON.stringify([
      sample(1),
      { ...sample(2), value: 'x' },
      sample(3),
      { ...sample(4), timestamp: NOW + 86_400_000 },
      { ...sample(5), value: null },
    ]);
    for (let round = 0; round < 2; round++) {
      const { samples, failed } = decode(text);
      expect(samples.map((s) => s.value)).toEqual([1, 3]);
      expect(failed.map((f) => [f.sampleIndex, f.code])).toEqual([
        [1, 'IGU_RECORD_MALFORMED'],
        [3, 'IGU_TIME_OUT_OF_RANGE'],
        [4, 'IGU_VALUE_NOT_FINITE'],
      ]);
    }
  });

  it('refuses what is not a sample and goes on with the next message', () => {
    const { decode } = decoder();
    const { samples, failed, batch } = decode(
      '{',
      'null',
      '[1]',
      '',
      null,
      '{"name":"","timestamp":1,"value":1}',
      JSON.stringify({ ...sample(1), labels: { a: 1 } }),
      JSON.stringify(sample(0, 5)),
      JSON.stringify(sample(7)),
    );
    expect(samples.map((s) => s.value)).toEqual([7]);
    expect(failed.map((f) => f.index)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(failed[7]).toMatchObject({ code: 'IGU_TIME_OUT_OF_RANGE' });
    expect([batch.firstOffset, batch.lastOffset]).toEqual([0n, 8n]);
  });

  it('never fails on arbitrary bytes, and loses no valid neighbour', () => {
    const { decode } = decoder();
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        expect(decode(Buffer.from(bytes), JSON.stringify(sample(1))).samples.at(-1)?.value).toBe(1);
      }),
    );
  });
});

describe('avro', () => {
  it('reads single samples and columns in single-object and Confluent framing', () => {
    const { decode } = decoder(new Map([[7, 'metrics' as const]]));
    const single = encodeAvro('metrics', sample(1));
    const confluent = Buffer.concat([Buffer.from([0, 0, 0, 0, 7]), single.subarray(10)]);
    const columns = encodeSamplesColumnar([sample(2), { ...sample(3), name: 'memory' }, sample(4, NOW + 1000)]);
    const { samples, failed } = decode(single, confluent, columns);
    expect(failed).toEqual([]);
    expect(samples.map((s) => s.value)).toEqual([1, 1, 2, 3, 4]);
    expect(samples[3]?.series).toBe('memory{service="shop"}');
    expect(samples[4]?.timestamp).toBe(NOW + 1000);
  });

  it('names an unknown schema and a torn body', () => {
    const { decode } = decoder();
    const { failed } = decode(
      Buffer.from([0, 0, 0, 0, 9, 1]),
      Buffer.from('c3010000000000000000', 'hex'),
      encodeAvro('metrics', sample(1)).subarray(0, 14),
    );
    expect(failed.map((f) => f.code)).toEqual(['IGU_SCHEMA_UNKNOWN', 'IGU_SCHEMA_UNKNOWN', 'IGU_RECORD_MALFORMED']);
  });

  it('packs columns smaller than JSON', () => {
    const samples = Array.from({ length: 100 }, (_, i) => sample(i, NOW + i));
    expect(encodeSamplesColumnar(samples).length * 4).toBeLessThan(encodeSamplesJson(samples).length);
  });
});
