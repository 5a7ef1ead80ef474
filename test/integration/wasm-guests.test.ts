/** Runs the guests of docs/guests.md as their users would: built files, in worker threads and in place, metered, with WASI. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GuestWasi } from '../../src/wasm/runtime/guest-wasi.js';
import { type Placement, WasmRuntime } from '../../src/wasm/runtime/runtime.js';
import { WasiExit } from '../../src/wasm/wasi/wasi-error.js';

const guests = fileURLToPath(new URL('../guests/', import.meta.url));
let runtime: WasmRuntime;
let directory: string;

beforeAll(() => {
  runtime = new WasmRuntime({ workers: 1 });
  directory = mkdtempSync(join(tmpdir(), 'iguana-guests-'));
  mkdirSync(join(directory, 'inner', 'deep'), { recursive: true });
  writeFileSync(join(directory, 'a.txt'), 'the cat and the dog and the 2 birds\n');
  writeFileSync(join(directory, 'inner', 'b.txt'), 'The end');
});
afterAll(async () => {
  await runtime.close();
  rmSync(directory, { recursive: true, force: true });
});

/** Runs a command to its end. */
async function command(file: string, wasi: GuestWasi, placement: Placement = 'in-place') {
  const { id } = await runtime.loadModule(file);
  const instance = await runtime.createInstance({ moduleId: id, placement, gas: 10_000_000_000, wasi });
  let code = 0;
  try {
    await runtime.callFunction(instance, '_start');
  } catch (error) {
    if (!(error instanceof WasiExit)) throw error;
    code = error.code;
  }
  const { stdout, stderr } = await runtime.output(instance);
  const { total: gas } = await runtime.getGasUsed(instance);
  await runtime.destroy(instance);
  return { code, stdout, stderr, gas };
}

describe('word-frequency (C, WASI)', () => {
  const file = join(guests, 'c/word-frequency.wasm');

  it('counts the words of standard input, in place and in a thread, for the same gas', async () => {
    const text = `${'one two two three three three '.repeat(700)}Über ÜBER x`;
    const wasi = { args: ['word-frequency', '-n', '4'], stdin: Buffer.from(text) };
    const here = await command(file, wasi);
    expect(here).toMatchObject({ code: 0, stdout: '2100 three\n1400 two\n700 one\n2 Über\n', stderr: '' });
    expect(here.gas).toBeGreaterThan(text.length);
    expect(await command(file, wasi, 'worker')).toEqual(here);
  });

  it('reads files of the directory it is given, and no others', async () => {
    const preopens = [{ guest: '/texts', host: directory }];
    const args = ['word-frequency', '-n', '3', '/texts/a.txt', '/texts/inner/b.txt', '/etc/hostname'];
    expect(await command(file, { args, preopens })).toMatchObject({
      code: 1,
      stdout: '4 the\n2 and\n1 2\n',
      stderr: 'word-frequency: cannot read /etc/hostname\n',
    });
  });

  it('says what is wrong with its arguments', async () => {
    expect(await command(file, { args: ['word-frequency', '-n', 'many'] })).toMatchObject({
      code: 2,
      stderr: 'word-frequency: not a count: many\n',
    });
  });
});

describe('list-files (Rust, WASI)', () => {
  it('lists what is below the directories it is given', async () => {
    const file = join(guests, 'rust/list-files.wasm');
    const preopens = [
      { guest: '/disk', host: directory },
      { guest: '/memory', files: { 'notes/today': 'hello', readme: '' } },
    ];
    const args = ['list-files', '/memory', '/disk', '/none'];
    const { code, stdout, stderr } = await command(file, { args, preopens });
    expect(stdout.split('\n')).toEqual([
      '/memory/notes/',
      '/memory/notes/today 5',
      '/memory/readme 0',
      '/disk/a.txt 36',
      '/disk/inner/',
      '/disk/inner/b.txt 7',
      '/disk/inner/deep/',
      '',
    ]);
    expect(stderr).toMatch(/^list-files: \/none: /);
    expect(code).toBe(1);
  });
});

