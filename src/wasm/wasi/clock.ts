import { type Clock, wallClock } from '../../clock.js';
import { Errno } from './abi.js';
import { WasiError } from './wasi-error.js';

/** Where a guest's time comes from. Times are milliseconds with fractions; `setNanoseconds` writes them. */
export interface WasiClock {
  /** Since 1970. */
  realtime(): number;
  /** The same without moving virtual time on: for the times of files. */
  present(): number;
  /** Since some time before, never backwards. */
  monotonic(): number;
  /** Smallest step, nanoseconds. */
  readonly realtimeResolution: number;
  readonly monotonicResolution: number;
  /** A guest waits for so many ms: whoever waits in virtual time moves it and answers true, else the host sleeps. INTR when that is beyond all time. */
  advance(ms: number): boolean;
  save(): number;
  restore(saved: number): void;
}

/** The clock of the host: the time of day in its milliseconds, the monotonic one in microseconds (no finer, against timing attacks). */
export function realClock(clock: Clock = wallClock): WasiClock {
  let start = performance.now();
  return {
    realtime: () => clock.now(),
    present: () => clock.now(),
    // A restored guest must not see its time go back.
    monotonic: () => Math.floor((performance.now() - start) * 1_000) / 1_000,
    realtimeResolution: 1_000_000,
    monotonicResolution: 1_000,
    advance: () => false,
    save: () => performance.now() - start,
    restore: (saved) => {
      start = performance.now() - saved;
    },
  };
}

export interface DeterministicClockOptions {
  /** Time of day at the start, ms since 1970 (default 0). */
  readonly start?: number;
  /** What each look at the clock moves it on, ns (default 1,000): a guest that waits for time to pass in a loop gets on. */
  readonly step?: number;
}

/** Time that depends only on what the guest did: how often it looked, how long it waited. */
export function deterministicClock(options: DeterministicClockOptions = {}): WasiClock {
  const { start = 0, step = 1_000 } = options;
  let elapsed = 0;
  const look = () => {
    elapsed += step;
    return elapsed / 1e6;
  };
  return {
    realtime: () => start + look(),
    present: () => start + elapsed / 1e6,
    monotonic: look,
    realtimeResolution: Math.max(1, step),
    monotonicResolution: Math.max(1, step),
    advance: (ms) => {
      const after = elapsed + Math.ceil(ms * 1e6);
      if (after > Number.MAX_SAFE_INTEGER) throw new WasiError(Errno.INTR);
      elapsed = after;
      return true;
    },
    save: () => elapsed,
    restore: (saved) => {
      elapsed = saved;
    },
  };
}
