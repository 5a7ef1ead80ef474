/**
 * Wasmtime, called as a library through koffi. Its own C interface is used and not the standard one (`c-api.ts`): only that tells trap codes, compares
 * functions in tables, chooses Winch, serialises code and calls without boxing each value. One file, since all of it rests on the struct layouts of one
 * version, which is pinned: another minor version moves them.
 * Source: the C interface of Wasmtime 50.0.1 (wasmtime.h).
 */
import { IguanaError, messageOf } from '../../errors.js';
import { wasmEngineLimits } from '../../limits.js';
import { type ParsedModule, parseModule } from '../module/parse-module.js';
import type { PreparedModule } from '../module/prepared.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import type { FunctionType, RawFunction, RawValue, ValueType } from '../types.js';
import { checkAbility, checkImport, notExported, sameWord } from './checks.js';
import type {
  CompiledModule,
  Engine,
  EngineDescription,
  EngineInstance,
  HostImports,
  Stopper,
  TableAccess,
  Tier,
} from './engine.js';
import { featuresOf } from './features.js';
import { HostGate } from './host-gate.js';
import {
  type Koffi,
  loadForGood,
  loadKoffi,
  memoryCopy,
  NativeBlock,
  type NativeFunction,
  refuseMainThread,
  requireLibrary,
  ViewKeeper,
  wasmtimePlace,
  withBytes,
} from './native-library.js';
import { Nesting } from './nesting.js';
import { type NumberType, numberReaders, numberWriters } from './number-views.js';
import { closeStopper } from './stop-call.js';

const declarations = {
  configNew: 'void* wasm_config_new()',
  configStrategy: 'void wasmtime_config_strategy_set(void*, uint8_t)',
  configStack: 'void wasmtime_config_max_wasm_stack_set(void*, size_t)',
  configAsyncStack: 'void wasmtime_config_async_stack_size_set(void*, size_t)',
  configEpochs: 'void wasmtime_config_epoch_interruption_set(void*, bool)',
  setDeadline: 'void wasmtime_context_set_epoch_deadline(void*, uint64_t)',
  configMayMove: 'void wasmtime_config_memory_may_move_set(void*, bool)',
  engineNew: 'void* wasm_engine_new_with_config(void*)',
  engineDelete: 'void wasm_engine_delete(void*)',
  moduleNew: 'void* wasmtime_module_new(void*, void*, size_t, void*)',
  moduleValidate: 'void* wasmtime_module_validate(void*, void*, size_t)',
  moduleDelete: 'void wasmtime_module_delete(void*)',
  moduleSerialize: 'void* wasmtime_module_serialize(void*, void*)',
  moduleDeserialize: 'void* wasmtime_module_deserialize(void*, void*, size_t, void*)',
  valtypeNew: 'void* wasm_valtype_new(uint8_t)',
  valtypeVecNew: 'void wasm_valtype_vec_new(void*, size_t, void*)',
  functypeNew: 'void* wasm_functype_new(void*, void*)',
  functypeDelete: 'void wasm_functype_delete(void*)',
  linkerNew: 'void* wasmtime_linker_new(void*)',
  linkerDelete: 'void wasmtime_linker_delete(void*)',
  linkerShadowing: 'void wasmtime_linker_allow_shadowing(void*, bool)',
  linkerDefine:
    'void* wasmtime_linker_define_func_unchecked(void*, void*, size_t, void*, size_t, void*, void*, void*, void*)',
  linkerPre: 'void* wasmtime_linker_instantiate_pre(void*, void*, void*)',
  preDelete: 'void wasmtime_instance_pre_delete(void*)',
  preInstantiate: 'void* wasmtime_instance_pre_instantiate(void*, void*, void*, void*)',
  storeNew: 'void* wasmtime_store_new(void*, void*, void*)',
  storeContext: 'void* wasmtime_store_context(void*)',
  storeDelete: 'void wasmtime_store_delete(void*)',
  exportGet: 'bool wasmtime_instance_export_get(void*, void*, void*, size_t, void*)',
  call: 'void* wasmtime_func_call_unchecked(void*, void*, void*, size_t, void*)',
  functionIdentity: 'void* wasmtime_func_to_raw(void*, void*)',
  memoryData: 'void* wasmtime_memory_data(void*, void*)',
  memorySize: 'size_t wasmtime_memory_data_size(void*, void*)',
  memoryGrow: 'void* wasmtime_memory_grow(void*, void*, uint64_t, void*)',
  globalGet: 'void wasmtime_global_get(void*, void*, void*)',
  globalSet: 'void* wasmtime_global_set(void*, void*, void*)',
  tableSize: 'uint64_t wasmtime_table_size(void*, void*)',
  tableGrow: 'void* wasmtime_table_grow(void*, void*, uint64_t, void*, void*)',
  tableGet: 'bool wasmtime_table_get(void*, void*, uint64_t, void*)',
  tableSet: 'void* wasmtime_table_set(void*, void*, uint64_t, void*)',
  trapNew: 'void* wasmtime_trap_new(void*, size_t)',
  trapCode: 'bool wasmtime_trap_code(void*, void*)',
  trapMessage: 'void wasm_trap_message(void*, void*)',
  trapTrace: 'void wasm_trap_trace(void*, void*)',
  trapDelete: 'void wasm_trap_delete(void*)',
  frameFunction: 'uint32_t wasm_frame_func_index(void*)',
  frameName: 'void* wasmtime_frame_func_name(void*)',
  frameOffset: 'size_t wasm_frame_module_offset(void*)',
  framesDelete: 'void wasm_frame_vec_delete(void*)',
  errorMessage: 'void wasmtime_error_message(void*, void*)',
  errorDelete: 'void wasmtime_error_delete(void*)',
  bytesDelete: 'void wasm_byte_vec_delete(void*)',
} as const;

