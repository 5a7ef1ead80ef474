import type { Engine } from './engine.js';
import { requireLibrary, wasmerPlace } from './native-library.js';
export async function openWasmer(): Promise<Engine> {
  throw new Error(requireLibrary(wasmerPlace));
}
