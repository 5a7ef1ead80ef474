import type { Engine, EngineName } from './engine.js';
import { NativeEngine } from './native.js';

export const engineNames: readonly EngineName[] = ['native', 'wasmtime', 'wasm3', 'wasmer', 'wasm2c'];

export interface EngineOptions {
  /**
   * Let `stopCall` end calls (default true; Wasmtime has the choice). Off where a gas limit ends every call anyway: checks for both cost more than one.
   */
  readonly stoppable?: boolean;
}

/**
 * Makes an engine of this thread. Libraries are loaded now and not before; close the engine to free what they hold.
 * @throws IguanaError `IGU_WASM_ENGINE_MISSING` with how to get it; `IGU_WASM_UNSUPPORTED` for a native library on the main thread.
 */
export async function openEngine(name: EngineName, options: EngineOptions = {}): Promise<Engine> {
  switch (name) {
    case 'native':
      return new NativeEngine();
    case 'wasmtime':
      return (await import('./wasmtime.js')).openWasmtime(options);
    case 'wasm3':
      return (await import('./wasm3.js')).openWasm3();
    case 'wasmer':
      return (await import('./wasmer.js')).openWasmer();
    case 'wasm2c':
      return (await import('../aot/wasm2c.js')).openWasm2c();
  }
}
