import { IguanaError } from '../../errors.js';
import { wasmSnapshotLimits } from '../../limits.js';
import type { EngineInstance } from '../engines/engine.js';
import type { PreparedModule } from '../module/prepared.js';
import { PAGE_BYTES, type RawValue, type ValueType } from '../types.js';
import type { InitialImage } from './initial-image.js';
import { asBuffer, findDifferingPages, SNAPSHOT_PAGE, toRuns } from './page-scan.js';
import { NULL_REFERENCE, References } from './references.js';

/** Raised when a snapshot's form changes; snapshots of another format are refused. */
export const SNAPSHOT_FORMAT = 1;

/**
 * The state of an instance at rest (no guest code on the stack), as differences from the initial image of its module.
 * Plain data in engine-neutral form: it can be posted to other threads and restored on any engine.
 */
export interface Snapshot {
  readonly format: number;
  /** `PreparedModule.id`. */
  readonly moduleId: string;
  /** `InitialImage.digest`. */
  readonly image: string;
  /** Pages of 4 KiB one after another; those that are equal stand here once. */
  readonly pages: Uint8Array<ArrayBuffer>;
  readonly memories: readonly SavedMemory[];
  readonly globals: readonly SavedGlobal[];
  readonly tables: readonly SavedTable[];
  readonly dropped: readonly { readonly kind: 'data' | 'element'; readonly index: number }[];
  /** Gas that the instance used up to here; only told, not set by restoring. */
  readonly gasUsed: bigint;
  /** What `src/wasm/wasi` saved; opaque here. */
  readonly wasi?: Uint8Array<ArrayBuffer>;
}

export interface SavedMemory {
  /** Of 64 KiB. */
  readonly size: number;
  /** Triples as in `PageImage`, with places in `Snapshot.pages`. */
  readonly runs: Uint32Array<ArrayBuffer>;
}

export interface SavedGlobal {
  /** In the module's index space. */
  readonly index: number;
  readonly type: ValueType;
  /** i64: bigint; i32, f32, f64: number; funcref: function index or null; externref: null. */
  readonly value: number | bigint | null;
}

export interface SavedTable {
  readonly index: number;
  readonly length: number;
  /**
   * Pairs: element, function index (−1: null), of those that differ from the initial table or lie beyond it and are not
   * null.
   */
  readonly changes: Int32Array<ArrayBuffer>;
}

export interface SnapshotOptions {
  /** Gas used so far (default 0). */
  readonly gasUsed?: bigint;
  /** State of WASI, as its own `save` gave it (default none). */
  readonly wasi?: Uint8Array<ArrayBuffer>;
}

/** `what` in the words of the error: created, restored, saved, loaded. */
export function snapshotError(
  what: 'created' | 'restored' | 'saved' | 'loaded',
  why: string,
  fix: string,
  cause?: unknown,
): IguanaError {
  return new IguanaError('IGU_WASM_SNAPSHOT', { what, why, fix }, cause === undefined ? undefined : { cause });
}

/**
 * Takes a snapshot of an instance that is not running.
 *
 * Kept: every memory as pages that differ from the initial image (and its size), globals, changed tables, dropped
 * segments. i32 and i64 are exact, −0 stays −0, but a NaN in a **global** becomes the one NaN of JavaScript: V8 gives
 * `WebAssembly.Global.value` that way, whatever its sign and payload were. Inside memory all bits are kept. Not kept:
 * what the host holds (its functions' state), and contents of a shared memory, which is refused because other threads
 * may be writing it.
 *
 * Of modules that are not metered it is not known whether they dropped segments: those are there again after a restore.
 *
 * Cost: about 1 ms for each 64 MiB of memory (3 once all of it was written), and 2–3 µs for each page that differs.
 * @param instance at rest
 * @param module what it is an instance of
 * @param image of the same module, with the same imported globals
 * @throws IguanaError `IGU_WASM_SNAPSHOT` naming what cannot be saved: a host function or another module's in a table,
 *   a host reference or v128 in a global.
 */
export function createSnapshot(
  instance: EngineInstance,
  module: PreparedModule,
  image: InitialImage,
  options: SnapshotOptions = {},
): Snapshot {
  if (image.moduleId !== module.id)
    throw snapshotError('created', "the initial image is another module's", 'give the image of this module');
  const { gasUsed = 0n, wasi } = options;
  if (wasi && wasi.length > wasmSnapshotLimits.maxWasiBytes)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: 'WASI state of a snapshot in bytes',
      value: wasi.length,
      limit: wasmSnapshotLimits.maxWasiBytes,
      fix: 'let the guest hold fewer or smaller in-memory files',
    });
  refuseUnreachable(module);
  refuseHidden(instance, module, 'created');
  const references = new References(instance, module);
  return {
    format: SNAPSHOT_FORMAT,
    moduleId: module.id,
    image: image.digest,
    ...captureMemories(instance, module, image),
    globals: module.globals.map(({ index, export: name, type }) => ({
      index,
      type,
      value: savedValue(type, instance.getGlobal(name), `global ${index}`, references),
    })),
    tables: module.tables.map((table, i) => captureTable(instance, table, image.tables[i]!, references)),
    dropped: module.segments
      .filter(({ dropped }) => instance.getGlobal(dropped) === 1)
      .map(({ kind, index }) => ({ kind, index })),
    gasUsed,
    ...(wasi && { wasi }),
  };
}

