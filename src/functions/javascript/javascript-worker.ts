/**
 * Runs the calls of one JavaScript function, in a worker thread or (as the program of a child process) with messages over IPC. Starts empty, so that it can
 * wait for any function's code; once it has loaded one it keeps to it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { formatWithOptions } from 'node:util';
import { getHeapStatistics } from 'node:v8';
import { parentPort } from 'node:worker_threads';
import { functionLimits } from '../../limits.js';
import type { FunctionEvent, InvocationContext } from '../invocation.js';
import type { FromWorker, ToWorker, WorkerReply } from './protocol.js';

type Level = 'debug' | 'info' | 'warn' | 'error';
type Logger = Readonly<Record<Level, (...values: unknown[]) => void>>;
type Handler = (event: FunctionEvent, context: InvocationContext & { signal: AbortSignal; log: Logger }) => unknown;

/** Log lines of one call. */
class Log {
  readonly lines: string[] = [];
  truncated = false;
  private characters = 0;

  add(level: Level, values: readonly unknown[]): void {
    if (this.lines.length >= functionLimits.maxLogLines || this.characters >= functionLimits.maxLogCharacters) {
      this.truncated = true;
      return;
    }
    const text = formatWithOptions(
      { breakLength: Number.POSITIVE_INFINITY, maxStringLength: functionLimits.maxLogLine },
      ...values,
    );
    const line = `${level} ${text}`;
    if (line.length > functionLimits.maxLogLine) this.truncated = true;
    this.lines.push(line.slice(0, functionLimits.maxLogLine));
    this.characters += Math.min(line.length, functionLimits.maxLogLine);
  }
}

const current = new AsyncLocalStorage<Log>();
const running = new Map<number, AbortController>();
let handler: Handler | undefined;

const send: (message: FromWorker) => void = parentPort
  ? (message) => parentPort!.postMessage(message)
  : (message) => process.send?.(message);

function logger(): Logger {
  const at =
    (level: Level) =>
    (...values: unknown[]) =>
      current.getStore()?.add(level, values);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

const log = logger();
Object.assign(console, { ...log, log: log.info, trace: log.debug, dir: log.info });

async function load({ code, handler: name, env }: Extract<ToWorker, { type: 'load' }>): Promise<void> {
  const started = performance.now();
  for (const variable of Object.keys(process.env)) delete process.env[variable];
  Object.assign(process.env, env);
  try {
    const module: Record<string, unknown> = await import(
      `data:text/javascript;charset=utf-8,${encodeURIComponent(code)}`
    );
    const exported = module[name];
    if (typeof exported !== 'function') {
      const names = Object.keys(module).join(', ');
      throw new Error(`it exports no function ${name}${names ? `, but ${names}` : ''}`);
    }
    handler = exported as Handler;
    send({ type: 'loaded', ms: performance.now() - started });
  } catch (error) {
    send({ type: 'load-failed', what: error instanceof Error ? error.message : String(error) });
  }
}

async function invoke({ id, event, context }: Extract<ToWorker, { type: 'invoke' }>): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  const lines = new Log();
  const started = performance.now();
  let result: Pick<WorkerReply, 'output' | 'error'>;
  try {
    const output = await current.run(lines, async () =>
      handler!(event, { ...context, signal: controller.signal, log }),
    );
    result = { output };
  } catch (error) {
    result = { error: described(error) };
  }
  running.delete(id);
  const rest = {
    durationMs: performance.now() - started,
    heapBytes: getHeapStatistics().used_heap_size,
    logs: lines.lines,
    logsTruncated: lines.truncated,
  };
  try {
    send({ type: 'reply', id, ...result, ...rest });
  } catch (error) {
    send({
      type: 'reply',
      id,
      error: { message: `what it returned cannot be sent: ${described(error).message}`, stack: '' },
      ...rest,
    });
  }
}

function described(error: unknown): { message: string; stack: string } {
  if (!(error instanceof Error)) return { message: String(error), stack: '' };
  return { message: error.message, stack: error.stack ?? '' };
}

function receive(message: ToWorker): void {
  if (message.type === 'load') void load(message);
  else if (message.type === 'invoke') void invoke(message);
  else running.get(message.id)?.abort();
}

if (parentPort) parentPort.on('message', receive);
else process.on('message', receive);
send({ type: 'started' });
