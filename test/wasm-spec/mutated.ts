/**
 * Mutated modules through the rewriter: none may end or stop the host, or take its memory; V8's verdict is the measure.
 * `npm run test:wasm -- mutated [--seed S] [--count N]`
 */

import { profileOf } from '../support/wasm-differential.js';
import { generateModule } from '../support/wasm-generator.js';
import { mutate } from '../support/wasm-mutation.js';
import { judge } from '../support/wasm-mutation-check.js';

/** Every module is broken so many times. */
const MUTATIONS_EACH = 50;

/** @returns exit status */
export function mutated(options: { seed: number; count: number }): number {
  const verdicts = new Map<string, number>();
  let differences = 0;
  let slowest = { ms: 0, seed: 0 };
  let original = generateModule(options.seed, profileOf(options.seed)).bytes;
  const heapBefore = process.memoryUsage().rss;
  let heapMost = heapBefore;
  for (let i = 0; i < options.count; i++) {
    const seed = options.seed + i;
    const of = Math.floor(seed / MUTATIONS_EACH);
    if (i > 0 && seed % MUTATIONS_EACH === 0) original = generateModule(of, profileOf(of)).bytes;
    const bytes = mutate(original, seed);
    const began = performance.now();
    try {
      const verdict = judge(bytes);
      verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
    } catch (error) {
      differences++;
      if (differences <= 20)
        console.log(
          `FAILS mutation ${seed} of module ${of}: ${(error as Error).stack}\n${Buffer.from(bytes).toString('base64')}`,
        );
    }
    const ms = performance.now() - began;
    if (ms > slowest.ms) slowest = { ms, seed };
    if (i % 1000 === 0) heapMost = Math.max(heapMost, process.memoryUsage().rss);
  }
  console.log(
    `mutations ${options.seed} to ${options.seed + options.count - 1}: ${[...verdicts].map(([v, n]) => `${v} ${n}`).join(', ')}; ` +
      `slowest ${slowest.ms.toFixed(0)} ms (${slowest.seed}), memory at most ${Math.round((heapMost - heapBefore) / 2 ** 20)} MiB more; ${differences} fail`,
  );
  return differences === 0 && verdicts.size > 0 ? 0 : 1;
}
