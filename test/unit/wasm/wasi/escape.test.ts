import { execFileSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Errno, OpenFlags, Rights } from '../../../../src/wasm/wasi/abi.js';
import { HostFileSystem } from '../../../../src/wasm/wasi/host-file-system.js';
import { MemoryFileSystem } from '../../../../src/wasm/wasi/memory-file-system.js';
import { Wasi, type WasiPreopen } from '../../../../src/wasm/wasi/wasi.js';
import { WasiExit } from '../../../../src/wasm/wasi/wasi-error.js';
import { DirectGuest } from './direct-guest.js';

const guest = new WebAssembly.Module(
  new Uint8Array(readFileSync(new URL('../../../guests/wasi/escape.wasm', import.meta.url))),
);

let folder: string;
let jail: string;

/** `folder/outside/secret` must not be reached from `folder/jail`, which has links of all kinds that lead there. */
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'iguana-escape-')));
  jail = join(folder, 'jail');
  mkdirSync(join(folder, 'outside'));
  writeFileSync(join(folder, 'outside/secret'), 'SECRET\n');
  mkdirSync(join(jail, 'sub/deep'), { recursive: true });
  writeFileSync(join(jail, 'sub/own'), 'inside\n');
  const links: Record<string, string> = {
    'to-directory': '../outside',
    'to-file': '../outside/secret',
    absolute: join(folder, 'outside'),
    'absolute-file': join(folder, 'outside/secret'),
    'absolute-inside': join(jail, 'sub'),
    chain: 'chain2',
    chain2: 'sub/up/outside',
    'sub/up': '../..',
    'sub/deep/up': '../../../outside/secret',
    loop: 'loop2',
    loop2: 'loop',
    good: 'sub/deep/../own',
    'good-directory': './sub/',
  };
  for (const [name, target] of Object.entries(links)) symlinkSync(target, join(jail, name));
});

afterEach(() => {
  rmSync(folder, { recursive: true });
});

function run(preopens: WasiPreopen[], ...args: string[]): string {
  const wasi = new Wasi({ args: ['escape', ...args], preopens });
  try {
    const instance = new WebAssembly.Instance(guest, { wasi_snapshot_preview1: wasi.imports() });
    const memory = instance.exports.memory as WebAssembly.Memory;
    wasi.bind(() => new Uint8Array(memory.buffer));
    (instance.exports._start as () => void)();
  } catch (error) {
    if (!(error instanceof WasiExit)) throw error;
    expect(error.code).toBe(0);
  } finally {
    wasi.close();
  }
  return wasi.stdout!.text();
}

/** Without following links, which Node's own recursive listing does. */
function namesBelow(path: string): string[] {
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => {
    const inside = join(path, entry.name);
    return entry.isDirectory() ? [inside, ...namesBelow(inside)] : [inside];
  });
}

const ways = [
  'to-directory/secret',
  'to-file',
  'absolute/secret',
  'absolute-file',
  'absolute-inside/own',
  'chain/secret',
  'sub/up/outside/secret',
  'sub/deep/up',
  'loop/x',
  'loop',
  'sub/../../outside/secret',
  '../outside/secret',
  'sub/up/jail/../outside/secret',
];

