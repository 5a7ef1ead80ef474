import { describe, expect, it } from 'vitest';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { newTally, profileOf, runSeed } from '../../support/wasm-differential.js';
import { generateModule } from '../../support/wasm-generator.js';

describe('generated modules', () => {
  it('do the same metered as plain, and their gas is what a module counts that counts itself', () => {
    const tally = newTally();
    const native = new NativeEngine();
    for (let seed = 100_000; seed < 100_150; seed++) {
      try {
        runSeed(seed, native, [], tally);
      } catch (error) {
        throw new Error(`seed ${seed}: npm run test:wasm -- generated --seed ${seed} --count 1`, { cause: error });
      }
    }
    expect(tally.modules).toBe(150);
    expect(tally.returned).toBeGreaterThan(500);
    expect(tally.counted).toBeGreaterThan(250);
    for (const kind of ['out-of-gas', 'out-of-bounds-memory', 'integer-divide-by-zero', 'indirect', 'unreachable'])
      expect(tally.traps.get(kind), kind).toBeGreaterThan(0);
  });

  it('are the same from the same seed', () => {
    const once = generateModule(7, profileOf(7));
    expect(generateModule(7, profileOf(7)).bytes).toEqual(once.bytes);
    expect(generateModule(13, profileOf(13)).bytes).not.toEqual(once.bytes);
  });
});
