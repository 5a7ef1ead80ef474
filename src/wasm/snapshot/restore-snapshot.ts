import { IguanaError } from '../../errors.js';
import type { CompiledModule, EngineInstance, HostImports } from '../engines/engine.js';
import type { PreparedModule } from '../module/prepared.js';
import { PAGE_BYTES } from '../types.js';
import { checkModule } from './check-snapshot.js';
import { FOREIGN_REFERENCE, type InitialImage } from './initial-image.js';
import { asBuffer, findDifferingPages, type PageImage, SNAPSHOT_PAGE } from './page-scan.js';
import { NULL_REFERENCE, References } from './references.js';
import { refuseHidden, type SavedMemory, type Snapshot, snapshotError } from './snapshot.js';

const nothing: PageImage = { runs: new Uint32Array(0), bytes: new Uint8Array(0) };

/**
 * A new instance in the state of a snapshot, on this or another engine. The start function is not run: it ran before
 * the snapshot was taken. Gas, WASI state and accounts of memory are the caller's: the memory grows here without asking
 * `grow`.
 *
 * Cost: an instance, and a write for each run of pages: 0.5–0.7 ms for 1 MiB of pages, most of it page faults of the
 * fresh memory. V8 counts a new memory as if all of it were used: two of 64 MiB make it collect, for 1–3 ms each time.
 * `restoreInPlace` avoids both.
 * @param compiled the same module as the snapshot's, prepared with the same options
 * @param imports as for `instantiate`
 * @param image when given, it must be the one that the snapshot was taken against; give it for modules that import
 *   globals
 * @throws IguanaError `IGU_WASM_SNAPSHOT` when it is damaged, of another module, or does not fit; what `instantiate`
 *   throws. No instance is left then.
 */
export function restoreSnapshot(
  snapshot: Snapshot,
  compiled: CompiledModule,
  imports: HostImports,
  image?: InitialImage,
): EngineInstance {
  const { module } = compiled;
  checkAll(snapshot, module, image);
  const instance = compiled.instantiate(imports);
  try {
    grow(snapshot, instance, module);
    snapshot.memories.forEach((saved, i) => {
      const memory = instance.memory(module.memories[i]!);
      if (module.info.memories[i]?.imported) clean(asBuffer(memory), saved, nothing);
      writePages(memory, saved, snapshot.pages);
    });
    const references = new References(instance, module);
    setGlobals(snapshot, instance, module, references);
    snapshot.tables.forEach((saved, i) => {
      const table = module.tables[i]!;
      const access = instance.tables!;
      if (module.info.tables[table.index]?.imported)
        for (let at = 0; at < saved.length; at++) access.set(table.export, at, null);
      for (let c = 0; c < saved.changes.length; c += 2)
        access.set(table.export, saved.changes[c]!, references.at(saved.changes[c + 1]!));
    });
    dropSegments(snapshot, instance, module);
    return instance;
  } catch (error) {
    instance.close();
    throw asSnapshotError(error);
  }
}

/** Whether a live instance can take a snapshot's state, or must be replaced by `restoreSnapshot`, and why. */
export type RestorePlan = { readonly inPlace: true } | { readonly inPlace: false; readonly why: string };

/**
 * Decides between `restoreInPlace` and a new instance. Memories and tables cannot shrink, and a dropped segment cannot
 * come back. In place costs a scan of the memory (0.8 ms for 64 MiB of which little was ever written, 3 ms once all of
 * it was) but neither page faults nor collections: choose it whenever it is possible.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` when no instance of this module can take it.
 */
