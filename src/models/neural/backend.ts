import { createRequire } from 'node:module';
import path from 'node:path';
import * as tf from '@tensorflow/tfjs-core';
import { messageOf } from '../../errors.js';

export type BackendName = 'tensorflow' | 'wasm' | 'cpu';

export interface Backend {
  readonly name: BackendName;
  /** Why this one: what is installed, or what went wrong with the better ones. */
  readonly why: string;
}

/** The optional package, by a name that is not resolved before it is asked for: it may be absent. */
const NATIVE: string = '@tensorflow/tfjs-node';

const starters: Record<BackendName, () => Promise<void>> = {
  async tensorflow() {
    await import(NATIVE);
  },
  async wasm() {
    const { setWasmPaths } = await import('@tensorflow/tfjs-backend-wasm');
    const root = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm/package.json');
    // its own files; one thread, as always under Node
    setWasmPaths(path.join(path.dirname(root), 'dist', path.sep));
  },
  async cpu() {
    await import('@tensorflow/tfjs-backend-cpu');
  },
};

/**
 * Makes the best TensorFlow.js backend that works here the one in use: the native library if it is installed, else WebAssembly, else plain
 * JavaScript.
 * `only` tries just these. Cost: up to a second the first time.
 */
export async function chooseBackend(only: readonly BackendName[] = ['tensorflow', 'wasm', 'cpu']): Promise<Backend> {
  // without it the plain backend writes an advertisement to the terminal
  tf.enableProdMode();
  const failures: string[] = [];
  for (const name of only) {
    try {
      await starters[name]();
      if (!(await tf.setBackend(name))) throw new Error('it does not start');
      await tf.ready();
      const product = await tf.tidy(() => tf.matMul([[1, 2]], [[3], [4]])).data();
      if (product[0] !== 11) throw new Error(`it says 1·3 + 2·4 = ${product[0]}`);
      return { name, why: failures.length > 0 ? failures.join('; ') : 'it is installed and works' };
    } catch (error) {
      failures.push(reason(name, error));
    }
  }
  throw new Error(`no TensorFlow.js backend works: ${failures.join('; ')}`);
}

function reason(name: BackendName, error: unknown): string {
  if (name === 'tensorflow' && (error as { code?: unknown }).code === 'ERR_MODULE_NOT_FOUND')
    return `${NATIVE} is not installed`;
  return `${name} cannot be used: ${messageOf(error).split('\n', 1)[0]}`;
}
