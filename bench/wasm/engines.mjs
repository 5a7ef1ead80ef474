/** The engines that this machine has, for the benchmarks. */
import { NativeEngine } from '../../dist/src/wasm/engines/native.js';

/** @throws when the engine is not installed, with the reason */
export async function openEngine(name) {
  if (name === 'native') return new NativeEngine();
  throw new Error(`no engine ${name}`);
}
