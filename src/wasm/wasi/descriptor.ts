/** What a guest's file descriptors stand for. One file, because the kinds are small and are read against one another. */
import { wasiLimits } from '../../limits.js';
import {
  DIRECTORY_RIGHTS,
  Errno,
  FdFlags,
  FILE_RIGHTS,
  FileType,
  Rights,
  SOCKET_RIGHTS,
  WRITING_RIGHTS,
} from './abi.js';
import type { Directory, DirectoryEntry, FileStat, OpenFile } from './file-system.js';
import type { InputSource, OutputSink } from './streams.js';
import { WasiError } from './wasi-error.js';

/** A connected or listening socket that the host gives to a guest. Methods throw WasiError; they may block. */
export interface WasiSocket {
  accept(flags: number): WasiSocket;
  /** Bytes put at `memory[start…end)`; 0 means the end. `flags`: 1 peek, 2 wait for all. */
  receive(memory: Uint8Array, start: number, end: number, flags: number): number;
  send(memory: Uint8Array, start: number, end: number): number;
  /** 1 receiving, 2 sending, 3 both. */
  shutdown(how: number): void;
  close(): void;
}

export abstract class Descriptor {
  flags = 0;
  /** Name under which the guest was given it at the start. */
  preopen: string | undefined;

  constructor(
    readonly kind: 'input' | 'output' | 'file' | 'directory' | 'socket' | 'stale',
    /** By `FileType`. */
    readonly type: number,
    /** What may be done with it. */
    public rights: number,
    /** What may be done with what is opened through it. */
    public inheriting: number,
  ) {}

  /** Reads at the present position and moves it. */
  read(_memory: Uint8Array, _start: number, _end: number): number {
    throw new WasiError(Errno.BADF);
  }

  write(_memory: Uint8Array, _start: number, _end: number): number {
    throw new WasiError(Errno.BADF);
  }

  /** Bytes that a read would give at once. */
  readable(): number {
    return 0;
  }

  stat(): FileStat {
    return { dev: 0n, ino: 0n, type: this.type, nlink: 1n, size: 0n, atim: 0n, mtim: 0n, ctim: 0n };
  }

  sync(_dataOnly: boolean): void {}

  setTimes(_atim: bigint | undefined, _mtim: bigint | undefined): void {
    throw new WasiError(Errno.BADF);
  }

  setFlags(flags: number): void {
    this.flags = flags;
  }

  close(): void {}
}

const STREAM_RIGHTS =
  Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_SYNC | Rights.FD_DATASYNC | Rights.FD_FILESTAT_GET | Rights.POLL_FD_READWRITE;

export class InputDescriptor extends Descriptor {
  /** Bytes read so far. */
  position = 0;

  constructor(
    private readonly source: Uint8Array | InputSource,
    terminal: boolean,
  ) {
    super('input', terminal ? FileType.CHARACTER_DEVICE : FileType.UNKNOWN, STREAM_RIGHTS | Rights.FD_READ, 0);
  }

  override read(memory: Uint8Array, start: number, end: number): number {
    const { source } = this;
    let count: number;
    if (source instanceof Uint8Array) {
      count = Math.min(end - start, source.length - this.position);
      if (count <= 0) return 0;
      memory.set(source.subarray(this.position, this.position + count), start);
    } else count = source.read(memory, start, end);
    this.position += count;
    return count;
  }

  override readable(): number {
    return this.source instanceof Uint8Array ? Math.max(0, this.source.length - this.position) : 1;
  }
}

export class OutputDescriptor extends Descriptor {
  constructor(
    private readonly sink: OutputSink,
    /** 1 standard output, 2 standard error. */
    readonly stream: 1 | 2,
    terminal: boolean,
  ) {
    super('output', terminal ? FileType.CHARACTER_DEVICE : FileType.UNKNOWN, STREAM_RIGHTS | Rights.FD_WRITE, 0);
  }

  override write(memory: Uint8Array, start: number, end: number): number {
    this.sink.write(memory, start, end);
    return end - start;
  }
}

export class FileDescriptor extends Descriptor {
  offset = 0;

  constructor(
    readonly file: OpenFile,
    /** Of the descriptor through which it was opened: index into the guest's mounts. */
    readonly mount: number,
    rights: number,
    inheriting: number,
  ) {
    super('file', FileType.REGULAR_FILE, rights & FILE_RIGHTS, inheriting & FILE_RIGHTS);
  }

  override read(memory: Uint8Array, start: number, end: number): number {
    const count = this.file.read(memory, start, end, this.offset);
    this.offset += count;
    return count;
  }

  override write(memory: Uint8Array, start: number, end: number): number {
    const position = (this.flags & FdFlags.APPEND) !== 0 ? this.file.size() : this.offset;
    const count = this.writeAt(memory, start, end, position);
    this.offset = position + count;
    return count;
  }

  writeAt(memory: Uint8Array, start: number, end: number, position: number): number {
    const count = this.file.write(memory, start, end, position);
    if ((this.flags & (FdFlags.SYNC | FdFlags.DSYNC)) !== 0) this.file.sync((this.flags & FdFlags.SYNC) === 0);
    return count;
  }

