import { Command, InvalidArgumentError } from 'commander';
import { parseTime } from '../codec/series-csv.js';
import type { FunctionStats } from '../dashboard/function-api.js';
import { IguanaError } from '../errors.js';
import type { FunctionMetrics } from '../functions/function-metrics.js';
import type { PeriodBill } from '../functions/usage-ledger.js';
import { costText, type ListedFunction, standingText, timeText, triggerText } from './function-text.js';
import { ask, functionPath, type ServerOptions, serverOptions } from './server-client.js';
import { aligned, paint, printJson, textTable } from './terminal.js';

/** `iguana function list`: what is deployed, with its calls so far. */
export function functionListCommand(): Command {
  return serverOptions(new Command('list').description('Show the functions that are deployed'))
    .addHelpText('after', '\nExamples:\n  iguana function list\n  iguana function list --json')
    .action(async (options: ServerOptions) => {
      const functions = await ask<ListedFunction[]>(options, 'GET', functionPath());
      if (options.json) return printJson(functions);
      if (functions.length === 0) {
        process.stdout.write('No function is deployed; `iguana function init NAME` makes a first one.\n');
        return;
      }
      const metrics = await Promise.all(
        functions.map(({ name }) => ask<FunctionMetrics>(options, 'GET', functionPath(name, 'metrics'))),
      );
      const rows = functions.map(({ name, version, definition, paused }, i) => [
        name,
        String(version),
        definition.runtime,
        String(definition.memoryMb),
        String(metrics[i]!.totalInvocations),
        String(metrics[i]!.instances),
        paused ? 'paused' : 'active',
        definition.triggers.map(triggerText).join(', '),
      ]);
      const header = ['name', 'version', 'runtime', 'MB', 'calls', 'instances', 'state', 'triggers'];
      process.stdout.write(`${textTable(header, rows)}\n`);
      for (const { message } of functions.flatMap(({ notServed }) => notServed))
        process.stderr.write(`${paint('yellow', message, process.stderr)}\n`);
    });
}

/** `iguana function metrics NAME`. */
export function functionMetricsCommand(): Command {
  const command = new Command('metrics')
    .description(
      'Show calls, durations, cold starts, instances and triggers of a function in the process that is asked',
    )
    .argument('<name>', 'function');
  return serverOptions(command).action(async (name: string, options: ServerOptions) => {
    const [metrics, { paused, triggers }] = await Promise.all([
      ask<FunctionMetrics>(options, 'GET', functionPath(name, 'metrics')),
      ask<FunctionStats>(options, 'GET', functionPath(name, 'stats')),
    ]);
    if (options.json) return printJson({ ...metrics, paused, triggers });
    const { totalInvocations, successfulInvocations, coldStarts } = metrics;
    const causes = Object.entries(metrics.coldStartsByCause).map(([cause, count]) => `${cause} ${count}`);
    const failed = Object.entries(metrics.failedInvocations).map(([code, count]) => `${code} ${count}`);
    const { averageDurationMs, p50DurationMs, p99DurationMs } = metrics;
    const rows: [string, string][] = [
      ['calls', `${totalInvocations}, of them ${successfulInvocations} succeeded`],
      ['failed', failed.length > 0 ? failed.join(', ') : 'none'],
      [
        'duration',
        `${timeText(averageDurationMs)} on average, half under ${timeText(p50DurationMs)}, 99 % under ${timeText(p99DurationMs)}`,
      ],
      [
        'cold starts',
        coldStarts === 0
          ? 'none'
          : `${coldStarts} of ${timeText(metrics.averageColdStartMs)} on average (${causes.join(', ')})`,
      ],
      ['refused', refusedText(metrics)],
      ['now', `${metrics.concurrency} running, ${metrics.waiting} waiting`],
      ['instances', `${metrics.instances}, of them ${metrics.idleInstances} idle`],
      ['memory', `${(metrics.memoryBytes / 2 ** 20).toFixed(1)} MB`],
    ];
    if (metrics.gasUsed > 0) rows.push(['gas', metrics.gasUsed.toLocaleString('en')]);
    if (paused) rows.push(['paused', 'stream, queue, timer and event triggers do nothing']);
    for (const trigger of triggers) {
      const standing = standingText(trigger);
      if (standing !== '') rows.push([`${trigger.type} ${trigger.source}`, standing]);
    }
    process.stdout.write(`${aligned(rows)}\n`);
  });
}

function refusedText({ throttles, failedInvocations }: FunctionMetrics): string {
  const late = failedInvocations.IGU_FUNCTION_NOT_READY ?? 0;
  return `${throttles} because too many waited, ${late} because no instance was ready in time`;
}

/** `iguana function billing NAME`. */
export function functionBillingCommand(): Command {
  const command = new Command('billing')
    .description('Show usage and cost of a function in all processes')
    .argument('<name>', 'function')
    .option('--start <time>', 'from then on: ISO 8601, or ms since 1970 (default: all that is kept)', parseMoment)
    .option('--end <time>', 'up to then (default: now)', parseMoment);
  return serverOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function billing orders\n  iguana function billing orders --start 2026-01-01T00:00:00Z --end 2026-02-01T00:00:00Z',
    )
    .action(async (name: string, options: ServerOptions & { start?: number; end?: number }) => {
      const { start, end } = options;
      if (start !== undefined && end !== undefined && start > end) {
        const [from, to] = [start, end].map((ms) => new Date(ms).toISOString());
        throw new IguanaError('IGU_USAGE', { what: `--start ${from} is after --end ${to}` });
      }
      const query = new URLSearchParams();
      if (start !== undefined) query.set('start', String(start));
      if (end !== undefined) query.set('end', String(end));
      const asked = query.size > 0 ? `?${query}` : '';
      const bill = await ask<PeriodBill>(options, 'GET', functionPath(name, 'billing') + asked);
      if (options.json) return printJson(bill);
      const rows: [string, string][] = [
        ['calls', String(bill.invocationCount)],
        ['compute', `${timeText(bill.computeTimeMs)} (${bill.gbSeconds.toPrecision(6)} GB-seconds)`],
        ['initialisation', `${timeText(bill.initTimeMs)} (${bill.initGbSeconds.toPrecision(6)} GB-seconds)`],
        ['cost', costText(bill.estimatedCostUsd)],
      ];
      if (bill.gasUsed > 0) rows.splice(3, 0, ['gas', bill.gasUsed.toLocaleString('en')]);
      process.stdout.write(`${aligned(rows)}\n`);
    });
}

function parseMoment(given: string): number {
  const time = parseTime(given);
  if (time === undefined)
    throw new InvalidArgumentError('A time such as 2026-01-31T12:00:00Z, or ms since 1970, is needed.');
  return time;
}
