import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { messageOf } from '../../../src/errors.js';
import { BlobStore } from '../../../src/wasm/aot/blob-store.js';
import { openWasm2c } from '../../../src/wasm/aot/wasm2c.js';
import type { Engine, EngineInstance, HostImports } from '../../../src/wasm/engines/engine.js';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { gasLeft, packGas } from '../../../src/wasm/gas/packed.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { WasmTrap } from '../../../src/wasm/trap.js';
import { workerUrl } from '../../../src/worker-url.js';

const kernels = new Uint8Array(readFileSync(new URL('../../../bench/wasm/kernels.wasm', import.meta.url)));
const PLENTY = packGas(1e12, 400_000);

/** Names that are not C names, a host function of every number type, every trap there is a code for. */
const guest = `(module
  (import "a b" "say \\22hi\\22" (func $host (param i32 i64 f32 f64) (result i64)))
  (import "a b" "/*" (func $pair (param i32) (result i32 f64)))
  (type $t (func (param i32) (result i32)))
  (memory (export "memory") 1 10)
  (table (export "table") 4 8 funcref)
  (global (export "g32") (mut i32) (i32.const -5))
  (global (export "g64") (mut i64) (i64.const -6))
  (global (export "gf32") (mut f32) (f32.const 1.5))
  (global (export "gf64") f64 (f64.const 2.25))
  (elem (i32.const 1) func $x $y)
  (elem $p func $x)
  (data (i32.const 100) "hello")
  (data $d "passive")
  (func $x (export "x */ \\22 Z_ $") (param i32) (result i32) (local.get 0))
  (func $y (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
  (func (export "all") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
    (local.get 3) (local.get 2) (local.get 1) (local.get 0))
  (func (export "indirect") (param i32 i32) (result i32) (call_indirect (type $t) (local.get 1) (local.get 0)))
  (func (export "host") (param i32) (result i64)
    (call $host (local.get 0) (i64.const -2) (f32.const 1.5) (f64.const 2.5)))
  (func (export "pair") (param i32) (result i32 f64) (call $pair (local.get 0)))
  (func (export "init") (param i32)
    (memory.init $d (i32.const 0) (i32.const 0) (local.get 0)) (table.init $p (i32.const 0) (i32.const 0) (i32.const 1)))
  (func (export "table-init") (param i32) (table.init $p (local.get 0) (i32.const 0) (i32.const 1)))
  (func (export "fill") (param i32 i32) (memory.fill (local.get 0) (i32.const 7) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "div") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "load") (param i32) (result i32) (i32.load offset=4 (local.get 0)))
  (func (export "drop-load") (param i32) (drop (f64.load offset=4294967295 (local.get 0))))
  (func (export "store") (param i32 i64) (i64.store (local.get 0) (local.get 1)))
  (func $deep (export "deep") (param i32) (result i32)
    (if (result i32) (local.get 0)
      (then (i32.add (call $deep (i32.sub (local.get 0) (i32.const 1))) (i32.const 1)))
      (else (i32.const 0))))
  (func (export "unreachable") unreachable)
  (func (export "truncate") (param f64) (result i32) (i32.trunc_f64_s (local.get 0)))
  (func (export "minimum") (param f32 f32) (result f32) (f32.min (local.get 0) (local.get 1)))
)`;

let directory: string;
let engine: Engine | undefined;
let missing = '';
let bytes: Uint8Array;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'iguana-c-'));
  process.env.IGUANA_WASM_CHILD = '1';
  try {
    engine = await openWasm2c(new BlobStore(directory));
    writeFileSync(join(directory, 'guest.wat'), guest);
    execFileSync('wat2wasm', ['guest.wat', '-o', 'guest.wasm'], { cwd: directory });
    bytes = new Uint8Array(readFileSync(join(directory, 'guest.wasm')));
  } catch (error) {
    missing = messageOf(error);
  }
}, 30_000);
afterAll(() => {
  engine?.close();
  rmSync(directory, { recursive: true, force: true });
});

/** The same on V8 and in C; `seen` are what the host function was given. */
function both(metered: boolean) {
  const prepared = prepareModule(bytes, { metered });
  return [new NativeEngine(), engine!].map((one) => {
    const seen: unknown[][] = [];
    const imports: HostImports = {
      'a b': {
        'say "hi"': (...args) => {
          seen.push(args);
          if (args[0] === 1) throw new Error('the host is out');
          if (args[0] === 2) return BigInt(instance.function('div')(9, 2) as number);
          if (args[0] === 3) return instance.function('div')(1, 0);
          return 2n ** 63n + 5n; // wraps
        },
        '/*': (value) => [-(value as number), 0.1],
      },
      iguana: { grow: () => 1 },
    };
    const instance: EngineInstance = one.compile(prepared).instantiate(imports);
    const refill = () => prepared.gas !== undefined && instance.setGlobal(prepared.gas, PLENTY);
    refill();
    const run = (name: string, ...args: unknown[]) => {
      refill();
      try {
        return instance.function(name)(...args);
      } catch (error) {
        return error instanceof WasmTrap ? `trap ${error.trap}` : messageOf(error);
      }
    };
    return { instance, run, seen, prepared, refill };
  });
}

