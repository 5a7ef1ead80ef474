/**
 * How fast does WebAssembly run here against native code, and what does counting gas cost? Seven kernels (bench/wasm/kernels.c) as native code, on V8 and
 * on every other engine that is installed, each plain and metered by the same rewriter; real modules from npm, plain and metered, with the speed
 * of rewriting. Every engine is a process of its own; they take turns, and the minimum of CPU time counts.
 * `node bench/wasm.mjs [runs]`, default 25; writes bench/results/wasm-speed.md. Wants clang, and gcc with wabt for the ahead-of-time column (or `CLANG`, `CC`, `WASM2C`); what is
 * missing is left out and named. The real modules are fetched with `npm pack` (see bench/wasm/real-modules.mjs).
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { prepareModule } from '../dist/src/wasm/module/prepare.js';
import { GAS_KERNELS, geometricMean, machine, percent, versionOf } from './wasm/measure.mjs';
import { REAL_MODULES } from './wasm/real-modules.mjs';

const CLANG = process.env.CLANG ?? 'clang';
const GCC = process.env.CC ?? 'gcc';
const WASM2C = process.env.WASM2C ?? 'wasm2c';
const runs = Number(process.argv[2] ?? 25);
const here = fileURLToPath(new URL('./wasm/', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'iguana-bench-wasm-'));
const kernelBytes = readFileSync(join(here, 'kernels.wasm'));
const missing = [];

/** A process that runs kernels: `ask` gives CPU microseconds, checksum and gas. */
class KernelProcess {
  constructor(title, command, args) {
    this.title = title;
    this.child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, IGUANA_WASM_CHILD: '1' },
    });
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async line() {
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`${this.title} ended`);
    return value;
  }

  async ask(which, kernel, size) {
    this.child.stdin.write(`${which} ${kernel} ${size}\n`);
    const [micros, checksum, gas] = (await this.line()).split(' ');
    return { ms: Number(micros) / 1000, checksum: Number(checksum), gas: Number(gas ?? 0) };
  }

  async close() {
    this.child.stdin.end();
    await this.ended;
  }
}

function nativeProgram() {
  const compiler = versionOf(CLANG);
  if (compiler === undefined) {
    missing.push('native code: clang is not installed');
    return undefined;
  }
  const program = join(scratch, 'native');
  execFileSync(CLANG, ['-O2', '-fno-vectorize', '-fno-slp-vectorize', '-o', program, join(here, 'kernel-native.c')]);
  return { title: 'native code', version: compiler, program };
}