describe('redact (Rust)', () => {
  it('masks card numbers in a text that the host writes into its memory', async () => {
    const { id } = await runtime.loadModule(join(guests, 'rust/redact.wasm'));
    const instance = await runtime.createInstance({ moduleId: id, limits: { maxInstructions: 10_000_000 } });
    const redact = async (text: string) => {
      const [address] = await runtime.callFunction(instance, 'buffer');
      const bytes = Buffer.from(text);
      await runtime.writeMemory(instance, address?.value as number, bytes);
      const [masked] = await runtime.callFunction(instance, 'redact', [{ type: 'i32', value: bytes.length }]);
      const left = await runtime.readMemory(instance, address?.value as number, bytes.length);
      return [masked?.value, Buffer.from(left).toString()];
    };
    expect(await redact('card 4111 1111 1111 1111, phone 030 1234567, 5500-0000-0000-0004.')).toEqual([
      2,
      'card **** **** **** 1111, phone 030 1234567, ****-****-****-0004.',
    ]);
    expect(await redact('4111111111111112 is none, 4111  1111 1111 1111 neither')).toEqual([
      0,
      '4111111111111112 is none, 4111  1111 1111 1111 neither',
    ]);
    const [tooLong] = await runtime.callFunction(instance, 'redact', [{ type: 'i32', value: 65_537 }]);
    expect(tooLong?.value).toBe(-1);
    await runtime.destroy(instance);
  });
});

describe('rolling-deviation (AssemblyScript)', () => {
  it('keeps its state in a snapshot: a restored watch goes on as if nothing had been', async () => {
    const { id } = await runtime.loadModule(join(guests, 'assemblyscript/rolling-deviation.wasm'));
    const make = () => runtime.createInstance({ moduleId: id, placement: 'in-place' });
    const [watch, other] = [await make(), await make()];
    const push = runtime.inPlace(watch).function('push');
    const values = Array.from({ length: 50 }, (_, i) => 10 + ((i * 7) % 5));
    for (const value of values) push(value);
    const checkpoint = await runtime.snapshotCreate(watch);

    const window = values.slice(-32);
    const mean = window.reduce((sum, value) => sum + value, 0) / 32;
    const spread = Math.sqrt(window.reduce((sum, value) => sum + (value - mean) ** 2, 0) / 32);
    expect(push(20)).toBeCloseTo((20 - mean) / spread, 10);

    await runtime.snapshotRestore(other, checkpoint);
    const restored = runtime.inPlace(other);
    expect(restored.function('count')()).toBe(50);
    expect(restored.function('push')(20)).toBeCloseTo((20 - mean) / spread, 10);
    await runtime.destroy(watch);
    await runtime.destroy(other);
  });
});

/** The command of Go. The guest is too large to keep: it is built here when this is given. */
const go = process.env.IGUANA_GO_GUEST;

describe('group-sum (Go, WASI)', () => {
  it.skipIf(!go)(
    'sums JSON lines by key (skipped unless IGUANA_GO_GUEST=go: it needs Go, and builds for up to a minute)',
    { timeout: 180_000 },
    async () => {
      const file = join(directory, 'group-sum.wasm');
      execFileSync(go!, ['build', '-ldflags=-s', '-o', file, join(guests, 'go/group-sum.go')], {
        env: { ...process.env, GOOS: 'wasip1', GOARCH: 'wasm' },
      });
      const stdin = Buffer.from('{"key":"b","value":1}\n{"key":"a","value":2}\nnot JSON\n{"key":"a","value":0.5}\n');
      expect(await command(file, { args: ['group-sum'], stdin }, 'worker')).toMatchObject({
        code: 1,
        stdout: '{"key":"a","count":2,"sum":2.5}\n{"key":"b","count":1,"sum":1}\n',
        stderr: 'group-sum: bad: 1\n',
      });
    },
  );
});
