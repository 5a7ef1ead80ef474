/** Recorded traces: samples of one or more series from a file, on a grid of steps if wanted, and the writing of such files. */
import { closeSync, createReadStream, createWriteStream, openSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import type { SampleRecord } from '../codec/encode.js';
import { parseSeriesCsv } from '../codec/series-csv.js';
import { IguanaError, messageOf } from '../errors.js';
import { traceLimits } from '../limits.js';
import { canonicalSeries, type Labels, makeSeries, type Series } from '../records.js';

/** Samples of one series, ascending in time. */
export interface TraceSeries {
  readonly series: Series;
  /** ms since 1970. */
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** `counts`: one number a line, a line a second. */
export type TraceFormat = 'samples' | 'csv' | 'counts';

export interface Trace {
  readonly format: TraceFormat;
  readonly series: readonly TraceSeries[];
}

export interface TraceOptions {
  /** Name of the series of a file that names none. Default `requests`. */
  readonly name?: string;
  /** Time of the first line of a file of counts, ms. Default 1995-07-01T04:00Z: midnight in Florida, where the NASA-HTTP log begins. */
  readonly countsBeginMs?: number;
}

const NASA_BEGINS = Date.UTC(1995, 6, 1, 4);

/**
 * Reads a trace, `.gz` or not: NDJSON samples `{"name","labels","timestamp","value"}` (what `iguana record` writes), CSV `timestamp,value`
 * or `series,timestamp,value`, or one count a line for every second. Cost: 16 bytes of memory a sample, for CSV and counts the text too.
 * Errors: `IGU_FILE_MISSING`; `IGU_CSV_ROW` with path and line; `IGU_LIMIT`.
 */
export async function readTrace(path: string, options: TraceOptions = {}): Promise<Trace> {
  const name = options.name ?? 'requests';
  const lines = createInterface({ input: open(path), crlfDelay: Number.POSITIVE_INFINITY });
  const samples = new Map<string, { series: Series; timestamps: number[]; values: number[] }>();
  const csv: string[] = [];
  let format: TraceFormat | undefined;
  let number = 0;
  let counted = 0;
  let counts: { timestamps: number[]; values: number[] } | undefined;
  const rowOf = (of: string, labels: Labels): { timestamps: number[]; values: number[] } => {
    const canonical = canonicalSeries(of, labels);
    const known = samples.get(canonical);
    if (known) return known;
    const made = { series: makeSeries(of, labels), timestamps: [], values: [] };
    samples.set(canonical, made);
    return made;
  };
  try {
    for await (const line of lines) {
      number++;
      if (number > traceLimits.maxLines)
        throw new IguanaError('IGU_LIMIT', { limit: 'lines of a trace', value: traceLimits.maxLines });
      if (line !== '') format ??= formatOf(line);
      // empty lines count too: errors name the line of the file
      if (format === 'csv' || format === undefined) {
        csv.push(line);
      } else if (line === '') {
        // nothing
      } else if (format === 'counts') {
        const value = Number(line);
        if (!Number.isFinite(value)) throw badRow(path, number, `"${line}" is not a number`, 'give one count a line');
        counts ??= rowOf(name, {});
        const row = counts;
        row.timestamps.push((options.countsBeginMs ?? NASA_BEGINS) + 1000 * counted++);
        row.values.push(value);
      } else {
        const sample = sampleOf(line);
        if (!sample) throw badRow(path, number, 'not a sample', 'give {"name","labels","timestamp","value"}');
        const row = rowOf(sample.name, sample.labels);
        row.timestamps.push(sample.timestamp);
        row.values.push(sample.value);
      }
    }
  } catch (cause) {
    if (cause instanceof IguanaError) throw cause;
    throw new IguanaError('IGU_FILE_MISSING', { path }, { cause });
  }
  if (format === 'csv') {
    for (const [key, { timestamps, values }] of parseSeriesCsv(csv.join('\n'), path))
      samples.set(key, {
        series: makeSeries(key === '' ? name : key, {}),
        timestamps: [...timestamps],
        values: [...values],
      });
  }
  if (samples.size === 0)
    throw badRow(path, Math.max(1, number), 'there is no sample', 'record one with `iguana record`');
  return { format: format ?? 'csv', series: [...samples.values()].map(ascending) };
}

/**
 * The means of steps of `stepMs`, each dated at the end of its step, since only then it is known; steps without samples stay out. Cost: O(samples).
 */
export function onGrid({ series, timestamps, values }: TraceSeries, stepMs: number): TraceSeries {
  const times: number[] = [];
  const means: number[] = [];
  let step = Number.NaN;
  let sum = 0;
  let count = 0;
  const end = (): void => {
    if (count === 0) return;
    times.push((step + 1) * stepMs);
    means.push(sum / count);
  };
  for (let i = 0; i < timestamps.length; i++) {
    const at = Math.floor(timestamps[i]! / stepMs);
    if (at !== step) {
      end();
      step = at;
      sum = 0;
      count = 0;
    }
    sum += values[i]!;
    count++;
  }
  end();
  return { series, timestamps: Float64Array.from(times), values: Float64Array.from(means) };
}

/** The part of a series from `fromMs` (included) to `toMs` (excluded), at most `maxSamples`, moved in time by `shiftMs`. */
export function excerpt(
  { series, timestamps, values }: TraceSeries,
  {
    fromMs = Number.NEGATIVE_INFINITY,
    toMs = Number.POSITIVE_INFINITY,
    maxSamples = Number.POSITIVE_INFINITY,
    shiftMs = 0,
  },
): TraceSeries {
  let begin = timestamps.findIndex((t) => t >= fromMs);
  if (begin < 0) begin = timestamps.length;
  let end = timestamps.findIndex((t) => t >= toMs);
  if (end < 0) end = timestamps.length;
  end = Math.max(begin, Math.min(end, begin + maxSamples));
  return {
    series,
    timestamps: timestamps.slice(begin, end).map((t) => t + shiftMs),
    values: values.slice(begin, end),
  };
}

/** Writes samples to a trace file as NDJSON, packed when the name ends in `.gz`. */
export class TraceWriter {
  private readonly out: Writable;
  private readonly ended: Promise<void>;
  private failure: unknown;

  /** Errors: `IGU_FILE_WRITE`, at the next `write` or at `close`. */
  constructor(private readonly path: string) {
    const file = createWriteStream(path);
    this.out = file;
    if (path.endsWith('.gz')) {
      const packed = createGzip();
      packed.pipe(file);
      this.out = packed;
    }
    this.ended = finished(file).catch((error: unknown) => {
      this.failure = error;
    });
  }

  async write(samples: readonly SampleRecord[]): Promise<void> {
    this.check();
    const text = samples
      .map(({ name, labels, timestamp, value }) => `${JSON.stringify({ name, labels, timestamp, value })}\n`)
      .join('');
    if (!this.out.write(text))
      await Promise.race([new Promise((resolve) => this.out.once('drain', resolve)), this.ended]);
  }

  async close(): Promise<void> {
    this.out.end();
    await this.ended;
    this.check();
  }

  private check(): void {
    if (this.failure === undefined) return;
    throw new IguanaError(
      'IGU_FILE_WRITE',
      { path: this.path, what: messageOf(this.failure) },
      { cause: this.failure },
    );
  }
}

function open(path: string): Readable {
  const magic = Buffer.alloc(2);
  try {
    const file = openSync(path, 'r');
    readSync(file, magic, 0, 2, 0);
    closeSync(file);
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path }, { cause });
  }
  const file = createReadStream(path);
  if (magic[0] !== 0x1f || magic[1] !== 0x8b) return file;
  const unpacked = createGunzip();
  file.on('error', (error) => unpacked.destroy(error));
  return file.pipe(unpacked);
}

