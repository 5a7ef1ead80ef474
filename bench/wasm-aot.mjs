/**
 * What does compiling ahead of time give? V8: the code cache against compiling lazily and compiling optimised, for a generated module of 5 MB and two real
 * ones, metered, each load in a fresh process and in a worker of one. wasm2c: the kernels as C against V8's optimised tier, plain and metered, in turns,
 * minimum of CPU time. Wasmtime, where it is installed: its code from the same signed store.
 * `node bench/wasm-aot.mjs [runs]`, default 15; writes bench/results/wasm-aot.md. wasm2c wants wabt 1.0.32, a C compiler and koffi; what is missing is named.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { BlobStore, contentHash } from '../dist/src/wasm/aot/blob-store.js';
import { CodeCache } from '../dist/src/wasm/aot/v8-code-cache.js';
import { openWasm2c } from '../dist/src/wasm/aot/wasm2c.js';
import { NativeEngine } from '../dist/src/wasm/engines/native.js';
import { openEngine } from '../dist/src/wasm/engines/open-engine.js';
import { packGas } from '../dist/src/wasm/gas/packed.js';
import { prepareModule } from '../dist/src/wasm/module/prepare.js';
import { largeModule } from './wasm/large-module.mjs';
import { GAS_KERNELS, geometricMean, machine } from './wasm/measure.mjs';
import { REAL_MODULES, realModule } from './wasm/real-modules.mjs';

const self = fileURLToPath(import.meta.url);
const kernels = new Uint8Array(readFileSync(new URL('./wasm/kernels.wasm', import.meta.url)));
const hostImports = { iguana: { grow: () => 1 } };

/** One load in this process or thread: `ahead` from the cache, `lazy` as V8 does by default. */
function loadOnce({ way, file, cacheDirectory, call }) {
  const bytes = new Uint8Array(readFileSync(file));
  const begin = performance.now();
  let module;
  const cpu = cpuMs(() => {
    module = way === 'ahead' ? new CodeCache(cacheDirectory).load(bytes) : new WebAssembly.Module(bytes);
  });
  const load = performance.now() - begin;
  if (!module) throw new Error('the cache has no code for this module');
  if (!call) return { load, cpu };
  const { exports } = new WebAssembly.Instance(module, hostImports);
  exports[call.gas].value = packGas(2 ** 42, 2 ** 19 - 1);
  const called = performance.now();
  exports[call.name](call.size);
  return { load, cpu, call: performance.now() - called };
}

if (!isMainThread) parentPort.postMessage(loadOnce(workerData));
else if (process.argv[2] === 'load') {
  const ask = JSON.parse(process.argv[3]);
  const done = ask.thread
    ? await new Promise((settle, reject) => {
        new Worker(self, { workerData: ask }).once('message', settle).once('error', reject);
      })
    : loadOnce(ask);
  console.log(JSON.stringify(done));
} else await main(Number(process.argv[2] ?? 15));

function fresh(ask) {
  return JSON.parse(execFileSync(process.execPath, [self, 'load', JSON.stringify(ask)], { encoding: 'utf8' }));
}

function spread(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  return { median: at(0.5), worst: at(1) };
}

