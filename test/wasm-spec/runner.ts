/**
 * Runs one script of the core test suite on V8, with its modules as they are or prepared by the rewriter. One file because every command of a script
 * leans on the same instances and names.
 */

import { IguanaError, messageOf } from '../../src/errors.js';
import { gasLeft, MAX_GAS, MAX_STACK_SLOTS, packGas, stackUsedUp } from '../../src/wasm/gas/packed.js';
import { parseModule } from '../../src/wasm/module/parse-module.js';
import { prepareModule } from '../../src/wasm/module/prepare.js';
import { WasmTrap } from '../../src/wasm/trap.js';
import type { ExportInfo, FunctionType } from '../../src/wasm/types.js';
import {
  body,
  functionType,
  littleEndian,
  moduleOf,
  name as nameBytes,
  section,
  signed,
  unsigned,
  valueBytes,
} from '../support/wasm-binary.js';
import {
  hostReference,
  type List,
  matches,
  type Node,
  type Outcome,
  type Pattern,
  pattern,
  vectorBits,
} from './script.js';

/** Text format to binary; throws what the text is refused for. */
export type Assembler = (text: string) => Uint8Array<ArrayBuffer>;

export interface CommandResult {
  readonly line: number;
  readonly command: string;
  /** `unsupported`: the engine has not got what it needs, or the text cannot be assembled; `refused`: the rewriter names what it cannot meter. */
  readonly status: 'passed' | 'failed' | 'unsupported' | 'refused';
  readonly reason?: string;
  /** What must be equal between two runs: results to the bit, or the words of a trap. */
  readonly seen?: string;
}

class Unsupported extends Error {}
class Refused extends Error {}
class Failed extends Error {}

interface Instance {
  readonly exports: WebAssembly.Exports;
  readonly types: ReadonlyMap<string, ExportInfo>;
}

/** @param forms of one script @param metered through the rewriter */
export function runScript(
  source: string,
  forms: readonly Node[],
  metered: boolean,
  assemble: Assembler,
): CommandResult[] {
  const script = new Script(source, metered, assemble);
  const lines = lineStarts(source);
  const heads = forms.map((form) => (form.kind === 'list' ? wordAt(form, 0) : ''));
  // A script may be one module whose fields stand without `(module …)` around them.
  if (heads.length > 0 && heads.every((head) => fields.has(head))) {
    const module: List = { kind: 'list', items: [{ kind: 'word', text: 'module', from: 0, to: 0 }], from: 0, to: 0 };
    return [command(1, 'module', () => script.inline(module, `(module ${source})`))];
  }
  return forms.map((form) => {
    const head = form.kind === 'list' ? wordAt(form, 0) : '';
    return command(lineOf(lines, form.from), head, () => script.run(form as List));
  });
}

const fields = new Set([
  'func',
  'memory',
  'table',
  'global',
  'type',
  'import',
  'export',
  'data',
  'elem',
  'start',
  'rec',
]);

function command(line: number, head: string, run: () => string | undefined): CommandResult {
  try {
    const seen = run();
    return { line, command: head, status: 'passed', ...(seen !== undefined && { seen }) };
  } catch (error) {
    const reason = messageOf(error);
    if (error instanceof Unsupported) return { line, command: head, status: 'unsupported', reason };
    if (error instanceof Refused) return { line, command: head, status: 'refused', reason };
    return { line, command: head, status: 'failed', reason };
  }
}

function lineStarts(source: string): number[] {
  const starts = [0];
  for (let at = source.indexOf('\n'); at >= 0; at = source.indexOf('\n', at + 1)) starts.push(at + 1);
  return starts;
}

function lineOf(starts: readonly number[], at: number): number {
  let low = 0;
  let high = starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (starts[middle]! <= at) low = middle;
    else high = middle;
  }
  return low + 1;
}

function wordAt(list: List, index: number): string {
  const item = list.items[index];
  return item?.kind === 'word' ? item.text : '';
}

function stringOf(node: Node | undefined): string {
  if (node?.kind !== 'string') throw new Failed('a string was expected');
  return Buffer.from(node.bytes).toString();
}

