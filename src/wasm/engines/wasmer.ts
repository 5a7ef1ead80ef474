import { IguanaError, messageOf } from '../../errors.js';
import type { TrapKind } from '../trap.js';
import { CApiEngine, type CFunctions, declarations } from './c-api.js';
import type { Engine } from './engine.js';
import {
  loadForGood,
  loadKoffi,
  NativeBlock,
  refuseMainThread,
  requireLibrary,
  wasmerPlace,
} from './native-library.js';

/** Wasmer tells a trap by its text only. A null element and one of another type are one kind, since V8 tells no difference. */
const trapWords: readonly (readonly [RegExp, TrapKind])[] = [
  [/call stack exhausted/, 'stack-overflow'],
  [/out of bounds memory access|out of bounds data/, 'out-of-bounds-memory'],
  [/out of bounds table access/, 'out-of-bounds-table'],
  [/uninitialized element|indirect call type mismatch/, 'indirect-call-mismatch'],
  [/integer overflow/, 'integer-overflow'],
  [/integer divide by zero/, 'integer-divide-by-zero'],
  [/invalid conversion to integer/, 'invalid-conversion'],
  [/unreachable/, 'unreachable'],
  [/unaligned atomic|misaligned/, 'unaligned-atomic'],
  [/uncaught exception/, 'uncaught-exception'],
];

/**
 * Wasmer with its Cranelift compiler, as a library that `iguana engines install wasmer` builds. Cost: a call about 1 µs, an instance about 20 µs;
 * compiling is slow, so keep what `serialize` gives.
 * @throws IguanaError `IGU_WASM_ENGINE_MISSING` with how to get it; `IGU_WASM_UNSUPPORTED` on the main thread.
 */
export async function openWasmer(): Promise<Engine> {
  refuseMainThread('wasmer');
  const path = requireLibrary(wasmerPlace);
  const koffi = await loadKoffi('wasmer');
  try {
    const library = loadForGood(koffi, path);
    const functions = Object.fromEntries(
      Object.entries(declarations).map(([name, declaration]) => [name, library.func(declaration)]),
    ) as CFunctions;
    const version = library.func('const char* wasmer_version()');
    const errorLength = library.func('int wasmer_last_error_length()');
    const errorMessage = library.func('int wasmer_last_error_message(void*, int)');
    const lastError = (): string => {
      const length = errorLength() as number;
      if (length <= 0) return 'it tells no reason';
      const text = new NativeBlock(koffi, length);
      errorMessage(text.address, length);
      return Buffer.from(text.bytes).toString().replace(/\0.*$/s, '');
    };
    return new CApiEngine(koffi, functions, {
      name: 'wasmer',
      version: version() as string,
      tiers: ['optimised'],
      trapWords,
      trapNew: library.symbol('wasm_trap_new'),
      lastError,
    });
  } catch (error) {
    const what = `${path} cannot be used (${messageOf(error)})`;
    const fix = `give a library of Wasmer ${wasmerPlace.version}: \`iguana engines install wasmer\` builds it`;
    throw new IguanaError('IGU_WASM_ENGINE_MISSING', { engine: 'wasmer', what, fix }, { cause: error });
  }
}
