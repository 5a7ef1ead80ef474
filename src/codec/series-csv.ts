import { IguanaError } from '../errors.js';

export interface CsvSeries {
  /** ms since 1970, in the order of the file. */
  readonly timestamps: Float64Array;
  readonly values: Float64Array;
}

/** Epoch numbers below this are seconds: as milliseconds they would be before 1973. */
const SECONDS_BELOW = 1e11;

/**
 * Parses `timestamp,value` or `series,timestamp,value` rows (epoch ms, epoch s or ISO; a header is optional). An empty value is a missing
 * sample and left out.
 * `path` is for messages. Errors: `IGU_CSV_ROW` with path and line.
 */
export function parseSeriesCsv(text: string, path: string): Map<string, CsvSeries> {
  const rows = new Map<string, { timestamps: number[]; values: number[] }>();
  const lines = text.split('\n');
  let begun = false;
  for (let n = 0; n < lines.length; n++) {
    const line = lines[n]!.trim();
    if (line === '') continue;
    const first = !begun;
    begun = true;
    if (first && isHeader(line)) continue;
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

function isHeader(line: string): boolean {
  return line.split(',').every((cell) => Number.isNaN(Number(cell)) && parseTime(cell.trim()) === undefined);
}

/** ms since 1970 of epoch ms, epoch s or ISO text (UTC without a zone); undefined for anything else. */
export function parseTime(text: string): number | undefined {
  if (text === '') return undefined;
  const number = Number(text);
  if (Number.isFinite(number)) return number < SECONDS_BELOW ? number * 1000 : number;
  return parseIsoTime(text);
}

/** ms since 1970 of ISO text; a time without zone is UTC, whatever machine reads it. Undefined for anything else. */
export function parseIsoTime(text: string): number | undefined {
  const iso = /[zZ]|[+-]\d\d:?\d\d$/.test(text) ? text : `${text.replace(' ', 'T')}${text.length > 10 ? 'Z' : ''}`;
  const time = Date.parse(iso);
  return Number.isNaN(time) ? undefined : time;
}
