/**
 * WebAssembly through C: `wasm2c` translates a module, the C compiler of this machine optimises it, and the shared object runs in this process. The fastest
 * way to run a module that changes rarely, and the dearest to prepare.
 *
 * One file, since instances, calls in and calls out lean on the same slots.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { delimiter, join } from 'node:path';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmAotLimits } from '../../limits.js';
import { checkAbility, checkImport, notExported } from '../engines/checks.js';
import type {
  CompiledModule,
  Engine,
  EngineDescription,
  EngineInstance,
  HostImports,
  Tier,
} from '../engines/engine.js';
import {
  type Koffi,
  loadForGood,
  loadKoffi,
  NativeBlock,
  type NativeFunction,
  refuseMainThread,
  ViewKeeper,
} from '../engines/native-library.js';
import { type ParsedModule, parseModule } from '../module/parse-module.js';
import type { PreparedModule } from '../module/prepared.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import type { FunctionType, RawFunction, RawValue, ValueType } from '../types.js';
import { type BlobIdentity, BlobStore, codeDirectory, contentHash } from './blob-store.js';
import { callable, checkTranslatable, patched, renamed, sourceOf } from './wasm2c-source.js';

const knownVersion = '1.0.32';

/**
 * Contraction of a multiplication and an addition would change results; signalling NaNs and the order of roundings are kept as WebAssembly wants them.
 * `-march=native` fits since the code never leaves this processor.
 */
const compilerFlags = [
  '-std=gnu11',
  '-O3',
  '-march=native',
  '-ffp-contract=off',
  '-frounding-math',
  '-fsignaling-nans',
  '-fno-strict-aliasing',
  '-fno-optimize-sibling-calls',
  '-fPIC',
  '-shared',
  '-fvisibility=hidden',
  '-U_FORTIFY_SOURCE',
  '-fno-stack-protector',
  '-fcf-protection=none',
  '-w',
];

/** Codes of `wasm_rt_trap`, those of wasm-rt.h and our own. */
const traps: Readonly<Record<number, TrapKind>> = {
  1: 'out-of-bounds-memory',
  2: 'integer-overflow',
  3: 'integer-divide-by-zero',
  4: 'invalid-conversion',
  5: 'unreachable',
  6: 'indirect-call-mismatch',
  7: 'uncaught-exception',
  8: 'stack-overflow',
  20: 'out-of-bounds-table',
  21: 'undefined-element',
};
const TRAP_HOST = 22;

interface Tools {
  /** Path. */
  readonly wasm2c: string;
  /** Name and version. */
  readonly compiler: string;
}

/** @throws IguanaError `IGU_WASM_ENGINE_MISSING` naming what is not there and how to get it */
function findTools(): Tools {
  const missing = (what: string, fix: string) =>
    new IguanaError('IGU_WASM_ENGINE_MISSING', { engine: 'wasm2c', what, fix });
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw missing(
      `its calls are written for linux on x64, this is ${process.platform} on ${process.arch}`,
      'use `native`',
    );
  }
  const places = process.env.IGUANA_WASM2C
    ? [process.env.IGUANA_WASM2C]
    : (process.env.PATH ?? '').split(delimiter).map((directory) => join(directory, 'wasm2c'));
  const found = places.filter((place) => existsSync(place));
  const fix = `install wabt ${knownVersion}, as Debian 12 has it, or name its wasm2c by IGUANA_WASM2C`;
  if (found.length === 0) throw missing('no wasm2c is installed', fix);
  const versions = found.map((place) => ({ place, version: say(place, ['--version']) }));
  const wasm2c = versions.find(({ version }) => version === knownVersion);
  if (!wasm2c) throw missing(`wasm2c ${versions[0]?.version} writes other C than ${knownVersion}`, fix);
  const compiler = say('cc', ['-dumpfullversion', '-dumpversion']);
  if (compiler === undefined)
    throw missing('no C compiler is installed', 'install one (`apt-get install gcc libc6-dev`)');
  const first = say('cc', ['--version'])?.split('\n')[0] ?? '';
  return { wasm2c: wasm2c.place, compiler: `${/clang/.test(first) ? 'clang' : 'gcc'} ${compiler}` };
}

