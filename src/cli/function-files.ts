import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { IguanaError } from '../errors.js';
import { functionSchema } from '../functions/definition.js';
import type { Deployment } from '../functions/function-service.js';
import { cronProblem } from './function-options.js';
import { checkedYaml, textOf } from './yaml-file.js';

/** A definition's file with its code read. */
export interface FunctionFile {
  readonly deployment: Deployment;
  /** Where the code is; undefined when it stands in the definition. */
  readonly codeFile: string | undefined;
}

/** Files of definitions in a directory, by name. */
export function functionFilesIn(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => /\.ya?ml$/.test(name))
    .sort()
    .map((name) => path.join(directory, name));
}

/**
 * Reads a function's definition and its code, which is relative to it.
 * @throws IguanaError `IGU_CONFIG` with file:line:col, `IGU_FILE_MISSING`
 */
export function readFunctionFile(file: string): FunctionFile {
  const { value: definition, placeOf } = checkedYaml(file, textOf(file), functionSchema, fixOf);
  const wrong = (at: readonly PropertyKey[], what: string, fix: string, cause?: unknown) =>
    new IguanaError('IGU_CONFIG', { where: placeOf(at), what: `${at.join('.')}: ${what}`, fix }, { cause });
  for (const [i, trigger] of definition.triggers.entries()) {
    if (trigger.type !== 'timer') continue;
    const what = cronProblem(trigger.cron, trigger.timezone);
    const at = cronProblem('* * * * *', trigger.timezone) === undefined ? 'cron' : 'timezone';
    if (what !== undefined)
      throw wrong(['triggers', i, at], what, 'write minute hour day month weekday, and an IANA time zone');
  }
  if ('inline' in definition.code) {
    const { inline } = definition.code;
    const code = definition.runtime === 'wasm' ? Buffer.from(inline, 'base64') : Buffer.from(inline);
    if (definition.runtime === 'wasm' && !isWebAssembly(code))
      throw wrong(['code', 'inline'], 'is no WebAssembly module in base64', 'name its file with code: {file: …}');
    return { deployment: { definition, code }, codeFile: undefined };
  }
  const codeFile = path.resolve(path.dirname(file), definition.code.file);
  let code: Buffer;
  try {
    code = readFileSync(codeFile);
  } catch (cause) {
    const fix = `put the code at ${codeFile}, or change the path: it is relative to this file`;
    throw wrong(['code', 'file'], `cannot read ${definition.code.file}`, fix, cause);
  }
  const problem = codeProblem(definition.runtime, code);
  if (problem) throw wrong(['code', 'file'], problem.what, problem.fix);
  return { deployment: { definition, code }, codeFile };
}

/** What is wrong with code that its first bytes tell. */
export function codeProblem(
  runtime: 'javascript' | 'wasm',
  code: Uint8Array,
): { readonly what: string; readonly fix: string } | undefined {
  const wasm = isWebAssembly(code);
  if (runtime === 'wasm' && !wasm)
    return { what: 'is no WebAssembly module', fix: 'build it to .wasm, or say runtime: javascript' };
  if (runtime === 'javascript' && wasm) return { what: 'is a WebAssembly module', fix: 'say runtime: wasm' };
  return undefined;
}

function isWebAssembly(code: Uint8Array): boolean {
  return code[0] === 0 && code[1] === 0x61 && code[2] === 0x73 && code[3] === 0x6d;
}

function fixOf(at: readonly PropertyKey[]): string {
  if (at[0] === 'code') return 'say code: {file: NAME} or code: {inline: TEXT}';
  if (at[0] === 'triggers' && at.length === 2) return 'say type: http, timer, stream, queue or event';
  if (at[0] === 'triggers' && at[2] === 'filter') return 'mend the path: with it everything is passed over, for good';
  return 'see docs/functions.md for what it may be';
}
