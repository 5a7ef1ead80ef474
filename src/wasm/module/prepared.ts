import type { ModuleInfo, ValueType } from '../types.js';

/**
 * A module made ready for an engine: metered, its maxima written in, and everything that a snapshot needs reachable from outside. What the module's
 * own exports do is not changed. Names that begin with `iguana:` (exports) and the import module `iguana` are ours: a module that uses them is refused.
 *
 * How to run one: instantiate with the user's imports and those of `hostImports`; write the gas; call `start` if there is one; then call exports.
 * Instantiating runs no guest code.
 */
export interface PreparedModule {
  /** Hash of the original bytes, of the options and of the rewriter's version: equal ids mean equal bytes. */
  readonly id: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Of the original module. */
  readonly info: ModuleInfo;
  readonly metered: boolean;
  /** Export name of the mutable i64 global with what is left of gas and stack (see `packGas`). Absent when not metered. */
  readonly gas?: string;
  /** Export name of the function that was the module's start function. */
  readonly start?: string;
  /** What the module itself must be given beside the user's imports, by name under the import module `iguana`. */
  readonly hostImports: readonly HostImportName[];
  /** Export name of every memory, in index order. */
  readonly memories: readonly string[];
  /** Every mutable global of the original module that can be saved, in index order. */
  readonly globals: readonly { readonly index: number; readonly export: string; readonly type: ValueType }[];
  /** Tables that code or the host may change after instantiation; others are what the module says and need not be saved. */
  readonly tables: readonly { readonly index: number; readonly export: string; readonly element: ValueType }[];
  /** Functions that may stand in those tables: function index and export name. Only for identity; the host must not call them. */
  readonly references: readonly { readonly index: number; readonly export: string }[];
  /** Passive segments that code may drop. `dropped` is the i32 global that is 1 once it happened; `drop` is the function `[] → []` that drops it. */
  readonly segments: readonly {
    readonly kind: 'data' | 'element';
    readonly index: number;
    readonly dropped: string;
    readonly drop: string;
  }[];
}

/** `grow(pages: i32) → i32`: 1 lets a memory grow by so many pages, 0 makes `memory.grow` answer −1. Called only when the module's own maximum allows it;
 * and with 0 between long bulk instructions, where a host that is a JavaScript function is stopped when time is up: it need do nothing then. */
export type HostImportName = 'grow';

/** What to write into a module. */
export interface PrepareOptions {
  /** Count gas and stack (default true). */
  readonly metered?: boolean;
  /** Most pages of each memory (64 KiB each); a smaller declared maximum stays. */
  readonly maxMemoryPages?: number;
  /** Most elements of each table; a smaller declared maximum stays. */
  readonly maxTableElements?: number;
}
