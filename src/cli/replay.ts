import { Command, InvalidArgumentError } from 'commander';
import { parseTime } from '../codec/series-csv.js';
import { IguanaError } from '../errors.js';
import { modelNames } from '../models/registry.js';
import type { AnomalyRecord, DecisionRecord } from '../records.js';
import { policySchema, type ScalingPolicy } from '../scaling/policy.js';
import {
  changesOf,
  ForecastScore,
  foresightChanges,
  type HorizonScore,
  medianGap,
  playScaling,
  quantileOf,
  reactiveChanges,
  reactiveTargetFor,
  type ScalingOutcome,
} from '../simulator/replay-score.js';
import { excerpt, onGrid, readTrace, type TraceSeries } from '../simulator/trace.js';
import { runReplay } from './replay-run.js';
import { durationOf, oneOf, wholeNumber } from './suggest.js';
import { progress, textTable } from './terminal.js';

interface ReplayOptions {
  speed: number;
  step?: number;
  from?: number;
  to?: number;
  maxSamples?: number;
  model: string;
  metric?: string;
  startup: number;
  peak: number;
  json?: boolean;
}

const DAY_MS = 86_400_000;
/** Times are moved by whole weeks, so that days and weekdays stay what they are. */
const WEEK_MS = 7 * DAY_MS;
/** A line a second is more than forecasts and scaling look at; a minute is what metrics are usually collected at. */
const STEP_OF_COUNTS_MS = 60_000;
/** What models learn from before they are judged: a week, at most a third of the trace. */
const LEARNING_MS = WEEK_MS;
/** Instances are planned to be used to this share at the target. */
const TARGET_USE = 0.7;

/** What a replay found. */
interface ReplayReport {
  readonly file: string;
  readonly series: number;
  readonly samples: number;
  readonly stepMs: number;
  readonly from: string;
  readonly to: string;
  readonly judgedFrom: string;
  readonly movedByWeeks: number;
  readonly seconds: number;
  readonly forecasts: readonly HorizonScore[];
  readonly alerts: { readonly opened: number; readonly critical: number; readonly perSeriesDay: number };
  readonly scaling: {
    readonly metric: string;
    readonly capacity: number;
    readonly target: number;
    readonly startupSeconds: number;
    readonly outcomes: readonly { readonly policy: string; readonly outcome: ScalingOutcome }[];
  } | null;
}

/** `iguana replay`: what forecasts, anomaly detection and scaling would have done on recorded data. */
export function replayCommand(): Command {
  return new Command('replay')
    .description('Run the whole chain on a recorded trace and say how it would have done')
    .argument('<file>', 'NDJSON samples (iguana record), CSV, or one count a line and second; .gz or not')
    .option('--speed <n>', 'times real time, or max', parseSpeed, Number.POSITIVE_INFINITY)
    .option('--step <time>', 'means of steps, such as 15s or 5m (default: as recorded; counts 60s)', parseDuration)
    .option('--from <time>', "begin here, in the trace's own time (ISO or epoch)", parseMoment)
    .option('--to <time>', 'end before', parseMoment)
    .option('--max-samples <n>', 'at most so many of each series, after --step', wholeNumber(2, 100_000_000))
    .option('--model <name>', `one of ${modelNames.join(', ')}`, oneOf(modelNames), 'ensemble')
    .option('--metric <name>', 'the series to scale by (default: the only one, else requests_per_second)')
    .option('--startup <time>', 'time until a new instance serves', parseDuration, 180_000)
    .option('--peak <n>', "instances that carry the trace's peak (99.9 %) at full use", wholeNumber(1, 10_000), 50)
    .option('--json', 'one object instead of tables')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana replay trace.ndjson.gz\n  iguana replay requests.csv --step 5m --startup 2m --json\n  iguana replay requests-per-second.txt.gz --from 1995-07-01 --to 1995-07-15\n  iguana replay trace.ndjson --speed 60',
    )
    .action(async (file: string, options: ReplayOptions) => {
      const report = await replay(file, options);
      process.stdout.write(options.json ? `${JSON.stringify(asJson(report), null, 2)}\n` : textOf(report));
    });
}