/** What a module was refused with. */
class NoModule extends Error {
  constructor(
    readonly why: 'unsupported' | 'refused',
    message: string,
  ) {
    super(message);
  }

  toError(): Error {
    return this.why === 'refused' ? new Refused(this.message) : new Unsupported(this.message);
  }
}

class Script {
  private readonly registered = new Map<string, WebAssembly.Exports | NoModule>();
  private readonly named = new Map<string, Instance | NoModule>();
  private readonly definitions = new Map<string, Uint8Array<ArrayBuffer>>();
  private current: Instance | NoModule | undefined;
  private lastDefinition: Uint8Array<ArrayBuffer> | undefined;
  /** Gas of every instance of this script: one may call another. */
  private readonly gas: WebAssembly.Global[] = [];
  /** An instantiation failed after it may have put functions into a table of another instance; nobody can give those gas. */
  private orphans = false;

  constructor(
    private readonly source: string,
    private readonly metered: boolean,
    private readonly assemble: Assembler,
  ) {
    this.registered.set('spectest', spectest());
  }

  run(form: List): string | undefined {
    switch (wordAt(form, 0)) {
      case 'module':
        return this.module(form);
      case 'register':
        return this.register(form);
      case 'invoke':
      case 'get':
        return this.shown(this.action(form));
      case 'assert_return':
      case 'assert_return_canonical_nan':
      case 'assert_return_arithmetic_nan':
        return this.assertReturn(form);
      case 'assert_trap':
        return this.assertTrap(form);
      case 'assert_exhaustion':
        return this.assertExhaustion(form);
      case 'assert_exception':
        return this.assertException(form);
      case 'assert_invalid':
      case 'assert_malformed':
        return this.assertRefused(form.items[1] as List);
      case 'assert_unlinkable':
      case 'assert_uninstantiable':
        return this.assertUnlinkable(form);
      default:
        throw new Unsupported(`command ${wordAt(form, 0)}`);
    }
  }

  // Modules.

