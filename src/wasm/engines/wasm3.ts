import type { Engine } from './engine.js';
import { requireLibrary, wasm3Place } from './native-library.js';
export async function openWasm3(): Promise<Engine> {
  throw new Error(requireLibrary(wasm3Place));
}
