/**
 * V8's own WebAssembly as an engine: always there, and the fast path. One file because trap words, compiled modules and instances all lean on what V8
 * tells in messages and stacks.
 */
import { setFlagsFromString } from 'node:v8';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmEngineLimits } from '../../limits.js';
import type { PreparedModule } from '../module/prepared.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import type { RawFunction, RawValue } from '../types.js';
import { checkAbility, checkImport, linkError, notExported } from './checks.js';
import type {
  CompiledModule,
  Engine,
  EngineDescription,
  EngineInstance,
  HostImports,
  TableAccess,
  Tier,
} from './engine.js';
import { featuresOf } from './features.js';

const nativeTiers: Readonly<Record<Exclude<Tier, 'interpreter'>, { set: string[]; reset: string[] }>> = {
  tiered: { set: [], reset: [] },
  baseline: {
    set: ['--no-wasm-lazy-compilation', '--no-wasm-dynamic-tiering', '--no-wasm-tier-up'],
    reset: ['--wasm-lazy-compilation', '--wasm-dynamic-tiering', '--wasm-tier-up'],
  },
  optimised: {
    set: ['--no-wasm-lazy-compilation', '--no-liftoff'],
    // --no-liftoff implies --no-wasm-dynamic-tiering
    reset: ['--wasm-lazy-compilation', '--liftoff', '--wasm-dynamic-tiering'],
  },
};

/** A custom section named after the tier: V8 shares code between equal bytes in the whole process, so a tier needs bytes of its own. */
function withTierMark(bytes: Uint8Array<ArrayBuffer>, tier: Tier): Uint8Array<ArrayBuffer> {
  const name = Buffer.from(`iguana:tier:${tier}`);
  const marked = new Uint8Array(bytes.length + name.length + 3);
  marked.set(bytes);
  marked.set([0, name.length + 1, name.length], bytes.length);
  marked.set(name, bytes.length + 3);
  return marked;
}

/** Where optimised code is kept between processes: see `CodeCache`. */
export interface CompiledAhead {
  /** The module with its optimised code, marked as `withTierMark` does; undefined when there is none. */
  load(module: PreparedModule): WebAssembly.Module | undefined;
}

/**
 * The engine of this process: V8. Cost: compile about 10 µs a KB at first (functions are compiled when first called), nothing for a module that was
 * compiled before; see `CompiledModule`. Tiers other than `tiered` set V8's flags for the moment of compiling, so that another thread that compiles in that
 * moment may get the same tier; what code does is never changed.
 */
export class NativeEngine implements Engine {
  readonly description: EngineDescription = {
    name: 'native',
    version: `V8 ${process.versions.v8}`,
    host: 'native',
    tiers: ['tiered', 'optimised', 'baseline'],
    features: featuresOf((bytes) => WebAssembly.validate(bytes)),
  };
  /** Least recently used first. */
  readonly #modules = new Map<string, WebAssembly.Module>();
  readonly #ahead: CompiledAhead | undefined;
  #bytes = 0;

  /** @param ahead asked for the tier `optimised` before anything is compiled (default none) */
  constructor(ahead?: CompiledAhead) {
    this.#ahead = ahead;
  }

