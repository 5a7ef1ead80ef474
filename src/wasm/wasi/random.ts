import { randomFillSync } from 'node:crypto';

/** Where a guest's randomness comes from. */
export interface WasiRandom {
  fill(memory: Uint8Array, start: number, end: number): void;
  save(): readonly number[];
  restore(saved: readonly number[]): void;
}

/** Bytes of one request to the host's generator. */
const MOST = 1_073_741_824;

/** The host's cryptographic generator. */
export const realRandom: WasiRandom = {
  fill: (memory, start, end) => {
    // Node takes no place beyond 2 GiB.
    for (let at = start; at < end; at += MOST) randomFillSync(memory.subarray(at, Math.min(end, at + MOST)));
  },
  save: () => [],
  restore: () => {},
};

/**
 * The same bytes for the same seed: xoshiro128** begun by splitmix32. Not for secrets.
 * Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021.
 */
export function seededRandom(seed: number): WasiRandom {
  const state = new Uint32Array(4);
  for (let i = 0, z = seed >>> 0; i < 4; i++) {
    z = (z + 0x9e3779b9) >>> 0;
    let t = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    t = Math.imul(t ^ (t >>> 15), 0x735a2d97);
    state[i] = t ^ (t >>> 15);
  }
  const next = () => {
    const five = Math.imul(state[1]!, 5);
    const result = Math.imul((five << 7) | (five >>> 25), 9);
    const t = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= t;
    state[3] = (state[3]! << 11) | (state[3]! >>> 21);
    return result;
  };
  return {
    fill: (memory, start, end) => {
      for (let at = start; at < end; ) {
        let word = next();
        for (let i = 0; i < 4 && at < end; i++, word >>>= 8) memory[at++] = word;
      }
    },
    save: () => [...state],
    restore: (saved) => state.set(saved.slice(0, 4)),
  };
}
