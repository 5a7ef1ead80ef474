import { readFile, stat } from 'node:fs/promises';
import { IguanaError } from '../../errors.js';
import { wasmRuntimeLimits } from '../../limits.js';

/**
 * The bytes of a module's file; pipes are read to their end.
 * @throws IguanaError `IGU_FILE_MISSING`, `IGU_WASM_LIMIT` for a file that is too large, before it is read
 */
export async function readModule(source: string | URL): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { size } = await stat(source);
    checkModuleSize(size);
    return new Uint8Array(await readFile(source));
  } catch (error) {
    if (error instanceof IguanaError) throw error;
    const isDirectory = (error as NodeJS.ErrnoException).code === 'EISDIR';
    throw new IguanaError(
      'IGU_FILE_MISSING',
      { path: isDirectory ? `${source}, which is a directory` : String(source) },
      { cause: error },
    );
  }
}

/** @throws IguanaError `IGU_WASM_LIMIT` */
export function checkModuleSize(bytes: number): void {
  if (bytes <= wasmRuntimeLimits.maxModuleBytes) return;
  throw new IguanaError('IGU_WASM_LIMIT', {
    what: 'size of a module',
    value: `${bytes} bytes`,
    limit: `${wasmRuntimeLimits.maxModuleBytes} bytes`,
    fix: 'strip debug sections, or split it',
  });
}
