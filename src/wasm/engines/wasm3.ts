/**
 * wasm3, the interpreter, itself compiled to WebAssembly: it runs boxed inside V8, one box a guest instance, so that a fault of the interpreter stays in
 * the box and closing is forgetting. Built by `iguana engines install wasm3` from the published sources and `wasm3-shim.c`, whose functions are called
 * here. wasm3 trusts its input, so V8 validates every module first.
 */
import { readFileSync } from 'node:fs';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmEngineLimits } from '../../limits.js';
import { ByteReader } from '../module/byte-reader.js';
import { type ParsedModule, parseModule } from '../module/parse-module.js';
import type { PreparedModule } from '../module/prepared.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import {
  type ExportInfo,
  type FunctionType,
  PAGE_BYTES,
  type RawFunction,
  type RawValue,
  type ValueType,
} from '../types.js';
import { checkAbility, checkImport, notExported } from './checks.js';
import type {
  CompiledModule,
  Engine,
  EngineDescription,
  EngineInstance,
  HostImports,
  TableAccess,
  Tier,
} from './engine.js';
import { requireLibrary, wasm3Place } from './native-library.js';
import { Nesting } from './nesting.js';

type Box = { readonly [name in BoxFunction]: (...args: number[]) => number } & { readonly memory: WebAssembly.Memory };
type BoxFunction =
  | '_initialize'
  | 'allocate'
  | 'slots'
  | 'parse'
  | 'load'
  | 'compile'
  | 'recover'
  | 'call'
  | 'hostError'
  | 'trace'
  | 'frames'
  | 'memory_address'
  | 'memory_pages'
  | 'memory_grow'
  | 'global_get'
  | 'global_set'
  | 'table_size'
  | 'table_get'
  | 'table_set'
  | 'table_grow';

/** By wasm3's own texts. A null element and one of another type are one kind, since V8 tells no difference. */
const trapKinds: Readonly<Record<string, TrapKind>> = {
  '[trap] out of bounds memory access': 'out-of-bounds-memory',
  '[trap] integer divide by zero': 'integer-divide-by-zero',
  '[trap] integer overflow': 'integer-overflow',
  '[trap] invalid conversion to integer': 'invalid-conversion',
  '[trap] indirect call type mismatch': 'indirect-call-mismatch',
  '[trap] null table element': 'indirect-call-mismatch',
  '[trap] undefined element': 'undefined-element',
  '[trap] unreachable executed': 'unreachable',
  '[trap] stack overflow': 'stack-overflow',
  'data segment out of bounds': 'out-of-bounds-memory',
  'table element out of bounds': 'out-of-bounds-table',
};

/** "function not there", the answer to what wasm3's C library asks of a system it does not have. */
const ENOSYS = 52;

/** @throws IguanaError `IGU_WASM_ENGINE_MISSING` with how to get it. */
export async function openWasm3(): Promise<Engine> {
  const path = requireLibrary(wasm3Place);
  try {
    return new Wasm3Engine(new WebAssembly.Module(new Uint8Array(readFileSync(path))));
  } catch (error) {
    const what = `${path} cannot be used (${messageOf(error)})`;
    const fix = '`iguana engines install wasm3` builds it anew';
    throw new IguanaError('IGU_WASM_ENGINE_MISSING', { engine: 'wasm3', what, fix }, { cause: error });
  }
}

/** Cost: a call about 0.5 µs; an instance some 100 µs and 2 MB with its box; code runs 20 to 60 times slower than V8's. */
class Wasm3Engine implements Engine {
  readonly description: EngineDescription = {
    name: 'wasm3',
    version: wasm3Place.version,
    host: 'v8',
    tiers: ['interpreter'],
    features: ['multi-value', 'sign-extension', 'non-trapping-conversion', 'bulk-memory', 'mutable-globals'],
  };

  constructor(readonly wasm3: WebAssembly.Module) {}

  compile(module: PreparedModule, wanted?: Tier): CompiledModule {
    checkAbility(this.description, module.info.features, wanted);
    if (!WebAssembly.validate(module.bytes)) throw invalid(reasonOf(module.bytes));
    const parsed = parseModule(module.bytes);
    refuseWhatIsMissing(parsed);
    const compiled = new Wasm3Module(this, module, parsed);
    compiled.check();
    return compiled;
  }

  close(): void {
    // the collector finds it all
  }
}

