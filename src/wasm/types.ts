/** The words of WebAssembly that every part of this folder shares. */

export type ValueType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128' | 'funcref' | 'externref';

export interface FunctionType {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}

/** As the WebAssembly JavaScript interface has them: i64 is a bigint, i32, f32 and f64 are numbers, references are opaque. */
export type RawValue = unknown;

/** One value where the type has one result, an array where it has several, undefined where it has none. */
export type RawFunction = (...args: RawValue[]) => RawValue;

export interface Limits {
  readonly min: number;
  /** Absent: none declared. */
  readonly max?: number;
}

export type ExternType =
  | { readonly kind: 'function'; readonly type: FunctionType }
  | { readonly kind: 'memory'; readonly limits: Limits; readonly shared: boolean }
  | { readonly kind: 'table'; readonly element: ValueType; readonly limits: Limits }
  | { readonly kind: 'global'; readonly type: ValueType; readonly mutable: boolean };

export type ImportInfo = { readonly module: string; readonly name: string } & ExternType;
export type ExportInfo = {
  readonly name: string /** In its kind's index space. */;
  readonly index: number;
} & ExternType;

/** What a module is, read from its bytes before anything is changed. */
export interface ModuleInfo {
  /** Bytes. */
  readonly size: number;
  readonly imports: readonly ImportInfo[];
  readonly exports: readonly ExportInfo[];
  /** The module's memories, imported first, in index order; limits in pages of 64 KiB. */
  readonly memories: readonly (Limits & { readonly shared: boolean; readonly imported: boolean })[];
  readonly tables: readonly (Limits & { readonly element: ValueType; readonly imported: boolean })[];
  readonly globals: readonly { readonly type: ValueType; readonly mutable: boolean; readonly imported: boolean }[];
  /** Functions with a body. */
  readonly functionCount: number;
  /** What an engine needs beyond the first release, by the proposals' names: `simd`, `bulk-memory`, `multi-value`, … */
  readonly features: readonly string[];
  readonly hasStart: boolean;
  /** Of the name section; index in the function space (imports first). */
  readonly functionNames: ReadonlyMap<number, string>;
  readonly moduleName?: string;
}

/** Bytes of one page of linear memory. */
export const PAGE_BYTES = 65_536;