async function replay(file: string, options: ReplayOptions): Promise<ReplayReport> {
  const begun = performance.now();
  const { series: recorded, format } = await readTrace(file);
  const stepMs = options.step ?? (format === 'counts' ? STEP_OF_COUNTS_MS : undefined);
  const range = {
    ...(options.from === undefined ? {} : { fromMs: options.from }),
    ...(options.to === undefined ? {} : { toMs: options.to }),
    ...(options.maxSamples === undefined ? {} : { maxSamples: options.maxSamples }),
  };
  const parts = recorded.map((one) => excerpt(stepMs ? onGrid(one, stepMs) : one, range));
  const used = parts.filter(({ values }) => values.length > 1);
  if (used.length === 0)
    throw new IguanaError('IGU_USAGE', { what: `no series of ${file} has two samples in what was asked for` });
  const begin = Math.min(...used.map(({ timestamps }) => timestamps[0]!));
  const end = Math.max(...used.map(({ timestamps }) => timestamps.at(-1)!));
  // old samples are refused by the pipelines, as they should be: the trace is played as if it ended now
  const weeks = Math.floor((Date.now() - end) / WEEK_MS);
  const shiftMs = weeks * WEEK_MS;
  const trace = used.map((one) => excerpt(one, { shiftMs }));
  const judgedFrom = begin + Math.min(LEARNING_MS, (end - begin) / 3);

  const load = loadOf(trace, options.metric);
  const plan = load && planFor(load, options);
  const score = new ForecastScore(trace, judgedFrom + shiftMs);
  const opened: AnomalyRecord[] = [];
  const decisions: DecisionRecord[] = [];
  const bar = progress('replay', 1000);
  await runReplay({
    trace,
    speed: options.speed,
    model: options.model,
    policies: plan ? [plan.policy] : [],
    onForecast: (record) => score.add(record),
    onAnomaly: (record) => {
      if (record.state === 'open' && record.openedAt >= judgedFrom + shiftMs) opened.push(record);
    },
    onDecision: (record) => decisions.push(record),
    onProgress: (share) => bar.update(1000 * share),
  });
  bar.end();
  return {
    file,
    series: trace.length,
    samples: trace.reduce((sum, { values }) => sum + values.length, 0),
    stepMs: medianGap(trace[0]!.timestamps),
    from: new Date(begin).toISOString(),
    to: new Date(end).toISOString(),
    judgedFrom: new Date(judgedFrom).toISOString(),
    movedByWeeks: weeks,
    seconds: (performance.now() - begun) / 1000,
    forecasts: score.result(),
    alerts: {
      opened: opened.length,
      critical: opened.filter((a) => a.severity === 'critical').length,
      perSeriesDay: opened.length / trace.length / ((end - judgedFrom) / DAY_MS),
    },
    scaling: load && plan ? scalingReport(load, plan, decisions, judgedFrom + shiftMs) : null,
  };
}

/** The series that scaling goes by: the one named, the only one, or one of requests a second. */
function loadOf(trace: readonly TraceSeries[], metric: string | undefined): TraceSeries | undefined {
  if (metric === undefined)
    return trace.length === 1 ? trace[0] : trace.find(({ series }) => series.name === 'requests_per_second');
  const found = trace.find(({ series }) => series.name === metric);
  if (found) return found;
  const names = [...new Set(trace.map(({ series }) => series.name))].slice(0, 20).join(', ');
  throw new IguanaError('IGU_NOT_FOUND', { what: 'series in the trace', name: metric, fix: `one of: ${names}` });
}

interface Plan {
  readonly policy: ScalingPolicy;
  readonly capacity: number;
}

/** A service that fits the trace: so many instances carry its peak. Undefined when there is no load at all. */
function planFor({ series, values }: TraceSeries, { startup, peak }: ReplayOptions): Plan | undefined {
  const capacity = quantileOf(values, 0.999) / peak;
  if (!(capacity > 0)) return undefined;
  const target = TARGET_USE * capacity;
  const policy = policySchema.parse({
    name: 'replay',
    entity: series.entity,
    metric: series.name,
    targetPerInstance: target,
    min: 1,
    max: 20 * peak,
    initial: Math.min(20 * peak, Math.max(1, Math.ceil(values[0]! / target))),
    startupSeconds: Math.round(startup / 1000),
  });
  return { policy, capacity };
}

