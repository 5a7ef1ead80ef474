import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { wasiLimits } from '../../../../src/limits.js';
import { WasmRuntime } from '../../../../src/wasm/runtime/runtime.js';
import { Errno, OpenFlags, Rights } from '../../../../src/wasm/wasi/abi.js';
import { type DescriptorTable, DirectoryDescriptor } from '../../../../src/wasm/wasi/descriptor.js';
import { HostFileSystem } from '../../../../src/wasm/wasi/host-file-system.js';
import { MemoryFileSystem } from '../../../../src/wasm/wasi/memory-file-system.js';
import { realRandom } from '../../../../src/wasm/wasi/random.js';
import { decodeState, encodeState, whileReading } from '../../../../src/wasm/wasi/saved-state.js';
import { openBelow } from '../../../support/open-descriptors.js';
import { DirectGuest } from './direct-guest.js';

const { RESULT, BUFFER } = DirectGuest;
const MIB = 1_048_576;
const ALL = Rights.FD_READ | Rights.FD_WRITE | Rights.FD_SEEK | Rights.FD_FILESTAT_SET_SIZE;
let folder: string;

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'iguana-bounds-')));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

describe('files in memory', () => {
  it('give the room of what was cut off back to the host', () => {
    const files = new MemoryFileSystem({ maxBytes: 16 * MIB });
    const direct = new DirectGuest({ preopens: [{ guest: '/', fileSystem: files }] });
    for (let i = 0; i < 40; i++) {
      const fd = direct.open(3, `f${i}`, { flags: OpenFlags.CREATE, rights: ALL });
      expect(direct.call('fd_filestat_set_size', fd, BigInt(15 * MIB))).toBe(0);
      expect(direct.call('fd_filestat_set_size', fd, BigInt(i))).toBe(0);
    }
    expect(files.heldBytes).toBeLessThanOrEqual(40 * 64);
    expect(files.usedBytes).toBe((39 * 40) / 2);
    direct.wasi.close();
  });

  it('keep their content when they are cut and grow again', () => {
    const direct = new DirectGuest({ preopens: [{ guest: '/', files: {} }] });
    const fd = direct.open(3, 'f', { flags: OpenFlags.CREATE, rights: ALL });
    direct.write(fd, 'x'.repeat(1000));
    direct.call('fd_filestat_set_size', fd, 10n);
    direct.call('fd_filestat_set_size', fd, 600n);
    direct.call('fd_seek', fd, 0n, 0, RESULT);
    expect(direct.read(fd)).toBe(`${'x'.repeat(10)}${'\0'.repeat(590)}`);
    direct.wasi.close();
  });

  it('are counted the same after a restore', () => {
    const files = new MemoryFileSystem({ maxInodes: 3 });
    const direct = new DirectGuest({ preopens: [{ guest: '/', fileSystem: files }] });
    const state = direct.wasi.save();
    direct.wasi.restore(state);
    const made = ['a', 'b', 'c'].map((name) => direct.path('path_create_directory', 3, name));
    expect(made).toEqual([0, 0, Errno.NOSPC]);
    direct.wasi.close();
  });

  it('are not counted twice by handles from before a restore', () => {
    const files = new MemoryFileSystem();
    files.put('a', 'x'.repeat(100));
    const other = new DirectGuest({ preopens: [{ guest: '/', fileSystem: files }] });
    const fd = other.open(3, 'a', { rights: ALL });
    other.path('path_unlink_file', 3, 'a');
    const direct = new DirectGuest({ preopens: [{ guest: '/', fileSystem: files }] });
    direct.wasi.restore(direct.wasi.save());
    expect(files.usedBytes).toBe(100);
    other.call('fd_close', fd);
    expect(files.usedBytes).toBe(100);
    other.wasi.close();
    direct.wasi.close();
  });

  it('have names that a guest can be told', () => {
    expect(() => new MemoryFileSystem({ files: { [`d/${'x'.repeat(256)}`]: '' } })).toThrow('names no file');
    expect(() => new MemoryFileSystem({ files: { 'a\0b': '' } })).toThrow('names no file');
  });
});