  private module(form: List): string | undefined {
    if (wordAt(form, 1) === 'instance') {
      const [instance, definition] = [wordAt(form, 2), wordAt(form, 3)];
      const bytes = definition ? this.definitions.get(definition) : this.lastDefinition;
      if (!bytes) throw new Unsupported(`module ${definition} is not there`);
      return this.instantiateAs(instance, bytes);
    }
    const id = this.idOf(form);
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = this.bytesOf(form);
    } catch (error) {
      throw this.without(id, 'unsupported', messageOf(error));
    }
    if (id) this.definitions.set(id, bytes);
    this.lastDefinition = bytes;
    if (wordAt(form, 1) !== 'definition') return this.instantiateAs(id, bytes);
    this.prepared(bytes);
    return undefined;
  }

  inline(form: List, text: string): string | undefined {
    return this.instantiateAs(this.idOf(form), this.assemble(text));
  }

  private instantiateAs(id: string, bytes: Uint8Array<ArrayBuffer>): string | undefined {
    try {
      const instance = this.instantiate(bytes);
      this.current = instance;
      if (id) this.named.set(id, instance);
      return undefined;
    } catch (error) {
      if (error instanceof Unsupported) throw this.without(id, 'unsupported', error.message);
      if (error instanceof Refused) throw this.without(id, 'refused', error.message);
      this.without(id, 'unsupported', messageOf(error));
      throw error;
    }
  }

  /** Notes that a module is not there, and tells it to what is run on it later. */
  private without(id: string, why: 'unsupported' | 'refused', message: string): Error {
    const none = new NoModule(why, message);
    this.current = none;
    if (id) this.named.set(id, none);
    return why === 'refused' ? new Refused(message) : new Unsupported(message);
  }

  private idOf(form: List): string {
    const word = wordAt(form, 1) === 'definition' ? wordAt(form, 2) : wordAt(form, 1);
    return word.startsWith('$') ? word : '';
  }

  private bytesOf(form: List): Uint8Array<ArrayBuffer> {
    const rest = form.items.slice(1).filter((item) => !(item.kind === 'word' && /^(\$.*|definition)$/.test(item.text)));
    const form1 = rest[0]?.kind === 'word' ? rest[0].text : '';
    const strings = rest.flatMap((item) => (item.kind === 'string' ? [item.bytes] : []));
    if (form1 === 'binary') return new Uint8Array(Buffer.concat(strings));
    if (form1 === 'quote') {
      const text = Buffer.concat(strings).toString();
      return this.assemble(/^\s*\(\s*(?:module|component)\b/.test(text) ? text : `(module ${text})`);
    }
    const text = this.source.slice(form.from, form.to);
    return this.assemble(text.replace(/^\(\s*module\s+definition\b/, '(module'));
  }

  /** Valid bytes and what they came from. */
  private prepared(bytes: Uint8Array<ArrayBuffer>): ReturnType<typeof prepareModule> | undefined {
    if (!WebAssembly.validate(bytes)) throw new Unsupported(`Node ${process.versions.node} does not take the module`);
    if (!this.metered) return undefined;
    try {
      return prepareModule(bytes);
    } catch (error) {
      if (error instanceof IguanaError && error.code === 'IGU_WASM_UNSUPPORTED') throw new Refused(error.message);
      throw error;
    }
  }

  private instantiate(bytes: Uint8Array<ArrayBuffer>): Instance {
    const prepared = this.prepared(bytes);
    const module = new WebAssembly.Module(prepared?.bytes ?? bytes);
    const imports: Record<string, Record<string, unknown>> = {};
    for (const item of WebAssembly.Module.imports(module)) {
      if (item.module === 'iguana') imports.iguana = { grow: () => 1 };
      else {
        const from = this.registered.get(item.module) ?? {};
        if (from instanceof NoModule) throw from.toError();
        imports[item.module] ??= {};
        if (item.name in from) imports[item.module]![item.name] = from[item.name];
      }
    }
    const exports = this.link(module, imports);
    if (prepared?.gas) this.gas.push(exports[prepared.gas] as WebAssembly.Global);
    const types = new Map((prepared?.info.exports ?? exportsOf(bytes)).map((item) => [item.name, item]));
    const own = Object.fromEntries(Object.entries(exports).filter(([key]) => !key.startsWith('iguana:')));
    if (prepared?.start) {
      const start = exports[prepared.start] as () => void;
      this.fill();
      start();
    }
    return { exports: own, types };
  }

  private link(module: WebAssembly.Module, imports: WebAssembly.Imports): WebAssembly.Exports {
    try {
      return new WebAssembly.Instance(module, imports).exports;
    } catch (error) {
      if (this.metered && error instanceof WebAssembly.RuntimeError) this.orphans = true;
      throw error;
    }
  }

  private register(form: List): undefined {
    const id = wordAt(form, 2);
    const instance = id ? this.named.get(id) : this.current;
    if (instance)
      this.registered.set(stringOf(form.items[1]), instance instanceof NoModule ? instance : instance.exports);
    this.instance(id);
  }

  private instance(id: string): Instance {
    const found = id ? this.named.get(id) : this.current;
    if (!found) throw new Unsupported(`module ${id} is not there`);
    if (!(found instanceof NoModule)) return found;
    throw found.toError();
  }

  // Actions.

  private fill(): void {
    for (const gas of this.gas) gas.value = packGas(MAX_GAS, MAX_STACK_SLOTS);
  }

  private action(form: List): Outcome[] {
    const id = wordAt(form, 1);
    const [nameNode, ...args] = form.items.slice(id ? 2 : 1);
    const instance = this.instance(id);
    const name = stringOf(nameNode);
    if (!(name in instance.exports)) throw new Failed(`no export ${name}`);
    this.fill();
    if (wordAt(form, 0) === 'get') return [globalOutcome(instance, name)];
    const run = instance.exports[name] as (...args: unknown[]) => unknown;
    const type = instance.types.get(name);
    try {
      return call(run, type?.kind === 'function' ? type.type : undefined, args.map(pattern));
    } catch (error) {
      const unreachable = error instanceof WebAssembly.RuntimeError && error.message === 'unreachable';
      if (this.orphans && unreachable && !this.ranOut()) {
        throw new Refused('a function of a failed instantiation, left in a shared table, has no gas');
      }
      throw error;
    }
  }

  private shown(outcomes: readonly Outcome[]): string {
    return outcomes
      .map((outcome) => {
        if (outcome.kind !== 'reference') {
          const bits = outcome.bits.toString(16);
          return outcome.kind === 'number' ? `${outcome.type}:${bits}` : `v128:${bits}`;
        }
        const { value } = outcome;
        if (typeof value === 'function') return 'function';
        return value === null ? 'null' : JSON.stringify(value);
      })
      .join(' ');
  }

  private assertReturn(form: List): string {
    const outcomes = this.action(form.items[1] as List);
    const wanted = this.wantedOf(form, outcomes);
    const seen = this.shown(outcomes);
    if (outcomes.length !== wanted.length || !wanted.every((item, i) => matches(outcomes[i], item))) {
      throw new Failed(`gave ${seen || 'nothing'}`);
    }
    const anyNan = JSON.stringify(wanted, (_, value) => (typeof value === 'bigint' ? String(value) : value));
    return /canonical|arithmetic|choices/.test(anyNan) ? 'as wanted' : seen;
  }

  private wantedOf(form: List, outcomes: readonly Outcome[]): Pattern[] {
    const old = /^assert_return_(canonical|arithmetic)_nan$/.exec(wordAt(form, 0));
    if (!old) return form.items.slice(2).map(pattern);
    return outcomes.map((outcome) => ({
      kind: 'number',
      type: outcome.kind === 'number' ? (outcome.type as 'f32') : 'f32',
      bits: old[1] as 'canonical',
    }));
  }

  private assertTrap(form: List): string {
    const first = form.items[1] as List;
    const error =
      wordAt(first, 0) === 'module'
        ? this.thrown(() => void this.instantiate(this.binary(first)))
        : this.thrown(() => void this.action(first));
    if (!(error instanceof WebAssembly.RuntimeError)) throw new Failed(`threw ${messageOf(error)}`);
    this.mustHaveGas();
    return error.message;
  }

  /** A trap of the guest's own must not be ours. */
  private mustHaveGas(): void {
    if (this.ranOut()) throw new Failed('ran out of gas or stack');
  }

  private ranOut(): boolean {
    return this.gas.some((gas) => gasLeft(gas.value as bigint) < 0 || stackUsedUp(gas.value as bigint));
  }

  private assertExhaustion(form: List): string {
    const error = this.thrown(() => void this.action(form.items[1] as List));
    const ours = this.gas.some((gas) => stackUsedUp(gas.value as bigint));
    if (!(error instanceof RangeError) && !ours) throw new Failed(`threw ${messageOf(error)}`);
    return 'exhausted';
  }

  private assertException(form: List): string {
    const error = this.thrown(() => void this.action(form.items[1] as List));
    if (!(error instanceof WebAssembly.Exception)) throw new Failed(`threw ${messageOf(error)}`);
    return 'exception';
  }

  private thrown(run: () => void): unknown {
    try {
      run();
    } catch (error) {
      if (error instanceof Unsupported || error instanceof Refused || error instanceof Failed) throw error;
      return error;
    }
    throw new Failed('nothing was thrown');
  }

  private binary(form: List): Uint8Array<ArrayBuffer> {
    try {
      return this.bytesOf(form);
    } catch (error) {
      throw new Unsupported(messageOf(error));
    }
  }

  private assertRefused(form: List): string {
    const text = wordAt(form, 1) !== 'binary' && wordAt(form, 2) !== 'binary';
    let bytes: Uint8Array<ArrayBuffer>;
    try {
      bytes = this.bytesOf(form);
    } catch (error) {
      if (text) throw new Unsupported('refused as text already');
      throw error;
    }
    if (!this.metered) {
      if (WebAssembly.validate(bytes)) throw new Failed('was taken');
      return 'refused';
    }
    try {
      if (WebAssembly.validate(prepareModule(bytes).bytes)) throw new Failed('was taken');
    } catch (error) {
      if (!(error instanceof IguanaError)) throw error;
    }
    return 'refused';
  }

  private assertUnlinkable(form: List): string {
    const bytes = this.binary(form.items[1] as List);
    const error = this.thrown(() => void this.instantiate(bytes));
    const trapped = error instanceof WebAssembly.RuntimeError || error instanceof WasmTrap;
    const link = error instanceof WebAssembly.LinkError || error instanceof TypeError;
    if (!link && !(trapped && wordAt(form, 0) === 'assert_uninstantiable')) {
      throw new Failed(`threw ${messageOf(error)}`);
    }
    return 'not linked';
  }
}

/** Types of a module's exports; none where its format is beyond what we read. */
function exportsOf(bytes: Uint8Array): readonly ExportInfo[] {
  try {
    return parseModule(bytes).exports;
  } catch (error) {
    if (error instanceof IguanaError) return [];
    throw error;
  }
}

function spectest(): WebAssembly.Exports {
  const nothing = (): void => {};
  const global = (value: 'i32' | 'i64' | 'f32' | 'f64', init: number | bigint) =>
    new WebAssembly.Global({ value }, init);
  // Made by a module, so that functions have their types.
  const types = [[], ['i32'], ['i64'], ['f32'], ['f64'], ['i32', 'f32'], ['f64', 'f64']] as const;
  const names = ['print', 'print_i32', 'print_i64', 'print_f32', 'print_f64', 'print_i32_f32', 'print_f64_f64'];
  const prints = moduleOf([
    section(
      1,
      types.map((params) =>
        functionType(
          params.map((type) => valueBytes[type]),
          [],
        ),
      ),
    ),
    section(
      3,
      types.map((_, i) => [i]),
    ),
    section(
      7,
      names.map((name, i) => [...nameBytes(name), 0, i]),
    ),
    section(
      10,
      types.map(() => body([], [])),
    ),
  ]);
  return {
    ...new WebAssembly.Instance(new WebAssembly.Module(prints)).exports,
    nothing,
    global_i32: global('i32', 666),
    global_i64: global('i64', 666n),
    global_f32: global('f32', 666.6),
    global_f64: global('f64', 666.6),
    table: new WebAssembly.Table({ element: 'anyfunc', initial: 10, maximum: 20 }),
    memory: new WebAssembly.Memory({ initial: 1, maximum: 2 }),
    shared_memory: new WebAssembly.Memory({ initial: 1, maximum: 2, shared: true }),
  };
}

function globalOutcome(instance: Instance, name: string): Outcome {
  const global = instance.exports[name] as WebAssembly.Global;
  const info = instance.types.get(name);
  const type = info?.kind === 'global' ? info.type : undefined;
  if (type === 'v128') throw new Unsupported('JavaScript sees no v128 global');
  return outcomeOf(global.value, type);
}

/** From what JavaScript sees; NaNs have lost their payload. */
function outcomeOf(value: unknown, type: string | undefined): Outcome {
  const view = new DataView(new ArrayBuffer(8));
  if (typeof value === 'bigint') return { kind: 'number', type: 'i64', bits: BigInt.asUintN(64, value) };
  if (typeof value !== 'number') return { kind: 'reference', value };
  switch (type) {
    case 'f32':
      view.setFloat32(0, value);
      return { kind: 'number', type, bits: BigInt(view.getUint32(0)) };
    case 'f64':
      view.setFloat64(0, value);
      return { kind: 'number', type, bits: view.getBigUint64(0) };
    default:
      return { kind: 'number', type: 'i32', bits: BigInt(value >>> 0) };
  }
}

/**
 * Calls through a module made for it, with the arguments in its code and the results taken apart into i64: so that no bit is lost, and vectors can be
 * passed, which JavaScript cannot see.
 */
function call(
  run: (...args: unknown[]) => unknown,
  type: FunctionType | undefined,
  args: readonly Pattern[],
): Outcome[] {
  if (!type) return directCall(run, args);
  if (type.params.length !== args.length) throw new Failed('another number of arguments than parameters');
  const references: unknown[] = [];
  const referenceTypes: number[] = [];
  const pushes = args.map((arg, i): number[] => {
    const param = type.params[i]!;
    if (param === 'funcref' || param === 'externref') {
      references.push(referenceOf(arg));
      referenceTypes.push(valueBytes[param]);
      return [0x20, ...unsigned(references.length - 1)];
    }
    return constant(arg);
  });
  const locals = type.results.map((result) => [1, valueBytes[result]] as const);
  const first = referenceTypes.length;
  const takes = type.results.map((_, i) => [0x21, ...unsigned(first + i)]).reverse();
  const gives = type.results.map((result, i) => {
    const get = [0x20, ...unsigned(first + i)];
    switch (result) {
      case 'i32':
        return [...get, 0xad];
      case 'f32':
        return [...get, 0xbc, 0xad];
      case 'f64':
        return [...get, 0xbd];
      case 'v128':
        return [...get, 0xfd, 0x1d, 0, ...get, 0xfd, 0x1d, 1];
      default:
        return get;
    }
  });
  const out = type.results.flatMap((result) => {
    if (result === 'funcref' || result === 'externref') return [valueBytes[result]];
    return result === 'v128' ? [valueBytes.i64, valueBytes.i64] : [valueBytes.i64];
  });
  const types = [
    functionType(
      type.params.map((param) => valueBytes[param]),
      type.results.map((result) => valueBytes[result]),
    ),
    functionType(referenceTypes, out),
  ];
  const bytes = moduleOf([
    section(1, types),
    section(2, [[...nameBytes(''), ...nameBytes('f'), 0, 0]]),
    section(3, [[1]]),
    section(7, [[...nameBytes('r'), 0, 1]]),
    section(10, [body(locals, [...pushes.flat(), 0x10, 0, ...takes.flat(), ...gives.flat()])]),
  ]);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { '': { f: run } });
  const raw = (exports.r as (...args: unknown[]) => unknown)(...references);
  const values = out.length === 0 ? [] : out.length === 1 ? [raw] : [...(raw as unknown[])];
  return type.results.map((result): Outcome => {
    if (result === 'funcref' || result === 'externref') return { kind: 'reference', value: values.shift() };
    const low = BigInt.asUintN(64, values.shift() as bigint);
    if (result !== 'v128') return { kind: 'number', type: result, bits: low };
    return { kind: 'vector', bits: low | (BigInt.asUintN(64, values.shift() as bigint) << 64n) };
  });
}

