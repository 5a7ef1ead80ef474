import { createWriteStream, readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { type CsvSeries, parseSeriesCsv } from '../codec/series-csv.js';
import { IguanaError, messageOf } from '../errors.js';

/** Reads a CSV file of samples, `-` for standard input; see `parseSeriesCsv`. Errors: `IGU_FILE_MISSING`; `IGU_CSV_ROW` with path and line. */
export function readSeriesCsv(path: string): Map<string, CsvSeries> {
  let text: string;
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path }, { cause });
  }
  return parseSeriesCsv(text, path);
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
