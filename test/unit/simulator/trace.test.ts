import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeSeries } from '../../../src/records.js';
import { excerpt, onGrid, readTrace, TraceWriter } from '../../../src/simulator/trace.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-trace-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const file = (name: string, content: string | Buffer): string => {
  const where = path.join(folder, name);
  writeFileSync(where, content);
  return where;
};

describe('reading a trace', () => {
  it('takes one count a line and second, packed or not', async () => {
    for (const content of ['3\n0\n\n5\n', gzipSync('3\n0\n\n5\n')]) {
      const { format, series } = await readTrace(file('counts', content), { countsBeginMs: 1000, name: 'hits' });
      expect(format).toBe('counts');
      expect(series[0]!.series.name).toBe('hits');
      expect([...series[0]!.timestamps]).toEqual([1000, 2000, 3000]);
      expect([...series[0]!.values]).toEqual([3, 0, 5]);
    }
  });

  it('takes CSV with times in words, in any order', async () => {
    const text = 'period,count\n1998-04-30 21:31:00,11\n1998-04-30 21:30:00,2\n';
    const { series } = await readTrace(file('minutes.csv.gz', gzipSync(text)));
    const begin = Date.UTC(1998, 3, 30, 21, 30);
    expect([...series[0]!.timestamps]).toEqual([begin, begin + 60_000]);
    expect([...series[0]!.values]).toEqual([2, 11]);
  });

  it('names path and line of what it cannot read', async () => {
    const sample = '{"name":"a","labels":{},"timestamp":1,"value":1}';
    await expect(readTrace(file('bad.ndjson', `${sample}\n{"name":"a","timestamp":1}\n`))).rejects.toThrow(
      /IGU_CSV_ROW .*bad\.ndjson:2: not a sample/,
    );
    await expect(readTrace(file('bad.txt', '1\nx\n'))).rejects.toThrow(/bad\.txt:2: "x" is not a number/);
    await expect(readTrace(file('bad.csv', '\n\ntime,value\n\n1,2\n\nx,3\n'))).rejects.toThrow(
      /bad\.csv:7: "x" is not/,
    );
    await expect(readTrace(file('empty', ''))).rejects.toThrow(/empty:1: there is no sample/);
    await expect(readTrace(path.join(folder, 'none'))).rejects.toMatchObject({ code: 'IGU_FILE_MISSING' });
    await expect(readTrace(file('torn.gz', gzipSync('1\n2\n').subarray(0, 12)))).rejects.toMatchObject({
      code: 'IGU_FILE_MISSING',
    });
  });

  it('gives back whatever was written', async () => {
    const sample = fc.record({
      name: fc.string({ minLength: 1, maxLength: 8 }),
      labels: fc.dictionary(fc.string({ minLength: 1, maxLength: 3 }), fc.string({ maxLength: 4 }), { maxKeys: 3 }),
      timestamp: fc.integer({ min: 0, max: 2e12 }),
      value: fc.double({ noNaN: true, noDefaultInfinity: true }).map((v) => (v === 0 ? 0 : v)),
    });
    let n = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(sample, { minLength: 1, maxLength: 20 }), fc.boolean(), async (samples, packed) => {
        const where = path.join(folder, `written-${n++}.ndjson${packed ? '.gz' : ''}`);
        const writer = new TraceWriter(where);
        await writer.write(samples);
        await writer.close();
        const { series } = await readTrace(where);
        const read = series.flatMap(({ series: { id }, timestamps, values }) =>
          [...timestamps].map((t, i) => `${id} ${t} ${values[i]}`),
        );
        const written = samples.map((s) => `${makeSeries(s.name, { ...s.labels }).id} ${s.timestamp} ${s.value}`);
        expect(read.sort()).toEqual(written.sort());
      }),
      { numRuns: 25 },
    );
  });

  it('says when a file cannot be written', async () => {
    const writer = new TraceWriter(path.join(folder, 'no', 'such', 'folder'));
    await expect(writer.close()).rejects.toMatchObject({ code: 'IGU_FILE_WRITE' });
  });
});

describe('grid and excerpt', () => {
  const one = {
    series: makeSeries('a', {}),
    timestamps: Float64Array.of(0, 500, 1000, 3999),
    values: Float64Array.of(1, 3, 7, 9),
  };

  it('means each step, dates it at its end and leaves empty steps out', () => {
    const { timestamps, values } = onGrid(one, 1000);
    expect([...timestamps]).toEqual([1000, 2000, 4000]);
    expect([...values]).toEqual([2, 7, 9]);
  });

  it('cuts from (included) to (excluded), counts and moves', () => {
    const part = excerpt(one, { fromMs: 500, toMs: 3999, shiftMs: 10 });
    expect([...part.timestamps]).toEqual([510, 1010]);
    expect([...part.values]).toEqual([3, 7]);
    expect([...excerpt(one, { maxSamples: 1 }).values]).toEqual([1]);
    expect(excerpt(one, { fromMs: 1e9 }).values.length).toBe(0);
  });
});