function reasonOf(bytes: Uint8Array<ArrayBuffer>): string {
  try {
    new WebAssembly.Module(bytes);
    return 'it is not valid';
  } catch (error) {
    return messageOf(error);
  }
}

function refuseWhatIsMissing(parsed: ParsedModule): void {
  const odd = parsed.imports.find((one) => one.kind !== 'function');
  if (odd) throw unsupported(`an imported ${odd.kind} (${odd.module}.${odd.name})`);
  if (parsed.memories.length > 1) throw unsupported('a second memory');
  if (parsed.tables.length > 1) throw unsupported('a second table');
  if (parsed.elements.some(({ mode }) => mode !== 'active')) throw unsupported('a passive element segment');
  if (hasPassiveData(parsed)) throw unsupported('a passive data segment');
}

function hasPassiveData({ bytes, data }: ParsedModule): boolean {
  if (!data) return false;
  const reader = new ByteReader(bytes, data.from, data.to);
  for (let left = reader.u32(); left > 0; left--) {
    if (reader.u32() === 1) return true;
    // an offset of one constant or global, and the end; V8 has seen that it is one
    const opcode = reader.u8();
    if (opcode !== 0x41 && opcode !== 0x23) throw unsupported('an offset that is computed');
    while (reader.u8() >= 0x80);
    reader.u8();
    reader.skip(reader.u32());
  }
  return false;
}

class Wasm3Module implements CompiledModule {
  readonly tier = 'interpreter';
  readonly exports: ReadonlyMap<string, ExportInfo>;
  readonly hosts: readonly { readonly module: string; readonly name: string; readonly type: FunctionType }[];

  constructor(
    readonly engine: Wasm3Engine,
    readonly module: PreparedModule,
    readonly parsed: ParsedModule,
  ) {
    this.exports = new Map(parsed.exports.map((one) => [one.name, one]));
    this.hosts = parsed.imports.flatMap((one) => (one.kind === 'function' ? [one] : []));
  }

  /** wasm3 compiles a function when it is first called; what it refuses is better known now. */
  check(): void {
    const instance = new Wasm3Instance(this, []);
    instance.compile();
  }

  instantiate(imports: HostImports): EngineInstance {
    const hosts = this.hosts.map(({ module, name }) => checkImport(module, name, 'function', imports) as RawFunction);
    const instance = new Wasm3Instance(this, hosts);
    instance.load();
    return instance;
  }

  close(): void {
    // the collector finds it all
  }
}

class Wasm3Instance implements EngineInstance {
  readonly of: Wasm3Module;
  readonly #box: Box;
  readonly #hosts: readonly RawFunction[];
  readonly #slots: number;
  readonly #texts = new Map<number, string>();
  readonly #loadError: string | undefined;
  #data: DataView;
  #pending: { error: unknown } | undefined;
  readonly #nesting = new Nesting(() => this.#box.recover());
  #closed = false;
  readonly tables: TableAccess;