  compile(module: PreparedModule, wanted?: Tier): CompiledModule {
    const tier = checkAbility(this.description, module.info.features, wanted);
    const key = `${tier}:${module.id}`;
    let compiled = this.#modules.get(key);
    if (compiled) this.#modules.delete(key);
    else {
      compiled = (tier === 'optimised' ? this.#ahead?.load(module) : undefined) ?? compileAt(module.bytes, tier);
      sizes.set(compiled, module.bytes.length);
      this.#bytes += module.bytes.length;
    }
    this.#modules.set(key, compiled);
    this.#evict();
    return new NativeModule(module, tier, compiled);
  }

  close(): void {
    this.#modules.clear();
    this.#bytes = 0;
  }

  #evict(): void {
    for (const [key, module] of this.#modules) {
      if (this.#modules.size <= wasmEngineLimits.maxModules && this.#bytes <= wasmEngineLimits.maxModuleBytes) return;
      if (this.#modules.size === 1) return;
      this.#modules.delete(key);
      this.#bytes -= sizes.get(module) ?? 0;
    }
  }
}

/** Bytes a compiled module was made from. */
const sizes = new WeakMap<WebAssembly.Module, number>();

function compileAt(bytes: Uint8Array<ArrayBuffer>, tier: Tier): WebAssembly.Module {
  const flags = nativeTiers[tier as keyof typeof nativeTiers];
  for (const flag of flags.set) setFlagsFromString(flag);
  try {
    return new WebAssembly.Module(tier === 'tiered' ? bytes : withTierMark(bytes, tier));
  } catch (error) {
    throw new IguanaError('IGU_WASM_INVALID', { engine: 'native', what: messageOf(error) }, { cause: error });
  } finally {
    for (const flag of flags.reset) setFlagsFromString(flag);
  }
}

class NativeModule implements CompiledModule {
  readonly #compiled: WebAssembly.Module;
  readonly #imports: readonly WebAssembly.ModuleImportDescriptor[];

  constructor(
    readonly module: PreparedModule,
    readonly tier: Tier,
    compiled: WebAssembly.Module,
  ) {
    this.#compiled = compiled;
    this.#imports = WebAssembly.Module.imports(compiled);
  }

  instantiate(imports: HostImports): EngineInstance {
    for (const { module, name, kind } of this.#imports) {
      const known = kind === 'function' || kind === 'memory' || kind === 'table' ? kind : 'global';
      checkImport(module, name, known, imports);
    }
    try {
      const instance = new WebAssembly.Instance(this.#compiled, imports as WebAssembly.Imports);
      return new NativeInstance(this, instance.exports);
    } catch (error) {
      throw this.#linkFailure(error);
    }
  }

  close(): void {
    // V8 frees the code with the last instance
  }

  #linkFailure(error: unknown): unknown {
    const message = messageOf(error);
    if (error instanceof WebAssembly.LinkError) {
      const culprit = this.#imports[Number(/Import #(\d+)/.exec(message)?.[1])];
      if (culprit)
        return linkError(culprit.module, culprit.name, message.replace(/^.*?error: /, 'is refused: '), error);
      return new IguanaError('IGU_WASM_INVALID', { engine: 'native', what: message }, { cause: error });
    }
    if (error instanceof WebAssembly.RuntimeError) {
      const kind = /table|element/.test(message) ? 'out-of-bounds-table' : 'out-of-bounds-memory';
      return new WasmTrap(kind, [], { cause: error });
    }
    if (error instanceof RangeError) {
      return new IguanaError(
        'IGU_WASM_LIMIT',
        {
          what: 'memory for a new instance',
          value: 'asked for',
          limit: 'what V8 and the address space have left',
          fix: 'destroy instances that are not used any more; each with a memory reserves about 10 GiB of addresses',
        },
        { cause: error },
      );
    }
    return error;
  }
}

class NativeInstance implements EngineInstance {
  readonly #of: NativeModule;
  readonly #exports: WebAssembly.Exports;
  #tables: NativeTables | undefined;

  constructor(of: NativeModule, exports: WebAssembly.Exports) {
    this.#of = of;
    this.#exports = exports;
  }

  function(name: string): RawFunction {
    const exported = this.#exports[name];
    if (typeof exported !== 'function') throw notExported('function', name, this.#of);
    return guarded(exported as RawFunction, this.#of.module);
  }

  memory(name: string): Uint8Array {
    return new Uint8Array(this.#memory(name).buffer);
  }

  growMemory(name: string, pages: number): boolean {
    const memory = this.#memory(name);
    try {
      memory.grow(pages);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }

  getGlobal(name: string): RawValue {
    return this.#global(name).value;
  }

  setGlobal(name: string, value: RawValue): void {
    this.#global(name).value = value;
  }

  get tables(): TableAccess {
    this.#tables ??= new NativeTables(this.#of, this.#exports);
    return this.#tables;
  }

  close(): void {
    // nothing is held beside what the collector finds
  }

  #memory(name: string): WebAssembly.Memory {
    const memory = this.#exports[name];
    if (!(memory instanceof WebAssembly.Memory)) throw notExported('memory', name, this.#of);
    return memory;
  }

  #global(name: string): WebAssembly.Global {
    const global = this.#exports[name];
    if (!(global instanceof WebAssembly.Global)) throw notExported('global', name, this.#of);
    return global;
  }
}

class NativeTables implements TableAccess {
  readonly #of: NativeModule;
  readonly #exports: WebAssembly.Exports;

  constructor(of: NativeModule, exports: WebAssembly.Exports) {
    this.#of = of;
    this.#exports = exports;
  }

  length(name: string): number {
    return this.#table(name).length;
  }

  grow(name: string, elements: number): boolean {
    try {
      this.#table(name).grow(elements);
      return true;
    } catch (error) {
      if (error instanceof RangeError) return false;
      throw error;
    }
  }

  get(name: string, index: number): RawValue {
    return this.#table(name).get(index);
  }

  set(name: string, index: number, reference: RawValue): void {
    this.#table(name).set(index, reference);
  }

  reference(functionName: string): RawValue {
    const exported = this.#exports[functionName];
    if (typeof exported !== 'function') throw notExported('function', functionName, this.#of);
    return exported;
  }

  same(a: RawValue, b: RawValue): boolean {
    return a === b;
  }

  #table(name: string): WebAssembly.Table {
    const table = this.#exports[name];
    if (!(table instanceof WebAssembly.Table)) throw notExported('table', name, this.#of);
    return table;
  }
}

/** Calls of up to four arguments are written out, since spreading costs more than the call. */
function guarded(run: RawFunction, module: PreparedModule): RawFunction {
  switch (run.length) {
    case 0:
      return () => {
        try {
          return run();
        } catch (error) {
          throw asTrap(error, module);
        }
      };
    case 1:
      return (a) => {
        try {
          return run(a);
        } catch (error) {
          throw asTrap(error, module);
        }
      };
    case 2:
      return (a, b) => {
        try {
          return run(a, b);
        } catch (error) {
          throw asTrap(error, module);
        }
      };
    case 3:
      return (a, b, c) => {
        try {
          return run(a, b, c);
        } catch (error) {
          throw asTrap(error, module);
        }
      };
    case 4:
      return (a, b, c, d) => {
        try {
          return run(a, b, c, d);
        } catch (error) {
          throw asTrap(error, module);
        }
      };
    default:
      return (...args) => {
        try {
          return run(...args);
        } catch (error) {
          throw asTrap(error, module);
        }
      };
  }
}

const trapWords: readonly (readonly [RegExp, TrapKind])[] = [
  [/^unreachable/, 'unreachable'],
  [/^memory access out of bounds|^data segment/, 'out-of-bounds-memory'],
  [/^(divide|remainder) by zero/, 'integer-divide-by-zero'],
  [/^divide result unrepresentable/, 'integer-overflow'],
  [/^float unrepresentable/, 'invalid-conversion'],
  [/^table (index|access)|^element segment|^array element|^table/, 'out-of-bounds-table'],
  [/^null function or function signature|^indirect call/, 'indirect-call-mismatch'],
  [/^dereferencing a null/, 'null-reference'],
  [/unaligned/, 'unaligned-atomic'],
];

/** What V8 threw while guest code ran, in our words; a host function's own error stays what it is. */
function asTrap(error: unknown, module: PreparedModule): unknown {
  if (error instanceof WasmTrap) return error;
  if (error instanceof WebAssembly.Exception) return new WasmTrap('uncaught-exception', [], { cause: error });
  const overflow = error instanceof RangeError && error.message.startsWith('Maximum call stack size');
  if (!overflow && !(error instanceof WebAssembly.RuntimeError)) return error;
  const lines = String(error.stack)
    .split('\n')
    .filter((line) => /^\s+at /.test(line));
  // a host function that throws such an error itself stands on top of the guest
  if (!overflow && lines[0] !== undefined && !lines[0].includes('wasm')) return error;
  const frames = lines.map((line) => frameOf(line, module)).filter((frame) => frame !== undefined);
  let trap: TrapKind = overflow
    ? 'stack-overflow'
    : (trapWords.find(([words]) => words.test(error.message))?.[1] ?? 'other');
  if (trap === 'out-of-bounds-table' && isIndirectCall(frames[0]?.offset, module)) trap = 'undefined-element';
  return new WasmTrap(
    trap,
    frames.map((frame) => frame.name),
    { cause: error },
  );
}

interface Frame {
  readonly name: string;
  readonly offset: number;
}

/** One line of V8's stack: `at NAME (wasm://wasm/MODULE-HASH:wasm-function[3]:0x4f)`; the name is left out where the module gives none. */
function frameOf(line: string, module: PreparedModule): Frame | undefined {
  const place = /wasm-function\[(\d+)\]:0x([0-9a-f]+)/.exec(line);
  if (!place) return undefined;
  const given = /^\s+at (.+) \(/.exec(line)?.[1] ?? '';
  const prefix = module.info.moduleName;
  const name =
    prefix !== undefined && (given === prefix || given.startsWith(`${prefix}.`))
      ? given.slice(prefix.length + 1)
      : given;
  return { name: name || `wasm-function[${place[1]}]`, offset: Number.parseInt(place[2]!, 16) };
}

/** V8 has one message for a table access and an indirect call past the end; the instruction at the place tells which it was. */
function isIndirectCall(offset: number | undefined, module: PreparedModule): boolean {
  const opcode = offset === undefined ? undefined : module.bytes[offset];
  return opcode === 0x11 || opcode === 0x13;
}
