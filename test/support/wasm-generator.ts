/**
 * Valid modules from a seed: typed code over all the instructions of a profile, in two forms. The second counts its gas itself, instruction by
 * instruction in a global, from its own reading of the price table: the slowest and plainest way, to hold the rewriter's count against. One file because
 * every statement may hold every other.
 *
 * NaNs are made canonical after every operator that may choose their payload, so that engines cannot differ in what the standard leaves open.
 */
import { uniform } from './random.js';
import {
  body,
  functionType,
  littleEndian,
  moduleOf,
  name,
  section,
  signed,
  unsigned,
  valueBytes,
  vector,
} from './wasm-binary.js';
import { allOperators, loads, type NumberType, type Operator, type StackType, stores } from './wasm-operators.js';

export interface Profile {
  readonly name: 'first-release' | 'second-release' | 'simd';
  /** Every loop and recursion ends by fuel, so that the module can run without gas; else only gas may end it. */
  readonly bounded: boolean;
}

export interface Signature {
  readonly params: readonly StackType[];
  readonly results: readonly StackType[];
}

export interface GeneratedModule {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same, with the exported i64 globals `count` and `limit`; it stops at loops and entries once the count is beyond the limit. */
  readonly counted: Uint8Array<ArrayBuffer>;
  readonly functions: readonly (Signature & { readonly name: string })[];
  /** Exported mutable globals of number types, `fuel` aside. */
  readonly globals: readonly string[];
  readonly instructions: number;
}

/** Fuel of a bounded module for one call; the caller writes it into the exported global `fuel`. */
export const FUEL = 120;
/** Limit of a counting module while its start function runs. */
export const LIMIT_AT_START = 20_000;
const MEMORY_MAX = 4;
const TABLE_MAX = 12;
const FUEL_GLOBAL = 0;

/** Prices as the table of version 1 states them in words. */
const price = { simple: 1, division: 4, branchTable: 2, call: 2, callIndirect: 4, hostCall: 64, page: 1024 } as const;
const divisions = new Set([
  ...[0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, 0x91, 0x95, 0x9f, 0xa3],
  ...[0xfde3, 0xfde7, 0xfdef, 0xfdf3],
]);

const integerDivisions = new Set([0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82]);

/** What an instruction costs beside its fixed price, by the operand on top of the stack. */
type ByCount = 'bytes' | 'elements' | 'pages' | { readonly growsTable: number };

interface Instruction {
  readonly bytes: readonly number[];
  readonly price: number;
  readonly byCount?: ByCount;
}

interface Label {
  readonly types: readonly StackType[];
  readonly loop: boolean;
}

const imports: readonly (Signature & { readonly name: string })[] = [
  { name: 'mix', params: ['i32'], results: ['i32'] },
  { name: 'wide', params: ['i64', 'f64'], results: ['f64'] },
  { name: 'quiet', params: [], results: [] },
];

/** The host functions that generated modules import under `env`. */
export const hostFunctions = {
  mix: (a: unknown) => (Math.imul(Number(a), 0x9e3779b1) ^ 0x55) | 0,
  wide: (a: unknown, b: unknown) => (Number.isNaN(b) ? 1 : Number(b)) + Number(BigInt.asIntN(16, a as bigint)),
  quiet: () => undefined,
};

const numberTypes: readonly NumberType[] = ['i32', 'i64', 'f32', 'f64'];

export function generateModule(seed: number, profile: Profile): GeneratedModule {
  return new Generator(seed, profile).generate();
}

class Generator {
  private readonly random: () => number;
  readonly types: Signature[] = [];
  readonly functions: Signature[] = [...imports];
  readonly globals: { readonly type: StackType; readonly mutable: boolean }[] = [{ type: 'i32', mutable: true }];
  readonly operators: ReadonlyMap<StackType, readonly Operator[]>;
  readonly valueTypes: readonly StackType[];
  readonly newer: boolean;
  readonly simd: boolean;
  readonly tableSize: number;
  readonly tableMax: number;
  readonly table: (number | null)[];
  readonly passive: readonly number[];

  constructor(
    seed: number,
    readonly profile: Profile,
  ) {
    this.random = uniform(seed);
    this.newer = profile.name !== 'first-release';
    this.simd = profile.name === 'simd';
    this.valueTypes = this.simd ? [...numberTypes, 'v128'] : numberTypes;
    const usable = allOperators.filter(({ needs }) => needs !== 'simd' || this.simd);
    this.operators = new Map(
      this.valueTypes.map((type) => [type, usable.filter(({ gives }) => gives === type)] as const),
    );
    for (const type of [...this.valueTypes, this.pick(this.valueTypes), this.pick(this.valueTypes)]) {
      this.globals.push({ type, mutable: this.chance(0.8) });
    }
    if (this.newer) this.globals.push({ type: 'funcref', mutable: true });
    const count = 2 + this.below(4);
    for (let i = 0; i < count; i++) this.functions.push(this.signature());
    this.tableSize = 4 + this.below(5);
    this.tableMax = this.tableSize + this.below(TABLE_MAX - this.tableSize + 1);
    this.table = Array.from({ length: this.tableSize }, () =>
      this.chance(0.85) ? this.below(this.functions.length) : null,
    );
    this.passive = Array.from({ length: 3 }, () => this.below(this.functions.length));
  }

