import { BYTES_PER_UNIT_SHIFT, priceOf, priceOfValues, prices } from '../gas/prices.js';
import { ByteReader } from '../module/byte-reader.js';
import { ByteWriter } from '../module/byte-writer.js';
import { Instructions } from '../module/instructions.js';
import { Op } from '../module/opcodes.js';
import { type ParsedModule, parseModule } from '../module/parse-module.js';
import type { Instance, UserImports } from './instance.js';

/** A module that counts for each function what it costs and how often it is called. To be run unmetered. */
export interface ProfiledModule {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly functions: readonly { readonly index: number; readonly name: string }[];
}

export interface FunctionGas {
  readonly index: number;
  readonly name: string;
  readonly calls: number;
  /** Of its own instructions, without what it calls. */
  readonly gas: number;
}

const Section = { global: 6, export: 7, code: 10, dataCount: 12 } as const;
const gasName = (f: number): string => `profile:gas:${f}`;
const callsName = (f: number): string => `profile:calls:${f}`;

/**
 * Writes counters into a module, on its own and without the meter's re-distribution of charges: the price of each straight run of code is added to its
 * function's account where the run ends. For a call that ends by itself the sum over all functions and host calls is the gas the metered module counts.
 * Cost: one pass; the result runs 2 to 4 times slower.
 * @param bytes of a valid module
 * @param maxMemoryPages and maxTableElements that the metered module is prepared with: growth is priced only within them
 */
export function profileModule(bytes: Uint8Array, maxMemoryPages: number, maxTableElements: number): ProfiledModule {
  const module = parseModule(bytes);
  const firstGlobal = module.globals.length;
  const count = module.code.length;
  const bodies = new Profiler(module, firstGlobal, maxMemoryPages, maxTableElements);
  const sections = sectionsOf(bytes);
  const globals = extended(sections.get(Section.global), 2 * count, (out) => {
    for (let i = 0; i < 2 * count; i++) out.u8(0x7e).u8(1).u8(Op.i64Const).u8(0).u8(Op.end);
  });
  const exports = extended(sections.get(Section.export), 2 * count, (out) => {
    for (let i = 0; i < count; i++) {
      const f = module.importedFunctions + i;
      out
        .name(gasName(f))
        .u8(3)
        .u32(firstGlobal + 2 * i);
      out
        .name(callsName(f))
        .u8(3)
        .u32(firstGlobal + 2 * i + 1);
    }
  });
  const code = new ByteWriter(bytes.length * 2).u32(count);
  for (let i = 0; i < count; i++) code.sized((out) => bodies.write(i, out));
  sections.set(Section.global, globals.bytes).set(Section.export, exports.bytes);
  if (count > 0) sections.set(Section.code, code.bytes);
  const out = new ByteWriter(bytes.length * 2).raw(bytes.subarray(0, 8));
  for (const id of [...sections.keys()].sort((a, b) => placeOf(a) - placeOf(b)))
    out.section(id, (into) => into.raw(sections.get(id)!));
  const exported = new Map(
    module.exports.filter(({ kind }) => kind === 'function').map(({ index, name }) => [index, name]),
  );
  const functions = module.code.map((_, i) => {
    const index = module.importedFunctions + i;
    return { index, name: module.functionNames.get(index) ?? exported.get(index) ?? `function ${index}` };
  });
  return { bytes: out.finish(), functions };
}

/** What each function cost so far, the dearest first. */
export function readProfile(instance: Instance, { functions }: ProfiledModule): FunctionGas[] {
  return functions
    .map(({ index, name }) => ({
      index,
      name,
      calls: Number(instance.global(callsName(index))),
      gas: Number(instance.global(gasName(index))),
    }))
    .filter(({ calls }) => calls > 0)
    .sort((a, b) => b.gas - a.gas || a.index - b.index);
}

/**
 * Imports that count their calls and what they cost, however they were reached: the fixed price of a host call, and what the host charges itself.
 * @param charged sum of the latter so far (default none)
 */
export function countingImports(
  imports: UserImports,
  charged: () => number = () => 0,
): { readonly imports: UserImports; hostCalls(): FunctionGas[] } {
  const accounts = new Map<string, { calls: number; gas: number }>();
  const counting: Record<string, Record<string, UserImports[string][string]>> = {};
  for (const [module, names] of Object.entries(imports)) {
    const wrapped: Record<string, UserImports[string][string]> = {};
    for (const [name, value] of Object.entries(names)) {
      if (typeof value !== 'function') {
        wrapped[name] = value;
        continue;
      }
      const account = { calls: 0, gas: 0 };
      accounts.set(`${module}.${name}`, account);
      wrapped[name] = (...args: unknown[]) => {
        const before = charged();
        account.calls++;
        account.gas += prices.hostCall;
        try {
          return (value as (...given: unknown[]) => unknown)(...args);
        } finally {
          account.gas += charged() - before;
        }
      };
    }
    counting[module] = wrapped;
  }
  return {
    imports: counting,
    hostCalls: () =>
      [...accounts]
        .filter(([, { calls }]) => calls > 0)
        .map(([name, account]) => ({ index: -1, name: `host ${name}`, ...account })),
  };
}

/** Instructions before which a run of code ends: control may go elsewhere, or code that is counted elsewhere runs. */
const ENDS_RUN = new Uint8Array(0x400);
for (const op of [
  Op.loop,
  Op.if,
  Op.else,
  Op.end,
  Op.br,
  Op.brIf,
  Op.brTable,
  Op.return,
  Op.unreachable,
  Op.call,
  Op.callIndirect,
  Op.returnCall,
  Op.returnCallIndirect,
])
  ENDS_RUN[op] = 1;