async function main(runs) {
  process.env.IGUANA_WASM_CHILD = '1';
  const scratch = mkdtempSync(join(tmpdir(), 'iguana-bench-aot-'));
  try {
    const v8 = await codeCache(scratch, runs);
    const c = await throughC(scratch, runs);
    const cwasm = await wasmtime(scratch, runs);
    const text = [
      '# Compiling ahead of time',
      '',
      `\`nice -n -20 node bench/wasm-aot.mjs ${runs}\` on ${machine()}; load average ${loadavg()[0].toFixed(0)} of other work, which the wall times suffer from.`,
      '',
      ...v8,
      ...c,
      ...cwasm,
    ].join('\n');
    writeFileSync(new URL('./results/wasm-aot.md', import.meta.url), `${text}\n`);
    console.log(text);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function codeCache(scratch, runs) {
  const cacheDirectory = join(scratch, 'v8');
  const cache = new CodeCache(cacheDirectory);
  const modules = [
    { title: 'generated', bytes: largeModule(kernels, 3.1e6, 'aot'), call: { name: 'sha256', size: 1 << 20 } },
  ];
  for (const real of REAL_MODULES.filter(({ name }) => /resvg|esbuild/.test(name))) {
    modules.push({ title: `${real.name} ${real.version}`, bytes: realModule(real).bytes });
  }
  const rows = [];
  for (const { title, bytes, call } of modules) {
    const prepared = prepareModule(bytes);
    const file = join(scratch, 'module.wasm');
    writeFileSync(file, prepared.bytes);
    const ahead = await cache.compileAhead(prepared.bytes);
    const ask = { file, cacheDirectory, call: call && { ...call, gas: prepared.gas } };
    const ways = { ahead: { way: 'ahead' }, thread: { way: 'ahead', thread: true }, lazy: { way: 'lazy' } };
    const samples = { ahead: [], thread: [], lazy: [] };
    for (let run = 0; run < runs; run++) {
      for (const [name, way] of Object.entries(ways)) samples[name].push(fresh({ ...ask, ...way }));
    }
    const of = (name, what) => spread(samples[name].map((sample) => sample[what]));
    const both = ({ median, worst }) => `${median.toFixed(1)} / ${worst.toFixed(1)}`;
    rows.push(
      `| ${[
        title,
        `${(bytes.length / 1e6).toFixed(1)} → ${(prepared.bytes.length / 1e6).toFixed(1)}`,
        (ahead.tookMs / 1000).toFixed(1),
        (ahead.bytes / 1e6).toFixed(1),
        both(of('lazy', 'cpu')),
        both(of('ahead', 'cpu')),
        both(of('lazy', 'load')),
        both(of('ahead', 'load')),
        both(of('thread', 'load')),
        call ? `${of('lazy', 'call').median.toFixed(1)} → ${of('ahead', 'call').median.toFixed(1)}` : '',
      ].join(' | ')} |`,
    );
  }
  return [
    '## V8: code kept between processes',
    '',
    `Metered modules; every load in a process of its own, under Node's default flags; median / worst of ${runs}, ms; CPU is that of all threads. "Optimised ahead" is the whole of`,
    '`compileAhead`: another process, every function by the optimising compiler. A load ahead reads the code, checks its HMAC-SHA256 and the hash of the',
    'module, and has V8 relocate it; what it gives is at top speed from the first call.',
    '',
    '| module | MB, original → metered | optimised ahead, s | code, MB | lazy compile, CPU | load ahead, CPU | lazy compile | load ahead | load ahead in a worker | first call, lazy → ahead, ms |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows,
    '',
    'The first call is `sha256` over 1 MiB, in the generated module only.',
    '',
  ];
}

function cpuMs(run) {
  const before = process.cpuUsage();
  run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

async function throughC(scratch, runs) {
  const store = new BlobStore(join(scratch, 'c'));
  const c = await openWasm2c(store).catch((error) => error);
  if (c instanceof Error) return ['## wasm2c', '', `Not measured: ${c.message}`, ''];
  const columns = [];
  const native = new NativeEngine();
  const times = [];
  for (const metered of [false, true]) {
    const prepared = prepareModule(kernels, { metered });
    for (const engine of [native, c]) {
      const begin = performance.now();
      const compiled = engine.compile(prepared, 'optimised');
      times.push(performance.now() - begin);
      columns.push({ prepared, instance: compiled.instantiate(hostImports) });
    }
  }
  const again = await openWasm2c(store);
  const begin = performance.now();
  again.compile(prepareModule(kernels)).instantiate(hostImports);
  const loadMs = performance.now() - begin;
  const best = GAS_KERNELS.map(() => columns.map(() => Number.POSITIVE_INFINITY));
  const results = GAS_KERNELS.map(() => columns.map(() => undefined));
  for (let run = 0; run < runs; run++) {
    GAS_KERNELS.forEach(({ name, size }, row) => {
      columns.forEach(({ prepared, instance }, column) => {
        if (prepared.gas) instance.setGlobal(prepared.gas, packGas(2 ** 42, 2 ** 19 - 1));
        const kernel = instance.function(name);
        const took = cpuMs(() => {
          results[row][column] = kernel(size);
        });
        best[row][column] = Math.min(best[row][column], took);
      });
    });
  }
  GAS_KERNELS.forEach(({ name }, row) => {
    if (new Set(results[row]).size !== 1) throw new Error(`${name} gave different results: ${results[row]}`);
  });
  const ratio = (row, of, to) => best[row][to] / best[row][of];
  const all = (of, to) => `${(geometricMean(GAS_KERNELS.map((_, row) => ratio(row, of, to))) * 100).toFixed(0)} %`;
  const add = c
    .compile(prepareModule(kernels, { metered: false }))
    .instantiate({})
    .function('fib');
  const calls = 200_000;
  const callUs =
    (cpuMs(() => {
      for (let i = 0; i < calls; i++) add(1);
    }) /
      calls) *
    1000;
  c.close();
  again.close();
  return [
    `## ${c.description.version}`,
    '',
    `CPU ms, minimum of ${runs} runs in turns in one process; equal results checked. Speed is V8's optimised tier as 100 %.`,
    '',
    '| kernel | V8 plain | C plain | V8 metered | C metered | speed of C, plain | speed of C, metered | metered C to plain V8 |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...GAS_KERNELS.map(
      ({ name }, row) =>
        `| ${name} | ${best[row].map((ms) => ms.toFixed(2)).join(' | ')} | ${[ratio(row, 1, 0), ratio(row, 3, 2), ratio(row, 3, 0)].map((share) => `${(share * 100).toFixed(0)} %`).join(' | ')} |`,
    ),
    `| geometric mean | | | | | ${all(1, 0)} | ${all(3, 2)} | ${all(3, 0)} |`,
    '',
    `Compiling the ${(kernels.length / 1000).toFixed(1)} KB: ${times[1].toFixed(0)} ms plain, ${times[3].toFixed(0)} ms metered; from the store, with instance: ${loadMs.toFixed(1)} ms. A call from JavaScript: ${callUs.toFixed(2)} µs.`,
    '',
  ];
}

async function wasmtime(scratch, runs) {
  const engine = await openEngine('wasmtime').catch((error) => error);
  if (engine instanceof Error || !engine.load) {
    return ['## Wasmtime', '', `Not measured: ${engine.message ?? 'this engine does not serialise'}`, ''];
  }
  const store = new BlobStore(join(scratch, 'cwasm'));
  const prepared = prepareModule(largeModule(kernels, 1e6, 'cwasm'));
  const compileMs = [];
  const loadMs = [];
  const identity = {
    kind: 'cwasm',
    engine: `${engine.description.name} ${engine.description.version}`,
    flags: engine.description.tiers[0],
    content: contentHash(prepared.bytes),
  };
  const begin = performance.now();
  const compiled = engine.compile(prepared);
  compileMs.push(performance.now() - begin);
  const code = compiled.serialize();
  store.put(identity, code);
  for (let run = 0; run < runs; run++) {
    const start = performance.now();
    const { found } = store.get(identity);
    const loaded = found && engine.load(prepared, new Uint8Array(found));
    if (!loaded) throw new Error('wasmtime does not take its own code back');
    loadMs.push(performance.now() - start);
    loaded.close();
  }
  engine.close();
  const { median, worst } = spread(loadMs);
  return [
    `## Wasmtime ${engine.description.version}, from the same store`,
    '',
    `${(prepared.bytes.length / 1e6).toFixed(1)} MB metered: compiled in ${compileMs[0].toFixed(0)} ms; ${(code.length / 1e6).toFixed(1)} MB of code read, its signature checked and loaded in ${median.toFixed(1)} ms, worst ${worst.toFixed(1)} ms of ${runs}.`,
    '',
  ];
}
