import { Command, InvalidArgumentError } from 'commander';
import type { CsvSeries } from '../codec/series-csv.js';
import { detectorNames } from '../detectors/registry.js';
import { SeriesDetector } from '../detectors/series-detector.js';
import { makeSeries } from '../records.js';
import { csvNumber, readSeriesCsv, writeCsv } from './csv.js';
import { oneOf } from './suggest.js';
import { progress } from './terminal.js';

interface DetectCommandOptions {
  input: string;
  output?: string;
  method?: string;
  sensitivity: number;
  json?: boolean;
}

const HEADER = 'series,timestamp,value,expected,lower,upper,score,alert,active,type,severity,episode';

/** `iguana detect`: judges every row of a CSV file by the rows before it. */
export function detectCommand(): Command {
  return new Command('detect')
    .description('Find the anomalies in a CSV file, strictly causal')
    .requiredOption('--input <file>', 'CSV timestamp,value or series,timestamp,value; - reads standard input')
    .option('--output <file>', 'CSV file to write (default: standard output)')
    .option(
      '--method <name>',
      `one detector instead of the joint ones: ${detectorNames.join(', ')}`,
      oneOf(detectorNames),
    )
    .option('--sensitivity <n>', 'score (-log10 p) that opens an episode', parseSensitivity, 4)
    .option('--json', 'an array of rows instead of CSV')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana detect --input latency.csv\n  iguana detect --input latency.csv --method mad --sensitivity 3 --output alerts.csv',
    )
    .action(async (options: DetectCommandOptions) => {
      const series = readSeriesCsv(options.input);
      const bar = progress('detect', series.size);
      const rows: (string | number)[][] = [];
      let done = 0;
      for (const [name, history] of series) {
        for (const row of detectSeries(name, history, options)) rows.push(row);
        bar.update(++done);
      }
      bar.end();
      if (options.json) {
        const keys = HEADER.split(',');
        const objects = rows.map((row) => Object.fromEntries(keys.map((key, i) => [key, row[i]])));
        await writeCsv(options.output, JSON.stringify(objects, null, 2), []);
        return;
      }
      await writeCsv(
        options.output,
        HEADER,
        rows.map((row) => row.map((cell) => (typeof cell === 'number' ? csvNumber(cell) : cell)).join(',')),
      );
    });
}

function detectSeries(
  name: string,
  { timestamps, values }: CsvSeries,
  { method, sensitivity }: DetectCommandOptions,
): (string | number)[][] {
  const detector = new SeriesDetector(makeSeries(name || 'value', {}), {
    openAt: sensitivity,
    ...(method ? { methods: [method] } : {}),
  });
  return Array.from(timestamps, (timestamp, i) => {
    const o = detector.observe(timestamp, values[i]!);
    const time = new Date(timestamp).toISOString();
    return [
      name,
      time,
      values[i]!,
      o.expected,
      o.lower,
      o.upper,
      o.score,
      o.alert ? 1 : 0,
      o.active ? 1 : 0,
      o.type ?? '',
      o.severity ?? '',
      o.episode ?? '',
    ];
  });
}

function parseSensitivity(given: string): number {
  const value = Number(given);
  if (!(value > 0 && value <= 12)) throw new InvalidArgumentError('A number above 0, at most 12, is needed.');
  return value;
}
