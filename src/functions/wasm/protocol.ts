import type { PreparedModule } from '../../wasm/module/prepared.js';
import type { AccountShare } from '../../wasm/runtime/tenant-account.js';
import type { Snapshot } from '../../wasm/snapshot/snapshot.js';
import type { Convention } from './convention.js';

/** What a module is made ready with. */
export interface GuestOptions {
  readonly handler: string;
  readonly memoryMb: number;
  readonly env: Readonly<Record<string, string>>;
  /** Keep the state after initialisation and begin with it. */
  readonly snapshot: boolean;
}

/** A function's module, ready to be called: plain data, the same for every thread. */
export interface GuestCode {
  readonly convention: Convention;
  readonly module: PreparedModule;
  readonly options: GuestOptions;
  /** After initialisation; absent when none is wanted. */
  readonly snapshot?: Snapshot;
}

/** What the host says to a thread that holds instances. */
export type ToThread =
  | {
      readonly op: 'prepare';
      readonly sequence: number;
      readonly bytes: Uint8Array;
      readonly options: GuestOptions;
    }
  | { readonly op: 'add-code'; readonly code: number; readonly guest: GuestCode }
  | { readonly op: 'remove-code'; readonly code: number }
  | { readonly op: 'make'; readonly sequence: number; readonly instance: number; readonly code: number }
  | {
      readonly op: 'call';
      readonly sequence: number;
      readonly instance: number;
      /** JSON. */
      readonly event: string;
    }
  | { readonly op: 'destroy'; readonly instance: number };

/** What it answers; in the order of the sequence numbers. */
export type FromThread =
  | { readonly sequence: number; readonly prepared: GuestCode }
  | { readonly sequence: number; readonly memoryBytes: number }
  | { readonly sequence: number; readonly reply: GuestReply }
  | { readonly sequence: number; readonly failure: GuestFailure };

/** What a guest answered. */
export interface GuestReply {
  /** Text, or bytes where they are no UTF-8. */
  readonly answer: string | Uint8Array;
  readonly durationMs: number;
  readonly memoryBytes: number;
  readonly gasUsed: number;
  readonly log: GuestLog;
}

export interface GuestLog {
  readonly lines: readonly string[];
  readonly truncated: boolean;
}

/** Why it did not. `code`: it cannot be loaded; `failed`: it gave an error, trapped or ended itself; `memory`: it was refused memory and gave up. */
export interface GuestFailure {
  readonly why: 'code' | 'failed' | 'memory';
  readonly what: string;
  /** Functions on the guest's stack, innermost first. */
  readonly frames: readonly string[];
  readonly durationMs: number;
  readonly gasUsed: number;
  readonly log: GuestLog;
}

/** What a thread starts with. */
export interface ThreadOptions {
  /** Of the memory of all instances of all threads. */
  readonly account: AccountShare;
  /**
   * One Int32: the sequence number of the request that was begun last. A thread begins a request by raising it by one, and passes over a request where that
   * fails: the host has taken back what was not begun.
   */
  readonly begun: SharedArrayBuffer;
  /** What the call that runs has logged (`guest-streams`). */
  readonly log: SharedArrayBuffer;
}