class Profiler {
  readonly #code: Instructions;

  constructor(
    private readonly module: ParsedModule,
    private readonly firstGlobal: number,
    private readonly maxMemoryPages: number,
    private readonly maxTableElements: number,
  ) {
    this.#code = new Instructions(module.bytes);
  }

  /** @param i of the body */
  write(i: number, out: ByteWriter): void {
    const code = this.#code;
    const { from, to } = this.module.code[i]!;
    code.read(from, to);
    const type = this.module.types[this.module.functionTypes[this.module.importedFunctions + i]!]!;
    const count = type.params.length + code.localCount;
    const account = this.firstGlobal + 2 * i;
    out.u32(code.locals.length + 1);
    for (const group of code.locals) out.u32(group.count).u8(group.type);
    out.u32(1).u8(0x7f);
    add(out, account + 1, 1);
    let pending = 0;
    for (let at = 0; at < code.count; at++) {
      const op = code.op[at]!;
      const values = this.#valuesPrice(op, code.a[at]!);
      pending += priceOf[op]! + (op === Op.loop ? 0 : values);
      if (ENDS_RUN[op]) {
        if (pending > 0) add(out, account, pending);
        // A loop pays for its values at each trip.
        pending = op === Op.loop ? values : 0;
      }
      this.#bulk(op, at, account, count, out);
      out.copy(code.bytes, code.at[at]!, code.at[at + 1]!);
    }
  }

  /** @param operand function, type or block type */
  #valuesPrice(op: number, operand: number): number {
    const { types, functionTypes } = this.module;
    switch (op) {
      case Op.call:
      case Op.returnCall:
        return priceOfValues(types[functionTypes[operand]!]!);
      case Op.block:
      case Op.loop:
      case Op.if:
      case Op.callIndirect:
      case Op.returnCallIndirect:
        return operand >= 0 ? priceOfValues(types[operand]!) : 0;
      default:
        return 0;
    }
  }

  /** Prices what depends on a count that is on top of the stack. */
  #bulk(op: number, at: number, account: number, temporary: number, out: ByteWriter): void {
    const byCount = (unit: number, shift: number): void => {
      out.u8(Op.globalGet).u32(account).u8(Op.localGet).u32(temporary);
      if (shift > 0) out.u8(Op.i32Const).u8(shift).u8(Op.i32ShrU);
      out.u8(Op.i64ExtendI32U).u8(Op.i64Const).signed(unit).u8(Op.i64Mul).u8(Op.i64Add).u8(Op.globalSet).u32(account);
    };
    const growth = (max: number, unit: number, size: () => void): void => {
      out.u8(Op.localSet).u32(temporary);
      size();
      out.u8(Op.i64ExtendI32U).u8(Op.localGet).u32(temporary).u8(Op.i64ExtendI32U).u8(Op.i64Add);
      out.u8(Op.i64Const).signed(max).u8(Op.i64LeU).u8(Op.if).u8(0x40);
      byCount(unit, 0);
      out.u8(Op.end).u8(Op.localGet).u32(temporary);
    };
    switch (op) {
      case Op.memoryGrow: {
        const max = Math.min(this.module.memories[0]?.max ?? 65_536, this.maxMemoryPages);
        growth(max, prices.memoryPage, () => out.u8(Op.memorySize).u8(0));
        break;
      }
      case Op.tableGrow: {
        const table = this.#code.a[at]!;
        const max = Math.min(this.module.tables[table]?.max ?? 2 ** 32 - 1, this.maxTableElements);
        const size = (): ByteWriter =>
          out
            .u8(0xfc)
            .u32(Op.tableSize - 0x100)
            .u32(table);
        growth(max, prices.tableElement, size);
        break;
      }
      case Op.memoryInit:
      case Op.memoryCopy:
      case Op.memoryFill:
      case Op.tableInit:
      case Op.tableCopy:
      case Op.tableFill: {
        const elements = op === Op.tableInit || op === Op.tableCopy || op === Op.tableFill;
        out.u8(Op.localSet).u32(temporary);
        if (elements) byCount(prices.tableElement, 0);
        else byCount(1, BYTES_PER_UNIT_SHIFT);
        out.u8(Op.localGet).u32(temporary);
        break;
      }
    }
  }
}

function add(out: ByteWriter, account: number, amount: number): void {
  out.u8(Op.globalGet).u32(account).u8(Op.i64Const).signed(amount).u8(Op.i64Add).u8(Op.globalSet).u32(account);
}

/** Contents of all sections that mean something. */
function sectionsOf(bytes: Uint8Array): Map<number, Uint8Array> {
  const sections = new Map<number, Uint8Array>();
  const reader = new ByteReader(bytes, 8);
  while (!reader.done) {
    const id = reader.u8();
    const size = reader.u32();
    const from = reader.position;
    reader.skip(size);
    if (id !== 0) sections.set(id, bytes.subarray(from, reader.position));
  }
  return sections;
}

/** A section that is a count and entries, with more entries behind. */
function extended(section: Uint8Array | undefined, more: number, write: (out: ByteWriter) => void): ByteWriter {
  const out = new ByteWriter();
  if (!section) out.u32(more);
  else {
    const reader = new ByteReader(section);
    out.u32(reader.u32() + more).copy(section, reader.position, section.length);
  }
  write(out);
  return out;
}

/** The data count stands before the code. */
function placeOf(id: number): number {
  return id === Section.dataCount ? Section.code - 0.5 : id;
}
