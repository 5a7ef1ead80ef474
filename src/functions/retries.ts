import type { Clock } from '../clock.js';
import { IguanaError } from '../errors.js';
import { asyncCallLimits } from '../limits.js';
import { AbortListener } from './abort-listeners.js';
import type { InvocationResult } from './invocation.js';

export interface RetryOptions {
  /** Of the function, for messages. */
  readonly name: string;
  readonly clock: Clock;
  /** Tries, the first included. */
  readonly attempts: number;
  /** ms since 1970: no try begins later. Default: never. */
  readonly deadline?: number;
  /** First wait, ms (default 1,000); doubles up to `maxBackoffMs` (default 60,000), with full jitter. */
  readonly backoffMs?: number;
  readonly maxBackoffMs?: number;
  /** Between 0 and 1 (default Math.random). */
  readonly random?: () => number;
  readonly signal?: AbortSignal;
  /** Told before each wait. */
  readonly onWait?: () => void;
}

export interface Attempted {
  /** Absent when the last try failed. */
  readonly result?: InvocationResult;
  readonly error?: unknown;
  /** Tries that ran. */
  readonly attempts: number;
}

/**
 * Makes a call until it succeeds, fails for good, or was tried often enough. A function that is busy, or has no instance ready, has not run: that counts as no try, and is tried again
 * until the deadline, or without one as often as any other failure. Never rejects.
 */
export async function callWithRetries(
  call: (attempt: number, signal: AbortSignal | undefined) => Promise<InvocationResult>,
  options: RetryOptions,
): Promise<Attempted> {
  const { clock, signal, name, deadline = Number.POSITIVE_INFINITY } = options;
  const { backoffMs = asyncCallLimits.backoffMs, maxBackoffMs = asyncCallLimits.maxBackoffMs } = options;
  const random = options.random ?? Math.random;
  const began = clock.now();
  let ran = 0;
  for (let waits = 0; ; waits++) {
    if (signal?.aborted) return { error: new IguanaError('IGU_FUNCTION_CANCELLED', { name }), attempts: ran };
    if (clock.now() > deadline) {
      return { error: new IguanaError('IGU_FUNCTION_EXPIRED', { name, ms: clock.now() - began }), attempts: ran };
    }
    try {
      return { result: await call(ran + 1, signal), attempts: ran + 1 };
    } catch (error) {
      const coded = error instanceof IguanaError ? error : undefined;
      const busy = coded?.code === 'IGU_FUNCTION_BUSY' || coded?.code === 'IGU_FUNCTION_NOT_READY';
      if (!busy || deadline === Number.POSITIVE_INFINITY) ran++;
      if (signal?.aborted || !coded?.retriable || ran >= options.attempts) return { error, attempts: ran };
    }
    options.onWait?.();
    await pause(clock, Math.max(1, random() * Math.min(maxBackoffMs, backoffMs * 2 ** waits)), signal);
  }
}

/** Resolves after so many ms, or at once when the signal is aborted. */
function pause(clock: Clock, ms: number, signal: AbortSignal | undefined): Promise<void> {
  if (signal?.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      cancel();
      listener?.end();
      resolve();
    };
    const cancel = clock.after(ms, end);
    const listener = signal && new AbortListener(signal, end);
  });
}
