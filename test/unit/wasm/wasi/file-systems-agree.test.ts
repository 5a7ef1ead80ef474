import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Errno, OpenFlags, Rights } from '../../../../src/wasm/wasi/abi.js';
import { HostFileSystem } from '../../../../src/wasm/wasi/host-file-system.js';
import { MemoryFileSystem } from '../../../../src/wasm/wasi/memory-file-system.js';
import { errnoOf } from '../../../../src/wasm/wasi/wasi-error.js';
import { DirectGuest } from './direct-guest.js';

/** The host's kernel is the reference: the same operations on a directory of the host and on files in memory must give the same answers. */

const name = fc.constantFrom('a', 'b', 'c');
const path = fc.oneof(
  { weight: 9, arbitrary: name },
  { weight: 9, arbitrary: fc.array(name, { minLength: 2, maxLength: 3 }).map((parts) => parts.join('/')) },
  { weight: 1, arbitrary: name.map((n) => `${n}/`) },
  { weight: 1, arbitrary: fc.tuple(name, name).map(([x, y]) => `${x}/../${y}`) },
  { weight: 1, arbitrary: fc.tuple(name, name).map(([x, y]) => `${x}/./${y}//`) },
  { weight: 1, arbitrary: fc.constantFrom('.', '..', '../a', 'a/..', 'a/.', '/a', '', 'a/../..', 'x'.repeat(256)) },
);
const target = fc.oneof(
  name,
  fc.constantFrom('a/b', './c', '../a', '..', '.', 'b/', 'nothing', '../../a', '/etc', 'a/b/../c', ''),
);
const flag = fc.constantFrom(
  0,
  OpenFlags.CREATE,
  OpenFlags.CREATE | OpenFlags.EXCLUSIVE,
  OpenFlags.TRUNCATE,
  OpenFlags.DIRECTORY,
  OpenFlags.CREATE | OpenFlags.TRUNCATE,
);

type Operation = (guest: DirectGuest) => unknown;
const DIR = 3;
const WRITE = Rights.FD_READ | Rights.FD_WRITE | Rights.FD_SEEK | Rights.FD_TELL | Rights.FD_FILESTAT_SET_SIZE;

function show(what: string, operation: Operation): [string, Operation] {
  return [what, operation];
}

const operation: fc.Arbitrary<[string, Operation]> = fc.oneof(
  path.map((p) => show(`mkdir ${p}`, (g) => g.path('path_create_directory', DIR, p))),
  path.map((p) => show(`rmdir ${p}`, (g) => g.path('path_remove_directory', DIR, p))),
  path.map((p) => show(`unlink ${p}`, (g) => g.path('path_unlink_file', DIR, p))),
  fc.tuple(path, path).map(([p, q]) => show(`rename ${p} ${q}`, (g) => g.link('path_rename', DIR, p, DIR, q))),
  fc
    .tuple(path, path, fc.boolean())
    .map(([p, q, follow]) => show(`link ${p} ${q} ${follow}`, (g) => g.link('path_link', DIR, p, DIR, q, follow))),
  fc.tuple(target, path).map(([t, p]) => show(`symlink ${t} ${p}`, (g) => g.symlink(t, DIR, p))),
  path.map((p) => show(`readlink ${p}`, (g) => g.readlink(DIR, p))),
  fc.tuple(path, fc.boolean()).map(([p, follow]) =>
    show(`stat ${p} ${follow}`, (g) => {
      const stat = g.stat(DIR, p, follow);
      // Directories have other sizes and link counts on each host.
      return typeof stat === 'number' ? stat : stat.type === 3 ? 'directory' : [stat.type, stat.nlink, stat.size];
    }),
  ),
  fc
    .tuple(path, flag, fc.boolean(), fc.string({ maxLength: 40 }), fc.boolean())
    .map(([p, flags, follow, text, append]) =>
      show(`write ${p} ${flags} ${follow} ${append} ${JSON.stringify(text)}`, (g) => {
        const fd = g.open(DIR, p, { flags, follow, rights: WRITE, fdFlags: append ? 1 : 0 });
        if (fd < 0) return fd;
        const answers = [
          g.write(fd, text),
          g.call('fd_seek', fd, 3n, 1, DirectGuest.RESULT),
          g.result64,
          g.write(fd, 'end'),
          g.call('fd_seek', fd, 0n, 0, DirectGuest.RESULT),
          g.read(fd),
          g.call('fd_filestat_set_size', fd, 5n),
          g.call('fd_tell', fd, DirectGuest.RESULT),
          g.result64,
        ];
        return [...answers, g.call('fd_close', fd)];
      }),
    ),
  fc.tuple(path, flag, fc.boolean()).map(([p, flags, follow]) =>
    show(`read ${p} ${flags} ${follow}`, (g) => {
      const fd = g.open(DIR, p, { flags, follow, rights: Rights.FD_READ | Rights.FD_READDIR });
      if (fd < 0) return fd;
      const names = g.list(fd);
      return [g.read(fd), names, g.call('fd_close', fd)];
    }),
  ),
);

