/** The functions of WASI on descriptors, `fd_*`. One file, because they are one list. */
import { wasiLimits } from '../../limits.js';
import { Errno, FdFlags, FileType, Rights, TimeFlags } from './abi.js';
import { guarded, nowOf, type WasiContext } from './context.js';
import type { Descriptor, DirectoryDescriptor, FileDescriptor } from './descriptor.js';
import type { FileStat } from './file-system.js';
import { checkRange, encodeText, setBig, setU16, setU32, setU64 } from './guest-memory.js';
import { transfer } from './vectors.js';
import { errnoOf, WasiError } from './wasi-error.js';

/** Bytes before the name in a listing. */
const ENTRY = 24;
const MOST = BigInt(Number.MAX_SAFE_INTEGER);

/** A file size or offset of the guest as a number. */
function toSize(value: bigint): number {
  const unsigned = BigInt.asUintN(64, value);
  if (unsigned > MOST) throw new WasiError(Errno.INVAL);
  return Number(unsigned);
}

const read = (from: Descriptor, memory: Uint8Array, start: number, end: number) => from.read(memory, start, end);
const write = (to: Descriptor, memory: Uint8Array, start: number, end: number) => to.write(memory, start, end);
const readAt = (from: FileDescriptor, memory: Uint8Array, start: number, end: number, position: number) =>
  from.file.read(memory, start, end, position);
const writeAt = (to: FileDescriptor, memory: Uint8Array, start: number, end: number, position: number) =>
  to.writeAt(memory, start, end, position);

export function writeStat(memory: Uint8Array, at: number, stat: FileStat, wide: boolean): void {
  checkRange(memory, at, wide ? 64 : 56);
  memory.fill(0, at, at + (wide ? 64 : 56));
  setBig(memory, at, stat.dev);
  setBig(memory, at + 8, stat.ino);
  memory[at + 16] = stat.type;
  if (wide) setBig(memory, at + 24, stat.nlink);
  else setU32(memory, at + 20, Number(stat.nlink));
  const rest = at + (wide ? 32 : 24);
  setBig(memory, rest, stat.size);
  setBig(memory, rest + 8, stat.atim);
  setBig(memory, rest + 16, stat.mtim);
  setBig(memory, rest + 24, stat.ctim);
}

/** The times that a guest asks to set: absent ones stay. */
export function timesOf(
  context: WasiContext,
  atim: bigint,
  mtim: bigint,
  flags: number,
): [atim: bigint | undefined, mtim: bigint | undefined] {
  const both = (a: number, b: number) => (flags & (a | b)) === (a | b);
  if (flags & ~15 || both(TimeFlags.ATIM, TimeFlags.ATIM_NOW) || both(TimeFlags.MTIM, TimeFlags.MTIM_NOW))
    throw new WasiError(Errno.INVAL);
  const now = flags & (TimeFlags.ATIM_NOW | TimeFlags.MTIM_NOW) ? nowOf(context.clock) : 0n;
  const one = (set: number, setNow: number, value: bigint) =>
    flags & setNow ? now : flags & set ? BigInt.asUintN(64, value) : undefined;
  return [one(TimeFlags.ATIM, TimeFlags.ATIM_NOW, atim), one(TimeFlags.MTIM, TimeFlags.MTIM_NOW, mtim)];
}

