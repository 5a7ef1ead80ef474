import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../../../src/clock.js';
import { IguanaError } from '../../../../src/errors.js';
import { wasiLimits } from '../../../../src/limits.js';
import { prices } from '../../../../src/wasm/gas/prices.js';
import { WasmTrap } from '../../../../src/wasm/trap.js';
import { Errno, FdFlags, OpenFlags, Rights } from '../../../../src/wasm/wasi/abi.js';
import type { WasiSocket } from '../../../../src/wasm/wasi/descriptor.js';
import { BoundedOutput } from '../../../../src/wasm/wasi/streams.js';
import { Wasi } from '../../../../src/wasm/wasi/wasi.js';
import { WasiExit } from '../../../../src/wasm/wasi/wasi-error.js';
import { DirectGuest } from './direct-guest.js';

const { RESULT, BUFFER } = DirectGuest;
const READ_WRITE =
  Rights.FD_READ | Rights.FD_WRITE | Rights.FD_SEEK | Rights.FD_TELL | Rights.FD_FDSTAT_SET_FLAGS | Rights.FD_ALLOCATE;

/** Types of all functions of preview 1: i for i32, I for i64, in the order of the specification. */
const signatures: Record<string, string> = {
  args_get: 'ii',
  args_sizes_get: 'ii',
  environ_get: 'ii',
  environ_sizes_get: 'ii',
  clock_res_get: 'ii',
  clock_time_get: 'iIi',
  fd_advise: 'iIIi',
  fd_allocate: 'iII',
  fd_close: 'i',
  fd_datasync: 'i',
  fd_fdstat_get: 'ii',
  fd_fdstat_set_flags: 'ii',
  fd_fdstat_set_rights: 'iII',
  fd_filestat_get: 'ii',
  fd_filestat_set_size: 'iI',
  fd_filestat_set_times: 'iIIi',
  fd_pread: 'iiiIi',
  fd_prestat_get: 'ii',
  fd_prestat_dir_name: 'iii',
  fd_pwrite: 'iiiIi',
  fd_read: 'iiii',
  fd_readdir: 'iiiIi',
  fd_renumber: 'ii',
  fd_seek: 'iIii',
  fd_sync: 'i',
  fd_tell: 'ii',
  fd_write: 'iiii',
  path_create_directory: 'iii',
  path_filestat_get: 'iiiii',
  path_filestat_set_times: 'iiiiIIi',
  path_link: 'iiiiiii',
  path_open: 'iiiiiIIii',
  path_readlink: 'iiiiii',
  path_remove_directory: 'iii',
  path_rename: 'iiiiii',
  path_symlink: 'iiiii',
  path_unlink_file: 'iii',
  poll_oneoff: 'iiii',
  proc_exit: 'i',
  proc_raise: 'i',
  sched_yield: '',
  random_get: 'ii',
  sock_accept: 'iii',
  sock_recv: 'iiiiii',
  sock_send: 'iiiii',
  sock_shutdown: 'ii',
};

function guest(options: ConstructorParameters<typeof DirectGuest>[0] = {}): DirectGuest {
  return new DirectGuest({ preopens: [{ guest: '/', files: { 'dir/file': 'content', other: 'x' } }], ...options });
}

