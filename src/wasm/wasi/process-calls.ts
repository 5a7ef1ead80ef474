import { Errno, FdFlags, Rights } from './abi.js';
import type { WasiClock } from './clock.js';
import { guarded, type WasiContext } from './context.js';
import { SocketDescriptor } from './descriptor.js';
import { checkRange, setNanoseconds, setU16, setU32, setU64 } from './guest-memory.js';
import { pollOneoff } from './poll.js';
import { transfer } from './vectors.js';
import { errnoOf, WasiError, WasiExit } from './wasi-error.js';

function writeStrings(memory: Uint8Array, strings: readonly Uint8Array[], pointers: number, bytes: number): void {
  checkRange(memory, pointers, strings.length * 4);
  checkRange(memory, bytes, lengthOf(strings));
  let at = bytes;
  for (const [i, text] of strings.entries()) {
    setU32(memory, pointers + 4 * i, at);
    memory.set(text, at);
    at += text.length;
  }
}

function lengthOf(strings: readonly Uint8Array[]): number {
  return strings.reduce((sum, text) => sum + text.length, 0);
}

function writeSizes(memory: Uint8Array, strings: readonly Uint8Array[], count: number, size: number): void {
  checkRange(memory, count, 4);
  checkRange(memory, size, 4);
  setU32(memory, count, strings.length);
  setU32(memory, size, lengthOf(strings));
}

/** 0 the time of day; 1 the monotonic clock; 2, 3 processor time, for which the monotonic clock stands in: what the guest used is not known apart. */
function readClock(clock: WasiClock, id: number): number {
  if (id === 0) return clock.realtime();
  if (id > 0 && id <= 3) return clock.monotonic();
  throw new WasiError(Errno.INVAL);
}

/** The functions of WASI that are on neither descriptors nor paths: arguments, environment, clocks, randomness, waiting, ending, sockets. */
export function processCalls(context: WasiContext) {
  const { table, memory: memoryNow, pay, clock, random, args, environment } = context;
  const payFor = (strings: readonly Uint8Array[]) => pay(lengthOf(strings) + 4 * strings.length);
  return {
    args_get: guarded((pointers: number, bytes: number) => {
      payFor(args);
      writeStrings(memoryNow(), args, pointers >>> 0, bytes >>> 0);
    }),
    args_sizes_get: guarded((count: number, size: number) => {
      payFor(args);
      writeSizes(memoryNow(), args, count >>> 0, size >>> 0);
    }),
    environ_get: guarded((pointers: number, bytes: number) => {
      payFor(environment);
      writeStrings(memoryNow(), environment, pointers >>> 0, bytes >>> 0);
    }),
    environ_sizes_get: guarded((count: number, size: number) => {
      payFor(environment);
      writeSizes(memoryNow(), environment, count >>> 0, size >>> 0);
    }),
    clock_res_get: guarded((id: number, result: number) => {
      readClock(clock, id);
      const memory = memoryNow();
      checkRange(memory, result >>> 0, 8);
      setU64(memory, result >>> 0, id === 0 ? clock.realtimeResolution : clock.monotonicResolution);
    }),
    clock_time_get: (id: number, _precision: bigint, result: number): number => {
      try {
        const memory = memoryNow();
        const at = result >>> 0;
        checkRange(memory, at, 8);
        const ms = readClock(clock, id);
        const whole = Math.floor(ms);
        setNanoseconds(memory, at, whole, Math.round((ms - whole) * 1e6));
        return 0;
      } catch (error) {
        return errnoOf(error);
      }
    },
    poll_oneoff: guarded((input: number, output: number, count: number, result: number) => {
      pollOneoff(context, input >>> 0, output >>> 0, count >>> 0, result >>> 0);
    }),
    proc_exit: (code: number): never => {
      throw new WasiExit(code >>> 0);
    },
    proc_raise: (signal: number): number => {
      if (signal === 0) return 0;
      if (signal < 0 || signal > 30) return Errno.INVAL;
      throw new WasiExit(128 + signal, signal);
    },
    random_get: guarded((address: number, length: number) => {
      const memory = memoryNow();
      checkRange(memory, address >>> 0, length >>> 0);
      pay(length >>> 0);
      random.fill(memory, address >>> 0, (address >>> 0) + (length >>> 0));
    }),
    sched_yield: () => 0,
    sock_accept: guarded((fd: number, flags: number, result: number) => {
      const { socket } = table.socket(fd, Rights.SOCK_ACCEPT);
      if (flags & ~FdFlags.NONBLOCK) throw new WasiError(Errno.INVAL);
      checkRange(memoryNow(), result >>> 0, 4);
      const fresh = table.add(new SocketDescriptor(socket.accept(flags)));
      setU32(memoryNow(), result >>> 0, fresh);
    }),
    sock_recv: guarded(
      (fd: number, vectors: number, count: number, flags: number, received: number, resultFlags: number) => {
        const found = table.socket(fd, Rights.FD_READ);
        if (flags & ~3) throw new WasiError(Errno.INVAL);
        checkRange(memoryNow(), resultFlags >>> 0, 2);
        transfer(context, vectors >>> 0, count >>> 0, received >>> 0, found, (from, memory, start, end) =>
          from.socket.receive(memory, start, end, flags),
        );
        setU16(memoryNow(), resultFlags >>> 0, 0);
      },
    ),
    sock_send: guarded((fd: number, vectors: number, count: number, flags: number, result: number) => {
      const found = table.socket(fd, Rights.FD_WRITE);
      if (flags !== 0) throw new WasiError(Errno.INVAL);
      transfer(context, vectors >>> 0, count >>> 0, result >>> 0, found, (to, memory, start, end) =>
        to.write(memory, start, end),
      );
    }),
    sock_shutdown: guarded((fd: number, how: number) => {
      const { socket } = table.socket(fd, Rights.SOCK_SHUTDOWN);
      if (how < 1 || how > 3) throw new WasiError(Errno.INVAL);
      socket.shutdown(how);
    }),
  };
}
