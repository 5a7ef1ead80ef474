/** The functions of WASI on paths, `path_*`. One file, because they are one list. What POSIX says of trailing slashes, `.` and `..` stands here, for all file systems. */
import {
  DIRECTORY_RIGHTS,
  Errno,
  FILE_RIGHTS,
  FileType,
  LOOKUP_FOLLOW,
  OpenFlags,
  Rights,
  WRITING_RIGHTS,
} from './abi.js';
import { guarded, type WasiContext } from './context.js';
import { DirectoryDescriptor, FileDescriptor } from './descriptor.js';
import { timesOf, writeStat } from './file-calls.js';
import type { Directory } from './file-system.js';
import { checkRange, encodeText, getPath, setU32 } from './guest-memory.js';
import { type Walked, walk } from './walk.js';
import { WasiError } from './wasi-error.js';

const KNOWN_RIGHTS = BigInt(DIRECTORY_RIGHTS | FILE_RIGHTS);

function fail(errno: number): never {
  throw new WasiError(errno);
}

/** Walks, works on where it leads, and closes what was opened on the way. */
function at<T>(base: Directory, path: string, last: 'follow' | 'keep' | 'entry', work: (walked: Walked) => T): T {
  const walked = walk(base, path, last);
  try {
    return work(walked);
  } finally {
    walked.close();
  }
}

/** The last component, where a name is needed. */
function named(walked: Walked, otherwise: number): string {
  return walked.name ?? fail(otherwise);
}

/** A slash at the end lets only a directory pass; answers what is there. */
function checkSlash(walked: Walked, name: string, missing: number): void {
  if (!walked.slash) return;
  const stat = walked.directory.lookup(name);
  if (!stat) fail(missing);
  if (stat.type !== FileType.DIRECTORY) fail(Errno.NOTDIR);
}

