import { Command, InvalidArgumentError } from 'commander';
import type { CsvSeries } from '../codec/series-csv.js';
import { batchModelNames, forecastHistory } from '../models/batch-forecast.js';
import { calendarSeasons, toGrid } from '../models/grid.js';
import { csvNumber, readSeriesCsv, writeCsv } from './csv.js';
import { oneOf, wholeNumber } from './suggest.js';
import { progress } from './terminal.js';

interface ForecastCommandOptions {
  input: string;
  horizon: number;
  season: 'auto' | number[];
  model: string;
  level: number[];
  output?: string;
  json?: boolean;
}

/** `iguana forecast`: the next steps of every series of a CSV file, with bounds and confidence. */
export function forecastCommand(): Command {
  return new Command('forecast')
    .description('Forecast the series of a CSV file')
    .requiredOption('--input <file>', 'CSV timestamp,value or series,timestamp,value; - reads standard input')
    .requiredOption('--horizon <n>', 'steps to forecast', wholeNumber(1, 10_000))
    .option('--season <steps>', 'auto, or season lengths in steps such as 24,168', parseSeason, 'auto' as const)
    .option('--model <name>', `one of ${batchModelNames.join(', ')}`, oneOf(batchModelNames), 'fitted')
    .option('--level <list>', 'levels of the bounds, per cent', parseLevels, [80, 95])
    .option('--output <file>', 'CSV file to write (default: standard output)')
    .option('--json', 'an array of rows instead of CSV')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana forecast --input requests.csv --horizon 24\n  iguana forecast --input hourly.csv --horizon 48 --season 24,168 --level 80,95 --output next.csv',
    )
    .action(async (options: ForecastCommandOptions) => {
      const series = readSeriesCsv(options.input);
      const bar = progress('forecast', series.size);
      const rows: Row[] = [];
      for (const [name, history] of series) {
        rows.push(...forecastSeries(name, history, options));
        bar.update(rows.length / options.horizon);
      }
      bar.end();
      if (options.json) {
        await writeCsv(options.output, JSON.stringify(rows, null, 2), []);
        return;
      }
      const bounds = options.level.flatMap((level) => [`lower_${level}`, `upper_${level}`]);
      const header = ['series', 'step', 'timestamp', 'value', ...bounds, 'confidence'].join(',');
      await writeCsv(
        options.output,
        header,
        rows.map((row) => csvRow(row, bounds)),
      );
    });
}

type Row = Record<string, string | number>;

function forecastSeries(
  name: string,
  history: CsvSeries,
  { horizon, season, model, level }: ForecastCommandOptions,
): Row[] {
  const { stepMs, lastMs, values } = toGrid(history.timestamps, history.values);
  const calendar = calendarSeasons(stepMs);
  return forecastHistory(values, horizon, { seasons: season, calendar, model, levels: level }).map((point, h) => {
    const row: Row = {
      series: name,
      step: h + 1,
      timestamp: new Date(lastMs + (h + 1) * stepMs).toISOString(),
      value: point.value,
    };
    for (const { level: one, lower, upper } of point.intervals) {
      row[`lower_${one}`] = lower;
      row[`upper_${one}`] = upper;
    }
    row.confidence = Number(point.confidence.toFixed(4));
    return row;
  });
}

function csvRow(row: Row, bounds: readonly string[]): string {
  const cell = (key: string): string => csvNumber(row[key] as number);
  return [row.series, row.step, row.timestamp, cell('value'), ...bounds.map(cell), row.confidence].join(',');
}

function parseSeason(given: string): 'auto' | number[] {
  if (given === 'auto') return 'auto';
  const steps = given.split(',').map(Number);
  if (steps.some((s) => !Number.isInteger(s) || s < 2))
    throw new InvalidArgumentError('auto, or whole numbers from 2 up such as 24,168, are needed.');
  return steps;
}

function parseLevels(given: string): number[] {
  const levels = given.split(',').map(Number);
  if (levels.some((l) => !(l > 0 && l < 100)))
    throw new InvalidArgumentError('Levels between 0 and 100 such as 80,95 are needed.');
  return levels;
}
