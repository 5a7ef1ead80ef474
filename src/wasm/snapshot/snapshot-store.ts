/**
 * Snapshots in a directory. One file because saving, loading and collecting all turn on one index: where each page
 * lies.
 *
 * `snapshots/ID.snapshot` is a manifest: the state and the hashes of its pages; ID is its SHA-256. `packs/NAME.pack`
 * hold pages, each of them once for all snapshots (see `pack-file.ts`). Files are written whole or not at all and never
 * changed. Nothing in a file names a path.
 */
import { hash } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { IguanaError } from '../../errors.js';
import { wasmSnapshotLimits } from '../../limits.js';
import { StateReader, StateWriter } from '../../state.js';
import { PAGE_BYTES } from '../types.js';
import { checkSnapshot } from './check-snapshot.js';
import { blockOf, buildPack, hashOf, type Pack, pageIn, readBlock, readPack } from './pack-file.js';
import { SNAPSHOT_PAGE } from './page-scan.js';
import type { Snapshot } from './snapshot.js';
import { damaged, readHead, reading, readState, writeState } from './snapshot-codec.js';
import {
  codeOf,
  exclusively,
  makeDirectory,
  makeRoot,
  namesIn,
  openPlain,
  readExactly,
  removeDeadLocks,
  removeTemporaries,
  syncDirectory,
  writeWhole,
} from './store-files.js';

const MAGIC = 'iguana snapshot manifest\n';
const HASH = 32;
const ID = /^[0-9a-f]{64}$/;
const MANIFEST = /^[0-9a-f]{64}\.snapshot$/;
const PACK = /^[0-9a-f]{64}\.pack$/;

/** One line of `list`. */
export interface StoredSnapshot {
  readonly id: string;
  /** Milliseconds since 1970. */
  readonly savedAt: number;
  /** Absent, and the rest 0, when the manifest is damaged: `damage` says how. */
  readonly moduleId?: string;
  readonly damage?: string;
  /** Memory as the guest sees it, bytes. */
  readonly memoryBytes: number;
  /** Its pages of 4 KiB, shared ones included. */
  readonly pages: number;
  readonly gasUsed: bigint;
}

interface Manifest {
  readonly state: Omit<Snapshot, 'pages' | 'wasi'>;
  /** Of its pages, then of the pages of its WASI bytes. */
  readonly hashes: readonly string[];
  readonly wasiBytes: number | undefined;
  readonly savedAt: number;
}

interface Place {
  readonly pack: Pack;
  readonly page: number;
  /** Another place of an equal page. */
  readonly next: Place | undefined;
}

/**
 * Keeps snapshots in a directory: pages by content, shared among all snapshots, compressed. Several processes may use
 * one directory; changes wait for each other. Damage is found by checksums and named; what is not damaged stays usable,
 * and saving a page again that was found damaged heals it.
 *
 * Cost: saving and loading 1 MiB of new pages about 15 and 6 ms; a page known already costs its hash (3 µs). Memory:
 * 150 bytes for each page in the directory.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` on damage, `IGU_WASM_LIMIT`, `IGU_WASM_NOT_FOUND`, `IGU_FILE_WRITE`
 */
export class SnapshotStore {
  readonly #directory: string;
  readonly #manifests: string;
  readonly #packFiles: string;
  readonly #packs = new Map<string, Pack>();
  readonly #unreadable = new Map<string, string>();
  readonly #places = new Map<string, Place>();
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(directory: string) {
    this.#directory = directory;
    this.#manifests = join(directory, 'snapshots');
    this.#packFiles = join(directory, 'packs');
  }

