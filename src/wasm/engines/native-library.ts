/** What every engine that is a native library needs: where the library lies, koffi to call it, and memory that both sides see. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmEngineLimits } from '../../limits.js';
import type { EngineName } from './engine.js';

export type NativeFunction = (...args: (bigint | number | boolean | string | null)[]) => unknown;

export interface LoadedLibrary {
  func(definition: string): NativeFunction;
  symbol(name: string): bigint;
}

/** The part of koffi that is used. Addresses are bigints, a null pointer is null. */
export interface Koffi {
  /** Null: what the process itself has. */
  load(path: string | null): LoadedLibrary;
  address(bytes: Uint8Array): bigint;
  view(address: bigint, bytes: number): ArrayBuffer;
  proto(definition: string): object;
  pointer(type: object): object;
  register(callback: (...args: never[]) => unknown, type: object): bigint;
  unregister(callback: bigint): void;
  config(settings: Record<string, number>): void;
}

/** A library of that engine: `IGUANA_LIB…` names a file of the user's own; else what `iguana engines install` keeps. */
export interface LibraryPlace {
  readonly engine: EngineName;
  readonly version: string;
  readonly variable: string;
  readonly file: string;
}

export const wasmtimePlace: LibraryPlace = {
  engine: 'wasmtime',
  version: '50.0.1',
  variable: 'IGUANA_LIBWASMTIME',
  file:
    process.platform === 'darwin'
      ? 'libwasmtime.dylib'
      : process.platform === 'win32'
        ? 'wasmtime.dll'
        : 'libwasmtime.so',
};

export const wasmerPlace: LibraryPlace = {
  engine: 'wasmer',
  version: '7.4.2',
  variable: 'IGUANA_LIBWASMER',
  file:
    process.platform === 'darwin' ? 'libwasmerc.dylib' : process.platform === 'win32' ? 'wasmerc.dll' : 'libwasmerc.so',
};

export const wasm3Place: LibraryPlace = {
  engine: 'wasm3',
  version: '0.5.0',
  variable: 'IGUANA_WASM3',
  file: 'wasm3.wasm',
};

/** Where `iguana engines install` keeps one engine: `$XDG_CACHE_HOME/iguana/engines/NAME-VERSION`. */
export function engineDirectory(place: LibraryPlace): string {
  const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
  return join(cache, 'iguana', 'engines', `${place.engine}-${place.version}`);
}

/** The engine's file, or undefined when there is none. @throws IguanaError `IGU_WASM_ENGINE_MISSING` when the variable names a file that is not there. */
export function findLibrary(place: LibraryPlace): string | undefined {
  const own = process.env[place.variable];
  if (own) {
    if (existsSync(own)) return own;
    const what = `${place.variable} names ${own}, which is not there`;
    throw new IguanaError('IGU_WASM_ENGINE_MISSING', { engine: place.engine, what, fix: 'correct or unset it' });
  }
  const kept = join(engineDirectory(place), place.file);
  return existsSync(kept) ? kept : undefined;
}

/** @throws IguanaError `IGU_WASM_ENGINE_MISSING` with how to get it. */
export function requireLibrary(place: LibraryPlace): string {
  const found = findLibrary(place);
  if (found !== undefined) return found;
  throw new IguanaError('IGU_WASM_ENGINE_MISSING', {
    engine: place.engine,
    what: `no ${place.file} in ${engineDirectory(place)}`,
    fix: `\`iguana engines install ${place.engine}\` gets it, or ${place.variable} names a file of your own`,
  });
}

/** A call into a library blocks its thread, and a fault in it would end the process that serves everybody. @throws IguanaError `IGU_WASM_UNSUPPORTED` */
export function refuseMainThread(engine: EngineName): void {
  if (!isMainThread || process.env.IGUANA_WASM_CHILD === '1') return;
  throw new IguanaError('IGU_WASM_UNSUPPORTED', {
    what: `engine ${engine} on the main thread`,
    where: '',
    fix: 'make the engine in a worker thread, or in a child process with IGUANA_WASM_CHILD=1',
  });
}

let koffi: Koffi | undefined;

