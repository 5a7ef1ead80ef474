/**
 * A host directory given to a guest, out of which nothing leads. One file, because the two ways of holding a directory and the checks at opening must be
 * read together.
 *
 * How it holds on Linux: every directory on the way is opened with O_NOFOLLOW | O_DIRECTORY and used as `/proc/self/fd/N/name`, which the kernel resolves
 * from that very directory; the last component is used by calls that do not follow links. So what was checked is what is used, whoever swaps names
 * meanwhile. Where there is no /proc (macOS, Windows), Node offers nothing as strong: a directory is then known by its real path, device and inode, which are
 * checked before each use; another process that swaps directories within microseconds can win that race, the guest alone cannot.
 *
 * What it cannot know: a hard link that was made outside before and leads to a file elsewhere is a file like any other.
 */
import * as fs from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import { IguanaError } from '../../errors.js';
import { wasiLimits } from '../../limits.js';
import { Errno, FileType } from './abi.js';
import type { Access, Directory, DirectoryEntry, FileStat, FileSystem, Mount, OpenFile } from './file-system.js';
import { WasiError } from './wasi-error.js';

const { O_RDONLY, O_WRONLY, O_RDWR, O_CREAT, O_EXCL } = fs.constants;
/** Absent on Windows. */
const O_DIRECTORY = fs.constants.O_DIRECTORY ?? 0;
const O_NOFOLLOW = fs.constants.O_NOFOLLOW ?? 0;
/** A FIFO put in place of a file must not hold the host. */
const O_NONBLOCK = fs.constants.O_NONBLOCK ?? 0;
const O_NOCTTY = fs.constants.O_NOCTTY ?? 0;
const NOT_FOLLOWED = O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;

interface HostFileSystemOptions {
  /** How directories are held (default: `descriptors` where /proc is, else `paths`). */
  readonly hold?: 'descriptors' | 'paths';
}

/**
 * @param path a directory of the host; the path itself may lead through links, it is yours.
 * Errors: IGU_FILE_MISSING when it is no directory that can be read.
 */
export class HostFileSystem implements FileSystem {
  /** How directories are held, see above. */
  readonly hold: 'descriptors' | 'paths';
  private readonly path: string;

  constructor(path: string, options: HostFileSystemOptions = {}) {
    try {
      this.path = fs.realpathSync(path);
      if (!fs.statSync(this.path).isDirectory())
        throw new IguanaError('IGU_FILE_MISSING', { path: `${path} as a directory` });
      this.hold = options.hold ?? (procWorks(this.path) ? 'descriptors' : 'paths');
    } catch (cause) {
      if (cause instanceof IguanaError) throw cause;
      throw new IguanaError('IGU_FILE_MISSING', { path }, { cause });
    }
  }

  root(readOnly: boolean): Directory {
    const mount = new HostMount(readOnly, this.path);
    const held =
      this.hold === 'descriptors'
        ? heldByDescriptor(mount, this.path, O_RDONLY | O_DIRECTORY)
        : heldByPath(this.path, fs.lstatSync(this.path, { bigint: true }));
    return new HostDirectory(mount, held);
  }
}

function procWorks(path: string): boolean {
  if (process.platform !== 'linux') return false;
  const fd = fs.openSync(path, O_RDONLY | O_DIRECTORY);
  try {
    const through = fs.statSync(`/proc/self/fd/${fd}/.`, { bigint: true, throwIfNoEntry: false });
    const direct = fs.fstatSync(fd, { bigint: true });
    return through !== undefined && through.dev === direct.dev && through.ino === direct.ino;
  } finally {
    fs.closeSync(fd);
  }
}

/** One use of a host directory. Node sets times as floating-point seconds; those set here are remembered, so that the guest reads what it wrote. */
class HostMount implements Mount {
  private readonly exact = new Map<string, { atim: Exact; mtim: Exact }>();
  /** Descriptors of this process that are open for it: a call that is cut off by its time leaves some behind, see `closeOthers`. */
  private readonly opened = new Set<number>();
  /** Openings that never came to an end: of each the descriptor is lost, since nothing tells its number. */
  private opening = 0;

