/**
 * A file system that lives in memory. One file, because files, directories and links are one table of inodes under one account of bytes.
 */
import { IguanaError } from '../../errors.js';
import { wasiLimits } from '../../limits.js';
import { Errno, FileType } from './abi.js';
import type { Access, Directory, DirectoryEntry, FileStat, FileSystem, Mount, OpenFile } from './file-system.js';
import { decodeState, encodeState, unreadable } from './saved-state.js';
import { WasiError } from './wasi-error.js';

interface Inode {
  readonly ino: number;
  /** By `FileType`. */
  readonly type: number;
  nlink: number;
  atim: bigint;
  mtim: bigint;
  ctim: bigint;
  /** Handles that are open; an inode without names lives until the last is closed. */
  open: number;
  /** A file's; the rest of `data` is room to grow. */
  size: number;
  data: Uint8Array<ArrayBuffer>;
  /** A directory's. */
  readonly entries: Map<string, Inode>;
  parent: Inode | undefined;
  /** A symbolic link's. */
  readonly target: string;
}

export interface MemoryFileSystemOptions {
  /** Content to begin with: path (with slashes, from the top) → bytes or text. Directories on the way are made. */
  readonly files?: Readonly<Record<string, Uint8Array | string>>;
  /** Bytes of all files and link texts together (default 64 MiB). */
  readonly maxBytes?: number;
  /** Files, directories and links (default 10,000), and as many names. */
  readonly maxInodes?: number;
  /** Nanoseconds since 1970 for the files' times (default: always 0, so that equal work leaves equal bytes). */
  readonly now?: () => bigint;
}

const NOTHING = new Uint8Array(0);
/** Bytes. */
const LEAST_ROOM = 64;

/**
 * Files, directories, symbolic and hard links in memory, as POSIX has them; reading leaves a file's access time, as `noatime` does.
 *
 * Cost: a read or write copies once; a growing file doubles its room, so memory is at most twice `maxBytes`.
 * Errors: NOSPC (and nothing written) beyond `maxBytes` or `maxInodes`.
 */
export class MemoryFileSystem implements FileSystem {
  readonly maxBytes: number;
  readonly maxInodes: number;
  now: () => bigint;
  /** Of files and link texts, without room kept for growth. */
  usedBytes = 0;
  private top: Inode;
  private next = 1;
  private names = 0;
  /** All that a name or an open handle leads to, by number. */
  private inodes = new Map<number, Inode>();

  constructor(options: MemoryFileSystemOptions = {}) {
    this.maxBytes = options.maxBytes ?? wasiLimits.maxFileSystemBytes;
    this.maxInodes = options.maxInodes ?? wasiLimits.maxInodes;
    this.now = options.now ?? (() => 0n);
    this.top = this.inode(FileType.DIRECTORY);
    this.top.nlink = 2;
    for (const [path, content] of Object.entries(options.files ?? {})) this.put(path, content);
  }

  /** Of the host, room kept for growth included. Cost: looks at every file. */
  get heldBytes(): number {
    let bytes = 0;
    for (const { data } of this.inodes.values()) bytes += data.length;
    return bytes;
  }

  root(readOnly: boolean): Directory {
    return new MemoryDirectory(this, this.top, { readOnly });
  }

  /** Content of the file at a path from the top, links not followed; undefined when no file is there. The bytes are a copy. */
  get(path: string): Uint8Array<ArrayBuffer> | undefined {
    let at: Inode | undefined = this.top;
    for (const part of path.split('/')) if (part !== '' && part !== '.') at = at?.entries.get(part);
    return at?.type === FileType.REGULAR_FILE ? at.data.slice(0, at.size) : undefined;
  }