  below(n: number): number {
    return Math.floor(this.random() * n);
  }

  chance(share: number): boolean {
    return this.random() < share;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }

  private signature(): Signature {
    const some = (most: number) => Array.from({ length: this.below(most + 1) }, () => this.pick(numberTypes));
    return { params: some(3), results: some(this.newer ? 2 : 1) };
  }

  typeIndex({ params, results }: Signature): number {
    const same = (a: readonly StackType[], b: readonly StackType[]) => a.join() === b.join();
    const found = this.types.findIndex((type) => same(type.params, params) && same(type.results, results));
    return found >= 0 ? found : this.types.push({ params, results }) - 1;
  }

  generate(): GeneratedModule {
    const signatures = this.functions.map((type) => this.typeIndex(type));
    const own = this.functions.slice(imports.length);
    const bodies = own.map((type, i) => new FunctionBody(this, type).write(i));
    const start = this.chance(0.3);
    if (start) {
      signatures.push(this.typeIndex({ params: [], results: [] }));
      bodies.push(new FunctionBody(this, { params: [], results: [] }).write(own.length));
    }
    const showsTable = this.chance(0.4);
    const data = Array.from({ length: 24 }, () => this.below(256));
    const build = (counted: boolean): Uint8Array<ArrayBuffer> => {
      const functionImports = imports.map((item, i) => [...name('env'), ...name(item.name), 0, signatures[i]!]);
      const tables = [[0x70, 1, this.tableSize, this.tableMax]];
      if (this.newer) tables.push([0x6f, 1, 2, 6]);
      const globals = this.globals.map(({ type, mutable }) => [
        valueBytes[type],
        mutable ? 1 : 0,
        ...constant(type, type === 'v128' || type === 'funcref' ? 0n : 3n),
        0x0b,
      ]);
      if (counted) {
        globals.push([valueBytes.i64, 1, 0x42, 0, 0x0b]);
        globals.push([valueBytes.i64, 1, 0x42, ...signed(LIMIT_AT_START), 0x0b]);
      }
      const exported = [
        ...own.map((_, i) => [...name(`f${i}`), 0, imports.length + i]),
        [...name('memory'), 2, 0],
        [...name('fuel'), 3, FUEL_GLOBAL],
        ...this.shownGlobals().map((i) => [...name(`g${i}`), 3, ...unsigned(i)]),
        ...(showsTable ? [[...name('table'), 1, 0]] : []),
        ...(counted ? [[...name('count'), 3, ...unsigned(this.globals.length)]] : []),
        ...(counted ? [[...name('limit'), 3, ...unsigned(this.globals.length + 1)]] : []),
      ];
      const elements: number[][] = this.table.flatMap((f, i) => (f === null ? [] : [[0, 0x41, i, 0x0b, 1, f]]));
      if (this.newer) {
        elements.unshift([1, 0, ...vector(this.passive.map((f) => [f]))]);
        elements.push([3, 0, ...vector(this.functions.map((_, i) => [i]))]);
      }
      const active = [0, 0x41, 16, 0x0b, ...unsigned(data.length), ...data];
      return moduleOf([
        section(
          1,
          this.types.map(({ params, results }) => functionType(params.map(byteOf), results.map(byteOf))),
        ),
        section(2, functionImports),
        section(
          3,
          signatures.slice(imports.length).map((type) => unsigned(type)),
        ),
        section(4, tables),
        section(5, [[1, 1, MEMORY_MAX]]),
        section(6, globals),
        section(7, exported),
        start ? [8, ...unsigned(unsigned(signatures.length - 1).length), ...unsigned(signatures.length - 1)] : [],
        section(9, elements),
        this.newer ? [12, 1, 2] : [],
        section(
          10,
          bodies.map((one) => one.bytes(counted ? this.globals.length : undefined)),
        ),
        section(11, this.newer ? [[1, ...unsigned(data.length), ...data], active] : [active]),
      ]);
    };
    return {
      bytes: build(false),
      counted: build(true),
      functions: own.map((type, i) => ({ ...type, name: `f${i}` })),
      globals: this.shownGlobals().map((i) => `g${i}`),
      instructions: bodies.reduce((sum, { code }) => sum + code.length, 0),
    };
  }

  private shownGlobals(): number[] {
    return this.globals.flatMap(({ type, mutable }, i) =>
      i !== FUEL_GLOBAL && mutable && (numberTypes as readonly StackType[]).includes(type) ? [i] : [],
    );
  }
}

function byteOf(type: StackType): number {
  return valueBytes[type];
}

function constant(type: StackType, value: bigint): number[] {
  switch (type) {
    case 'i32':
      return [0x41, ...signed(BigInt.asIntN(32, value))];
    case 'i64':
      return [0x42, ...signed(BigInt.asIntN(64, value))];
    case 'f32':
      return [0x43, ...littleEndian(value, 4)];
    case 'f64':
      return [0x44, ...littleEndian(value, 8)];
    case 'v128':
      return [0xfd, 0x0c, ...littleEndian(value, 16)];
    case 'funcref':
    case 'externref':
      return [0xd0, valueBytes[type]];
  }
}