describe('listings', () => {
  it('are held for a few descriptors, however many are open', () => {
    const files: Record<string, string> = {};
    for (let i = 0; i < 100; i++) files[`name-${i}`] = '';
    const direct = new DirectGuest({ preopens: [{ guest: '/', files }] });
    const rights = Rights.FD_READDIR;
    const opened: number[] = [];
    for (let i = 0; i < 40; i++) {
      const fd = direct.open(3, '.', { flags: OpenFlags.DIRECTORY, rights });
      expect(direct.call('fd_readdir', fd, BUFFER, 64, 0n, RESULT)).toBe(0);
      opened.push(fd);
    }
    const { table } = direct.wasi as unknown as { table: DescriptorTable };
    const listings = [...table.entries()].filter(([, one]) => one instanceof DirectoryDescriptor && one.listing);
    expect(listings.length).toBe(wasiLimits.maxListings);
    // the listing of the first was let go: it goes on where it was
    expect(direct.call('fd_readdir', opened[0], BUFFER, 64, 50n, RESULT)).toBe(0);
    expect(direct.view.getBigUint64(BUFFER, true)).toBe(51n);
    direct.wasi.close();
  });

  it('of host directories are sorted', () => {
    for (const name of ['b', 'a', 'c']) writeFileSync(join(folder, name), '');
    const direct = new DirectGuest({ preopens: [{ guest: '/', host: folder }] });
    expect(direct.list(3)).toEqual(['.', '..', 'a', 'b', 'c']);
    direct.wasi.close();
  });
});

describe('a call that its time cuts off', () => {
  /**
   * (module (import "wasi_snapshot_preview1" "path_filestat_get" (func $s (param i32 i32 i32 i32 i32) (result i32)))
   *   (memory (export "memory") 1) (data (i32.const 1024) "a/a/…/a")
   *   (func (export "go") (loop $l (drop (call $s (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 119) (i32.const 64))) (br $l))))
   */
  const asksOn = Buffer.from(
    'AGFzbQEAAAABDQJgBX9/f39/AX9gAAACLAEWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MRFwYXRoX2ZpbGVzdGF0X2dldAAAAwIBAQUDAQABBw8CBm' +
      '1lbW9yeQIAAmdvAAEKGQEXAANAQQNBAEGACEH3AEHAABAAGgwACwsLfgEAQYAIC3dhL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2Ev' +
      'YS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2EvYS9hL2' +
      'EvYQ==',
    'base64',
  );

  it.runIf(process.platform === 'linux')('leaves hardly any directory open that it had entered', async () => {
    mkdirSync(join(folder, Array(60).fill('a').join('/')), { recursive: true });
    const runtime = new WasmRuntime({ workers: 1 });
    const { id } = await runtime.loadModule(asksOn);
    const preopens = [{ guest: '/', host: folder }];
    const handle = await runtime.createInstance({
      moduleId: id,
      placement: 'in-place',
      limits: { timeout: 2 },
      wasi: { preopens },
    });
    for (let i = 0; i < 30; i++) await expect(runtime.callFunction(handle, 'go')).rejects.toThrow('IGU_WASM_TIMEOUT');
    expect(openBelow(folder)).toBeLessThanOrEqual(wasiLimits.maxLostDescriptors);
    await runtime.close();
  });
});

describe('large memories', () => {
  it('get random bytes beyond 2 GiB', () => {
    const memory = new Uint8Array(2 ** 31 + 64);
    realRandom.fill(memory, 2 ** 31 + 8, 2 ** 31 + 64);
    expect(new Set(memory.subarray(2 ** 31 + 8)).size).toBeGreaterThan(20);
    expect(memory.subarray(2 ** 31 - 64, 2 ** 31 + 8).every((byte) => byte === 0)).toBe(true);
  });
});

describe('a state that another wrote', () => {
  /** The saved state of a guest with one open host file, its place replaced. */
  function stateWith(place: string): Uint8Array {
    writeFileSync(join(folder, 'jail/file'), 'inside');
    const direct = new DirectGuest({ preopens: [{ guest: '/', host: join(folder, 'jail'), mode: 'rw' }] });
    direct.open(3, 'file');
    const state = Buffer.from(direct.wasi.save());
    direct.wasi.close();
    const from = Buffer.from('"place":"file"');
    const to = Buffer.from(`"place":${JSON.stringify(place)}`);
    const at = state.indexOf(from);
    expect(at).toBeGreaterThan(0);
    const changed = Buffer.concat([state.subarray(0, at), to, state.subarray(at + from.length)]);
    changed.writeUInt32LE(changed.readUInt32LE(4) + to.length - from.length, 4);
    return changed;
  }

  it.each(['../secret', 'sub/../../secret', './../secret', '../jail/../secret', '..'])(
    'leads nowhere by %s',
    (place) => {
      mkdirSync(join(folder, 'jail/sub'), { recursive: true });
      writeFileSync(join(folder, 'secret'), 'SECRET');
      const direct = new DirectGuest({ preopens: [{ guest: '/', host: join(folder, 'jail'), mode: 'rw' }] });
      expect(direct.wasi.restore(stateWith(place))).toEqual([4]);
      expect(direct.read(4)).toBe(Errno.STALE);
      direct.wasi.close();
    },
  );
});

