import type { ByteWriter } from '../module/byte-writer.js';
import type { Instructions } from '../module/instructions.js';
import { Op } from '../module/opcodes.js';
import type { FunctionType, ValueType } from '../types.js';
import { type Charges, placeCharges } from './charges.js';
import type { Callees, ControlFlow } from './control-flow.js';
import { type CountedLoop, farthest } from './counted-loop.js';
import { GAS_UNIT, SLOTS_USED_UP } from './packed.js';
import { BYTES_PER_UNIT_SHIFT, prices } from './prices.js';

/** How the indices of the module change, and what is added to it. Original indices in, new ones out. */
export interface Rewriting {
  readonly callees: Callees;
  isImport(functionIndex: number): boolean;
  function(functionIndex: number): number;
  /** What stands for a function where it is referred to: in tables, as a value. */
  reference(functionIndex: number): number;
  /** Whether references are metered functions (true) or functions of their original type that the host may call. */
  readonly meteredReferences: boolean;
  /** The type with the gas as its last parameter and result. */
  meteredType(typeIndex: number): number;
  /** Type index of a block without parameters. */
  blockType(results: readonly ValueType[]): number;
  readonly gasGlobal: number;
  /** Functions `[i32, gas] → [i32, gas]` and `[reference, i32, gas] → [i32, gas]`. */
  readonly growMemory: number;
  growTable(table: number): number;
  /** Global with what bulk instructions may still do, in units, before the host is asked whether to go on. */
  readonly bulkGlobal: number;
  /** The function that asks, of a type that is a block's too: it takes the operands of `memory.copy` and `memory.fill` and leaves what is left to do. */
  askBetween(op: number): { readonly function: number; readonly type: number };
  /** Globals that are set to 1 when a segment is dropped. */
  droppedData(segment: number): number;
  droppedElements(segment: number): number;
}

/** A table element takes V8 as long as 2^6 bytes of memory and more; no table is so long that its length would not fit shifted. */
const ELEMENT_UNITS_SHIFT = 3;

export const ValueByte: Readonly<Record<ValueType, number>> = {
  i32: 0x7f,
  i64: 0x7e,
  f32: 0x7d,
  f64: 0x7c,
  v128: 0x7b,
  funcref: 0x70,
  externref: 0x6f,
};

/** Ends with a trap, and leaves what is left of the gas in a local to be read. @param ahead as `testGas` */
function trapWithGas(out: ByteWriter, gas: number, gasGlobal: number, ahead = 0): void {
  out.u8(Op.localGet).u32(gas);
  if (ahead !== 0)
    out
      .u8(Op.i64Const)
      .signed(ahead * GAS_UNIT)
      .u8(Op.i64Add);
  out.u8(Op.globalSet).u32(gasGlobal).u8(Op.unreachable);
}

/**
 * Traps when the gas in a local ran out.
 * @param ahead gas that was taken too much so far, or lent when negative
 */
export function testGas(out: ByteWriter, gas: number, gasGlobal: number, ahead = 0): void {
  out
    .u8(Op.localGet)
    .u32(gas)
    .u8(Op.i64Const)
    .signed(-ahead * GAS_UNIT)
    .u8(Op.i64LtS)
    .u8(Op.if)
    .u8(0x40);
  trapWithGas(out, gas, gasGlobal, ahead);
  out.u8(Op.end);
}

/** Traps when more of the stack was taken than there was. @param ahead as `testGas` */
export function testStack(out: ByteWriter, gas: number, gasGlobal: number, ahead = 0): void {
  out.u8(Op.localGet).u32(gas).u8(Op.i32WrapI64).u8(Op.i32Const).signed(SLOTS_USED_UP).u8(Op.i32And);
  out.u8(Op.if).u8(0x40);
  trapWithGas(out, gas, gasGlobal, ahead);
  out.u8(Op.end);
}

/**
 * Writes one body, which `code` holds, anew with its gas in a parameter that follows the original ones, so that it stays in a register from call to call.
 *
 * @param paid gas that callers already paid for the first segment
 * @param frameSlots stack that one recurring call takes
 * Cost: O(instructions).
 */
export class MeterBody {
  private readonly gas: number;
  private readonly temporary: number;
  private usesTemporary = false;
  private readonly charges: Charges;
  private segment = 0;