const nan = { f32: 0x7fc0_0000n, f64: 0x7ff8_0000_0000_0000n } as const;

function opcodeBytes(opcode: number): number[] {
  return opcode < 0x100 ? [opcode] : [opcode >> 8, ...unsigned(opcode & 0xff)];
}

/** One function's code as it is generated. */
class FunctionBody {
  readonly code: Instruction[] = [];
  private readonly locals: StackType[];
  /** What any statement may write. */
  private readonly free: number[] = [];
  private readonly labels: Label[] = [];
  private budget = 40;
  private readonly paramCount: number;

  constructor(
    private readonly of: Generator,
    private readonly type: Signature,
  ) {
    this.paramCount = type.params.length;
    this.locals = [...type.params];
    for (const valueType of of.valueTypes) {
      for (let i = of.below(2); i < 2; i++) this.locals.push(valueType);
    }
    for (const i of this.locals.keys()) this.free.push(i);
  }

  write(index: number): this {
    const { of } = this;
    this.budget = index === 0 ? 90 : 20 + of.below(60);
    this.labels.push({ types: this.type.results, loop: false });
    if (of.profile.bounded) {
      this.burnFuel();
      this.op([0x45]).op([0x04, 0x40]);
      for (const result of this.type.results) this.op(constant(result, 0n));
      this.op([0x0f], 0).op([0x0b], 0);
    }
    this.block(2 + of.below(5), 0);
    for (const result of this.type.results) this.expression(result, 0);
    return this;
  }

  /** @param count index of the global that counts, or undefined for none */
  bytes(count: number | undefined): number[] {
    const groups = this.locals.slice(this.paramCount).map((type) => [1, valueBytes[type]] as const);
    if (count === undefined)
      return body(
        groups,
        this.code.flatMap(({ bytes }) => [...bytes]),
      );
    const temporary = unsigned(this.locals.length);
    const global = unsigned(count);
    const code: number[] = [];
    const add = (...amount: number[]) => code.push(0x23, ...global, ...amount, 0x7c, 0x24, ...global);
    const stopAtLimit = () => {
      code.push(0x23, ...global, 0x23, ...unsigned(count + 1), 0x55, 0x04, 0x40, 0x00, 0x0b);
    };
    stopAtLimit();
    for (const { bytes, price: fixed, byCount } of this.code) {
      if (fixed > 0) add(0x42, ...signed(fixed));
      if (byCount !== undefined) {
        const amount = [0x20, ...temporary, 0xad];
        code.push(0x22, ...temporary);
        if (byCount === 'bytes') add(...amount, 0x42, 3, 0x88);
        else if (byCount === 'elements') add(...amount);
        else {
          const pages = byCount === 'pages';
          code.push(...(pages ? [0x3f, 0] : [0xfc, 16, byCount.growsTable]), 0xad, ...amount, 0x7c);
          const max = pages ? MEMORY_MAX : byCount.growsTable === 0 ? this.of.tableMax : 6;
          code.push(0x42, ...signed(max), 0x58, 0x04, 0x40);
          add(...amount, 0x42, ...signed(pages ? price.page : price.simple), 0x7e);
          code.push(0x0b);
        }
      }
      code.push(...bytes);
      if (bytes[0] === 0x03) stopAtLimit();
    }
    return body([...groups, [1, valueBytes.i32]], code);
  }

  private op(bytes: readonly number[], fixed: number = price.simple, byCount?: ByCount): this {
    this.code.push({ bytes, price: fixed, ...(byCount !== undefined && { byCount }) });
    return this;
  }

  private newLocal(type: StackType): number {
    return this.locals.push(type) - 1;
  }

  private localOf(type: StackType): number | undefined {
    const some = this.free.filter((i) => this.locals[i] === type);
    return some.length > 0 ? this.of.pick(some) : undefined;
  }

  private get(local: number): this {
    return this.op([0x20, ...unsigned(local)]);
  }

  private set(local: number): this {
    return this.op([0x21, ...unsigned(local)]);
  }

  /** Leaves 1 while there is fuel. */
  private burnFuel(): void {
    this.op([0x23, FUEL_GLOBAL]).op([0x41, 1]).op([0x6b]).op([0x24, FUEL_GLOBAL]);
    this.op([0x23, FUEL_GLOBAL]).op([0x41, 0]).op([0x4a]);
  }

  // Statements: they leave the stack as it was.

  private block(statements: number, depth: number): void {
    for (let i = 0; i < statements && this.budget > 0; i++) this.statement(depth);
  }

  private statement(depth: number): void {
    const { of } = this;
    this.budget -= 2;
    const deep = depth > 3;
    switch (of.below(of.newer ? 22 : 17)) {
      case 0:
      case 1:
        this.assign(depth);
        return;
      case 2:
        this.assignGlobal(depth);
        return;
      case 3:
      case 4:
        this.store(depth);
        return;
      case 5:
        if (deep) this.assign(depth);
        else this.ifElse(depth);
        return;
      case 6:
        if (deep) this.store(depth);
        else this.plainBlock(depth);
        return;
      case 7:
        if (deep) this.assign(depth);
        else this.loop(depth);
        return;
      case 8:
      case 9:
        this.countedLoop(depth);
        return;
      case 10:
        this.callStatement(depth);
        return;
      case 11:
        this.branchIf(depth);
        return;
      case 12:
        this.branchTable(depth);
        return;
      case 13:
        this.leave(depth);
        return;
      case 14:
        this.op([0x01], 0);
        return;
      case 15:
        this.expression(of.pick(of.valueTypes), depth + 1);
        this.op([0x1a], 0);
        return;
      case 16:
        this.growth(depth);
        this.op([0x1a], 0);
        return;
      case 17:
        this.bulk(depth);
        return;
      case 18:
      case 19:
        this.tableStatement(depth);
        return;
      case 20:
        if (deep) this.assign(depth);
        else this.typedBlock(depth);
        return;
      default:
        this.tailCall(depth);
        return;
    }
  }

