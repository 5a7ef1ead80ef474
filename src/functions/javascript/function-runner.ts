/**
 * Runs the calls of one JavaScript function's instance: loading, calls, logs, signals, pieces. Over 300 lines because all of it is a call's way through the
 * worker, and shares what is known of the calls under way.
 */
import { inspect } from 'node:util';
import { getHeapStatistics } from 'node:v8';
import { functionLimits, httpAnswerLimits } from '../../limits.js';
import type { FunctionEvent, InvocationContext } from '../invocation.js';
import { MessageBatch } from '../message-batch.js';
import { answerSize } from './answer-size.js';
import {
  CallLog,
  inLog,
  type Journal,
  type Logger,
  log,
  type Resident,
  ringJournal,
  sendingJournal,
} from './call-log.js';
import { importMessage, loadProblem, moduleAddress } from './load-problem.js';
import type { AnswerHead, FromWorker, ThrownError, ToWorker, WorkerReply } from './protocol.js';
import { setSourceMap, shortened } from './short-stacks.js';

type Handler = (event: FunctionEvent, context: GivenContext) => unknown;

/** As the number of a call: code that is loaded. */
const NO_CALL = -1;

/** Of an error, told with it. */
const MAX_CAUSES = 3;

/** How old what is said of the heap may be, after calls that took less. */
const HEAP_EVERY_MS = 1;

/** Makes this worker's console that of the calls, and keeps functions from ending Iguana by mistake: in a thread it is the same process. */
export function prepareGlobals(): void {
  Object.assign(console, { ...log, log: log.info, trace: log.debug, dir: log.info });
  const noSignals = (): never => {
    throw new Error('a function sends no signals');
  };
  Object.assign(process, { kill: noSignals, _kill: noSignals });
}

function emptied(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  for (const variable of Object.keys(env)) delete env[variable];
  return env;
}

/**
 * The same text is the same module, with the same variables: instances that share a worker are told apart by what the engine takes for a part of the address.
 * @param name stands in stacks in place of the address, which is all of the text
 */
function imported(code: string, name: string, instance: number | undefined): Promise<Record<string, unknown>> {
  const part = instance === undefined ? '' : `#${instance}`;
  return import(moduleAddress(`${code}\n//# sourceURL=${name}`, part));
}

type Post = (messages: readonly FromWorker[], moved?: readonly ArrayBuffer[]) => void;

/**
 * What runs the calls of one instance.
 * @param post sends to the host; throws what cannot be sent
 * @param resident where functions share the worker
 * @returns takes what the host says
 */
