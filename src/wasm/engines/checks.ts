import { IguanaError } from '../../errors.js';
import type { TrapKind } from '../trap.js';
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

/**
 * Refuses a missing import, or one of the wrong kind, by its name. Only what the objects themselves hold counts: a module that imports `constructor`
 * from `constructor` must not be given the host's own `Function`. @throws IguanaError `IGU_WASM_LINK`
 */
export function checkImport(
  module: string,
  name: string,
  kind: ImportInfo['kind'],
  given: HostImports,
): HostImports[string][string] {
  const names = Object.hasOwn(given, module) ? given[module]! : {};
  const value = Object.hasOwn(names, name) ? names[name] : undefined;
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

/**
 * One word for a fault on every engine. Engines of the Cranelift family draw two lines elsewhere than V8; the instruction at the place of the fault
 * decides: an element that an indirect call does not find, and a conversion that does not fit.
 */
export function sameWord(kind: TrapKind, opcode: number | undefined): TrapKind {
  if (kind === 'out-of-bounds-table' && (opcode === 0x11 || opcode === 0x13)) return 'undefined-element';
  if (kind === 'integer-overflow' && opcode !== undefined && opcode >= 0xa8 && opcode <= 0xb1)
    return 'invalid-conversion';
  return kind;
}