  private assign(depth: number): void {
    const type = this.of.pick(this.of.valueTypes);
    const local = this.localOf(type);
    if (local === undefined) return;
    this.expression(type, depth + 1);
    this.set(local);
  }

  private assignGlobal(depth: number): void {
    const { of } = this;
    const choices = of.globals.flatMap(({ mutable, type }, i) =>
      mutable && i !== FUEL_GLOBAL && type !== 'funcref' ? [i] : [],
    );
    if (choices.length === 0) return;
    const global = of.pick(choices);
    this.expression(of.globals[global]!.type, depth + 1);
    this.op([0x24, ...unsigned(global)]);
  }

  private address(depth: number): void {
    if (this.of.chance(0.93)) {
      this.expression('i32', depth + 1);
      this.op([0x41, ...signed(0x7fff)]).op([0x71]);
    } else this.expression('i32', depth + 1);
  }

  private memoryImmediate(bytes: number): number[] {
    const { of } = this;
    const offset = of.chance(0.97) ? of.below(4096) : of.pick([0xffff_ffff, 65_536, 65_533, 0x7fff_ffff]);
    return [of.below(Math.log2(bytes) + 1), ...unsigned(offset)];
  }

  private store(depth: number): void {
    const [opcode, type, bytes] = this.of.pick(stores.filter(([, stored]) => this.of.valueTypes.includes(stored)));
    this.address(depth);
    this.expression(type, depth + 1);
    this.op([...opcodeBytes(opcode), ...this.memoryImmediate(bytes)]);
  }

  private ifElse(depth: number): void {
    this.expression('i32', depth + 1);
    this.op([0x04, 0x40]);
    this.labels.push({ types: [], loop: false });
    this.block(1 + this.of.below(3), depth + 1);
    if (this.of.chance(0.6)) {
      this.op([0x05], 0);
      this.block(1 + this.of.below(2), depth + 1);
    }
    this.labels.pop();
    this.op([0x0b], 0);
  }

  private plainBlock(depth: number): void {
    this.op([0x02, 0x40], 0);
    this.labels.push({ types: [], loop: false });
    this.block(1 + this.of.below(4), depth + 1);
    this.labels.pop();
    this.op([0x0b], 0);
  }

  private loop(depth: number): void {
    this.op([0x03, 0x40], 0);
    this.labels.push({ types: [], loop: true });
    this.block(1 + this.of.below(3), depth + 1);
    if (this.of.chance(0.85)) this.branchBack(0, depth);
    this.labels.pop();
    this.op([0x0b], 0);
  }

  /** A conditional branch to a loop; the label's values are on the stack before and after. */
  private branchBack(label: number, depth: number): void {
    if (this.of.profile.bounded) {
      this.burnFuel();
      this.expression('i32', depth + 2);
      this.op([0x41, 3]).op([0x71]).op([0x41, 0]).op([0x47]).op([0x71]);
    } else this.expression('i32', depth + 2);
    this.op([0x0d, ...unsigned(label)]);
  }

  private branchIf(depth: number): void {
    const label = this.of.below(this.labels.length);
    const { types, loop } = this.labels[this.labels.length - 1 - label]!;
    for (const type of types) this.expression(type, depth + 1);
    if (loop) this.branchBack(label, depth);
    else {
      this.expression('i32', depth + 1);
      this.op([0x0d, ...unsigned(label)]);
    }
    for (const _ of types) this.op([0x1a], 0);
  }

  /** Labels that a table of branches may name: forward ones, of the same types. */
  private branchTable(depth: number): void {
    const { of } = this;
    const bare = this.labels.flatMap(({ types, loop }, i) =>
      types.length === 0 && (!loop || !of.profile.bounded) ? [this.labels.length - 1 - i] : [],
    );
    // Inside a block of its own, so that what follows is reached.
    this.op([0x02, 0x40], 0);
    this.labels.push({ types: [], loop: false });
    const labels = [0, ...bare.map((label) => label + 1)];
    const targets = Array.from({ length: of.below(4) }, () => of.pick(labels));
    this.expression('i32', depth + 1);
    this.op(
      [0x0e, ...vector(targets.map((label) => unsigned(label))), ...unsigned(of.pick(labels))],
      price.branchTable,
    );
    if (of.chance(0.2)) this.assign(depth + 2);
    this.labels.pop();
    this.op([0x0b], 0);
  }

