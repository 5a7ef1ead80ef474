/** One real module, plain and metered, for bench/wasm.mjs: `node --no-liftoff real-child.mjs NAME RUNS` writes one JSON object. */
import { prepareModule } from '../../dist/src/wasm/module/prepare.js';
import { cpuMs } from './measure.mjs';
import { hostPrepared, REAL_MODULES, realModule } from './real-modules.mjs';

const [, , name, runsWanted] = process.argv;
const chosen = REAL_MODULES.find((module) => module.name === name);
const { folder, bytes } = realModule(chosen);

let prepared;
let rewriteMs = Number.POSITIVE_INFINITY;
for (let run = 0; run < 3; run++) {
  const start = cpuMs();
  prepared = prepareModule(bytes);
  rewriteMs = Math.min(rewriteMs, cpuMs() - start);
}

const plain = await chosen.open(folder, bytes);
const metered = await hostPrepared(prepared, () => chosen.open(folder, prepared.bytes));

const best = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
let gas = 0;
for (let run = -3; run < Number(runsWanted); run++) {
  const texts = [];
  for (const which of run % 2 === 0 ? [0, 1] : [1, 0]) {
    metered.refill();
    const start = cpuMs();
    texts[which] = await (which === 0 ? plain : metered.loaded)();
    const took = cpuMs() - start;
    if (which === 1) gas = metered.used();
    if (run >= 0) best[which] = Math.min(best[which], took);
  }
  if (texts[0] !== texts[1]) throw new Error(`${name}: the metered module's result differs`);
}
console.log(
  JSON.stringify({
    bytes: bytes.length,
    preparedBytes: prepared.bytes.length,
    rewriteMs,
    plainMs: best[0],
    meteredMs: best[1],
    gas,
    resultLength: (await plain()).length,
  }),
);
process.exit(0);