describe('every function', () => {
  it('is there, under both names', () => {
    const wasi = new Wasi();
    for (const module of ['wasi_snapshot_preview1', 'wasi_unstable'] as const)
      expect(Object.keys(wasi.imports(module)).sort()).toEqual(Object.keys(signatures).sort());
  });

  it('answers any arguments with an errno, never with an exception of the host', () => {
    const folder = mkdtempSync(join(tmpdir(), 'iguana-wasi-'));
    const i32 = fc.oneof(
      fc.constantFrom(
        0,
        1,
        2,
        3,
        4,
        5,
        6,
        8,
        16,
        64,
        1024,
        BUFFER,
        -1,
        -8,
        1_048_576,
        1_048_575,
        1_048_572,
        2 ** 31 - 1,
      ),
      fc.integer(),
      fc.nat(70_000),
    );
    const i64 = fc.oneof(
      fc.constantFrom(0n, 1n, 2n, 5n, -1n, 2n ** 53n, 2n ** 63n - 1n, -(2n ** 63n), BigInt(READ_WRITE)),
      fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
    );
    const call = fc
      .constantFrom(...Object.keys(signatures))
      .chain((name) =>
        fc.tuple(
          fc.constant(name),
          fc.tuple(...[...signatures[name]!].map((t): fc.Arbitrary<unknown> => (t === 'i' ? i32 : i64))),
        ),
      );
    let calls = 0;
    const answers = new Set<number>();
    try {
      fc.assert(
        fc.property(
          fc.array(call, { minLength: 20, maxLength: 60 }),
          fc.uint8Array({ minLength: 64, maxLength: 64 }),
          (list, noise) => {
            const direct = guest({
              stdin: 'input',
              args: ['a'],
              preopens: [
                { guest: '/', files: { a: 'b' }, maxBytes: 100_000, maxInodes: 20 },
                { guest: '/host', host: folder, mode: 'rw' },
              ],
              clock: {},
              random: { seed: 1 },
            });
            direct.memory.set(noise, 1);
            direct.put('a/../b', 1024);
            direct.view.setUint32(16, 1024, true);
            direct.view.setUint32(20, 6, true);
            for (const [name, args] of list) {
              calls++;
              try {
                answers.add(direct.calls[name]!(...args) as number);
              } catch (error) {
                expect(error, `${name}(${args.join(', ')})`).toBeInstanceOf(WasiExit);
              }
            }
            direct.wasi.close();
          },
        ),
        { numRuns: 60, seed: 11 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
    expect(calls).toBeGreaterThan(1_000);
    for (const errno of [0, Errno.FAULT, Errno.BADF, Errno.INVAL, Errno.NOTCAPABLE]) expect(answers).toContain(errno);
  });

  it('answers FAULT for addresses outside of memory, before it does anything', () => {
    const direct = guest({ args: ['a'], env: { b: 'c' } });
    const end = direct.memory.length;
    for (const [name, ...args] of [
      ['args_get', 0, end - 1],
      ['args_sizes_get', end - 3, 0],
      ['environ_get', end - 3, 0],
      ['clock_time_get', 1, 0n, end - 7],
      ['clock_res_get', 1, -1],
      ['fd_fdstat_get', 3, end - 23],
      ['fd_filestat_get', 3, end - 63],
      ['fd_prestat_get', 3, end - 7],
      ['fd_prestat_dir_name', 3, end, 1],
      ['fd_write', 1, end - 7, 1, 0],
      ['fd_write', 1, 0, 1, end - 3],
      ['fd_readdir', 3, end - 8, 9, 0n, 0],
      ['random_get', end - 8, 9],
      ['random_get', 0, -1],
      ['path_create_directory', 3, -2, 4],
      ['path_open', 3, 0, 1024, 0, OpenFlags.CREATE, 0n, 0n, 0, end - 2],
      ['poll_oneoff', end - 47, 0, 1, 0],
      ['poll_oneoff', 0, end - 31, 1, 0],
    ] as const)
      expect(direct.call(name, ...args), `${name} ${args.join(' ')}`).toBe(Errno.FAULT);
    direct.view.setUint32(0, end - 4, true);
    direct.view.setUint32(4, 5, true);
    expect(direct.call('fd_write', 1, 0, 1, RESULT)).toBe(Errno.FAULT);
    expect(direct.wasi.stdout!.written).toBe(0);
  });
});

describe('arguments and environment', () => {
  it('lie in memory as C expects them', () => {
    const direct = guest({ args: ['prog', 'zwölf'], env: { A: '1', B: '' } });
    expect(direct.call('args_sizes_get', RESULT, RESULT + 4)).toBe(0);
    expect([direct.view.getUint32(RESULT, true), direct.view.getUint32(RESULT + 4, true)]).toEqual([2, 5 + 7]);
    direct.call('args_get', RESULT, BUFFER);
    expect(direct.view.getUint32(RESULT + 4, true)).toBe(BUFFER + 5);
    expect(direct.text(BUFFER, 12)).toBe('prog\0zwölf\0');
    direct.call('environ_get', RESULT, BUFFER);
    expect(direct.text(BUFFER, 7)).toBe('A=1\0B=\0');
  });

  it('are refused with zero bytes, bad names, or beyond their bound', () => {
    for (const options of [{ args: ['a\0b'] }, { env: { 'a=b': '' } }, { env: { '': 'x' } }])
      expect(() => new Wasi(options)).toThrow(IguanaError);
    expect(() => new Wasi({ args: ['x'.repeat(wasiLimits.maxArgumentBytes)] })).toThrow('IGU_WASM_LIMIT');
  });
});

describe('streams', () => {
  it('read standard input to its end, in pieces', () => {
    const direct = guest({ stdin: 'hello world' });
    expect([direct.read(0, 5), direct.read(0, 100), direct.read(0, 100)]).toEqual(['hello', ' world', '']);
    expect(direct.call('fd_seek', 0, 0n, 0, RESULT)).toBe(Errno.SPIPE);
    expect(direct.write(0, 'x')).toBe(Errno.NOTCAPABLE);
  });

  it('keep output up to a bound and say that there was more', () => {
    const stdout = new BoundedOutput(10);
    const direct = guest({ stdout });
    for (const text of ['12345', '67890', 'abc']) expect(direct.write(1, text)).toBe(0);
    expect([stdout.text(), stdout.truncated, stdout.written]).toEqual(['1234567890', true, 13]);
    direct.write(2, 'error');
    expect(direct.wasi.stderr!.text()).toBe('error');
    const long = 'x'.repeat(5_000);
    direct.write(2, long);
    expect(direct.wasi.stderr!.text()).toBe(`error${long}`);
  });

  it('gather several buffers and stop at the bound of one call', () => {
    const direct = guest();
    direct.put('abcdef', BUFFER);
    for (const [i, [at, length]] of [
      [BUFFER, 2],
      [BUFFER, 0],
      [BUFFER + 4, 2],
    ].entries()) {
      direct.view.setUint32(8 * i, at!, true);
      direct.view.setUint32(8 * i + 4, length!, true);
    }
    expect([direct.call('fd_write', 1, 0, 3, RESULT), direct.result]).toEqual([0, 4]);
    expect(direct.wasi.stdout!.text()).toBe('abef');
    expect(direct.call('fd_write', 1, 0, wasiLimits.maxVectors + 1, RESULT)).toBe(Errno.INVAL);
  });
});

describe('clocks and randomness', () => {
  it('are those of the host where they are real', () => {
    const hostClock = new VirtualClock(1_700_000_000_123);
    const direct = guest({ hostClock });
    direct.call('clock_time_get', 0, 0n, RESULT);
    expect(direct.result64).toBe(1_700_000_000_123_000_000n);
    direct.call('clock_time_get', 1, 0n, RESULT);
    const first = direct.result64;
    direct.call('clock_time_get', 1, 0n, RESULT);
    expect(direct.result64).toBeGreaterThanOrEqual(first);
    expect(direct.call('clock_time_get', 9, 0n, RESULT)).toBe(Errno.INVAL);
  });

  it('depend on nothing of the host where they are deterministic', () => {
    const observe = () => {
      const direct = guest({ clock: { start: 1_000, step: 500 }, random: { seed: 42 } });
      const seen: unknown[] = [];
      for (const id of [0, 1, 2, 0]) {
        direct.call('clock_time_get', id, 0n, RESULT);
        seen.push(direct.result64);
      }
      direct.call('random_get', BUFFER, 37);
      seen.push(direct.text(BUFFER, 37));
      direct.path('path_create_directory', 3, 'new');
      return [...seen, direct.stat(3, 'new')];
    };
    const seen = observe();
    expect(observe()).toEqual(seen);
    expect(seen.slice(0, 4)).toEqual([1_000_000_500n, 1_000n, 1_500n, 1_000_002_000n]);
    const other = guest({ random: { seed: 43 } });
    other.call('random_get', BUFFER, 37);
    expect(other.text(BUFFER, 37)).not.toBe(seen[4]);
  });

  it('give bytes that look random', () => {
    for (const random of ['real', { seed: 7 }] as const) {
      const direct = guest({ random });
      expect(direct.call('random_get', BUFFER, 100_000)).toBe(0);
      const counts = new Array<number>(256).fill(0);
      for (const byte of direct.memory.subarray(BUFFER, BUFFER + 100_000)) counts[byte]!++;
      const expected = 100_000 / 256;
      const chi = counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
      // 255 degrees of freedom: above 400 once in 10^8.
      expect(chi).toBeLessThan(400);
    }
  });
});

/** Writes a subscription of the new layout. */
function subscribe(
  direct: DirectGuest,
  i: number,
  kind: 'clock' | 'read' | 'write',
  value: number,
  absolute = false,
): void {
  const at = BUFFER + 48 * i;
  direct.memory.fill(0, at, at + 48);
  direct.view.setBigUint64(at, BigInt(100 + i), true);
  if (kind === 'clock') {
    direct.view.setUint32(at + 16, 1, true);
    direct.view.setBigUint64(at + 24, BigInt(value), true);
    direct.view.setUint16(at + 40, absolute ? 1 : 0, true);
  } else {
    direct.memory[at + 8] = kind === 'read' ? 1 : 2;
    direct.view.setUint32(at + 16, value, true);
  }
}

function poll(direct: DirectGuest, count: number): [user: number, error: number, type: number][] | number {
  const errno = direct.call('poll_oneoff', BUFFER, BUFFER, count, RESULT);
  if (errno !== 0) return errno;
  return Array.from({ length: direct.result }, (_, i) => {
    const at = BUFFER + 32 * i;
    return [Number(direct.view.getBigUint64(at, true)), direct.view.getUint16(at + 8, true), direct.memory[at + 10]!];
  });
}

describe('poll_oneoff', () => {
  it('waits through the sleep that it is given, for the first clock', () => {
    const waits: number[] = [];
    const direct = guest({
      sleep: (ms) => {
        waits.push(ms);
        return true;
      },
    });
    subscribe(direct, 0, 'clock', 5_000_000);
    subscribe(direct, 1, 'clock', 2_000_000);
    expect(poll(direct, 2)).toEqual([[101, 0, 0]]);
    expect(waits).toEqual([2]);
  });

  it('is interrupted where the sleep is, and where it is longer than the bound', () => {
    const early = guest({ sleep: () => false });
    subscribe(early, 0, 'clock', 1_000_000);
    expect(poll(early, 1)).toBe(Errno.INTR);
    const waits: number[] = [];
    const long = guest({
      sleep: (ms) => {
        waits.push(ms);
        return true;
      },
    });
    subscribe(long, 0, 'clock', 3_600e9);
    expect(poll(long, 1)).toBe(Errno.INTR);
    expect(waits).toEqual([wasiLimits.maxSleepMs]);
  });

  it('moves virtual time and takes none', () => {
    const direct = guest({
      clock: { step: 0 },
      sleep: () => {
        throw new Error('slept');
      },
    });
    subscribe(direct, 0, 'clock', 3_600e9);
    expect(poll(direct, 1)).toEqual([[100, 0, 0]]);
    direct.call('clock_time_get', 1, 0n, RESULT);
    expect(direct.result64).toBe(3_600_000_000_000n);
    subscribe(direct, 0, 'clock', 3_601e9, true);
    poll(direct, 1);
    direct.call('clock_time_get', 1, 0n, RESULT);
    expect(direct.result64).toBe(3_601_000_000_000n);
  });

  it('tells ready descriptors at once, and errors of others in their events', () => {
    const direct = guest({ stdin: 'abc' });
    subscribe(direct, 0, 'clock', 1e9);
    subscribe(direct, 1, 'read', 0);
    subscribe(direct, 2, 'write', 1);
    subscribe(direct, 3, 'read', 77);
    expect(poll(direct, 4)).toEqual([
      [101, 0, 1],
      [102, 0, 2],
      [103, Errno.BADF, 1],
    ]);
    expect(poll(direct, 0)).toBe(Errno.INVAL);
  });
});

describe('rights and descriptors', () => {
  it('are never more than those of the directory, and only shrink', () => {
    const direct = guest();
    const length = direct.put('dir', 1024);
    const open = (rights: number, inheriting: number) =>
      direct.call('path_open', 3, 0, 1024, length, OpenFlags.DIRECTORY, BigInt(rights), BigInt(inheriting), 0, RESULT);
    expect(open(Rights.PATH_OPEN, Rights.FD_READ)).toBe(0);
    const limited = direct.result;
    expect(direct.open(limited, 'file', { rights: Rights.FD_READ | Rights.FD_SEEK })).toBe(-Errno.NOTCAPABLE);
    expect(direct.open(limited, 'file', { rights: Rights.FD_READ, flags: OpenFlags.CREATE })).toBe(-Errno.NOTCAPABLE);
    expect(direct.path('path_unlink_file', limited, 'file')).toBe(Errno.NOTCAPABLE);
    const file = direct.open(limited, 'file', { rights: Rights.FD_READ });
    expect(direct.read(file)).toBe('content');
    expect(direct.call('fd_tell', file, RESULT)).toBe(Errno.NOTCAPABLE);
    expect(direct.call('fd_fdstat_set_rights', file, BigInt(READ_WRITE), 0n)).toBe(Errno.NOTCAPABLE);
    expect(direct.call('fd_fdstat_set_rights', file, 0n, 0n)).toBe(0);
    expect(direct.read(file)).toBe(Errno.NOTCAPABLE);
    expect(direct.call('fd_fdstat_set_rights', file, BigInt(Rights.FD_READ), 0n)).toBe(Errno.NOTCAPABLE);
    expect(direct.open(3, 'dir/file', { rights: 2 ** 40 })).toBe(-Errno.NOTCAPABLE);
  });

  it('end at a bound, with an error that the guest can handle', () => {
    const direct = guest();
    let last = 0;
    while (last >= 0) last = direct.open(3, 'other');
    expect(last).toBe(-Errno.MFILE);
    expect(direct.call('fd_close', 500)).toBe(0);
    expect(direct.open(3, 'other')).toBe(500);
  });

  it('append, sync and seek as POSIX says', () => {
    const direct = guest();
    const fd = direct.open(3, 'log', { flags: OpenFlags.CREATE, rights: READ_WRITE, fdFlags: FdFlags.APPEND });
    direct.write(fd, 'one');
    direct.call('fd_seek', fd, 0n, 0, RESULT);
    direct.write(fd, 'two');
    direct.call('fd_seek', fd, -6n, 2, RESULT);
    expect(direct.read(fd)).toBe('onetwo');
    expect(direct.call('fd_seek', fd, -7n, 2, RESULT)).toBe(Errno.INVAL);
    expect(direct.call('fd_allocate', fd, 0n, 10n)).toBe(0);
    expect(direct.contentOf(3, 'log')).toBe('onetwo\0\0\0\0');
  });

  it('of the old name have its layouts', () => {
    const direct = new DirectGuest({ preopens: [{ guest: '/', files: { f: '12345' } }] }, 'wasi_unstable');
    const fd = direct.open(3, 'f', { rights: READ_WRITE | Rights.FD_FILESTAT_GET });
    expect([direct.call('fd_seek', fd, 2n, 2, RESULT), direct.result64]).toEqual([0, 2n]);
    expect([direct.call('fd_seek', fd, 1n, 0, RESULT), direct.result64]).toEqual([0, 3n]);
    expect([direct.call('fd_seek', fd, 0n, 1, RESULT), direct.result64]).toEqual([0, 5n]);
    direct.call('fd_filestat_get', fd, BUFFER);
    expect(direct.view.getUint32(BUFFER + 20, true)).toBe(1);
    expect(direct.view.getBigUint64(BUFFER + 24, true)).toBe(5n);
  });
});

describe('files in memory', () => {
  it('end at their bounds with NOSPC, and give room back', () => {
    const direct = guest({ preopens: [{ guest: '/', files: {}, maxBytes: 1_000, maxInodes: 4 }] });
    const fd = direct.open(3, 'a', { flags: OpenFlags.CREATE, rights: READ_WRITE });
    expect(direct.write(fd, 'x'.repeat(1_000))).toBe(0);
    expect(direct.write(fd, 'y')).toBe(Errno.NOSPC);
    expect(direct.call('fd_allocate', fd, 0n, 2n ** 40n)).toBe(Errno.NOSPC);
    expect(direct.symlink('long', 3, 'link')).toBe(Errno.NOSPC);
    direct.path('path_unlink_file', 3, 'a');
    // Still open: its bytes are still there.
    expect(direct.symlink('long', 3, 'link')).toBe(Errno.NOSPC);
    direct.call('fd_close', fd);
    expect(direct.symlink('long', 3, 'link')).toBe(0);
    expect([direct.path('path_create_directory', 3, 'd'), direct.path('path_create_directory', 3, 'e')]).toEqual([
      0, 0,
    ]);
    expect(direct.path('path_create_directory', 3, 'f')).toBe(Errno.NOSPC);
    direct.path('path_remove_directory', 3, 'e');
    expect(direct.path('path_create_directory', 3, 'f')).toBe(0);
  });
});

describe('ends and sockets', () => {
  it('of a guest are told with its code', () => {
    const direct = guest();
    expect(() => direct.call('proc_exit', 7)).toThrow(new WasiExit(7));
    expect(() => direct.call('proc_raise', 6)).toThrow('signal 6');
    expect(direct.call('sched_yield')).toBe(0);
  });

  it('there are none unless given, and those given carry bytes', () => {
    expect(guest().call('sock_shutdown', 3, 1)).toBe(Errno.NOTSOCK);
    expect(guest().call('sock_accept', 9, 0, RESULT)).toBe(Errno.BADF);
    const sent: string[] = [];
    const socket: WasiSocket = {
      accept: () => ({ ...socket }),
      receive: (memory, start) => {
        memory.set(Buffer.from('ping'), start);
        return 4;
      },
      send: (memory, start, end) => {
        sent.push(Buffer.from(memory.subarray(start, end)).toString());
        return end - start;
      },
      shutdown: (how) => {
        sent.push(`shutdown ${how}`);
      },
      close: () => {
        sent.push('closed');
      },
    };
    const direct = guest({ preopens: [], sockets: [socket] });
    expect([direct.call('sock_accept', 3, 0, RESULT), direct.result]).toEqual([0, 4]);
    expect(direct.read(4)).toBe('ping');
    expect(direct.write(4, 'pong')).toBe(0);
    direct.view.setUint32(0, BUFFER, true);
    direct.view.setUint32(4, 2, true);
    expect([direct.call('sock_send', 4, 0, 1, 0, RESULT), direct.result]).toEqual([0, 2]);
    expect([direct.call('sock_recv', 4, 0, 1, 0, RESULT, RESULT + 8), direct.result]).toEqual([0, 4]);
    expect([direct.call('sock_shutdown', 4, 3), direct.call('fd_close', 4)]).toEqual([0, 0]);
    expect(sent).toEqual(['pong', 'po', 'shutdown 3', 'closed']);
  });
});

describe('gas of bytes that calls move', () => {
  const priceOf = (of: DirectGuest, run: () => unknown): number => {
    const before = of.wasi.gasOfBytes;
    run();
    return of.wasi.gasOfBytes - before;
  };
  const units = (bytes: number) => Math.floor(Math.max(0, bytes - prices.hostCallBytes) / prices.bytesPerUnit);

  it('is what bulk instructions cost, beyond what the call itself pays for', () => {
    const one = guest({
      args: ['program', 'x'.repeat(10_000)],
      stdin: 'y'.repeat(3_000),
      preopens: [{ guest: '/', files: { short: 'abc', long: new Uint8Array(20_000) } }],
    });
    expect(priceOf(one, () => one.write(1, 'z'.repeat(512)))).toBe(0);
    expect(priceOf(one, () => one.write(1, 'z'.repeat(519)))).toBe(0);
    expect(priceOf(one, () => one.write(1, 'z'.repeat(520)))).toBe(1);
    expect(priceOf(one, () => one.read(0, 65_536))).toBe(units(3_000));
    expect(priceOf(one, () => one.read(0, 65_536))).toBe(0);
    expect(priceOf(one, () => one.call('random_get', BUFFER, 65_536))).toBe(8_128);
    expect(priceOf(one, () => one.call('random_get', BUFFER, 2_000_000))).toBe(0); // EFAULT: nothing was moved
    expect(priceOf(one, () => one.call('args_get', BUFFER, BUFFER + 64))).toBe(units(10_009 + 8));
    expect(priceOf(one, () => one.stat(3, `${'./'.repeat(1_000)}short`))).toBe(units(2_005));
    const fd = one.open(3, 'long', { rights: READ_WRITE | Rights.FD_FILESTAT_SET_SIZE });
    expect(priceOf(one, () => one.call('fd_filestat_set_size', fd, 1_000_000n))).toBe(units(980_000));
    expect(priceOf(one, () => one.call('fd_filestat_set_size', fd, 0n))).toBe(units(1_000_000));
    expect(priceOf(one, () => one.call('fd_allocate', fd, 0n, 30_000n))).toBe(units(30_000));
    expect(priceOf(one, () => one.call('fd_allocate', fd, 0n, 20_000n))).toBe(0);
    const truncate = { flags: OpenFlags.TRUNCATE, rights: READ_WRITE };
    expect(priceOf(one, () => one.open(3, 'long', truncate))).toBe(units(30_000));
  });

  it('of a listing is all entries, however few of them are asked for', () => {
    const files = Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`file${1_000 + i}`, '']));
    const one = guest({ preopens: [{ guest: '/', files }] });
    const cost = priceOf(one, () => expect(one.call('fd_readdir', 3, BUFFER, 24, 0n, RESULT)).toBe(0));
    expect(cost).toBe(units(1_000 * (24 + 8) + 2 * 24 + 3 + 24));
  });

  it('ends the call when there is not so much', () => {
    const one = guest({});
    let left = 100;
    one.wasi.bind(
      () => one.memory,
      (charge) => {
        left -= charge;
        if (left < 0) throw new WasmTrap('out-of-gas');
      },
    );
    one.call('random_get', BUFFER, 1_312);
    expect(left).toBe(0);
    one.call('random_get', BUFFER, 512);
    one.memory.fill(0);
    expect(() => one.call('random_get', BUFFER, 520)).toThrow(WasmTrap);
    expect(one.memory.every((byte) => byte === 0)).toBe(true);
  });
});
