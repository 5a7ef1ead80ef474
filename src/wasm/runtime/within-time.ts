import { Script } from 'node:vm';

const slot = Symbol.for('iguana.wasm.within-time');
const holder = globalThis as unknown as Record<symbol, (() => unknown) | undefined>;
const script = new Script("globalThis[Symbol.for('iguana.wasm.within-time')]()");

/** The call took longer than it may. Where it was cut off nothing is known: not even `finally` blocks ran. */
export class TimeUp extends Error {
  override readonly name = 'TimeUp';
}

/**
 * Runs `action` on this thread for at most `ms` milliseconds; WebAssembly and JavaScript are both stopped. Cost: about 100 µs a call, since Node starts a
 * thread for the timer.
 * @throws TimeUp
 */
export function withinTime<T>(ms: number, action: () => T): T {
  const outer = holder[slot];
  holder[slot] = action;
  try {
    return script.runInThisContext({ timeout: Math.max(1, Math.ceil(ms)) }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | undefined)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
      throw new TimeUp(`stopped after ${ms} ms`, { cause: error });
    throw error;
  } finally {
    holder[slot] = outer;
  }
}