  /** Leaves for good under a condition: by a branch, a return or a trap. */
  private leave(depth: number): void {
    const { of } = this;
    this.expression('i32', depth + 1);
    this.op([0x41, 7]).op([0x71]).op([0x45]).op([0x04, 0x40]);
    this.labels.push({ types: [], loop: false });
    const forward = this.labels.flatMap(({ loop }, i) =>
      loop && of.profile.bounded ? [] : [this.labels.length - 1 - i],
    );
    switch (of.below(6)) {
      case 0:
        this.op([0x00], 0);
        break;
      case 1:
      case 2: {
        for (const type of this.type.results) this.expression(type, depth + 2);
        this.op([0x0f], 0);
        break;
      }
      default: {
        const label = of.pick(forward);
        for (const type of this.labels[this.labels.length - 1 - label]!.types) this.expression(type, depth + 2);
        this.op([0x0c, ...unsigned(label)]);
      }
    }
    if (of.chance(0.25)) this.block(1, depth + 2); // Never reached.
    this.labels.pop();
    this.op([0x0b], 0);
  }

  private callStatement(depth: number): void {
    const { results } = this.call(depth);
    for (const type of [...results].reverse()) {
      const local = this.localOf(type);
      if (local === undefined) this.op([0x1a], 0);
      else this.set(local);
    }
  }

  private arguments(type: Signature, depth: number): void {
    for (const param of type.params) this.expression(param, depth + 1);
  }

  private call(depth: number): Signature {
    const { of } = this;
    const f = of.below(of.functions.length);
    const type = of.functions[f]!;
    this.arguments(type, depth);
    if (of.chance(0.35)) {
      this.tableIndex(f, depth);
      this.op([0x11, ...unsigned(of.typeIndex(type)), 0], price.callIndirect);
      return type;
    }
    this.op([0x10, ...unsigned(f)], price.call);
    return type;
  }

  /** Mostly where the function stands. */
  private tableIndex(f: number, depth: number): void {
    const { of } = this;
    const places = of.table.flatMap((item, i) => (item === f ? [i] : []));
    if (places.length > 0 && of.chance(0.9)) this.op([0x41, of.pick(places)]);
    else if (of.chance(0.9)) {
      this.expression('i32', depth + 1);
      this.op([0x41, 7]).op([0x71]);
    } else this.expression('i32', depth + 1);
  }

  private tailCall(depth: number): void {
    const { of } = this;
    const same = of.functions.flatMap(({ results }, i) => (results.join() === this.type.results.join() ? [i] : []));
    const f = same.length > 0 ? of.pick(same) : undefined;
    if (f === undefined) {
      this.assign(depth);
      return;
    }
    this.expression('i32', depth + 1);
    this.op([0x41, 3]).op([0x71]).op([0x45]).op([0x04, 0x40]);
    this.labels.push({ types: [], loop: false });
    const type = of.functions[f]!;
    this.arguments(type, depth + 1);
    if (of.chance(0.4)) {
      this.tableIndex(f, depth + 1);
      this.op([0x13, ...unsigned(of.typeIndex(type)), 0], price.callIndirect);
    } else this.op([0x12, ...unsigned(f)], price.call);
    this.labels.pop();
    this.op([0x0b], 0);
  }

