/** WASI preview 1 for one guest. One file, because what is made from the options must be what is saved and restored. */
import { type Clock, wallClock } from '../../clock.js';
import { IguanaError } from '../../errors.js';
import { wasiLimits } from '../../limits.js';
import { priceOfBytes } from '../gas/prices.js';
import type { RawFunction } from '../types.js';
import { DIRECTORY_RIGHTS, FILE_RIGHTS, PREVIEW1, Rights, SOCKET_RIGHTS, UNSTABLE } from './abi.js';
import { type DeterministicClockOptions, deterministicClock, realClock, type WasiClock } from './clock.js';
import { nowOf, type WasiContext } from './context.js';
import {
  type Descriptor,
  DescriptorTable,
  DirectoryDescriptor,
  FileDescriptor,
  InputDescriptor,
  OutputDescriptor,
  SocketDescriptor,
  StaleDescriptor,
  type WasiSocket,
} from './descriptor.js';
import { fileCalls } from './file-calls.js';
import type { Directory, FileSystem, OpenFile } from './file-system.js';
import { encodeText } from './guest-memory.js';
import { HostFileSystem } from './host-file-system.js';
import { MemoryFileSystem } from './memory-file-system.js';
import { pathCalls } from './path-calls.js';
import { processCalls } from './process-calls.js';
import { realRandom, seededRandom, type WasiRandom } from './random.js';
import { decodeState, encodeState, unreadable, whileReading } from './saved-state.js';
import { BoundedOutput, type InputSource, type OutputSink } from './streams.js';

/** A directory that the guest finds open, from descriptor 3 on, in the order given. */
export type WasiPreopen = {
  /** Its name for the guest, such as `/` or `/data`. */
  readonly guest: string;
  /** `ro`: nothing can be changed through it (EROFS). Default: `ro` for host directories, `rw` for files in memory. */
  readonly mode?: 'ro' | 'rw';
} & (
  | /** A directory of the host. */ { readonly host: string }
  | {
      /** Files in memory: path → content. */
      readonly files: Readonly<Record<string, Uint8Array | string>>;
      /** Bytes (default 64 MiB). */
      readonly maxBytes?: number;
      /** Files, directories and links (default 10,000). */
      readonly maxInodes?: number;
    }
  | /** One made before, to look into it afterwards or to give it to several guests. */ {
      readonly fileSystem: FileSystem;
    }
);

/** What a guest is given. Nothing by default: no files, no environment, no input; output is kept up to 1 MiB. */
export interface WasiOptions {
  /** The first is the program's name (default none). */
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Standard input (default empty). */
  readonly stdin?: Uint8Array | string | InputSource;
  /** Default: a `BoundedOutput` of 1 MiB each, in `Wasi.stdout` and `Wasi.stderr`. */
  readonly stdout?: OutputSink;
  readonly stderr?: OutputSink;
  readonly preopens?: readonly WasiPreopen[];
  /** `real` (default), or virtual time that depends only on what the guest does. */
  readonly clock?: 'real' | DeterministicClockOptions;
  /** The host's time of day where `clock` is real (default: the wall clock). */
  readonly hostClock?: Clock;
  /** `real` (default: the host's cryptographic generator), or the same numbers for the same seed. */
  readonly random?: 'real' | { readonly seed: number };
  /** Follow the preopened directories, in the order given (default none: the guest has no network). */
  readonly sockets?: readonly WasiSocket[];
  /**
   * Waits so many ms, at most `wasiLimits.maxSleepMs`, and blocks the thread meanwhile; answers false when the wait was ended early, which the guest sees
   * as EINTR. Default: waits with `Atomics.wait`, which ends only with its worker.
   */
  readonly sleep?: (ms: number) => boolean;
  /** The standard streams say that they are a terminal: C libraries then write line by line (default false). */
  readonly terminal?: boolean;
}

export type WasiModuleName = 'wasi_snapshot_preview1' | 'wasi_unstable';

interface GuestMount {
  readonly guest: string;
  readonly fileSystem: FileSystem;
  readonly readOnly: boolean;
  root: Directory;
}

