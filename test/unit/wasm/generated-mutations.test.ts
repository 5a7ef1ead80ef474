import { expect, it } from 'vitest';
import { profileOf } from '../../support/wasm-differential.js';
import { generateModule } from '../../support/wasm-generator.js';
import { mutate } from '../../support/wasm-mutation.js';
import { judge } from '../../support/wasm-mutation-check.js';

it('takes of broken modules what V8 takes, and says what is wrong with the others', () => {
  const verdicts = new Map<string, number>();
  for (let seed = 0; seed < 1500; seed++) {
    const of = 200 + Math.floor(seed / 100);
    const bytes = mutate(generated(of), seed);
    let verdict: string;
    try {
      verdict = judge(bytes);
    } catch (error) {
      throw new Error(`mutation ${seed} of module ${of}: ${Buffer.from(bytes).toString('base64')}`, { cause: error });
    }
    verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
  }
  expect(verdicts.get('refused by both')).toBeGreaterThan(1000);
  expect(verdicts.get('taken by both')).toBeGreaterThan(100);
});

const kept = new Map<number, Uint8Array>();

function generated(seed: number): Uint8Array {
  let bytes = kept.get(seed);
  if (!bytes) {
    bytes = generateModule(seed, profileOf(seed)).bytes;
    kept.set(seed, bytes);
  }
  return bytes;
}
