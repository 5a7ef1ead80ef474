import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { asyncCallLimits } from '../limits.js';
import type { FunctionService } from './function-service.js';
import { assertTimeLimit, assertWholeNumber } from './given-numbers.js';
import type { FunctionEvent, InvocationResult } from './invocation.js';
import { type Attempted, callWithRetries } from './retries.js';
import type { DeliverOutcome } from './triggers/call-outcome.js';
import { sizeOf } from './value-size.js';

export interface AsyncCallOptions {
  /** Default a new one. A call with an id that is known is not made again. */
  readonly invocationId?: string;
  readonly qualifier?: string | number;
  /** Of each try, ms; default the function's. */
  readonly timeoutMs?: number;
  /** Tries, the first included (default 3). A function that is busy is tried until `maxAgeMs`. */
  readonly attempts?: number;
  /** First wait before another try, ms (default 1,000); doubles up to `maxBackoffMs` (default 60,000), with full jitter. */
  readonly backoffMs?: number;
  readonly maxBackoffMs?: number;
  /** No try begins later than this after the call was made, ms (default 6 hours). */
  readonly maxAgeMs?: number;
  /** Called once, when the call has ended. */
  readonly callback?: (call: AsyncCall) => void;
}

/** A call that nobody waits for, as it stands. */
export interface AsyncCall {
  readonly id: string;
  readonly function: string;
  /** `waiting`: between two tries. */
  readonly state: 'queued' | 'running' | 'waiting' | 'succeeded' | 'failed' | 'cancelled';
  /** Tries so far, the running one included. */
  readonly attempts: number;
  /** ms since 1970. */
  readonly createdAt: number;
  readonly endedAt?: number;
  readonly result?: InvocationResult;
  readonly error?: { readonly code: string; readonly message: string };
}

export interface AsyncCallsOptions {
  readonly service: Pick<FunctionService, 'invoke' | 'describe'>;
  readonly clock: Clock;
  /** Takes how each call ended to where the function's definition says. */
  readonly deliver?: DeliverOutcome;
  readonly onError?: (error: unknown) => void;
  readonly random?: () => number;
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

interface Pending {
  /** Of its input. */
  readonly bytes: number;
  readonly call: Writable<AsyncCall>;
  readonly event: FunctionEvent;
  readonly options: AsyncCallOptions;
  readonly controller: AbortController;
  readonly ended: Promise<AsyncCall>;
  readonly end: (call: AsyncCall) => void;
}

/** The calls of one function. */
interface Lane {
  /** Those that wait for a place, each as what gives it one. */
  readonly queue: (() => void)[];
  /** Places taken. */
  running: number;
  /** Not ended, those between two tries included. */
  pending: number;
}

/**
 * Calls that return an id at once. They live in this process's memory: what has to survive it belongs on a topic with a queue trigger. Results can be
 * looked up for an hour, at most 10,000 of them.
 */
export class AsyncCalls {
  private readonly calls = new Map<string, Pending>();
  private readonly lanes = new Map<string, Lane>();
  /** Ended calls, oldest first. */
  private readonly kept = new Map<string, { readonly call: AsyncCall; readonly bytes: number }>();
  private keptBytes = 0;
  private pendingBytes = 0;
  private closed = false;
  /** What is done for calls, up to the delivery of how they ended. */
  private readonly work = new Set<Promise<void>>();

  constructor(private readonly options: AsyncCallsOptions) {}

  /** Calls that have not ended. */
  get pending(): number {
    return this.calls.size;
  }

  /**
   * Makes a call and does not wait for it.
   * @throws IguanaError `IGU_FUNCTION_NOT_FOUND`, `IGU_FUNCTION_BUSY` when too many have not ended, `IGU_USAGE` when the id is another function's call, for a
   * time limit that is no number above 0, or tries that are no whole number from 1
   */
  invokeAsync(name: string, event: FunctionEvent, options: AsyncCallOptions = {}): AsyncCall {
    this.options.service.describe(name);
    const { attempts, timeoutMs } = options;
    if (timeoutMs !== undefined) assertTimeLimit(timeoutMs);
    if (attempts !== undefined) assertWholeNumber('tries of a call', attempts, 1);
    const id = options.invocationId ?? randomUUID();
    const known = this.status(id);
    if (known?.function === name) return known;
    if (known) throw new IguanaError('IGU_USAGE', { what: `${id} is the id of a call of another function` });
    const lane = this.lane(name);
    const { maxPending, maxPendingBytes, maxPendingPerFunction, maxRunningPerFunction } = asyncCallLimits;
    const bytes = sizeOf(event);
    const full = this.calls.size >= maxPending || this.pendingBytes + bytes > maxPendingBytes;
    if (this.closed || full || lane.pending >= maxPendingPerFunction) {
      const fix = 'call again later; what may wait longer belongs on a topic with a queue trigger';
      throw new IguanaError('IGU_FUNCTION_BUSY', { name, limit: maxRunningPerFunction, waiting: lane.pending, fix });
    }
    const call: AsyncCall = { id, function: name, state: 'queued', attempts: 0, createdAt: this.options.clock.now() };
    let end = (_call: AsyncCall): void => undefined;
    const ended = new Promise<AsyncCall>((resolve) => {
      end = resolve;
    });
    const pending: Pending = {
      bytes,
      call: { ...call },
      event,
      options,
      controller: new AbortController(),
      ended,
      end,
    };
    this.calls.set(id, pending);
    this.pendingBytes += bytes;
    lane.pending++;
    const work = this.run(pending, lane).finally(() => this.work.delete(work));
    this.work.add(work);
    return { ...pending.call };
  }

