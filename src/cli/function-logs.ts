import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { IguanaError } from '../errors.js';
import { ask, functionPath, type ServerOptions, serverOptions } from './server-client.js';
import { wholeNumber } from './suggest.js';
import { paint } from './terminal.js';

/** `--follow` asks this often, ms. */
const FOLLOW_MS = 1_000;
/** Calls that are named where several are meant. */
const MAX_NAMED = 5;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export interface LogLine {
  readonly at: number;
  readonly invocationId: string;
  readonly line: string;
}

interface LogsOptions extends ServerOptions {
  readonly max?: number;
  readonly call?: string;
  readonly follow?: boolean;
}

/** `iguana function logs NAME`. */
export function functionLogsCommand(): Command {
  const command = new Command('logs')
    .description('Show what a function logged in the process that is asked, oldest first')
    .argument('<name>', 'function')
    .option('--max <n>', 'the newest lines only', wholeNumber(1, 1_000_000))
    .option('--call <id>', 'lines of this call only; its id as it is shown, or the beginning of it')
    .option('--follow', 'go on with what comes, until Ctrl-C');
  return serverOptions(command)
    .addHelpText(
      'after',
      '\nWith --json a line is an object: at (ms since 1970), invocationId, level (debug, info, warn or error) and line, which begins with the level.' +
        '\n\nExamples:\n  iguana function logs orders --max 20\n  iguana function logs orders --follow\n  iguana function logs orders --call 340cb6bd',
    )
    .action(async (name: string, options: LogsOptions) => {
      const show = (lines: readonly LogLine[]): void => {
        for (const line of lines)
          process.stdout.write(`${options.json ? JSON.stringify(withLevel(line)) : lineText(name, line)}\n`);
      };
      const read = async (): Promise<readonly LogLine[]> => {
        const lines = await ask<LogLine[]>(options, 'GET', functionPath(name, 'logs'));
        return options.call === undefined ? lines : linesOfCall(name, lines, options.call);
      };
      let lines = await read();
      if (lines.length === 0 && options.call !== undefined && !options.follow) {
        const fix =
          'see `iguana function logs` without --call; the newest 1,000 lines of the process that is asked are kept';
        throw new IguanaError('IGU_NOT_FOUND', {
          what: `call of ${name} with a line in its log`,
          name: options.call,
          fix,
        });
      }
      show(options.max === undefined ? lines : lines.slice(-options.max));
      while (options.follow) {
        await sleep(FOLLOW_MS);
        const next = await read();
        show(linesAfter(lines, next));
        lines = next;
      }
    });
}

/**
 * The lines of one call.
 * @param given its id, or the beginning of it, as a whole or as it is shown
 * @throws IguanaError `IGU_USAGE` when several calls begin so
 */
export function linesOfCall(name: string, lines: readonly LogLine[], given: string): readonly LogLine[] {
  const whole = lines.filter(({ invocationId }) => invocationId === given);
  if (whole.length > 0) return whole;
  const begun = lines.filter(({ invocationId: id }) => id.startsWith(given) || shownId(name, id).startsWith(given));
  const calls = [...new Set(begun.map(({ invocationId }) => invocationId))];
  if (calls.length <= 1) return begun;
  const named = calls.slice(-MAX_NAMED).map((id) => (UUID.test(id) ? id : shownId(name, id)));
  const newest = calls.length > MAX_NAMED ? 'the newest of them ' : '';
  const what = `--call ${given}: ${calls.length} calls begin so, ${newest}${named.join(', ')}`;
  throw new IguanaError('IGU_USAGE', { what });
}

/** Those of the new lines that were not among the old ones: both are the newest of one log. */
export function linesAfter<T extends LogLine>(before: readonly LogLine[], now: readonly T[]): readonly T[] {
  const same = (a: LogLine, b: LogLine) => a.at === b.at && a.invocationId === b.invocationId && a.line === b.line;
  for (let kept = Math.min(before.length, now.length); kept > 0; kept--) {
    const old = before.slice(-kept);
    if (old.every((line, i) => same(line, now[i]!))) return now.slice(kept);
  }
  return now;
}

/** What tells a call from others of its function: 8 digits of a random id; of a timer its time, of an event its hash, of a record its place. */
export function shownId(name: string, id: string): string {
  if (UUID.test(id)) return id.slice(0, 8);
  const [, kind, rest] = /^(timer|event)-(.*)$/s.exec(id) ?? [];
  return kind && rest?.startsWith(`${name}-`) ? `${kind}-${rest.slice(name.length + 1)}` : id;
}

function withLevel({ at, invocationId, line }: LogLine): LogLine & { readonly level: string } {
  return { at, invocationId, level: partsOf(line).level, line };
}

function partsOf(line: string): { readonly level: string; readonly text: string } {
  const [, level = 'info', text = line] = /^(debug|info|warn|error) (.*)$/s.exec(line) ?? [];
  return { level, text };
}

function lineText(name: string, { at, invocationId, line }: LogLine): string {
  const { level, text } = partsOf(line);
  const style = { error: 'red', warn: 'yellow', debug: 'dim' }[level] as 'red' | 'yellow' | 'dim' | undefined;
  const shown = style ? paint(style, text) : text;
  return `${paint('dim', `${new Date(at).toISOString()} ${shownId(name, invocationId)}`)} ${shown}`;
}
