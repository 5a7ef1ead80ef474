/**
 * Runs the calls of one JavaScript function, in a worker thread or (as the program of a child process) with messages over IPC. Starts empty, so that it can
 * wait for any function's code; once it has loaded one it keeps to it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { formatWithOptions, inspect } from 'node:util';
import { getHeapStatistics } from 'node:v8';
import { parentPort } from 'node:worker_threads';
import { functionLimits, httpAnswerLimits } from '../../limits.js';
import type { FunctionEvent, InvocationContext } from '../invocation.js';
import { MessageBatch } from '../message-batch.js';
import { answerSize } from './answer-size.js';
import type { AnswerHead, FromWorker, ToWorker, WorkerReply } from './protocol.js';

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
/** Signals of calls that were asked for theirs. */
const signals = new Map<number, AbortController>();
/** Calls that were cancelled and did not ask for theirs so far. */
const cancelled = new Set<number>();
let running = 0;
/** Of calls that answer piece by piece. */
const windows = new Map<number, Window>();
let handler: Handler | undefined;

const post: (messages: readonly FromWorker[], moved?: readonly ArrayBuffer[]) => void = parentPort
  ? (messages, moved) => parentPort!.postMessage(messages, moved)
  : (messages) => process.send?.(messages);
const replies = new MessageBatch<FromWorker>(post, (message, error) => {
  if (message.type !== 'reply') return;
  const { output: _unsendable, ...rest } = message;
  post([{ ...rest, error: { message: `what it returned cannot be sent: ${described(error).message}`, stack: '' } }]);
});

/** At once, and after the replies before it. */
function send(message: FromWorker, moved?: readonly ArrayBuffer[]): void {
  replies.flush();
  post([message], moved);
}

function logger(): Logger {
  const at =
    (level: Level) =>
    (...values: unknown[]) =>
      current.getStore()?.add(level, values);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

const log = logger();
Object.assign(console, { ...log, log: log.info, trace: log.debug, dir: log.info });

/** By mistake it would end Iguana: in a thread it is the same process. */
const noSignals = (): never => {
  throw new Error('a function sends no signals');
};
Object.assign(process, { kill: noSignals, _kill: noSignals });

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
    send({ type: 'load-failed', what: described(error).message });
  }
}

async function invoke({ id, event: sent, context, pieces }: Extract<ToWorker, { type: 'invoke' }>): Promise<void> {
  // Making one takes longer than all else here, and few functions look at theirs.
  const signal = (): AbortSignal => {
    let controller = signals.get(id);
    if (!controller) {
      controller = new AbortController();
      signals.set(id, controller);
      if (cancelled.has(id)) controller.abort();
    }
    return controller.signal;
  };
  const event: FunctionEvent = typeof sent === 'string' ? JSON.parse(sent) : sent;
  const lines = new Log();
  running++;
  const started = performance.now();
  let result: Pick<WorkerReply, 'output' | 'error'>;
  try {
    result = await current.run(lines, async () => {
      const output = await handler!(event, {
        ...context,
        get signal() {
          return signal();
        },
        log,
      });
      const streamed = pieces ? streamOf(output) : undefined;
      if (!streamed) return { output };
      await stream(id, streamed, signal());
      return {};
    });
  } catch (error) {
    result = { error: described(error) };
  }
  signals.delete(id);
  running--;
  if (running === 0) cancelled.clear();
  const bytes = answerSize(result.output, functionLimits.maxAnswerBytes);
  if (bytes > functionLimits.maxAnswerBytes) {
    const message = `it answered ${bytes} bytes or more, more than ${functionLimits.maxAnswerBytes}`;
    result = { error: { message, stack: '' } };
  }
  replies.send({
    type: 'reply',
    id,
    ...result,
    durationMs: performance.now() - started,
    heapBytes: getHeapStatistics().used_heap_size,
    logs: lines.lines,
    logsTruncated: lines.truncated,
  });
}

type Pieces = AsyncIterable<unknown>;

/** What comes piece by piece, when that is what a handler returned. */
function streamOf(output: unknown): { head: AnswerHead; pieces: Pieces } | undefined {
  if (typeof output !== 'object' || output === null) return undefined;
  if (isPieces(output)) return { head: {}, pieces: output };
  const { statusCode, headers, body } = output as AnswerHead & { readonly body?: unknown };
  return statusCode !== undefined && isPieces(body) ? { head: { statusCode, headers }, pieces: body } : undefined;
}

function isPieces(value: unknown): value is Pieces {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

/** How many bytes a function may still send before its reader has taken some. */
class Window {
  private left: number = httpAnswerLimits.streamWindowBytes;
  private open: (() => void) | undefined;

  constructor(private readonly signal: AbortSignal) {
    signal.addEventListener('abort', () => this.open?.(), { once: true });
  }

  take(bytes: number): void {
    this.left -= bytes;
  }

  give(bytes: number): void {
    this.left += bytes;
    if (this.left > 0) this.open?.();
  }

  /** Resolves when there is room, or when nobody reads any more. */
  async room(): Promise<void> {
    if (this.left > 0 || this.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.open = resolve;
    });
  }
}

async function stream(id: number, { head, pieces }: { head: AnswerHead; pieces: Pieces }, signal: AbortSignal) {
  const window = new Window(signal);
  windows.set(id, window);
  try {
    send({ type: 'begin', id, head });
    for await (const piece of pieces) {
      if (signal.aborted) break;
      const bytes = bytesOf(piece);
      window.take(bytes.byteLength);
      send({ type: 'piece', id, bytes }, [bytes.buffer]);
      await window.room();
      if (signal.aborted) break;
    }
  } finally {
    windows.delete(id);
  }
}

/** A copy: the function may use its own again. Text is UTF-8, other values a line of JSON. */
function bytesOf(piece: unknown): Uint8Array<ArrayBuffer> {
  if (piece instanceof Uint8Array) return Uint8Array.from(piece);
  return new TextEncoder().encode(typeof piece === 'string' ? piece : `${JSON.stringify(piece)}\n`);
}

/** Of whatever was thrown: it may be no error, have no text, or throw when it is looked at. */
function described(error: unknown): { message: string; stack: string } {
  try {
    const { maxLogLine, maxLogCharacters } = functionLimits;
    if (!(error instanceof Error)) return { message: inspect(error, { depth: 2 }).slice(0, maxLogLine), stack: '' };
    return {
      message: String(error.message).slice(0, maxLogLine),
      stack: String(error.stack ?? '').slice(0, maxLogCharacters),
    };
  } catch {
    // it threw when it was looked at
    return { message: 'it threw what cannot be described', stack: '' };
  }
}

function receive(messages: readonly ToWorker[]): void {
  for (const message of messages) take(message);
}

function take(message: ToWorker): void {
  if (message.type === 'load') void load(message);
  else if (message.type === 'invoke') void invoke(message);
  else if (message.type === 'more') windows.get(message.id)?.give(message.bytes);
  else {
    signals.get(message.id)?.abort();
    if (running > 0) cancelled.add(message.id);
  }
}

if (parentPort) parentPort.on('message', receive);
else process.on('message', receive);
send({ type: 'started' });
