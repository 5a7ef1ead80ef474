import type { Instructions } from '../module/instructions.js';
import { Op } from '../module/opcodes.js';
import { type CountedLoop, countedLoop, type KnownLocals } from './counted-loop.js';
import { priceOf } from './prices.js';

/** What metering knows of the functions that a body calls. */
export interface Callees {
  /** What the caller pays for the callee before its first branch and for its values, beside the price of the call. */
  entryPrice(functionIndex: number): number;
  /** Price of the values of a block, or of a call through a table. */
  valuesPrice(typeIndex: number): number;
  /** Whether the call must be preceded by a test of the gas. */
  mustTest(functionIndex: number): boolean;
  /** Whether it may recur, so that its frames are counted. */
  recurs(functionIndex: number): boolean;
  /** The same of a call through a table. */
  indirectRecurs(typeIndex: number): boolean;
}

/**
 * The segments of a body: straight runs of code that are entered at their beginning and run to their end, and the ways between them.
 * Segment 0 is the function's entry; segments are in the order of the code. Arrays are by segment, and longer than there are: one object reads many bodies.
 */
export class ControlFlow {
  /** Number of segments. */
  count = 0;
  /** Index of the segment's first instruction: what is charged goes before it. */
  readonly first: number[] = [];
  /** Gas of one run. */
  readonly price: number[] = [];
  readonly loopDepth: number[] = [];
  /** Begins a loop. */
  readonly isHeader: boolean[] = [];
  /** Holds a call that must not happen without gas: what is left must be exact then. */
  readonly mustTest: boolean[] = [];
  /** Index of the last call that may recur, −1 for none. */
  readonly lastRecurringCall: number[] = [];
  /** Ways: from one segment to another; `exit` stands for the end of the function. */
  readonly from: number[] = [];
  readonly to: number[] = [];
  /** Number of ways. */
  ways = 0;
  static readonly exit = -1;
  /** Loops that are charged by a computed number of trips, by the index of their `loop` instruction. They belong to one segment whole. */
  readonly countedLoops = new Map<number, CountedLoop>();
  /** Whether a branch goes to the function's own label, or it needs one. */
  branchesToExit = false;

  constructor(
    private readonly code: Instructions,
    private readonly callees: Callees,
  ) {}

  private open(first: number, depth: number, isHeader = false): number {
    const segment = this.count++;
    this.first[segment] = first;
    this.price[segment] = 0;
    this.loopDepth[segment] = depth;
    this.isHeader[segment] = isHeader;
    this.mustTest[segment] = false;
    this.lastRecurringCall[segment] = -1;
    return segment;
  }

  private way(from: number, to: number): void {
    if (from < 0) return;
    this.from[this.ways] = from;
    this.to[this.ways++] = to;
  }

  /** @param type index of a type, or a short form of a block type */
  private payValues(segment: number, type: number): void {
    if (segment >= 0 && type >= 0) this.price[segment]! += this.callees.valuesPrice(type);
  }

