import { createHash } from 'node:crypto';
import type { CompiledModule, EngineInstance, HostImports } from '../engines/engine.js';
import type { PreparedModule } from '../module/prepared.js';
import type { RawFunction } from '../types.js';
import { asBuffer, findDifferingPages, type PageImage, SNAPSHOT_PAGE, toRuns } from './page-scan.js';
import { References } from './references.js';

/** Stands in an initial table for a function that has no name of ours (a host's own). */
export const FOREIGN_REFERENCE = -2;

/**
 * What an instance of a module holds right after instantiation, before its start function ran. Snapshots are
 * differences from it. Plain data: it can be posted to other threads. Equal for every engine, unless active segments
 * are placed by imported globals; `digest` tells.
 */
export interface InitialImage {
  readonly moduleId: string;
  /** SHA-256 of all the rest, hex. */
  readonly digest: string;
  /** An imported memory belongs to the host: its image is empty, so that all it holds counts as different. */
  readonly memories: readonly PageImage[];
  /** Function index of each element of each table in `PreparedModule.tables`; an imported table's image is empty. */
  readonly tables: readonly Int32Array<ArrayBuffer>[];
}

const nothing: PageImage = { runs: new Uint32Array(0), bytes: new Uint8Array(0) };

/**
 * Reads the initial image off an instance in which nothing ran yet.
 * Cost: about 1 ms for 64 MiB and what the data segments take; once for each module. Memory: the pages that are not
 * zero.
 */
export function readInitialImage(instance: EngineInstance, module: PreparedModule): InitialImage {
  const memories = module.memories.map((name, i) =>
    module.info.memories[i]?.imported ? nothing : readMemory(asBuffer(instance.memory(name))),
  );
  const references = new References(instance, module);
  const tables = module.tables.map((table) => {
    const access = instance.tables;
    if (!access || table.element !== 'funcref' || module.info.tables[table.index]?.imported) return new Int32Array(0);
    const elements = new Int32Array(access.length(table.export));
    for (let i = 0; i < elements.length; i++)
      elements[i] = references.indexOf(access.get(table.export, i)) ?? FOREIGN_REFERENCE;
    return elements;
  });
  const hash = createHash('sha256').update(module.id);
  for (const { runs, bytes } of memories) hash.update(String(runs)).update(bytes);
  for (const table of tables) hash.update(`table ${table.length} ${table}`);
  return { moduleId: module.id, digest: hash.digest('hex'), memories, tables };
}

/**
 * The initial image of a compiled module, from an instance made for it and closed again. Imported memories and tables
 * are left alone: the instance gets ones of its own, so that its active segments are not written into the host's.
 */
export function initialImageOf(compiled: CompiledModule, imports: HostImports): InitialImage {
  const instance = compiled.instantiate(withoutState(compiled.module, imports));
  try {
    return readInitialImage(instance, compiled.module);
  } finally {
    instance.close();
  }
}

function withoutState(module: PreparedModule, imports: HostImports): HostImports {
  const own: Record<string, Record<string, RawFunction | object>> = {};
  for (const one of module.info.imports) {
    if (one.kind !== 'memory' && one.kind !== 'table') continue;
    const { min } = one.limits;
    const fresh =
      one.kind === 'memory'
        ? new WebAssembly.Memory({ initial: min, maximum: min, shared: one.shared })
        : new WebAssembly.Table({
            element: one.element === 'externref' ? 'externref' : 'anyfunc',
            initial: min,
            maximum: min,
          });
    own[one.module] = { ...imports[one.module], ...own[one.module], [one.name]: fresh };
  }
  return { ...imports, ...own };
}

function readMemory(memory: Buffer): PageImage {
  const pages: number[] = [];
  findDifferingPages(memory, 0, memory.length / SNAPSHOT_PAGE, nothing, asBuffer(nothing.bytes), pages);
  const bytes = new Uint8Array(pages.length * SNAPSHOT_PAGE);
  const runs = toRuns(
    pages,
    pages.map((_, i) => i),
  );
  for (let r = 0; r < runs.length; r += 3) {
    const start = runs[r]! * SNAPSHOT_PAGE;
    bytes.set(memory.subarray(start, start + runs[r + 2]! * SNAPSHOT_PAGE), runs[r + 1]! * SNAPSHOT_PAGE);
  }
  return { runs, bytes };
}