export function restorePlan(snapshot: Snapshot, instance: EngineInstance, module: PreparedModule): RestorePlan {
  checkAll(snapshot, module);
  for (const [i, { size }] of snapshot.memories.entries()) {
    const now = instance.memory(module.memories[i]!).length / PAGE_BYTES;
    if (now > size) return { inPlace: false, why: `memory ${i} has grown to ${now} pages, the snapshot has ${size}` };
  }
  for (const [i, { length, index }] of snapshot.tables.entries()) {
    const now = instance.tables?.length(module.tables[i]!.export) ?? 0;
    if (now > length)
      return { inPlace: false, why: `table ${index} has grown to ${now} elements, the snapshot has ${length}` };
  }
  for (const { kind, index, dropped } of module.segments)
    if (instance.getGlobal(dropped) === 1 && !snapshot.dropped.some((one) => one.kind === kind && one.index === index))
      return { inPlace: false, why: `${kind} segment ${index} was dropped since` };
  return { inPlace: true };
}

/**
 * Puts a live instance of the same module into the state of a snapshot, whatever ran in it. It must be at rest.
 * Cost: see `restorePlan`. Where time to the first answer counts, put an instance back after it was used instead of
 * before it is used again: then nothing is left to do when a call comes.
 * @param image the initial image of the module
 * @throws IguanaError `IGU_WASM_SNAPSHOT`; all is checked before anything is written. Only when the engine has no
 *   memory left to grow to the snapshot's size can a memory have grown although this threw.
 */
export function restoreInPlace(
  snapshot: Snapshot,
  instance: EngineInstance,
  module: PreparedModule,
  image: InitialImage,
): void {
  checkAll(snapshot, module, image);
  const plan = restorePlan(snapshot, instance, module);
  if (!plan.inPlace) throw snapshotError('restored', plan.why, 'replace the instance by a new one of the snapshot');
  grow(snapshot, instance, module);
  const inMind = oftenWritten.get(instance) ?? [];
  oftenWritten.set(
    instance,
    snapshot.memories.map((saved, i) => {
      const memory = instance.memory(module.memories[i]!);
      const written = clean(asBuffer(memory), saved, image.memories[i]!, inMind[i]);
      writePages(memory, saved, snapshot.pages);
      return written;
    }),
  );
  const references = new References(instance, module);
  setGlobals(snapshot, instance, module, references);
  snapshot.tables.forEach((saved, i) => {
    const name = module.tables[i]!.export;
    const wanted = new Int32Array(saved.length).fill(NULL_REFERENCE);
    wanted.set(image.tables[i]!.subarray(0, saved.length));
    for (let c = 0; c < saved.changes.length; c += 2) wanted[saved.changes[c]!] = saved.changes[c + 1]!;
    wanted.forEach((index, at) => {
      if (index !== FOREIGN_REFERENCE) instance.tables!.set(name, at, references.at(index));
    });
  });
  dropSegments(snapshot, instance, module);
}

function checkAll(snapshot: Snapshot, module: PreparedModule, image?: InitialImage): void {
  checkModule(snapshot, module);
  if (image && image.digest !== snapshot.image)
    throw snapshotError(
      'restored',
      'instances of the module begin with other memory than when it was taken',
      'give the same imported globals as then: active segments are placed by them',
    );
}

function grow(snapshot: Snapshot, instance: EngineInstance, module: PreparedModule): void {
  refuseHidden(instance, module, 'restored');
  for (const [i, { size }] of snapshot.memories.entries()) {
    const name = module.memories[i]!;
    const missing = size - instance.memory(name).length / PAGE_BYTES;
    if (missing < 0)
      throw snapshotError('restored', `memory ${i} is larger than the snapshot's`, 'give a new memory as import');
    if (missing > 0 && !instance.growMemory(name, missing))
      throw snapshotError(
        'restored',
        `memory ${i} cannot grow to ${size} pages`,
        'raise the memory limit, or destroy other instances',
      );
  }
  for (const [i, { length, index }] of snapshot.tables.entries()) {
    const name = module.tables[i]!.export;
    const tables = instance.tables!;
    const missing = length - tables.length(name);
    if (missing < 0)
      throw snapshotError('restored', `table ${index} is larger than the snapshot's`, 'give a new table as import');
    if (missing > 0 && !tables.grow(name, missing))
      throw snapshotError(
        'restored',
        `table ${index} cannot grow to ${length} elements`,
        'raise the limit of table elements',
      );
  }
}

