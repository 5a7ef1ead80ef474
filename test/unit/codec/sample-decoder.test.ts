import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { encodeAvro } from '../../../src/codec/avro.js';
import { encodeSamplesColumnar, encodeSamplesJson } from '../../../src/codec/encode.js';
import { SampleDecoder, type SampleLimits } from '../../../src/codec/sample-decoder.js';
import { canonicalSeries, SeriesTable } from '../../../src/records.js';

const NOW = 1_700_000_000_000;

/** Takes every number there is, unless told otherwise. */
function decoder(
  schemaIds = new Map<number, 'metrics'>(),
  limits: Partial<SampleLimits> = { maxMagnitude: Number.MAX_VALUE },
) {
  const table = new SeriesTable();
  const one = new SampleDecoder(table, { clock: new VirtualClock(NOW), schemaIds, limits });
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

  it('reads numbers of any length and exponent exactly, also those next to the middle between two doubles', () => {
    const { decode } = decoder();
    decode(JSON.stringify(sample(0)));
    const digits = (min: number, max: number) =>
      fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: min, maxLength: max });
    const number = fc
      .tuple(
        fc.constantFrom('', '-'),
        digits(1, 12),
        digits(0, 12),
        fc.option(fc.integer({ min: -330, max: 310 }), { freq: 2 }),
      )
      .map(([sign, whole, fraction, power]) => {
        const trimmed = whole.replace(/^0+(?=.)/, '');
        return `${sign}${trimmed}${fraction && `.${fraction}`}${power === null ? '' : `e${power}`}`;
      });
    // the decimal middle between a double and the next one, cut to 17 and 18 digits
    const middle = fc
      .tuple(fc.integer({ min: 2 ** 52, max: 2 ** 53 - 1 }), fc.integer({ min: 1, max: 12 }), fc.constantFrom(17, 18))
      .map(([mantissa, shift, length]) => {
        const scaled = ((2n * BigInt(mantissa) + 1n) * 10n ** 20n) >> BigInt(shift + 1);
        const text = scaled.toString();
        const point = text.length - 20;
        return `${text.slice(0, point)}.${text.slice(point, length)}`;
      });
    const same = (text: string): void => {
      const expected = JSON.parse(text) as number;
      const { samples } = decode(`{"name":"cpu","labels":{"service":"shop"},"timestamp":${NOW},"value":${text}}`);
      if (Number.isFinite(expected)) expect(Object.is(samples[0]?.value, expected), text).toBe(true);
      else expect(samples).toEqual([]);
    };
    fc.assert(fc.property(number, same), { numRuns: 2000 });
    fc.assert(fc.property(middle, same), { numRuns: 2000 });
  });

  it('says of any sample, however it is written, what JSON.parse says', () => {
    const text = fc.string({
      unit: fc.constantFrom('a', '"', '\\', 'é', '"timestamp":', '}', ' ', '\n', ':'),
      maxLength: 4,
    });
    const one = fc.record({
      name: text.map((t) => `n${t}`),
      labels: fc.dictionary(text, text, { maxKeys: 3 }),
      timestamp: fc.integer({ min: NOW - 1000, max: NOW + 1000 }),
      value: fc.double({ noNaN: true, noDefaultInfinity: true }),
    });
    const written = fc.tuple(one, fc.nat(3), fc.boolean()).map(([s, order, spaced]) => {
      const { name, labels, timestamp, value } = s;
      const forms = [
        s,
        { labels, name, timestamp, value },
        { value, timestamp, labels, name },
        { name, unit: { value: 1 }, labels, timestamp, value },
      ];
      const json = JSON.stringify(forms[order]);
      // as Python's json.dumps writes it; only where no text holds the separators
      return spaced && !/[\\é]/.test(json) ? json.replaceAll(',"', ', "').replaceAll('":', '": ') : json;
    });
    fc.assert(
      fc.property(fc.array(written, { minLength: 1, maxLength: 5 }), (texts) => {
        const { decode } = decoder();
        const parsed = texts.map((t) => JSON.parse(t) as ReturnType<typeof sample>);
        const expected = parsed.map((s) => ({
          series: canonicalSeries(s.name, s.labels),
          timestamp: s.timestamp,
          value: s.value,
        }));
        for (let round = 0; round < 3; round++) {
          expect(decode(...texts).samples).toEqual(expected);
          expect(decode(`[${texts.join(',')}]`).samples).toEqual(expected);
        }
      }),
      { numRuns: 300 },
    );
  });

  it('takes nothing that JSON.parse refuses, whatever was read before', () => {
    const { decode } = decoder();
    const good = `{"name":"d","labels":{"timestamp":"5"},"timestamp":${NOW},"value":5}`;
    decode(good, JSON.stringify(sample(1)));
    fc.assert(
      fc.property(
        fc.constantFrom(good, JSON.stringify(sample(1)), JSON.stringify([sample(1), sample(2)])),
        fc.nat(100),
        fc.nat(100),
        fc.constantFrom('', '"', '}', '1', '.', 'e', ',', ' '),
        (valid, from, length, put) => {
          const at = from % valid.length;
          const text = valid.slice(0, at) + put + valid.slice(at + (length % 3));
          let parses = true;
          try {
            JSON.parse(text);
          } catch {
            parses = false;
          }
          if (!parses) expect(decode(text).samples, text).toEqual([]);
        },
      ),
      { numRuns: 2000 },
    );
    expect(decode(`{"name":"d","labels":{"timestamp":${NOW},"value":5}`).samples).toEqual([]);
  });

  it('does not read on into the neighbour in memory', () => {
    const { table } = decoder();
    const one = new SampleDecoder(table, { clock: new VirtualClock(NOW) });
    const whole = Buffer.from(JSON.stringify(sample(12.5)));
    const memory = Buffer.concat([whole, whole]);
    for (let cut = 1; cut < whole.length; cut++) {
      const messages = [0, cut].map((end, i) => ({
        offset: String(i),
        value: memory.subarray(0, end || whole.length),
      }));
      const { batch, failed } = one.decode('metrics', 0, messages);
      expect([batch.length, failed.map((f) => f.index)]).toEqual([1, [1]]);
    }
  });

  it('takes in no more series than the limit, and goes on with those it knows', () => {
    const table = new SeriesTable();
    const one = new SampleDecoder(table, { clock: new VirtualClock(NOW), limits: { maxSeries: 2 } });
    const messages = ['a', 'b', 'c', 'a', 'd', 'b'].map((name, i) => ({
      offset: String(i),
      value: Buffer.from(JSON.stringify({ ...sample(i), name })),
    }));
    for (let round = 0; round < 2; round++) {
      const { batch, failed } = one.decode('metrics', 0, messages);
      expect([...batch.values.subarray(0, batch.length)]).toEqual([0, 1, 3, 5]);
      expect(failed.map((f) => [f.index, f.code])).toEqual([
        [2, 'IGU_LIMIT'],
        [4, 'IGU_LIMIT'],
      ]);
    }
    expect(table.size).toBe(2);
  });

  it('refuses values too large to reckon with and labels too long for an output record, and takes the rest', () => {
    const { decode } = decoder(new Map(), {});
    const { samples, failed } = decode(
      JSON.stringify([sample(1e100), sample(-2e100), sample(1)]),
      JSON.stringify({ ...sample(2), labels: { service: 'x'.repeat(20_000) } }),
    );
    expect(samples.map((s) => s.value)).toEqual([1e100, 1]);
    expect(failed).toMatchObject([
      { index: 0, sampleIndex: 1, code: 'IGU_RECORD_MALFORMED' },
      { index: 1, sampleIndex: null, code: 'IGU_RECORD_MALFORMED' },
    ]);
  });

  it('takes an ISO time without a zone as UTC, wherever it is read', () => {
    // the zone of the test's own process cannot be changed; without the Z it would count
    const parse = vi.spyOn(Date, 'parse');
    const { samples } = decoder().decode(JSON.stringify({ ...sample(1), timestamp: '2023-11-14T22:13:20' }));
    expect(samples.map((s) => s.timestamp)).toEqual([NOW]);
    expect(parse).toHaveBeenCalledWith('2023-11-14T22:13:20Z');
    parse.mockRestore();
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

  it('reads columns back as they were, known series or not', () => {
    const one = fc.record({
      name: fc.string({ minLength: 1, maxLength: 6 }),
      labels: fc.dictionary(fc.string({ maxLength: 3 }), fc.string({ maxLength: 200 }), { maxKeys: 2 }),
      timestamp: fc.integer({ min: NOW - 1_000_000, max: NOW }),
      value: fc.double({ noNaN: true, noDefaultInfinity: true }),
    });
    fc.assert(
      fc.property(fc.array(one, { maxLength: 30 }), (samples) => {
        const { decode } = decoder();
        const expected = samples.map((s) => ({
          series: canonicalSeries(s.name, s.labels),
          timestamp: s.timestamp,
          value: s.value,
        }));
        for (let round = 0; round < 2; round++) {
          expect(decode(encodeSamplesColumnar(samples)).samples).toEqual(expected);
          expect(decode(...samples.map((s) => encodeAvro('metrics', s))).samples).toEqual(expected);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('names the bad samples of columns and takes the others', () => {
    const { decode } = decoder();
    const columns = (change: object) =>
      encodeAvro('metrics-batch', {
        series: [
          { name: 'a', labels: {} },
          { name: '', labels: {} },
        ],
        seriesNumbers: [0, 1, 7, 0, 0],
        timestamps: [NOW, NOW, NOW, 5, NOW],
        values: [1, 2, 3, 4, Number.NaN],
        ...change,
      });
    for (let round = 0; round < 2; round++) {
      const { samples, failed } = decode(columns({}));
      expect(samples.map((s) => s.value)).toEqual([1]);
      expect(failed.map((f) => [f.sampleIndex, f.code])).toEqual([
        [1, 'IGU_RECORD_MALFORMED'],
        [2, 'IGU_RECORD_MALFORMED'],
        [3, 'IGU_TIME_OUT_OF_RANGE'],
        [4, 'IGU_VALUE_NOT_FINITE'],
      ]);
    }
    expect(decode(columns({ values: [1] })).failed).toMatchObject([
      { sampleIndex: null, code: 'IGU_RECORD_MALFORMED' },
    ]);
  });

  it('survives any damage to columns and takes nothing that is not finite or in time', () => {
    const { decode } = decoder();
    const whole = encodeSamplesColumnar([sample(1), { ...sample(2), name: 'memory' }, sample(3)]);
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, length) => {
        const damaged = Buffer.from(whole.subarray(0, length));
        if (at < length) damaged[at] = byte;
        for (const s of decode(damaged, JSON.stringify(sample(9))).samples) {
          expect(Number.isFinite(s.value)).toBe(true);
          expect(Math.abs(s.timestamp! - NOW)).toBeLessThan(11 * 365 * 86_400_000);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('packs columns smaller than JSON', () => {
    const samples = Array.from({ length: 100 }, (_, i) => sample(i, NOW + i));
    expect(encodeSamplesColumnar(samples).length * 4).toBeLessThan(encodeSamplesJson(samples).length);
  });
});