  override readable(): number {
    return Math.max(0, this.file.size() - this.offset);
  }

  override stat(): FileStat {
    return this.file.stat();
  }

  override sync(dataOnly: boolean): void {
    this.file.sync(dataOnly);
  }

  override setTimes(atim: bigint | undefined, mtim: bigint | undefined): void {
    this.file.setTimes(atim, mtim);
  }

  override close(): void {
    this.file.close();
  }

  get writes(): boolean {
    return (this.rights & WRITING_RIGHTS) !== 0;
  }
}

export class DirectoryDescriptor extends Descriptor {
  /** What the listing under way shows; a listing begins anew at cookie 0. The newest `maxListings` are kept. */
  listing: DirectoryEntry[] | undefined;

  constructor(
    readonly directory: Directory,
    readonly mount: number,
    rights: number,
    inheriting: number,
  ) {
    super('directory', FileType.DIRECTORY, rights & DIRECTORY_RIGHTS, inheriting & (DIRECTORY_RIGHTS | FILE_RIGHTS));
  }

  override stat(): FileStat {
    return this.directory.stat();
  }

  override sync(dataOnly: boolean): void {
    this.directory.sync(dataOnly);
  }

  override setTimes(atim: bigint | undefined, mtim: bigint | undefined): void {
    this.directory.setTimes(atim, mtim);
  }

  override close(): void {
    this.listing = undefined;
    this.directory.close();
  }
}

export class SocketDescriptor extends Descriptor {
  constructor(readonly socket: WasiSocket) {
    super('socket', FileType.SOCKET_STREAM, SOCKET_RIGHTS, SOCKET_RIGHTS);
  }

  override read(memory: Uint8Array, start: number, end: number): number {
    return this.socket.receive(memory, start, end, 0);
  }

  override write(memory: Uint8Array, start: number, end: number): number {
    return this.socket.send(memory, start, end);
  }

  override readable(): number {
    return 1;
  }

  override close(): void {
    this.socket.close();
  }
}

/** Was open when a snapshot was taken, and could not be opened again: everything but closing it gives STALE. */
export class StaleDescriptor extends Descriptor {
  constructor() {
    super('stale', FileType.UNKNOWN, 0, 0);
  }
}

/** The guest's descriptors by number. The lowest free number is given next, as POSIX has it. */
export class DescriptorTable {
  private readonly slots: (Descriptor | undefined)[] = [];

  /** @throws WasiError BADF when it is not open, NOTCAPABLE when it lacks any of the rights, STALE. */
  get(fd: number, rights: number): Descriptor {
    const found = this.slots[fd];
    if (found === undefined) throw new WasiError(Errno.BADF);
    if ((found.rights & rights) !== rights)
      throw new WasiError(found.kind === 'stale' ? Errno.STALE : Errno.NOTCAPABLE);
    return found;
  }

  file(fd: number, rights: number): FileDescriptor {
    const found = this.get(fd, 0);
    if (found instanceof FileDescriptor) return this.get(fd, rights) as FileDescriptor;
    if (found instanceof DirectoryDescriptor) throw new WasiError(Errno.ISDIR);
    throw new WasiError(found.kind === 'stale' ? Errno.STALE : Errno.SPIPE);
  }

  directory(fd: number, rights: number): DirectoryDescriptor {
    const found = this.get(fd, 0);
    if (found instanceof DirectoryDescriptor) return this.get(fd, rights) as DirectoryDescriptor;
    throw new WasiError(found.kind === 'stale' ? Errno.STALE : Errno.NOTDIR);
  }

  socket(fd: number, rights: number): SocketDescriptor {
    const found = this.get(fd, 0);
    if (found instanceof SocketDescriptor) return this.get(fd, rights) as SocketDescriptor;
    throw new WasiError(found.kind === 'stale' ? Errno.STALE : Errno.NOTSOCK);
  }

  /** @throws WasiError MFILE when the table is full; what was to be added is closed then. */
  add(descriptor: Descriptor): number {
    let fd = 0;
    while (this.slots[fd] !== undefined) fd++;
    if (fd >= wasiLimits.maxDescriptors) {
      descriptor.close();
      throw new WasiError(Errno.MFILE);
    }
    this.slots[fd] = descriptor;
    return fd;
  }

  set(fd: number, descriptor: Descriptor): void {
    this.slots[fd] = descriptor;
  }

  /** Closes `to` and gives its number to `from`. */
  move(from: number, to: number): void {
    const moved = this.get(from, 0);
    const replaced = this.get(to, 0);
    if (moved === replaced) return;
    this.slots[to] = moved;
    this.slots[from] = undefined;
    replaced.close();
  }

  close(fd: number): void {
    const closed = this.get(fd, 0);
    this.slots[fd] = undefined;
    closed.close();
  }

  closeAll(): void {
    for (const descriptor of this.slots) descriptor?.close();
    this.slots.length = 0;
  }

  *entries(): IterableIterator<[number, Descriptor]> {
    for (let fd = 0; fd < this.slots.length; fd++) {
      const descriptor = this.slots[fd];
      if (descriptor) yield [fd, descriptor];
    }
  }
}