type Functions = { readonly [name in keyof typeof declarations]: NativeFunction };
type Address = bigint;

/** `wasm_valkind_t`, and the kind byte of a `wasmtime_val_t`; the two differ for references. */
const typeKinds: Readonly<Record<ValueType, number>> = {
  i32: 0,
  i64: 1,
  f32: 2,
  f64: 3,
  v128: 4,
  externref: 128,
  funcref: 129,
};
const VALUE_FUNCREF = 5;
const EXTERN_KINDS = { function: 0, global: 1, table: 2, memory: 3 } as const;

/** `wasmtime_extern_t`: a kind, and at 8 the handle, 24 bytes at most. */
const EXTERN_BYTES = 40;
const HANDLE_BYTES = 24;
/** One slot of an unchecked call. */
const SLOT_BYTES = 16;
/** A trap's address, then slots. */
const FRAME_HEAD_BYTES = 16;
const FRAME_SLOTS = 1_024;

/** By `wasmtime_trap_code_enum`. A null element and one of another type are one kind, since V8 tells no difference. */
const trapKinds: readonly TrapKind[] = [
  'stack-overflow',
  'out-of-bounds-memory',
  'unaligned-atomic',
  'out-of-bounds-table',
  'indirect-call-mismatch',
  'indirect-call-mismatch',
  'integer-overflow',
  'integer-divide-by-zero',
  'invalid-conversion',
  'unreachable',
  'timeout',
  'out-of-gas',
  'other',
  'null-reference',
];
const UNCAUGHT_EXCEPTION = 49;
/** Of the trap that stands for an error of a host function. */
const HOST_MESSAGE = Buffer.from('host');

interface Opened {
  readonly path: string;
  readonly stoppable: boolean;
  /** Address of `wasmtime_trap_new`. */
  readonly trapNew: Address;
}

/**
 * Opens the library.
 * @param options `stoppable` (default true) lets `stopCall` end calls. It costs guest code a check in every loop and function, 1.4 times the time over
 * the benchmark's kernels; off, a call that does not end holds its thread, and the process, for good.
 * @throws IguanaError `IGU_WASM_ENGINE_MISSING` with how to get it; `IGU_WASM_UNSUPPORTED` on the main thread.
 */
