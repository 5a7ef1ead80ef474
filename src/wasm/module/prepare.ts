/**
 * Makes a module ready for an engine (see `PreparedModule`). Over 300 lines because it is one walk over the sections: what is added to one index
 * space is what the next refers to.
 *
 * Functions of the new module, in index order: imports, our import `grow`, the module's own (metered), adapters that make an imported function look
 * metered, thunks that make a metered function look original to the host, and helpers.
 */
import { createHash } from 'node:crypto';
import { IguanaError } from '../../errors.js';
import { callGraph } from '../gas/call-graph.js';
import { ControlFlow } from '../gas/control-flow.js';
import { chargeByCount, MeterBody, type Rewriting, testGas, testStack, ValueByte } from '../gas/meter-body.js';
import { GAS_UNIT, MAX_STACK_SLOTS } from '../gas/packed.js';
import { priceOfValues, prices } from '../gas/prices.js';
import { type ModuleSurvey, survey } from '../gas/survey.js';
import type { ExportInfo, FunctionType, ImportInfo, Limits, ModuleInfo, ValueType } from '../types.js';
import { ByteWriter } from './byte-writer.js';
import { Instructions } from './instructions.js';
import { Op } from './opcodes.js';
import { type ElementItem, type ElementSegment, type ParsedModule, parseModule } from './parse-module.js';
import type { PreparedModule, PrepareOptions } from './prepared.js';

/** A change of what is written is a new version, so that nothing kept of the old form is taken for the new one. */
const REWRITER_VERSION = 3;
/** Everything of ours in a prepared module begins with it. */
const PREFIX = 'iguana';
/** Largest callee whose call needs no test of the gas before it, and the most that callers pay for what a callee begins with. */
const UNTESTED_PRICE = 256;
/** What engines allow (WebAssembly JavaScript Interface, implementation limits), and what metering adds to. */
const ENGINE_LIMITS = {
  values: 1000,
  locals: 50_000,
  bodyBytes: 7_654_321,
  /** Functions, globals, types, exports. */
  entries: 1_000_000,
} as const;
/** A prepared module has at most so many bytes for each of the original, and so many more. */
const MOST_GROWTH = { factor: 16, bytes: 2 ** 20 } as const;
/** Bulk instructions do so much before the host is asked whether to go on: 1 MiB, or 2^14 table elements. */
const BULK_UNITS = 2 ** 17;
const BULK_BYTES = BULK_UNITS * prices.bytesPerUnit;
/** As a block's type: takes and gives nothing. */
const NO_VALUES = -0x40;
/** Pages that fit into 32 bits of addresses. */
const MAX_PAGES = 65_536;

/** What a module is, without changing it. @throws as `prepareModule` */
export function inspectModule(bytes: Uint8Array): ModuleInfo {
  validate(bytes);
  const module = parseModule(bytes);
  return infoOf(module, survey(module, new Instructions(bytes)));
}

/**
 * @param bytes a core module in binary format
 * @throws IguanaError `IGU_WASM_MALFORMED` when it is not a valid module, `IGU_WASM_UNSUPPORTED` with the name of what cannot be metered,
 *   `IGU_WASM_LIMIT` when it needs more memory or table from the start than it may have, or what is added to it would exceed what engines allow.
 * Cost: two passes over the bytes beside V8's validation.
 */
export function prepareModule(bytes: Uint8Array, options: PrepareOptions = {}): PreparedModule {
  validate(bytes);
  const module = parseModule(bytes);
  const code = new Instructions(bytes);
  return new Preparation(module, code, survey(module, code), options).write();
}

/** V8 says first whether a module is valid at all, so that nothing after has to defend itself against code whose types do not match. */
function validate(bytes: Uint8Array): void {
  if (WebAssembly.validate(bytes as Uint8Array<ArrayBuffer>)) return;
  parseModule(bytes); // Says where, when it is the format; and names features that V8 lacks too.
  let what = 'it does not validate';
  try {
    new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  } catch (error) {
    what = error instanceof Error ? error.message.replace(/^WebAssembly\.Module\(\): /, '') : what;
  }
  const offset = Number(/@\+(\d+)/.exec(what)?.[1] ?? 0);
  throw new IguanaError('IGU_WASM_MALFORMED', { what: what.replace(/ @\+\d+$/, ''), offset });
}

