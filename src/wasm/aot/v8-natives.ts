import { cachedDataVersionTag, setFlagsFromString } from 'node:v8';
import { Script } from 'node:vm';

/**
 * A function that uses V8's natives (`%Name`), without leaving them on: the flag is set while the source is compiled, some 50 µs, and is off again when the
 * function runs. In between other threads of the process may use natives too; the parentheses around it make V8 compile at once instead of at the first call.
 * @throws SyntaxError when another thread has just taken the flag back; try again
 */
export function withNatives<A extends unknown[], R>(source: string): (...args: A) => R {
  setFlagsFromString('--allow-natives-syntax');
  try {
    return new Script(`(${source})`).runInThisContext() as (...args: A) => R;
  } finally {
    setFlagsFromString('--no-allow-natives-syntax');
  }
}

/** V8's version, its flags as they are now and the processor's features in one number, hex: equal where V8 takes the same machine code. */
export function v8State(): string {
  return cachedDataVersionTag().toString(16);
}