  /** Writes a file at a path from the top, directories made on the way. */
  put(path: string, content: Uint8Array | string): void {
    const parts = path.split('/').filter((part) => part !== '' && part !== '.');
    if (parts.length === 0 || !parts.every(isName))
      throw new IguanaError('IGU_USAGE', { what: `"${path}" names no file of an in-memory file system` });
    const name = parts.pop()!;
    try {
      let directory = this.root(false);
      for (const part of parts) {
        if (!directory.lookup(part)) directory.createDirectory(part);
        const next = directory.enter(part);
        if (typeof next === 'string') throw new WasiError(Errno.LOOP);
        directory.close();
        directory = next;
      }
      const bytes = typeof content === 'string' ? Buffer.from(content) : content;
      const file = directory.openFile(name, { read: true, write: true }, true, false);
      file.setSize(0);
      file.write(bytes, 0, bytes.length, 0);
      file.close();
      directory.close();
    } catch (cause) {
      if (cause instanceof WasiError && cause.errno === Errno.NOSPC)
        throw new IguanaError('IGU_WASM_LIMIT', {
          what: `content of an in-memory file system with ${path}, bytes`,
          value: this.usedBytes + content.length,
          limit: this.maxBytes,
          fix: 'give fewer or smaller files, or raise maxBytes or maxInodes',
        });
      throw cause;
    }
  }

  inode(type: number, target = ''): Inode {
    if (this.inodes.size >= this.maxInodes) throw new WasiError(Errno.NOSPC);
    this.charge(Buffer.byteLength(target));
    const now = this.now();
    const inode: Inode = {
      ino: this.next++,
      type,
      nlink: 0,
      atim: now,
      mtim: now,
      ctim: now,
      open: 0,
      size: Buffer.byteLength(target),
      data: NOTHING,
      entries: new Map(),
      parent: undefined,
      target,
    };
    this.inodes.set(inode.ino, inode);
    return inode;
  }

  charge(bytes: number): void {
    if (this.usedBytes + bytes > this.maxBytes) throw new WasiError(Errno.NOSPC);
    this.usedBytes += bytes;
  }

  resize(inode: Inode, size: number): void {
    this.charge(size - inode.size);
    // Room that is not used is the host's: no file has more than twice its size of it.
    if (size < inode.size && inode.data.length > Math.max(2 * size, LEAST_ROOM)) inode.data = inode.data.slice(0, size);
    else if (size < inode.size) inode.data.fill(0, size, inode.size);
    else if (size > inode.data.length) {
      const room = Math.max(size, Math.min(inode.data.length * 2, this.maxBytes), LEAST_ROOM);
      const grown = new Uint8Array(room);
      grown.set(inode.data.subarray(0, inode.size));
      inode.data = grown;
    }
    inode.size = size;
  }

  checkRoomForName(): void {
    if (this.names >= this.maxInodes) throw new WasiError(Errno.NOSPC);
  }

  /** Puts `inode` under a name that is free. */
  enter(directory: Inode, name: string, inode: Inode): void {
    this.names++;
    directory.entries.set(name, inode);
    if (inode.type === FileType.DIRECTORY) {
      inode.parent = directory;
      inode.nlink = 2;
      for (const child of inode.entries.values()) if (child.type === FileType.DIRECTORY) inode.nlink++;
      directory.nlink++;
    } else inode.nlink++;
    this.changed(directory);
    inode.ctim = directory.mtim;
  }

  leave(directory: Inode, name: string): void {
    const inode = directory.entries.get(name)!;
    this.names--;
    directory.entries.delete(name);
    if (inode.type === FileType.DIRECTORY) {
      inode.parent = undefined;
      inode.nlink = 0;
      directory.nlink--;
    } else inode.nlink--;
    this.changed(directory);
    inode.ctim = directory.mtim;
    this.forget(inode);
  }

  changed(inode: Inode): void {
    inode.mtim = this.now();
    inode.ctim = inode.mtim;
  }

  /** A name leads to it. */
  isAlive(inode: Inode): boolean {
    return inode.type === FileType.DIRECTORY ? inode.parent !== undefined || inode === this.top : inode.nlink > 0;
  }

  private forget(inode: Inode): void {
    if (inode.open > 0 || this.isAlive(inode)) return;
    // One of before a restore is not counted any more.
    if (this.inodes.get(inode.ino) !== inode) return;
    this.inodes.delete(inode.ino);
    this.usedBytes -= inode.size;
    inode.size = 0;
    inode.data = NOTHING;
  }

  hold(inode: Inode): void {
    inode.open++;
  }

  release(inode: Inode): void {
    inode.open--;
    this.forget(inode);
  }

  find(ino: number): Inode | undefined {
    return this.inodes.get(ino);
  }