export function functionRunner(post: Post, resident?: Resident): (messages: readonly ToWorker[]) => void {
  /** Signals of calls that were asked for theirs. */
  const signals = new Map<number, AbortController>();
  /** Calls that were cancelled and did not ask for theirs so far. */
  const cancelled = new Set<number>();
  let running = 0;
  /** Of calls that answer piece by piece. */
  const windows = new Map<number, Window>();
  let handler: Handler | undefined;
  /** Keeps what calls log for when they are ended. */
  let journal: Journal | undefined;

  const replies = new MessageBatch<FromWorker>(post, (message, error) => {
    const reply = longReply(message);
    if (reply === undefined) return;
    const { output: _unsendable, ...rest } = reply;
    post([{ ...rest, error: { message: `what it returned cannot be sent: ${described(error).message}`, stack: '' } }]);
  });

  /** At once, and after the replies before it. */
  function send(message: FromWorker, moved?: readonly ArrayBuffer[]): void {
    replies.flush();
    post([message], moved);
  }

  async function load(message: Extract<ToWorker, { type: 'load' }>): Promise<void> {
    const { name, code, handler: wanted, env, map, logs } = message;
    setSourceMap(name, map);
    const started = performance.now();
    const sendLines = (id: number, lines: readonly string[]) => post([{ type: 'lines', id, lines }]);
    journal = logs ? ringJournal(logs, sendLines) : sendingJournal(sendLines);
    Object.assign(resident?.env ?? emptied(process.env), env);
    try {
      const made = new CallLog(resident, NO_CALL, undefined);
      const module = await inLog(made, () => imported(code, name, resident?.number));
      const exported = module[wanted];
      if (typeof exported !== 'function') {
        send({ type: 'load-failed', what: noHandler(wanted, module), unplaced: false });
        return;
      }
      handler = exported as Handler;
      send({ type: 'loaded', ms: performance.now() - started });
    } catch (error) {
      const { what, unplaced } = loadProblem(error, name, code, described(error));
      send({ type: 'load-failed', what, unplaced });
    }
  }

  function invoke({ id, event, context, pieces }: Extract<ToWorker, { type: 'invoke' }>): void {
    const lines = new CallLog(resident, id, journal);
    running++;
    const started = performance.now();
    const failed = (error: unknown) => answer(id, lines, started, undefined, described(error));
    const done = (output: unknown): void => {
      try {
        const streamed = pieces ? streamOf(output) : undefined;
        if (streamed) stream(id, streamed, signalOf(id)).then(() => answer(id, lines, started, undefined), failed);
        else {
          assertSize(output);
          answer(id, lines, started, output);
        }
      } catch (error) {
        // it may throw when it is looked at
        failed(error);
      }
    };
    const given = contextOf(id, context);
    inLog(lines, () => {
      try {
        const output = handler!(event, given);
        // what is no promise needs none
        if (isPromise(output)) Promise.resolve(output).then(done, failed);
        else done(output);
      } catch (error) {
        failed(error);
      }
    });
  }

  /**
   * A getter that is the same for all calls: one for each would be a hidden class for each, which is what the collector then has most work with. A property
   * of the context's own, so that a copy of it has the signal.
   */
  const signalProperty: PropertyDescriptor & ThisType<GivenContext> = {
    configurable: true,
    enumerable: true,
    get() {
      return signalOf(this[CALL]);
    },
  };

  function contextOf(id: number, context: InvocationContext): GivenContext {
    const { function: name, version, invocationId, attempt, deadline } = context;
    const given = { [CALL]: id, function: name, version, invocationId, attempt, deadline, log };
    return Object.defineProperty(given, 'signal', signalProperty) as GivenContext;
  }

  /** Making one takes longer than all else here, and few functions look at theirs. */
  function signalOf(id: number): AbortSignal {
    let controller = signals.get(id);
    if (!controller) {
      controller = new AbortController();
      signals.set(id, controller);
      if (cancelled.has(id)) controller.abort();
    }
    return controller.signal;
  }

  function answer(id: number, lines: CallLog, started: number, output: unknown, error?: WorkerReply['error']): void {
    if (signals.size > 0) signals.delete(id);
    running--;
    // an empty one is not cleared: each time is a new table that the one before leads to, and so it outlives many collections
    if (cancelled.size > 0) {
      if (running === 0) cancelled.clear();
      else cancelled.delete(id);
    }
    const durationMs = performance.now() - started;
    const heapBytes = usedHeap(durationMs);
    lines.done = true;
    const { truncated: logsTruncated } = lines;
    const logs = lines.sent === 0 ? lines.lines : lines.lines.slice(lines.sent);
    if (error) replies.send({ type: 'reply', id, error, durationMs, heapBytes, logs, logsTruncated });
    else if (logs.length > 0 || logsTruncated) {
      replies.send({ type: 'reply', id, output, durationMs, heapBytes, logs, logsTruncated });
    } else replies.send([id, output, durationMs, heapBytes]);
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

  function receive(messages: readonly ToWorker[]): void {
    for (const message of messages) one(typeof message === 'string' ? JSON.parse(message) : message);
  }

  function one(message: Exclude<ToWorker, string>): void {
    if (message.type === 'load') void load(message);
    else if (message.type === 'invoke') void invoke(message);
    else if (message.type === 'more') windows.get(message.id)?.give(message.bytes);
    else {
      signals.get(message.id)?.abort();
      if (running > 0) cancelled.add(message.id);
    }
  }

  return receive;
}

function noHandler(name: string, module: Readonly<Record<string, unknown>>): string {
  const exported = module[name];
  if (Object.hasOwn(module, name)) {
    const kind = exported === null ? 'null' : typeof exported;
    return `its export ${name} is no function, but ${kind === 'object' ? 'an object' : kind}`;
  }
  const names = Object.keys(module).join(', ');
  return `it exports no function ${name}${names ? `, but ${names}` : ''}`;
}

/** The number of a context's call. */
const CALL = Symbol('call');

type GivenContext = InvocationContext & { readonly [CALL]: number; readonly signal: AbortSignal; readonly log: Logger };

function longReply(message: FromWorker): Extract<FromWorker, { type: 'reply' }> | undefined {
  if (!('type' in message)) {
    const [id, output, durationMs, heapBytes] = message;
    return { type: 'reply', id, output, durationMs, heapBytes, logs: [], logsTruncated: false };
  }
  return message.type === 'reply' ? message : undefined;
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return (
    ((typeof value === 'object' && value !== null) || typeof value === 'function') &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}

function assertSize(output: unknown): void {
  const { maxAnswerBytes } = functionLimits;
  const bytes = answerSize(output, maxAnswerBytes);
  if (bytes <= maxAnswerBytes) return;
  throw Object.assign(new Error(`it answered ${bytes} bytes or more, more than ${maxAnswerBytes}`), { stack: '' });
}

let heapBytes = 0;
let heapSeenAt = Number.NEGATIVE_INFINITY;

/** To ask takes as long as a short call: after those it is asked now and then, after longer ones each time. */
function usedHeap(durationMs: number): number {
  const now = performance.now();
  if (durationMs >= HEAP_EVERY_MS || now - heapSeenAt >= HEAP_EVERY_MS) {
    // buffers lie outside of the heap
    const { used_heap_size, external_memory } = getHeapStatistics();
    heapBytes = used_heap_size + external_memory;
    heapSeenAt = now;
  }
  return heapBytes;
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

/** A copy: the function may use its own again. Text is UTF-8, other values a line of JSON. */
function bytesOf(piece: unknown): Uint8Array<ArrayBuffer> {
  if (piece instanceof Uint8Array) return Uint8Array.from(piece);
  return new TextEncoder().encode(typeof piece === 'string' ? piece : `${JSON.stringify(piece)}\n`);
}

/** Of whatever was thrown: it may be no error, have no text, or throw when it is looked at. */
export function described(error: unknown): ThrownError {
  try {
    const { maxLogLine, maxLogCharacters } = functionLimits;
    if (!(error instanceof Error)) return { message: inspect(error, { depth: 2 }).slice(0, maxLogLine), stack: '' };
    const refused = importMessage(error);
    const message = refused ?? shortened(String(error.message));
    // Node's own words have all of the code in them
    const stack = refused ? shortened(String(error.stack).replace(error.message, () => refused)) : stackOf(error);
    return { message: message.slice(0, maxLogLine), stack: stack.slice(0, maxLogCharacters) };
  } catch {
    // it threw when it was looked at
    return { message: 'it threw what cannot be described', stack: '' };
  }
}

/** With those of its causes. */
function stackOf(error: Error): string {
  const stacks: string[] = [];
  for (let one: unknown = error; one instanceof Error && stacks.length <= MAX_CAUSES; one = one.cause)
    stacks.push(shortened(String(one.stack ?? '')));
  return stacks.join('\ncaused by ');
}