  constructor(
    private readonly code: Instructions,
    private readonly flow: ControlFlow,
    private readonly type: FunctionType,
    private readonly rewriting: Rewriting,
    private readonly out: ByteWriter,
    paid: number,
    private readonly frameSlots: number,
  ) {
    this.gas = type.params.length;
    this.temporary = this.gas + 1 + code.localCount;
    flow.read(type.params.length);
    flow.price[0]! -= paid;
    this.charges = placeCharges(flow);
  }

  /** Writes instructions to `out`; returns whether one more i32 local is needed behind all others. */
  write(): boolean {
    const { out, type, rewriting } = this;
    const label = this.flow.branchesToExit;
    if (label) {
      out.u8(Op.block);
      if (type.results.length === 0) out.u8(0x40);
      else if (type.results.length === 1) out.u8(ValueByte[type.results[0]!]);
      else out.signed(rewriting.blockType(type.results));
    }
    this.range(0, this.code.count - 1, true);
    if (label) out.u8(Op.end);
    out.u8(Op.localGet).u32(this.gas).u8(Op.end);
    return this.usesTemporary;
  }

  /** Writes instructions [from, to), with the charges of segments that begin among them. */
  private range(from: number, to: number, charged: boolean): void {
    const { code, out, flow } = this;
    const params = this.type.params.length;
    let copied = code.at[from]!;
    for (let at = from; at < to; at++) {
      if (charged && flow.first[this.segment] === at && this.segment < flow.count) {
        out.copy(code.bytes, copied, code.at[at]!);
        copied = code.at[at]!;
        this.charge(this.segment++);
      }
      const op = code.op[at]!;
      if (op >= Op.localGet && op <= Op.localTee) {
        const local = code.a[at]!;
        if (local < params) continue;
        out.copy(code.bytes, copied, code.at[at]!);
        out.u8(op).u32(local + 1);
        copied = code.at[at + 1]!;
        continue;
      }
      if (!REWRITTEN[op]) continue;
      if (op === Op.loop) {
        const counted = charged ? flow.countedLoops.get(at) : undefined;
        if (!counted) continue;
        out.copy(code.bytes, copied, code.at[at]!);
        this.countedLoop(at, counted);
        at = counted.end;
      } else {
        out.copy(code.bytes, copied, code.at[at]!);
        this.instruction(op, at);
      }
      copied = code.at[at + 1]!;
    }
    out.copy(code.bytes, copied, code.at[to]!);
    if (charged && flow.first[this.segment] === to && this.segment < flow.count) this.charge(this.segment++);
  }

  private charge(segment: number): void {
    const { flow, out, gas, charges } = this;
    const before = charges.framed.before[segment]!;
    const taken = (flow.lastRecurringCall[segment]! >= 0 ? 1 : charges.framed.after[segment]!) - before;
    this.subtract(charges.amount[segment]! * GAS_UNIT + taken * this.frameSlots);
    const ahead = charges.ahead[segment]!;
    if (taken > 0) testStack(out, gas, this.rewriting.gasGlobal, ahead);
    if (flow.isHeader[segment] || flow.mustTest[segment]) testGas(out, gas, this.rewriting.gasGlobal, ahead);
  }

  private subtract(amount: number): void {
    if (amount === 0) return;
    this.out.u8(Op.localGet).u32(this.gas).u8(Op.i64Const).signed(Math.abs(amount));
    this.out
      .u8(amount > 0 ? Op.i64Sub : Op.i64Add)
      .u8(Op.localSet)
      .u32(this.gas);
  }

  /** Of the segment that is being written. */
  private test(): void {
    testGas(this.out, this.gas, this.rewriting.gasGlobal, this.charges.ahead[this.segment - 1]!);
  }

  /** Gas from its local to the global, for code outside of the module. */
  private store(): void {
    this.out.u8(Op.localGet).u32(this.gas).u8(Op.globalSet).u32(this.rewriting.gasGlobal);
  }

  private load(): void {
    this.out.u8(Op.globalGet).u32(this.rewriting.gasGlobal).u8(Op.localSet).u32(this.gas);
  }

  /** After a call: gas from the stack, with the frame given back when it was the segment's last call that recurs. */
  private take(at: number): void {
    const segment = this.segment - 1;
    if (this.flow.lastRecurringCall[segment] === at && !this.charges.framed.after[segment]) {
      this.out.u8(Op.i64Const).signed(this.frameSlots).u8(Op.i64Add);
    }
    this.out.u8(Op.localSet).u32(this.gas);
  }

