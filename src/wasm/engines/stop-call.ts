import type { Stopper } from './engine.js';
import { loadForGood, loadKoffi, type NativeFunction } from './native-library.js';

const OPEN = 0;
const IN_USE = 1;
const CLOSED = 2;

const clocks = new Map<string, NativeFunction>();

/**
 * What a thread is working on: one Int32 with a number that is its request's. `stopCall` makes it negative while it stops the request, and the thread
 * begins no other one meanwhile.
 */
export class RunningRequest {
  readonly #cell: Int32Array;

  constructor(readonly memory: SharedArrayBuffer = new SharedArrayBuffer(4)) {
    this.#cell = new Int32Array(memory);
  }

  begin(request: number): void {
    Atomics.store(this.#cell, 0, cellOf(request));
  }

  end(request: number): void {
    const cell = cellOf(request);
    while (Atomics.compareExchange(this.#cell, 0, cell, 0) === -cell) Atomics.wait(this.#cell, 0, -cell, 1);
  }

  /** Acts only while that request runs. @returns whether it did */
  during(request: number, act: () => void): boolean {
    const cell = cellOf(request);
    if (Atomics.compareExchange(this.#cell, 0, cell, -cell) !== cell) return false;
    act();
    Atomics.store(this.#cell, 0, cell);
    return true;
  }
}

const cellOf = (request: number): number => (request % 0x3fff_ffff) + 1;

/**
 * Ends the call that runs in an engine of another thread of this process: it traps as `timeout` at its next loop or function, within microseconds, and
 * the instance lives on. Nothing happens when none runs, or when it has not yet come to guest code: ask again. May be called on the main thread, since it
 * never waits.
 * @param only the request of the engine's thread that is meant, where others may follow
 * @returns false when the engine was closed meanwhile, or the request is not what runs.
 */
export async function stopCall(
  { library, clocks: addresses, state }: Stopper,
  only?: { readonly running: RunningRequest; readonly request: number },
): Promise<boolean> {
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
  const ticks = (): void => {
    for (const address of addresses) tick(address);
  };
  const stopped = only ? only.running.during(only.request, ticks) : true;
  if (!only) ticks();
  Atomics.store(lock, 0, OPEN);
  return stopped;
}

/** The engine is about to go: no `stopCall` uses its addresses any more. */
export function closeStopper({ state }: Stopper): void {
  const lock = new Int32Array(state);
  while (Atomics.compareExchange(lock, 0, OPEN, CLOSED) === IN_USE) Atomics.wait(lock, 0, IN_USE, 1);
}