  constructor(of: Wasm3Module, hosts: readonly RawFunction[]) {
    this.of = of;
    this.#hosts = hosts;
    this.#box = this.#makeBox();
    const box = this.#box;
    box._initialize();
    const { bytes } = of.module;
    const at = box.allocate(bytes.length);
    new Uint8Array(box.memory.buffer).set(bytes, at);
    this.#data = new DataView(box.memory.buffer);
    this.#slots = box.slots();
    const failure = box.parse(at, bytes.length, wasmEngineLimits.interpreterStackBytes);
    if (failure !== 0) throw invalid(this.#text(failure));
    const failed = box.load(of.parsed.tables[0]?.min ?? 0);
    this.#loadError = failed === 0 ? undefined : this.#text(failed);
    this.tables = new Wasm3Tables(this, box);
  }

  /** What went wrong when memory, globals and segments were made. */
  load(): void {
    if (this.#loadError === undefined) return;
    const trap = trapKinds[this.#loadError];
    if (trap) throw new WasmTrap(trap, [], { cause: new Error(this.#loadError) });
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: `what a new instance needs (${this.#loadError})`,
      value: 'more',
      limit: 'what is left',
      fix: 'lower the minimum of its memory',
    });
  }

  compile(): void {
    if (this.#loadError !== undefined) return;
    const failure = this.#box.compile();
    if (failure !== 0) throw invalid(this.#text(failure));
  }

  function(name: string): RawFunction {
    const found = this.export(name, 'function');
    const { params, results } = found.type;
    const writers = params.map(writer);
    const readers = results.map(reader);
    const read = readers[0];
    const { index } = found;
    const base = this.#slots;
    return (...args) => {
      this.checkOpen();
      let data = this.#view();
      for (let i = 0; i < writers.length; i++) writers[i]!(data, base + 8 * i, args[i]);
      this.#nesting.enter();
      let failure: number;
      try {
        failure = this.#box.call(index);
      } catch (error) {
        throw this.#fault(error);
      } finally {
        this.#nesting.leave();
      }
      if (failure !== 0) throw this.#failure(failure);
      data = this.#view();
      if (readers.length === 1) return read!(data, base);
      if (readers.length === 0) return undefined;
      return readers.map((one, i) => one(data, base + 8 * i));
    };
  }

  memory(name: string): Uint8Array {
    this.export(name, 'memory');
    return new Uint8Array(this.#box.memory.buffer, this.#box.memory_address(), this.#box.memory_pages() * PAGE_BYTES);
  }

  growMemory(name: string, pages: number): boolean {
    const { limits } = this.export(name, 'memory');
    // wasm3 takes a maximum of 0 for none
    if (this.#box.memory_pages() + pages > (limits.max ?? Number.POSITIVE_INFINITY)) return false;
    return this.#box.memory_grow(pages) !== 0;
  }

  getGlobal(name: string): RawValue {
    const { index, type } = this.export(name, 'global');
    this.#box.global_get(index);
    return reader(type)(this.#view(), this.#slots);
  }

  setGlobal(name: string, value: RawValue): void {
    const { index, type } = this.export(name, 'global');
    writer(type)(this.#view(), this.#slots, value);
    if (this.#box.global_set(index) === 0) throw notExported('mutable global', name, this.of);
  }

  close(): void {
    this.#closed = true;
  }

  checkOpen(): void {
    if (!this.#closed) return;
    throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'open instance', name: '', of: this.of.module.id });
  }

  export<K extends ExportInfo['kind']>(name: string, kind: K): ExportInfo & { kind: K } {
    this.checkOpen();
    const found = this.of.exports.get(name);
    if (found?.kind !== kind) throw notExported(kind, name, this.of);
    return found as ExportInfo & { kind: K };
  }

  #makeBox(): Box {
    const system: Record<string, RawFunction> = {};
    for (const { module, name } of WebAssembly.Module.imports(this.of.engine.wasm3)) {
      if (module !== 'iguana') system[name] = () => ENOSYS;
    }
    const host: RawFunction = (number, slots) => this.#callHost(number as number, slots as number);
    const imports = { iguana: { host }, wasi_snapshot_preview1: system };
    try {
      return new WebAssembly.Instance(this.of.engine.wasm3, imports).exports as unknown as Box;
    } catch (error) {
      const what = 'memory for a box of wasm3';
      const fix = 'destroy instances that are not used any more; each box reserves about 10 GiB of addresses';
      throw new IguanaError(
        'IGU_WASM_LIMIT',
        { what, value: 'asked for', limit: 'what V8 and the address space have left', fix },
        { cause: error },
      );
    }
  }

  /** Guest code calls an import. Nothing may be thrown through wasm3, which would not put its state in order: the error waits until it has unwound. */
  #callHost(number: number, slots: number): number {
    try {
      const { params, results } = this.of.hosts[number]!.type;
      const data = this.#view();
      const args = params.map((type, i) => reader(type)(data, slots + 8 * (results.length + i)));
      const given = this.#hosts[number]!(...args);
      if (results.length === 1) writer(results[0]!)(this.#view(), slots, given);
      else if (results.length > 1) {
        const values = [...(given as Iterable<RawValue>)];
        results.forEach((type, i) => {
          writer(type)(this.#view(), slots + 8 * i, values[i]);
        });
      }
      return 0;
    } catch (error) {
      this.#pending = { error };
      return 1;
    }
  }

  #view(): DataView {
    const { buffer } = this.#box.memory;
    if (this.#data.buffer !== buffer) this.#data = new DataView(buffer);
    return this.#data;
  }

  #text(at: number): string {
    let text = this.#texts.get(at);
    if (text === undefined) {
      const bytes = Buffer.from(this.#box.memory.buffer, at);
      text = bytes.toString('latin1', 0, bytes.indexOf(0));
      this.#texts.set(at, text);
    }
    return text;
  }

  #failure(at: number): unknown {
    if (at === this.#box.hostError()) {
      const { error } = this.#pending!;
      this.#pending = undefined;
      return isStackOverflow(error) ? new WasmTrap('stack-overflow', this.#frames(), { cause: error }) : error;
    }
    const text = this.#text(at);
    const trap = trapKinds[text];
    if (trap) return new WasmTrap(trap, this.#frames(), { cause: new Error(text) });
    return text.startsWith('[trap]')
      ? new WasmTrap('other', this.#frames(), { cause: new Error(text) })
      : invalid(text);
  }

  /** V8 ended the interpreter itself: its stack was at an end, else wasm3 has a fault and the box is not to be used any more. */
  #fault(error: unknown): unknown {
    if (isStackOverflow(error)) {
      if (this.#nesting.depth <= 1) this.#box.recover();
      return new WasmTrap('stack-overflow', [], { cause: error });
    }
    this.#closed = true;
    return new WasmTrap('other', [], { cause: error });
  }

  #frames(): string[] {
    const count = this.#box.trace();
    const numbers = new Uint32Array(this.#box.memory.buffer, this.#box.frames(), count);
    return Array.from(numbers, (index) => this.of.parsed.functionNames.get(index) ?? `wasm-function[${index}]`);
  }
}

function isStackOverflow(error: unknown): boolean {
  return error instanceof RangeError && error.message.startsWith('Maximum call stack size');
}

/** A reference is a function's number plus one. */
class Reference {
  constructor(
    readonly of: Wasm3Instance,
    readonly number: number,
  ) {}
}

class Wasm3Tables implements TableAccess {
  readonly #of: Wasm3Instance;
  readonly #box: Box;

  constructor(of: Wasm3Instance, box: Box) {
    this.#of = of;
    this.#box = box;
  }

  length(name: string): number {
    this.#of.export(name, 'table');
    return this.#box.table_size();
  }

  grow(name: string, elements: number): boolean {
    const { limits } = this.#of.export(name, 'table');
    const wanted = this.#box.table_size() + elements;
    if (wanted > (limits.max ?? wasmEngineLimits.interpreterTableElements)) return false;
    return this.#box.table_grow(elements) !== 0;
  }

  get(name: string, index: number): RawValue {
    this.#check(name, index);
    const number = this.#box.table_get(index);
    return number === 0 ? null : new Reference(this.#of, number);
  }

  set(name: string, index: number, reference: RawValue): void {
    this.#check(name, index);
    if (reference === null) this.#box.table_set(index, 0);
    else if (reference instanceof Reference && reference.of === this.#of) this.#box.table_set(index, reference.number);
    else throw unsupported('a reference that is not of this instance');
  }

  reference(functionName: string): RawValue {
    return new Reference(this.#of, this.#of.export(functionName, 'function').index + 1);
  }

  same(a: RawValue, b: RawValue): boolean {
    if (!(a instanceof Reference) || !(b instanceof Reference)) return a === b;
    return a.number === b.number && a.of === b.of;
  }

  #check(name: string, index: number): void {
    if (index < 0 || index >= this.length(name)) throw new WasmTrap('out-of-bounds-table');
  }
}

function writer(type: ValueType): (view: DataView, at: number, value: RawValue) => void {
  switch (type) {
    case 'i32':
      return (view, at, value) => view.setInt32(at, value as number, true);
    case 'i64':
      return (view, at, value) => view.setBigInt64(at, value as bigint, true);
    case 'f32':
      return (view, at, value) => view.setFloat32(at, value as number, true);
    case 'f64':
      return (view, at, value) => view.setFloat64(at, value as number, true);
    default:
      throw unsupported(`a value of type ${type}`);
  }
}

function reader(type: ValueType): (view: DataView, at: number) => RawValue {
  switch (type) {
    case 'i32':
      return (view, at) => view.getInt32(at, true);
    case 'i64':
      return (view, at) => view.getBigInt64(at, true);
    case 'f32':
      return (view, at) => view.getFloat32(at, true);
    case 'f64':
      return (view, at) => view.getFloat64(at, true);
    default:
      throw unsupported(`a value of type ${type}`);
  }
}

function invalid(what: string): IguanaError {
  return new IguanaError('IGU_WASM_INVALID', { engine: 'wasm3', what });
}

function unsupported(what: string): IguanaError {
  const fix = 'use another engine for this module';
  return new IguanaError('IGU_WASM_UNSUPPORTED', { what, where: ` by wasm3 ${wasm3Place.version}`, fix });
}