  /** Equal content gives equal bytes. */
  save(): Uint8Array<ArrayBuffer> {
    const blobs: Uint8Array[] = [];
    const inodes = [...this.inodes.values()].map((inode) => {
      if (inode.type === FileType.REGULAR_FILE) blobs.push(inode.data.subarray(0, inode.size));
      return {
        ino: inode.ino,
        type: inode.type,
        nlink: inode.nlink,
        size: inode.size,
        times: [String(inode.atim), String(inode.mtim), String(inode.ctim)] as const,
        ...(inode.type === FileType.SYMBOLIC_LINK && { target: inode.target }),
        ...(inode.type === FileType.DIRECTORY && {
          entries: [...inode.entries].map(([name, child]) => [name, child.ino] as const),
        }),
      };
    });
    return encodeState<SavedFiles>({ top: this.top.ino, next: this.next, inodes }, blobs);
  }

  /** Handles opened before lead to the old files; whoever restores opens them anew. */
  restore(state: Uint8Array): void {
    const { json, blobs } = decodeState<SavedFiles>(state);
    const made = new Map<number, Inode>();
    let bytes = 0;
    let names = 0;
    let blob = 0;
    for (const { ino, type, nlink, size, times, target = '' } of json.inodes) {
      const data = type === FileType.REGULAR_FILE ? new Uint8Array(blobs[blob++] ?? NOTHING) : NOTHING;
      const held = type === FileType.SYMBOLIC_LINK ? Buffer.byteLength(target) : data.length;
      if (!kinds.has(type) || held !== size) throw broken('a file is cut short');
      if (made.has(ino) || !Number.isSafeInteger(ino) || !(ino < json.next)) throw broken('two files have one number');
      bytes += size;
      made.set(ino, {
        ino,
        type,
        nlink,
        atim: BigInt.asUintN(64, BigInt(times[0])),
        mtim: BigInt.asUintN(64, BigInt(times[1])),
        ctim: BigInt.asUintN(64, BigInt(times[2])),
        open: 0,
        size,
        data,
        entries: new Map(),
        parent: undefined,
        target,
      });
    }
    for (const saved of json.inodes) {
      const inode = made.get(saved.ino)!;
      for (const [name, child] of saved.entries ?? []) {
        const to = made.get(child);
        if (!to || !isName(name) || inode.entries.has(name) || to.parent || inode.type !== FileType.DIRECTORY)
          throw broken(`${name} leads nowhere`);
        names++;
        inode.entries.set(name, to);
        if (to.type === FileType.DIRECTORY) to.parent = inode;
      }
    }
    const top = made.get(json.top);
    if (top?.type !== FileType.DIRECTORY || top.parent) throw broken('it has no top directory');
    checkLinks(top, made.values());
    for (const [what, value, limit] of [
      ['bytes of a saved file system', bytes, this.maxBytes],
      ['inodes of a saved file system', Math.max(made.size, names), this.maxInodes],
    ] as const)
      if (value > limit)
        throw new IguanaError('IGU_WASM_LIMIT', {
          what,
          value,
          limit,
          fix: 'restore with the bounds it was saved under',
        });
    this.top = top;
    // Those without a name were open: whoever restores opens them again.
    this.inodes = made;
    this.next = json.next;
    this.usedBytes = bytes;
    this.names = names;
  }
}

const kinds: ReadonlySet<number> = new Set([FileType.REGULAR_FILE, FileType.DIRECTORY, FileType.SYMBOLIC_LINK]);

/** Whether a path can have it as a component that is entered. */
function isName(text: string): boolean {
  const bytes = Buffer.byteLength(text);
  return bytes > 0 && bytes <= wasiLimits.maxNameBytes && !/^\.\.?$|[/\0]/.test(text);
}

/** The directories are one tree, and every count of links is the number of names. */
function checkLinks(top: Inode, all: Iterable<Inode>): void {
  const names = new Map<Inode, number>([[top, 2]]);
  const waiting = [top];
  for (let at = waiting.pop(); at; at = waiting.pop())
    for (const child of at.entries.values()) {
      if (child.type !== FileType.DIRECTORY) names.set(child, (names.get(child) ?? 0) + 1);
      else {
        names.set(child, 2);
        names.set(at, names.get(at)! + 1);
        waiting.push(child);
      }
    }
  for (const inode of all)
    if (inode.nlink !== (names.get(inode) ?? 0) || (!names.has(inode) && inode.entries.size > 0))
      throw broken('its directories are no tree');
}