  /**
   * `do { body; i += step } while (i != limit)` and `while (i < limit) { body; i += step }` in their many forms: what the rewriter charges ahead, and what
   * only looks like it. In a bounded module the loop meets its limit soon, and is not beyond it before.
   */
  private countedLoop(depth: number, nest = 0): void {
    const { of } = this;
    const wide = of.chance(0.15);
    const type = wide ? 'i64' : 'i32';
    const counter = this.newLocal(type);
    const step = of.pick([1, 1, 1, 2, 4, 8, 3, 16, -1, -1, -2, -4, -3]);
    const trips = !of.profile.bounded && of.chance(0.1) ? 300 : 1 + of.below(nest > 0 || depth > 1 ? 4 : 9);
    const start = of.pick([0, 0, 1, -5, 1000, 0x7fff_fff0, -0x8000_0000]);
    const wild = !of.profile.bounded && of.chance(0.3);
    const toZero = !wild && of.chance(0.25);
    const limit = toZero ? 0 : start + step * trips + (wild ? of.pick([0, 1, -step * trips, 3]) : 0);
    const from = toZero ? -step * trips : start;
    const fold = (value: number) => constant(type, BigInt(value));
    const limitLocal = of.chance(0.5) ? this.newLocal(type) : undefined;
    const opaque = of.chance(0.5);
    if (limitLocal !== undefined) this.op(fold(limit)).set(limitLocal);
    this.op(fold(from));
    // A start that is not a constant to the reader.
    if (opaque) {
      const zero = this.localOf(type);
      if (zero !== undefined)
        this.get(zero)
          .get(zero)
          .op([wide ? 0x85 : 0x73])
          .op([wide ? 0x7c : 0x6a]);
    }
    this.set(counter);
    const [add, sub, ne] = wide ? [0x7c, 0x7d, 0x52] : [0x6a, 0x6b, 0x47];
    const relation =
      wide || of.chance(0.5) ? ne : of.pick(step > 0 ? [0x48, 0x48, 0x49, 0x4b] : [0x4a, 0x4a, 0x4b, 0x48]);
    const layout = wide ? 'do' : of.pick(['do', 'do', 'do, leaving', 'while', 'while, leaving'] as const);
    const leaves = layout.endsWith('leaving');
    const readLimit = () => {
      if (limitLocal === undefined) this.op(fold(limit));
      else this.get(limitLocal);
    };
    if (leaves) this.op([0x02, 0x40], 0);
    this.op([0x03, 0x40], 0);
    if (layout.startsWith('while')) {
      if (of.chance(0.7)) {
        this.get(counter);
        readLimit();
      } else {
        readLimit();
        this.get(counter);
      }
      this.op([relation]);
      if (leaves) this.op([0x45]).op([0x0d, 1]);
      else this.op([0x04, 0x40]);
    }
    const before = this.free.length;
    // What the body may change it cannot be counted by.
    if (!of.profile.bounded && of.chance(0.15))
      this.free.push(limitLocal !== undefined && of.chance(0.5) ? limitLocal : counter);
    for (let i = of.below(3); i > 0; i--) this.straight(counter);
    if (of.chance(0.12)) {
      const moved = limitLocal !== undefined && of.chance(0.6) ? limitLocal : counter;
      const by = of.profile.bounded ? 0 : of.pick([0, 1, -step, -step, -step]);
      this.get(moved)
        .op(fold(by))
        .op([wide ? 0x7c : 0x6a])
        .set(moved);
    }
    if (nest < 2 && of.chance(0.2)) this.countedLoop(depth + 1, nest + 1);
    if (of.chance(0.1)) this.callStatement(depth + 2);
    const update = () => {
      this.get(counter);
      if (of.chance(0.3)) this.op(fold(-step)).op([sub]);
      else this.op(fold(step)).op([add]);
    };
    if (layout.startsWith('while')) {
      update();
      this.set(counter);
      if (of.chance(0.3)) this.straight(counter);
      this.op([0x0c, leaves ? 0 : 1])
        .op([0x0b], 0)
        .op([0x0b], 0);
      this.free.length = before;
      return;
    }
    // The condition comes after the step: an i64 has no truth of its own.
    switch (of.below(toZero && !wide ? 8 : 6)) {
      case 0:
        update();
        this.set(counter).get(counter);
        readLimit();
        this.op([relation]);
        break;
      case 1:
        update();
        this.op([0x22, ...unsigned(counter)]);
        readLimit();
        this.op([relation]);
        break;
      case 2:
        update();
        this.set(counter);
        readLimit();
        this.get(counter).op([relation]);
        break;
      case 3:
        readLimit();
        update();
        this.op([0x22, ...unsigned(counter)]).op([relation]);
        break;
      case 4:
        update();
        this.set(counter);
        this.straight(counter);
        this.get(counter);
        readLimit();
        this.op([relation]);
        break;
      case 5:
        // What is compared is the counter from before the step.
        this.get(counter);
        update();
        this.set(counter);
        readLimit();
        this.op([relation]);
        break;
      case 6:
        update();
        this.op([0x22, ...unsigned(counter)]);
        break;
      default:
        update();
        this.set(counter).get(counter);
    }
    if (leaves) this.op([0x45]).op([0x0d, 1]).op([0x0c, 0]).op([0x0b], 0);
    else this.op([0x0d, 0]);
    this.op([0x0b], 0);
    this.free.length = before;
  }

  /** One statement without control flow; may trap, and may read the counter. */
  private straight(counter: number): void {
    const { of } = this;
    const budget = this.budget;
    this.budget = 4;
    switch (of.below(4)) {
      case 0:
        this.get(counter);
        if (this.locals[counter] === 'i64') this.op([0xa7]);
        this.op([0x41, ...signed(of.pick([1023, 0x3_ffff, 0xffff]))]).op([0x71]);
        this.expression('i32', 9);
        this.op([0x3a, 0, 0]);
        break;
      case 1: {
        const local = this.localOf('i32');
        if (local === undefined) break;
        this.op([0x41, ...signed(1000)]).get(counter);
        if (this.locals[counter] === 'i64') this.op([0xa7]);
        if (of.chance(0.8)) this.op([0x41, 1]).op([0x72]);
        this.op([0x6d], price.division);
        this.get(local).op([0x6a]).set(local);
        break;
      }
      case 2:
        this.assign(9);
        break;
      default:
        this.assignGlobal(9);
    }
    this.budget = budget - 1;
  }

  private growth(depth: number): void {
    const { of } = this;
    this.expression('i32', depth + 1);
    if (of.chance(0.9)) this.op([0x41, of.pick([0, 1, 1, 3])]).op([0x71]);
    this.op([0x40, 0], price.simple, 'pages');
  }

  private smallCount(depth: number, mask: number): void {
    this.expression('i32', depth + 1);
    if (this.of.chance(0.95)) this.op([0x41, ...signed(mask)]).op([0x71]);
  }

  private bulk(depth: number): void {
    const { of } = this;
    this.address(depth);
    switch (of.below(4)) {
      case 0:
        this.expression('i32', depth + 1);
        this.smallCount(depth, 511);
        this.op([0xfc, 11, 0], price.simple, 'bytes');
        break;
      case 1:
        this.address(depth);
        this.smallCount(depth, 511);
        this.op([0xfc, 10, 0, 0], price.simple, 'bytes');
        break;
      case 2:
        this.op([0x41, of.below(8)]);
        this.smallCount(depth, 15);
        this.op([0xfc, 8, 0, 0], price.simple, 'bytes');
        break;
      default:
        this.op([0x1a], 0);
        if (of.chance(0.3)) this.op([0xfc, 9, 0]);
    }
  }

