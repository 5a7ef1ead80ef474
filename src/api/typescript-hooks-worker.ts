/** Hooks with which a Node that knows no TypeScript runs scripts written in it: types are taken away, nothing is checked. They run in Node's thread for hooks. */
import { readFile } from 'node:fs/promises';
import type { LoadHook } from 'node:module';
import { fileURLToPath } from 'node:url';

export const load: LoadHook = async (url, context, next) => {
  if (!url.startsWith('file:') || !/\.m?ts$/.test(new URL(url).pathname)) return next(url, context);
  const { transformSync } = await import('@swc/wasm-typescript');
  const source = await readFile(fileURLToPath(url), 'utf8');
  const { code } = transformSync(source, { mode: 'transform', module: true, filename: url });
  return { format: 'module', source: code, shortCircuit: true };
};
