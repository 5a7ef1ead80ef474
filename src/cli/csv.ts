import { createWriteStream, readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { IguanaError, messageOf } from '../errors.js';

export interface CsvSeries {
  /** ms since 1970, in the order of the file. */
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** Epoch numbers below this are seconds: as milliseconds they would be before 1973. */
const SECONDS_BELOW = 1e11;

/**
 * Reads `timestamp,value` or `series,timestamp,value` (epoch ms, epoch s or ISO; a header is optional). An empty value is a missing sample and left out.
 * Errors: `IGU_FILE_MISSING`; `IGU_CSV_ROW` with path and line.
 */
export function readSeriesCsv(path: string): Map<string, CsvSeries> {
  let text: string;
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path }, { cause });
  }
  const rows = new Map<string, { timestamps: number[]; values: number[] }>();
  const lines = text.split('\n');
  for (let n = 0; n < lines.length; n++) {
    const line = lines[n]!.trim();
    if (line === '' || (n === 0 && isHeader(line))) continue;
    const bad = (what: string, fix: string): IguanaError =>
      new IguanaError('IGU_CSV_ROW', { path, line: n + 1, what, fix });
    const cells = line.split(',').map((cell) => cell.trim().replace(/^"(.*)"$/, '$1'));
    if (cells.length < 2 || cells.length > 3)
      throw bad(`${cells.length} columns`, 'give timestamp,value or series,timestamp,value');
    const [series, time, raw] =
      cells.length === 3 ? (cells as [string, string, string]) : (['', ...cells] as [string, string, string]);
    const timestamp = parseTime(time);
    if (timestamp === undefined) throw bad(`"${time}" is not a time`, 'give epoch milliseconds, epoch seconds or ISO');
    if (raw === '') continue;
    const value = Number(raw);
    if (!Number.isFinite(value))
      throw bad(`"${raw}" is not a finite number`, 'give a number, or nothing for a missing sample');
    let row = rows.get(series);
    if (!row) {
      row = { timestamps: [], values: [] };
      rows.set(series, row);
    }
    row.timestamps.push(timestamp);
    row.values.push(value);
  }
  if (rows.size === 0)
    throw new IguanaError('IGU_CSV_ROW', {
      path,
      line: 1,
      what: 'there is no sample',
      fix: 'give timestamp,value rows',
    });
  return new Map(
    [...rows].map(([name, row]) => [
      name,
      { timestamps: Float64Array.from(row.timestamps), values: Float64Array.from(row.values) },
    ]),
  );
}

/** Rows to a file, or to standard output without one. Errors: `IGU_FILE_WRITE`. */
export async function writeCsv(path: string | undefined, header: string, rows: Iterable<string>): Promise<void> {
  const out: Writable = path === undefined ? process.stdout : createWriteStream(path);
  const failed = new Promise<never>((_, reject) => {
    out.once('error', (cause) =>
      reject(new IguanaError('IGU_FILE_WRITE', { path: path ?? 'standard output', what: messageOf(cause) }, { cause })),
    );
  });
  const write = async (): Promise<void> => {
    let block = `${header}\n`;
    for (const row of rows) {
      block += `${row}\n`;
      if (block.length < 65_536) continue;
      if (!out.write(block)) await new Promise((resolve) => out.once('drain', resolve));
      block = '';
    }
    await new Promise<void>((resolve) => {
      if (out === process.stdout) out.write(block, () => resolve());
      else out.end(block, () => resolve());
    });
  };
  await Promise.race([write(), failed]);
}

/** A number as short as it reads back to six digits after the point. */
export function csvNumber(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(10))) : '';
}

function isHeader(line: string): boolean {
  return line.split(',').every((cell) => Number.isNaN(Number(cell)) && parseTime(cell.trim()) === undefined);
}

function parseTime(text: string): number | undefined {
  if (text === '') return undefined;
  const number = Number(text);
  if (Number.isFinite(number)) return number < SECONDS_BELOW ? number * 1000 : number;
  // a time without zone is UTC, whatever machine reads it
  const iso = /[zZ]|[+-]\d\d:?\d\d$/.test(text) ? text : `${text.replace(' ', 'T')}${text.length > 10 ? 'Z' : ''}`;
  const time = Date.parse(iso);
  return Number.isNaN(time) ? undefined : time;
}