  private tableStatement(depth: number): void {
    const { of } = this;
    const other = of.chance(0.25);
    const table = other ? 1 : 0;
    const type = other ? 'externref' : 'funcref';
    const index = () => this.smallCount(depth, other ? 1 : 3);
    switch (of.below(8)) {
      case 0:
      case 1:
        index();
        this.reference(type, depth);
        this.op([0x26, table]);
        break;
      case 2:
        this.reference(type, depth);
        this.smallCount(depth, 1);
        this.op([0xfc, 15, table], price.simple, { growsTable: table });
        this.op([0x1a], 0);
        break;
      case 3:
        index();
        this.reference(type, depth);
        this.smallCount(depth, 1);
        this.op([0xfc, 17, table], price.simple, 'elements');
        break;
      case 4:
        index();
        index();
        this.smallCount(depth, 1);
        this.op([0xfc, 14, table, table], price.simple, 'elements');
        break;
      case 5:
        this.smallCount(depth, 3);
        this.op([0x41, of.below(3)]);
        this.smallCount(depth, 1);
        this.op([0xfc, 12, 0, 0], price.simple, 'elements');
        break;
      case 6:
        if (of.chance(0.3)) this.op([0xfc, 13, 0]);
        break;
      default: {
        const global = of.globals.findIndex((item) => item.type === 'funcref');
        this.reference('funcref', depth);
        this.op([0x24, ...unsigned(global)]);
      }
    }
  }

  private reference(type: 'funcref' | 'externref', depth: number): void {
    const { of } = this;
    const table = type === 'funcref' ? 0 : 1;
    switch (of.below(4)) {
      case 0:
        this.op([0xd0, valueBytes[type]]);
        break;
      case 1:
        this.smallCount(depth, table === 0 ? 3 : 1);
        this.op([0x25, table]);
        break;
      default:
        if (type === 'externref') this.op([0xd0, valueBytes[type]]);
        else if (of.chance(0.2)) {
          this.op([0x23, ...unsigned(of.globals.findIndex((item) => item.type === 'funcref'))]);
        } else this.op([0xd2, ...unsigned(of.below(of.functions.length))]);
    }
  }

  /** A block, loop or if with parameters and several results. */
  private typedBlock(depth: number): void {
    const { of } = this;
    const some = (most: number) => Array.from({ length: of.below(most + 1) }, () => of.pick(numberTypes));
    const params = some(2);
    const results = some(3);
    const kind = of.pick([0x02, 0x03, 0x04]);
    for (const type of params) this.expression(type, depth + 1);
    if (kind === 0x04) this.expression('i32', depth + 1);
    this.op([kind, ...signed(of.typeIndex({ params, results }))], kind === 0x04 ? price.simple : 0);
    const loop = kind === 0x03;
    this.labels.push({ types: loop ? params : results, loop });
    const arm = () => {
      for (const type of [...params].reverse()) {
        const local = this.localOf(type);
        if (local === undefined) this.op([0x1a], 0);
        else this.set(local);
      }
      this.block(1 + of.below(2), depth + 1);
      if (loop && of.chance(0.7)) {
        for (const type of params) this.expression(type, depth + 2);
        this.branchBack(0, depth);
        for (const _ of params) this.op([0x1a], 0);
      }
      for (const type of results) this.expression(type, depth + 2);
    };
    arm();
    if (kind === 0x04) {
      this.op([0x05], 0);
      arm();
    }
    this.labels.pop();
    this.op([0x0b], 0);
    for (const type of [...results].reverse()) {
      const local = this.localOf(type);
      if (local === undefined) this.op([0x1a], 0);
      else this.set(local);
    }
  }

  // Expressions: they leave one value.

  private expression(type: StackType, depth: number): void {
    const { of } = this;
    this.budget--;
    if (type === 'funcref' || type === 'externref') {
      this.reference(type, depth);
      return;
    }
    if (this.budget <= 0 || depth > 6) {
      this.leaf(type);
      return;
    }
    switch (of.below(16)) {
      case 0:
      case 1:
      case 2:
      case 3:
        this.leaf(type);
        return;
      case 4: {
        const local = this.localOf(type);
        this.expression(type, depth + 1);
        if (local !== undefined) this.op([0x22, ...unsigned(local)]);
        return;
      }
      case 5: {
        const [opcode, , bytes] = of.pick(loads.filter((item) => item[1] === type));
        this.address(depth);
        this.op([...opcodeBytes(opcode), ...this.memoryImmediate(bytes)]);
        return;
      }
      case 6:
        this.expression(type, depth + 1);
        this.expression(type, depth + 1);
        this.expression('i32', depth + 1);
        this.op(of.newer && of.chance(0.3) ? [0x1c, 1, valueBytes[type]] : type === 'v128' ? [0x1c, 1, 0x7b] : [0x1b]);
        return;
      case 7:
        this.valueBlock(type, depth);
        return;
      case 8:
        this.valueIf(type, depth);
        return;
      case 9:
        if (type === 'i32') {
          if (of.chance(0.5)) this.op([0x3f, 0]);
          else if (of.newer) this.op([0xfc, 16, of.below(2)]);
          else this.growth(depth);
          return;
        }
        this.operator(type, depth);
        return;
      case 10: {
        const f = of.functions.findIndex(({ results }) => results.length === 1 && results[0] === type);
        if (f < 0 || depth > 3) {
          this.operator(type, depth);
          return;
        }
        this.arguments(of.functions[f]!, depth);
        this.op([0x10, ...unsigned(f)], price.call);
        return;
      }
      case 11:
        if (type === 'i32' && of.newer) {
          this.reference(of.chance(0.7) ? 'funcref' : 'externref', depth);
          this.op([0xd1]);
          return;
        }
        this.operator(type, depth);
        return;
      default:
        this.operator(type, depth);
        return;
    }
  }