/** Refuses an engine that shows no references where the module has some to keep. */
export function refuseHidden(instance: EngineInstance, module: PreparedModule, what: 'created' | 'restored'): void {
  if (instance.tables) return;
  if (module.tables.length > 0 || module.globals.some(({ type }) => type === 'funcref' || type === 'externref'))
    throw snapshotError(what, 'this engine shows no tables', 'use another engine for this module (native shows them)');
}

function refuseUnreachable(module: PreparedModule): void {
  const { info } = module;
  if (info.memories.some(({ shared }) => shared))
    throw snapshotError('created', 'a memory is shared with other threads', 'use a module without threads');
  const saved = new Set(module.globals.map(({ index }) => index));
  const left = info.globals.findIndex(
    ({ type, mutable, imported }, i) => mutable && !imported && (type === 'v128' || !saved.has(i)),
  );
  if (left >= 0)
    throw snapshotError(
      'created',
      `global ${left} of type ${info.globals[left]!.type} cannot be read from outside`,
      'keep such values in memory when a snapshot is taken',
    );
}

function savedValue(type: ValueType, value: RawValue, what: string, references: References): SavedGlobal['value'] {
  if (typeof value === 'number' || typeof value === 'bigint') return value;
  if (value === null || value === undefined) return null;
  const index = type === 'funcref' ? references.indexOf(value) : undefined;
  if (index === undefined)
    throw snapshotError(
      'created',
      `${what} holds ${type === 'externref' ? 'an object of the host' : "a function that is not the module's own"}`,
      'let it be null, or a function of the module, when a snapshot is taken',
    );
  return index;
}

function captureTable(
  instance: EngineInstance,
  table: PreparedModule['tables'][number],
  initial: Int32Array,
  references: References,
): SavedTable {
  const access = instance.tables!;
  const length = access.length(table.export);
  const changes: number[] = [];
  for (let i = 0; i < length; i++) {
    const before = i < initial.length ? initial[i]! : NULL_REFERENCE;
    const value = access.get(table.export, i);
    const now =
      table.element === 'funcref' ? references.indexOf(value, before) : value === null ? NULL_REFERENCE : undefined;
    if (now === undefined)
      throw snapshotError(
        'created',
        `element ${i} of table ${table.index} is not null nor a function of the module`,
        'let host functions and objects leave the tables before a snapshot is taken',
      );
    if (now !== before) changes.push(i, now);
  }
  limitEntries(changes.length / 2, 'changed table elements of a snapshot');
  return { index: table.index, length, changes: new Int32Array(changes) };
}

function limitEntries(value: number, what: string): void {
  if (value > wasmSnapshotLimits.maxEntries)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what,
      value,
      limit: wasmSnapshotLimits.maxEntries,
      fix: 'take the snapshot of a smaller state',
    });
}

function captureMemories(
  instance: EngineInstance,
  module: PreparedModule,
  image: InitialImage,
): Pick<Snapshot, 'pages' | 'memories'> {
  const buffers = module.memories.map((name) => asBuffer(instance.memory(name)));
  const total = buffers.reduce((sum, { length }) => sum + length, 0);
  if (total > wasmSnapshotLimits.maxMemoryBytes)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: 'memory of a snapshot in bytes',
      value: total,
      limit: wasmSnapshotLimits.maxMemoryBytes,
      fix: 'limit the memory of the instance',
    });
  const unique = new UniquePages();
  const memories = buffers.map((memory, i) => {
    const pages: number[] = [];
    const own = image.memories[i]!;
    findDifferingPages(memory, 0, memory.length / SNAPSHOT_PAGE, own, asBuffer(own.bytes), pages);
    const places = pages.map((page) => unique.place(memory, page));
    return { size: memory.length / PAGE_BYTES, runs: toRuns(pages, places) };
  });
  return { pages: unique.bytes(), memories };
}

/**
 * Gives equal pages one place. Candidates are found by a sum over one word of every 64 bytes and then compared; only
 * the first page of each sum is one, so that a hostile memory cannot make this slow. What it misses, a store on disk
 * still finds by SHA-256.
 */
class UniquePages {
  readonly #memories: Buffer[] = [];
  readonly #offsets: number[] = [];
  readonly #bySum = new Map<number, number>();

  place(memory: Buffer, page: number): number {
    const start = page * SNAPSHOT_PAGE;
    let sum = 0;
    for (let i = start; i < start + SNAPSHOT_PAGE; i += 64)
      sum = Math.imul(sum ^ memory.readInt32LE(i), 0x9e3779b1) ^ (sum >>> 15);
    const known = this.#bySum.get(sum);
    if (known !== undefined) {
      const offset = this.#offsets[known]!;
      if (memory.compare(this.#memories[known]!, offset, offset + SNAPSHOT_PAGE, start, start + SNAPSHOT_PAGE) === 0)
        return known;
    }
    const place = this.#offsets.push(start) - 1;
    this.#memories.push(memory);
    if (known === undefined) this.#bySum.set(sum, place);
    return place;
  }

  bytes(): Uint8Array<ArrayBuffer> {
    const offsets = this.#offsets;
    const out = new Uint8Array(offsets.length * SNAPSHOT_PAGE);
    for (let first = 0; first < offsets.length; ) {
      const memory = this.#memories[first]!;
      let next = first + 1;
      while (this.#memories[next] === memory && offsets[next] === offsets[next - 1]! + SNAPSHOT_PAGE) next++;
      const start = offsets[first]!;
      out.set(memory.subarray(start, start + (next - first) * SNAPSHOT_PAGE), first * SNAPSHOT_PAGE);
      first = next;
    }
    return out;
  }
}