function broken(what: string): IguanaError {
  return unreadable(`state of an in-memory file system: ${what}`);
}

interface SavedFiles {
  readonly top: number;
  readonly next: number;
  readonly inodes: readonly {
    readonly ino: number;
    readonly type: number;
    readonly nlink: number;
    readonly size: number;
    readonly times: readonly [string, string, string];
    readonly target?: string;
    readonly entries?: readonly (readonly [string, number])[];
  }[];
}

abstract class MemoryNode {
  private closed = false;

  constructor(
    protected readonly files: MemoryFileSystem,
    readonly inode: Inode,
    readonly mount: Mount,
  ) {
    files.hold(inode);
  }

  stat(): FileStat {
    return statOf(this.inode);
  }

  setTimes(atim: bigint | undefined, mtim: bigint | undefined): void {
    this.checkWritable();
    setTimes(this.files, this.inode, atim, mtim);
  }

  sync(): void {}

  place(): string {
    return String(this.inode.ino);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.files.release(this.inode);
  }

  protected checkWritable(): void {
    if (this.mount.readOnly) throw new WasiError(Errno.ROFS);
  }
}

class MemoryFile extends MemoryNode implements OpenFile {
  readonly isDirectory = false;

  read(memory: Uint8Array, start: number, end: number, position: number): number {
    const { inode } = this;
    const count = Math.max(0, Math.min(end - start, inode.size - position));
    if (count > 0) copy(inode.data, position, position + count, memory, start);
    return count;
  }

  write(memory: Uint8Array, start: number, end: number, position: number): number {
    this.checkWritable();
    if (end === start) return 0;
    const { inode } = this;
    const after = position + end - start;
    if (after > inode.size) this.files.resize(inode, after);
    copy(memory, start, end, inode.data, position);
    this.files.changed(inode);
    return end - start;
  }

  size(): number {
    return this.inode.size;
  }

  setSize(size: number): void {
    this.checkWritable();
    this.files.resize(this.inode, size);
    this.files.changed(this.inode);
  }

  allocate(size: number): void {
    this.checkWritable();
    if (size > this.inode.size) this.setSize(size);
  }
}

class MemoryDirectory extends MemoryNode implements Directory {
  readonly isDirectory = true;

  enter(name: string): Directory | string {
    const inode = this.inode.entries.get(name);
    if (!inode) throw new WasiError(Errno.NOENT);
    if (inode.type === FileType.SYMBOLIC_LINK) return inode.target;
    if (inode.type !== FileType.DIRECTORY) throw new WasiError(Errno.NOTDIR);
    return new MemoryDirectory(this.files, inode, this.mount);
  }

  linkTarget(name: string): string | undefined {
    const inode = this.inode.entries.get(name);
    return inode?.type === FileType.SYMBOLIC_LINK ? inode.target : undefined;
  }

  lookup(name: string): FileStat | undefined {
    const inode = this.inode.entries.get(name);
    return inode && statOf(inode);
  }

  openFile(name: string, access: Access, create: boolean, exclusive: boolean): OpenFile {
    let inode = this.inode.entries.get(name);
    if (!inode) {
      if (!create) throw new WasiError(Errno.NOENT);
      inode = this.add(name, FileType.REGULAR_FILE);
    } else {
      if (create && exclusive) throw new WasiError(Errno.EXIST);
      if (inode.type === FileType.SYMBOLIC_LINK) throw new WasiError(Errno.LOOP);
      if (inode.type === FileType.DIRECTORY) throw new WasiError(Errno.ISDIR);
      if (access.write) this.checkWritable();
    }
    return new MemoryFile(this.files, inode, this.mount);
  }

  createDirectory(name: string): void {
    this.add(name, FileType.DIRECTORY);
  }

  createLink(target: string, name: string): void {
    this.add(name, FileType.SYMBOLIC_LINK, target);
  }

  link(name: string, to: Directory, newName: string): void {
    this.checkWritable();
    const other = this.sameMount(to);
    const inode = this.existing(name);
    if (other.inode.entries.has(newName)) throw new WasiError(Errno.EXIST);
    if (inode.type === FileType.DIRECTORY) throw new WasiError(Errno.PERM);
    other.checkAlive();
    this.files.checkRoomForName();
    this.files.enter(other.inode, newName, inode);
  }