  private instruction(op: number, at: number): void {
    const { code, out, rewriting, gas } = this;
    const index = code.a[at]!;
    const original = (): void => {
      out.copy(code.bytes, code.at[at]!, code.at[at + 1]!);
    };
    switch (op) {
      case Op.unreachable:
        trapWithGas(out, gas, rewriting.gasGlobal);
        break;
      case Op.return:
        out.u8(Op.localGet).u32(gas).u8(Op.return);
        break;
      case Op.call:
      case Op.returnCall:
        if (rewriting.isImport(index)) {
          this.store();
          out.u8(Op.call).u32(rewriting.function(index));
          this.load();
          if (op === Op.returnCall) out.u8(Op.localGet).u32(gas).u8(Op.return);
          break;
        }
        out.u8(Op.localGet).u32(gas).u8(op).u32(rewriting.function(index));
        if (op === Op.call) this.take(at);
        break;
      case Op.callIndirect:
      case Op.returnCallIndirect:
        if (rewriting.meteredReferences) {
          this.usesTemporary = true;
          out.u8(Op.localSet).u32(this.temporary).u8(Op.localGet).u32(gas).u8(Op.localGet).u32(this.temporary);
          out.u8(op).u32(rewriting.meteredType(index)).u32(code.b[at]!);
          if (op === Op.callIndirect) this.take(at);
          break;
        }
        this.store();
        out.u8(Op.callIndirect).u32(index).u32(code.b[at]!);
        out.u8(Op.globalGet).u32(rewriting.gasGlobal);
        if (op === Op.callIndirect) this.take(at);
        else out.u8(Op.return);
        break;
      case Op.refFunc:
        out.u8(Op.refFunc).u32(rewriting.reference(index));
        break;
      case Op.memoryGrow:
        out.u8(Op.localGet).u32(gas).u8(Op.call).u32(rewriting.growMemory).u8(Op.localSet).u32(gas);
        break;
      case Op.tableGrow:
        out.u8(Op.localGet).u32(gas).u8(Op.call).u32(rewriting.growTable(index)).u8(Op.localSet).u32(gas);
        break;
      case Op.dataDrop:
        out.u8(Op.i32Const).u8(1).u8(Op.globalSet).u32(rewriting.droppedData(index));
        original();
        break;
      case Op.elementDrop:
        out.u8(Op.i32Const).u8(1).u8(Op.globalSet).u32(rewriting.droppedElements(index));
        original();
        break;
      default: {
        // What moves or fills in bulk: the number of bytes or elements is on the stack.
        const elements = op === Op.tableInit || op === Op.tableCopy || op === Op.tableFill;
        this.usesTemporary = true;
        out.u8(Op.localTee).u32(this.temporary).u8(Op.localGet).u32(gas);
        chargeByCount(out, this.temporary, elements);
        out.u8(Op.localSet).u32(gas);
        this.test();
        this.askBetween(op, elements);
        original();
      }
    }
  }

  /**
   * V8's baseline code looks for a stop only after so many bytes of code in loops, and at calls of the host: long instructions make that seconds. So the
   * host is called whenever a certain amount was moved, by one instruction or many; gas is not touched.
   */
  private askBetween(op: number, elements: boolean): void {
    const { out, rewriting, temporary } = this;
    const ask = rewriting.askBetween(op);
    out.u8(Op.globalGet).u32(rewriting.bulkGlobal).u8(Op.localGet).u32(temporary);
    out.u8(Op.i32Const);
    if (elements) out.u8(ELEMENT_UNITS_SHIFT).u8(Op.i32Shl);
    else out.u8(BYTES_PER_UNIT_SHIFT).u8(Op.i32ShrU);
    out.u8(Op.i32Sub).u8(Op.localTee).u32(temporary).u8(Op.globalSet).u32(rewriting.bulkGlobal);
    out.u8(Op.localGet).u32(temporary).u8(Op.i32Const).u8(0).u8(Op.i32LtS);
    out.u8(Op.if).signed(ask.type).u8(Op.call).u32(ask.function).u8(Op.end);
  }

