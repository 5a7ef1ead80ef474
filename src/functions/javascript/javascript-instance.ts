/**
 * The host's end of a JavaScript function's thread or process. Over 300 lines because threads and processes differ in how they start and stop alone, and
 * calls, pieces, deadlines and ends lean on one list of what waits.
 */
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { defined } from '../../defined.js';
import { IguanaError } from '../../errors.js';
import { functionLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import { AbortListener } from '../abort-listeners.js';
import { tellLogs, withLogs } from '../failed-logs.js';
import type { AnswerSink, FunctionEvent, FunctionInstance, InstanceReply, InvocationContext } from '../invocation.js';
import { MessageBatch } from '../message-batch.js';
import type { LoadProblem } from './load-problem.js';
import { linesIn, sharedLogMemory } from './log-ring.js';
import type { FromWorker, ThrownError, ToWorker, WorkerReply } from './protocol.js';
import { setSourceMap, shortened } from './short-stacks.js';
import { Slots } from './slots.js';
import { syntaxPlace } from './typescript.js';

/** A worker thread or a child process that runs `javascript-worker`, or a place in a thread that others share. */
export interface Host {
  /** @param id of a call; `LOAD` when it brings code; undefined for what belongs to a call */
  send(message: ToWorker, id?: number): void;
  stop(): Promise<void>;
  /** Longest time for code to load, ms. */
  readonly maxInitMs: number;
  /** A thread of this process. */
  readonly sharesMemory: boolean;
  /** A call is not done at its deadline. Resolves when it has ended. Default: the instance is ended. */
  late?(id: number): Promise<void>;
}

/** As the number of a call: the code. */
export const LOAD = -1;

/** What was asked has not begun, and will not here. */
export class TakenBack extends Error {}

export interface JavaScriptCode {
  readonly name: string;
  /** The text of an ES module. */
  readonly code: string;
  readonly handler: string;
  /** Of what was TypeScript: from places in `code` to those there, JSON. */
  readonly map?: string | undefined;
  readonly env: Readonly<Record<string, string>>;
}

const PROGRAM = workerUrl(import.meta.url, './javascript-worker.js');
/** What a child process may read: this program's own code. */
const OWN_FILES = fileURLToPath(new URL('../../*', PROGRAM));
const MB = 2 ** 20;
/** How long messages of a process that has ended are waited for, ms. */
const LAST_WORDS_MS = 100;
export const CLOSED = 'the system was closed';
const NO_LOGS: readonly string[] = [];

interface Waiting {
  readonly resolve: (reply: InstanceReply) => void;
  readonly reject: (error: Error) => void;
  readonly answer: AnswerSink | undefined;
  readonly context: InvocationContext;
  /** What it has logged, as far as it was sent. */
  lines: string[] | undefined;
  /** Of its lines, so many were told when it was cancelled. */
  told: number;
  /** When the call is stopped, by `performance.now`; and how long after its beginning that is. */
  readonly stopAt: number;
  readonly ms: number;
  /** Hears of the caller's signal. */
  listener: AbortListener | undefined;
  cancelled: boolean;
  /** Why its answer could not be given; what is left of the call holds its place until it has ended. */
  refused: IguanaError | undefined;
  /** Pieces that are being given to `answer`. */
  writing: Promise<void> | undefined;
}

/**
 * A JavaScript function's copy in a thread or process of its own. A thread begins without code (`start`) and takes one function's (`load`).
 *
 * A call that is not done at its deadline, or that needs more memory than there is, ends the whole instance: nothing else stops JavaScript that does not
 * give way. Calls beside it end with it, as `IGU_FUNCTION_INTERRUPTED`.
 */
export class JavaScriptInstance implements FunctionInstance {
  private readonly host: Host;
  private readonly waiting = new Slots<Waiting>();
  private heap = 0;
  private name = 'a function';
  private map: string | undefined;
  /** Of the module that is loaded. */
  private text = '';
  private ended: IguanaError | undefined;
  private onLoad: { resolve: (ms: number) => void; reject: (error: Error) => void } | undefined;
  private onStart: (() => void) | undefined;
  private loading = false;
  private closing = false;
  /** Its process has ended. */
  private gone = false;
  private timer: NodeJS.Timeout | undefined;
  private timerAt = Number.POSITIVE_INFINITY;
  /** Where the other end keeps what calls log. */
  private readonly logs: SharedArrayBuffer | undefined;

  private constructor(
    private readonly memoryMb: number,
    place: 'thread' | 'process' | Host,
  ) {
    this.host = place === 'thread' ? this.thread() : place === 'process' ? this.process() : place;
    this.logs = this.host.sharesMemory ? sharedLogMemory() : undefined;
  }

  /** An instance in a thread that others share: it can load code at once, and is busy until it has. */
  static within(host: Host, memoryMb: number): JavaScriptInstance {
    const instance = new JavaScriptInstance(memoryMb, host);
    instance.loading = true;
    return instance;
  }

  /** Cost: about 15 ms for a thread, 60 ms for a process; resolves when it can load code. */
  static start(memoryMb: number, isolation: 'thread' | 'process' = 'thread'): Promise<JavaScriptInstance> {
    return new Promise((resolve, reject) => {
      const instance = new JavaScriptInstance(memoryMb, isolation);
      instance.onStart = () => resolve(instance);
      instance.onLoad = { resolve: () => undefined, reject };
    });
  }

  get usable(): boolean {
    return this.ended === undefined && !this.closing && !this.gone;
  }

  /** Calls that were not answered, and code that loads. */
  get busy(): boolean {
    return this.loading || this.waiting.size > 0;
  }

  memoryBytes(): number {
    return this.heap + functionLimits.workerOverheadMb * MB;
  }

  /** @returns ms the code took to load. @throws IguanaError `IGU_FUNCTION_CODE` */
  load(code: JavaScriptCode): Promise<number> {
    this.name = code.name;
    this.text = code.code;
    this.map = code.map;
    const { maxInitMs } = this.host;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        if (this.host.late) void this.host.late(LOAD);
        else {
          void this.host.stop();
          reject(this.notReady());
        }
      }, maxInitMs);
      this.loading = true;
      const loaded = (): void => {
        this.loading = false;
        this.text = '';
        clearTimeout(timer);
      };
      this.onLoad = {
        resolve: (ms) => {
          loaded();
          resolve(ms);
        },
        reject: (error) => {
          loaded();
          reject(error);
        },
      };
      if (this.ended) this.onLoad.reject(this.ended);
      else {
        const { name, code: text, handler, env, map } = code;
        const { logs } = this;
        this.host.send({ type: 'load', name, code: text, handler, env, ...defined({ map, logs }) }, LOAD);
      }
    });
  }

  invoke(
    event: FunctionEvent,
    context: InvocationContext,
    signal?: AbortSignal,
    answer?: AnswerSink,
  ): Promise<InstanceReply> {
    return new Promise((resolve, reject) => {
      if (this.ended) {
        reject(this.ended);
        return;
      }
      if (signal?.aborted) {
        reject(this.cancelledError());
        return;
      }
      const ms = Math.max(0, context.deadline - Date.now());
      const stopAt = performance.now() + ms;
      const pieces = answer !== undefined;
      const waiting: Waiting = {
        resolve,
        reject,
        answer,
        context,
        lines: undefined,
        told: 0,
        stopAt,
        ms,
        listener: undefined,
        cancelled: false,
        refused: undefined,
        writing: undefined,
      };
      const id = this.waiting.add(waiting);
      // its time goes on: a handler that does not heed the signal is stopped at the deadline like any other
      if (signal) {
        waiting.listener = new AbortListener(signal, () => {
          waiting.cancelled = true;
          const lines = this.linesOf(id, waiting);
          waiting.told = lines.length;
          tellLogs(context, lines);
          this.host.send({ type: 'cancel', id });
        });
      }
      this.stopAt(stopAt);
      const invoke = { type: 'invoke', id, event, context, pieces } as const;
      this.host.send(isJson(event) ? JSON.stringify(invoke) : invoke, id);
    });
  }

  async close(): Promise<void> {
    this.closing = true;
    clearTimeout(this.timer);
    await this.host.stop();
  }

  private take(id: number): Waiting | undefined {
    const waiting = this.waiting.take(id);
    waiting?.listener?.end();
    return waiting;
  }

  /** One timer for all calls, at the deadline that comes first: it is seldom set anew, since that of a call which is done is left where it is. */
  private stopAt(at: number): void {
    if (at >= this.timerAt) return;
    clearTimeout(this.timer);
    this.timerAt = at;
    // the thread or process is what keeps the program going
    this.timer = setTimeout(() => this.stopLate(), Math.ceil(Math.max(0, at - performance.now()))).unref();
  }

  private stopLate(): void {
    this.timerAt = Number.POSITIVE_INFINITY;
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const id of this.waiting.all()) {
      const { stopAt, ms } = this.waiting.get(id)!;
      if (stopAt <= now) {
        if (this.host.late) {
          void this.host.late(id).then(() => {
            if (!this.ended) this.stopLate();
          });
        } else this.end(this.timeoutError(ms), id);
        return;
      }
      next = Math.min(next, stopAt);
    }
    if (next < Number.POSITIVE_INFINITY) this.stopAt(next);
  }

  unsendable(message: ToWorker, error: unknown): void {
    const what = `its event cannot be sent: ${error instanceof Error ? error.message : String(error)}`;
    const failed = new IguanaError('IGU_FUNCTION_FAILED', { name: this.name, what }, { cause: error });
    if (typeof message === 'object' && 'id' in message) this.take(message.id)?.reject(failed);
  }

  /** What the other end says. */
  receiveAll(messages: readonly FromWorker[]): void {
    try {
      for (const message of messages) this.receive(message);
    } catch (error) {
      // The function has the other end too, and may have sent anything.
      this.end(this.crashError(`it sent what is no message (${error instanceof Error ? error.message : error})`));
    }
  }

  private receive(message: FromWorker): void {
    if (!('type' in message)) this.shortReply(...message);
    else if (message.type === 'reply') this.reply(message.id, message);
    else if (message.type === 'lines') this.keep(message.id, message.lines);
    else if (message.type === 'crashed') this.end(this.thrownError(message.error));
    else if (message.type === 'started') this.onStart?.();
    else if (message.type === 'loaded') this.onLoad?.resolve(message.ms);
    else if (message.type === 'load-failed') void this.notLoaded(message);
    else if (message.type === 'begin') this.answer(message.id, (answer) => answer.begin(message.head));
    else if (message.type === 'piece') {
      const { id, bytes } = message;
      this.answer(id, async (answer) => {
        await answer.write(bytes);
        if (this.waiting.get(id)) this.host.send({ type: 'more', id, bytes: bytes.byteLength });
      });
    }
  }

  private async notLoaded({ what, unplaced }: LoadProblem): Promise<void> {
    const place = unplaced ? await syntaxPlace(this.name, this.text) : undefined;
    this.onLoad?.reject(this.codeError(place ? `${what} (${place})` : what));
  }

  private keep(id: number, lines: readonly string[]): void {
    const waiting = this.waiting.get(id);
    if (!waiting) return;
    if (!waiting.lines) waiting.lines = [...lines];
    else if (waiting.lines.length < functionLimits.maxLogLines) waiting.lines.push(...lines);
  }

  /** What a call that is not answered has logged so far. */
  private linesOf(id: number, { lines = [] }: Waiting): readonly string[] {
    return this.logs ? [...lines, ...linesIn(this.logs, id, lines.length)] : lines;
  }

  /** Piece after piece, in order. One that cannot be given ends the call: the function is told, and what it sends until it has ended is dropped. */
  private answer(id: number, give: (answer: AnswerSink) => void | Promise<void>): void {
    const waiting = this.waiting.get(id);
    if (!waiting?.answer || waiting.refused) return;
    const { answer } = waiting;
    waiting.writing = (waiting.writing ?? Promise.resolve()).then(() => give(answer));
    waiting.writing.catch((error: IguanaError) => {
      if (!this.waiting.get(id) || waiting.refused) return;
      waiting.refused = error;
      this.host.send({ type: 'cancel', id });
    });
  }

  private shortReply(id: number, output: unknown, durationMs: number, heapBytes: number): void {
    this.reply(id, { output, durationMs, heapBytes, logs: NO_LOGS, logsTruncated: false });
  }

  private reply(id: number, reply: WorkerReply): void {
    this.heap = reply.heapBytes;
    const waiting = this.take(id);
    if (!waiting) return;
    const logs = waiting.lines ? [...waiting.lines, ...reply.logs] : reply.logs;
    if (waiting.cancelled) {
      tellLogs(waiting.context, logs.slice(waiting.told));
      waiting.reject(this.cancelledError());
      return;
    }
    if (waiting.refused) {
      waiting.reject(withLogs(waiting.refused, logs));
      return;
    }
    if (reply.error) {
      const { message: what, stack } = reply.error;
      const cause = Object.assign(new Error(what), { stack, logs, durationMs: reply.durationMs });
      const failed = new IguanaError('IGU_FUNCTION_FAILED', { name: this.name, what }, { cause });
      // The pieces before it come first; and when one of those could not be given, that is what went wrong.
      if (waiting.writing) waiting.writing.then(() => waiting.reject(failed), waiting.reject);
      else waiting.reject(failed);
      return;
    }
    const { output, durationMs, heapBytes, logsTruncated } = reply;
    const done = { output, durationMs, memoryUsedMb: heapBytes / MB, logs, logsTruncated };
    if (waiting.writing) waiting.writing.then(() => waiting.resolve(done), waiting.reject);
    else waiting.resolve(done);
  }

  /** A call that has not begun, or the code, is to go elsewhere. */
  takenBack(id: number): void {
    if (id === LOAD) this.onLoad?.reject(new TakenBack());
    else this.take(id)?.reject(new TakenBack());
  }

  /** Whether a call, or the code, is under way here. */
  has(id: number): boolean {
    return id === LOAD ? this.loading : this.waiting.get(id) !== undefined;
  }

  /** Ends it for a call that is not done at its deadline. */
  endLate(id: number): void {
    const waiting = this.waiting.get(id);
    if (waiting) this.end(this.timeoutError(waiting.ms), id);
    else if (id === LOAD && this.loading) this.end(this.notReady());
  }

  /**
   * Ends it with the thread that it shared.
   * @param fault what it did; undefined when another did it. `held`: it ran too long
   */
  endShared(fault?: 'held' | 'memory' | { readonly crash: ThrownError }): void {
    const interrupted = this.interruptedError('the worker that it shared ended');
    if (fault === undefined) this.endEach(interrupted, () => interrupted);
    else if (fault === 'memory') this.end(this.memoryError());
    else if (fault !== 'held') this.end(this.thrownError(fault.crash));
    else {
      const now = performance.now();
      this.onLoad?.reject(this.notReady());
      this.endEach(interrupted, ({ stopAt, ms }) => (stopAt <= now ? this.timeoutError(ms) : interrupted));
    }
  }

  /** Stops it. The call that caused it gets the error; the others are told that they may be made again. */
  private end(error: IguanaError, culprit?: number): void {
    this.endEach(error, (_, id) => {
      const own = culprit === undefined || id === culprit;
      return own ? error : this.interruptedError(`another call in it ended it (${error.code})`);
    });
  }

  private endEach(error: IguanaError, of: (waiting: Waiting, id: number) => IguanaError): void {
    if (this.ended) return;
    this.ended = error;
    clearTimeout(this.timer);
    this.onLoad?.reject(error);
    for (const id of this.waiting.all()) {
      const waiting = this.take(id);
      if (!waiting) continue;
      const lines = this.linesOf(id, waiting);
      if (waiting.cancelled) tellLogs(waiting.context, lines.slice(waiting.told));
      waiting.reject(withLogs(waiting.refused ?? of(waiting, id), lines));
    }
    void this.host.stop();
  }

  private cancelledError(): IguanaError {
    return new IguanaError('IGU_FUNCTION_CANCELLED', { name: this.name });
  }

  private codeError(what: string): IguanaError {
    return new IguanaError('IGU_FUNCTION_CODE', { name: this.name, what });
  }

  private notReady(): IguanaError {
    return this.codeError(`it was not ready after ${this.host.maxInitMs} ms`);
  }

  private timeoutError(ms: number): IguanaError {
    return new IguanaError('IGU_FUNCTION_TIMEOUT', { name: this.name, ms: Math.round(ms) });
  }

  private crashError(what: string, cause?: unknown): IguanaError {
    return new IguanaError('IGU_FUNCTION_CRASHED', { name: this.name, what }, { cause });
  }

  /** The same as Node tells it: what the worker knows of its source went with it. */
  private threwError(error: unknown): IguanaError {
    setSourceMap(this.name, this.map);
    return this.thrownError(thrown(error));
  }

  /** Nothing caught what it threw. */
  private thrownError({ message, stack }: ThrownError): IguanaError {
    return this.crashError(message, Object.assign(new Error(message), { stack, logs: NO_LOGS }));
  }

  private interruptedError(what: string): IguanaError {
    return new IguanaError('IGU_FUNCTION_INTERRUPTED', { name: this.name, what });
  }

  private memoryError(cause?: unknown): IguanaError {
    return new IguanaError('IGU_FUNCTION_MEMORY', { name: this.name, mb: this.memoryMb }, { cause });
  }

  private thread(): Host {
    const worker = new Worker(PROGRAM, {
      env: {},
      stdout: true,
      stderr: true,
      resourceLimits: {
        maxOldGenerationSizeMb: this.memoryMb,
        maxYoungGenerationSizeMb: functionLimits.workerOverheadMb,
      },
    });
    // Its console is captured by call; what is written past it is dropped, not kept.
    worker.stdout.resume();
    worker.stderr.resume();
    worker.on('message', (messages: readonly FromWorker[]) => this.receiveAll(messages));
    worker.on('error', (error: NodeJS.ErrnoException) => {
      this.end(error.code === 'ERR_WORKER_OUT_OF_MEMORY' ? this.memoryError(error) : this.threwError(error));
    });
    worker.on('exit', (code) => this.end(this.crashError(this.closing ? CLOSED : `its thread ended with ${code}`)));
    const batch = new MessageBatch<ToWorker>(
      (messages) => worker.postMessage(messages),
      (message, error) => this.unsendable(message, error),
    );
    return {
      maxInitMs: functionLimits.maxInitMs,
      sharesMemory: true,
      send: (message) => batch.send(message),
      stop: async () => {
        await worker.terminate();
      },
    };
  }

  private process(): Host {
    const child = fork(PROGRAM, {
      env: {},
      execArgv: [
        `--max-old-space-size=${this.memoryMb}`,
        '--experimental-permission',
        `--allow-fs-read=${OWN_FILES}`,
        '--no-warnings',
      ],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.on('message', (messages) => this.receiveAll(messages as readonly FromWorker[]));
    child.on('error', (error) => this.end(this.crashError(error.message)));
    // Buffers lie outside of the heap that the option above bounds.
    const most = (this.memoryMb + functionLimits.processOverheadMb) * MB;
    const watch = setInterval(() => {
      if (residentBytes(child.pid) > most) this.end(this.memoryError());
    }, functionLimits.processMemoryMs).unref();
    child.on('exit', (code, signal) => {
      clearInterval(watch);
      this.gone = true;
      const what = this.closing ? CLOSED : `its process ended with ${signal ?? code}`;
      const end = (): void => this.end(signal === 'SIGABRT' ? this.memoryError() : this.crashError(what));
      if (!child.connected) end();
      else {
        // what it said last comes after its end
        child.once('disconnect', end);
        setTimeout(end, LAST_WORDS_MS).unref();
      }
    });
    const batch = new MessageBatch<ToWorker>(
      (messages) => child.send([...messages]),
      (message, error) => this.unsendable(message, error),
    );
    return {
      maxInitMs: functionLimits.maxInitMs,
      sharesMemory: false,
      send: (message) => batch.send(message),
      stop: async () => {
        child.kill('SIGKILL');
        await gone;
      },
    };
  }
}

/** What Node tells of an error in a worker; what was thrown may be no error. */
export function thrown(error: unknown): ThrownError {
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: '' };
  return { message: shortened(message), stack: shortened(stack ?? '') };
}

/** Of a request all but bytes is text, or was JSON when it came. */
function isJson(event: FunctionEvent): boolean {
  if (event.trigger === 'http') return !ArrayBuffer.isView(event.body);
  return event.trigger === 'timer' || (event.trigger === 'call' && typeof event.input === 'string');
}

/** Memory of a process, bytes; 0 where the system does not tell, or it is gone. */
function residentBytes(pid: number | undefined): number {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, 'latin1').split(' ')[1]) * 4096;
  } catch {
    return 0;
  }
}