function say(program: string, args: string[]): string | undefined {
  try {
    const text = execFileSync(program, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 10_000,
    });
    return text.trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/**
 * Opens the engine `wasm2c` in this thread.
 *
 * Cost: compile half a second at least and minutes for several MB, once (the shared object is kept in the store); load 1 ms; call 0.2 µs, of a host
 * function 1 µs; an instance with a memory takes 8 GiB of addresses. A shared object stays loaded until the process ends, and a call cannot be stopped from
 * outside but with its process: run metered modules.
 *
 * @param store where shared objects are kept (default: `$XDG_CACHE_HOME/iguana/code`)
 * @throws IguanaError `IGU_WASM_ENGINE_MISSING` when wasm2c 1.0.32, a C compiler or koffi is missing; `IGU_WASM_UNSUPPORTED` on the main thread;
 * `IGU_WASM_CACHE`
 */
export async function openWasm2c(store?: BlobStore): Promise<Engine> {
  refuseMainThread('wasm2c');
  const tools = findTools();
  return new Wasm2cEngine(await loadKoffi('wasm2c'), tools, store ?? new BlobStore(codeDirectory()));
}

class Wasm2cEngine implements Engine {
  readonly description: EngineDescription;
  /** Machine code of a C compiler looks at nothing from outside. */
  readonly stopper = 'never';
  readonly #libraries = new Map<string, Library>();
  #stack: bigint | undefined;
  #freeStack: (() => void) | undefined;

  constructor(
    readonly koffi: Koffi,
    readonly tools: Tools,
    readonly store: BlobStore,
  ) {
    this.description = {
      name: 'wasm2c',
      version: `wasm2c ${knownVersion} + ${tools.compiler}`,
      host: 'native',
      tiers: ['optimised'],
      features: [
        'multi-value',
        'sign-extension',
        'non-trapping-conversion',
        'bulk-memory',
        'reference-types',
        'mutable-globals',
      ],
    };
  }

  compile(module: PreparedModule, wanted?: Tier): CompiledModule {
    const tier = checkAbility(this.description, module.info.features, wanted);
    if (!WebAssembly.validate(module.bytes)) {
      throw new IguanaError('IGU_WASM_INVALID', { engine: 'wasm2c', what: 'not a valid module' });
    }
    const parsed = parseModule(module.bytes);
    checkTranslatable(parsed, ` by ${this.description.version}`);
    const content = contentHash(module.bytes);
    let library = this.#libraries.get(content);
    if (!library) {
      library = new Library(this.koffi, this.#sharedObject(parsed, content));
      this.#libraries.set(content, library);
    }
    return new Wasm2cModule(this, module, tier, parsed, library);
  }

  /** One stack for all guests of this thread, made by the first library. */
  stack(library: Library): bigint {
    if (this.#stack === undefined) {
      const made = library.stackNew(wasmAotLimits.guestStackBytes) as bigint | null;
      if (made === null) throw outOfMemory('a stack for guests');
      this.#stack = made;
      this.#freeStack = () => library.stackFree(made, wasmAotLimits.guestStackBytes);
    }
    return this.#stack;
  }

  close(): void {
    this.#freeStack?.();
    this.#freeStack = undefined;
    this.#stack = undefined;
    this.#libraries.clear();
  }

  #sharedObject(parsed: ParsedModule, content: string): string {
    const identity: BlobIdentity = {
      kind: 'shared-object',
      engine: this.description.version,
      flags: contentHash(Buffer.from(`${compilerFlags.join(' ')}\n${cpus()[0]?.model}\n${sourceOf(parsed, '')}`)),
      content,
    };
    const kept = this.store.file(identity);
    if (kept.found !== undefined) return kept.found;
    const directory = this.store.temporary();
    const output = this.store.temporary();
    try {
      mkdirSync(directory, { mode: 0o700 });
      this.#build(parsed, directory, output);
      this.store.adopt(identity, output);
    } finally {
      rmSync(directory, { recursive: true, force: true });
      rmSync(output, { force: true });
    }
    const made = this.store.file(identity);
    if (made.found === undefined) throw new Error(`shared object just written is not there: ${made.why}`);
    return made.found;
  }

  #build(parsed: ParsedModule, directory: string, output: string): void {
    const { maxTranslatedBytes } = wasmAotLimits;
    if (parsed.bytes.length > maxTranslatedBytes) {
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: 'size of a module for the C compiler, bytes,',
        value: parsed.bytes.length,
        limit: maxTranslatedBytes,
        fix: 'use `native` or `wasmtime` for it',
      });
    }
    writeFileSync(join(directory, 'module.wasm'), renamed(parsed));
    tool(directory, this.tools.wasm2c, ['module.wasm', '-o', 'module.c', '-n', 'g', '--no-debug-names']);
    const translated = patched(readFileSync(join(directory, 'module.c'), 'utf8'));
    writeFileSync(join(directory, 'all.c'), sourceOf(parsed, translated));
    tool(directory, 'cc', [...compilerFlags, 'all.c', '-o', output, '-lm', '-lpthread']);
  }
}