export async function openWasmtime({
  stoppable = true,
}: {
  readonly stoppable?: boolean;
} = {}): Promise<WasmtimeEngine> {
  refuseMainThread('wasmtime');
  const path = requireLibrary(wasmtimePlace);
  const koffi = await loadKoffi('wasmtime');
  try {
    const library = loadForGood(koffi, path);
    const functions = Object.fromEntries(
      Object.entries(declarations).map(([name, declaration]) => [name, library.func(declaration)]),
    ) as Functions;
    return new WasmtimeEngine(koffi, functions, { path, stoppable, trapNew: library.symbol('wasmtime_trap_new') });
  } catch (error) {
    const what = `${path} cannot be used (${messageOf(error)})`;
    const fix = `give the library of Wasmtime ${wasmtimePlace.version}: \`iguana engines install wasmtime\``;
    throw new IguanaError('IGU_WASM_ENGINE_MISSING', { engine: 'wasmtime', what, fix }, { cause: error });
  }
}

/**
 * Wasmtime. Cost: a call about 0.2 µs, a host function 0.4 µs, an instance 15 µs; compiling is slow (1 to 5 s a MB; baseline a fifth of it), so keep
 * what `serialize` gives. Memory is not seen by the collector: close what is done.
 */
export class WasmtimeEngine implements Engine {
  readonly description: EngineDescription;
  readonly koffi: Koffi;
  readonly c: Functions;
  /** The instance whose guest code runs. */
  running: WasmtimeInstance | undefined;
  readonly gate: HostGate;
  readonly #callback: Address;
  readonly #message: NativeBlock;
  /** For what a function of the library gives back beside its result. */
  readonly out: NativeBlock;
  readonly owned = new Set<{ close(): void }>();
  readonly #copy: (to: Address, from: Address, bytes: number) => void;
  readonly #frames: NativeBlock[] = [];
  readonly #nesting = new Nesting(() => {
    this.running = undefined;
    this.#hostDepth = 0;
  });
  /** Where a host function's slots are copied to, by how deep host functions are nested. */
  readonly #hostFrames: NativeBlock[] = [];
  #hostDepth = 0;
  readonly stoppable: boolean;
  readonly stopper: Stopper | 'never';
  readonly #engines: Readonly<Record<'optimised' | 'baseline', Address>>;
  #closed = false;

  constructor(koffi: Koffi, functions: Functions, { path, stoppable, trapNew }: Opened) {
    this.koffi = koffi;
    this.c = functions;
    this.stoppable = stoppable;
    this.#engines = { optimised: this.#makeEngine('optimised'), baseline: this.#makeEngine('baseline') };
    this.stopper = stoppable
      ? { library: path, clocks: Object.values(this.#engines), state: new SharedArrayBuffer(4) }
      : 'never';
    this.out = new NativeBlock(koffi, 128);
    this.#copy = memoryCopy(koffi);
    hostPrototype ??= koffi.pointer(koffi.proto('void* IguanaWasmtimeHost(size_t, void*, void*, size_t)'));
    this.#callback = koffi.register(
      (cell: number, _caller: Address, slots: Address, count: number) => this.#callHost(cell, slots, count),
      hostPrototype,
    );
    const message = new NativeBlock(koffi, HOST_MESSAGE.length);
    message.bytes.set(HOST_MESSAGE);
    this.#message = message;
    this.gate = new HostGate(koffi, this.#callback, {
      make: trapNew,
      arguments: [message.address, BigInt(HOST_MESSAGE.length)],
    });
    this.description = {
      name: 'wasmtime',
      version: wasmtimePlace.version,
      host: 'native',
      tiers: ['optimised', 'baseline'],
      // a shared memory would have to be made outside of the module
      features: featuresOf((bytes) => this.#valid(bytes)).filter((feature) => feature !== 'threads'),
    };
  }

  compile(module: PreparedModule, wanted?: Tier): CompiledModule {
    const tier = checkAbility(this.description, module.info.features, wanted);
    const engine = this.#engine(tier);
    return withBytes(this.koffi, module.bytes, (address, length) => {
      const error = this.c.moduleNew(engine, address, length, this.out.address);
      if (error !== null) throw this.#invalid(this.takeError(error as Address));
      return this.#made(module, tier, engine);
    });
  }

  load(module: PreparedModule, code: Uint8Array, wanted?: Tier): CompiledModule | undefined {
    const tier = checkAbility(this.description, module.info.features, wanted);
    const engine = this.#engine(tier);
    return withBytes(this.koffi, code, (address, length) => {
      const error = this.c.moduleDeserialize(engine, address, length, this.out.address);
      if (error === null) return this.#made(module, tier, engine);
      this.takeError(error as Address);
      return undefined;
    });
  }

  /** Closes all that was made by it. */
  close(): void {
    if (this.#closed) return;
    for (const one of [...this.owned]) one.close();
    this.#closed = true;
    if (this.stopper !== 'never') closeStopper(this.stopper);
    for (const engine of Object.values(this.#engines)) this.c.engineDelete(engine);
    this.koffi.unregister(this.#callback);
  }

  /** Memory for one call's values, by how deep calls are nested. */
  enter(): NativeBlock {
    const depth = this.#nesting.enter();
    let frame = this.#frames[depth];
    if (!frame) {
      frame = new NativeBlock(this.koffi, FRAME_HEAD_BYTES + FRAME_SLOTS * SLOT_BYTES);
      this.#frames.push(frame);
    }
    return frame;
  }

  leave(): void {
    this.#nesting.leave();
  }

  /** The text of an error, which is deleted. */
  takeError(error: Address): string {
    this.c.errorMessage(error, this.out.address);
    this.c.errorDelete(error);
    return this.takeBytes();
  }

  /** The text of the byte vector at `out`, which is deleted. */
  takeBytes(): string {
    const text = Buffer.from(this.readBytes(this.out.address)).toString();
    this.c.bytesDelete(this.out.address);
    return text;
  }

  /** A copy of what a `{size, data}` at an address holds. */
  readBytes(vector: Address): Uint8Array<ArrayBuffer> {
    const head = new DataView(this.koffi.view(vector, 16));
    const size = Number(head.getBigUint64(0, true));
    return size === 0 ? new Uint8Array(0) : new Uint8Array(this.koffi.view(head.getBigUint64(8, true), size)).slice();
  }

  /** What a trap says, in our words; it is deleted. */
  takeTrap(trap: Address, module: PreparedModule): WasmTrap {
    const { c, out } = this;
    const code = c.trapCode(trap, out.address) ? out.view.getUint8(0) : undefined;
    c.trapMessage(trap, out.address);
    const message = this.takeBytes().replace(/\0$/, '');
    const names: string[] = [];
    let place: number | undefined;
    c.trapTrace(trap, out.address);
    const count = Number(out.view.getBigUint64(0, true));
    const frames = out.pointer(8);
    if (count > 0 && frames !== null) {
      const addresses = new BigUint64Array(this.koffi.view(frames, count * 8)).slice();
      for (const frame of addresses) {
        const name = c.frameName(frame) as Address | null;
        const index = c.frameFunction(frame) as number;
        names.push(name === null ? `wasm-function[${index}]` : Buffer.from(this.readBytes(name)).toString());
        place ??= c.frameOffset(frame) as number;
      }
    }
    c.framesDelete(out.address);
    c.trapDelete(trap);
    return new WasmTrap(kindOf(code, module.bytes, place), names, { cause: new Error(message) });
  }

  #valid(bytes: Uint8Array): boolean {
    return withBytes(this.koffi, bytes, (address, length) => {
      const error = this.c.moduleValidate(this.#engine('optimised'), address, length) as Address | null;
      if (error !== null) this.c.errorDelete(error);
      return error === null;
    });
  }

  #engine(tier: Tier): Address {
    if (this.#closed) throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open engine', name: 'wasmtime', of: '' });
    return this.#engines[tier as 'optimised' | 'baseline'];
  }

  #makeEngine(tier: 'optimised' | 'baseline'): Address {
    const config = this.c.configNew() as Address;
    this.c.configStrategy(config, tier === 'baseline' ? 2 : 1);
    this.c.configAsyncStack(config, 2 * wasmEngineLimits.guestStackBytes);
    this.c.configStack(config, wasmEngineLimits.guestStackBytes);
    this.c.configEpochs(config, this.stoppable);
    // views of a memory stay good while it grows
    this.c.configMayMove(config, false);
    return this.c.engineNew(config) as Address;
  }

  #made(module: PreparedModule, tier: Tier, engine: Address): CompiledModule {
    return new WasmtimeModule(this, module, tier, engine, this.out.pointer(0)!);
  }

  #invalid(what: string): IguanaError {
    return new IguanaError('IGU_WASM_INVALID', { engine: 'wasmtime', what });
  }

  /** Guest code calls an import. Nothing may be thrown through the library: the error waits in the instance until the guest has unwound. */
  #callHost(cell: number, slots: Address, count: number): Address | null {
    const index = this.gate.indexOf(cell);
    const instance = this.running!;
    const frame = this.#hostFrames[this.#hostDepth] ?? new NativeBlock(this.koffi, FRAME_SLOTS * SLOT_BYTES);
    this.#hostFrames[this.#hostDepth++] = frame;
    try {
      const bytes = count * SLOT_BYTES;
      if (bytes > 0) this.#copy(frame.address, slots, bytes);
      instance.host(index, frame.view);
      if (bytes > 0) this.#copy(slots, frame.address, bytes);
      this.#hostDepth--;
      this.running = instance;
      return this.gate.finish(index, null);
    } catch (error) {
      instance.pending = { error };
      this.#hostDepth--;
      this.running = instance;
      return this.gate.finish(index, this.c.trapNew(this.#message.address, HOST_MESSAGE.length) as Address);
    }
  }
}

/** Names of prototypes are global to koffi. */
let hostPrototype: object | undefined;

function kindOf(code: number | undefined, bytes: Uint8Array, place: number | undefined): TrapKind {
  if (code === UNCAUGHT_EXCEPTION) return 'uncaught-exception';
  const kind = code === undefined ? 'other' : (trapKinds[code] ?? 'other');
  return sameWord(kind, place === undefined ? undefined : bytes[place]);
}

class WasmtimeModule implements CompiledModule {
  readonly engine: WasmtimeEngine;
  readonly parsed: ParsedModule;
  /** Every function import; its place is the number of its cell. */
  readonly hosts: readonly { readonly module: string; readonly name: string; readonly type: FunctionType }[];
  readonly functionTypes: ReadonlyMap<string, FunctionType>;
  /** Of the library's engine. */
  readonly #native: Address;
  readonly #compiled: Address;
  readonly #linker: Address;
  readonly #pre: Address;
  #closed = false;

  constructor(
    engine: WasmtimeEngine,
    readonly module: PreparedModule,
    readonly tier: Tier,
    native: Address,
    compiled: Address,
  ) {
    const { c } = engine;
    this.engine = engine;
    this.#native = native;
    this.#compiled = compiled;
    this.#linker = c.linkerNew(native) as Address;
    try {
      this.parsed = parseModule(module.bytes);
      this.hosts = this.parsed.imports.map((one) => {
        if (one.kind === 'function') return one;
        throw unsupported(`an imported ${one.kind} (${one.module}.${one.name})`);
      });
      this.functionTypes = new Map(
        this.parsed.exports.flatMap((one) => (one.kind === 'function' ? [[one.name, one.type]] : [])),
      );
      this.#pre = this.#link();
    } catch (error) {
      c.linkerDelete(this.#linker);
      c.moduleDelete(compiled);
      throw error;
    }
    engine.owned.add(this);
  }

  instantiate(imports: HostImports): EngineInstance {
    if (this.#closed)
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open module', name: this.module.id, of: '' });
    const hosts = this.hosts.map(({ module, name }) => checkImport(module, name, 'function', imports) as RawFunction);
    return new WasmtimeInstance(this, this.#native, this.#pre, hosts);
  }

  serialize(): Uint8Array {
    const { c, out } = this.engine;
    const error = c.moduleSerialize(this.#compiled, out.address);
    if (error !== null)
      throw new IguanaError('IGU_WASM_INVALID', { engine: 'wasmtime', what: this.engine.takeError(error as Address) });
    const code = this.engine.readBytes(out.address);
    c.bytesDelete(out.address);
    return code;
  }

  /** Instances live on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.engine.owned.delete(this);
    this.engine.c.preDelete(this.#pre);
    this.engine.c.linkerDelete(this.#linker);
    this.engine.c.moduleDelete(this.#compiled);
  }

  /** Every import becomes the one gate with its number; which function that is, the running instance knows. */
  #link(): Address {
    const { c, out, koffi } = this.engine;
    c.linkerShadowing(this.#linker, true);
    this.hosts.forEach(({ module, name, type }, index) => {
      const functionType = this.#functionType(type);
      const error = withBytes(koffi, Buffer.from(module), (moduleAddress, moduleLength) =>
        withBytes(koffi, Buffer.from(name), (nameAddress, nameLength) =>
          c.linkerDefine(
            this.#linker,
            moduleAddress,
            moduleLength,
            nameAddress,
            nameLength,
            functionType,
            this.engine.gate.address,
            this.engine.gate.cell(index),
            null,
          ),
        ),
      );
      c.functypeDelete(functionType);
      if (error !== null)
        throw new IguanaError('IGU_WASM_LINK', { module, name, what: this.engine.takeError(error as Address) });
    });
    const error = c.linkerPre(this.#linker, this.#compiled, out.address);
    if (error !== null)
      throw new IguanaError('IGU_WASM_INVALID', { engine: 'wasmtime', what: this.engine.takeError(error as Address) });
    return out.pointer(0)!;
  }

  #functionType({ params, results }: FunctionType): Address {
    const { c, koffi } = this.engine;
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
}

/** An export of one instance: kept as long as the instance. */
type ExportKind = keyof typeof EXTERN_KINDS;

class WasmtimeInstance implements EngineInstance {
  pending: { error: unknown } | undefined;
  readonly of: WasmtimeModule;
  readonly context: Address;
  readonly #store: Address;
  readonly #instance: NativeBlock;
  readonly #hosts: readonly RawFunction[];
  readonly #exports = new Map<string, NativeBlock>();
  readonly #keeper: ViewKeeper;
  readonly #views = new Map<string, Uint8Array>();
  readonly tables: TableAccess;
  /** Calls that are under way: a host function may close the instance that called it. */
  #calls = 0;
  #closed = false;

  constructor(of: WasmtimeModule, native: Address, pre: Address, hosts: readonly RawFunction[]) {
    const { c, koffi, out } = of.engine;
    this.of = of;
    this.#hosts = hosts;
    this.#store = c.storeNew(native, null, null) as Address;
    this.context = c.storeContext(this.#store) as Address;
    this.#instance = new NativeBlock(koffi, 16);
    this.#keeper = new ViewKeeper(koffi);
    this.tables = new WasmtimeTables(this);
    // segments are written by compiled code too
    if (of.engine.stoppable) c.setDeadline(this.context, 1);
    out.view.setBigUint64(0, 0n, true);
    const error = c.preInstantiate(pre, this.context, this.#instance.address, out.address) as Address | null;
    const trap = out.pointer(0);
    of.engine.owned.add(this);
    if (error === null && trap === null) return;
    const reason = error === null ? undefined : of.engine.takeError(error);
    const failure = trap === null ? undefined : of.engine.takeTrap(trap, of.module);
    this.close();
    throw (
      failure ??
      new IguanaError('IGU_WASM_LIMIT', {
        what: `what a new instance needs (${reason})`,
        value: 'more',
        limit: 'what is left',
        fix: 'destroy instances that are not used any more, or lower their limits',
      })
    );
  }

  function(name: string): RawFunction {
    const type = this.of.functionTypes.get(name);
    if (!type) throw notExported('function', name, this.of);
    const odd = [...type.params, ...type.results].find((one) => !(one in numberReaders));
    if (odd) throw unsupported(`calling ${name}, which has a value of type ${odd},`);
    const handle = this.handle(name, 'function').address;
    const writers = type.params.map((one) => numberWriters[one as NumberType]);
    const readers = type.results.map((one) => numberReaders[one as NumberType]);
    const slots = Math.max(writers.length, readers.length);
    const { engine } = this.of;
    const { call, setDeadline } = engine.c;
    const read = readers[0];
    return (...args) => {
      this.checkOpen();
      const before = engine.running;
      const frame = engine.enter();
      this.#calls++;
      try {
        const { view } = frame;
        view.setBigUint64(0, 0n, true);
        for (let i = 0; i < writers.length; i++) writers[i]!(view, FRAME_HEAD_BYTES + SLOT_BYTES * i, args[i]);
        engine.running = this;
        if (engine.stoppable && this.#calls === 1) setDeadline(this.context, 1);
        const error = call(this.context, handle, frame.address + HEAD, slots, frame.address);
        if (error !== null || view.getBigUint64(0, true) !== 0n)
          throw this.#failure(error as Address | null, frame.pointer(0));
        if (readers.length === 1) return read!(view, FRAME_HEAD_BYTES);
        if (readers.length === 0) return undefined;
        return readers.map((one, i) => one(view, FRAME_HEAD_BYTES + SLOT_BYTES * i));
      } finally {
        engine.running = before;
        engine.leave();
        this.#done();
      }
    };
  }

  /** Runs the import with that number on its slots, which then hold the results. */
  host(number: number, slots: DataView): void {
    const { type } = this.of.hosts[number]!;
    const args = type.params.map((one, i) => reader(one)(slots, SLOT_BYTES * i));
    const given = this.#hosts[number]!(...args);
    if (type.results.length === 1) writer(type.results[0]!)(slots, 0, given);
    else if (type.results.length > 1) {
      const values = [...(given as Iterable<RawValue>)];
      type.results.forEach((one, i) => {
        writer(one)(slots, SLOT_BYTES * i, values[i]);
      });
    }
  }

  memory(name: string): Uint8Array {
    const { c } = this.of.engine;
    const { address } = this.handle(name, 'memory');
    const size = c.memorySize(this.context, address) as number;
    const kept = this.#views.get(name);
    if (kept?.length === size) return kept;
    const data = c.memoryData(this.context, address) as Address | null;
    const view = size === 0 || data === null ? new Uint8Array(0) : this.#keeper.view(data, size);
    this.#views.set(name, view);
    return view;
  }

  growMemory(name: string, pages: number): boolean {
    const { c, out } = this.of.engine;
    return this.#fine(c.memoryGrow(this.context, this.handle(name, 'memory').address, pages, out.address));
  }

  getGlobal(name: string): RawValue {
    const { c, out } = this.of.engine;
    c.globalGet(this.context, this.handle(name, 'global').address, out.address);
    return this.value();
  }

  setGlobal(name: string, value: RawValue): void {
    const { c, out } = this.of.engine;
    const { address } = this.handle(name, 'global');
    c.globalGet(this.context, address, out.address);
    const kind = out.view.getUint8(0);
    if (kind === VALUE_FUNCREF) this.putReference(value);
    else writer(kindNames[kind] ?? 'externref')(out.view, 8, value);
    const error = c.globalSet(this.context, address, out.address) as Address | null;
    if (error === null) return;
    throw new IguanaError('IGU_WASM_NOT_FOUND', {
      kind: 'mutable global',
      name,
      of: ` (${this.of.engine.takeError(error)})`,
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#views.clear();
    const { engine } = this.of;
    engine.owned.delete(this);
    if (this.#calls === 0) this.#release();
  }

  #done(): void {
    this.#calls--;
    if (this.#closed && this.#calls === 0) this.#release();
  }

  #release(): void {
    this.#keeper.releaseWhenUnseen(() => this.of.engine.c.storeDelete(this.#store));
  }

  checkOpen(): void {
    if (this.#closed)
      throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open instance', name: '', of: this.of.module.id });
  }

  /** The handle of an export, 24 bytes. */
  handle(name: string, kind: ExportKind): NativeBlock {
    this.checkOpen();
    const key = `${kind} ${name}`;
    let handle = this.#exports.get(key);
    if (!handle) {
      const { c, koffi, out } = this.of.engine;
      const found = withBytes(koffi, Buffer.from(name), (address, length) =>
        c.exportGet(this.context, this.#instance.address, address, length, out.address),
      );
      if (!found || out.view.getUint8(0) !== EXTERN_KINDS[kind]) throw notExported(kind, name, this.of);
      handle = new NativeBlock(koffi, HANDLE_BYTES);
      handle.bytes.set(out.bytes.subarray(8, 8 + HANDLE_BYTES));
      this.#exports.set(key, handle);
    }
    return handle;
  }

  /** The value at `out`. */
  value(): RawValue {
    const { out } = this.of.engine;
    const kind = out.view.getUint8(0);
    if (kind !== VALUE_FUNCREF) return reader(kindNames[kind] ?? 'externref')(out.view, 8);
    return out.view.getBigUint64(8, true) === 0n ? null : this.referenceAt(out.address + 8n);
  }

  referenceAt(handle: Address): Reference {
    const { c, koffi } = this.of.engine;
    const identity = c.functionIdentity(this.context, handle) as Address;
    return new Reference(this, new Uint8Array(koffi.view(handle, 16)).slice(), identity);
  }

  /** Writes a function reference to `out` as a value. */
  putReference(reference: RawValue): void {
    const { out } = this.of.engine;
    if (reference !== null && !(reference instanceof Reference && reference.of === this)) {
      throw unsupported('a reference that is not of this instance');
    }
    out.bytes.fill(0, 0, EXTERN_BYTES);
    out.view.setUint8(0, VALUE_FUNCREF);
    if (reference !== null) out.bytes.set(reference.handle, 8);
  }

  #fine(error: unknown): boolean {
    if (error !== null) this.of.engine.takeError(error as Address);
    return error === null;
  }

  #failure(error: Address | null, trap: Address | null): unknown {
    const { engine, module } = this.of;
    const { pending } = this;
    this.pending = undefined;
    const reason = error === null ? '' : engine.takeError(error);
    const failure =
      trap === null ? new WasmTrap('other', [], { cause: new Error(reason) }) : engine.takeTrap(trap, module);
    return pending ? pending.error : failure;
  }
}

const HEAD = BigInt(FRAME_HEAD_BYTES);

class Reference {
  constructor(
    readonly of: WasmtimeInstance,
    readonly handle: Uint8Array,
    readonly identity: Address,
  ) {}
}

class WasmtimeTables implements TableAccess {
  readonly #of: WasmtimeInstance;

  constructor(of: WasmtimeInstance) {
    this.#of = of;
  }

  length(name: string): number {
    return Number(this.#c.tableSize(this.#of.context, this.#table(name)));
  }

  grow(name: string, elements: number): boolean {
    const { out } = this.#of.of.engine;
    const table = this.#table(name);
    this.#of.putReference(null);
    const error = this.#c.tableGrow(this.#of.context, table, elements, out.address, out.address + 64n);
    if (error !== null) this.#of.of.engine.takeError(error as Address);
    return error === null;
  }

  get(name: string, index: number): RawValue {
    const table = this.#table(name);
    if (!this.#c.tableGet(this.#of.context, table, index, this.#of.of.engine.out.address)) {
      throw new WasmTrap('out-of-bounds-table');
    }
    return this.#of.value();
  }

  set(name: string, index: number, reference: RawValue): void {
    const { out } = this.#of.of.engine;
    const table = this.#table(name);
    this.#of.putReference(reference);
    const error = this.#c.tableSet(this.#of.context, table, index, out.address);
    if (error === null) return;
    throw new WasmTrap('out-of-bounds-table', [], { cause: new Error(this.#of.of.engine.takeError(error as Address)) });
  }

  reference(functionName: string): RawValue {
    return this.#of.referenceAt(this.#of.handle(functionName, 'function').address);
  }

  same(a: RawValue, b: RawValue): boolean {
    if (!(a instanceof Reference) || !(b instanceof Reference)) return a === b;
    return a.identity === b.identity;
  }

  get #c(): Functions {
    return this.#of.of.engine.c;
  }

  #table(name: string): Address {
    return this.#of.handle(name, 'table').address;
  }
}

const kindNames: readonly ValueType[] = ['i32', 'i64', 'f32', 'f64', 'v128'];

function writer(type: ValueType): (view: DataView, at: number, value: RawValue) => void {
  const found = numberWriters[type as NumberType];
  if (!found) throw unsupported(`a value of type ${type} between host and guest`);
  return found;
}

function reader(type: ValueType): (view: DataView, at: number) => RawValue {
  const found = numberReaders[type as NumberType];
  if (!found) throw unsupported(`a value of type ${type} between host and guest`);
  return found;
}

function unsupported(what: string): IguanaError {
  const fix = 'use the native engine for this module';
  return new IguanaError('IGU_WASM_UNSUPPORTED', { what, where: ` by wasmtime ${wasmtimePlace.version}`, fix });
}