function referenceOf(arg: Pattern): unknown {
  if (arg.kind === 'null') return null;
  if (arg.kind === 'host') return hostReference(arg.value);
  throw new Unsupported('an argument that JavaScript cannot make');
}

function constant(arg: Pattern): number[] {
  if (arg.kind === 'vector') return [0xfd, 0x0c, ...littleEndian(vectorBits(arg.lanes, arg.lane), 16)];
  if (arg.kind !== 'number') throw new Failed('a reference where a number is taken');
  const bits = arg.bits as bigint;
  switch (arg.type) {
    case 'i32':
      return [0x41, ...signed(BigInt.asIntN(32, bits))];
    case 'i64':
      return [0x42, ...signed(BigInt.asIntN(64, bits))];
    case 'f32':
      return [0x43, ...littleEndian(bits, 4)];
    case 'f64':
      return [0x44, ...littleEndian(bits, 8)];
  }
}

/** Where types are not known: what JavaScript can pass and see. */
function directCall(run: (...args: unknown[]) => unknown, args: readonly Pattern[]): Outcome[] {
  const view = new DataView(new ArrayBuffer(8));
  const values = args.map((arg) => {
    if (arg.kind !== 'number') return referenceOf(arg);
    view.setBigUint64(0, arg.bits as bigint);
    if (arg.type === 'i64') return view.getBigInt64(0);
    if (arg.type === 'f64') return view.getFloat64(0);
    return arg.type === 'f32' ? view.getFloat32(4) : view.getInt32(4);
  });
  const raw = run(...values);
  if (raw === undefined) return [];
  return (Array.isArray(raw) ? raw : [raw]).map((value) => outcomeOf(value, undefined));
}
