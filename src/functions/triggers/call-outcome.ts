import type { FunctionEvent, InvocationResult } from '../invocation.js';

/** How a call that nobody waits for ended, all its tries together. */
export interface CallOutcome {
  readonly function: string;
  readonly invocationId: string;
  readonly event: FunctionEvent;
  readonly attempts: number;
  /** ms since 1970. */
  readonly startedAt: number;
  readonly endedAt: number;
  /** Absent when it failed. */
  readonly result?: InvocationResult;
  readonly error?: unknown;
}

/** Takes outcomes where the function's definition says: `output`, `onSuccess`, `onFailure`. */
export type DeliverOutcome = (outcome: CallOutcome) => Promise<void>;