function tool(directory: string, program: string, args: string[]): void {
  try {
    execFileSync(program, args, {
      cwd: directory,
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: wasmAotLimits.compileTimeoutMs,
      killSignal: 'SIGKILL',
    });
  } catch (error) {
    const said = String((error as { stderr?: Buffer }).stderr ?? '').slice(0, wasmAotLimits.maxMessage);
    const what = `${program} failed: ${said.split('\n').find((line) => /error/i.test(line)) ?? messageOf(error)}`;
    throw new IguanaError('IGU_WASM_INVALID', { engine: 'wasm2c', what }, { cause: error });
  }
}

function outOfMemory(what: string, cause?: unknown): IguanaError {
  return new IguanaError(
    'IGU_WASM_LIMIT',
    { what: `memory for ${what}`, value: 'asked for', limit: 'what the system has left', fix: 'destroy instances' },
    { cause },
  );
}

/** A module's shared object. */
class Library {
  readonly stackNew: NativeFunction;
  readonly stackFree: NativeFunction;
  readonly instantiate: NativeFunction;
  readonly free: NativeFunction;
  readonly call: NativeFunction;
  readonly address: NativeFunction;
  readonly memorySize: NativeFunction;
  readonly memoryGrow: NativeFunction;

  constructor(koffi: Koffi, file: string) {
    const library = loadForGood(koffi, file);
    this.stackNew = library.func('void* iguana_stack_new(uint64_t)');
    this.stackFree = library.func('void iguana_stack_free(void*, uint64_t)');
    this.instantiate = library.func('void* iguana_instantiate(void*, void*, void*, void*)');
    this.free = library.func('void iguana_free(void*)');
    this.call = library.func('int32_t iguana_call(void*, uint32_t, void*)');
    this.address = library.func('void* iguana_address(void*, uint32_t)');
    this.memorySize = library.func('uint64_t iguana_memory_size(void*, uint32_t)');
    this.memoryGrow = library.func('int32_t iguana_memory_grow(void*, uint32_t, uint32_t)');
  }
}

class Wasm2cModule implements CompiledModule {
  /** By name. */
  readonly exports: ReadonlyMap<string, { readonly number: number; readonly item: ParsedModule['exports'][number] }>;

  constructor(
    readonly engine: Wasm2cEngine,
    readonly module: PreparedModule,
    readonly tier: Tier,
    readonly parsed: ParsedModule,
    readonly library: Library,
  ) {
    this.exports = new Map(parsed.exports.map((item, number) => [item.name, { number, item }]));
  }

  instantiate(imports: HostImports): EngineInstance {
    return new Wasm2cInstance(this, imports);
  }