  constructor(
    readonly readOnly: boolean,
    readonly path: string,
  ) {}

  checkWritable(): void {
    if (this.readOnly) throw new WasiError(Errno.ROFS);
  }

  open(path: string, flags: number, mode?: number): number {
    if (this.opening >= wasiLimits.maxLostDescriptors) throw new WasiError(Errno.MFILE);
    this.opening++;
    try {
      const fd = fs.openSync(path, flags, mode);
      this.opened.add(fd);
      this.opening--;
      return fd;
    } catch (error) {
      this.opening--;
      throw error;
    }
  }

  /** A second time does nothing: the number may be another's by then. */
  letGo(fd: number): void {
    if (this.opened.delete(fd)) fs.closeSync(fd);
  }

  closeOthers(kept: ReadonlySet<number | undefined>): void {
    for (const fd of this.opened) if (!kept.has(fd)) this.letGo(fd);
  }

  stat(stat: fs.BigIntStats): FileStat {
    const exact = this.exact.size > 0 ? this.exact.get(`${stat.dev}:${stat.ino}`) : undefined;
    return {
      dev: stat.dev,
      ino: stat.ino,
      type: typeOf(stat),
      nlink: stat.nlink,
      size: stat.size,
      atim: exact?.atim.kept === stat.atimeNs ? exact.atim.asked : stat.atimeNs,
      mtim: exact?.mtim.kept === stat.mtimeNs ? exact.mtim.asked : stat.mtimeNs,
      ctim: stat.ctimeNs,
    };
  }

  setTimes(
    read: () => fs.BigIntStats,
    set: (atim: number, mtim: number) => void,
    atim: bigint | undefined,
    mtim: bigint | undefined,
  ): void {
    this.checkWritable();
    const before = this.stat(read());
    const asked = { atim: atim ?? before.atim, mtim: mtim ?? before.mtim };
    set(Number(asked.atim) / 1e9, Number(asked.mtim) / 1e9);
    const after = read();
    const key = `${after.dev}:${after.ino}`;
    this.exact.delete(key);
    const oldest = this.exact.size >= wasiLimits.maxExactTimes ? this.exact.keys().next().value : undefined;
    if (oldest !== undefined) this.exact.delete(oldest);
    this.exact.set(key, {
      atim: { asked: asked.atim, kept: after.atimeNs },
      mtim: { asked: asked.mtim, kept: after.mtimeNs },
    });
  }
}

interface Exact {
  readonly asked: bigint;
  readonly kept: bigint;
}

/** How a directory is held: a path for one of its names, what it is, where it is now. */
interface Held {
  at(name: string): string;
  /** Path for calls on the directory itself. */
  self(): string;
  stat(): fs.BigIntStats;
  open(name: string): Held;
  again(): Held;
  /** Undefined when it was removed. */
  path(): string | undefined;
  /** A hard link to a symbolic link is one to the link itself. */
  readonly linksLinks: boolean;
  /** Absent where it is held by its path. */
  readonly fd?: number;
  close(): void;
}

function heldByDescriptor(mount: HostMount, path: string, flags: number): Held {
  const fd = mount.open(path, flags);
  const self = `/proc/self/fd/${fd}`;
  return {
    at: (name) => `${self}/${name}`,
    self: () => `${self}/.`,
    stat: () => fs.fstatSync(fd, { bigint: true }),
    open: (name) => heldByDescriptor(mount, `${self}/${name}`, O_RDONLY | O_DIRECTORY | NOT_FOLLOWED),
    again: () => heldByDescriptor(mount, `${self}/.`, O_RDONLY | O_DIRECTORY),
    path: () => pathOfDescriptor(fd),
    linksLinks: true,
    fd,
    close: () => mount.letGo(fd),
  };
}