function infoOf(module: ParsedModule, code: ModuleSurvey): ModuleInfo {
  return {
    size: module.bytes.length,
    imports: module.imports,
    exports: module.exports,
    memories: module.memories,
    tables: module.tables,
    globals: module.globals.map(({ type, mutable, imported }) => ({ type, mutable, imported })),
    functionCount: module.code.length,
    features: [...new Set([...module.features, ...code.features])].sort(),
    hasStart: module.start !== undefined,
    functionNames: module.functionNames,
    ...(module.moduleName !== undefined && { moduleName: module.moduleName }),
  };
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

class Preparation implements Rewriting {
  private readonly metered: boolean;
  private readonly imported: number;
  /** How far the indices of the module's own functions move. */
  private readonly shift: number;
  private readonly growImport: number;
  readonly meteredReferences: boolean;
  readonly gasGlobal: number;
  readonly bulkGlobal: number;
  private globalCount: number;
  private readonly types: FunctionType[];
  private readonly typeOf = new Map<string, number>();
  private readonly meteredTypes = new Map<number, number>();
  private readonly blockTypes = new Map<readonly ValueType[], number>();
  /** Functions that something may refer to. */
  private readonly referred = new Set<number>();
  private readonly recurring: Uint8Array;
  private readonly headroom: number;
  private readonly recurringTypes = new Set<number>();
  /** Of each type of the original module. */
  private readonly valuePrices: readonly number[];
  /** For each type index of the original module the first index of an equal type. */
  private readonly canonical: Uint32Array;
  private readonly tables: readonly (Limits & { readonly element: ValueType; readonly imported: boolean })[];
  private readonly memories: readonly (Limits & { readonly shared: boolean; readonly imported: boolean })[];
  /** Type index and body of what is added behind the module's own functions. */
  private readonly added: {
    readonly type: number;
    readonly write: (out: ByteWriter) => void;
    readonly name?: string;
  }[] = [];
  private readonly adapters = new Map<number, number>();
  private readonly thunks = new Map<number, number>();
  private growMemoryHelper = -1;
  private readonly askHelpers = new Map<number, number>();
  private readonly growTableHelpers = new Map<number, number>();
  private readonly dropFlags = new Map<string, number>();
  private readonly exports: { readonly name: string; readonly kind: number; readonly index: number }[] = [];
  private readonly code: Instructions;

  constructor(
    private readonly module: ParsedModule,
    code: Instructions,
    private readonly survey: ModuleSurvey,
    private readonly options: PrepareOptions,
  ) {
    this.code = code;
    this.metered = options.metered ?? true;
    for (const { module: from } of module.imports) if (from === PREFIX) this.refuse(`import module ${PREFIX}`);
    for (const { name } of module.exports) if (name.startsWith(`${PREFIX}:`)) this.refuse(`export ${name}`);
    this.imported = module.importedFunctions;
    this.growImport = this.imported;
    this.shift = this.metered && (survey.growsMemory || survey.movesInBulk) ? 1 : 0;
    this.gasGlobal = module.globals.length;
    this.bulkGlobal = this.gasGlobal + 1;
    this.globalCount = module.globals.length + (this.metered ? (survey.movesInBulk ? 2 : 1) : 0);
    this.types = [...module.types];
    this.valuePrices = module.types.map(priceOfValues);
    this.canonical = Uint32Array.from(module.types, (type, i) => {
      const key = keyOf(type);
      const first = this.typeOf.get(key) ?? i;
      this.typeOf.set(key, first);
      return first;
    });
    this.memories = module.memories.map((memory) =>
      this.bounded(memory, 'memory (pages of 64 KiB)', options.maxMemoryPages, 'raise the memory limit'),
    );
    this.tables = module.tables.map((table) =>
      this.bounded(table, 'table (elements)', options.maxTableElements, 'raise the table limit'),
    );
    for (const f of survey.referenced) this.referred.add(f);
    for (const segment of module.elements) {
      if (segment.mode === 'declarative') continue;
      for (const item of segment.items)
        if (typeof item === 'object' && 'function' in item) this.referred.add(item.function);
    }
    for (const global of module.globals) for (const f of global.references) this.referred.add(f);
    this.meteredReferences = this.metered && !this.referencesLeave();
    const graph = callGraph(module, survey.functions, this.referred, this.canonical);
    this.recurring = graph.recurs;
    this.headroom = graph.headroom;
    if (this.metered) {
      const fix = 'compile the module with fewer locals in a function';
      atMost('the stack of one chain of calls (slots of 8 bytes)', this.headroom, MAX_STACK_SLOTS, fix);
    }
    for (const f of this.referred) {
      if (this.recurring[f]) this.recurringTypes.add(this.canonical[module.functionTypes[f]!]!);
    }
  }

  private refuse(what: string): never {
    throw new IguanaError('IGU_WASM_UNSUPPORTED', {
      what: `the name of its ${what}`,
      where: `: names beginning with ${PREFIX} are the runtime's`,
      fix: 'rename it',
    });
  }

  private bounded<T extends Limits>(limits: T, what: string, limit: number | undefined, fix: string): T {
    if (limit === undefined) return limits;
    atMost(`the ${what}`, limits.min, limit, fix);
    return { ...limits, max: Math.min(limits.max ?? limit, limit) };
  }

  /** Whether the host, or another module, can get hold of a function reference or put one into a table. */
  private referencesLeave(): boolean {
    const { imports, exports, types } = this.module;
    const carriers = new Set(types.filter((type) => [...type.params, ...type.results].includes('funcref')));
    const leaves = (item: ImportInfo | ExportInfo): boolean =>
      (item.kind === 'table' && item.element === 'funcref') ||
      (item.kind === 'global' && item.type === 'funcref') ||
      (item.kind === 'function' && carriers.has(item.type));
    return imports.some(leaves) || exports.some(leaves);
  }

  // What bodies ask for.

  readonly callees = {
    entryPrice: (f: number): number => {
      const first = f < this.imported ? prices.hostCall : this.paid(f);
      return first + this.valuePrices[this.module.functionTypes[f]!]!;
    },
    valuesPrice: (type: number): number => this.valuePrices[type]!,
    mustTest: (f: number): boolean =>
      f < this.imported || this.survey.functions[f - this.imported]!.straightPrice > UNTESTED_PRICE,
    recurs: (f: number): boolean => this.recurring[f] === 1,
    indirectRecurs: (type: number): boolean => this.recurringTypes.has(this.canonical[type]!),
  };

  /** What callers pay for a function's first segment: nothing when it can be called by those who do not know it. */
  private paid(f: number): number {
    if (this.meteredReferences && this.referred.has(f)) return 0;
    return Math.min(this.survey.functions[f - this.imported]!.entryPrice, UNTESTED_PRICE);
  }

  isImport(f: number): boolean {
    return f < this.imported;
  }

  function(f: number): number {
    return f < this.imported ? f : f + this.shift;
  }

  reference(f: number): number {
    if (!this.metered) return f;
    if (f < this.imported) return this.adapter(f);
    return this.meteredReferences ? this.function(f) : this.thunk(f);
  }

  private typeIndex(type: FunctionType): number {
    const key = keyOf(type);
    let index = this.typeOf.get(key);
    if (index === undefined) {
      index = this.types.push(type) - 1;
      this.typeOf.set(key, index);
    }
    return index;
  }

  meteredType(index: number): number {
    let metered = this.meteredTypes.get(index);
    if (metered === undefined) {
      const { params, results } = this.module.types[index]!;
      const fix = 'pass values in memory';
      atMost('parameters of one function, gas included', params.length + 1, ENGINE_LIMITS.values, fix);
      atMost('results of one function, gas included', results.length + 1, ENGINE_LIMITS.values, fix);
      metered = this.typeIndex({ params: [...params, 'i64'], results: [...results, 'i64'] });
      this.meteredTypes.set(index, metered);
    }
    return metered;
  }

  blockType(results: readonly ValueType[]): number {
    let index = this.blockTypes.get(results);
    if (index === undefined) {
      index = this.typeIndex({ params: [], results });
      this.blockTypes.set(results, index);
    }
    return index;
  }

  get growMemory(): number {
    if (this.growMemoryHelper < 0) {
      const type = this.typeIndex({ params: ['i32', 'i64'], results: ['i32', 'i64'] });
      this.growMemoryHelper = this.add(type, (out) => this.writeGrowMemory(out));
    }
    return this.growMemoryHelper;
  }

  growTable(table: number): number {
    let helper = this.growTableHelpers.get(table);
    if (helper === undefined) {
      const { element } = this.tables[table]!;
      const type = this.typeIndex({ params: [element, 'i32', 'i64'], results: ['i32', 'i64'] });
      helper = this.add(type, (out) => this.writeGrowTable(out, table));
      this.growTableHelpers.set(table, helper);
    }
    return helper;
  }

  askBetween(op: number): { readonly function: number; readonly type: number } {
    const splits = op === Op.memoryFill || op === Op.memoryCopy;
    const values: readonly ValueType[] = splits ? ['i32', 'i32', 'i32'] : [];
    const type = this.typeIndex({ params: values, results: values });
    const key = splits ? op : 0;
    let helper = this.askHelpers.get(key);
    if (helper === undefined) {
      helper = this.add(type, (out) => this.writeAskBetween(out, op));
      this.askHelpers.set(key, helper);
    }
    return { function: helper, type: splits ? type : NO_VALUES };
  }

  droppedData(segment: number): number {
    return this.dropFlag(`data:${segment}`);
  }

  droppedElements(segment: number): number {
    return this.dropFlag(`element:${segment}`);
  }

  private dropFlag(name: string): number {
    let global = this.dropFlags.get(name);
    if (global === undefined) {
      global = this.globalCount++;
      this.dropFlags.set(name, global);
    }
    return global;
  }

  // Functions that are added.

  private add(type: number, write: (out: ByteWriter) => void, name?: string): number {
    const body = { type, write, ...(name !== undefined && { name }) };
    return this.module.functionTypes.length + this.shift + this.added.push(body) - 1;
  }

  /** An imported function that pays for its call, with the type that references have: metered, or its own. */
  private adapter(f: number): number {
    let adapter = this.adapters.get(f);
    if (adapter === undefined) {
      const type = this.module.functionTypes[f]!;
      const gas = this.module.types[type]!.params.length;
      adapter = this.add(this.meteredReferences ? this.meteredType(type) : type, (out) => {
        out.u8(0);
        if (this.meteredReferences) out.u8(Op.localGet).u32(gas);
        else out.u8(Op.globalGet).u32(this.gasGlobal);
        out
          .u8(Op.i64Const)
          .signed(prices.hostCall * GAS_UNIT)
          .u8(Op.i64Sub);
        out.u8(Op.globalSet).u32(this.gasGlobal);
        for (let i = 0; i < gas; i++) out.u8(Op.localGet).u32(i);
        out.u8(Op.call).u32(f);
        if (this.meteredReferences) out.u8(Op.globalGet).u32(this.gasGlobal);
        out.u8(Op.end);
      });
      this.adapters.set(f, adapter);
    }
    return adapter;
  }

  /** A metered function with its original type: takes the gas from the global and puts back what is left. */
  private thunk(f: number): number {
    let thunk = this.thunks.get(f);
    if (thunk === undefined) {
      const type = this.module.functionTypes[f]!;
      const { params } = this.module.types[type]!;
      thunk = this.add(type, (out) => this.writeThunk(out, f, params.length), this.module.functionNames.get(f));
      this.thunks.set(f, thunk);
    }
    return thunk;
  }

  private writeThunk(out: ByteWriter, f: number, gas: number): void {
    out.u8(1).u8(1).u8(ValueByte.i64);
    out.u8(Op.globalGet).u32(this.gasGlobal);
    out
      .u8(Op.i64Const)
      .signed(this.paid(f) * GAS_UNIT + this.headroom)
      .u8(Op.i64Sub)
      .u8(Op.localSet)
      .u32(gas);
    testStack(out, gas, this.gasGlobal);
    testGas(out, gas, this.gasGlobal);
    for (let i = 0; i <= gas; i++) out.u8(Op.localGet).u32(i);
    out.u8(Op.call).u32(this.function(f));
    out.u8(Op.i64Const).signed(this.headroom).u8(Op.i64Add).u8(Op.localTee).u32(gas);
    out.u8(Op.globalSet).u32(this.gasGlobal);
    testGas(out, gas, this.gasGlobal);
    out.u8(Op.end);
  }

  /** `memory.grow` that pays for pages it will get, and asks the host when the module's own maximum allows them. */
  private writeGrowMemory(out: ByteWriter): void {
    const max = this.memories[0]!.max ?? MAX_PAGES;
    out.u8(0).u8(Op.block).u8(0x40);
    out.u8(Op.memorySize).u8(0).u8(Op.i64ExtendI32U).u8(Op.localGet).u8(0).u8(Op.i64ExtendI32U).u8(Op.i64Add);
    out.u8(Op.i64Const).signed(max).u8(Op.i64LeU).u8(Op.i32Eqz).u8(Op.brIf).u8(0);
    out.u8(Op.localGet).u8(1);
    chargeByCount(out, 0, true, prices.memoryPage);
    out.u8(Op.localSet).u8(1);
    testGas(out, 1, this.gasGlobal);
    out.u8(Op.localGet).u8(1).u8(Op.globalSet).u32(this.gasGlobal);
    out.u8(Op.localGet).u8(0).u8(Op.call).u32(this.growImport);
    out.u8(Op.globalGet).u32(this.gasGlobal).u8(Op.localSet).u8(1);
    out.u8(Op.i32Eqz).u8(Op.brIf).u8(0);
    out.u8(Op.localGet).u8(0).u8(Op.memoryGrow).u8(0).u8(Op.localGet).u8(1).u8(Op.return).u8(Op.end);
    out.u8(Op.i32Const).signed(-1).u8(Op.localGet).u8(1).u8(Op.end);
  }

  /** Growth by nothing is allowed, and is where a host stops what is out of time. `memory.fill` and `memory.copy` of more are done by and by. */
  private writeAskBetween(out: ByteWriter, op: number): void {
    const ask = (): void => {
      out.u8(Op.i32Const).u8(0).u8(Op.call).u32(this.growImport).u8(Op.drop);
    };
    out.u8(0).u8(Op.i32Const).signed(BULK_UNITS).u8(Op.globalSet).u32(this.bulkGlobal);
    ask();
    if (op === Op.memoryFill || op === Op.memoryCopy) {
      // What is out of bounds traps whole, where it stands.
      out.u8(Op.block).u8(0x40);
      for (const address of op === Op.memoryCopy ? [0, 1] : [0]) {
        out.u8(Op.localGet).u32(address).u8(Op.i64ExtendI32U).u8(Op.localGet).u8(2).u8(Op.i64ExtendI32U).u8(Op.i64Add);
        out.u8(Op.memorySize).u8(0).u8(Op.i64ExtendI32U).u8(Op.i64Const).u8(16).u8(Op.i64Shl);
        out.u8(Op.i64GtU).u8(Op.brIf).u8(0);
      }
      if (op === Op.memoryFill) writeParts(out, op, 'up', ask);
      else {
        out.u8(Op.localGet).u8(0).u8(Op.localGet).u8(1).u8(Op.i32LtU).u8(Op.if).u8(0x40);
        writeParts(out, op, 'up', ask);
        out.u8(Op.else);
        writeParts(out, op, 'down', ask);
        out.u8(Op.end);
      }
      out.u8(Op.end).u8(Op.localGet).u8(0).u8(Op.localGet).u8(1).u8(Op.localGet).u8(2);
    }
    out.u8(Op.end);
  }

  private writeGrowTable(out: ByteWriter, table: number): void {
    const max = this.tables[table]!.max ?? 2 ** 32 - 1;
    out.u8(0).u8(Op.block).u8(0x40);
    out
      .u8(0xfc)
      .u32(Op.tableSize - 0x100)
      .u32(table)
      .u8(Op.i64ExtendI32U);
    out.u8(Op.localGet).u8(1).u8(Op.i64ExtendI32U).u8(Op.i64Add);
    out.u8(Op.i64Const).signed(max).u8(Op.i64LeU).u8(Op.i32Eqz).u8(Op.brIf).u8(0);
    out.u8(Op.localGet).u8(2);
    chargeByCount(out, 1, true);
    out.u8(Op.localSet).u8(2);
    testGas(out, 2, this.gasGlobal);
    out
      .u8(Op.localGet)
      .u8(0)
      .u8(Op.localGet)
      .u8(1)
      .u8(0xfc)
      .u32(Op.tableGrow - 0x100)
      .u32(table);
    out.u8(Op.localGet).u8(2).u8(Op.return).u8(Op.end);
    out.u8(Op.i32Const).signed(-1).u8(Op.localGet).u8(2).u8(Op.end);
  }

  // The module.

  write(): PreparedModule {
    const { module } = this;
    // All that may add a type comes before the types are written.
    const own = module.functionTypes.slice(this.imported).map((type) => (this.metered ? this.meteredType(type) : type));
    const bodies = this.writeBodies();
    const elements = module.elements.map((segment) => this.elementSegment(segment));
    if (this.metered && this.survey.referenced.size > 0) elements.push(this.declaration());
    const globals = this.writeGlobals();
    const described = this.describeExports();
    this.writeAdded(bodies);
    const { functionTypes } = module;
    this.checkEntries('functions', functionTypes.length + this.shift + this.added.length);
    this.checkEntries('globals', this.globalCount);
    this.checkEntries('types', this.types.length);
    this.checkEntries('exports', this.exports.length);

    const out = new ByteWriter(module.bytes.length * 2);
    out.raw([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
    const list = <T>(id: number, items: readonly T[], write: (item: T) => void): void => {
      if (items.length === 0) return;
      out.section(id, () => {
        out.u32(items.length);
        for (const item of items) write(item);
      });
    };
    const growType = this.shift ? this.typeIndex({ params: ['i32'], results: ['i32'] }) : 0;
    list(1, this.types, ({ params, results }) => {
      out.u8(0x60);
      for (const side of [params, results]) {
        out.u32(side.length);
        for (const type of side) out.u8(ValueByte[type]);
      }
    });
    const imports: (number | 'grow')[] = [...module.imports.keys()];
    if (this.shift) imports.push('grow');
    const [memories, tables] = [this.memories.values(), this.tables.values()];
    list(2, imports, (item) => {
      if (item === 'grow') out.name(PREFIX).name('grow').u8(0).u32(growType);
      else this.writeImport(out, item, memories, tables);
    });
    list(3, [...own, ...this.added.map(({ type }) => type)], (type) => out.u32(type));
    list(
      4,
      this.tables.filter(({ imported }) => !imported),
      (table) => {
        out.u8(ValueByte[table.element]);
        writeLimits(out, table);
      },
    );
    list(
      5,
      this.memories.filter(({ imported }) => !imported),
      (memory) => writeLimits(out, memory),
    );
    list(6, globals, (bytes) => out.raw(bytes));
    list(7, this.exports, ({ name, kind, index }) => out.name(name).u8(kind).u32(index));
    list(9, elements, (bytes) => out.raw(bytes));
    if (module.dataCount !== undefined) out.section(12, () => out.u32(module.dataCount!));
    out.section(10, () => {
      out.u32(module.code.length + this.added.length).raw(bodies.bytes);
    });
    if (module.data) out.section(11, () => out.copy(module.bytes, module.data!.from, module.data!.to));
    this.writeNames(out);

    const bytes = out.finish();
    return { ...described, id: this.id(), bytes, info: infoOf(module, this.survey), metered: this.metered };
  }

  private id(): string {
    const { metered = true, maxMemoryPages = 'none', maxTableElements = 'none' } = this.options;
    const hash = createHash('sha256').update(this.module.bytes);
    return hash
      .update(`${REWRITER_VERSION}/${prices.version}/${metered}/${maxMemoryPages}/${maxTableElements}`)
      .digest('hex')
      .slice(0, 32);
  }

  private writeBodies(): ByteWriter {
    const { module, code } = this;
    const out = new ByteWriter(module.bytes.length * 2);
    const body = new ByteWriter(65_536);
    const flow = new ControlFlow(code, this.callees);
    for (const [i, range] of module.code.entries()) {
      if (!this.metered) {
        out.u32(range.to - range.from).copy(module.bytes, range.from, range.to);
        continue;
      }
      const f = this.imported + i;
      code.read(range.from, range.to);
      const type = module.types[module.functionTypes[f]!]!;
      body.length = 0;
      const { frameSlots } = this.survey.functions[i]!;
      const temporary = new MeterBody(code, flow, type, this, body, this.paid(f), frameSlots).write();
      out.sized(() => {
        out.u32(code.locals.length + (temporary ? 1 : 0));
        for (const { count, type: valueType } of code.locals) out.u32(count).u8(valueType);
        if (temporary) out.u8(1).u8(ValueByte.i32);
        out.raw(body.bytes);
      });
      this.checkBody(type.params.length + code.localCount + 2, body.length + 8 + 6 * code.locals.length);
      this.checkGrowth(out);
    }
    return out;
  }

  /** Writing one may ask for another. */
  private writeAdded(out: ByteWriter): void {
    for (let i = 0; i < this.added.length; i++) {
      out.sized(this.added[i]!.write);
      this.checkGrowth(out);
    }
  }

  private checkEntries(what: string, count: number): void {
    atMost(`${what}, the runtime's own included`, count, ENGINE_LIMITS.entries, 'split the module');
  }

  private checkBody(locals: number, bytes: number): void {
    atMost('locals of one metered function', locals, ENGINE_LIMITS.locals, 'split the function');
    atMost('bytes of one metered function', bytes, ENGINE_LIMITS.bodyBytes, 'split the function');
  }

  /** What is added for each function grows with its parameters: many functions of a long type would fill the memory of the host. */
  private checkGrowth(out: ByteWriter): void {
    const limit = this.module.bytes.length * MOST_GROWTH.factor + MOST_GROWTH.bytes;
    atMost('bytes of the metered module', out.length, limit, 'give functions that are exported fewer parameters');
  }

  /** @param memories and tables give the bounded ones in order: imports are the first of them */
  private writeImport(out: ByteWriter, i: number, memories: Iterator<Limits>, tables: Iterator<Limits>): void {
    const item = this.module.imports[i]!;
    const range = this.module.importRanges[i]!;
    if (item.kind !== 'memory' && item.kind !== 'table') {
      out.copy(this.module.bytes, range.from, range.to);
      return;
    }
    out.name(item.module).name(item.name);
    if (item.kind === 'memory') {
      out.u8(2);
      writeLimits(out, memories.next().value);
    } else {
      out.u8(1).u8(ValueByte[item.element]);
      writeLimits(out, tables.next().value);
    }
  }

  private writeGlobals(): Uint8Array[] {
    const { module } = this;
    const globals: Uint8Array[] = [];
    for (const { type, mutable, init, references } of module.globals) {
      if (!init) continue;
      const out = new ByteWriter(64).u8(ValueByte[type]).u8(mutable ? 1 : 0);
      if (references.length > 0) out.u8(Op.refFunc).u32(this.reference(references[0]!)).u8(Op.end);
      else out.copy(module.bytes, init.from, init.to);
      globals.push(out.bytes);
    }
    if (this.metered) globals.push(Uint8Array.of(ValueByte.i64, 1, Op.i64Const, 0, Op.end));
    if (this.metered && this.survey.movesInBulk)
      globals.push(new ByteWriter(16).u8(ValueByte.i32).u8(1).u8(Op.i32Const).signed(BULK_UNITS).u8(Op.end).bytes);
    for (let flag = 0; flag < this.dropFlags.size; flag++) {
      globals.push(Uint8Array.of(ValueByte.i32, 1, Op.i32Const, 0, Op.end));
    }
    return globals;
  }

  private elementSegment(segment: ElementSegment): Uint8Array {
    const out = new ByteWriter(64);
    const { mode, table, offset, element, items } = segment;
    const active = mode === 'active';
    const expressions = element !== 'funcref' || items.some((item) => item === 'null' || 'global' in item);
    const explicit = mode === 'declarative' || (active && (table !== 0 || element !== 'funcref'));
    out.u32((active ? 0 : 1) | (explicit ? 2 : 0) | (expressions ? 4 : 0));
    if (active && explicit) out.u32(table);
    if (offset) out.copy(this.module.bytes, offset.from, offset.to);
    if (!active || explicit) out.u8(expressions ? ValueByte[element] : 0);
    // A declaration only says what code refers to, and code now refers to what stands for it.
    const reference = (f: number): number =>
      mode === 'declarative' && !this.referred.has(f) ? this.function(f) : this.reference(f);
    out.u32(items.length);
    for (const item of items) writeItem(out, item, element, expressions, reference);
    return out.bytes;
  }

  /** Declares what `ref.func` in code now refers to: an export no longer does. */
  private declaration(): Uint8Array {
    const out = new ByteWriter(64).u32(3).u8(0).u32(this.survey.referenced.size);
    for (const f of this.survey.referenced) out.u32(this.reference(f));
    return out.bytes;
  }

  /** Exports of the module and ours; everything that a snapshot needs gets a name. */
  private describeExports(): Mutable<Omit<PreparedModule, 'id' | 'bytes' | 'info' | 'metered'>> {
    const { module, survey: code } = this;
    const kinds = { function: 0, table: 1, memory: 2, global: 3 } as const;
    const outside = (f: number): number => {
      if (f < this.imported) return f;
      return this.metered ? this.thunk(f) : this.function(f);
    };
    for (const { name, kind, index } of module.exports) {
      this.exports.push({ name, kind: kinds[kind], index: kind === 'function' ? outside(index) : index });
    }
    const own = (kind: keyof typeof kinds, index: number, name: string): string => {
      const full = `${PREFIX}:${name}`;
      this.exports.push({ name: full, kind: kinds[kind], index });
      return full;
    };
    const names = new Map<string, string>();
    for (const { kind, index, name } of module.exports) {
      if (kind !== 'function' && !names.has(`${kind}:${index}`)) names.set(`${kind}:${index}`, name);
    }
    const named = (kind: 'table' | 'memory' | 'global', index: number): string =>
      names.get(`${kind}:${index}`) ?? own(kind, index, `${kind}:${index}`);

    const changed = module.tables.flatMap((table, index) => {
      const open = table.imported || names.has(`table:${index}`);
      return open || code.changedTables.has(index) ? [{ index, element: table.element }] : [];
    });
    const refersToFunctions =
      changed.some(({ element }) => element === 'funcref') ||
      module.globals.some((g) => g.mutable && g.type === 'funcref');
    const segments = !this.metered
      ? []
      : [
          ...[...code.droppedData].map((index) => ({ kind: 'data' as const, index })),
          ...[...code.droppedElements].map((index) => ({ kind: 'element' as const, index })),
        ];
    return {
      ...(this.metered && { gas: own('global', this.gasGlobal, 'gas') }),
      ...(module.start !== undefined && { start: own('function', outside(module.start), 'start') }),
      hostImports: this.shift ? ['grow'] : [],
      memories: this.memories.map((_, index) => named('memory', index)),
      globals: module.globals.flatMap(({ mutable, imported, type }, index) =>
        mutable && !imported ? [{ index, type, export: named('global', index) }] : [],
      ),
      tables: changed.map(({ index, element }) => ({
        index,
        element,
        export: named('table', index),
      })),
      references: refersToFunctions
        ? [...this.referred].map((index) => ({
            index,
            export: own('function', this.reference(index), `function:${index}`),
          }))
        : [],
      segments: segments.map(({ kind, index }) => {
        const flag = kind === 'data' ? this.droppedData(index) : this.droppedElements(index);
        const drop = this.add(this.typeIndex({ params: [], results: [] }), (out) => {
          out.u8(0).u8(Op.i32Const).u8(1).u8(Op.globalSet).u32(flag);
          out
            .u8(0xfc)
            .u32((kind === 'data' ? Op.dataDrop : Op.elementDrop) - 0x100)
            .u32(index)
            .u8(Op.end);
        });
        return {
          kind,
          index,
          dropped: own('global', flag, `dropped-${kind}:${index}`),
          drop: own('function', drop, `drop-${kind}:${index}`),
        };
      }),
    };
  }

  /** Names of functions, for traps that can be read. */
  private writeNames(out: ByteWriter): void {
    const names: [number, string][] = [];
    for (const [f, name] of this.module.functionNames) {
      if (f < this.module.functionTypes.length) names.push([this.function(f), name]);
    }
    for (const [i, { name }] of this.added.entries()) {
      if (name !== undefined) names.push([this.module.functionTypes.length + this.shift + i, name]);
    }
    if (names.length === 0) return;
    names.sort(([a], [b]) => a - b);
    out.section(0, () => {
      out.name('name').u8(1);
      out.sized(() => {
        out.u32(names.length);
        for (const [index, name] of names) out.u32(index).name(name);
      });
    });
  }
}

/** @throws IguanaError `IGU_WASM_LIMIT` */
function atMost(what: string, value: number, limit: number, fix: string): void {
  if (value > limit) throw new IguanaError('IGU_WASM_LIMIT', { what, value, limit, fix });
}

/** Does all but the last part of a `memory.fill` or `memory.copy` whose operands are locals 0 to 2; downwards it begins at the end, and they stay. */
function writeParts(out: ByteWriter, op: number, order: 'up' | 'down', ask: () => void): void {
  const move = (local: number, operation: number): void => {
    out.u8(Op.localGet).u32(local).u8(Op.i32Const).signed(BULK_BYTES).u8(operation).u8(Op.localSet).u32(local);
  };
  const address = (local: number): void => {
    out.u8(Op.localGet).u32(local);
    if (order === 'down') out.u8(Op.localGet).u8(2).u8(Op.i32Add);
  };
  out.u8(Op.block).u8(0x40).u8(Op.loop).u8(0x40);
  out.u8(Op.localGet).u8(2).u8(Op.i32Const).signed(BULK_BYTES).u8(Op.i32LeU).u8(Op.brIf).u8(1);
  if (order === 'down') move(2, Op.i32Sub);
  address(0);
  if (op === Op.memoryCopy) address(1);
  else out.u8(Op.localGet).u8(1);
  out
    .u8(Op.i32Const)
    .signed(BULK_BYTES)
    .u8(0xfc)
    .u32(op - 0x100)
    .u8(0);
  if (op === Op.memoryCopy) out.u8(0);
  if (order === 'up') {
    move(0, Op.i32Add);
    if (op === Op.memoryCopy) move(1, Op.i32Add);
    move(2, Op.i32Sub);
  }
  ask();
  out.u8(Op.br).u8(0).u8(Op.end).u8(Op.end);
}

function keyOf({ params, results }: FunctionType): string {
  return `${params.join()}>${results.join()}`;
}

function writeLimits(out: ByteWriter, { min, max }: Limits): void {
  out.u8(max === undefined ? 0 : 1).u32(min);
  if (max !== undefined) out.u32(max);
}

function writeItem(
  out: ByteWriter,
  item: ElementItem,
  element: ValueType,
  expressions: boolean,
  reference: (f: number) => number,
): void {
  if (item === 'null') out.u8(Op.refNull).u8(ValueByte[element]);
  else if ('global' in item) out.u8(Op.globalGet).u32(item.global);
  else if (expressions) out.u8(Op.refFunc).u32(reference(item.function));
  else out.u32(reference(item.function));
  if (expressions) out.u8(Op.end);
}
