import { Errno } from './abi.js';

/** A WASI function answers with this number. */
export class WasiError extends Error {
  constructor(readonly errno: number) {
    super(`WASI errno ${errno}`);
  }
}

/** The guest ended itself: `proc_exit(code)`, or `proc_raise(signal)` with the code 128 + signal that shells know. Not a fault of the host. */
export class WasiExit extends Error {
  constructor(
    readonly code: number,
    readonly signal?: number,
  ) {
    super(signal === undefined ? `exit code ${code}` : `signal ${signal}`);
  }
}

const ofNodeCode: Readonly<Record<string, number>> = {
  EACCES: Errno.ACCES,
  EAGAIN: Errno.AGAIN,
  EBADF: Errno.BADF,
  EBUSY: Errno.BUSY,
  ECONNABORTED: Errno.CONNABORTED,
  ECONNREFUSED: Errno.CONNREFUSED,
  ECONNRESET: Errno.CONNRESET,
  EDQUOT: Errno.DQUOT,
  EEXIST: Errno.EXIST,
  EFBIG: Errno.FBIG,
  EILSEQ: Errno.ILSEQ,
  EINTR: Errno.INTR,
  EINVAL: Errno.INVAL,
  EIO: Errno.IO,
  EISDIR: Errno.ISDIR,
  ELOOP: Errno.LOOP,
  EMFILE: Errno.MFILE,
  EMLINK: Errno.MLINK,
  ENAMETOOLONG: Errno.NAMETOOLONG,
  ENFILE: Errno.NFILE,
  ENODEV: Errno.NODEV,
  ENOENT: Errno.NOENT,
  ENOMEM: Errno.NOMEM,
  ENOSPC: Errno.NOSPC,
  ENOTDIR: Errno.NOTDIR,
  ENOTEMPTY: Errno.NOTEMPTY,
  ENOTSUP: Errno.NOTSUP,
  EOPNOTSUPP: Errno.NOTSUP,
  ENXIO: Errno.NXIO,
  EOVERFLOW: Errno.OVERFLOW,
  EPERM: Errno.PERM,
  EPIPE: Errno.PIPE,
  EROFS: Errno.ROFS,
  ESPIPE: Errno.SPIPE,
  ESTALE: Errno.STALE,
  ETXTBSY: Errno.TXTBSY,
  EXDEV: Errno.XDEV,
};

/** The errno of a WASI error or of an error of the system. Anything else is thrown on: a guest's exit, a trap, a bug. */
export function errnoOf(error: unknown): number {
  if (error instanceof WasiError) return error.errno;
  if (error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string')
    return ofNodeCode[error.code] ?? Errno.IO;
  throw error;
}
