import { wasmSnapshotLimits } from '../../limits.js';
import type { PreparedModule } from '../module/prepared.js';
import { PAGE_BYTES, type ValueType } from '../types.js';
import { SNAPSHOT_PAGE } from './page-scan.js';
import { NULL_REFERENCE } from './references.js';
import { type SavedGlobal, type SavedMemory, SNAPSHOT_FORMAT, type Snapshot, snapshotError } from './snapshot.js';

const PAGES_A_SIZE = PAGE_BYTES / SNAPSHOT_PAGE;

/** Refuses a snapshot that contradicts itself, whoever made it. Cost: a few µs; contents of pages are not looked at. */
export function checkSnapshot(snapshot: Snapshot, what: 'restored' | 'loaded' | 'saved'): void {
  const wrong = wrongIn(snapshot);
  if (wrong)
    throw snapshotError(what, wrong, 'take the snapshot again; this one was damaged, or made by something else');
}

/** Snapshots that were found right, and for which module: a second restore need not look again. */
const checked = new WeakMap<Snapshot, PreparedModule>();

/** Refuses a snapshot that contradicts itself or is another module's. Cost: a few µs the first time. */
export function checkModule(snapshot: Snapshot, module: PreparedModule): void {
  if (checked.get(snapshot) === module) return;
  checkSnapshot(snapshot, 'restored');
  const wrong = mismatch(snapshot, module);
  if (wrong)
    throw snapshotError(
      'restored',
      wrong,
      'restore it with the module that it was taken from, prepared with the same options',
    );
  checked.set(snapshot, module);
}

function wrongIn(snapshot: Snapshot): string | undefined {
  if (snapshot.format !== SNAPSHOT_FORMAT)
    return `its format is ${snapshot.format}, this version reads ${SNAPSHOT_FORMAT}`;
  const { memories, globals, tables, pages } = snapshot;
  if (pages.length % SNAPSHOT_PAGE !== 0) return 'its last page is cut off';
  if (memories.reduce((sum, { size }) => sum + size, 0) * PAGE_BYTES > wasmSnapshotLimits.maxMemoryBytes)
    return 'its memories are larger than a snapshot may hold';
  for (const memory of memories)
    if (!goodRuns(memory, pages.length / SNAPSHOT_PAGE)) return 'its pages lie outside its memory';
  for (const global of globals)
    if (!goodValue(global.type, global.value)) return `global ${global.index} is not of its type`;
  for (const { length, changes } of tables) {
    if (changes.length % 2 !== 0) return 'a table is cut off';
    for (let i = 0; i < changes.length; i += 2)
      if (changes[i]! < 0 || changes[i]! >= length || changes[i + 1]! < NULL_REFERENCE)
        return 'a table change lies outside its table';
  }
  return undefined;
}

function goodRuns({ size, runs }: SavedMemory, held: number): boolean {
  if (runs.length % 3 !== 0) return false;
  let at = 0;
  for (let r = 0; r < runs.length; r += 3) {
    const start = runs[r]!;
    const count = runs[r + 2]!;
    if (start < at || count === 0 || runs[r + 1]! + count > held) return false;
    at = start + count;
  }
  return at <= size * PAGES_A_SIZE;
}

function goodValue(type: ValueType, value: SavedGlobal['value']): boolean {
  switch (type) {
    case 'i32':
      return typeof value === 'number' && Object.is(value | 0, value);
    case 'i64':
      return typeof value === 'bigint' && BigInt.asIntN(64, value) === value;
    case 'f32':
      return typeof value === 'number' && Object.is(Math.fround(value), value);
    case 'f64':
      return typeof value === 'number';
    case 'funcref':
      return value === null || (typeof value === 'number' && Number.isInteger(value) && value >= 0);
    case 'externref':
      return value === null;
    default:
      return false;
  }
}

function mismatch(snapshot: Snapshot, module: PreparedModule): string | undefined {
  if (snapshot.moduleId !== module.id)
    return `it is of module ${snapshot.moduleId.slice(0, 16)}…, not ${module.id.slice(0, 16)}…`;
  const { memories, globals, tables, dropped } = snapshot;
  const functions = new Set(module.references.map(({ index }) => index));
  const knows = (index: number) => index === NULL_REFERENCE || functions.has(index);
  const agrees =
    memories.length === module.memories.length &&
    memories.every(({ size }, i) => size >= module.info.memories[i]!.min) &&
    globals.length === module.globals.length &&
    globals.every(({ index, type }, i) => index === module.globals[i]!.index && type === module.globals[i]!.type) &&
    tables.length === module.tables.length &&
    tables.every(({ index, length }, i) => {
      const min = module.info.tables[index]?.min ?? 0;
      return index === module.tables[i]!.index && length >= min;
    }) &&
    globals.every(({ type, value }) => type !== 'funcref' || value === null || knows(Number(value))) &&
    tables.every(({ changes }) => changes.every((value, i) => i % 2 === 0 || knows(value))) &&
    dropped.every(({ kind, index }) =>
      module.segments.some((segment) => segment.kind === kind && segment.index === index),
    );
  return agrees ? undefined : "it has the module's id, but other memories, globals, tables or segments";
}
