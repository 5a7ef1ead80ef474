/**
 * The standard C interface of WebAssembly engines (wasm.h), called through koffi. What an engine's library adds to it stands in that engine's own file
 * (`wasmer.ts`). Tables are not shown: the interface compares references, but the engines behind it give a new one at each look.
 * One file, since one set of declarations and struct layouts carries it all.
 * Source: github.com/WebAssembly/wasm-c-api, wasm.h.
 */
import { IguanaError } from '../../errors.js';
import { type ParsedModule, parseModule } from '../module/parse-module.js';
import type { PreparedModule } from '../module/prepared.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import type { ExportInfo, FunctionType, RawFunction, RawValue, ValueType } from '../types.js';
import { checkAbility, checkImport, notExported, sameWord } from './checks.js';
import type { CompiledModule, Engine, EngineDescription, EngineInstance, HostImports, Tier } from './engine.js';
import { featuresOf } from './features.js';
import { HostGate } from './host-gate.js';
import { type Koffi, memoryCopy, NativeBlock, type NativeFunction, ViewKeeper, withBytes } from './native-library.js';
import { Nesting } from './nesting.js';
import { type NumberType, numberReaders, numberWriters } from './number-views.js';

export const declarations = {
  engineNew: 'void* wasm_engine_new()',
  engineDelete: 'void wasm_engine_delete(void*)',
  storeNew: 'void* wasm_store_new(void*)',
  storeDelete: 'void wasm_store_delete(void*)',
  moduleNew: 'void* wasm_module_new(void*, void*)',
  moduleValidate: 'bool wasm_module_validate(void*, void*)',
  moduleDelete: 'void wasm_module_delete(void*)',
  moduleSerialize: 'void wasm_module_serialize(void*, void*)',
  moduleDeserialize: 'void* wasm_module_deserialize(void*, void*)',
  valtypeNew: 'void* wasm_valtype_new(uint8_t)',
  valtypeVecNew: 'void wasm_valtype_vec_new(void*, size_t, void*)',
  functypeNew: 'void* wasm_functype_new(void*, void*)',
  functypeDelete: 'void wasm_functype_delete(void*)',
  funcNew: 'void* wasm_func_new_with_env(void*, void*, void*, void*, void*)',
  funcDelete: 'void wasm_func_delete(void*)',
  funcAsExtern: 'void* wasm_func_as_extern(void*)',
  instanceNew: 'void* wasm_instance_new(void*, void*, void*, void*)',
  instanceDelete: 'void wasm_instance_delete(void*)',
  instanceExports: 'void wasm_instance_exports(void*, void*)',
  externVecDelete: 'void wasm_extern_vec_delete(void*)',
  externAsFunc: 'void* wasm_extern_as_func(void*)',
  externAsGlobal: 'void* wasm_extern_as_global(void*)',
  externAsMemory: 'void* wasm_extern_as_memory(void*)',
  call: 'void* wasm_func_call(void*, void*, void*)',
  memoryData: 'void* wasm_memory_data(void*)',
  memorySize: 'size_t wasm_memory_data_size(void*)',
  memoryGrow: 'bool wasm_memory_grow(void*, uint32_t)',
  globalGet: 'void wasm_global_get(void*, void*)',
  globalSet: 'void wasm_global_set(void*, void*)',
  trapNew: 'void* wasm_trap_new(void*, void*)',
  trapMessage: 'void wasm_trap_message(void*, void*)',
  trapTrace: 'void wasm_trap_trace(void*, void*)',
  trapDelete: 'void wasm_trap_delete(void*)',
  frameFunction: 'uint32_t wasm_frame_func_index(void*)',
  frameOffset: 'size_t wasm_frame_module_offset(void*)',
  framesDelete: 'void wasm_frame_vec_delete(void*)',
  bytesDelete: 'void wasm_byte_vec_delete(void*)',
} as const;

export type CFunctions = { readonly [name in keyof typeof declarations]: NativeFunction };
type Address = bigint;