/** The module as C by wasm2c, compiled by gcc. */
function aheadOfTime(which) {
  const compiler = versionOf(GCC);
  const translator = versionOf(WASM2C);
  if (compiler === undefined || translator === undefined) {
    missing.push(`ahead of time (${which}): ${compiler === undefined ? 'gcc' : 'wasm2c'} is not installed`);
    return undefined;
  }
  const prepared = which === 'metered' ? prepareModule(kernelBytes) : undefined;
  const base = join(scratch, `kernels-${which}`);
  writeFileSync(`${base}.wasm`, prepared?.bytes ?? kernelBytes);
  execFileSync(WASM2C, ['-n', 'kernels', `${base}.wasm`, '-o', `${base}.c`]);
  const header = readFileSync(`${base}.h`, 'utf8');
  const prefix = /(\w+?)matmul\(/.exec(header)[1];
  const start = /void (\w*kernels_instantiate)\((\w+)\*(?:, struct (\w+)\*)?\)/.exec(header);
  // the metered module asks its host whether memory may grow
  const grow = /u32 (\w+grow)\(struct \w+\*, u32\)/.exec(header)?.[1];
  const setUp = /void (\w*kernels_init_module)\(void\)/.exec(header);
  writeFileSync(
    `${base}-all.h`,
    [
      `#include "${base}.h"`,
      `#define PREFIX ${prefix}`,
      `#define INSTANCE ${start[2]}`,
      grow ? `u32 ${grow}(struct ${start[3]} *host, u32 pages) { return 1; }` : '',
      `static void START(INSTANCE *instance) { ${setUp ? `${setUp[1]}(); ` : ''}${start[1]}(instance${start[3] ? ', 0' : ''}); }`,
      prepared === undefined ? '' : `#define GAS ${/(\w+gas)\(/.exec(header)[1]}`,
      '',
    ].join('\n'),
  );
  const program = join(scratch, `aot-${which}`);
  execFileSync(
    GCC,
    [
      '-O2',
      '-w',
      `-DAOT_HEADER="${base}-all.h"`,
      '-o',
      program,
      join(here, 'kernel-native.c'),
      `${base}.c`,
      '-lwasm-rt-impl',
      '-lm',
    ],
    { stdio: 'inherit' },
  );
  return { title: `wasm2c + gcc`, version: `wasm2c ${translator}, ${compiler}`, program };
}

/** One column for each program or engine, with the modules that it runs. */
const columns = [];
async function addProgram(made, which) {
  if (made === undefined) return;
  columns.push({ ...made, modules: [which], process: new KernelProcess(made.title, made.program, []) });
}
async function addEngine(title, name, tier, flags = [], runsOf = runs) {
  const process_ = new KernelProcess(title, process.execPath, [
    ...flags,
    join(here, 'kernel-child.mjs'),
    name,
    ...(tier ? [tier] : []),
  ]);
  const [word, ...rest] = (await process_.line().catch((error) => `missing ${error.message}`)).split(' ');
  if (word !== 'ready') {
    missing.push(`${title}: ${rest.join(' ')}`);
    await process_.close();
    return;
  }
  columns.push({ title, version: rest.join(' '), modules: ['plain', 'metered'], process: process_, runs: runsOf });
}

await addProgram(nativeProgram(), 'native');
await addEngine('V8 optimised', 'native', 'optimised', ['--no-liftoff']);
await addEngine('V8 baseline', 'native', 'baseline', ['--liftoff-only', '--no-wasm-tier-up']);
await addEngine('Wasmtime', 'wasmtime');
await addEngine('Wasmer', 'wasmer');
await addProgram(aheadOfTime('plain'), 'plain');
await addProgram(aheadOfTime('metered'), 'metered');
await addEngine('engine wasm2c', 'wasm2c');
await addEngine('wasm3', 'wasm3', undefined, [], 3);

/** best[title][module][kernel] in ms; the ahead-of-time programs share a title. */
const best = {};
const gasOf = {};
for (const { name, size } of GAS_KERNELS) {
  let expected;
  for (let run = -1; run < runs; run++)
    for (let at = 0; at < columns.length; at++) {
      const column = columns[(at + run + 1) % columns.length];
      if (run >= (column.runs ?? runs)) continue;
      for (const which of run % 2 === 0 ? column.modules : [...column.modules].reverse()) {
        const answer = await column.process.ask(which, name, size);
        expected ??= answer.checksum;
        if (answer.checksum !== expected)
          throw new Error(`${column.title} (${which}): ${name} is ${answer.checksum}, not ${expected}`);
        if (which === 'metered' && answer.gas > 0) {
          gasOf[name] ??= answer.gas;
          if (gasOf[name] !== answer.gas)
            throw new Error(`${column.title}: gas of ${name} is ${answer.gas}, not ${gasOf[name]}`);
        }
        if (run < 0) continue;
        best[column.title] ??= {};
        best[column.title][which] ??= {};
        best[column.title][which][name] = Math.min(
          best[column.title][which][name] ?? Number.POSITIVE_INFINITY,
          answer.ms,
        );
      }
    }
}
for (const column of columns) await column.process.close();

const titles = [...new Set(columns.map(({ title }) => title))];
const native = best['native code']?.native;
const number = (ms) => (ms < 10 ? ms.toFixed(2) : ms < 100 ? ms.toFixed(1) : ms.toFixed(0));
const share = (x) => `${(x * 100).toFixed(0)} %`;
const names = GAS_KERNELS.map(({ name }) => name);
const head = (first) => [
  `| ${first} | ${GAS_KERNELS.map(({ name, size }) => `${name} ${size}`).join(' | ')} | geometric mean |`,
  `| --- |${' ---: |'.repeat(names.length + 1)}`,
];
const speed = head('CPU ms');
const shares = head('share of native speed');
const costs = head('gas costs');
for (const title of titles)
  for (const [which, times] of Object.entries(best[title])) {
    const label = which === 'native' ? title : `${title}, ${which}`;
    speed.push(
      `| ${label} | ${names.map((n) => number(times[n])).join(' | ')} | ${number(geometricMean(names.map((n) => times[n])))} |`,
    );
    if (native !== undefined && which !== 'native') {
      const ratios = names.map((n) => native[n] / times[n]);
      shares.push(`| ${label} | ${ratios.map(share).join(' | ')} | **${share(geometricMean(ratios))}** |`);
    }
    if (which === 'metered' && best[title].plain !== undefined) {
      const ratios = names.map((n) => times[n] / best[title].plain[n]);
      costs.push(
        `| ${title} | ${ratios.map((r) => percent(r - 1)).join(' | ')} | **${percent(geometricMean(ratios) - 1)}** |`,
      );
    }
  }
const counted = head('gas').slice(0, 2);
counted[0] = counted[0].replace('| geometric mean |', '|');
counted[1] = counted[1].replace(' ---: |', '');
counted.push(`| every engine | ${names.map((n) => gasOf[n].toLocaleString('en-US')).join(' | ')} |`);

const real = [
  '| module | from | work | plain, CPU ms | metered, CPU ms | gas costs | gas | size | prepared | rewriting |',
  '| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
];
const realRatios = [];
for (const { name, version, from, work } of REAL_MODULES) {
  try {
    const answer = JSON.parse(
      execFileSync(process.execPath, ['--no-liftoff', join(here, 'real-child.mjs'), name, String(Math.max(10, runs))], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'inherit'],
        timeout: 300_000,
      }),
    );
    const mb = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
    realRatios.push(answer.meteredMs / answer.plainMs);
    real.push(
      `| ${name} ${version} | ${from} | ${work} | ${number(answer.plainMs)} | ${number(answer.meteredMs)} | ${percent(answer.meteredMs / answer.plainMs - 1)} | ${answer.gas.toLocaleString('en-US')} | ${mb(answer.bytes)} | × ${(answer.preparedBytes / answer.bytes).toFixed(2)} | ${(answer.bytes / 1e3 / answer.rewriteMs).toFixed(1)} MB/s |`,
    );
  } catch (error) {
    missing.push(`${name} ${version}: ${String(error.message).split('\n')[0]}`);
  }
}
rmSync(scratch, { recursive: true, force: true });