function pathOfDescriptor(fd: number): string | undefined {
  const path = fs.readlinkSync(`/proc/self/fd/${fd}`);
  const there = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
  const open = fs.fstatSync(fd, { bigint: true });
  return there?.dev === open.dev && there.ino === open.ino ? path : undefined;
}

function heldByPath(path: string, identity: fs.BigIntStats): Held {
  const isSame = () => {
    const now = fs.lstatSync(path, { bigint: true, throwIfNoEntry: false });
    return now?.dev === identity.dev && now.ino === identity.ino && fs.realpathSync(path) === path;
  };
  const check = () => {
    if (!isSame()) throw new WasiError(Errno.NOENT);
    return path;
  };
  /** Where other characters take paths apart too (Windows), a name that has them is none. */
  const at = (name: string) => {
    const inside = join(check(), name);
    if (dirname(inside) !== path || basename(inside) !== name) throw new WasiError(Errno.NOENT);
    return inside;
  };
  return {
    at,
    self: check,
    stat: () => fs.lstatSync(check(), { bigint: true }),
    open: (name) => {
      const inside = at(name);
      const stat = fs.lstatSync(inside, { bigint: true });
      if (!stat.isDirectory()) throw new WasiError(Errno.NOTDIR);
      return heldByPath(inside, stat);
    },
    again: () => heldByPath(path, identity),
    path: () => (isSame() ? path : undefined),
    linksLinks: process.platform === 'linux',
    close: () => {},
  };
}

class HostFile implements OpenFile {
  readonly isDirectory = false;

  constructor(
    private readonly mount: HostMount,
    readonly fd: number,
    /** As it was opened; where there is /proc, the place that counts is the present one. */
    private readonly path: string | undefined,
  ) {}

  stat(): FileStat {
    return this.mount.stat(fs.fstatSync(this.fd, { bigint: true }));
  }

  read(memory: Uint8Array, start: number, end: number, position: number): number {
    return fs.readSync(this.fd, memory, start, end - start, position);
  }

  write(memory: Uint8Array, start: number, end: number, position: number): number {
    this.mount.checkWritable();
    // Beyond it Node writes somewhere else.
    if (position + end - start > Number.MAX_SAFE_INTEGER) throw new WasiError(Errno.FBIG);
    return fs.writeSync(this.fd, memory, start, end - start, position);
  }

  size(): number {
    return fs.fstatSync(this.fd).size;
  }

  setSize(size: number): void {
    this.mount.checkWritable();
    fs.ftruncateSync(this.fd, size);
  }

  allocate(size: number): void {
    this.mount.checkWritable();
    if (size > this.size()) fs.ftruncateSync(this.fd, size);
  }

  setTimes(atim: bigint | undefined, mtim: bigint | undefined): void {
    this.mount.setTimes(
      () => fs.fstatSync(this.fd, { bigint: true }),
      (a, m) => fs.futimesSync(this.fd, a, m),
      atim,
      mtim,
    );
  }

  sync(dataOnly: boolean): void {
    if (dataOnly) fs.fdatasyncSync(this.fd);
    else fs.fsyncSync(this.fd);
  }

  place(): string | undefined {
    return placeIn(this.mount, this.path ?? pathOfDescriptor(this.fd));
  }

  close(): void {
    this.mount.letGo(this.fd);
  }
}

class HostDirectory implements Directory {
  readonly isDirectory = true;

  constructor(
    readonly mount: HostMount,
    private readonly held: Held,
  ) {}

  stat(): FileStat {
    return this.mount.stat(this.held.stat());
  }

  setTimes(atim: bigint | undefined, mtim: bigint | undefined): void {
    this.mount.setTimes(
      () => this.held.stat(),
      (a, m) => fs.utimesSync(this.held.self(), a, m),
      atim,
      mtim,
    );
  }

