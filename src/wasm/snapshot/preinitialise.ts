import { IguanaError } from '../../errors.js';
import type { CompiledModule, EngineInstance, HostImports } from '../engines/engine.js';
import { type InitialImage, readInitialImage } from './initial-image.js';
import { createSnapshot, type Snapshot, type SnapshotOptions } from './snapshot.js';

export interface PreinitialiseOptions {
  /**
   * Exports to call in this order, each without arguments and results (default: `_initialize` where the module has
   * one).
   */
  readonly calls?: readonly string[];
  /** Called with the new instance before anything of the guest runs: write the gas here (default nothing). */
  readonly before?: (instance: EngineInstance) => void;
  /** Called when all is done, for what the snapshot shall carry beside (default nothing). */
  readonly after?: (instance: EngineInstance) => SnapshotOptions;
}

/**
 * Runs a module's start function and the given exports once and keeps the result as a new start: instances restored
 * from the snapshot begin where these calls ended, so that parsing of configuration, filling of tables or starting of
 * an interpreter is paid once.
 *
 * What the calls saw is in the snapshot for good: the time, random numbers (seeds of hash tables and generators!),
 * environment and file contents that the guest read are the same in every instance restored from it. Let the guest draw
 * its secrets and seeds after the restore; give deterministic clocks and randomness here if the snapshot shall be
 * reproducible. The start function and `_initialize` must not be called again after a restore.
 *
 * Cost: an instance, the calls, a snapshot.
 * @throws IguanaError `IGU_WASM_NOT_FOUND` and `IGU_WASM_SIGNATURE` before anything runs; WasmTrap of the calls; what
 *   `createSnapshot` throws. The instance is closed in any case.
 */
export function preinitialise(
  compiled: CompiledModule,
  imports: HostImports,
  options: PreinitialiseOptions = {},
): { readonly snapshot: Snapshot; readonly image: InitialImage } {
  const { module } = compiled;
  const exported = (name: string) => module.info.exports.find((one) => one.name === name && one.kind === 'function');
  const calls = options.calls ?? (exported('_initialize') ? ['_initialize'] : []);
  for (const name of calls) {
    const found = exported(name);
    if (found?.kind !== 'function')
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'exported function', name, of: ' in the module' });
    const { params, results } = found.type;
    if (params.length > 0 || results.length > 0)
      throw new IguanaError('IGU_WASM_SIGNATURE', {
        name,
        expected: `${params.join(', ')}) → (${results.join(', ')}`,
        given: ') → (, as pre-initialisation needs it',
      });
  }
  const instance = compiled.instantiate(imports);
  try {
    const image = readInitialImage(instance, module);
    options.before?.(instance);
    if (module.start !== undefined) instance.function(module.start)();
    for (const name of calls) instance.function(name)();
    return { snapshot: createSnapshot(instance, module, image, options.after?.(instance)), image };
  } finally {
    instance.close();
  }
}