/** koffi, loaded when first asked for. @throws IguanaError `IGU_WASM_ENGINE_MISSING` */
export async function loadKoffi(engine: EngineName): Promise<Koffi> {
  if (koffi) return koffi;
  // a name in a variable: the types of an optional package need not be there to compile
  const name: string = 'koffi';
  try {
    const loaded = (await import(name)) as { default: Koffi };
    loaded.default.config({ sync_stack_size: wasmEngineLimits.libraryStackBytes });
    koffi = loaded.default;
    return koffi;
  } catch (error) {
    const what = `the package koffi, which calls it, cannot be loaded (${messageOf(error)})`;
    const fix = 'npm install koffi';
    throw new IguanaError('IGU_WASM_ENGINE_MISSING', { engine, what, fix }, { cause: error });
  }
}

const RTLD_NOW = 2;
const RTLD_NODELETE = process.platform === 'darwin' ? 0x80 : 0x1000;

/**
 * Loads an engine's library for good. koffi unloads what a thread loaded when the thread ends; but these libraries install fault handlers, and Wasmtime
 * threads of its own, that live as long as the process: the next fault anywhere, V8's own bounds checks included, would jump to where the code was.
 * @throws Error that says why it cannot be loaded
 */
export function loadForGood(koffi: Koffi, path: string): LoadedLibrary {
  const library = koffi.load(path);
  const held =
    process.platform === 'win32'
      ? koffi.load('kernel32.dll').func('void* LoadLibraryW(str16)')(path)
      : koffi.load(null).func('void* dlopen(const char*, int)')(path, RTLD_NOW | RTLD_NODELETE);
  if (held === null) throw new Error(`${path} cannot be kept loaded`);
  return library;
}

/**
 * Memory that a library may read and write by its address; it lives as long as this object, which whoever gives the address away must keep. An ArrayBuffer's
 * memory does not move.
 */
export class NativeBlock {
  readonly address: bigint;
  readonly view: DataView;
  readonly bytes: Uint8Array;

  constructor(library: Koffi, size: number) {
    const memory = new ArrayBuffer(size);
    this.view = new DataView(memory);
    this.bytes = new Uint8Array(memory);
    this.address = library.address(this.bytes);
  }

  /** The pointer at the offset; null for a null pointer. */
  pointer(offset: number): bigint | null {
    const address = this.view.getBigUint64(offset, true);
    return address === 0n ? null : address;
  }
}

/**
 * Frees an instance only when nobody can read its memory any more: a view of foreign memory cannot be taken back, and reading one after it is gone would
 * end the process. So what is closed while views are about lives until the collector has found them all.
 */
export class ViewKeeper {
  #outstanding = 0;
  #release: (() => void) | undefined;

  constructor(readonly koffi: Koffi) {}

  view(address: bigint, bytes: number): Uint8Array {
    const memory = this.koffi.view(address, bytes);
    this.#outstanding++;
    collected.register(memory, this);
    return new Uint8Array(memory);
  }

  releaseWhenUnseen(release: () => void): void {
    this.#release = release;
    if (this.#outstanding === 0) release();
  }

  viewCollected(): void {
    if (--this.#outstanding === 0) this.#release?.();
  }
}

const collected = new FinalizationRegistry<ViewKeeper>((keeper) => keeper.viewCollected());

/** The C library's memcpy: reading a few bytes of a library's memory by it costs a tenth of a view. */
export function memoryCopy(koffi: Koffi): (to: bigint, from: bigint, bytes: number) => void {
  const file = { darwin: 'libSystem.B.dylib', win32: 'msvcrt.dll' }[process.platform as string] ?? 'libc.so.6';
  return koffi.load(file).func('void memcpy(void*, void*, size_t)') as (
    to: bigint,
    from: bigint,
    bytes: number,
  ) => void;
}

/** A copy of bytes for the time of a call. */
export function withBytes<T>(library: Koffi, bytes: Uint8Array, use: (address: bigint, length: number) => T): T {
  const block = new NativeBlock(library, Math.max(1, bytes.length));
  block.bytes.set(bytes);
  try {
    return use(block.address, bytes.length);
  } finally {
    // used after the call too: the collector must not take it before
    block.bytes[0] = 0;
  }
}