  sync(): void {
    const fd = this.mount.open(this.held.self(), O_RDONLY | O_DIRECTORY);
    try {
      fs.fsyncSync(fd);
    } finally {
      this.mount.letGo(fd);
    }
  }

  enter(name: string): Directory | string {
    try {
      return new HostDirectory(this.mount, this.held.open(name));
    } catch (error) {
      if (!isOneOf(error, 'ENOTDIR', 'ELOOP') && !(error instanceof WasiError && error.errno === Errno.NOTDIR))
        throw error;
      const target = this.linkTarget(name);
      if (target === undefined) throw new WasiError(Errno.NOTDIR);
      return target;
    }
  }

  linkTarget(name: string): string | undefined {
    try {
      return fs.readlinkSync(this.held.at(name));
    } catch (error) {
      if (isOneOf(error, 'EINVAL', 'ENOENT')) return undefined;
      throw error;
    }
  }

  lookup(name: string): FileStat | undefined {
    const stat = fs.lstatSync(this.held.at(name), { bigint: true, throwIfNoEntry: false });
    return stat && this.mount.stat(stat);
  }

  openFile(name: string, access: Access, create: boolean, exclusive: boolean): OpenFile {
    const path = this.held.at(name);
    const before = fs.lstatSync(path, { throwIfNoEntry: false });
    if (before && create && exclusive) throw new WasiError(Errno.EXIST);
    if (before) checkRegular(before);
    else if (!create) throw new WasiError(Errno.NOENT);
    else this.mount.checkWritable();
    if (access.write) this.mount.checkWritable();
    const mode = access.write ? (access.read ? O_RDWR : O_WRONLY) : O_RDONLY;
    const making = create && !before ? O_CREAT | (exclusive ? O_EXCL : 0) : 0;
    const fd = this.mount.open(path, mode | making | NOT_FOLLOWED, 0o666);
    try {
      const opened = fs.fstatSync(fd, { bigint: true });
      checkRegular(opened);
      // Without O_NOFOLLOW (Windows) a link could have been followed: what is there now must be what was opened.
      if (O_NOFOLLOW === 0) {
        const there = fs.lstatSync(path, { bigint: true });
        if (there.dev !== opened.dev || there.ino !== opened.ino) throw new WasiError(Errno.LOOP);
      }
    } catch (error) {
      this.mount.letGo(fd);
      throw error;
    }
    return new HostFile(this.mount, fd, path.startsWith('/proc/') ? undefined : path);
  }

  createDirectory(name: string): void {
    this.checkFree(name);
    fs.mkdirSync(this.held.at(name));
  }

  createLink(target: string, name: string): void {
    this.checkFree(name);
    fs.symlinkSync(target, this.held.at(name));
  }

  link(name: string, to: Directory, newName: string): void {
    this.mount.checkWritable();
    const other = this.sameMount(to);
    const stat = this.lookup(name);
    if (stat && other.lookup(newName)) throw new WasiError(Errno.EXIST);
    if (stat?.type === FileType.DIRECTORY) throw new WasiError(Errno.PERM);
    // Only Linux is known to link the link itself, and not what it leads to, which may be outside.
    if (stat?.type === FileType.SYMBOLIC_LINK && !this.held.linksLinks) throw new WasiError(Errno.NOTSUP);
    fs.linkSync(this.held.at(name), other.held.at(newName));
  }

  rename(name: string, to: Directory, newName: string): void {
    this.mount.checkWritable();
    fs.renameSync(this.held.at(name), this.sameMount(to).held.at(newName));
  }

  unlink(name: string): void {
    this.mount.checkWritable();
    if (this.lookup(name)?.type === FileType.DIRECTORY) throw new WasiError(Errno.ISDIR);
    fs.unlinkSync(this.held.at(name));
  }

  removeDirectory(name: string): void {
    this.mount.checkWritable();
    fs.rmdirSync(this.held.at(name));
  }