function writePages(memory: Uint8Array, { runs }: SavedMemory, pages: Uint8Array): void {
  for (let r = 0; r < runs.length; r += 3) {
    const from = runs[r + 1]! * SNAPSHOT_PAGE;
    memory.set(pages.subarray(from, from + runs[r + 2]! * SNAPSHOT_PAGE), runs[r]! * SNAPSHOT_PAGE);
  }
}

/**
 * For each memory of an instance, pages that were not as in the image when it was last restored in place: likely they
 * are not now either.
 */
const oftenWritten = new WeakMap<EngineInstance, number[][]>();
/** More pages than this are not kept in mind, but looked for. */
const MOST_IN_MIND = 1_024;

/**
 * Gives every page that the snapshot does not write the content of the image. Pages that the last calls wrote are put
 * back without looking: a block of the scan that holds no difference costs one comparison, one that does several.
 */
function clean(memory: Buffer, { runs }: SavedMemory, image: PageImage, inMind: number[] = []): number[] {
  const bytes = asBuffer(image.bytes);
  putBack(memory, inMind, image, bytes);
  const found: number[] = [];
  let at = 0;
  for (let r = 0; r < runs.length; r += 3) {
    if (runs[r]! > at) findDifferingPages(memory, at, runs[r]!, image, bytes, found);
    at = runs[r]! + runs[r + 2]!;
  }
  const end = memory.length / SNAPSHOT_PAGE;
  if (at < end) findDifferingPages(memory, at, end, image, bytes, found);
  if (found.length === 0) return inMind;
  putBack(memory, found, image, bytes);
  if (found.length + inMind.length > MOST_IN_MIND) return found.length > MOST_IN_MIND ? [] : found;
  return [...inMind, ...found].sort((a, b) => a - b);
}

/** Writes the image's content into pages, given in ascending order. */
function putBack(memory: Buffer, pages: readonly number[], image: PageImage, bytes: Buffer): void {
  let r = 0;
  for (let i = 0; i < pages.length; ) {
    const start = pages[i]!;
    let end = start;
    while (i < pages.length && pages[i] === end) {
      end++;
      i++;
    }
    memory.fill(0, start * SNAPSHOT_PAGE, end * SNAPSHOT_PAGE);
    while (r < image.runs.length && image.runs[r]! + image.runs[r + 2]! <= start) r += 3;
    for (let k = r; k < image.runs.length && image.runs[k]! < end; k += 3) {
      const first = Math.max(start, image.runs[k]!);
      const last = Math.min(end, image.runs[k]! + image.runs[k + 2]!);
      const shift = image.runs[k + 1]! - image.runs[k]!;
      bytes.copy(memory, first * SNAPSHOT_PAGE, (first + shift) * SNAPSHOT_PAGE, (last + shift) * SNAPSHOT_PAGE);
    }
  }
}

function setGlobals(
  snapshot: Snapshot,
  instance: EngineInstance,
  module: PreparedModule,
  references: References,
): void {
  snapshot.globals.forEach(({ type, value }, i) => {
    const isFunction = type === 'funcref' && value !== null;
    instance.setGlobal(module.globals[i]!.export, isFunction ? references.at(Number(value)) : value);
  });
}

function dropSegments(snapshot: Snapshot, instance: EngineInstance, module: PreparedModule): void {
  for (const { kind, index } of snapshot.dropped) {
    const segment = module.segments.find((one) => one.kind === kind && one.index === index)!;
    if (instance.getGlobal(segment.dropped) !== 1) instance.function(segment.drop)();
  }
}

function asSnapshotError(error: unknown): IguanaError {
  if (error instanceof IguanaError) return error;
  const why = error instanceof Error ? error.message : String(error);
  return snapshotError('restored', why, 'see the cause; the state of the snapshot does not fit this engine', error);
}