function scalingReport(
  load: TraceSeries,
  { policy, capacity }: Plan,
  decisions: readonly DecisionRecord[],
  fromMs: number,
): NonNullable<ReplayReport['scaling']> {
  const { initial, startupSeconds, targetPerInstance: target } = policy;
  const model = { capacity, startupMs: startupSeconds * 1000, initial, fromMs };
  const play = (changes: ReturnType<typeof changesOf>): ScalingOutcome => playScaling(load, changes, model);
  const iguana = play(changesOf(decisions));
  const sameCost = reactiveTargetFor(load, policy, model, iguana.meanInstances);
  return {
    metric: load.series.canonical,
    capacity,
    target,
    startupSeconds,
    outcomes: [
      { policy: 'plain HPA', outcome: play(reactiveChanges(load, policy)) },
      {
        policy: `plain HPA, target ${figure(sameCost)}: as many instances as iguana`,
        outcome: play(reactiveChanges(load, { ...policy, targetPerInstance: sameCost })),
      },
      { policy: 'iguana', outcome: iguana },
      { policy: 'perfect forecast', outcome: play(foresightChanges(load, policy)) },
    ],
  };
}

function textOf(report: ReplayReport): string {
  const { file, series, samples, stepMs, from, to, judgedFrom, movedByWeeks, seconds, alerts, scaling } = report;
  const day = (iso: string): string => iso.slice(0, 16).replace('T', ' ');
  const lines = [
    `${file}: ${samples} samples of ${series} series, one every ${duration(stepMs)}, ${day(from)} to ${day(to)} (played ${movedByWeeks} weeks later)`,
    `judged from ${day(judgedFrom)} on; took ${seconds.toFixed(1)} s`,
    '',
    series === 1
      ? 'Mean absolute error of forecasts'
      : 'Mean absolute error of forecasts, relative to the newest value (1: no better than it)',
    forecastTable(report),
    '',
    `Alerts: ${alerts.opened} opened (${alerts.critical} critical), ${alerts.perSeriesDay.toFixed(2)} per series and day`,
    '',
  ];
  if (scaling) {
    const { metric, capacity, target, startupSeconds, outcomes } = scaling;
    lines.push(
      `Scaling by ${metric}: an instance carries ${figure(capacity)}, is planned for ${figure(target)}, serves ${startupSeconds} s after the decision`,
      textTable(
        ['policy', 'unserved work %', 'time short %', 'mean instances', 'actions'],
        outcomes.map(({ policy, outcome }) => [
          policy,
          (100 * outcome.unserved).toFixed(3),
          (100 * outcome.shortTime).toFixed(2),
          outcome.meanInstances.toFixed(2),
          String(outcome.actions),
        ]),
      ),
      '',
    );
  } else {
    lines.push('No scaling: --metric NAME says by which series.', '');
  }
  return lines.join('\n');
}

function forecastTable({ forecasts, stepMs }: ReplayReport): string {
  if (forecasts.length === 0) return 'none: the trace is too short';
  const levels = [...new Set(forecasts.flatMap((f) => [...f.coverage.keys()]))];
  const header = ['ahead', 'forecasts', 'error', 'a day before', 'newest value', 'of a day before'];
  const rows = forecasts.map(({ horizonSteps, forecasts: n, error, seasonalNaiveError, naiveError, coverage }) => [
    duration(horizonSteps * stepMs),
    String(n),
    figure(error),
    figure(seasonalNaiveError),
    figure(naiveError),
    Number.isFinite(seasonalNaiveError) ? `${((100 * error) / seasonalNaiveError).toFixed(0)} %` : '-',
    ...levels.map((level) => `${(100 * (coverage.get(level) ?? Number.NaN)).toFixed(1)} %`),
  ]);
  return textTable([...header, ...levels.map((level) => `in ${level} % bounds`)], rows);
}

function asJson(report: ReplayReport): unknown {
  const forecasts = report.forecasts.map((f) => ({ ...f, coverage: Object.fromEntries(f.coverage) }));
  return { ...report, forecasts };
}

function figure(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : '-';
}

function duration(ms: number): string {
  if (ms >= 60_000 && ms % 60_000 === 0) return `${ms / 60_000} min`;
  return `${Number((ms / 1000).toPrecision(4))} s`;
}

function parseSpeed(given: string): number {
  if (given === 'max') return Number.POSITIVE_INFINITY;
  const speed = Number(given);
  if (!(speed > 0)) throw new InvalidArgumentError('max, or a number above 0 such as 60, is needed.');
  return speed;
}

/** ms of `15s`, `5m`, `1h` or seconds. */
function parseDuration(given: string): number {
  const ms = durationOf(/[a-z]$/.test(given) ? given : `${given}s`);
  if (ms === undefined || !(ms > 0)) throw new InvalidArgumentError('A time such as 15s, 5m or 1h is needed.');
  return ms;
}

function parseMoment(given: string): number {
  const at = parseTime(given);
  if (at === undefined) throw new InvalidArgumentError('A time such as 1995-07-01 or 1995-07-01T12:00Z is needed.');
  return at;
}
