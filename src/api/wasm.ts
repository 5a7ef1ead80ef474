import { IguanaError } from '../errors.js';
import type { AheadResult } from '../wasm/aot/v8-code-cache.js';
import type { GuestOutput } from '../wasm/runtime/guest-wasi.js';
import type { GasUsed, Instance } from '../wasm/runtime/instance.js';
import type { InstanceInfo } from '../wasm/runtime/instance-host.js';
import type { ResourceLimits } from '../wasm/runtime/resource-limits.js';
import {
  type CreateOptions,
  type InstanceHandle,
  type InstanceRef,
  type ModuleHandle,
  type RuntimeOptions,
  type RuntimeStats,
  WasmRuntime,
} from '../wasm/runtime/runtime.js';
import type { TypedValue } from '../wasm/runtime/values.js';
import type { Snapshot } from '../wasm/snapshot/snapshot.js';

/** Made at the first use. */
let shared: WasmRuntime | undefined;
let options: RuntimeOptions = {};

function runtime(): WasmRuntime {
  shared ??= new WasmRuntime(options);
  return shared;
}

/** WebAssembly for untrusted code, on one runtime of this process. `WasmRuntime` makes further ones, with walls of their own. */
export const wasm = {
  /** Bounds of the runtime. Before anything else is called. Errors: `IGU_USAGE` afterwards. */
  configure(given: RuntimeOptions): void {
    if (shared) throw new IguanaError('IGU_USAGE', { what: 'the runtime is in use: configure it before, or close it' });
    options = given;
  },
  /** Reads, checks and meters a module from a file or bytes. Errors: see `WasmRuntime.loadModule`. */
  loadModule: (source: string | URL | Uint8Array, how: { readonly metered?: boolean } = {}): Promise<ModuleHandle> =>
    runtime().loadModule(source, how),
  /** Lets go of a module without instances. */
  unloadModule: (id: string): void => runtime().unloadModule(id),
  /** Optimises a module in another process; its code is kept in the runtime's `codeCache`. Errors: see `WasmRuntime.compileAhead`. */
  compileAhead: (moduleId: string): Promise<AheadResult> => runtime().compileAhead(moduleId),
  /** Errors: see `WasmRuntime.createInstance`. */
  createInstance: (of: CreateOptions): Promise<InstanceHandle> => runtime().createInstance(of),
  /** Calls an export with typed values. Errors: see `WasmRuntime.callFunction`. */
  callFunction: (instance: InstanceRef, name: string, args: readonly TypedValue[] = []): Promise<TypedValue[]> =>
    runtime().callFunction(instance, name, args),
  /** The instance itself when it lives on this thread: calls without promises, well under 1 µs. */
  inPlace: (instance: InstanceRef): Instance => runtime().inPlace(instance),
  setResourceLimits: (instance: InstanceRef, limits: ResourceLimits): Promise<void> =>
    runtime().setResourceLimits(instance, limits),
  /** Gas for all calls from now on together; null: no limit. */
  setGasLimit: (instance: InstanceRef, gas: number | null): Promise<void> => runtime().setGasLimit(instance, gas),
  getGasUsed: (instance: InstanceRef): Promise<GasUsed> => runtime().getGasUsed(instance),
  readMemory: (instance: InstanceRef, offset: number, length: number, memory?: string): Promise<Uint8Array> =>
    runtime().readMemory(instance, offset, length, memory),
  writeMemory: (instance: InstanceRef, offset: number, data: Uint8Array, memory?: string): Promise<void> =>
    runtime().writeMemory(instance, offset, data, memory),
  /** What the guest wrote to captured streams. */
  output: (instance: InstanceRef): Promise<GuestOutput> => runtime().output(instance),
  snapshotCreate: (instance: InstanceRef): Promise<Snapshot> => runtime().snapshotCreate(instance),
  snapshotRestore: (instance: InstanceRef, snapshot: Snapshot): Promise<void> =>
    runtime().snapshotRestore(instance, snapshot),
  /** Ends the call that runs now in a worker thread. Errors: `IGU_WASM_NOT_FOUND`. */
  interrupt: (instance: InstanceRef): Promise<boolean> => runtime().interrupt(instance),
  destroy: (instance: InstanceRef): Promise<void> => runtime().destroy(instance),
  /** Which engine really runs it, its version and tier, limits, gas and memory. */
  info: (instance: InstanceRef): Promise<InstanceInfo> => runtime().info(instance),
  stats: (): RuntimeStats => runtime().stats(),
  /** Ends all instances and threads; the next call begins anew. */
  async close(): Promise<void> {
    const closing = shared;
    shared = undefined;
    await closing?.close();
  },
};