  close(): void {
    // other instances of the same code may run: it stays loaded
  }
}

type Reader = (slot: number) => RawValue;
type Writer = (slot: number, value: RawValue) => void;

function readers(view: DataView): Partial<Record<ValueType, Reader>> {
  return {
    i32: (slot) => view.getInt32(slot * 8, true),
    i64: (slot) => view.getBigInt64(slot * 8, true),
    f32: (slot) => view.getFloat32(slot * 8, true),
    f64: (slot) => view.getFloat64(slot * 8, true),
  };
}

function writers(view: DataView): Partial<Record<ValueType, Writer>> {
  return {
    i32: (slot, value) => view.setInt32(slot * 8, value as number, true),
    i64: (slot, value) => view.setBigInt64(slot * 8, value as bigint, true),
    f32: (slot, value) => view.setFloat32(slot * 8, value as number, true),
    f64: (slot, value) => view.setFloat64(slot * 8, value as number, true),
  };
}

let prototype: object | undefined;

class Wasm2cInstance implements EngineInstance {
  readonly #of: Wasm2cModule;
  readonly #keeper: ViewKeeper;
  /** Arguments and results of calls into the guest; read before the guest runs, written after, so that nested calls may share it. */
  readonly #slots: NativeBlock;
  readonly #hostSlots: NativeBlock;
  readonly #host: bigint | undefined;
  readonly #self: bigint;
  readonly #views = new Map<string, { readonly size: number; readonly bytes: Uint8Array }>();
  readonly #globals = new Map<string, DataView>();
  #thrown: { readonly error: unknown } | undefined;
  #calls = 0;
  #closed = false;