  rename(name: string, to: Directory, newName: string): void {
    this.checkWritable();
    const other = this.sameMount(to);
    const inode = this.existing(name);
    other.checkAlive();
    const isDirectory = inode.type === FileType.DIRECTORY;
    for (let at: Inode | undefined = other.inode; isDirectory && at; at = at.parent)
      if (at === inode) throw new WasiError(Errno.INVAL);
    const replaced = other.inode.entries.get(newName);
    if (replaced === inode) return;
    if (replaced) {
      const onDirectory = replaced.type === FileType.DIRECTORY;
      for (let at: Inode | undefined = this.inode; onDirectory && at; at = at.parent)
        if (at === replaced) throw new WasiError(Errno.NOTEMPTY);
      if (isDirectory && !onDirectory) throw new WasiError(Errno.NOTDIR);
      if (!isDirectory && onDirectory) throw new WasiError(Errno.ISDIR);
      if (replaced.entries.size > 0) throw new WasiError(Errno.NOTEMPTY);
      this.files.leave(other.inode, newName);
    }
    this.files.hold(inode);
    this.files.leave(this.inode, name);
    this.files.enter(other.inode, newName, inode);
    this.files.release(inode);
  }

  unlink(name: string): void {
    this.checkWritable();
    if (this.existing(name).type === FileType.DIRECTORY) throw new WasiError(Errno.ISDIR);
    this.files.leave(this.inode, name);
  }

  removeDirectory(name: string): void {
    this.checkWritable();
    const inode = this.existing(name);
    if (inode.type !== FileType.DIRECTORY) throw new WasiError(Errno.NOTDIR);
    if (inode.entries.size > 0) throw new WasiError(Errno.NOTEMPTY);
    this.files.leave(this.inode, name);
  }

  setTimesOf(name: string, atim: bigint | undefined, mtim: bigint | undefined): void {
    this.checkWritable();
    setTimes(this.files, this.existing(name), atim, mtim);
  }

  list(): DirectoryEntry[] {
    return [...this.inode.entries]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, { ino, type }]) => ({ name, ino: BigInt(ino), type }));
  }

  duplicate(): Directory {
    return new MemoryDirectory(this.files, this.inode, this.mount);
  }

  reopen(place: string): Directory | OpenFile | undefined {
    const inode = this.files.find(Number(place));
    if (inode?.type === FileType.DIRECTORY) return new MemoryDirectory(this.files, inode, this.mount);
    return inode?.type === FileType.REGULAR_FILE ? new MemoryFile(this.files, inode, this.mount) : undefined;
  }

  private existing(name: string): Inode {
    const inode = this.inode.entries.get(name);
    if (!inode) throw new WasiError(Errno.NOENT);
    return inode;
  }

  private add(name: string, type: number, target = ''): Inode {
    if (this.inode.entries.has(name)) throw new WasiError(Errno.EXIST);
    this.checkWritable();
    this.checkAlive();
    this.files.checkRoomForName();
    const inode = this.files.inode(type, target);
    this.files.enter(this.inode, name, inode);
    return inode;
  }

  /** In a directory that was removed nothing can be made. */
  private checkAlive(): void {
    if (!this.files.isAlive(this.inode)) throw new WasiError(Errno.NOENT);
  }

  private sameMount(to: Directory): MemoryDirectory {
    if (!(to instanceof MemoryDirectory) || to.mount !== this.mount) throw new WasiError(Errno.XDEV);
    return to;
  }
}

function copy(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): void {
  if (end - start > 32) {
    to.set(from.subarray(start, end), at);
    return;
  }
  for (let i = start, j = at; i < end; i++, j++) to[j] = from[i]!;
}

function statOf(inode: Inode): FileStat {
  return {
    dev: 1n,
    ino: BigInt(inode.ino),
    type: inode.type,
    nlink: BigInt(inode.nlink),
    size: BigInt(inode.size),
    atim: inode.atim,
    mtim: inode.mtim,
    ctim: inode.ctim,
  };
}

function setTimes(files: MemoryFileSystem, inode: Inode, atim: bigint | undefined, mtim: bigint | undefined): void {
  if (atim !== undefined) inode.atim = atim;
  if (mtim !== undefined) inode.mtim = mtim;
  inode.ctim = files.now();
}
