import { IguanaError } from '../../errors.js';
import { functionLimits } from '../../limits.js';
import { tellLogs, withLogs } from '../failed-logs.js';
import type { FunctionEvent, FunctionInstance, InstanceReply, InvocationContext } from '../invocation.js';
import { answerValue, eventText } from './json.js';
import type { GuestCode, GuestFailure } from './protocol.js';
import type { Job, WasmThread } from './wasm-thread.js';
import type { WasmThreads } from './wasm-threads.js';

const MB = 2 ** 20;
const STOPPED = 'the system was closed';
let instances = 0;

/** A module that is ready, known by a number to the threads that have it. */
export interface ReadyCode {
  readonly name: string;
  readonly number: number;
  readonly guest: GuestCode;
}

interface Call {
  readonly event: string;
  readonly deadline: number;
  readonly timeoutMs: number;
  readonly context: InvocationContext;
  readonly signal: AbortSignal | undefined;
  readonly resolve: (reply: InstanceReply) => void;
  readonly reject: (error: IguanaError) => void;
}

/**
 * A WebAssembly function's copy in a thread that it shares with others. When a long call of another function holds the thread up, or ends it, the copy moves
 * to another thread and begins there as it began here: what a guest keeps between calls is a cache.
 */
export class WasmInstance implements FunctionInstance {
  private readonly number = ++instances;
  private thread: WasmThread | undefined;
  private memory = 0;
  private ended: IguanaError | undefined;

  private constructor(
    private readonly threads: WasmThreads,
    private readonly code: ReadyCode,
  ) {}

  /** Resolves when it can be called. Cost: about 0.2 ms from a snapshot. @throws IguanaError `IGU_FUNCTION_CODE` */
  static async start(threads: WasmThreads, code: ReadyCode): Promise<WasmInstance> {
    const instance = new WasmInstance(threads, code);
    await instance.make();
    return instance;
  }

  get usable(): boolean {
    return this.ended === undefined;
  }

  memoryBytes(): number {
    return this.memory;
  }

  invoke(event: FunctionEvent, context: InvocationContext, signal?: AbortSignal): Promise<InstanceReply> {
    return new Promise((resolve, reject) => {
      if (this.ended ?? signal?.aborted) {
        reject(this.ended ?? this.cancelled());
        return;
      }
      const { deadline } = context;
      const timeoutMs = Math.max(0, deadline - Date.now());
      // a guest cannot be told: a call given up holds its place until the guest has ended, or its deadline; the caller has long been told
      this.send({ event: eventText(event, context), deadline, timeoutMs, context, signal, resolve, reject });
    });
  }

  close(): Promise<void> {
    this.ended ??= this.crashError(STOPPED);
    this.leave();
    return Promise.resolve();
  }

  private make(): Promise<void> {
    return new Promise((resolve, reject) => {
      const thread = this.threads.place();
      this.settleIn(thread, {
        answered: (answer) => {
          if ('failure' in answer) {
            const error = this.failureError(answer.failure);
            this.ended = error;
            this.leave();
            reject(error);
          } else resolve();
        },
        late: () => reject(this.codeError(`it was not ready after ${functionLimits.maxInitMs} ms`)),
        crashed: (why) => reject(this.crashError(why)),
        takenBack: () => {
          this.leave(thread);
          if (this.threads.closed) reject(this.crashError(STOPPED));
          else this.make().then(resolve, reject);
        },
      });
    });
  }

  private settleIn(thread: WasmThread, then: Omit<Job, 'message' | 'owner' | 'deadline'>): void {
    const { number: code, guest } = this.code;
    this.thread = thread;
    thread.attach(this, code, guest);
    this.memory = initialBytes(guest);
    const message = { op: 'make', instance: this.number, code } as const;
    thread.request({ message, owner: this, deadline: Date.now() + functionLimits.maxInitMs, ...then });
    this.threads.watch();
  }

  /** @param from do nothing when it is elsewhere already */
  private leave(from = this.thread): void {
    if (from === undefined || from !== this.thread) return;
    this.thread = undefined;
    from.detach(this, this.number, this.code.number);
    this.threads.trim(from);
  }

  private send(call: Call): void {
    let { thread } = this;
    if (!thread || thread.ended) {
      thread = this.threads.place();
      this.settleIn(thread, {
        answered: (answer) => {
          // the call behind it is told the same
          if ('failure' in answer) this.ended = this.failureError(answer.failure);
        },
        late: () => undefined,
        crashed: () => undefined,
        takenBack: () => undefined,
      });
    }
    const there = thread;
    const { deadline, context, signal } = call;
    /** Who gave it up was told before. */
    const given = (logs: readonly string[]): void => {
      if (signal?.aborted) tellLogs(context, logs);
    };
    there.request({
      message: { op: 'call', instance: this.number, event: call.event },
      owner: this,
      deadline,
      answered: (answer) => {
        if ('failure' in answer) {
          given(answer.failure.log.lines);
          call.reject(this.failureError(answer.failure));
        } else if ('reply' in answer) {
          const { answer: text, durationMs, memoryBytes, gasUsed, log } = answer.reply;
          this.memory = memoryBytes;
          given(log.lines);
          call.resolve({
            output: answerValue(text),
            durationMs,
            memoryUsedMb: memoryBytes / MB,
            gasUsed,
            logs: log.lines,
            logsTruncated: log.truncated,
          });
        }
      },
      late: (logs) => {
        const { name } = this.code;
        const error = new IguanaError('IGU_FUNCTION_TIMEOUT', { name, ms: Math.round(call.timeoutMs) });
        if (there.ended) {
          this.ended = error;
          this.leave(there);
        }
        given(logs);
        call.reject(withLogs(error, logs));
      },
      crashed: (why, logs) => {
        this.leave(there);
        given(logs);
        call.reject(withLogs(this.crashError(why), logs));
      },
      takenBack: () => {
        this.leave(there);
        if (this.threads.closed) this.ended ??= this.crashError(STOPPED);
        if (this.ended) call.reject(this.ended);
        else this.send(call);
      },
    });
    this.threads.watch();
  }

  private failureError({ why, what, frames, durationMs, gasUsed, log }: GuestFailure): IguanaError {
    if (why === 'code') return this.codeError(what);
    const cause = Object.assign(new Error(what), {
      stack: frames.join('\n'),
      frames,
      durationMs,
      gasUsed,
      logs: log.lines,
    });
    const { name, guest } = this.code;
    if (why === 'memory')
      return new IguanaError('IGU_FUNCTION_MEMORY', { name, mb: guest.options.memoryMb }, { cause });
    return new IguanaError('IGU_FUNCTION_FAILED', { name, what }, { cause });
  }

  private codeError(what: string): IguanaError {
    return new IguanaError('IGU_FUNCTION_CODE', { name: this.code.name, what });
  }

  private crashError(what: string): IguanaError {
    return new IguanaError('IGU_FUNCTION_CRASHED', { name: this.code.name, what });
  }

  private cancelled(): IguanaError {
    return new IguanaError('IGU_FUNCTION_CANCELLED', { name: this.code.name });
  }
}

function initialBytes({ module, snapshot }: GuestCode): number {
  const pages = snapshot
    ? snapshot.memories.reduce((sum, { size }) => sum + size, 0)
    : module.info.memories.reduce((sum, { min }) => sum + min, 0);
  return pages * 65_536;
}
