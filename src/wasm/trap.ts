import { IguanaError } from '../errors.js';

/** Why guest code ended early, the same word on every engine. */
export type TrapKind =
  | 'unreachable'
  | 'out-of-bounds-memory'
  | 'out-of-bounds-table'
  | 'undefined-element'
  | 'indirect-call-mismatch'
  | 'null-reference'
  | 'integer-divide-by-zero'
  | 'integer-overflow'
  | 'invalid-conversion'
  | 'stack-overflow'
  | 'out-of-gas'
  | 'timeout'
  | 'uncaught-exception'
  | 'unaligned-atomic'
  | 'other';

/** Guest code trapped. `frames` are the functions on its stack, innermost first, by the names of the name section where the engine tells them. */
export class WasmTrap extends IguanaError {
  constructor(
    readonly trap: TrapKind,
    readonly frames: readonly string[] = [],
    options?: { cause?: unknown },
  ) {
    super(
      trap === 'out-of-gas' ? 'IGU_WASM_OUT_OF_GAS' : trap === 'timeout' ? 'IGU_WASM_TIMEOUT' : 'IGU_WASM_TRAP',
      { trap, where: frames[0] ?? 'the guest' },
      options,
    );
  }
}
