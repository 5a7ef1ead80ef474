/**
 * Generated modules: plain against metered on V8, the rewriter's gas against a module that counts itself, and metered on every engine that is there.
 * `npm run test:wasm -- generated [--seed S] [--count N] [--seconds T]`; a difference names its seed, `--seed S --count 1` makes it again.
 */
import { IguanaError, messageOf } from '../../src/errors.js';
import type { Engine } from '../../src/wasm/engines/engine.js';
import { NativeEngine } from '../../src/wasm/engines/native.js';
import { engineNames, openEngine } from '../../src/wasm/engines/open-engine.js';
import { Difference, newTally, profileOf, runSeed } from '../support/wasm-differential.js';

/** @returns exit status */
export async function generated(options: {
  seed: number;
  count: number;
  seconds: number;
  engines?: string;
}): Promise<number> {
  const wanted = options.engines?.split(',') ?? engineNames.filter((name) => name !== 'wasm2c');
  const others: Engine[] = [];
  for (const name of engineNames) {
    if (name === 'native' || !wanted.includes(name)) continue;
    try {
      others.push(await openEngine(name));
    } catch (error) {
      if (!(error instanceof IguanaError && error.code === 'IGU_WASM_ENGINE_MISSING')) throw error;
      console.log(`without ${name}: ${messageOf(error)}`);
    }
  }
  for (const { description } of others)
    console.log(`with ${description.name} ${description.version} on ${description.host}`);
  const tally = newTally();
  let differences = 0;
  const began = performance.now();
  let native = new NativeEngine();
  let last = options.seed;
  for (let seed = options.seed; seed < options.seed + options.count; seed++) {
    if ((performance.now() - began) / 1000 > options.seconds) break;
    last = seed;
    // Kept modules would only fill memory.
    if (seed % 500 === 0) native = new NativeEngine();
    try {
      runSeed(seed, native, others, tally);
    } catch (error) {
      differences++;
      const { name, bounded } = profileOf(seed);
      const what = error instanceof Difference ? error.message : String((error as Error).stack);
      console.log(`DIFFERS seed ${seed} (${name}, ${bounded ? 'bounded' : 'ended by gas'}): ${what}`);
      if (differences >= 20) break;
    }
  }
  for (const engine of others) engine.close();
  const traps = [...tally.traps].sort(([, a], [, b]) => b - a).map(([kind, count]) => `${kind} ${count}`);
  console.log(
    `\nseeds ${options.seed} to ${last}: ${tally.modules} modules, ${tally.calls} calls: ${tally.returned} returned, traps: ${traps.join(', ')}\n` +
      `${tally.gas} gas; ${tally.counted} returns held against a counting module; on other engines: ` +
      `${[...tally.engines].map(([name, count]) => `${name} ${count} calls`).join(', ') || 'none'}; ${differences} differ`,
  );
  return differences === 0 && tally.modules > 0 ? 0 : 1;
}
