import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { Command, CommanderError } from 'commander';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { enginesCommand } from '../../src/cli/engines.js';
import { exitCodeOf } from '../../src/cli/main.js';
import { wasmCommand } from '../../src/cli/wasm.js';
import { messageOf } from '../../src/errors.js';
import { calcModule } from '../support/wasm-calc.js';

const KERNELS = 'bench/wasm/kernels.wasm';
const WORDS = 'test/guests/c/word-frequency.wasm';
const FILES = 'test/guests/rust/list-files.wasm';

let folder: string;
let calc: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-wasm-cli-'));
  calc = path.join(folder, 'calc.wasm');
  writeFileSync(calc, calcModule);
  mkdirSync(path.join(folder, 'data'));
  writeFileSync(path.join(folder, 'data', 'one.txt'), 'abc');
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** The command as its users run it; starting it takes most of the time. */
function spawned(args: readonly string[], input = ''): Ran {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', 'wasm', ...args], {
    encoding: 'utf8',
    input,
    timeout: 20_000,
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

/** The same in this process, for what does not depend on streams of its own. */
async function wasm(args: readonly string[]): Promise<Ran> {
  let out = '';
  let err = '';
  const streams = [
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      out += String(text);
      return true;
    }),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      err += String(text);
      return true;
    }),
  ];
  try {
    process.exitCode = 0;
    const root = new Command('iguana').exitOverride();
    await root.addCommand(wasmCommand()).parseAsync(['node', 'iguana', 'wasm', ...args]);
    return { code: Number(process.exitCode), out, err };
  } catch (error) {
    return { code: exitCodeOf(error), out, err: `${err}${messageOf(error)}` };
  } finally {
    process.exitCode = 0;
    for (const stream of streams) stream.mockRestore();
  }
}

const json = (ran: Ran): Record<string, unknown> => JSON.parse(ran.out) as Record<string, unknown>;
const traps = 'test/guests/hostile/traps.wasm';
/** Stands for a file that is written before the tests. */
const CALC = '<calc>';
const loops = 'test/guests/hostile/endless-loop.wasm';

describe('iguana wasm run', () => {
  it('calls an export with values and prints its results', async () => {
    expect(spawned(['run', KERNELS, '--invoke', 'fib', '10'])).toEqual({ code: 0, out: '55\n', err: '' });
  });

  it('tells results, gas, engine, version and tier as JSON, the same gas each time', async () => {
    const first = json(await wasm(['run', KERNELS, '--invoke', 'fib', '10', '--tier', 'optimised', '--json']));
    expect(first).toMatchObject({
      invoke: 'fib',
      results: [{ type: 'i32', value: 55 }],
      engine: 'native',
      version: `V8 ${process.versions.v8}`,
      tier: 'optimised',
      exitCode: 0,
      trap: null,
    });
    expect(first.gasUsed).toBeGreaterThan(1_000);
    expect(json(await wasm(['run', KERNELS, '--invoke', 'fib', '10', '--json'])).gasUsed).toBe(first.gasUsed);
  });

  it('runs a command with arguments, input and directories, which can be for reading only', async () => {
    expect(spawned(['run', WORDS], 'the cat and the dog\n')).toEqual({
      code: 0,
      out: '2 the\n1 and\n1 cat\n1 dog\n',
      err: '',
    });
    const data = path.join(folder, 'data');
    expect(spawned(['run', FILES, '--dir', `${data}::/data:ro`, '--', '/data']).out).toBe('/data/one.txt 3\n');
    const without = spawned(['run', FILES, '--', '/data']);
    expect(without.code).not.toBe(0);
    expect(without.out).toBe('');
  });

  it('ends with a code and a line for what stopped the guest', async () => {
    const trapped = spawned(['run', traps, '--invoke', 'unreachable']);
    expect(trapped.code).toBe(134);
    expect(trapped.err).toMatch(/^IGU_WASM_TRAP trap: unreachable in .*; .*\n( {2}at .*\n)+$/);
    const outOfGas = await wasm(['run', loops, '--invoke', 'spin', '--gas', '100_000', '--json']);
    expect(outOfGas.code).toBe(152);
    expect(json(outOfGas)).toMatchObject({ gasUsed: 100_000, exitCode: 152, trap: { kind: 'out-of-gas' } });
    const timedOut = await wasm(['run', loops, '--invoke', 'spin', '--timeout', '100ms']);
    expect(timedOut.code).toBe(124);
    expect(timedOut.err).toMatch(/^IGU_WASM_TIMEOUT /);
  });

  it.each([
    ['a misspelt export', ['run', CALC, '--invoke', 'ad', '1', '2'], 2, 'did you mean add?'],
    ['too few arguments', ['run', KERNELS, '--invoke', 'fib'], 2, 'IGU_WASM_SIGNATURE fib takes (i32)'],
    [
      'a word for a number',
      ['run', KERNELS, '--invoke', 'fib', 'ten'],
      2,
      'argument 1 of fib takes (i32), was given (ten)',
    ],
    ['nothing to call', ['run', KERNELS], 2, 'say --invoke EXPORT'],
    ['an engine that is none', ['run', KERNELS, '--runtime', 'wasmtim'], 2, 'Did you mean wasmtime?'],
    ['a size that is none', ['run', KERNELS, '--max-memory', 'much'], 2, '64MiB'],
    ['a file that is not there', ['run', 'no-such.wasm'], 1, 'IGU_FILE_MISSING'],
    ['a file that is no module', ['run', 'package.json'], 1, 'IGU_WASM_MALFORMED'],
    ['an import that nobody gives', ['run', CALC, '--invoke', 'add', '1', '2'], 1, 'import host.tell'],
    [
      'less memory than it begins with',
      ['run', KERNELS, '--max-memory', '1KiB', '--invoke', 'fib', '3'],
      1,
      'IGU_WASM_LIMIT',
    ],
    [
      'a directory for a module without WASI',
      ['run', KERNELS, '--dir', '.', '--invoke', 'fib', '3'],
      2,
      'not import WASI',
    ],
    ['a directory that is not there', ['run', WORDS, '--dir', '/no/such::/'], 1, 'IGU_FILE_MISSING'],
  ] as const)('says what is wrong with %s', async (_, args, code, words) => {
    const ran = await wasm(args.map((arg) => (arg === CALC ? calc : arg)));
    expect(ran.err).toContain(words);
    expect(ran.err).not.toContain('    at ');
    expect(ran.code).toBe(code);
  });
});

