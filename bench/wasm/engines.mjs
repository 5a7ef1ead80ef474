/** The engines that this machine has, for the benchmarks. Native libraries are opened in child processes only: set IGUANA_WASM_CHILD there. */
import { NativeEngine } from '../../dist/src/wasm/engines/native.js';

/** @throws when the engine is not installed, with the reason */
export async function openEngine(name) {
  if (name === 'native') return new NativeEngine();
  const file = new URL(`../../dist/src/wasm/engines/${name}.js`, import.meta.url).href;
  const module = await import(file);
  const open = module[`open${name[0].toUpperCase()}${name.slice(1)}`];
  return open();
}