const calls: [string, ...unknown[]][] = [
  ['all', -7, -(2n ** 63n), 1.25, -0],
  ['all', 2 ** 31 - 1, 2n ** 63n - 1n, Number.NaN, Number.POSITIVE_INFINITY],
  ['x */ " Z_ $', 3],
  ['host', 0],
  ['host', 1],
  ['host', 2],
  ['host', 3],
  ['pair', 12],
  ['indirect', 1, 5],
  ['indirect', 2, 5],
  ['indirect', 0, 5],
  ['indirect', 4, 5],
  ['indirect', -1, 5],
  ['table-init', 4],
  ['init', 7],
  ['indirect', 0, 9],
  ['init', 8],
  ['load', 96],
  ['load', 65_528],
  ['load', 65_529],
  ['load', -1],
  ['drop-load', 0],
  ['drop-load', -1],
  ['store', 65_528, -1n],
  ['store', 65_529, -1n],
  ['load', 65_524],
  ['fill', 65_530, 7],
  ['fill', 65_530, 6],
  ['grow', 1],
  ['load', 65_529],
  ['grow', 9],
  ['grow', 8],
  ['grow', 0],
  ['div', 7, 0],
  ['div', -(2 ** 31), -1],
  ['div', -7, 2],
  ['deep', 1_000],
  ['unreachable'],
  ['truncate', -5.9],
  ['truncate', Number.NaN],
  ['truncate', 1e20],
  ['minimum', 0, -0],
  ['minimum', Number.NaN, 1],
];

describe.each([
  ['plain', false],
  ['metered', true],
])('a module through C, %s', { timeout: 30_000 }, (_, metered) => {
  it('does what it does on V8, traps and host calls included', (context) => {
    if (!engine) context.skip(missing);
    const [native, c] = both(metered);
    for (const [name, ...args] of calls) {
      expect(c!.run(name, ...args), `${name}(${args.join(', ')})`).toEqual(native!.run(name, ...args));
      if (metered) {
        const gas = native!.prepared.gas!;
        expect(c!.instance.getGlobal(gas), `gas of ${name}(${args.join(', ')})`).toBe(native!.instance.getGlobal(gas));
      }
    }
    expect(c!.seen).toEqual(native!.seen);
    expect(c!.seen.length).toBeGreaterThan(3);
    expect(Buffer.from(c!.instance.memory('memory')).equals(native!.instance.memory('memory'))).toBe(true);
    for (const [name, value] of [
      ['g32', 12],
      ['g64', -(2n ** 62n)],
      ['gf32', 0.5],
    ] as const) {
      expect(c!.instance.getGlobal(name)).toEqual(native!.instance.getGlobal(name));
      c!.instance.setGlobal(name, value);
      expect(c!.instance.getGlobal(name)).toBe(value);
    }
    expect(c!.instance.getGlobal('gf64')).toBe(2.25);
    c!.instance.close();
    expect(() => c!.instance.function('div')).toThrow(/IGU_WASM_NOT_FOUND/);
  });

  it('ends endless recursion with a trap', (context) => {
    if (!engine) context.skip(missing);
    const c = both(metered)[1]!;
    const result = c.run('deep', -1);
    if (metered) expect(c.instance.getGlobal(c.prepared.gas!)).not.toBe(PLENTY);
    expect(result).toBe(metered ? 'trap unreachable' : 'trap stack-overflow');
    expect(c.run('deep', 10)).toBe(10);
  });
});