  private leaf(type: StackType): void {
    const { of } = this;
    const local = this.localOf(type);
    if (local !== undefined && of.chance(0.5)) {
      this.get(local);
      return;
    }
    const globals = of.globals.flatMap((global, i) => (global.type === type && i !== FUEL_GLOBAL ? [i] : []));
    if (globals.length > 0 && of.chance(0.25)) {
      this.op([0x23, ...unsigned(of.pick(globals))]);
      return;
    }
    this.op(constant(type, this.value(type)));
  }

  private value(type: StackType): bigint {
    const { of } = this;
    const view = new DataView(new ArrayBuffer(8));
    const float = of.pick([0, -0, 1, -1, 0.5, 1e10, -1e10, 3e38, 1e-40, Infinity, -Infinity, NaN, 2147483648, 7.5]);
    switch (type) {
      case 'f32':
        if (Number.isNaN(float)) return nan.f32;
        view.setFloat32(0, float);
        return BigInt(view.getUint32(0));
      case 'f64':
        if (Number.isNaN(float)) return nan.f64;
        view.setFloat64(0, float);
        return view.getBigUint64(0);
      case 'v128':
        return Array.from({ length: 4 }).reduce<bigint>((sum) => (sum << 32n) | BigInt(of.below(2 ** 32)), 0n);
      default: {
        const edge = type === 'i32' ? 2n ** 31n : 2n ** 63n;
        return of.pick([0n, 0n, 1n, -1n, 2n, 7n, 64n, 255n, -edge, edge - 1n, BigInt(of.below(70_000)), 0x7fffn]);
      }
    }
  }

  private operator(type: StackType, depth: number): void {
    let operator = this.of.pick(this.of.operators.get(type)!);
    // So with conversions that trap.
    if (operator.opcode >= 0xa8 && operator.opcode <= 0xb1 && this.of.chance(0.7))
      operator = this.of.operators.get(type)![0]!;
    for (const taken of operator.takes) this.expression(taken, depth + 1);
    // Most divisors are not zero, or little else would be seen.
    if (integerDivisions.has(operator.opcode) && this.of.chance(0.9)) {
      this.op(constant(type, 1n)).op([type === 'i32' ? 0x72 : 0x84]);
    }
    const lane = operator.lanes === undefined ? [] : [this.of.below(operator.lanes)];
    const fixed = divisions.has(operator.opcode) ? price.division : price.simple;
    this.op([...opcodeBytes(operator.opcode), ...lane], fixed);
    if (operator.float) this.canonical(operator.float, type);
  }

  private canonical(float: NonNullable<Operator['float']>, type: StackType): void {
    const scratch = this.newLocal(type);
    this.op([0x22, ...unsigned(scratch)]);
    if (float === 'f32' || float === 'f64') {
      this.op(constant(float, nan[float])).get(scratch).get(scratch);
      this.op([float === 'f32' ? 0x5b : 0x61]).op([0x1b]);
      return;
    }
    const lanes = float === 'f32x4' ? [96n, 64n, 32n, 0n] : [64n, 0n];
    const one = float === 'f32x4' ? nan.f32 : nan.f64;
    this.op(
      constant(
        'v128',
        lanes.reduce((sum, at) => sum | (one << at), 0n),
      ),
    );
    this.get(scratch).get(scratch);
    this.op([0xfd, ...unsigned(float === 'f32x4' ? 0x41 : 0x47)]).op([0xfd, ...unsigned(0x52)]);
  }

  private valueBlock(type: StackType, depth: number): void {
    this.op([0x02, valueBytes[type]], 0);
    this.labels.push({ types: [type], loop: false });
    if (depth < 4) this.block(1, depth + 1);
    if (this.of.chance(0.5)) {
      this.expression(type, depth + 1);
      this.expression('i32', depth + 1);
      this.op([0x0d, 0]).op([0x1a], 0);
    }
    this.expression(type, depth + 1);
    this.labels.pop();
    this.op([0x0b], 0);
  }

  private valueIf(type: StackType, depth: number): void {
    this.expression('i32', depth + 1);
    this.op([0x04, valueBytes[type]]);
    this.labels.push({ types: [type], loop: false });
    this.expression(type, depth + 1);
    this.op([0x05], 0);
    this.expression(type, depth + 1);
    this.labels.pop();
    this.op([0x0b], 0);
  }
}
