import type { PreparedModule } from '../module/prepared.js';
import type { RawFunction, RawValue } from '../types.js';

export type EngineName = 'native' | 'wasmtime' | 'wasmer' | 'wasm3' | 'wasm2c';

/** `baseline`: compiled fast, runs slower; `optimised`: the other way round; `interpreter`: not compiled; `tiered`: starts as baseline, hot functions are optimised. */
export type Tier = 'baseline' | 'optimised' | 'tiered' | 'interpreter';

/** What really runs: never another engine's name. */
export interface EngineDescription {
  readonly name: EngineName;
  readonly version: string;
  /** What the engine itself runs on: machine code of this process, or inside V8. */
  readonly host: 'native' | 'v8';
  /** First is the default. */
  readonly tiers: readonly Tier[];
  /** Proposals it can run, by the words of `ModuleInfo.features`. */
  readonly features: readonly string[];
}

/**
 * One WebAssembly engine. All of it is synchronous and belongs to the thread that made it. Engines that are native libraries must be made in a worker
 * thread or child process: a call blocks, and a fault in a library must not end the host.
 */
export interface Engine {
  readonly description: EngineDescription;
  /**
   * @throws IguanaError `IGU_WASM_INVALID` when the engine refuses the module, with its reason; `IGU_WASM_UNSUPPORTED` for a feature or tier that it lacks.
   */
  compile(module: PreparedModule, tier?: Tier): CompiledModule;
  /** `compile` from what `CompiledModule.serialize` gave, trusted bytes; undefined when they are of another version, machine or tier: compile then. */
  load?(module: PreparedModule, code: Uint8Array, tier?: Tier): CompiledModule | undefined;
  /**
   * How another thread ends a call that does not end by itself. Absent: by ending this thread, since the code is V8's. Else this thread cannot be ended
   * while the call runs, nor can the process go: give this plain data to `stopCall` first; `'never'`: nothing but a gas limit ends the call.
   */
  readonly stopper?: Stopper | 'never';
  close(): void;
}

/** Plain data that may be posted to any thread of this process. */
export interface Stopper {
  readonly library: string;
  /** Addresses of what the library counts its time by. */
  readonly clocks: readonly bigint[];
  /** One Int32: 0 open, 1 in use by a `stopCall`, 2 closed. */
  readonly state: SharedArrayBuffer;
}

export interface CompiledModule {
  readonly module: PreparedModule;
  readonly tier: Tier;
  /**
   * Runs no guest code, since start functions are exported (see `PreparedModule.start`).
   * @throws IguanaError `IGU_WASM_LINK` naming the import that is missing or of another type; WasmTrap when an active segment does not fit.
   */
  instantiate(imports: HostImports): EngineInstance;
  /** Machine code for `Engine.load` of the same version on the same machine, where the engine has it. Trusted bytes: whoever keeps them signs them. */
  serialize?(): Uint8Array;
  close(): void;
}

/** Import module → name → function, or for the native engine also a WebAssembly.Memory, Table or Global. An Error thrown by a host function passes through the guest unchanged. */
export type HostImports = Readonly<Record<string, Readonly<Record<string, RawFunction | object>>>>;

export interface EngineInstance {
  /**
   * An exported function, called without checks: arguments must be of its type.
   * The returned function throws WasmTrap, or what a host function threw. Get it once and keep it.
   */
  function(name: string): RawFunction;
  /** The exported memory as it is now. The view ends with the next growth or call: take it anew. */
  memory(name: string): Uint8Array;
  /** Grows by pages; false when it cannot. */
  growMemory(name: string, pages: number): boolean;
  getGlobal(name: string): RawValue;
  setGlobal(name: string, value: RawValue): void;
  /** Absent where the engine shows no tables. */
  readonly tables?: TableAccess;
  close(): void;
}

/** References are opaque; two are the same function when `same` says so. */
export interface TableAccess {
  length(name: string): number;
  grow(name: string, elements: number): boolean;
  get(name: string, index: number): RawValue;
  set(name: string, index: number, reference: RawValue): void;
  /** The exported function as a reference for `set`. */
  reference(functionName: string): RawValue;
  same(a: RawValue, b: RawValue): boolean;
}
