import type { AbiVersion } from './abi.js';
import type { WasiClock } from './clock.js';
import type { DescriptorTable } from './descriptor.js';
import type { WasiRandom } from './random.js';
import { errnoOf } from './wasi-error.js';

/** What the functions of WASI work on. */
export interface WasiContext {
  readonly version: AbiVersion;
  /** The guest's memory as it is now. */
  readonly memory: () => Uint8Array;
  /** Takes the gas for bytes that a call moves: of paths, buffers, listings. @throws what whoever keeps the gas throws when there is not so much */
  readonly pay: (bytes: number) => void;
  readonly table: DescriptorTable;
  readonly clock: WasiClock;
  readonly random: WasiRandom;
  /** Waits so many ms; false when something ended the wait early. */
  readonly sleep: (ms: number) => boolean;
  /** Each ends with a zero byte. */
  readonly args: readonly Uint8Array[];
  readonly environment: readonly Uint8Array[];
}

/** Nanoseconds since 1970 by the guest's clock. */
export function nowOf(clock: WasiClock): bigint {
  const ms = clock.present();
  const whole = Math.floor(ms);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6));
}

/** Answers 0, or the errno of what was thrown. Arguments of type i32 come signed: addresses and lengths need `>>> 0`. */
export function guarded<A extends unknown[]>(action: (...args: A) => void): (...args: A) => number {
  return (...args) => {
    try {
      action(...args);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  };
}