  setTimesOf(name: string, atim: bigint | undefined, mtim: bigint | undefined): void {
    this.mount.setTimes(
      () => fs.lstatSync(this.held.at(name), { bigint: true }),
      (a, m) => fs.lutimesSync(this.held.at(name), a, m),
      atim,
      mtim,
    );
  }

  list(): DirectoryEntry[] {
    const names = namesIn(this.held.self());
    const entries: DirectoryEntry[] = [];
    for (const name of names.sort((a, b) => (a < b ? -1 : 1))) {
      const stat = this.lookup(name);
      if (stat) entries.push({ name, ino: stat.ino, type: stat.type });
    }
    return entries;
  }

  duplicate(): Directory {
    return new HostDirectory(this.mount, this.held.again());
  }

  place(): string | undefined {
    return placeIn(this.mount, this.held.path());
  }

  reopen(place: string, access: Access): Directory | OpenFile | undefined {
    const names = place.split('/').filter((name) => name !== '');
    // A place may come from a snapshot that another wrote.
    if (names.includes('.') || names.includes('..')) return undefined;
    const last = names.pop();
    if (last === undefined) return this.duplicate();
    let directory: Directory = this.duplicate();
    try {
      for (const name of names) {
        const next = directory.enter(name);
        if (typeof next === 'string') return undefined;
        directory.close();
        directory = next;
      }
      const stat = directory.lookup(last);
      if (stat?.type === FileType.DIRECTORY) {
        const found = directory.enter(last);
        return typeof found === 'string' ? undefined : found;
      }
      return stat?.type === FileType.REGULAR_FILE ? directory.openFile(last, access, false, false) : undefined;
    } catch (error) {
      if (isOneOf(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP') || error instanceof WasiError) return undefined;
      throw error;
    } finally {
      directory.close();
    }
  }

  close(): void {
    this.held.close();
  }

  closeOthers(kept: readonly (Directory | OpenFile)[]): void {
    const numbers = [this, ...kept].map((node) =>
      node instanceof HostFile ? node.fd : node instanceof HostDirectory ? node.held.fd : undefined,
    );
    this.mount.closeOthers(new Set(numbers));
  }

  private checkFree(name: string): void {
    if (this.lookup(name)) throw new WasiError(Errno.EXIST);
    this.mount.checkWritable();
  }

  private sameMount(to: Directory): HostDirectory {
    if (!(to instanceof HostDirectory) || to.mount !== this.mount) throw new WasiError(Errno.XDEV);
    return to;
  }
}

/** Reads no more than the bound, however many there are. */
function namesIn(path: string): string[] {
  const directory = fs.opendirSync(path, { bufferSize: 256 });
  try {
    const names: string[] = [];
    for (let entry = directory.readSync(); entry; entry = directory.readSync()) {
      if (names.length >= wasiLimits.maxDirectoryEntries) throw new WasiError(Errno.OVERFLOW);
      names.push(entry.name);
    }
    return names;
  } finally {
    directory.closeSync();
  }
}

function placeIn(mount: HostMount, path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  const inside = relative(mount.path, path).split(sep);
  return inside[0] === '..' ? undefined : inside.join('/');
}

function checkRegular(stat: fs.Stats | fs.BigIntStats): void {
  if (stat.isFile()) return;
  throw new WasiError(stat.isDirectory() ? Errno.ISDIR : stat.isSymbolicLink() ? Errno.LOOP : Errno.ACCES);
}

function typeOf(stat: fs.BigIntStats): number {
  if (stat.isFile()) return FileType.REGULAR_FILE;
  if (stat.isDirectory()) return FileType.DIRECTORY;
  if (stat.isSymbolicLink()) return FileType.SYMBOLIC_LINK;
  return FileType.UNKNOWN;
}

function isOneOf(error: unknown, ...codes: string[]): boolean {
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}