  /** Undefined for an id that is not known, or not any more. */
  status(id: string): AsyncCall | undefined {
    this.forget();
    const pending = this.calls.get(id);
    return pending ? { ...pending.call } : this.kept.get(id)?.call;
  }

  /** How a call ended, as soon as it has. Undefined for an id that is not known. */
  async result(id: string): Promise<AsyncCall | undefined> {
    this.forget();
    return this.calls.get(id)?.ended ?? this.kept.get(id)?.call;
  }

  /** Ends a call: one that runs is stopped. False when it has ended, or is not known. */
  cancel(id: string): boolean {
    const pending = this.calls.get(id);
    if (!pending || pending.controller.signal.aborted) return false;
    pending.controller.abort();
    return true;
  }

  /** Lets no more calls in and ends those that have not ended. Resolves when it is delivered how those before have ended. */
  async close(): Promise<void> {
    this.closed = true;
    for (const id of [...this.calls.keys()]) this.cancel(id);
    await Promise.all(this.work);
  }

  private lane(name: string): Lane {
    let lane = this.lanes.get(name);
    if (!lane) {
      lane = { queue: [], running: 0, pending: 0 };
      this.lanes.set(name, lane);
    }
    return lane;
  }

  private async run(pending: Pending, lane: Lane): Promise<void> {
    const { service, clock, random } = this.options;
    const { call, event, controller } = pending;
    const { signal } = controller;
    const { qualifier, timeoutMs, backoffMs, maxBackoffMs } = pending.options;
    const { attempts = asyncCallLimits.attempts, maxAgeMs = asyncCallLimits.maxAgeMs } = pending.options;
    const name = call.function;
    const deadline = call.createdAt + maxAgeMs;
    const chosen = {
      ...(qualifier === undefined ? {} : { qualifier }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    };
    const outcome = await callWithRetries(
      async (attempt) => {
        await takePlace(lane, signal);
        try {
          if (signal.aborted) throw new IguanaError('IGU_FUNCTION_CANCELLED', { name });
          if (clock.now() > deadline) throw new IguanaError('IGU_FUNCTION_EXPIRED', { name, ms: maxAgeMs });
          call.state = 'running';
          call.attempts = attempt;
          return await service.invoke(name, event, { ...chosen, invocationId: call.id, attempt, signal });
        } finally {
          leavePlace(lane);
        }
      },
      {
        name,
        clock,
        attempts,
        deadline,
        signal,
        ...(backoffMs === undefined ? {} : { backoffMs }),
        ...(maxBackoffMs === undefined ? {} : { maxBackoffMs }),
        ...(random ? { random } : {}),
        onWait: () => {
          call.state = 'waiting';
        },
      },
    );
    await this.finish(pending, lane, outcome);
  }

  private async finish(pending: Pending, lane: Lane, outcome: Attempted): Promise<void> {
    const { clock, deliver, onError } = this.options;
    const { call, event, controller, options, end } = pending;
    const endedAt = clock.now();
    const cancelled = !outcome.result && controller.signal.aborted;
    const error = cancelled ? this.cancelled(pending) : outcome.error;
    const state = outcome.result ? 'succeeded' : cancelled ? 'cancelled' : 'failed';
    const how = outcome.result
      ? { result: outcome.result }
      : { error: { code: codeOf(error), message: messageOf(error) } };
    const ended: AsyncCall = { ...call, state, attempts: Math.min(call.attempts, outcome.attempts), endedAt, ...how };
    this.calls.delete(call.id);
    this.pendingBytes -= pending.bytes;
    lane.pending--;
    if (lane.pending === 0) this.lanes.delete(call.function);
    const bytes = sizeOf(how);
    this.kept.set(call.id, { call: ended, bytes });
    this.keptBytes += bytes;
    this.forget();
    try {
      options.callback?.(ended);
    } catch (failure) {
      onError?.(failure);
    }
    try {
      const { function: name, id: invocationId, createdAt: startedAt } = call;
      if (!cancelled) await deliver?.({ function: name, invocationId, event, startedAt, endedAt, ...outcome });
    } catch (failure) {
      onError?.(failure);
    }
    end(ended);
  }

  private cancelled({ call }: Pending): IguanaError {
    return new IguanaError('IGU_FUNCTION_CANCELLED', { name: call.function });
  }

  private forget(): void {
    const oldest = this.options.clock.now() - asyncCallLimits.keptMs;
    for (const [id, { call, bytes }] of this.kept) {
      const fits = this.kept.size <= asyncCallLimits.maxKept && this.keptBytes <= asyncCallLimits.maxKeptBytes;
      if (fits && (call.endedAt ?? 0) >= oldest) break;
      this.kept.delete(id);
      this.keptBytes -= bytes;
    }
  }
}

function codeOf(error: unknown): string {
  return error instanceof IguanaError ? error.code : 'IGU_FUNCTION_FAILED';
}

/** Resolves with a place, or without one (but counted as one) when the signal is aborted. */
function takePlace(lane: Lane, signal: AbortSignal): Promise<void> {
  if (lane.running < asyncCallLimits.maxRunningPerFunction || signal.aborted) {
    lane.running++;
    return Promise.resolve();
  }
  return new Promise((resolve) => {
    const given = (): void => {
      signal.removeEventListener('abort', aborted);
      resolve();
    };
    const aborted = (): void => {
      lane.queue.splice(lane.queue.indexOf(given), 1);
      lane.running++;
      resolve();
    };
    lane.queue.push(given);
    signal.addEventListener('abort', aborted, { once: true });
  });
}

/** Gives the place to the next that waits. */
function leavePlace(lane: Lane): void {
  const next = lane.running <= asyncCallLimits.maxRunningPerFunction ? lane.queue.shift() : undefined;
  if (next) next();
  else lane.running--;
}
