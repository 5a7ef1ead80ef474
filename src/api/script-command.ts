import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { IguanaError } from '../errors.js';
import { workerUrl } from '../worker-url.js';

/**
 * How a script is started, by its ending: `.js`, `.mjs`, `.cjs`, `.ts` and `.mts` by this Node, `.py` by python3, others by themselves.
 * @throws IguanaError `IGU_FILE_MISSING`
 */
export function scriptCommand(script: string, args: readonly string[]): { command: string; args: readonly string[] } {
  const file = path.resolve(script);
  const ending = path.extname(file);
  const interpreted = /^\.(m?ts|[mc]?js|py)$/.test(ending);
  try {
    accessSync(file, interpreted ? constants.R_OK : constants.X_OK);
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path: interpreted ? file : `${file} as a program` }, { cause });
  }
  if (ending === '.py') return { command: 'python3', args: [file, ...args] };
  if (!interpreted) return { command: file, args };
  // what only strips types does not run enums and parameter properties
  const own = 'typescript' in process.features ? process.features.typescript : undefined;
  const typed = ending.endsWith('ts') && own !== 'transform';
  return { command: process.execPath, args: [...(typed ? ['--import', typescriptHooks()] : []), file, ...args] };
}

function typescriptHooks(): string {
  const hooks = JSON.stringify(workerUrl(import.meta.url, './typescript-hooks-worker.js').href);
  return `data:text/javascript,${encodeURIComponent(`import { register } from 'node:module'; register(${hooks});`)}`;
}
