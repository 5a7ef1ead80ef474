import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cachedDataVersionTag } from 'node:v8';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CodeCache } from '../../../src/wasm/aot/v8-code-cache.js';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { packGas } from '../../../src/wasm/gas/packed.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { workerUrl } from '../../../src/worker-url.js';

const kernels = new Uint8Array(readFileSync(new URL('../../../bench/wasm/kernels.wasm', import.meta.url)));
const compiled = fileURLToPath(
  workerUrl(new URL('../../../src/wasm/aot/x.ts', import.meta.url).href, './v8-code-cache.js'),
);
let directory: string;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'iguana-code-'));
  await new CodeCache(directory).compileAhead(kernels);
}, 30_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A program that loads the kernels from the cache; its flags are its own. */
const loader = `
  const { CodeCache } = await import(${JSON.stringify(compiled)});
  const { readFileSync } = await import('node:fs');
  const cache = new CodeCache(process.env.CACHE);
  const bytes = new Uint8Array(readFileSync(process.env.MODULE));
  let failure;
  if (process.env.COMPILE) await cache.compileAhead(bytes).catch((error) => { failure = error.message; });
  const module = cache.load(bytes);
  const result = module && new WebAssembly.Instance(module).exports.fib(20);
  const { misses, lastMiss } = cache.stats();
  const done = { result, misses, lastMiss, failure };`;

interface Loaded {
  readonly result?: number;
  readonly misses: Record<string, number>;
  readonly lastMiss?: string;
  readonly failure?: string;
}

function inProcess(flags: string[], env: Record<string, string> = {}): Loaded {
  return run(`${loader} console.log(JSON.stringify(done));`, flags, env) as Loaded;
}