describe('iguana wasm inspect', () => {
  it('tells what a module needs and offers', async () => {
    const { out, code } = await wasm(['inspect', calc]);
    expect(code).toBe(0);
    expect(out).toContain('add64    (i64, i64) → (i64)');
    expect(out).toContain('host.tell  (i32) → ()');
    expect(json(await wasm(['inspect', FILES, '--json']))).toMatchObject({ hasStart: false, size: expect.any(Number) });
  });
});

describe('iguana wasm gas', () => {
  it('names the functions that take the gas; their sum is what run counts', async () => {
    const profile = json(await wasm(['gas', KERNELS, '--invoke', 'fib', '10', '--json']));
    expect(profile.functions).toMatchObject([{ name: 'fib', calls: 89 }]);
    expect(profile.total).toBe(json(await wasm(['run', KERNELS, '--invoke', 'fib', '10', '--json'])).gasUsed);
    const stopped = await wasm(['gas', loops, '--invoke', 'spin', '--timeout', '100ms']);
    expect(stopped.code).toBe(124);
    expect(stopped.out).toMatch(/100\.0 % +1 +spin/);
  });
});

describe('iguana wasm snapshot', () => {
  it('keeps a state that run begins with', async () => {
    const store = path.join(folder, 'snapshots');
    const counter = path.join(folder, 'counter.wasm');
    writeFileSync(counter, counterModule);
    const { id } = json(await wasm(['snapshot', counter, '--store', store, '--invoke', 'set', '41', '--json']));
    expect(id).toMatch(/^[0-9a-f]{64}$/);
    const begun = await wasm(['run', counter, '--store', store, '--snapshot', String(id), '--invoke', 'next']);
    expect(begun).toEqual({ code: 0, out: '42\n', err: '' });
    expect((await wasm(['run', counter, '--snapshot', String(id), '--invoke', 'next'])).err).toContain(
      '--snapshot needs --store',
    );
  });
});

describe('iguana wasm bench', () => {
  it('times a call metered and not, and says what was left out', async () => {
    const ran = await wasm(['bench', KERNELS, '--invoke', 'fib', '10', '--runtime', 'native', '--runs', '3', '--json']);
    expect(json(ran)).toMatchObject({
      runs: 3,
      left: [],
      measured: [
        { runtime: 'native', metered: false, gasUsed: null },
        { runtime: 'native', metered: true, gasUsed: expect.any(Number) },
      ],
    });
  });
});

describe('wrong calls', () => {
  it.each<[string, string[], number, string]>([
    ['a directory as module', ['run', '.'], 1, 'cannot read ., which is a directory'],
    ['a directory as module for gas', ['gas', '.'], 1, 'cannot read ., which is a directory'],
    ['no gas', ['run', KERNELS, '--gas', '', '--invoke', 'fib', '1'], 2, 'A whole number is needed'],
    ['gas in hexadecimal', ['run', KERNELS, '--gas', '0x10', '--invoke', 'fib', '1'], 2, 'A whole number is needed'],
    ['one colon for a directory', ['run', FILES, '--dir', '.:/x'], 2, 'HOST::GUEST is needed (two colons)'],
    ['a file as directory', ['run', FILES, '--dir', `${KERNELS}::/x`], 1, 'kernels.wasm as a directory'],
    ['no store', ['run', KERNELS, '--store', '/no/st', '--snapshot', 'a', '--invoke', 'fib', '1'], 1, 'read /no/st'],
  ])('with %s are told what is wrong', async (_, args, code, text) => {
    const ran = await wasm(args);
    expect(ran.err).toContain(text);
    expect(ran.code).toBe(code);
  });

  it('of a store that is not there leave none behind', async () => {
    const store = path.join(folder, 'mistyped');
    await wasm(['run', KERNELS, '--store', store, '--snapshot', 'a'.repeat(64), '--invoke', 'fib', '1']);
    expect(existsSync(store)).toBe(false);
  });

  it('refuse a file that is too large before reading it', async () => {
    const large = path.join(folder, 'large.wasm');
    writeFileSync(large, '');
    truncateSync(large, 2 ** 33);
    expect((await wasm(['inspect', large])).err).toContain('size of a module is 8589934592 bytes');
  });

  it('of engines end with 2, as all do', async () => {
    for (const args of [
      ['list', 'extra'],
      ['install', 'none'],
    ])
      await expect(enginesCommand().parseAsync(args, { from: 'user' })).rejects.toThrow(CommanderError);
  });
});

/**
 * (module (global $n (mut i32) (i32.const 0))
 *   (func (export "set") (param i32) local.get 0 global.set $n)
 *   (func (export "next") (result i32) global.get $n i32.const 1 i32.add global.set $n global.get $n))
 */
const counterModule = Buffer.from(
  'AGFzbQEAAAABCQJgAX8AYAABfwMDAgABBgYBfwFBAAsHDgIDc2V0AAAEbmV4dAABChQCBgAgACQACwsAIwBBAWokACMACw==',
  'base64',
);
