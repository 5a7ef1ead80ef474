import type { Stopper } from './engine.js';
import { loadForGood, loadKoffi, type NativeFunction } from './native-library.js';

const OPEN = 0;
const IN_USE = 1;
const CLOSED = 2;

const clocks = new Map<string, NativeFunction>();

/**
 * Ends the call that runs in an engine of another thread of this process: it traps as `timeout` at its next loop or function, within microseconds, and
 * the instance lives on. Nothing happens when none runs. May be called on the main thread, since it never waits.
 * @returns false when the engine was closed meanwhile.
 */
export async function stopCall({ library, clocks: addresses, state }: Stopper): Promise<boolean> {
  let tick = clocks.get(library);
  if (!tick) {
    const koffi = await loadKoffi('wasmtime');
    tick = loadForGood(koffi, library).func('void wasmtime_engine_increment_epoch(void*)');
    clocks.set(library, tick);
  }
  const lock = new Int32Array(state);
  // the engine's thread does not close it in between
  let seen = IN_USE;
  while (seen === IN_USE) seen = Atomics.compareExchange(lock, 0, OPEN, IN_USE);
  if (seen === CLOSED) return false;
  for (const address of addresses) tick(address);
  Atomics.store(lock, 0, OPEN);
  return true;
}

/** The engine is about to go: no `stopCall` uses its addresses any more. */
export function closeStopper({ state }: Stopper): void {
  const lock = new Int32Array(state);
  while (Atomics.compareExchange(lock, 0, OPEN, CLOSED) === IN_USE) Atomics.wait(lock, 0, IN_USE, 1);
}