const text = `# Speed of WebAssembly, and what gas costs

Minimum CPU time of ${runs} runs (wasm3: 3), each engine in its own process, taking turns; results and gas are compared at every run.
The kernels are one C file, compiled by clang with -O2 and without automatic vectors, natively and for wasm32 alike.
"Plain" is the module as it was compiled, or prepared without metering; "metered" counts gas and stack, by code that the rewriter put into the module.

${machine()}. \`node bench/wasm.mjs ${runs}\`

${columns
  .filter((column, at) => columns.findIndex(({ title }) => title === column.title) === at)
  .map(({ title, version }) => `- ${title}: ${version}`)
  .join('\n')}
${missing.map((line) => `- not measured: ${line}`).join('\n')}

${speed.join('\n')}

## Share of native speed

${native === undefined ? 'Not measured: there is no native column.' : shares.join('\n')}

## Cost of gas on each engine

${costs.join('\n')}

${counted.join('\n')}

## Real modules

With the packages' own JavaScript, on V8's optimising compiler; the outputs of both are compared at every run.${realRatios.length > 0 ? ` Geometric mean of the cost of gas: **${percent(geometricMean(realRatios) - 1)}**.` : ''}
The times are of the whole work, the packages' JavaScript included. Rewriting: CPU time of one \`prepareModule\`, best of 3.

${real.join('\n')}
`;
writeFileSync(new URL('./results/wasm-speed.md', import.meta.url), text);
console.log(text);