function formatOf(line: string): TraceFormat {
  if (line.startsWith('{')) return 'samples';
  return line.includes(',') ? 'csv' : 'counts';
}

function sampleOf(line: string): SampleRecord | undefined {
  try {
    const { name, labels = {}, timestamp, value } = JSON.parse(line) as Partial<SampleRecord>;
    if (typeof name !== 'string' || !Number.isFinite(timestamp) || !Number.isFinite(value)) return undefined;
    return { name, labels, timestamp: timestamp as number, value: value as number };
  } catch {
    return undefined;
  }
}

function ascending(row: { series: Series; timestamps: number[]; values: number[] }): TraceSeries {
  const { series, timestamps, values } = row;
  if (timestamps.every((t, i) => i === 0 || t >= timestamps[i - 1]!))
    return { series, timestamps: Float64Array.from(timestamps), values: Float64Array.from(values) };
  const order = [...timestamps.keys()].sort((a, b) => timestamps[a]! - timestamps[b]!);
  return {
    series,
    timestamps: Float64Array.from(order, (i) => timestamps[i]!),
    values: Float64Array.from(order, (i) => values[i]!),
  };
}

function badRow(path: string, line: number, what: string, fix: string): IguanaError {
  return new IguanaError('IGU_CSV_ROW', { path, line, what, fix });
}