  /**
   * Charges all trips of a loop before its first, and counts nothing inside; unless there is not gas for all or they never end, when each trip is
   * counted. To a limit by the step ±2^s, trips − 1 = (distance − 2^s) / 2^s modulo 2^32, less than 2^(32 − s); a distance that the step does not divide
   * is one that is never gone, and rotates to more. Below or above a limit, trips − 1 = (distance − 1) / 2^s rounded down, when the first trip is
   * taken because the test would let it and the last one does not step beyond the end of the numbers.
   */
  private countedLoop(at: number, loop: CountedLoop): void {
    const { out, gas, temporary } = this;
    const { relation, shift } = loop;
    this.usesTemporary = true;
    const limit = (): void => {
      if ('local' in loop.limit) out.u8(Op.localGet).u32(this.local(loop.limit.local));
      else out.u8(Op.i32Const).signed(loop.limit.constant);
    };
    const counter = (): void => {
      out.u8(Op.localGet).u32(this.local(loop.counter));
    };
    const test = (): void => {
      counter();
      limit();
      out.u8(relation);
    };
    if (loop.testedFirst) {
      test();
      out.u8(Op.if).u8(0x40);
    }
    for (const operand of loop.direction === 1 ? [limit, counter] : [counter, limit]) operand();
    const exact = relation === Op.i32Ne;
    out
      .u8(Op.i32Sub)
      .u8(Op.i32Const)
      .signed(exact ? 2 ** shift : 1)
      .u8(Op.i32Sub);
    if (shift > 0)
      out
        .u8(Op.i32Const)
        .u8(shift)
        .u8(exact ? Op.i32Rotr : Op.i32ShrU);
    out.u8(Op.localSet).u32(temporary).u8(Op.localGet).u32(gas);
    const allTrips = (operation: number): void => {
      out.u8(Op.localGet).u32(temporary).u8(Op.i64ExtendI32U).u8(Op.i64Const).u8(1).u8(Op.i64Add);
      out
        .u8(Op.i64Const)
        .signed(loop.price * GAS_UNIT)
        .u8(Op.i64Mul)
        .u8(operation);
    };
    allTrips(Op.i64Sub);
    const ahead = this.charges.ahead[this.segment - 1]!;
    out
      .u8(Op.localTee)
      .u32(gas)
      .u8(Op.i64Const)
      .signed(-ahead * GAS_UNIT)
      .u8(Op.i64GeS);
    if (exact && shift > 0) {
      out.u8(Op.localGet).u32(temporary).u8(Op.i32Const);
      out
        .signed(32 - shift)
        .u8(Op.i32ShrU)
        .u8(Op.i32Eqz)
        .u8(Op.i32And);
    }
    if (!exact && !loop.testedFirst) {
      test();
      out.u8(Op.i32And);
    }
    if (!exact && shift > 0) {
      const far = farthest(loop);
      limit();
      out.u8(Op.i32Const).signed(far.limit).u8(far.within).u8(Op.i32And);
    }
    const around = (inside: () => void): void => {
      if (loop.leaves) out.u8(Op.block).u8(0x40);
      out.u8(Op.loop).u8(0x40);
      inside();
      if (loop.leaves) out.u8(Op.end);
    };
    out.u8(Op.if).u8(0x40);
    around(() => this.range(at + 1, loop.end + 1, false));
    out.u8(Op.else).u8(Op.localGet).u32(gas);
    allTrips(Op.i64Add);
    out.u8(Op.localSet).u32(gas);
    around(() => {
      this.range(at + 1, loop.body, false);
      this.subtract(loop.price * GAS_UNIT);
      this.test();
      this.range(loop.body, loop.end + 1, false);
    });
    out.u8(Op.end);
    if (loop.testedFirst) out.u8(Op.end);
  }

  private local(index: number): number {
    return index < this.type.params.length ? index : index + 1;
  }
}

/** `gas` on the stack becomes `gas − price of so many bytes or elements`. */
export function chargeByCount(out: ByteWriter, count: number, elements: boolean, price: number = 1): void {
  out.u8(Op.localGet).u32(count);
  if (!elements) out.u8(Op.i32Const).u8(BYTES_PER_UNIT_SHIFT).u8(Op.i32ShrU);
  const unit = elements ? prices.tableElement * price : price;
  out
    .u8(Op.i64ExtendI32U)
    .u8(Op.i64Const)
    .signed(GAS_UNIT * unit)
    .u8(Op.i64Mul)
    .u8(Op.i64Sub);
}

/** Opcodes that are not copied as they are. */
const REWRITTEN = new Uint8Array(0x400);
for (const op of [
  Op.loop,
  Op.unreachable,
  Op.return,
  Op.call,
  Op.returnCall,
  Op.callIndirect,
  Op.returnCallIndirect,
  Op.refFunc,
  Op.memoryGrow,
  Op.tableGrow,
  Op.dataDrop,
  Op.elementDrop,
  Op.memoryInit,
  Op.memoryCopy,
  Op.memoryFill,
  Op.tableInit,
  Op.tableCopy,
  Op.tableFill,
]) {
  REWRITTEN[op] = 1;
}