export function fileCalls(context: WasiContext) {
  const { table, memory: memoryNow, pay, version } = context;
  const [SET, CURRENT, END] = version.whence;

  const seek = (fd: number, offset: bigint, whence: number, result: number, rights: number) => {
    const file = table.file(fd, rights);
    const memory = memoryNow();
    checkRange(memory, result >>> 0, 8);
    let from: number;
    if (whence === SET) from = 0;
    else if (whence === CURRENT) from = file.offset;
    else if (whence === END) from = file.file.size();
    else throw new WasiError(Errno.INVAL);
    const to = BigInt(from) + offset;
    if (to < 0n || to > MOST) throw new WasiError(Errno.INVAL);
    file.offset = Number(to);
    setU64(memory, result >>> 0, file.offset);
  };

  /** Those that hold a listing, the oldest first: a listing may be a hundred thousand names. One that was let go is made again when it is read on. */
  const listed = new Set<DirectoryDescriptor>();
  const forget = (descriptor: DirectoryDescriptor) => {
    descriptor.listing = undefined;
    listed.delete(descriptor);
  };

  return {
    fd_advise: guarded((fd: number, offset: bigint, length: bigint, advice: number) => {
      table.file(fd, Rights.FD_ADVISE);
      if (advice < 0 || advice > 5) throw new WasiError(Errno.INVAL);
      if (offset < 0n || length < 0n || offset + length > MOST) throw new WasiError(Errno.INVAL);
    }),
    fd_allocate: guarded((fd: number, offset: bigint, length: bigint) => {
      const file = table.file(fd, Rights.FD_ALLOCATE);
      const end = toSize(offset) + toSize(length);
      if (length === 0n) throw new WasiError(Errno.INVAL);
      if (end > Number.MAX_SAFE_INTEGER) throw new WasiError(Errno.FBIG);
      pay(end - file.file.size());
      file.file.allocate(end);
    }),
    fd_close: guarded((fd: number) => table.close(fd)),
    fd_datasync: guarded((fd: number) => table.get(fd, Rights.FD_DATASYNC).sync(true)),
    fd_fdstat_get: guarded((fd: number, result: number) => {
      const found = table.get(fd, 0);
      const at = result >>> 0;
      const memory = memoryNow();
      checkRange(memory, at, 24);
      memory.fill(0, at, at + 24);
      memory[at] = found.type;
      setU16(memory, at + 2, found.flags);
      setU64(memory, at + 8, found.rights);
      setU64(memory, at + 16, found.inheriting);
    }),
    fd_fdstat_set_flags: guarded((fd: number, flags: number) => {
      const found = table.get(fd, Rights.FD_FDSTAT_SET_FLAGS);
      if (flags & ~31) throw new WasiError(Errno.INVAL);
      found.setFlags(flags);
    }),
    fd_fdstat_set_rights: guarded((fd: number, rights: bigint, inheriting: bigint) => {
      const found = table.get(fd, 0);
      if (rights & ~BigInt(found.rights) || inheriting & ~BigInt(found.inheriting))
        throw new WasiError(Errno.NOTCAPABLE);
      found.rights = Number(rights);
      found.inheriting = Number(inheriting);
    }),
    fd_filestat_get: guarded((fd: number, result: number) => {
      writeStat(memoryNow(), result >>> 0, table.get(fd, Rights.FD_FILESTAT_GET).stat(), version.wideLinkCount);
    }),
    fd_filestat_set_size: guarded((fd: number, size: bigint) => {
      const { file } = table.file(fd, Rights.FD_FILESTAT_SET_SIZE);
      // What is cut off is made zero, so that shorter costs as longer does.
      pay(Math.abs(toSize(size) - file.size()));
      file.setSize(toSize(size));
    }),
    fd_filestat_set_times: guarded((fd: number, atim: bigint, mtim: bigint, flags: number) => {
      const found = table.get(fd, Rights.FD_FILESTAT_SET_TIMES);
      const times = timesOf(context, atim, mtim, flags);
      if (times[0] !== undefined || times[1] !== undefined) found.setTimes(times[0], times[1]);
    }),
    fd_pread: guarded((fd: number, vectors: number, count: number, offset: bigint, result: number) => {
      const file = table.file(fd, Rights.FD_READ | Rights.FD_SEEK);
      transfer(context, vectors >>> 0, count >>> 0, result >>> 0, file, readAt, toSize(offset));
    }),
    fd_prestat_dir_name: guarded((fd: number, address: number, length: number) => {
      const { preopen } = table.get(fd, 0);
      if (preopen === undefined) throw new WasiError(Errno.BADF);
      const name = encodeText(preopen);
      if (name.length > length >>> 0) throw new WasiError(Errno.NAMETOOLONG);
      const memory = memoryNow();
      checkRange(memory, address >>> 0, name.length);
      memory.set(name, address >>> 0);
    }),
    fd_prestat_get: guarded((fd: number, result: number) => {
      const { preopen } = table.get(fd, 0);
      if (preopen === undefined) throw new WasiError(Errno.BADF);
      const memory = memoryNow();
      checkRange(memory, result >>> 0, 8);
      setU32(memory, result >>> 0, 0);
      setU32(memory, (result >>> 0) + 4, encodeText(preopen).length);
    }),
    fd_pwrite: guarded((fd: number, vectors: number, count: number, offset: bigint, result: number) => {
      const file = table.file(fd, Rights.FD_WRITE | Rights.FD_SEEK);
      // As on Linux, a file opened to append has everything written at its end.
      const position = file.flags & FdFlags.APPEND ? file.file.size() : toSize(offset);
      transfer(context, vectors >>> 0, count >>> 0, result >>> 0, file, writeAt, position);
    }),
    fd_read: (fd: number, vectors: number, count: number, result: number): number => {
      try {
        const found = table.get(fd, Rights.FD_READ);
        return transfer(context, vectors >>> 0, count >>> 0, result >>> 0, found, read);
      } catch (error) {
        return errnoOf(error);
      }
    },
    fd_readdir: guarded((fd: number, buffer: number, length: number, cookie: bigint, result: number) => {
      const found = table.directory(fd, Rights.FD_READDIR);
      const memory = memoryNow();
      checkRange(memory, buffer >>> 0, length >>> 0);
      checkRange(memory, result >>> 0, 4);
      let moved = 0;
      if (cookie === 0n || !found.listing) {
        const own = { ino: found.directory.stat().ino, type: FileType.DIRECTORY };
        // The parent's number is not told: it may be outside.
        found.listing = [{ name: '.', ...own }, { name: '..', ...own }, ...found.directory.list()];
        for (const { name } of found.listing) moved += ENTRY + name.length;
        listed.delete(found);
        listed.add(found);
        const [oldest] = listed;
        if (oldest && listed.size > wasiLimits.maxListings) forget(oldest);
      }
      const end = (buffer >>> 0) + (length >>> 0);
      let at = buffer >>> 0;
      const entry = new Uint8Array(ENTRY + wasiLimits.maxNameBytes * 4);
      for (let i = toSize(cookie); i < found.listing.length && at < end; i++) {
        const { name, ino, type } = found.listing[i]!;
        const bytes = encodeText(name);
        entry.fill(0, 0, ENTRY);
        setU64(entry, 0, i + 1);
        setBig(entry, 8, ino);
        setU32(entry, 16, bytes.length);
        entry[20] = type;
        entry.set(bytes, ENTRY);
        const size = Math.min(ENTRY + bytes.length, end - at);
        memory.set(entry.subarray(0, size), at);
        at += size;
      }
      setU32(memory, result >>> 0, at - (buffer >>> 0));
      pay(moved + at - (buffer >>> 0));
    }),
    fd_renumber: guarded((from: number, to: number) => table.move(from, to)),
    fd_seek: guarded((fd: number, offset: bigint, whence: number, result: number) => {
      // To ask where one is, the right to tell is enough.
      const asks = offset === 0n && whence === CURRENT;
      const found = table.get(fd, 0);
      const rights = asks && found.rights & Rights.FD_TELL ? Rights.FD_TELL : Rights.FD_SEEK;
      seek(fd, offset, whence, result, rights);
    }),
    fd_sync: guarded((fd: number) => table.get(fd, Rights.FD_SYNC).sync(false)),
    fd_tell: guarded((fd: number, result: number) => seek(fd, 0n, CURRENT, result, Rights.FD_TELL)),
    fd_write: (fd: number, vectors: number, count: number, result: number): number => {
      try {
        const found = table.get(fd, Rights.FD_WRITE);
        return transfer(context, vectors >>> 0, count >>> 0, result >>> 0, found, write);
      } catch (error) {
        return errnoOf(error);
      }
    },
  };
}
