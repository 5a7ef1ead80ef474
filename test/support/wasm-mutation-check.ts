import { IguanaError } from '../../src/errors.js';
import { inspectModule, prepareModule } from '../../src/wasm/module/prepare.js';

export type Verdict = 'refused by both' | 'refused by us by name' | 'taken by both';

/** Our errors that say what a module is, as against what breaks. */
const honest = new Set(['IGU_WASM_MALFORMED', 'IGU_WASM_UNSUPPORTED', 'IGU_WASM_LIMIT']);

/**
 * Prepares bytes that may be no module. What V8 refuses must be refused; what V8 takes must be taken and give what V8 takes, or be refused by the name of
 * a feature or limit.
 * @throws Error for anything else
 */
export function judge(bytes: Uint8Array<ArrayBuffer>): Verdict {
  const valid = WebAssembly.validate(bytes);
  try {
    const { bytes: prepared, info } = prepareModule(bytes);
    if (!valid) throw new Error('a module that V8 refuses was taken');
    if (!WebAssembly.validate(prepared)) {
      let why = '';
      try {
        new WebAssembly.Module(prepared);
      } catch (error) {
        why = String(error);
      }
      throw new Error(`V8 refuses what was made of a module that it takes: ${why}`);
    }
    if (JSON.stringify(inspectModule(bytes)) !== JSON.stringify(info)) throw new Error('two readings differ');
    return 'taken by both';
  } catch (error) {
    if (!(error instanceof IguanaError)) throw error;
    if (!honest.has(error.code)) throw new Error(`refused with ${error.code}`, { cause: error });
    if (!valid) return 'refused by both';
    if (error.code === 'IGU_WASM_MALFORMED')
      throw new Error(`V8 takes what we call malformed: ${error.message}`, { cause: error });
    return 'refused by us by name';
  }
}
