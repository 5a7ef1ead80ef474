import { readFileSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { InvocationResult } from '../functions/invocation.js';
import type { LogLine } from './function-logs.js';
import { timeText } from './function-text.js';
import { AnsweredError, ask, functionPath, type ServerOptions, serverOptions } from './server-client.js';
import { paint } from './terminal.js';
import { parseTime } from './wasm-options.js';

interface InvokeOptions extends ServerOptions {
  readonly input?: string;
  readonly timeout?: number;
  readonly qualifier?: string;
  readonly async?: boolean;
}

/** Longest time that a function may take, ms. */
const LONGEST_MS = 900_000;
/** And then some: so long an answer is waited for, ms. */
const LONGEST_CALL_MS = LONGEST_MS + 30_000;

/** `iguana function invoke NAME`: calls it; what it returns is on standard output, what it logged on standard error. */
export function functionInvokeCommand(): Command {
  const command = new Command('invoke')
    .description('Call a function; what it returns goes to standard output, what it logs to standard error')
    .argument('<name>', 'function; or NAME:ALIAS, NAME:VERSION')
    .option('--input <json>', 'its input; @FILE reads it from a file, - from standard input (default: null)')
    .option('--timeout <time>', 'shorter than its own, such as 500ms or 5s', parseTimeLimit)
    .option('--qualifier <version>', 'version or alias (default: the newest version)')
    .option('--async', 'do not wait: print the id of the call');
  return serverOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function invoke orders --input \'{"id": 7}\'\n  cat order.json | iguana function invoke orders --input - --json',
    )
    .action(async (name: string, options: InvokeOptions) => {
      const { timeout, qualifier } = options;
      const body = {
        input: inputOf(options.input),
        ...(timeout === undefined ? {} : { timeoutMs: timeout }),
        ...(qualifier === undefined ? {} : { qualifier }),
        ...(options.async ? { async: true } : {}),
      };
      const path = functionPath(name, 'invoke');
      if (options.async) {
        const call = await ask<{ invocationId: string }>(options, 'POST', path, body);
        process.stdout.write(`${options.json ? JSON.stringify(call) : call.invocationId}\n`);
        return;
      }
      const result = await ask<InvocationResult>(options, 'POST', path, body, LONGEST_CALL_MS).catch(
        async (error: unknown) => {
          await tellLogs(name, options, error);
          throw error;
        },
      );
      if (options.json) {
        process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
        return;
      }
      for (const line of result.logs) tellLine(line);
      const { output, durationMs, cold, initMs } = result;
      const text = typeof output === 'string' ? output : JSON.stringify(output, null, 2);
      if (text !== undefined) process.stdout.write(`${text}\n`);
      const started = cold ? `, after a cold start of ${timeText(initMs)} (${cold})` : '';
      if (process.stderr.isTTY)
        process.stderr.write(`${paint('dim', `${timeText(durationMs)}${started}`, process.stderr)}\n`);
    });
}

function parseTimeLimit(given: string): number {
  const ms = parseTime(given);
  if (ms <= LONGEST_MS) return ms;
  const what = `At most ${timeText(LONGEST_MS)}, not ${timeText(ms)}; a number without a unit is seconds.`;
  throw new InvalidArgumentError(what);
}

/** What a call that failed had logged, and where in its code it failed; its error follows, and is not told twice. */
async function tellLogs(name: string, options: ServerOptions, error: unknown): Promise<void> {
  if (!(error instanceof AnsweredError)) return;
  const { invocationId } = error.body as { readonly invocationId?: unknown };
  if (typeof invocationId !== 'string') return;
  let lines: LogLine[];
  try {
    lines = await ask<LogLine[]>(options, 'GET', functionPath(functionOf(name), 'logs'));
  } catch {
    // the call's own error says more than that its log cannot be had
    return;
  }
  const own = `error ${error.message}`;
  for (const { invocationId: id, line } of lines) {
    const told = line.startsWith(own) ? line.slice(own.length).trimStart() : line;
    if (id === invocationId && told !== '') tellLine(told);
  }
}

/** The function of `NAME`, or of `NAME:QUALIFIER`. */
function functionOf(name: string): string {
  return name.split(':', 1)[0]!;
}

function tellLine(line: string): void {
  process.stderr.write(`${paint('dim', line, process.stderr)}\n`);
}

/** `iguana function call NAME ID`: how a call stands that nobody waited for. */
export function functionCallCommand(): Command {
  const command = new Command('call')
    .description('Show how a call made with --async stands, or cancel it')
    .argument('<name>', 'function')
    .argument('<id>', 'what `invoke --async` printed')
    .option('--cancel', 'end it');
  return serverOptions(command).action(
    async (name: string, id: string, options: ServerOptions & { cancel?: boolean }) => {
      const path = functionPath(name, 'calls', id);
      const call = await ask<Record<string, unknown>>(options, options.cancel ? 'DELETE' : 'GET', path);
      if (options.json) process.stdout.write(`${JSON.stringify(call, null, 2)}\n`);
      else if (options.cancel) process.stdout.write(`${id} is cancelled\n`);
      else {
        const { state, attempts, output, error } = call;
        const tries = `${attempts} ${attempts === 1 ? 'try' : 'tries'}`;
        const ending = error ?? (output === undefined ? '' : JSON.stringify(output));
        process.stdout.write(`${state} after ${tries}${ending ? `: ${ending}` : ''}\n`);
      }
    },
  );
}

function inputOf(given: string | undefined): unknown {
  if (given === undefined) return null;
  const file = given === '-' ? 0 : given.startsWith('@') ? given.slice(1) : undefined;
  let text = given;
  if (file !== undefined) {
    try {
      text = readFileSync(file, 'utf8');
    } catch (cause) {
      throw new IguanaError('IGU_FILE_MISSING', { path: file === 0 ? 'standard input' : file }, { cause });
    }
  }
  try {
    return JSON.parse(text);
  } catch (cause) {
    const example = text.length > 40 || text.includes("'") ? '\'"some text"\'' : `'${JSON.stringify(text)}'`;
    const what = `the input is no JSON (${messageOf(cause)}); a text is written ${example}`;
    throw new IguanaError('IGU_USAGE', { what }, { cause });
  }
}
