import type { FunctionType, ModuleInfo, ValueType } from '../../wasm/types.js';

/**
 * How a module is called. `command`: `_start` of a WASI command, the event on standard input, the answer on standard output, each call in an instance that
 * nothing ran in before. `bytes`: exports of an instance that lives on (docs/functions-wasm.md).
 */
export interface Convention {
  readonly kind: 'command' | 'bytes';
  /** Export that takes a call. */
  readonly entry: string;
  /** Exports that are called once before the first call, in this order; without arguments and results. */
  readonly initialise: readonly string[];
}

/** Gives room for so many bytes: `(length i32) → address i32`. */
export const ALLOCATE = 'iguana_alloc';
/** Takes back room, also that of an answer once it was read: `(address i32, length i32) → ()`; may be missing. */
export const RELEASE = 'iguana_free';
const INITIALISE = 'iguana_init';
const COMMAND = '_start';

/**
 * @param handler of the definition; a command is found without its being named
 * @throws Error saying what the module lacks
 */
export function conventionOf({ exports, memories }: ModuleInfo, handler: string): Convention {
  const functions = new Map(exports.flatMap((one) => (one.kind === 'function' ? [[one.name, one.type] as const] : [])));
  const isType = (name: string, params: readonly ValueType[], results: readonly ValueType[]): boolean => {
    const type = functions.get(name);
    return type?.params.join() === params.join() && type.results.join() === results.join();
  };
  const expect = (name: string, params: readonly ValueType[], results: readonly ValueType[]): void => {
    if (isType(name, params, results)) return;
    const type = functions.get(name);
    const wanted = signature({ params, results });
    throw new Error(
      type
        ? `its export ${name} is ${signature(type)}, not ${wanted}`
        : `it exports no function ${name}: ${wanted}; its functions are ${[...functions.keys()].join(', ') || 'none'}`,
    );
  };
  if (!exports.some(({ kind, name }) => kind === 'memory' && name === 'memory') || memories.length === 0)
    throw new Error('it exports no memory named memory');
  const initialise = functions.has(INITIALISE) ? [INITIALISE] : [];
  for (const name of initialise) expect(name, [], []);
  if (handler === COMMAND || (!functions.has(handler) && functions.has(COMMAND))) {
    expect(COMMAND, [], []);
    return { kind: 'command', entry: COMMAND, initialise };
  }
  expect(handler, ['i32', 'i32'], ['i64']);
  expect(ALLOCATE, ['i32'], ['i32']);
  if (functions.has(RELEASE)) expect(RELEASE, ['i32', 'i32'], []);
  const reactor = functions.has('_initialize') ? ['_initialize'] : [];
  for (const name of reactor) expect(name, [], []);
  return { kind: 'bytes', entry: handler, initialise: [...reactor, ...initialise] };
}

function signature({ params, results }: FunctionType): string {
  return `(${params.join(', ')}) → (${results.join(', ')})`;
}
