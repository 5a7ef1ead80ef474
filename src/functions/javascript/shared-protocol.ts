import type { FromWorker, ThrownError, ToWorker } from './protocol.js';

/** What the host says to a worker that many instances share. */
export type ToShared =
  | {
      /** Number of the instance. */
      readonly instance: number;
      /** Of what may be taken back while it has not begun: it goes up by one. 0: what may not. */
      readonly sequence: number;
      readonly message: ToWorker;
    }
  | { readonly unload: number }
  | { readonly ping: number };

/** What it answers. */
export type FromShared =
  | readonly [instance: number, messages: readonly FromWorker[]]
  /** 0: it has started. */
  | { readonly pong: number }
  /** An error that no handler caught; the instance is 0 when it cannot be told whose. */
  | { readonly crashed: number; readonly error: ThrownError };

/** What it starts with: two Int32, `BEGUN` and `RUNS`. */
export interface SharedWorkerData {
  readonly state: SharedArrayBuffer;
}

/**
 * The sequence number that was begun last. The worker begins by raising it by one, and passes over what it cannot raise it for: the host has taken that back
 * by raising it first.
 */
export const BEGUN = 0;
/** The instance whose code the worker runs; 0 for none. */
export const RUNS = 1;
