import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Errno, FdFlags, OpenFlags, Rights } from '../../../../src/wasm/wasi/abi.js';
import { MemoryFileSystem } from '../../../../src/wasm/wasi/memory-file-system.js';
import type { WasiOptions } from '../../../../src/wasm/wasi/wasi.js';
import { DirectGuest } from './direct-guest.js';

const { RESULT, BUFFER } = DirectGuest;
const rights = Rights.FD_READ | Rights.FD_WRITE | Rights.FD_SEEK | Rights.FD_TELL;
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'iguana-wasi-'));
  mkdirSync(join(folder, 'sub'));
  writeFileSync(join(folder, 'sub/file'), '0123456789');
  writeFileSync(join(folder, 'gone'), 'gone');
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function guest(): DirectGuest {
  const options: WasiOptions = {
    stdin: 'first second',
    clock: { start: 5_000 },
    random: { seed: 3 },
    preopens: [
      { guest: '/', files: { 'a/b': 'memory' } },
      { guest: '/host', host: folder, mode: 'rw' },
    ],
  };
  return new DirectGuest(options);
}

/** All that a guest can see of itself from here on. */
function future(direct: DirectGuest, files: readonly number[]): unknown[] {
  const seen: unknown[] = [direct.read(0)];
  direct.call('clock_time_get', 0, 0n, RESULT);
  seen.push(direct.result64);
  direct.call('random_get', BUFFER, 20);
  seen.push(direct.text(BUFFER, 20));
  for (const fd of files) {
    direct.call('fd_tell', fd, RESULT);
    seen.push(direct.result64, direct.read(fd, 3), direct.write(fd, '!'));
    direct.call('fd_seek', fd, 0n, 0, RESULT);
    seen.push(direct.read(fd));
    direct.call('fd_fdstat_get', fd, BUFFER);
    seen.push(direct.text(BUFFER, 24));
  }
  const opened = direct.open(3, 'a/b');
  seen.push(opened, direct.read(opened), direct.list(3), direct.stat(3, 'a/b'), direct.readlink(3, 'link'));
  return seen;
}

describe('the saved state of WASI', () => {
  it('brings another guest to the same point: descriptors, files, input, time, randomness', () => {
    const first = guest();
    first.read(0, 6);
    first.call('clock_time_get', 1, 0n, RESULT);
    first.call('random_get', BUFFER, 7);
    const memoryFile = first.open(3, 'a/b', { rights });
    first.read(memoryFile, 2);
    const unnamed = first.open(3, 'unnamed', { rights, flags: OpenFlags.CREATE, fdFlags: FdFlags.APPEND });
    first.write(unnamed, 'still here');
    first.path('path_unlink_file', 3, 'unnamed');
    first.symlink('a', 3, 'link');
    first.link('path_link', 3, 'a/b', 3, 'hard');
    const hostFile = first.open(4, 'sub/file', { rights });
    first.call('fd_seek', hostFile, 4n, 0, RESULT);
    first.call('fd_renumber', hostFile, 0 + first.open(3, 'a/b'));
    const moved = 8;
    const state = first.wasi.save();

    const expected = future(first, [memoryFile, unnamed, moved]);
    writeFileSync(join(folder, 'sub/file'), '0123456789');
    const second = guest();
    expect(second.wasi.restore(state)).toEqual([]);
    expect(future(second, [memoryFile, unnamed, moved])).toEqual(expected);
    expect(expected).toContain('second');
    // A second restoring into the same guest is as good as the first.
    writeFileSync(join(folder, 'sub/file'), '0123456789');
    second.wasi.restore(state);
    expect(future(second, [memoryFile, unnamed, moved])).toEqual(expected);
    expect(second.wasi.restore(state)).toEqual([]);
    expect(second.wasi.save()).toEqual(state);
    first.wasi.close();
    second.wasi.close();
  });

  it('finds host files where they are when it is taken, renamed ones too', () => {
    const first = guest();
    const fd = first.open(4, 'sub/file', { rights });
    renameSync(join(folder, 'sub'), join(folder, 'renamed'));
    const state = first.wasi.save();
    const second = guest();
    if (process.platform === 'linux') {
      expect(second.wasi.restore(state)).toEqual([]);
      expect(second.read(fd)).toBe('0123456789');
    }
    first.wasi.close();
    second.wasi.close();
  });

  it('gives STALE for what is not there any more, or would lead outside now', () => {
    const first = guest();
    const gone = first.open(4, 'gone', { rights });
    const swapped = first.open(4, 'sub/file', { rights });
    const state = first.wasi.save();
    unlinkSync(join(folder, 'gone'));
    const outside = mkdtempSync(join(tmpdir(), 'iguana-outside-'));
    writeFileSync(join(outside, 'file'), 'SECRET');
    rmSync(join(folder, 'sub'), { recursive: true });
    symlinkSync(outside, join(folder, 'sub'));
    const second = guest();
    expect(second.wasi.restore(state)).toEqual([gone, swapped]);
    expect([second.read(gone), second.read(swapped)]).toEqual([Errno.STALE, Errno.STALE]);
    expect([second.call('fd_close', gone), second.call('fd_close', gone)]).toEqual([0, Errno.BADF]);
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('SECRET');
    rmSync(outside, { recursive: true });
    first.wasi.close();
    second.wasi.close();
  });

  it('is refused by a guest with other preopens, by smaller bounds, and when it is broken', () => {
    const first = guest();
    const state = first.wasi.save();
    expect(() => new DirectGuest({}).wasi.restore(state)).toThrow('IGU_WASM_SNAPSHOT');
    for (const length of [0, 3, 8, 100, state.length - 1])
      expect(() => guest().wasi.restore(state.subarray(0, length))).toThrow('IGU_WASM_SNAPSHOT');
    const files = new MemoryFileSystem({ files: { big: 'x'.repeat(1_000) } }).save();
    expect(() => new MemoryFileSystem({ maxBytes: 999 }).restore(files)).toThrow('IGU_WASM_LIMIT');
    const small = new MemoryFileSystem();
    small.restore(files);
    expect([small.usedBytes, small.get('big')?.length]).toEqual([1_000, 1_000]);
    first.wasi.close();
  });
});
