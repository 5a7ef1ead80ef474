/**
 * What does counting gas cost on V8's optimising compiler? Seven kernels (bench/wasm/kernels.c), plain and prepared by the rewriter, the runs interleaved;
 * minimum CPU time of each, results compared. Prints only: it is the tool to tune the rewriter with; bench/wasm.mjs writes the table of record.
 * `node bench/wasm-gas.mjs [runs] [--kernel NAME] [--rewriter PATH]`, default 30 runs of all kernels with dist/src/wasm/module/prepare.js.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { GAS_KERNELS, geometricMean, interleavedMinimum, percent, preparedKernels } from './wasm/measure.mjs';

setFlagsFromString('--no-liftoff');
setFlagsFromString('--no-wasm-lazy-compilation');

const { values, positionals } = parseArgs({
  options: { kernel: { type: 'string', multiple: true }, rewriter: { type: 'string' } },
  allowPositionals: true,
});
const runs = Number(positionals[0] ?? 30);
const rewriter = values.rewriter ?? new URL('../dist/src/wasm/module/prepare.js', import.meta.url).href;
const { prepareModule } = await import(rewriter);

const bytes = readFileSync(new URL('./wasm/kernels.wasm', import.meta.url));
const plain = new WebAssembly.Instance(new WebAssembly.Module(bytes)).exports;
const metered = preparedKernels(prepareModule(bytes));
console.log(
  `${runs} interleaved runs, ${bytes.length} → ${metered.module.bytes.length} bytes, Node ${process.version}`,
);

const chosen = GAS_KERNELS.filter(({ name }) => values.kernel === undefined || values.kernel.includes(name));
const ratios = [];
for (const { name, size } of chosen) {
  const expected = plain[name](size) >>> 0;
  const gas = metered.gasOf(name, size);
  const [plainMs, meteredMs] = interleavedMinimum(
    [() => plain[name](size), () => metered.exports[name](size)],
    (result) => {
      if (result >>> 0 !== expected) throw new Error(`${name}(${size}) is ${result >>> 0}, expected ${expected}`);
    },
    { runs, before: metered.refill },
  );
  ratios.push(meteredMs / plainMs);
  console.log(
    `${name.padEnd(11)} ${plainMs.toFixed(2).padStart(7)} ms  ${meteredMs.toFixed(2).padStart(7)} ms  ${percent(meteredMs / plainMs - 1).padStart(8)}  gas ${gas}`,
  );
}
console.log(`geometric mean ${percent(geometricMean(ratios) - 1)}, worst ${percent(Math.max(...ratios) - 1)}`);