describe('files in memory that another saved', () => {
  interface Saved {
    top: number;
    next: number;
    inodes: { ino: number; type: number; nlink: number; size: number; entries?: [string, number][] }[];
  }
  const changes: Record<string, (saved: Saved) => void> = {
    'a directory inside itself': ({ inodes: [top, a] }) => {
      top!.entries = [];
      top!.nlink = 2;
      a!.entries = [['a', a!.ino]];
    },
    'directories that hold each other, apart from the top': ({ inodes: [top, a, b] }) => {
      top!.entries = [];
      top!.nlink = 2;
      b!.entries = [['a', a!.ino]];
    },
    'a directory under two names': ({ inodes: [top, a] }) => top!.entries!.push(['again', a!.ino]),
    'a name that is a path': ({ inodes: [top] }) => {
      top!.entries![0]![0] = '../a';
    },
    'a number twice': ({ inodes: [, a, b] }) => {
      b!.ino = a!.ino;
    },
    'numbers that will be given again': (saved) => {
      saved.next = 1;
    },
    'other sizes': ({ inodes: [top] }) => {
      top!.size = -1_000_000;
    },
    'a kind that is not': ({ inodes: [, a] }) => {
      a!.type = 9;
    },
    'other counts of links': ({ inodes: [, a] }) => {
      a!.nlink = 0;
    },
    'no list at all': (saved) => {
      saved.inodes = 7 as never;
    },
  };

  it.each(Object.entries(changes))('are refused with %s', (_, change) => {
    const files = new MemoryFileSystem({ files: { 'a/b/c': 'text' } });
    const { json, blobs } = decodeState<Saved>(files.save());
    files.restore(encodeState(json, blobs));
    change(json);
    const before = files.save();
    expect(() => whileReading(() => files.restore(encodeState(json, blobs)))).toThrow('cannot be restored');
    expect(files.save()).toEqual(before);
  });

  it.each<[string, number | string]>([
    ['fd', 4_000_000_000],
    ['fd', -1],
    ['offset', -1],
    ['offset', 'x'],
    ['rights', 2 ** 31],
    ['flags', 1e9],
  ])('and descriptors with %s %s', (field, value) => {
    const options = { preopens: [{ guest: '/', files: { f: 'text' } }] };
    const direct = new DirectGuest(options);
    direct.open(3, 'f');
    const { json, blobs } = decodeState<{ descriptors: Record<string, unknown>[] }>(direct.wasi.save());
    json.descriptors.at(-1)![field] = value;
    expect(() => direct.wasi.restore(encodeState(json, blobs))).toThrow('cannot be restored');
    json.descriptors = 'none' as never;
    expect(() => direct.wasi.restore(encodeState(json, blobs))).toThrow('cannot be restored');
    direct.wasi.close();
  });
});

describe('host directories held by their paths', () => {
  it('have no hard links to symbolic links, which some systems make to what the link leads to', () => {
    mkdirSync(join(folder, 'jail'));
    writeFileSync(join(folder, 'secret'), 'SECRET');
    symlinkSync('../secret', join(folder, 'jail/link'));
    const fileSystem = new HostFileSystem(join(folder, 'jail'), { hold: 'paths' });
    vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin');
    const direct = new DirectGuest({ preopens: [{ guest: '/', fileSystem, mode: 'rw' }] });
    vi.restoreAllMocks();
    expect(direct.link('path_link', 3, 'link', 3, 'hard')).toBe(Errno.NOTSUP);
    expect(readdirSync(join(folder, 'jail'))).toEqual(['link']);
    direct.wasi.close();
  });
});
