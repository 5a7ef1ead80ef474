/** What the WebAssembly benchmarks share: the kernels with their sizes, interleaved minima of CPU time, prepared modules with gas, words for tables. */
import { execFileSync } from 'node:child_process';
import { cpus, getPriority, platform, release } from 'node:os';

/** Sizes that take 1 to 10 ms on V8's optimising compiler, large enough to hide the call. */
export const GAS_KERNELS = [
  { name: 'matmul', size: 200 },
  { name: 'sha256', size: 2 << 20 },
  { name: 'sieve', size: 2_000_000 },
  { name: 'mandelbrot', size: 256 },
  { name: 'quicksort', size: 100_000 },
  { name: 'fib', size: 30 },
  { name: 'json', size: 1 << 20 },
];

/** More than any benchmark uses. */
const PLENTY = 2 ** 42;
const STACK = 2 ** 19 - 1;

let packing;
/** The words of src/wasm/gas that write and read the gas global; taken from what was built. */
async function gasPacking() {
  packing ??= await import(new URL('../../dist/src/wasm/gas/packed.js', import.meta.url).href);
  return packing;
}
await gasPacking();

/** Instantiates a prepared module on V8 with what it needs of the host. `imports` are those of the module itself. */
export function instantiatePrepared(prepared, imports = {}) {
  const module = new WebAssembly.Module(prepared.bytes);
  const instance = new WebAssembly.Instance(module, { ...imports, iguana: { grow: () => 1 } });
  const gas = instance.exports[prepared.gas];
  const refill = () => {
    gas.value = packing.packGas(PLENTY, STACK);
  };
  refill();
  if (prepared.start !== undefined) instance.exports[prepared.start]();
  return {
    instance,
    exports: instance.exports,
    refill,
    used: () => PLENTY - packing.gasLeft(gas.value),
  };
}

/** The kernels of a prepared module, and what gas each takes. */
export function preparedKernels(module) {
  const run = instantiatePrepared(module);
  return {
    module,
    exports: run.exports,
    refill: run.refill,
    gasOf(name, ...args) {
      run.refill();
      run.exports[name](...args);
      return run.used();
    },
  };
}

/** CPU time of this process, in milliseconds. */
export function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/**
 * Minimum CPU milliseconds of each function over interleaved runs: what is noisy on a shared machine hits all of them, and the minimum is the run
 * that was least disturbed. The first two runs of each are not counted.
 */
export function interleavedMinimum(functions, check, { runs = 25, before = () => {} } = {}) {
  const best = functions.map(() => Number.POSITIVE_INFINITY);
  for (let run = -2; run < runs; run++)
    for (let at = 0; at < functions.length; at++) {
      const index = (at + run + functions.length * 2) % functions.length;
      before(index);
      const start = cpuMs();
      const result = functions[index]();
      const took = cpuMs() - start;
      check(result, index);
      if (run >= 0 && took < best[index]) best[index] = took;
    }
  return best;
}

export const geometricMean = (values) => Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);

export const percent = (share, digits = 1) => `${share >= 0 ? '+' : '−'}${Math.abs(share * 100).toFixed(digits)} %`;

/** The value below which a share of the values lie; sorts a copy. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export const machine = () =>
  `${cpus().length} × ${cpus()[0].model.trim()}, ${platform()} ${release()}, Node ${process.version}, V8 ${process.versions.v8}, ${new Date().toISOString().slice(0, 10)}${getPriority() === 0 ? '' : `, nice ${getPriority()}`}`;

/** First line of what a tool says of its version, or undefined when it is not installed. */
export function versionOf(command, ...args) {
  try {
    return execFileSync(command, args.length > 0 ? args : ['--version'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
      .split('\n')[0]
      .trim();
  } catch {
    return undefined;
  }
}