export function pathCalls(context: WasiContext) {
  const { table, memory: memoryNow, pay, version } = context;
  const directoryOf = (fd: number, rights: number) => table.directory(fd, rights).directory;
  const pathOf = (address: number, length: number) => {
    const path = getPath(memoryNow(), address >>> 0, length >>> 0);
    pay(length >>> 0);
    return path;
  };

  return {
    path_create_directory: guarded((fd: number, address: number, length: number) => {
      const base = directoryOf(fd, Rights.PATH_CREATE_DIRECTORY);
      at(base, pathOf(address, length), 'entry', (walked) =>
        walked.directory.createDirectory(named(walked, Errno.EXIST)),
      );
    }),
    path_filestat_get: guarded((fd: number, flags: number, address: number, length: number, result: number) => {
      const base = directoryOf(fd, Rights.PATH_FILESTAT_GET);
      const stat = at(base, pathOf(address, length), (flags & LOOKUP_FOLLOW) !== 0 ? 'follow' : 'keep', (walked) => {
        if (walked.name === undefined) return walked.directory.stat();
        checkSlash(walked, walked.name, Errno.NOENT);
        return walked.directory.lookup(walked.name) ?? fail(Errno.NOENT);
      });
      writeStat(memoryNow(), result >>> 0, stat, version.wideLinkCount);
    }),
    path_filestat_set_times: guarded(
      (fd: number, flags: number, address: number, length: number, atim: bigint, mtim: bigint, timeFlags: number) => {
        const base = directoryOf(fd, Rights.PATH_FILESTAT_SET_TIMES);
        const times = timesOf(context, atim, mtim, timeFlags);
        at(base, pathOf(address, length), (flags & LOOKUP_FOLLOW) !== 0 ? 'follow' : 'keep', (walked) => {
          if (walked.name === undefined) walked.directory.setTimes(times[0], times[1]);
          else {
            checkSlash(walked, walked.name, Errno.NOENT);
            walked.directory.setTimesOf(walked.name, times[0], times[1]);
          }
        });
      },
    ),
    path_link: guarded(
      (
        fd: number,
        flags: number,
        address: number,
        length: number,
        newFd: number,
        newAddress: number,
        newLength: number,
      ) => {
        const base = directoryOf(fd, Rights.PATH_LINK_SOURCE);
        const newBase = directoryOf(newFd, Rights.PATH_LINK_TARGET);
        at(base, pathOf(address, length), (flags & LOOKUP_FOLLOW) !== 0 ? 'follow' : 'keep', (from) => {
          const name = named(from, Errno.PERM);
          checkSlash(from, name, Errno.NOENT);
          if (!from.directory.lookup(name)) fail(Errno.NOENT);
          at(newBase, pathOf(newAddress, newLength), 'entry', (to) => {
            const newName = named(to, Errno.EXIST);
            if (to.slash) fail(to.directory.lookup(newName) ? Errno.EXIST : Errno.NOENT);
            from.directory.link(name, to.directory, newName);
          });
        });
      },
    ),
    path_open: guarded(
      (
        fd: number,
        lookup: number,
        address: number,
        length: number,
        open: number,
        rights: bigint,
        inheriting: bigint,
        flags: number,
        result: number,
      ) => {
        const create = (open & OpenFlags.CREATE) !== 0;
        const exclusive = create && (open & OpenFlags.EXCLUSIVE) !== 0;
        const truncate = (open & OpenFlags.TRUNCATE) !== 0;
        const onlyDirectory = (open & OpenFlags.DIRECTORY) !== 0;
        const parent = table.directory(
          fd,
          Rights.PATH_OPEN | (create ? Rights.PATH_CREATE_FILE : 0) | (truncate ? Rights.PATH_FILESTAT_SET_SIZE : 0),
        );
        if (open & ~15 || flags & ~31 || (create && onlyDirectory)) fail(Errno.INVAL);
        const may = BigInt(parent.inheriting);
        if ((rights & KNOWN_RIGHTS) !== rights || rights & ~may || inheriting & ~may) fail(Errno.NOTCAPABLE);
        const wanted = Number(rights);
        const writes = (wanted & WRITING_RIGHTS) !== 0 || truncate;
        checkRange(memoryNow(), result >>> 0, 4);
        const path = pathOf(address, length);
        // What is to be made, a link with a slash after it included, is no place that a link leads to.
        const entry = create && (exclusive || path.endsWith('/'));
        const last = entry ? 'entry' : (lookup & LOOKUP_FOLLOW) !== 0 ? 'follow' : 'keep';
        const opened = at(parent.directory, path, last, ({ directory, name, slash }) => {
          if (create && slash && name !== undefined) fail(Errno.ISDIR);
          const stat = name === undefined ? undefined : directory.lookup(name);
          if (name === undefined || stat?.type === FileType.DIRECTORY) {
            if (exclusive) fail(Errno.EXIST);
            if (create || (wanted & Rights.FD_WRITE) !== 0 || truncate) fail(Errno.ISDIR);
            const entered = name === undefined ? directory.duplicate() : directory.enter(name);
            if (typeof entered === 'string') fail(Errno.LOOP);
            return new DirectoryDescriptor(entered, parent.mount, wanted, Number(inheriting));
          }
          if (stat) {
            if (exclusive) fail(Errno.EXIST);
            if (stat.type === FileType.SYMBOLIC_LINK) fail(onlyDirectory ? Errno.NOTDIR : Errno.LOOP);
            if (slash || onlyDirectory) fail(Errno.NOTDIR);
          }
          const read = !writes || (wanted & Rights.FD_READ) !== 0;
          const file = directory.openFile(name, { read, write: writes }, create, exclusive);
          try {
            if (truncate) {
              pay(file.size());
              file.setSize(0);
            }
          } catch (error) {
            file.close();
            throw error;
          }
          const descriptor = new FileDescriptor(file, parent.mount, wanted, Number(inheriting));
          descriptor.setFlags(flags);
          return descriptor;
        });
        setU32(memoryNow(), result >>> 0, table.add(opened));
      },
    ),
    path_readlink: guarded(
      (fd: number, address: number, length: number, buffer: number, size: number, result: number) => {
        const base = directoryOf(fd, Rights.PATH_READLINK);
        const target = at(base, pathOf(address, length), 'keep', (walked) => {
          const name = named(walked, Errno.INVAL);
          checkSlash(walked, name, Errno.NOENT);
          const text = walked.directory.linkTarget(name);
          return text ?? fail(walked.directory.lookup(name) ? Errno.INVAL : Errno.NOENT);
        });
        const memory = memoryNow();
        checkRange(memory, buffer >>> 0, size >>> 0);
        checkRange(memory, result >>> 0, 4);
        const bytes = encodeText(target).subarray(0, size >>> 0);
        memory.set(bytes, buffer >>> 0);
        setU32(memory, result >>> 0, bytes.length);
        pay(bytes.length);
      },
    ),
    path_remove_directory: guarded((fd: number, address: number, length: number) => {
      const base = directoryOf(fd, Rights.PATH_REMOVE_DIRECTORY);
      const path = pathOf(address, length);
      at(base, path, 'entry', (walked) => {
        const name = named(walked, endsInParent(path) ? Errno.NOTEMPTY : Errno.INVAL);
        if (!walked.directory.lookup(name)) fail(Errno.NOENT);
        walked.directory.removeDirectory(name);
      });
    }),
    path_rename: guarded(
      (fd: number, address: number, length: number, newFd: number, newAddress: number, newLength: number) => {
        const base = directoryOf(fd, Rights.PATH_RENAME_SOURCE);
        const newBase = directoryOf(newFd, Rights.PATH_RENAME_TARGET);
        at(base, pathOf(address, length), 'entry', (from) =>
          at(newBase, pathOf(newAddress, newLength), 'entry', (to) => {
            const name = named(from, Errno.BUSY);
            const newName = named(to, Errno.BUSY);
            const stat = from.directory.lookup(name) ?? fail(Errno.NOENT);
            if (stat.type !== FileType.DIRECTORY && (from.slash || to.slash)) fail(Errno.NOTDIR);
            from.directory.rename(name, to.directory, newName);
          }),
        );
      },
    ),
    path_symlink: guarded((address: number, length: number, fd: number, newAddress: number, newLength: number) => {
      const base = directoryOf(fd, Rights.PATH_SYMLINK);
      const target = pathOf(address, length);
      if (target === '') fail(Errno.NOENT);
      // Relative ones may still lead out for whoever follows them outside: walks here never do, and a directory can be moved after any check.
      if (target.startsWith('/')) fail(Errno.PERM);
      at(base, pathOf(newAddress, newLength), 'entry', (walked) => {
        const name = named(walked, Errno.EXIST);
        if (walked.slash) fail(walked.directory.lookup(name) ? Errno.EXIST : Errno.NOENT);
        walked.directory.createLink(target, name);
      });
    }),
    path_unlink_file: guarded((fd: number, address: number, length: number) => {
      const base = directoryOf(fd, Rights.PATH_UNLINK_FILE);
      at(base, pathOf(address, length), 'entry', (walked) => {
        const name = named(walked, Errno.ISDIR);
        const stat = walked.directory.lookup(name) ?? fail(Errno.NOENT);
        if (stat.type === FileType.DIRECTORY) fail(Errno.ISDIR);
        if (walked.slash) fail(Errno.NOTDIR);
        walked.directory.unlink(name);
      });
    }),
  };
}

function endsInParent(path: string): boolean {
  return /(^|\/)\.\.\/*$/.test(path);
}