  /** Opens a directory, made when it is not there. */
  static async open(directory: string): Promise<SnapshotStore> {
    const store = new SnapshotStore(await makeRoot(directory));
    await makeDirectory(store.#manifests);
    await makeDirectory(store.#packFiles);
    await store.#refresh();
    return store;
  }

  /** Saves a snapshot and answers its id: equal snapshots have equal ids. On disk when the promise is fulfilled. */
  save(snapshot: Snapshot): Promise<string> {
    return this.#change(async () => {
      checkSnapshot(snapshot, 'saved');
      const pages = pagesOf(snapshot);
      const hashes = pages.map(hashOf);
      const manifest = writeManifest(snapshot, hashes);
      const id = hash('sha256', manifest, 'hex');
      const others = (await namesIn(this.#manifests, MANIFEST)).filter((name) => name !== `${id}.snapshot`).length;
      limit('snapshots in a directory', others + 1, wasmSnapshotLimits.maxSnapshots);
      await this.#refresh();
      const missing = new Map<string, Uint8Array>();
      hashes.forEach((one, i) => {
        if (!this.#find(one)) missing.set(one, pages[i]!);
      });
      await this.#writePacks(missing);
      await writeWhole(this.#manifests, `${id}.snapshot`, [manifest]);
      return id;
    });
  }

  /** A saved snapshot, all of it checked. */
  async load(id: string): Promise<Snapshot> {
    await this.#queue;
    const { state, hashes, wasiBytes } = await this.#readManifest(id);
    if (hashes.some((one) => !this.#find(one))) await this.#refresh();
    const wasiPages = Math.ceil((wasiBytes ?? 0) / SNAPSHOT_PAGE);
    const bytes = reading(() => new Uint8Array(hashes.length * SNAPSHOT_PAGE));
    await this.#fill(hashes, (i, page) => bytes.set(page, i * SNAPSHOT_PAGE));
    const end = (hashes.length - wasiPages) * SNAPSHOT_PAGE;
    const snapshot: Snapshot = {
      ...state,
      pages: wasiPages === 0 ? bytes : bytes.slice(0, end),
      ...(wasiBytes !== undefined && { wasi: bytes.slice(end, end + wasiBytes) }),
    };
    checkSnapshot(snapshot, 'loaded');
    return snapshot;
  }

  /** All snapshots, oldest first. Cost: reads every manifest. */
  async list(): Promise<StoredSnapshot[]> {
    const found: StoredSnapshot[] = [];
    for (const name of await namesIn(this.#manifests, MANIFEST)) {
      const id = idOf(name);
      const empty = { id, savedAt: 0, memoryBytes: 0, pages: 0, gasUsed: 0n };
      try {
        const { state, hashes, savedAt } = await this.#readManifest(id);
        const memoryBytes = state.memories.reduce((sum, { size }) => sum + size, 0) * PAGE_BYTES;
        const { moduleId, gasUsed } = state;
        found.push({ id, savedAt, moduleId, memoryBytes, pages: hashes.length, gasUsed });
      } catch (error) {
        if (isMissing(error)) continue;
        found.push({ ...empty, damage: damageOf(error) });
      }
    }
    return found.sort((a, b) => a.savedAt - b.savedAt);
  }

  /** Deletes snapshots, and then the pages that no other one has. Ids that are not there are passed over. */
  delete(...ids: readonly string[]): Promise<void> {
    return this.#change(async () => {
      for (const id of ids) await rm(this.#manifestPath(id), { force: true });
      await syncDirectory(this.#manifests);
      await this.#collect();
    });
  }

  /**
   * Frees what no snapshot needs: pages of deleted snapshots, files of writes that a crash cut off. `delete` does it
   * too.
   */
  collect(): Promise<void> {
    return this.#change(() => this.#collect());
  }

  /** Reads everything and names all damage; none found is an empty array. Cost: all bytes of the directory. */
  async verify(): Promise<string[]> {
    await this.#queue;
    await this.#refresh();
    const found = [...this.#unreadable.values()];
    for (const pack of this.#packs.values())
      try {
        await this.#withPack(pack, async (file) => {
          for (let block = 0; block < pack.plain.length; block++)
            await readBlock(file, pack, block).catch((error: unknown) => found.push(damageOf(error)));
        });
      } catch (error) {
        found.push(damageOf(error));
      }
    for (const { id, damage } of await this.list()) {
      if (damage) found.push(damage);
      else {
        const missing = (await this.#readManifest(id)).hashes.filter((one) => !this.#find(one)).length;
        if (missing > 0) found.push(`snapshot ${id} lacks ${missing} pages`);
      }
    }
    return found;
  }

  /** One change at a time, in this process and among all. */
  #change<T>(change: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(() => exclusively(this.#directory, change));
    this.#queue = done.catch(() => undefined);
    return done;
  }

  #manifestPath(id: string): string {
    if (!ID.test(id))
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'snapshot', name: id, of: ' (ids have 64 hex digits)' });
    return join(this.#manifests, `${id}.snapshot`);
  }

  async #readManifest(id: string): Promise<Manifest> {
    const { file, size, modifiedMs } = await openPlain(this.#manifestPath(id)).catch((error: unknown) => {
      if (codeOf(error) !== 'ENOENT') throw error;
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'snapshot', name: id, of: ` in ${this.#directory}` });
    });
    try {
      if (size > wasmSnapshotLimits.maxManifestBytes) throw damaged(`manifest ${id} has ${size} bytes`);
      const bytes = await readExactly(file, 0, size);
      if (hash('sha256', bytes, 'hex') !== id) throw damaged(`manifest ${id} has a wrong checksum`);
      return { ...readManifest(bytes), savedAt: modifiedMs };
    } finally {
      await file.close();
    }
  }

  /** Learns of packs that other processes wrote or removed. */
  async #refresh(): Promise<void> {
    const names = new Set((await namesIn(this.#packFiles, PACK)).map(idOf));
    const gone = [...this.#packs.keys()].filter((name) => !names.has(name));
    if (gone.length > 0) {
      for (const name of gone) this.#packs.delete(name);
      this.#places.clear();
      for (const pack of this.#packs.values()) this.#index(pack);
    }
    this.#unreadable.clear();
    for (const name of names) {
      if (this.#packs.has(name)) continue;
      try {
        this.#add(await readPack(this.#packPath(name), name));
      } catch (error) {
        if (!isMissing(error)) this.#unreadable.set(name, damageOf(error));
      }
    }
  }

  #packPath(name: string): string {
    return join(this.#packFiles, `${name}.pack`);
  }

  #add(pack: Pack): void {
    this.#packs.set(pack.name, pack);
    this.#index(pack);
  }

  #index(pack: Pack): void {
    pack.hashes.forEach((one, page) => {
      this.#places.set(one, { pack, page, next: this.#places.get(one) });
    });
  }

  /** A place of a page that is there and was not found damaged. */
  #find(one: string): Place | undefined {
    let place = this.#places.get(one);
    while (place && (this.#packs.get(place.pack.name) !== place.pack || place.pack.bad.has(blockOf(place.page))))
      place = place.next;
    return place;
  }

  async #withPack<T>(pack: Pack, use: (file: Awaited<ReturnType<typeof openPlain>>['file']) => Promise<T>): Promise<T> {
    const { file } = await openPlain(this.#packPath(pack.name));
    try {
      return await use(file);
    } finally {
      await file.close();
    }
  }

  /** Gives every page of `hashes` to `put`, block by block. A page in a block found damaged is looked for elsewhere. */
  async #fill(hashes: readonly string[], put: (i: number, page: Buffer) => void): Promise<void> {
    let open = hashes.map((_, i) => i);
    while (open.length > 0) {
      const byPack = new Map<Pack, Map<number, { i: number; page: number }[]>>();
      for (const i of open) {
        const place = this.#find(hashes[i]!);
        if (!place) throw this.#pageMissing();
        const blocks = byPack.get(place.pack) ?? new Map<number, { i: number; page: number }[]>();
        byPack.set(place.pack, blocks);
        const block = blockOf(place.page);
        const wanted = blocks.get(block);
        if (wanted) wanted.push({ i, page: place.page });
        else blocks.set(block, [{ i, page: place.page }]);
      }
      open = [];
      for (const [pack, blocks] of byPack)
        try {
          await this.#withPack(pack, async (file) => {
            for (const [block, wanted] of blocks) {
              const pages = await readBlock(file, pack, block);
              for (const { i, page } of wanted) put(i, pageIn(pages, page));
              blocks.delete(block);
            }
          });
        } catch (error) {
          const rest = [...blocks.values()].flat().map(({ i }) => i);
          if (isMissing(error)) await this.#refresh();
          if (rest.some((i) => !this.#find(hashes[i]!))) throw isMissing(error) ? this.#pageMissing() : error;
          open.push(...rest);
        }
    }
  }

  #pageMissing(): Error {
    const [why] = this.#unreadable.values();
    return damaged(why === undefined ? 'a page is missing' : `a page is missing, and ${why}`);
  }

  /** Answers the names of the packs. */
  async #writePacks(pages: ReadonlyMap<string, Uint8Array>): Promise<string[]> {
    if (pages.size === 0) return [];
    const names: string[] = [];
    limit('different pages in a directory', this.#places.size + pages.size, wasmSnapshotLimits.maxPages);
    const hashes = [...pages.keys()];
    for (let first = 0; first < hashes.length; first += wasmSnapshotLimits.maxPackPages) {
      const part = hashes.slice(first, first + wasmSnapshotLimits.maxPackPages);
      const { pack, chunks } = await buildPack(part, (i) => pages.get(part[i]!)!);
      const stored = [...this.#packs.values()].reduce((sum, { offsets }) => sum + offsets.at(-1)!, 0);
      limit('bytes of packs in a directory', stored + pack.offsets.at(-1)!, wasmSnapshotLimits.maxStoreBytes);
      await writeWhole(this.#packFiles, `${pack.name}.pack`, chunks);
      this.#add(pack);
      names.push(pack.name);
    }
    return names;
  }

  async #collect(): Promise<void> {
    for (const directory of [this.#manifests, this.#packFiles]) await removeTemporaries(directory);
    await removeDeadLocks(this.#directory);
    await this.#refresh();
    const live = await this.#livePages();
    const sparse: Pack[] = [];
    const removable: Pack[] = [];
    const rescued = new Map<string, Uint8Array>();
    for (const pack of this.#packs.values()) {
      const needed = pack.hashes.filter((one) => live.has(one) && this.#find(one)?.pack === pack).length;
      if (needed === 0 && !pack.hashes.some((one) => live.has(one) && !this.#find(one))) removable.push(pack);
      else if (needed < pack.hashes.length / 2 && pack.bad.size === 0) sparse.push(pack);
    }
    for (const pack of sparse) {
      const hashes = pack.hashes.filter((one) => live.has(one) && this.#find(one)?.pack === pack);
      if (rescued.size + hashes.length > wasmSnapshotLimits.maxPackPages) break;
      try {
        const kept: [string, Uint8Array][] = [];
        await this.#fill(hashes, (i, page) => kept.push([hashes[i]!, Uint8Array.from(page)]));
        for (const [one, page] of kept) rescued.set(one, page);
        removable.push(pack);
      } catch (error) {
        // damage: the pack stays as it is, for what can still be read of it
        if (codeOf(error) !== 'IGU_WASM_SNAPSHOT') throw error;
      }
    }
    const written = await this.#writePacks(rescued);
    for (const { name } of removable) {
      if (written.includes(name)) continue;
      await rm(this.#packPath(name), { force: true });
      this.#packs.delete(name);
    }
    await syncDirectory(this.#packFiles);
    this.#places.clear();
    for (const pack of this.#packs.values()) this.#index(pack);
  }

  /**
   * Pages of all manifests. A damaged manifest can never be loaded, so that it needs none; an error of the disk ends
   * collecting instead.
   */
  async #livePages(): Promise<Set<string>> {
    const live = new Set<string>();
    for (const name of await namesIn(this.#manifests, MANIFEST))
      try {
        for (const one of (await this.#readManifest(idOf(name))).hashes) live.add(one);
      } catch (error) {
        if (codeOf(error) !== 'IGU_WASM_SNAPSHOT' && !isMissing(error)) throw error;
      }
    return live;
  }
}

function pagesOf({ pages, wasi }: Snapshot): Uint8Array[] {
  const out: Uint8Array[] = [];
  for (let at = 0; at < pages.length; at += SNAPSHOT_PAGE) out.push(pages.subarray(at, at + SNAPSHOT_PAGE));
  for (let at = 0; at < (wasi?.length ?? 0); at += SNAPSHOT_PAGE) {
    const part = wasi!.subarray(at, at + SNAPSHOT_PAGE);
    const page = new Uint8Array(SNAPSHOT_PAGE);
    page.set(part);
    out.push(page);
  }
  return out;
}

function writeManifest(snapshot: Snapshot, hashes: readonly string[]): Buffer {
  const writer = new StateWriter();
  writer.text(MAGIC).u32(snapshot.format);
  writer.nested((inner) => writeState(inner, snapshot));
  writer.bool(snapshot.wasi !== undefined).u32(snapshot.wasi?.length ?? 0);
  writer.bytes(Buffer.from(hashes.join(''), 'latin1'));
  const manifest = writer.finish();
  limit('bytes of a manifest', manifest.length, wasmSnapshotLimits.maxManifestBytes);
  return manifest;
}

function readManifest(bytes: Buffer): Pick<Manifest, 'state' | 'hashes' | 'wasiBytes'> {
  return reading(() => {
    const reader = new StateReader(bytes);
    readHead(reader, MAGIC);
    const state = readState(new StateReader(reader.bytes()));
    const hasWasi = reader.bool();
    const wasiBytes = reader.u32();
    const all = reader.bytes().toString('latin1');
    if (!reader.done || all.length % HASH !== 0) throw damaged('a manifest has another length than it says');
    const hashes: string[] = [];
    for (let at = 0; at < all.length; at += HASH) hashes.push(all.slice(at, at + HASH));
    const held = hashes.length * SNAPSHOT_PAGE;
    if (
      wasiBytes > Math.min(held, wasmSnapshotLimits.maxWasiBytes) ||
      held - wasiBytes > wasmSnapshotLimits.maxMemoryBytes
    )
      throw damaged('a manifest has more pages than a snapshot may hold');
    return { state, hashes, wasiBytes: hasWasi ? wasiBytes : undefined };
  });
}

function limit(what: string, value: number, most: number): void {
  if (value > most)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what,
      value,
      limit: most,
      fix: 'delete snapshots, or use another directory',
    });
}

function isMissing(error: unknown): boolean {
  return codeOf(error) === 'ENOENT' || codeOf(error) === 'IGU_WASM_NOT_FOUND';
}

/** What is wrong, of an error that says damage; any other error is thrown on. */
function damageOf(error: unknown): string {
  if (error instanceof IguanaError && error.code === 'IGU_WASM_SNAPSHOT') return String(error.details.why);
  throw error;
}

function idOf(fileName: string): string {
  return fileName.slice(0, fileName.indexOf('.'));
}
