import { IguanaError } from '../../errors.js';
import type { FunctionDefinition } from '../definition.js';

/** Whether a function's code is TypeScript: its file says so. Inline code is JavaScript. */
export function isTypeScript({ code }: Pick<FunctionDefinition, 'code'>): boolean {
  return 'file' in code && /\.[mc]?ts$/.test(code.file);
}

/**
 * JavaScript of a TypeScript module: types are taken away, enums and parameter properties written out; nothing is checked. `map` is a source map. Cost: about 0.15 ms for a small
 * module, and 0.1 s once to load the compiler.
 * @throws IguanaError `IGU_FUNCTION_CODE` with line and column
 */
export async function javascriptOf(name: string, source: string): Promise<{ code: string; map: string | undefined }> {
  const { transformSync } = await import('@swc/wasm-typescript');
  try {
    const options = { mode: 'transform', module: true, sourceMap: true, filename: `${name}.ts` } as const;
    const { code, map } = transformSync(source, options);
    return { code, map };
  } catch (error) {
    const { message = String(error), startLine, startColumn } = error as SyntaxProblem;
    const where = startLine === undefined ? '' : ` (line ${startLine}, column ${(startColumn ?? 0) + 1})`;
    throw new IguanaError('IGU_FUNCTION_CODE', { name, what: `${message}${where}` }, { cause: error });
  }
}

/** Where JavaScript cannot be parsed, as `name:line:column`; undefined where only the engine finds it wrong. */
export async function syntaxPlace(name: string, source: string): Promise<string | undefined> {
  const { transformSync } = await import('@swc/wasm-typescript');
  try {
    transformSync(source, { mode: 'strip-only', module: true, filename: `${name}.js` });
    return undefined;
  } catch (error) {
    const { startLine, startColumn } = error as SyntaxProblem;
    return startLine === undefined ? undefined : `${name}:${startLine}:${(startColumn ?? 0) + 1}`;
  }
}

/** What the compiler throws is no Error. */
interface SyntaxProblem {
  readonly message?: string;
  readonly startLine?: number;
  readonly startColumn?: number;
}