/** Trees to begin with, so that most operations find something. */
const beginnings: readonly Operation[][] = [
  [
    (g) => g.path('path_create_directory', DIR, 'a'),
    (g) => g.path('path_create_directory', DIR, 'a/b'),
    (g) => g.call('fd_close', g.open(DIR, 'a/c', { flags: 1 })),
    (g) => g.call('fd_close', g.open(DIR, 'a/b/c', { flags: 1 })),
    (g) => g.symlink('a/b', DIR, 'b'),
    (g) => g.symlink('a/c', DIR, 'c'),
  ],
  [
    (g) => g.path('path_create_directory', DIR, 'a'),
    (g) => g.path('path_create_directory', DIR, 'b'),
    (g) => g.path('path_create_directory', DIR, 'a/a'),
    (g) => g.path('path_create_directory', DIR, 'a/a/b'),
    (g) => g.symlink('../../b', DIR, 'a/a/c'),
    (g) => g.symlink('c', DIR, 'c'),
    (g) => g.symlink('../a', DIR, 'b/a'),
    (g) => g.call('fd_close', g.open(DIR, 'b/c', { flags: 1 })),
    (g) => g.link('path_link', DIR, 'b/c', DIR, 'a/b'),
  ],
  [],
];
/** The same on paths, by the kernel itself. Absent: nothing that the kernel's own path resolution should be asked. */
const onKernel: readonly [
  what: string,
  guest: (g: DirectGuest, p: string, q: string) => unknown,
  kernel: (p: string, q: string) => unknown,
][] = [
  ['mkdir', (g, p) => g.path('path_create_directory', DIR, p), (p) => mkdirSync(p)],
  ['rmdir', (g, p) => g.path('path_remove_directory', DIR, p), (p) => rmdirSync(p)],
  ['unlink', (g, p) => g.path('path_unlink_file', DIR, p), (p) => unlinkSync(p)],
  ['rename', (g, p, q) => g.link('path_rename', DIR, p, DIR, q), (p, q) => renameSync(p, q)],
  ['link', (g, p, q) => g.link('path_link', DIR, p, DIR, q), (p, q) => linkSync(p, q)],
  ['symlink', (g, p) => g.symlink('a/b', DIR, p), (p) => symlinkSync('a/b', p)],
  ['readlink', (g, p) => g.readlink(DIR, p), (p) => readlinkSync(p)],
  ['lstat', (g, p) => typeOf(g.stat(DIR, p, false)), (p) => kindOf(lstatSync(p))],
  ['stat', (g, p) => typeOf(g.stat(DIR, p, true)), (p) => kindOf(statSync(p))],
  ['open', (g, p) => opened(g, p, 0, true), (p) => closeSync(openSync(p, 'r'))],
  [
    'create',
    (g, p) => opened(g, p, OpenFlags.CREATE, true),
    (p) => closeSync(openSync(p, constants.O_RDWR | constants.O_CREAT)),
  ],
  [
    'create new',
    (g, p) => opened(g, p, OpenFlags.CREATE | OpenFlags.EXCLUSIVE, true),
    (p) => closeSync(openSync(p, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL)),
  ],
  [
    'open no link',
    (g, p) => opened(g, p, 0, false),
    (p) => closeSync(openSync(p, constants.O_RDONLY | constants.O_NOFOLLOW)),
  ],
];

function opened(g: DirectGuest, p: string, flags: number, follow: boolean): number {
  const fd = g.open(DIR, p, { flags, follow, rights: flags === 0 ? Rights.FD_READ : WRITE });
  return fd < 0 ? -fd : g.call('fd_close', fd);
}

function typeOf(stat: ReturnType<DirectGuest['stat']>): number | string {
  return typeof stat === 'number' ? stat : ({ 3: 'directory', 4: 'file', 7: 'link' }[stat.type] ?? 'other');
}

