import type { FunctionEvent, InvocationContext } from '../invocation.js';
import type { LoadProblem } from './load-problem.js';

/** What the host says to a worker that runs functions. */
export type ToWorker =
  | {
      readonly type: 'load';
      readonly name: string;
      /** The module's text. */
      readonly code: string;
      readonly handler: string;
      readonly env: Readonly<Record<string, string>>;
      /** From places in `code` to those in the TypeScript that it was made of, JSON. */
      readonly map?: string;
      /** Where log lines go that the host is to see at any time (`log-ring`); without it they are sent. */
      readonly logs?: SharedArrayBuffer;
    }
  | Invoke
  /** JSON of an `Invoke`, where JSON has all of it: that takes half as long to send. */
  | string
  /** So many bytes of pieces were taken. */
  | { readonly type: 'more'; readonly id: number; readonly bytes: number }
  | { readonly type: 'cancel'; readonly id: number };

interface Invoke {
  readonly type: 'invoke';
  readonly id: number;
  readonly event: FunctionEvent;
  readonly context: InvocationContext;
  /** The answer may come piece by piece. */
  readonly pieces: boolean;
}

/** A reply without an error and without logs, as nearly all are: half as long to send as by names. */
type ShortReply = readonly [id: number, output: unknown, durationMs: number, heapBytes: number];

/** What it answers. */
export type FromWorker =
  | ShortReply
  | { readonly type: 'started' }
  | { readonly type: 'loaded'; readonly ms: number }
  | ({ readonly type: 'load-failed' } & LoadProblem)
  /** Log lines of a call under way; its reply has those that follow. */
  | { readonly type: 'lines'; readonly id: number; readonly lines: readonly string[] }
  /** Of a process: nothing caught this, and it ends. */
  | { readonly type: 'crashed'; readonly error: ThrownError }
  | { readonly type: 'begin'; readonly id: number; readonly head: AnswerHead }
  | { readonly type: 'piece'; readonly id: number; readonly bytes: Uint8Array }
  | ({ readonly type: 'reply'; readonly id: number } & WorkerReply);

/** Of an answer that comes piece by piece. */
export interface AnswerHead {
  readonly statusCode?: unknown;
  readonly headers?: unknown;
}

export interface ThrownError {
  readonly message: string;
  /** Empty without one. */
  readonly stack: string;
}

export interface WorkerReply {
  /** Set when the handler threw, or returned what cannot be sent. */
  readonly error?: ThrownError;
  readonly output?: unknown;
  readonly durationMs: number;
  readonly heapBytes: number;
  /** Less those that were sent ahead. */
  readonly logs: readonly string[];
  readonly logsTruncated: boolean;
}
