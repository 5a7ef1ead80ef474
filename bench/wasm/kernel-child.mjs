/**
 * Runs the kernels on one engine for bench/wasm.mjs: `node kernel-child.mjs ENGINE TIER`. Reads lines "plain NAME SIZE" or "metered NAME SIZE",
 * answers "CPU-MICROSECONDS CHECKSUM GAS". First line out: "ready VERSION", or "missing REASON".
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { gasLeft, packGas } from '../../dist/src/wasm/gas/packed.js';
import { prepareModule } from '../../dist/src/wasm/module/prepare.js';
import { openEngine } from './engines.mjs';

const [, , name, tier] = process.argv;
const bytes = readFileSync(new URL('./kernels.wasm', import.meta.url));
const FULL = 2 ** 42;

let engine;
try {
  engine = await openEngine(name);
} catch (error) {
  console.log(`missing ${error.message.split('\n')[0]}`);
  process.exit(0);
}

function open(metered) {
  const prepared = prepareModule(bytes, { metered });
  const instance = engine.compile(prepared, tier).instantiate({ iguana: { grow: () => 1 } });
  const functions = new Map();
  return {
    function: (kernel) => {
      if (!functions.has(kernel)) functions.set(kernel, instance.function(kernel));
      return functions.get(kernel);
    },
    refill: () => metered && instance.setGlobal(prepared.gas, packGas(FULL, 2 ** 19 - 1)),
    used: () => (metered ? FULL - gasLeft(instance.getGlobal(prepared.gas)) : 0),
  };
}
const modules = { plain: open(false), metered: open(true) };
console.log(`ready ${engine.description.version}`);

for await (const line of createInterface({ input: process.stdin })) {
  const [which, kernel, size] = line.split(' ');
  const module = modules[which];
  const run = module.function(kernel);
  module.refill();
  const start = process.cpuUsage();
  const result = run(Number(size));
  const { user, system } = process.cpuUsage(start);
  console.log(`${user + system} ${result >>> 0} ${module.used()}`);
}
engine.close();