describe('the engine wasm2c', { timeout: 30_000 }, () => {
  it('says what it is', (context) => {
    if (!engine) context.skip(missing);
    expect(engine!.description).toMatchObject({ name: 'wasm2c', host: 'native', tiers: ['optimised'] });
    expect(engine!.description.version).toMatch(/^wasm2c 1\.0\.32 \+ (gcc|clang) \d+/);
  });

  it('gives the results and the gas of V8 on every kernel', (context) => {
    if (!engine) context.skip(missing);
    const prepared = prepareModule(kernels);
    const [native, c] = [new NativeEngine(), engine!].map((one) =>
      one.compile(prepared).instantiate({ iguana: { grow: () => 1 } }),
    );
    for (const [name, size] of [
      ['matmul', 20],
      ['sha256', 5_000],
      ['sieve', 5_000],
      ['mandelbrot', 30],
      ['quicksort', 3_000],
      ['fib', 15],
      ['json', 5_000],
    ] as const) {
      const [expected, actual] = [native!, c!].map((instance) => {
        instance.setGlobal(prepared.gas!, PLENTY);
        const result = instance.function(name)(size);
        return { name, result, gas: gasLeft(instance.getGlobal(prepared.gas!) as bigint) };
      });
      expect(actual).toEqual(expected);
    }
  });

  it('runs out of gas in the same place as V8', (context) => {
    if (!engine) context.skip(missing);
    const prepared = prepareModule(kernels);
    const left = [new NativeEngine(), engine!].map((one) => {
      const instance = one.compile(prepared).instantiate({ iguana: { grow: () => 1 } });
      instance.setGlobal(prepared.gas!, packGas(50_000, 400_000));
      expect(() => instance.function('sieve')(1_000_000)).toThrow(WasmTrap);
      return instance.getGlobal(prepared.gas!);
    });
    expect(left[1]).toBe(left[0]);
  });

  it('compiles a module once for all processes', async (context) => {
    if (!engine) context.skip(missing);
    engine!.compile(prepareModule(kernels));
    const before = readdirSync(directory).filter((file) => file.endsWith('.bin')).length;
    const later = await openWasm2c(new BlobStore(directory));
    const instance = later
      .compile(prepareModule(kernels, { metered: true }))
      .instantiate({ iguana: { grow: () => 1 } });
    expect(instance.memory('memory').length).toBeGreaterThan(0);
    expect(readdirSync(directory).filter((file) => file.endsWith('.bin'))).toHaveLength(before);
    expect(readdirSync(directory).filter((file) => file.startsWith('tmp-'))).toEqual([]);
    later.close();
  });

  it('runs in several threads at once, each with its own traps', async (context) => {
    if (!engine) context.skip(missing);
    const module = (path: string) =>
      JSON.stringify(fileURLToPath(workerUrl(new URL('../../../src/wasm/x.ts', import.meta.url).href, path)));
    const source = `(async () => {
      const { openWasm2c } = await import(${module('./aot/wasm2c.js')});
      const { BlobStore } = await import(${module('./aot/blob-store.js')});
      const { prepareModule } = await import(${module('./module/prepare.js')});
      const { packGas } = await import(${module('./gas/packed.js')});
      const { workerData, parentPort } = require('node:worker_threads');
      const engine = await openWasm2c(new BlobStore(workerData.directory));
      const prepared = prepareModule(workerData.bytes);
      const instance = engine.compile(prepared)
        .instantiate({ 'a b': { 'say "hi"': () => 1n, '/*': () => [1, 2] }, iguana: { grow: () => 1 } });
      const counts = {};
      for (let i = 0; i < 300; i++) for (const [name, ...args] of [['load', -1], ['deep', 300], ['unreachable'], ['host', 0]]) {
        instance.setGlobal(prepared.gas, packGas(1e9, 400_000));
        let what;
        try { what = String(instance.function(name)(...args)); } catch (error) { what = error.trap; }
        counts[name + ' ' + what] = (counts[name + ' ' + what] ?? 0) + 1;
      }
      instance.close();
      engine.close();
      parentPort.postMessage(counts);
    })();`;
    engine!.compile(prepareModule(bytes)); // so that the threads find it
    const results = await Promise.all(
      [1, 2, 3].map(
        () =>
          new Promise((settle, reject) => {
            const worker = new Worker(source, { eval: true, workerData: { directory, bytes }, execArgv: [] });
            worker.once('message', settle).once('error', reject);
          }),
      ),
    );
    const expected = {
      'load out-of-bounds-memory': 300,
      'deep 300': 300,
      'unreachable unreachable': 300,
      'host 1': 300,
    };
    expect(results).toEqual([expected, expected, expected]);
  });

  it('refuses by name what it cannot run', (context) => {
    if (!engine) context.skip(missing);
    const make = (wat: string) => {
      writeFileSync(join(directory, 'one.wat'), wat);
      execFileSync('wat2wasm', ['--enable-all', 'one.wat', '-o', 'one.wasm'], { cwd: directory });
      return prepareModule(new Uint8Array(readFileSync(join(directory, 'one.wasm'))), { metered: false });
    };
    expect(() => engine!.compile(make('(module (func (export "f") (drop (v128.const i64x2 1 2))))'))).toThrow(
      /IGU_WASM_UNSUPPORTED simd/,
    );
    expect(() => engine!.compile(make('(module (import "env" "memory" (memory 1)))'))).toThrow(
      /IGU_WASM_UNSUPPORTED an imported memory \(env\.memory\)/,
    );
    const compiled = engine!.compile(make('(module (import "env" "f" (func)) (func (export "g") (call 0)))'));
    expect(() => compiled.instantiate({})).toThrow(/IGU_WASM_LINK import env\.f/);
    const segment = make('(module (memory (export "m") 1) (data (i32.const 65536) "x"))');
    expect(() => engine!.compile(segment).instantiate({})).toThrow(WasmTrap);
  });
});
