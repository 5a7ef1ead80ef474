import { IguanaError } from '../../errors.js';
import type { ImportInfo } from '../types.js';
import type { CompiledModule, EngineDescription, HostImports, Tier } from './engine.js';

/** Refuses a tier or a feature the engine lacks, by its name. @throws IguanaError `IGU_WASM_UNSUPPORTED` */
export function checkAbility(
  engine: EngineDescription,
  features: readonly string[],
  tier: Tier = engine.tiers[0]!,
): Tier {
  const where = ` by ${engine.name} ${engine.version}`;
  if (!engine.tiers.includes(tier)) {
    const fix = `choose one of its tiers: ${engine.tiers.join(', ')}`;
    throw new IguanaError('IGU_WASM_UNSUPPORTED', { what: `tier ${tier}`, where, fix });
  }
  const lacking = features.find((feature) => !engine.features.includes(feature));
  if (lacking !== undefined) {
    const fix = 'choose another engine (`iguana engines list`), or compile the module without it';
    throw new IguanaError('IGU_WASM_UNSUPPORTED', { what: lacking, where, fix });
  }
  return tier;
}

/** Refuses a missing import, or one of the wrong kind, by its name. @throws IguanaError `IGU_WASM_LINK` */
export function checkImport(
  module: string,
  name: string,
  kind: ImportInfo['kind'],
  given: HostImports,
): HostImports[string][string] {
  const value = given[module]?.[name];
  if (value === undefined) throw linkError(module, name, `(a ${kind}) is missing`);
  if ((kind === 'function') !== (typeof value === 'function')) throw linkError(module, name, `must be a ${kind}`);
  return value;
}

export function linkError(module: string, name: string, what: string, cause?: unknown): IguanaError {
  return new IguanaError('IGU_WASM_LINK', { module, name, what }, cause === undefined ? undefined : { cause });
}

export function notExported(kind: string, name: string, of: CompiledModule): IguanaError {
  return new IguanaError('IGU_WASM_NOT_FOUND', { kind, name, of: ` exported by module ${of.module.id.slice(0, 12)}` });
}