/**
 * All functions of WASI preview 1 over files in memory or directories of the host that nothing leads out of.
 *
 * Use: `new Wasi(options)`, instantiate with `imports()`, `bind` the memory, call `_start`; `WasiExit` is thrown when the guest ends itself.
 * Cost: about 50 ns for a small write to a `BoundedOutput`, 100 ns for a look at the clock (bench/results/wasm-wasi.md); a path on the host costs one system call a
 * component and three to open a file.
 * Errors: IGU_USAGE for arguments with zero bytes, IGU_WASM_LIMIT beyond a bound, IGU_FILE_MISSING for a host directory that is not there. A guest's mistakes
 * are its own: it gets an errno, EFAULT for addresses outside of its memory.
 * Source: WASI snapshot preview 1 (witx), POSIX.1-2017 for what witx leaves open.
 */
export class Wasi {
  /** What the guest wrote, unless the options gave a sink. */
  readonly stdout: BoundedOutput | undefined;
  readonly stderr: BoundedOutput | undefined;
  private readonly table = new DescriptorTable();
  private readonly mounts: GuestMount[] = [];
  private readonly clock: WasiClock;
  private readonly random: WasiRandom;
  private readonly context: Omit<WasiContext, 'version'>;
  private memory: (() => Uint8Array) | undefined;
  /** Gas that calls cost so far for the bytes they moved. */
  gasOfBytes = 0;
  private charge: ((units: number) => void) | undefined;
  private readonly streams: readonly [InputDescriptor, OutputDescriptor, OutputDescriptor];