/** `wasm_valkind_t`. */
const typeKinds: Readonly<Record<ValueType, number>> = {
  i32: 0,
  i64: 1,
  f32: 2,
  f64: 3,
  v128: 4,
  externref: 128,
  funcref: 129,
};

/** `wasm_val_t`: a kind, and the value at 8. */
const VALUE_BYTES = 16;
const VALUE_AT = 8;
/** Vectors of arguments and of results (`{size, data}`), then the values of both. */
const FRAME_HEAD_BYTES = 32;
const FRAME_VALUES = 1_024;
/** A trap's message is a C string. */
const HOST_MESSAGE = Buffer.from('host\0');

/** What an engine adds to the interface. */
export interface CLibrary {
  readonly name: 'wasmer';
  readonly version: string;
  readonly tiers: readonly Tier[];
  /** By words in a trap's message, first that fits. */
  readonly trapWords: readonly (readonly [RegExp, TrapKind])[];
  /** Address of `wasm_trap_new`. */
  readonly trapNew: bigint;
  /** The last error of this thread, for a call that answered nothing. */
  lastError(): string;
}

/**
 * An engine behind wasm.h. Memory is not seen by the collector: close what is done.
 */
export class CApiEngine implements Engine {
  readonly description: EngineDescription;
  /** The interface has nothing to end a call by. */
  readonly stopper = 'never';
  readonly library: CLibrary;
  readonly koffi: Koffi;
  readonly c: CFunctions;
  /** For what a function of the library gives back beside its result. */
  readonly out: NativeBlock;
  readonly gate: HostGate;
  readonly #callback: Address;
  /** A vector and the text it holds. */
  readonly #message: NativeBlock;
  readonly owned = new Set<{ close(): void }>();
  /** The instance whose guest code runs. */
  running: CApiInstance | undefined;
  readonly engine: Address;
  /** The store modules are compiled in; they run in stores of their own. */
  readonly #store: Address;
  readonly #copy: (to: Address, from: Address, bytes: number) => void;
  readonly #frames: NativeBlock[] = [];
  readonly #nesting = new Nesting(() => {
    this.running = undefined;
    this.#hostDepth = 0;
  });
  readonly #hostFrames: NativeBlock[] = [];
  #hostDepth = 0;
  #closed = false;

  constructor(koffi: Koffi, functions: CFunctions, library: CLibrary) {
    this.koffi = koffi;
    this.c = functions;
    this.library = library;
    this.out = new NativeBlock(koffi, 64);
    this.#copy = memoryCopy(koffi);
    hostPrototype ??= koffi.pointer(koffi.proto('void* IguanaCApiHost(size_t, void*, void*)'));
    this.#callback = koffi.register(
      (cell: number, args: Address, results: Address) => this.#callHost(cell, args, results),
      hostPrototype,
    );
    this.engine = this.c.engineNew() as Address;
    this.#store = this.c.storeNew(this.engine) as Address;
    const message = new NativeBlock(koffi, 16 + HOST_MESSAGE.length);
    message.view.setBigUint64(0, BigInt(HOST_MESSAGE.length), true);
    message.view.setBigUint64(8, message.address + 16n, true);
    message.bytes.set(HOST_MESSAGE, 16);
    this.#message = message;
    this.gate = new HostGate(koffi, this.#callback, {
      make: library.trapNew,
      arguments: [this.#store, message.address],
    });
    this.description = {
      name: library.name,
      version: library.version,
      host: 'native',
      tiers: library.tiers,
      // a shared memory would have to be made outside of the module
      features: featuresOf((bytes) => this.#valid(bytes)).filter((feature) => feature !== 'threads'),
    };
  }

  compile(module: PreparedModule, wanted?: Tier): CompiledModule {
    this.#checkOpen();
    const tier = checkAbility(this.description, module.info.features, wanted);
    const compiled = this.#withVector(
      module.bytes,
      (vector) => this.c.moduleNew(this.#store, vector) as Address | null,
    );
    if (compiled === null) throw this.invalid(this.library.lastError());
    return new CApiModule(this, module, tier, compiled);
  }

  load(module: PreparedModule, code: Uint8Array, wanted?: Tier): CompiledModule | undefined {
    this.#checkOpen();
    const tier = checkAbility(this.description, module.info.features, wanted);
    const compiled = this.#withVector(
      code,
      (vector) => this.c.moduleDeserialize(this.#store, vector) as Address | null,
    );
    return compiled === null ? undefined : new CApiModule(this, module, tier, compiled);
  }

  /** Closes all that was made by it. */
  close(): void {
    if (this.#closed) return;
    for (const one of [...this.owned]) one.close();
    this.#closed = true;
    this.c.storeDelete(this.#store);
    this.c.engineDelete(this.engine);
    this.koffi.unregister(this.#callback);
  }

  /** Memory for one call's values, by how deep calls are nested. */
  enter(): NativeBlock {
    const depth = this.#nesting.enter();
    let frame = this.#frames[depth];
    if (!frame) {
      frame = new NativeBlock(this.koffi, FRAME_HEAD_BYTES + 2 * FRAME_VALUES * VALUE_BYTES);
      frame.view.setBigUint64(8, frame.address + ARGUMENTS, true);
      frame.view.setBigUint64(24, frame.address + RESULTS, true);
      this.#frames.push(frame);
    }
    return frame;
  }

  leave(): void {
    this.#nesting.leave();
  }

  invalid(what: string): IguanaError {
    return new IguanaError('IGU_WASM_INVALID', { engine: this.library.name, what });
  }

  unsupported(what: string): IguanaError {
    const where = ` by ${this.library.name} ${this.library.version}`;
    return new IguanaError('IGU_WASM_UNSUPPORTED', { what, where, fix: 'use the native engine for this module' });
  }

  /** A copy of the byte vector at `out`, which is deleted. */
  takeBytes(): Uint8Array<ArrayBuffer> {
    const size = Number(this.out.view.getBigUint64(0, true));
    const data = this.out.pointer(8);
    if (size === 0 || data === null) return new Uint8Array(0);
    const bytes = new Uint8Array(this.koffi.view(data, size)).slice();
    this.c.bytesDelete(this.out.address);
    return bytes;
  }

  /** What a trap says, in our words; it is deleted. */
  takeTrap(trap: Address, { bytes }: PreparedModule, { functionNames }: ParsedModule): WasmTrap {
    const { c, out, koffi } = this;
    c.trapMessage(trap, out.address);
    const message = Buffer.from(this.takeBytes()).toString().replace(/\0$/, '');
    c.trapTrace(trap, out.address);
    const count = Number(out.view.getBigUint64(0, true));
    const data = out.pointer(8);
    const names: string[] = [];
    let place: number | undefined;
    if (count > 0 && data !== null) {
      for (const frame of new BigUint64Array(koffi.view(data, 8 * count)).slice()) {
        const index = c.frameFunction(frame) as number;
        names.push(functionNames.get(index) ?? `wasm-function[${index}]`);
        place ??= c.frameOffset(frame) as number;
      }
      c.framesDelete(out.address);
    }
    c.trapDelete(trap);
    const kind = this.library.trapWords.find(([words]) => words.test(message))?.[1] ?? 'other';
    return new WasmTrap(sameWord(kind, place === undefined ? undefined : bytes[place]), names, {
      cause: new Error(message),
    });
  }

  #valid(bytes: Uint8Array): boolean {
    return this.#withVector(bytes, (vector) => this.c.moduleValidate(this.#store, vector) as boolean);
  }

  #withVector<T>(bytes: Uint8Array, use: (vector: Address) => T): T {
    return withBytes(this.koffi, bytes, (address, length) => {
      this.out.view.setBigUint64(0, BigInt(length), true);
      this.out.view.setBigUint64(8, address, true);
      return use(this.out.address);
    });
  }

  #checkOpen(): void {
    if (!this.#closed) return;
    throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open engine', name: this.library.name, of: '' });
  }

  /** Guest code calls an import. Nothing may be thrown through the library: the error waits in the instance until the guest has unwound. */
  #callHost(cell: number, args: Address, results: Address): Address | null {
    const index = this.gate.indexOf(cell);
    const instance = this.running!;
    const frame =
      this.#hostFrames[this.#hostDepth] ?? new NativeBlock(this.koffi, FRAME_HEAD_BYTES + FRAME_VALUES * VALUE_BYTES);
    this.#hostFrames[this.#hostDepth++] = frame;
    try {
      const { params, results: types } = instance.of.hosts[index]!.type;
      const { view, address } = frame;
      const at = address + HEAD;
      if (params.length > 0) {
        this.#copy(address, args, 16);
        this.#copy(at, frame.pointer(8)!, params.length * VALUE_BYTES);
      }
      const values = params.map((type, i) => this.read(type, view, FRAME_HEAD_BYTES + i * VALUE_BYTES));
      const given = instance.hosts[index]!(...values);
      if (types.length > 0) {
        const all = types.length === 1 ? [given] : [...(given as Iterable<RawValue>)];
        types.forEach((type, i) => {
          this.write(type, view, FRAME_HEAD_BYTES + i * VALUE_BYTES, all[i]);
        });
        this.#copy(address, results, 16);
        this.#copy(frame.pointer(8)!, at, types.length * VALUE_BYTES);
      }
      this.#hostDepth--;
      this.running = instance;
      return this.gate.finish(index, null);
    } catch (error) {
      instance.pending = { error };
      this.#hostDepth--;
      this.running = instance;
      return this.gate.finish(index, this.c.trapNew(instance.store, this.#message.address) as Address);
    }
  }

  read(type: ValueType, view: DataView, at: number): RawValue {
    const read = numberReaders[type as NumberType];
    if (!read) throw this.unsupported(`a value of type ${type} between host and guest`);
    return read(view, at + VALUE_AT);
  }

  write(type: ValueType, view: DataView, at: number, value: RawValue): void {
    const write = numberWriters[type as NumberType];
    if (!write) throw this.unsupported(`a value of type ${type} between host and guest`);
    view.setUint8(at, typeKinds[type]);
    write(view, at + VALUE_AT, value);
  }
}

/** Names of prototypes are global to koffi. */
let hostPrototype: object | undefined;
const HEAD = BigInt(FRAME_HEAD_BYTES);
const ARGUMENTS = HEAD;
const RESULTS_AT = FRAME_HEAD_BYTES + FRAME_VALUES * VALUE_BYTES;
const RESULTS = BigInt(RESULTS_AT);

class CApiModule implements CompiledModule {
  readonly engine: CApiEngine;
  readonly parsed: ParsedModule;
  readonly hosts: readonly { readonly module: string; readonly name: string; readonly type: FunctionType }[];
  /** Exports with their place in the module's order. */
  readonly exports: ReadonlyMap<string, ExportInfo & { readonly place: number }>;
  readonly compiled: Address;
  #closed = false;

  constructor(
    engine: CApiEngine,
    readonly module: PreparedModule,
    readonly tier: Tier,
    compiled: Address,
  ) {
    this.engine = engine;
    this.compiled = compiled;
    try {
      this.parsed = parseModule(module.bytes);
      this.hosts = this.parsed.imports.map((one) => {
        if (one.kind === 'function') return one;
        throw engine.unsupported(`an imported ${one.kind} (${one.module}.${one.name})`);
      });
    } catch (error) {
      engine.c.moduleDelete(compiled);
      throw error;
    }
    this.exports = new Map(this.parsed.exports.map((one, place) => [one.name, { ...one, place }]));
    engine.owned.add(this);
  }

  instantiate(imports: HostImports): EngineInstance {
    if (this.#closed)
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open module', name: this.module.id, of: '' });
    const hosts = this.hosts.map(({ module, name }) => checkImport(module, name, 'function', imports) as RawFunction);
    return new CApiInstance(this, hosts);
  }

  serialize(): Uint8Array {
    const { c, out } = this.engine;
    out.view.setBigUint64(0, 0n, true);
    c.moduleSerialize(this.compiled, out.address);
    const code = this.engine.takeBytes();
    if (code.length === 0) throw this.engine.invalid(this.engine.library.lastError());
    return code;
  }

  /** Instances live on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.engine.owned.delete(this);
    this.engine.c.moduleDelete(this.compiled);
  }
}

class CApiInstance implements EngineInstance {
  readonly of: CApiModule;
  readonly hosts: readonly RawFunction[];
  readonly store: Address;
  pending: { error: unknown } | undefined;
  readonly #functions: readonly Address[];
  readonly #instance: Address;
  /** The vector of exports, and a copy of its elements. */
  readonly #vector: NativeBlock;
  readonly #externs: BigUint64Array;
  readonly #keeper: ViewKeeper;
  readonly #views = new Map<string, Uint8Array>();
  #calls = 0;
  #closed = false;

  constructor(of: CApiModule, hosts: readonly RawFunction[]) {
    const { engine } = of;
    const { c, koffi, out } = engine;
    this.of = of;
    this.hosts = hosts;
    this.#keeper = new ViewKeeper(koffi);
    this.#vector = new NativeBlock(koffi, 16);
    this.store = c.storeNew(engine.engine) as Address;
    this.#functions = of.hosts.map(({ type }, index) => {
      const functionType = makeFunctionType(engine, type);
      const made = c.funcNew(this.store, functionType, engine.gate.address, engine.gate.cell(index), null) as Address;
      c.functypeDelete(functionType);
      return made;
    });
    const imports = new NativeBlock(koffi, 16 + 8 * Math.max(1, hosts.length));
    imports.view.setBigUint64(0, BigInt(hosts.length), true);
    imports.view.setBigUint64(8, imports.address + 16n, true);
    this.#functions.forEach((one, i) => {
      imports.view.setBigUint64(16 + 8 * i, c.funcAsExtern(one) as Address, true);
    });
    out.view.setBigUint64(0, 0n, true);
    const instance = c.instanceNew(this.store, of.compiled, imports.address, out.address) as Address | null;
    imports.view.setBigUint64(0, 0n, true);
    if (instance === null) {
      const trap = out.pointer(0);
      const failure =
        trap === null
          ? new IguanaError('IGU_WASM_LIMIT', {
              what: `what a new instance needs (${engine.library.lastError()})`,
              value: 'more',
              limit: 'what is left',
              fix: 'destroy instances that are not used any more, or lower their limits',
            })
          : engine.takeTrap(trap, of.module, of.parsed);
      for (const one of this.#functions) c.funcDelete(one);
      c.storeDelete(this.store);
      throw failure;
    }
    this.#instance = instance;
    c.instanceExports(instance, this.#vector.address);
    const data = this.#vector.pointer(8);
    this.#externs =
      data === null ? new BigUint64Array(0) : new BigUint64Array(koffi.view(data, 8 * of.exports.size)).slice();
    engine.owned.add(this);
  }

  function(name: string): RawFunction {
    const { type } = this.#export(name, 'function');
    const { engine } = this.of;
    const odd = [...type.params, ...type.results].find((one) => !(one in numberReaders));
    if (odd) throw engine.unsupported(`calling ${name}, which has a value of type ${odd},`);
    const handle = engine.c.externAsFunc(this.#externOf(name)) as Address;
    const params = type.params.map((one) => ({ kind: typeKinds[one], write: numberWriters[one as NumberType] }));
    const results = type.results.map((one) => numberReaders[one as NumberType]);
    const [read] = results;
    const { call } = engine.c;
    return (...args) => {
      this.#checkOpen();
      const before = engine.running;
      const frame = engine.enter();
      this.#calls++;
      try {
        const { view } = frame;
        view.setBigUint64(0, BigInt(params.length), true);
        view.setBigUint64(16, BigInt(results.length), true);
        for (let i = 0; i < params.length; i++) {
          const at = FRAME_HEAD_BYTES + VALUE_BYTES * i;
          view.setUint8(at, params[i]!.kind);
          params[i]!.write(view, at + VALUE_AT, args[i]);
        }
        engine.running = this;
        const trap = call(handle, frame.address, frame.address + 16n);
        if (trap !== null) throw this.#failure(trap as Address);
        if (results.length === 1) return read!(view, RESULTS_AT + VALUE_AT);
        if (results.length === 0) return undefined;
        return results.map((one, i) => one(view, RESULTS_AT + VALUE_BYTES * i + VALUE_AT));
      } finally {
        engine.running = before;
        engine.leave();
        this.#calls--;
        if (this.#closed && this.#calls === 0) this.#release();
      }
    };
  }

  memory(name: string): Uint8Array {
    const { c } = this.of.engine;
    const handle = this.#memory(name);
    const size = c.memorySize(handle) as number;
    const kept = this.#views.get(name);
    if (kept?.length === size) return kept;
    const data = c.memoryData(handle) as Address | null;
    const view = size === 0 || data === null ? new Uint8Array(0) : this.#keeper.view(data, size);
    this.#views.set(name, view);
    return view;
  }

  growMemory(name: string, pages: number): boolean {
    return this.of.engine.c.memoryGrow(this.#memory(name), pages) as boolean;
  }

  getGlobal(name: string): RawValue {
    const { type } = this.#export(name, 'global');
    const { engine } = this.of;
    engine.c.globalGet(engine.c.externAsGlobal(this.#externOf(name)) as Address, engine.out.address);
    return engine.read(type, engine.out.view, 0);
  }

  setGlobal(name: string, value: RawValue): void {
    const { type, mutable } = this.#export(name, 'global');
    if (!mutable) throw notExported('mutable global', name, this.of);
    const { engine } = this.of;
    engine.write(type, engine.out.view, 0, value);
    engine.c.globalSet(engine.c.externAsGlobal(this.#externOf(name)) as Address, engine.out.address);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#views.clear();
    this.of.engine.owned.delete(this);
    if (this.#calls === 0) this.#release();
  }

  #release(): void {
    const { c } = this.of.engine;
    this.#keeper.releaseWhenUnseen(() => {
      c.externVecDelete(this.#vector.address);
      c.instanceDelete(this.#instance);
      for (const one of this.#functions) c.funcDelete(one);
      c.storeDelete(this.store);
    });
  }

  #checkOpen(): void {
    if (this.#closed)
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open instance', name: '', of: this.of.module.id });
  }

  #export<K extends ExportInfo['kind']>(name: string, kind: K): ExportInfo & { kind: K; place: number } {
    this.#checkOpen();
    const found = this.of.exports.get(name);
    if (found?.kind !== kind) throw notExported(kind, name, this.of);
    return found as ExportInfo & { kind: K; place: number };
  }

  #externOf(name: string): Address {
    return this.#externs[this.of.exports.get(name)!.place]!;
  }

  #memory(name: string): Address {
    this.#export(name, 'memory');
    return this.of.engine.c.externAsMemory(this.#externOf(name)) as Address;
  }

  #failure(trap: Address): unknown {
    const failure = this.of.engine.takeTrap(trap, this.of.module, this.of.parsed);
    const { pending } = this;
    this.pending = undefined;
    return pending ? pending.error : failure;
  }
}

function makeFunctionType({ c, koffi }: CApiEngine, { params, results }: FunctionType): Address {
  const block = new NativeBlock(koffi, 32 + 8 * Math.max(1, params.length, results.length));
  for (const [at, types] of [
    [0, params],
    [16, results],
  ] as const) {
    types.forEach((type, i) => {
      block.view.setBigUint64(32 + 8 * i, c.valtypeNew(typeKinds[type]) as Address, true);
    });
    c.valtypeVecNew(block.address + BigInt(at), types.length, block.address + 32n);
  }
  return c.functypeNew(block.address, block.address + 16n) as Address;
}