  constructor(of: Wasm2cModule, imports: HostImports) {
    this.#of = of;
    const { koffi } = of.engine;
    const widest = of.parsed.types.reduce((most, type) => Math.max(most, type.params.length, type.results.length), 1);
    this.#keeper = new ViewKeeper(koffi);
    this.#slots = new NativeBlock(koffi, 8 * widest);
    this.#hostSlots = new NativeBlock(koffi, 8 * widest);
    const functions = of.parsed.imports.map((item) => {
      const given = checkImport(item.module, item.name, item.kind, imports) as RawFunction;
      if (item.kind !== 'function') throw new Error('imports other than functions were refused when compiling');
      return this.#outward(given, item.type);
    });
    if (functions.length > 0) {
      prototype ??= koffi.pointer(koffi.proto('int32_t IguanaWasm2cHost(uint32_t)'));
      this.#host = koffi.register((index: number) => functions[index]!(), prototype);
    }
    const code = new NativeBlock(koffi, 4);
    const stack = of.engine.stack(of.library);
    const made = of.library.instantiate(stack, this.#host ?? null, this.#hostSlots.address, code.address);
    if (made === null) {
      this.#unregister();
      throw this.#failure(code.view.getInt32(0, true));
    }
    this.#self = made as bigint;
  }

  function(name: string): RawFunction {
    const { number, item } = this.#export(name, 'function');
    if (item.kind !== 'function') throw notExported('function', name, this.#of);
    const { params, results } = item.type;
    if (!callable(item.type)) {
      const fix = 'use `native` for it';
      const where = ` by ${this.#of.engine.description.version}`;
      throw new IguanaError('IGU_WASM_UNSUPPORTED', { what: `calling ${name} with references or vectors`, where, fix });
    }
    const write = params.map((type) => writers(this.#slots.view)[type]!);
    const read = results.map((type) => readers(this.#slots.view)[type]!);
    const { call } = this.#of.library;
    const [self, slots] = [this.#self, this.#slots.address];
    return (...args) => {
      if (this.#closed) throw notExported('function', name, this.#of);
      for (let at = 0; at < write.length; at++) write[at]!(at, args[at]);
      this.#calls++;
      let code: number;
      try {
        code = call(self, number, slots) as number;
      } finally {
        this.#calls--;
        if (this.#closed && this.#calls === 0) this.#release();
      }
      if (code !== 0) throw this.#failure(code);
      return read.length === 1 ? read[0]!(0) : read.length === 0 ? undefined : read.map((get, at) => get(at));
    };
  }

  memory(name: string): Uint8Array {
    const { number } = this.#export(name, 'memory');
    const size = Number(this.#of.library.memorySize(this.#self, number));
    const before = this.#views.get(name);
    if (before?.size === size) return before.bytes;
    const address = this.#of.library.address(this.#self, number) as bigint;
    const bytes = size === 0 ? new Uint8Array(0) : this.#keeper.view(address, size);
    this.#views.set(name, { size, bytes });
    return bytes;
  }

  growMemory(name: string, pages: number): boolean {
    const { number } = this.#export(name, 'memory');
    return this.#of.library.memoryGrow(this.#self, number, pages) === 0;
  }

  getGlobal(name: string): RawValue {
    const { view, type } = this.#global(name);
    return readers(view)[type]!(0);
  }

  setGlobal(name: string, value: RawValue): void {
    const { view, type } = this.#global(name);
    writers(view)[type]!(0, value);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#views.clear();
    this.#globals.clear();
    if (this.#calls === 0) this.#release();
  }

  /** Not before the last call has returned: a host function may close the instance that called it. */
  #release(): void {
    this.#unregister();
    const { library } = this.#of;
    const self = this.#self;
    this.#keeper.releaseWhenUnseen(() => library.free(self));
  }

  #global(name: string): { view: DataView; type: ValueType } {
    const { number, item } = this.#export(name, 'global');
    if (item.kind !== 'global' || !callable({ params: [item.type], results: [] })) {
      throw notExported('global of a number type', name, this.#of);
    }
    let view = this.#globals.get(name);
    if (!view) {
      const address = this.#of.library.address(this.#self, number) as bigint;
      const width = item.type === 'i32' || item.type === 'f32' ? 4 : 8;
      const bytes = this.#keeper.view(address, width);
      view = new DataView(bytes.buffer, bytes.byteOffset, width);
      this.#globals.set(name, view);
    }
    return { view, type: item.type };
  }

  #export(name: string, kind: 'function' | 'memory' | 'global') {
    const found = this.#closed ? undefined : this.#of.exports.get(name);
    if (found?.item.kind !== kind) throw notExported(kind, name, this.#of);
    return found;
  }

  /** What C calls for one import: 0, or 1 when the host function threw. */
  #outward(run: RawFunction, { params, results }: FunctionType): () => number {
    const { view } = this.#hostSlots;
    const read = params.map((type) => readers(view)[type]!);
    const write = results.map((type) => writers(view)[type]!);
    return () => {
      try {
        const result = run(...read.map((get, at) => get(at)));
        if (write.length === 1) write[0]!(0, this.#asType(result, results[0]!));
        else if (write.length > 1) {
          const values = [...(result as Iterable<RawValue>)];
          write.forEach((put, at) => {
            put(at, this.#asType(values[at], results[at]!));
          });
        }
        return 0;
      } catch (error) {
        this.#thrown = { error };
        return 1;
      }
    };
  }

  /** As the JavaScript interface converts what a host function returns. */
  #asType(value: RawValue, type: ValueType): RawValue {
    return type === 'i64' ? BigInt.asIntN(64, value as bigint) : Number(value);
  }

  #failure(code: number): unknown {
    const thrown = this.#thrown;
    this.#thrown = undefined;
    if (code === TRAP_HOST && thrown) {
      const { error } = thrown;
      const deep = error instanceof RangeError && error.message.startsWith('Maximum call stack size');
      return deep ? new WasmTrap('stack-overflow', [], { cause: error }) : error;
    }
    const trap = traps[code];
    return trap ? new WasmTrap(trap) : outOfMemory('a new instance');
  }

  #unregister(): void {
    if (this.#host !== undefined) this.#of.engine.koffi.unregister(this.#host);
  }
}