describe.skipIf(process.platform === 'win32')('a guest that tries to get out', () => {
  it('gets out of node:wasi through a link to a directory', async () => {
    // The warning that node:wasi is experimental goes to standard error of a process of its own.
    const program = `
      const { WASI } = require('node:wasi');
      const wasi = new WASI({ version: 'preview1', args: ['escape', 'read', 'to-directory/secret'], preopens: { '/': process.argv[1] }, returnOnExit: true });
      const module = new WebAssembly.Module(require('fs').readFileSync(process.argv[2]));
      wasi.start(new WebAssembly.Instance(module, wasi.getImportObject()));`;
    const wasm = new URL('../../../guests/wasi/escape.wasm', import.meta.url).pathname;
    const said = execFileSync(process.execPath, ['--no-warnings', '-e', program, jail, wasm], {
      timeout: 10_000,
    }).toString();
    expect(said).toBe('read to-directory/secret: SECRET\n');
  });

  for (const hold of ['descriptors', 'paths'] as const) {
    it.skipIf(hold === 'descriptors' && !existsSync('/proc/self/fd'))(
      `is refused every way out (host held by ${hold}), and follows links that stay inside`,
      () => {
        const fileSystem = new HostFileSystem(jail, { hold });
        const said = run([{ guest: '/', fileSystem, mode: 'rw' }], ...ways.flatMap((way) => ['read', way]));
        expect(said).not.toContain('SECRET');
        expect(said.trim().split('\n')).toEqual(
          ways.map((way) => `read ${way}: errno ${way.startsWith('loop') ? Errno.LOOP : Errno.PERM}`),
        );
        const good = run(
          [{ guest: '/', fileSystem, mode: 'ro' }],
          ...['good', 'good-directory/own', 'sub/deep/../own', './/sub///own'].flatMap((way) => ['read', way]),
        );
        expect(good.match(/: inside\n/g)).toHaveLength(4);
      },
    );

    it(`cannot change anything outside (host held by ${hold})`, () => {
      const fileSystem = new HostFileSystem(jail, { hold });
      const before = namesBelow(folder);
      const said = run(
        [{ guest: '/', fileSystem, mode: 'rw' }],
        ...['write', 'to-directory/new', 'x', 'write', 'to-file', 'x', 'write', '../new', 'x', 'mkdir', 'absolute/new'],
        ...['link', 'to-directory/secret', 'stolen', 'link', '../outside/secret', 'stolen'],
        ...['rename', 'to-directory/secret', 'stolen', 'rename', 'sub', 'to-directory/sub'],
        ...['symlink', '/etc/passwd', 'stolen', 'list', 'to-directory', 'list', 'chain'],
      );
      expect(said.match(/errno 63\n/g)).toHaveLength(11);
      expect(namesBelow(folder)).toEqual(before);
      expect(readFileSync(join(folder, 'outside/secret'), 'utf8')).toBe('SECRET\n');
    });
  }

  it('makes a link that leads outside and still cannot go through it', () => {
    const preopens: WasiPreopen[] = [{ guest: '/', host: jail, mode: 'rw' }];
    const said = run(preopens, 'symlink', '../outside', 'mine', 'read', 'mine/secret', 'list', 'mine');
    expect(said).toBe('symlink ../outside: done\nread mine/secret: errno 63\nlist mine: errno 63\n');
  });

  it('cannot take a file of a read-only directory into a writable one, by link or rename, not even of the same host directory', () => {
    for (const rw of [join(folder, 'rw'), jail]) {
      mkdirSync(rw, { recursive: true });
      const said = run(
        [
          { guest: '/ro', host: jail },
          { guest: '/rw', host: rw, mode: 'rw' },
        ],
        ...['link', '/ro/sub/own', '/rw/own', 'rename', '/ro/sub/own', '/rw/own', 'link', '/ro/sub/own', '/ro/own2'],
        ...['rename', '/rw/nothing', '/ro/x', 'write', '/ro/sub/own', 'changed', 'write', '/ro/new', 'x'],
        ...['mkdir', '/ro/new', 'symlink', 'sub', '/ro/new', 'write', '/rw/can', 'yes', 'rename', '/rw/can', '/ro/can'],
      );
      expect(
        said
          .trim()
          .split('\n')
          .map((line) => line.split(': ')[1]),
      ).toEqual([
        `errno ${Errno.ROFS}`,
        `errno ${Errno.ROFS}`,
        `errno ${Errno.ROFS}`,
        `errno ${Errno.NOENT}`,
        `errno ${Errno.ROFS}`,
        `errno ${Errno.ROFS}`,
        `errno ${Errno.ROFS}`,
        `errno ${Errno.ROFS}`,
        'done',
        `errno ${Errno.XDEV}`,
      ]);
      expect(readFileSync(join(jail, 'sub/own'), 'utf8')).toBe('inside\n');
      expect(lstatSync(join(jail, 'sub/own')).nlink).toBe(1);
    }
  });

  it('cannot move names between two writable directories either, nor between memory and host', () => {
    const memory = new MemoryFileSystem({ files: { own: 'memory' } });
    mkdirSync(join(folder, 'rw'));
    const preopens: WasiPreopen[] = [
      { guest: '/a', host: jail, mode: 'rw' },
      { guest: '/b', host: join(folder, 'rw'), mode: 'rw' },
      { guest: '/m', fileSystem: memory },
      { guest: '/n', fileSystem: memory },
    ];
    const said = run(
      preopens,
      ...['rename', '/a/sub', '/b/sub', 'link', '/a/sub/own', '/b/own', 'rename', '/m/own', '/a/own'],
      ...['link', '/m/own', '/n/own2', 'rename', '/a/sub/own', '/m/own'],
    );
    expect(said.match(/errno 75\n/g)).toHaveLength(5);
  });

  it.skipIf(process.platform !== 'linux')(
    'never reads the outside while another thread swaps a directory for a link',
    async () => {
      // Both have a file of the same name; only what is in it tells where the guest was.
      mkdirSync(join(jail, 'swapped'));
      writeFileSync(join(jail, 'swapped/secret'), 'inside\n');
      const swaps = new Int32Array(new SharedArrayBuffer(8));
      const worker = new Worker(
        `const { renameSync, symlinkSync } = require('node:fs');
       const { workerData: { jail, swaps } } = require('node:worker_threads');
       symlinkSync('../outside', jail + '/trap');
       while (Atomics.load(swaps, 1) === 0) {
         renameSync(jail + '/swapped', jail + '/parked');
         renameSync(jail + '/trap', jail + '/swapped');
         renameSync(jail + '/swapped', jail + '/trap');
         renameSync(jail + '/parked', jail + '/swapped');
         Atomics.add(swaps, 0, 1);
       }`,
        { eval: true, workerData: { jail, swaps } },
      );
      try {
        const total = { inside: 0, secret: 0, refused: 0 };
        const deadline = Date.now() + 15_000;
        // Until both were met often, in a direct path and through a directory below.
        while ((total.inside < 500 || total.refused < 100 || swaps[0]! < 500) && Date.now() < deadline) {
          for (const path of ['swapped/secret', 'sub/../swapped/secret']) {
            const said = run([{ guest: '/', host: jail, mode: 'rw' }], 'race', '200', path);
            const numbers = /inside (\d+) secret (\d+) refused (\d+)/.exec(said)!;
            total.inside += Number(numbers[1]);
            total.secret += Number(numbers[2]);
            total.refused += Number(numbers[3]);
          }
        }
        expect(total.secret).toBe(0);
        expect(total.inside).toBeGreaterThanOrEqual(500);
        expect(total.refused).toBeGreaterThanOrEqual(100);
      } finally {
        Atomics.store(swaps, 1, 1);
        await new Promise((resolve) => worker.once('exit', resolve));
      }
    },
  );

  it.skipIf(process.platform !== 'linux')('cannot open what is no file: a FIFO, a device, a socket', () => {
    execFileSync('/bin/sh', ['-c', 'mkfifo "$0"', join(jail, 'fifo')]);
    const direct = new DirectGuest({ preopens: [{ guest: '/', host: jail, mode: 'rw' }] });
    const rights = [Rights.FD_READ, Rights.FD_WRITE, Rights.FD_READ | Rights.FD_WRITE];
    for (const right of rights) expect(direct.open(3, 'fifo', { rights: right })).toBe(-Errno.ACCES);
    direct.wasi.close();
    const devices = new DirectGuest({ preopens: [{ guest: '/', host: '/dev' }] });
    for (const name of ['null', 'zero', 'tty', 'random']) expect(devices.open(3, name)).toBe(-Errno.ACCES);
    devices.wasi.close();
  });

  it('cannot write through a descriptor or a right that a read-only directory gives', () => {
    linkSync(join(jail, 'sub/own'), join(jail, 'same'));
    const direct = new DirectGuest({ preopens: [{ guest: '/', host: jail }] });
    for (const rights of [Rights.FD_WRITE, Rights.FD_ALLOCATE, Rights.FD_FILESTAT_SET_SIZE])
      expect(direct.open(3, 'same', { rights })).toBe(-Errno.ROFS);
    expect(direct.open(3, 'same', { flags: OpenFlags.TRUNCATE })).toBe(-Errno.ROFS);
    const fd = direct.open(3, 'same', { rights: Rights.FD_READ | Rights.FD_FILESTAT_SET_TIMES });
    expect(direct.call('fd_filestat_set_times', fd, 0n, 0n, 2)).toBe(Errno.ROFS);
    expect(direct.call('fd_write', fd, 0, 0, DirectGuest.RESULT)).toBe(Errno.NOTCAPABLE);
    const length = direct.put('same', 1024);
    expect(direct.call('path_filestat_set_times', 3, 0, 1024, length, 0n, 0n, 2)).toBe(Errno.ROFS);
    direct.wasi.close();
    expect(readFileSync(join(jail, 'sub/own'), 'utf8')).toBe('inside\n');
  });
});
