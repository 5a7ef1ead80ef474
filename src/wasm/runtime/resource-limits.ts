import { IguanaError } from '../../errors.js';
import { wasmRuntimeLimits } from '../../limits.js';
import { MAX_GAS, MAX_STACK_SLOTS } from '../gas/packed.js';
import { type ModuleInfo, PAGE_BYTES } from '../types.js';

/** What one instance may take. `null` takes a limit away, where it can be. */
export interface ResourceLimits {
  /** Bytes of all its memories together, default 256 MiB; at most what the runtime was made with. */
  readonly maxMemory?: number;
  /** Gas one call may use: one unit is one simple instruction. Default none. */
  readonly maxInstructions?: number | null;
  /** Elements of each table, default 100,000. Written into the module, so it is set when the instance is made. */
  readonly maxTableElements?: number;
  /** Slots of 8 bytes that the locals and values of all active functions may take, default 32,768. The same on every engine. */
  readonly maxStackDepth?: number;
  /** Wall-clock time of one call, ms. Default none. In place it costs about 100 µs a call. */
  readonly timeout?: number | null;
}

/** The same with every default filled in; undefined means none. */
export interface EffectiveLimits {
  readonly maxMemoryPages: number;
  readonly maxInstructions: number | undefined;
  readonly maxTableElements: number;
  readonly maxStackDepth: number;
  readonly timeout: number | undefined;
}

/**
 * `given` over `before` (default: the defaults).
 * @throws IguanaError `IGU_USAGE` for a limit that is no whole number in its range
 */
export function effectiveLimits(given: ResourceLimits = {}, before?: EffectiveLimits): EffectiveLimits {
  const base = before ?? {
    maxMemoryPages: wasmRuntimeLimits.defaultMaxMemory / PAGE_BYTES,
    maxInstructions: undefined,
    maxTableElements: wasmRuntimeLimits.defaultMaxTableElements,
    maxStackDepth: wasmRuntimeLimits.defaultMaxStackDepth,
    timeout: undefined,
  };
  const pick = (name: keyof ResourceLimits, most: number, now: number | undefined): number | undefined => {
    const value = given[name];
    if (value === undefined) return now;
    if (value === null) return undefined;
    return wholeWithin(name, value, most);
  };
  const pages = pick('maxMemory', 65_536 * PAGE_BYTES, base.maxMemoryPages * PAGE_BYTES);
  return {
    maxMemoryPages: Math.floor((pages ?? base.maxMemoryPages * PAGE_BYTES) / PAGE_BYTES),
    maxInstructions: pick('maxInstructions', MAX_GAS, base.maxInstructions),
    maxTableElements: pick('maxTableElements', 10_000_000, base.maxTableElements) ?? base.maxTableElements,
    maxStackDepth: pick('maxStackDepth', MAX_STACK_SLOTS, base.maxStackDepth) ?? base.maxStackDepth,
    timeout: pick('timeout', wasmRuntimeLimits.maxTimeoutMs, base.timeout),
  };
}

/** @throws IguanaError `IGU_USAGE` */
export function wholeWithin(name: string, value: number, most: number): number {
  if (Number.isInteger(value) && value >= 0 && value <= most) return value;
  throw new IguanaError('IGU_USAGE', { what: `${name} must be a whole number from 0 to ${most}, not ${value}` });
}

/** Refuses a module whose own memories or tables are larger from the start than they may be. @throws IguanaError `IGU_WASM_LIMIT` */
export function checkInitialSizes(info: ModuleInfo, limits: EffectiveLimits): void {
  const pages = info.memories.filter(({ imported }) => !imported).reduce((sum, { min }) => sum + min, 0);
  if (pages > limits.maxMemoryPages)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: 'initial memory of the module',
      value: `${pages * PAGE_BYTES} bytes`,
      limit: `${limits.maxMemoryPages * PAGE_BYTES} bytes`,
      fix: 'raise maxMemory, or link the module with less',
    });
  const table = info.tables.find(({ min, imported }) => !imported && min > limits.maxTableElements);
  if (table)
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: 'initial size of a table',
      value: `${table.min} elements`,
      limit: `${limits.maxTableElements} elements`,
      fix: 'raise maxTableElements',
    });
}