  /** Reads the body that `code` holds. @param parameters of the function: its other locals begin as zero */
  read(parameters: number): void {
    const { code } = this;
    this.count = 0;
    this.ways = 0;
    this.countedLoops.clear();
    this.branchesToExit = false;
    /** Segment that code belongs to; −1 where code is never reached. */
    let current = this.open(0, 0);
    let depth = 0;
    /** What locals were set to in this segment: NaN where it is not a constant. */
    const constants = new Map<number, number>();
    let zeroLocals = true;
    const known: KnownLocals = (local) => {
      const value = constants.get(local) ?? (zeroLocals && local >= parameters ? 0 : undefined);
      return Number.isNaN(value) ? undefined : value;
    };
    let folded = 0;
    const labels: Label[] = [{ loop: -1, before: -1, into: [] }];
    const target = (label: number): void => {
      const entry = labels[labels.length - 1 - label]!;
      if (labels.length - 1 === label) {
        this.branchesToExit = true;
        this.way(current, ControlFlow.exit);
      } else if (entry.loop >= 0) this.way(current, entry.loop);
      else if (current >= 0) entry.into.push(current);
    };
    const enter = (segment: number): void => {
      current = segment;
      if (constants.size > 0) constants.clear();
      zeroLocals = false;
    };

    for (let at = 0; at < code.count; at++) {
      const op = code.op[at]!;
      const operand = code.a[at]!;
      if (current >= 0) this.price[current]! += priceOf[op]!;
      switch (op) {
        case Op.localSet:
        case Op.localTee:
          if (code.op[at - 1] === Op.i32Const) constants.set(operand, code.a[at - 1]!);
          else constants.set(operand, Number.NaN);
          break;
        case Op.block:
          this.payValues(current, operand);
          labels.push({ loop: -1, before: -1, into: [] });
          break;
        case Op.loop: {
          const around = labels[labels.length - 1]!;
          const inBlock = labels.length > 1 && around.loop < 0;
          const counted = current >= 0 ? countedLoop(code, at, known, inBlock) : undefined;
          if (counted) {
            this.price[current]! += counted.once;
            const fixed = (counted.trips ?? Number.POSITIVE_INFINITY) * counted.price;
            if (folded + fixed > MOST_FOLDED) this.countedLoops.set(at, counted);
            else {
              this.price[current]! += fixed;
              folded += fixed;
            }
            for (const local of counted.written) constants.set(local, Number.NaN);
            at = counted.end;
            break;
          }
          if (current < 0) {
            labels.push({ loop: -1, before: -1, into: [] });
            break;
          }
          depth++;
          const header = this.open(at + 1, depth, true);
          this.way(current, header);
          this.payValues(header, operand);
          labels.push({ loop: header, before: -1, into: [] });
          enter(header);
          break;
        }
        case Op.if: {
          this.payValues(current, operand);
          labels.push({ loop: -1, before: current, into: [] });
          if (current < 0) break;
          const then = this.open(at + 1, depth);
          this.way(current, then);
          enter(then);
          break;
        }
        case Op.else: {
          const label = labels[labels.length - 1]!;
          if (current >= 0) label.into.push(current);
          if (label.before < 0) break;
          const otherwise = this.open(at + 1, depth);
          this.way(label.before, otherwise);
          label.before = -1;
          enter(otherwise);
          break;
        }
        case Op.end: {
          const label = labels.pop()!;
          if (labels.length === 0) {
            this.way(current, ControlFlow.exit);
            break;
          }
          if (label.loop >= 0) {
            depth--;
            break;
          }
          if (label.before >= 0) label.into.push(label.before);
          if (label.into.length === 0) break;
          if (current >= 0) label.into.push(current);
          const merge = this.open(at + 1, depth);
          for (const from of label.into) this.way(from, merge);
          enter(merge);
          break;
        }
        case Op.br:
          target(operand);
          current = -1;
          break;
        case Op.brIf: {
          target(operand);
          if (current < 0) break;
          const next = this.open(at + 1, depth);
          this.way(current, next);
          current = next; // Constants still hold: it is entered from here only.
          break;
        }
        case Op.brTable:
          for (let i = 0; i < operand; i++) target(code.labels[code.b[at]! + i]!);
          current = -1;
          break;
        case Op.return:
          this.way(current, ControlFlow.exit);
          current = -1;
          break;
        case Op.unreachable:
          current = -1;
          break;
        case Op.memoryGrow:
        case Op.tableGrow:
          if (current >= 0) this.mustTest[current] = true;
          break;
        case Op.call:
        case Op.returnCall:
          if (current < 0) break;
          this.price[current]! += this.callees.entryPrice(operand);
          if (op === Op.returnCall || this.callees.mustTest(operand)) this.mustTest[current] = true;
          if (op === Op.call && this.callees.recurs(operand)) this.lastRecurringCall[current] = at;
          break;
        case Op.callIndirect:
        case Op.returnCallIndirect:
          if (current < 0) break;
          this.payValues(current, operand);
          this.mustTest[current] = true;
          if (op === Op.callIndirect && this.callees.indirectRecurs(operand)) this.lastRecurringCall[current] = at;
          break;
      }
      if (op === Op.returnCall || op === Op.returnCallIndirect) {
        this.way(current, ControlFlow.exit);
        current = -1;
      }
    }
  }
}

/** Most gas of loops in one function that is part of the charges of its segments, and so may be used before the gas is tested. */
const MOST_FOLDED = 2 ** 16;

interface Label {
  /** Header segment of a loop, −1 for a block. */
  readonly loop: number;
  /** Of an `if` without `else` yet: the segment before it. */
  before: number;
  /** Segments that go to the end of a block. */
  readonly into: number[];
}