/** What a program of its own process prints. */
function run(program: string, flags: string[] = [], env: Record<string, string> = {}): unknown {
  const { status, stdout, stderr } = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', program], {
    env: {
      PATH: process.env.PATH,
      CACHE: directory,
      MODULE: fileURLToPath(new URL('../../../bench/wasm/kernels.wasm', import.meta.url)),
      ...env,
    },
    encoding: 'utf8',
    timeout: 20_000,
  });
  expect(status, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe('the cache of compiled code', { timeout: 30_000 }, () => {
  it('loads a module that does what the plain one does', async () => {
    const cache = new CodeCache(directory);
    const { fib, sha256, json } = new WebAssembly.Instance(cache.load(kernels)!).exports as Record<
      string,
      CallableFunction
    >;
    const plain = new WebAssembly.Instance(new WebAssembly.Module(kernels)).exports as Record<string, CallableFunction>;
    expect(fib!(20)).toBe(plain.fib!(20));
    expect(sha256!(1)).toBe(plain.sha256!(1));
    expect(json!(1)).toBe(plain.json!(1));
    expect(cache.stats()).toMatchObject({ loads: 1, hits: 1, misses: {}, blobs: 1 });
  });

  it('has nothing to compile the second time, and compiles a module once for all who ask', async () => {
    const cache = new CodeCache(directory);
    expect(await cache.compileAhead(kernels)).toMatchObject({ tookMs: 0 });
    expect(cache.stats().compiled).toBe(0);
    const own = mkdtempSync(join(tmpdir(), 'iguana-code-'));
    try {
      const fresh = new CodeCache(own);
      expect(fresh.load(kernels)).toBeUndefined();
      const [a, b] = await Promise.all([fresh.compileAhead(kernels), fresh.compileAhead(kernels)]);
      expect(a).toBe(b);
      expect(a.bytes).toBeGreaterThan(kernels.length);
      expect(fresh.stats()).toMatchObject({ compiled: 1, waiting: 0, misses: { absent: 1 } });
      expect(fresh.load(kernels)).toBeInstanceOf(WebAssembly.Module);
    } finally {
      rmSync(own, { recursive: true, force: true });
    }
  });

  it('loads in a process that did not compile, under default flags', () => {
    expect(inProcess([])).toEqual({ result: 6765, misses: {} });
  });

  it('keeps code for each set of V8 flags, and passes over flags of Node', () => {
    const flags = ['--stack-size=900', '--no-opt'];
    const env = { NODE_OPTIONS: '--max-old-space-size=300 --no-warnings' };
    expect(inProcess(flags, env)).toMatchObject({ misses: { absent: 1 } });
    expect(inProcess(flags, { ...env, COMPILE: '1' })).toEqual({ result: 6765, misses: {} });
    expect(inProcess(flags, env)).toEqual({ result: 6765, misses: {} });
  });

  it('does not load under flags that were set later, and tells why it cannot compile for them', () => {
    const late = [
      '--import=data:text/javascript,import{setFlagsFromString}from"node:v8";setFlagsFromString("--no-opt")',
    ];
    expect(inProcess(late)).toEqual({ misses: { absent: 1 }, lastMiss: expect.stringContaining('flags') });
    expect(inProcess(late, { COMPILE: '1' }).failure).toMatch(/set while it ran/);
  });

  it('loads in worker threads, several at once', () => {
    // V8's flags may differ for a moment while other threads begin: then nothing is found, and it is there when asked for again
    const source = `(async () => { ${loader}
      const again = module ?? (await new Promise((resolve) => setTimeout(() => resolve(cache.load(bytes)), 100)));
      const found = again && new WebAssembly.Instance(again).exports.fib(20);
      require('node:worker_threads').parentPort.postMessage({ found, hits: cache.stats().hits }); })();`;
    // in a process of its own: flags are a process's, and other tests set some for a moment
    const program = `
      const { Worker } = await import('node:worker_threads');
      const loading = () => new Promise((settle, reject) => {
        const worker = new Worker(${JSON.stringify(source)}, { eval: true, execArgv: [] });
        worker.once('message', settle).once('error', reject);
      });
      console.log(JSON.stringify(await Promise.all([loading(), loading(), loading(), loading()])));`;
    expect(run(program)).toEqual(Array.from({ length: 4 }, () => ({ found: 6765, hits: 1 })));
  });

  it('gives the native engine its code for the tier `optimised`, and that engine leaves no flag set', async () => {
    const cache = new CodeCache(directory);
    const prepared = prepareModule(kernels);
    await cache.compileAhead(prepared);
    const compile = (tier: 'optimised' | 'tiered') => {
      const instance = new NativeEngine(cache).compile(prepared, tier).instantiate({ iguana: { grow: () => 1 } });
      instance.setGlobal(prepared.gas!, packGas(1e9, 1_000));
      return instance.function('fib')(20);
    };
    expect(compile('tiered')).toBe(6765);
    expect(cache.stats().loads).toBe(0);
    expect(compile('optimised')).toBe(6765);
    expect(cache.stats()).toMatchObject({ loads: 1, hits: 1 });
    const before = cachedDataVersionTag();
    for (const tier of ['baseline', 'optimised', 'tiered'] as const)
      new NativeEngine().compile(prepareModule(kernels), tier);
    expect(cachedDataVersionTag()).toBe(before);
  });

  it('does not run code that was changed on the disk', () => {
    const payload = readdirSync(directory).filter((file) => file.endsWith('.bin'));
    const before = payload.map((file) => readFileSync(join(directory, file)));
    const flip = (bytes: Buffer) => Buffer.from(bytes.map((byte, at) => (at === bytes.length - 100 ? byte ^ 1 : byte)));
    payload.forEach((file, index) => {
      writeFileSync(join(directory, file), flip(before[index]!));
    });
    try {
      const cache = new CodeCache(directory);
      expect(cache.load(kernels)).toBeUndefined();
      expect(cache.stats().misses).toEqual({ signature: 1 });
    } finally {
      payload.forEach((file, index) => {
        writeFileSync(join(directory, file), before[index]!);
      });
    }
  });

  it('tells why a module cannot be compiled', async () => {
    const cache = new CodeCache(directory);
    const broken = new Uint8Array([...kernels.subarray(0, 200)]);
    await expect(cache.compileAhead(broken)).rejects.toThrow(/IGU_WASM_INVALID.*CompileError/);
    const empty = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
    await expect(cache.compileAhead(empty)).rejects.toThrow(/IGU_WASM_INVALID.*ended with/);
    expect(cache.stats()).toMatchObject({ failed: 2, waiting: 0 });
    expect(readdirSync(directory).filter((file) => file.startsWith('tmp-'))).toEqual([]);
    expect(cache.load(kernels)).toBeInstanceOf(WebAssembly.Module);
  });
});