  constructor(options: WasiOptions = {}) {
    const { clock = 'real', random = 'real', terminal = false } = options;
    this.clock = clock === 'real' ? realClock(options.hostClock ?? wallClock) : deterministicClock(clock);
    this.random = random === 'real' ? realRandom : seededRandom(random.seed);
    const args = (options.args ?? []).map((text) => zeroEnded(text, 'argument'));
    const environment = Object.entries(options.env ?? {}).map(([key, value]) => {
      if (key === '' || key.includes('='))
        throw new IguanaError('IGU_USAGE', { what: `"${key}" cannot be the name of an environment variable` });
      return zeroEnded(`${key}=${value}`, 'environment variable');
    });
    const bytes = [...args, ...environment].reduce((sum, text) => sum + text.length, 0);
    if (bytes > wasiLimits.maxArgumentBytes)
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: 'size of arguments and environment in bytes',
        value: bytes,
        limit: wasiLimits.maxArgumentBytes,
        fix: 'give large data as standard input or as a file',
      });
    this.stdout = options.stdout ? undefined : new BoundedOutput();
    this.stderr = options.stderr ? undefined : new BoundedOutput();
    const stdin = typeof options.stdin === 'string' ? encodeText(options.stdin) : (options.stdin ?? new Uint8Array(0));
    this.streams = [
      new InputDescriptor(stdin, terminal),
      new OutputDescriptor(options.stdout ?? this.stdout!, 1, terminal),
      new OutputDescriptor(options.stderr ?? this.stderr!, 2, terminal),
    ];
    for (const [fd, stream] of this.streams.entries()) this.table.set(fd, stream);
    try {
      for (const preopen of options.preopens ?? []) this.addPreopen(preopen);
    } catch (error) {
      this.close();
      throw error;
    }
    for (const socket of options.sockets ?? []) this.table.add(new SocketDescriptor(socket));
    this.context = {
      memory: () => this.memory?.() ?? noMemory(),
      pay: (bytes) => {
        const units = priceOfBytes(bytes);
        if (units <= 0) return;
        this.gasOfBytes += units;
        this.charge?.(units);
      },
      table: this.table,
      clock: this.clock,
      random: this.random,
      sleep: options.sleep ?? blockThread,
      args,
      environment,
    };
  }

  /**
   * The functions for one import module. `wasi_unstable` is preview 1 before its last changes: `fd_seek` counts its whence otherwise, filestats have 56 bytes
   * with a link count of 32 bits, clock subscriptions begin with an identifier.
   */
  imports(module: WasiModuleName = 'wasi_snapshot_preview1'): Record<string, RawFunction> {
    const context: WasiContext = {
      ...this.context,
      version: module === 'wasi_unstable' ? UNSTABLE : PREVIEW1,
    };
    const calls = { ...fileCalls(context), ...pathCalls(context), ...processCalls(context) };
    return calls as unknown as Record<string, RawFunction>;
  }

  /**
   * @param memory where the guest's memory is, asked anew in each call since it may grow. A getter that keeps its view while the buffer lives saves 50 ns a call.
   * @param charge takes gas for bytes that calls move, and throws to end the guest when there is not so much (default: nothing is charged)
   */
  bind(memory: () => Uint8Array, charge?: (units: number) => void): void {
    this.memory = memory;
    this.charge = charge;
  }

  /**
   * The state for a snapshot: open descriptors with their places, files in memory, virtual time, the generator, how far standard input was read. Not what was
   * written to the standard streams: that belongs to whoever took it.
   */
  save(): Uint8Array<ArrayBuffer> {
    const blobs: Uint8Array[] = [];
    const fileSystems = [...new Set(this.mounts.map((mount) => mount.fileSystem))];
    const saved: SavedWasi = {
      clock: this.clock.save(),
      random: this.random.save(),
      stdin: this.streams[0].position,
      mounts: this.mounts.map(({ guest, readOnly, fileSystem }) => {
        const state = fileSystem.save && fileSystems.indexOf(fileSystem);
        return { guest, readOnly, ...(state !== undefined && { files: state }) };
      }),
      descriptors: [...this.table.entries()].map(([fd, descriptor]) => saveDescriptor(fd, descriptor)),
    };
    for (const fileSystem of fileSystems) blobs.push(fileSystem.save?.() ?? new Uint8Array(0));
    return encodeState(saved, blobs);
  }

  /**
   * Puts the guest back into a saved state. The preopens must be those it was saved with, by name and mode; host directories are opened again by name with the
   * same checks, and what is not there any more gives the guest ESTALE, sockets too.
   * @returns the descriptors that are stale.
   * @throws IguanaError `IGU_WASM_SNAPSHOT` for a state that does not fit; the guest then has no descriptors.
   */
  restore(state: Uint8Array): number[] {
    return whileReading(() => this.putBack(state));
  }

  private putBack(state: Uint8Array): number[] {
    const { json, blobs } = decodeState<SavedWasi>(state);
    checkSaved(json);
    const differs = json.mounts.findIndex(({ guest, readOnly }, i) => {
      const mount = this.mounts[i];
      return mount?.guest !== guest || mount.readOnly !== readOnly;
    });
    if (differs >= 0 || json.mounts.length !== this.mounts.length)
      throw unreadable(`its preopens are ${json.mounts.map((m) => m.guest).join(', ') || 'none'}, in this order`);
    this.table.closeAll();
    const fileSystems = [...new Set(this.mounts.map((mount) => mount.fileSystem))];
    for (const [i, fileSystem] of fileSystems.entries()) if (blobs[i]?.length) fileSystem.restore?.(blobs[i]);
    for (const mount of this.mounts) {
      mount.root.close();
      mount.root = mount.fileSystem.root(mount.readOnly);
    }
    this.clock.restore(json.clock);
    this.random.restore(json.random);
    this.streams[0].position = json.stdin;
    const stale: number[] = [];
    for (const saved of json.descriptors) {
      const descriptor = this.reopen(saved);
      if (descriptor.kind === 'stale') stale.push(saved.fd);
      else {
        descriptor.rights = saved.rights;
        descriptor.inheriting = saved.inheriting;
      }
      descriptor.flags = saved.flags;
      descriptor.preopen = saved.preopen;
      this.table.set(saved.fd, descriptor);
    }
    return stale;
  }

  /** A call was cut off by its time, in the midst of one of these functions maybe: closes what it had opened on its way and nobody holds. */
  afterCut(): void {
    const held = [...this.table.entries()].flatMap(([, descriptor]) => nodeOf(descriptor) ?? []);
    for (const { root } of this.mounts) root.closeOthers?.(held);
  }

  /** Closes all that the guest holds of the host. Files in memory stay. */
  close(): void {
    this.table.closeAll();
    for (const mount of this.mounts) mount.root.close();
    this.mounts.length = 0;
  }

  private addPreopen(preopen: WasiPreopen): void {
    const { guest } = preopen;
    if (guest === '' || guest.includes('\0') || encodeText(guest).length > wasiLimits.maxPathBytes)
      throw new IguanaError('IGU_USAGE', { what: `"${guest}" cannot be the name of a directory for the guest` });
    const fileSystem =
      'fileSystem' in preopen
        ? preopen.fileSystem
        : 'host' in preopen
          ? new HostFileSystem(preopen.host)
          : new MemoryFileSystem({ ...preopen, now: () => nowOf(this.clock) });
    const readOnly = (preopen.mode ?? ('host' in preopen ? 'ro' : 'rw')) === 'ro';
    const root = fileSystem.root(readOnly);
    this.mounts.push({ guest, fileSystem, readOnly, root });
    const descriptor = new DirectoryDescriptor(
      root.duplicate(),
      this.mounts.length - 1,
      DIRECTORY_RIGHTS,
      DIRECTORY_RIGHTS | FILE_RIGHTS,
    );
    descriptor.preopen = guest;
    this.table.add(descriptor);
  }

  private reopen(saved: SavedDescriptor): Descriptor {
    if (saved.kind === 'input') return this.streams[0];
    if (saved.kind === 'output') return this.streams[saved.stream ?? 1];
    const mount = this.mounts[saved.mount ?? -1];
    if (!mount || saved.place === undefined) return new StaleDescriptor();
    const write = saved.write ?? false;
    const read = !write || (saved.rights & Rights.FD_READ) !== 0;
    const node = mount.root.reopen(saved.place, { read, write });
    if (node?.isDirectory === (saved.kind === 'directory')) {
      if (node.isDirectory) return new DirectoryDescriptor(node, saved.mount ?? 0, saved.rights, saved.inheriting);
      const file = new FileDescriptor(node, saved.mount ?? 0, saved.rights, saved.inheriting);
      file.offset = saved.offset ?? 0;
      return file;
    }
    node?.close();
    return new StaleDescriptor();
  }
}