function kindOf(stat: Stats): string {
  return stat.isDirectory() ? 'directory' : stat.isFile() ? 'file' : 'link';
}

const beginning = fc.constantFrom(...beginnings);

/** Few sequences and always the same ones, so that `npm test` stays quick; others with WASI_RUNS=5000 WASI_SEED=7. */
const more = { seed: Number(process.env.WASI_SEED ?? 4) };
const runs = (few: number) => Number(process.env.WASI_RUNS ?? few);

describe('paths', () => {
  it.skipIf(process.platform !== 'linux')(
    'lead where the kernel says, with its errors, unless they lead outside',
    () => {
      let compared = 0;
      const step = fc.tuple(fc.nat(onKernel.length - 1), path, path);
      fc.assert(
        fc.property(beginning, fc.array(step, { minLength: 10, maxLength: 40 }), (before, steps) => {
          const folder = mkdtempSync(join(tmpdir(), 'iguana-wasi-'));
          const top = join(folder, 'x/y/z/top');
          mkdirSync(top, { recursive: true });
          // The kernel's tree is made through our own calls, on which the other test compares.
          const host = new DirectGuest({ preopens: [{ guest: '/', host: top, mode: 'rw' }] });
          const memory = new DirectGuest({
            preopens: [{ guest: '/', fileSystem: new MemoryFileSystem(), mode: 'rw' }],
          });
          try {
            for (const run of before) expect(run(memory)).toBe(run(host));
            const done = [`tree ${beginnings.indexOf(before)}`];
            for (const [i, p, q] of steps) {
              const [what, onGuest, kernel] = onKernel[i]!;
              done.push(`${what} ${p} ${q}`);
              // Which of two wrong paths is told is not for us to say.
              if (kernel.length === 2 && (p === '' || q === '' || (p + q).includes('xxx'))) continue;
              // Refused by us, since it may lead outside: the kernel would go there.
              const answer = onGuest(memory, p, q);
              if (answer === Errno.PERM) continue;
              const expected = askKernel(() => kernel(`${top}/${p}`, `${top}/${q}`), ...[p, q].slice(0, kernel.length));
              compared++;
              expect(answer, done.join('\n')).toEqual(expected);
            }
          } finally {
            host.wasi.close();
            memory.wasi.close();
            rmSync(folder, { recursive: true });
          }
        }),
        { ...more, numRuns: runs(40) },
      );
      expect(compared).toBeGreaterThan(200);
    },
  );
});

function askKernel(action: () => unknown, ...paths: string[]): unknown {
  // An empty path is our top directory for the kernel, since it is given with it.
  if (paths.includes('')) return Errno.NOENT;
  try {
    return action() ?? 0;
  } catch (error) {
    return errnoOf(error);
  }
}

describe('files in memory and on the host', () => {
  for (const hold of ['descriptors', 'paths'] as const) {
    it.skipIf(process.platform !== 'linux')(`answer alike to any sequence of operations (host held by ${hold})`, () => {
      let operations = 0;
      let worked = 0;
      fc.assert(
        fc.property(beginning, fc.array(operation, { minLength: 10, maxLength: 40 }), (before, sequence) => {
          const folder = mkdtempSync(join(tmpdir(), 'iguana-wasi-'));
          const host = new DirectGuest({
            preopens: [{ guest: '/', fileSystem: new HostFileSystem(folder, { hold }), mode: 'rw' }],
          });
          const memory = new DirectGuest({
            preopens: [{ guest: '/', fileSystem: new MemoryFileSystem(), mode: 'rw' }],
          });
          try {
            for (const run of before) expect(run(memory)).toBe(run(host));
            const done: string[] = [`tree ${beginnings.indexOf(before)}`];
            for (const [what, run] of sequence) {
              done.push(what);
              const answer = run(memory);
              operations++;
              if (answer === 0 || typeof answer !== 'number') worked++;
              expect(answer, done.join('\n')).toEqual(run(host));
            }
          } finally {
            host.wasi.close();
            memory.wasi.close();
            rmSync(folder, { recursive: true });
          }
        }),
        { ...more, numRuns: runs(hold === 'descriptors' ? 50 : 20) },
      );
      expect(operations).toBeGreaterThan(200);
      expect(worked).toBeGreaterThan(50);
    });
  }
});