interface SavedWasi {
  readonly clock: number;
  readonly random: readonly number[];
  readonly stdin: number;
  readonly mounts: readonly { readonly guest: string; readonly readOnly: boolean; readonly files?: number }[];
  readonly descriptors: readonly SavedDescriptor[];
}

interface SavedDescriptor {
  readonly fd: number;
  readonly kind: Descriptor['kind'];
  readonly rights: number;
  readonly inheriting: number;
  readonly flags: number;
  readonly preopen?: string;
  readonly stream?: 1 | 2;
  readonly mount?: number;
  readonly place?: string;
  readonly offset?: number;
  readonly write?: boolean;
}

/** @throws IguanaError `IGU_WASM_SNAPSHOT` for numbers that no guest can have; rights and places are held to at their use. */
function checkSaved({ clock, random, stdin, descriptors }: SavedWasi): void {
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  const all = DIRECTORY_RIGHTS | FILE_RIGHTS | SOCKET_RIGHTS;
  const numbers = new Set(descriptors.map(({ fd }) => fd));
  const fits =
    Number.isFinite(clock) &&
    isCount(stdin) &&
    random.every((word) => isCount(word)) &&
    numbers.size === descriptors.length &&
    descriptors.every(
      ({ fd, rights, inheriting, flags, offset = 0 }) =>
        isCount(fd) &&
        fd < wasiLimits.maxDescriptors &&
        isCount(offset) &&
        (rights & ~all) === 0 &&
        (inheriting & ~all) === 0 &&
        (flags & ~31) === 0,
    );
  if (!fits) throw unreadable('a number in its WASI state is out of range');
}

function nodeOf(descriptor: Descriptor): Directory | OpenFile | undefined {
  if (descriptor instanceof FileDescriptor) return descriptor.file;
  return descriptor instanceof DirectoryDescriptor ? descriptor.directory : undefined;
}

function saveDescriptor(fd: number, descriptor: Descriptor): SavedDescriptor {
  const { kind, rights, inheriting, flags, preopen } = descriptor;
  const place = nodeOf(descriptor)?.place();
  return {
    fd,
    kind,
    rights,
    inheriting,
    flags,
    ...(preopen !== undefined && { preopen }),
    ...(place !== undefined && { place }),
    ...(descriptor instanceof OutputDescriptor && { stream: descriptor.stream }),
    ...(descriptor instanceof DirectoryDescriptor && { mount: descriptor.mount }),
    ...(descriptor instanceof FileDescriptor && {
      mount: descriptor.mount,
      offset: descriptor.offset,
      write: descriptor.writes,
    }),
  };
}

function zeroEnded(text: string, what: string): Uint8Array {
  if (text.includes('\0')) throw new IguanaError('IGU_USAGE', { what: `${what} "${text}" has a zero byte` });
  return encodeText(`${text}\0`);
}

function noMemory(): never {
  throw new IguanaError('IGU_WASM_LINK', {
    module: 'wasi_snapshot_preview1',
    name: 'memory',
    what: 'was called before the memory was bound',
  });
}

const never = new Int32Array(new SharedArrayBuffer(4));

function blockThread(ms: number): boolean {
  Atomics.wait(never, 0, 0, ms);
  return true;
}
