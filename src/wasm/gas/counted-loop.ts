import { EMPTY_BLOCK, type Instructions } from '../module/instructions.js';
import { Op } from '../module/opcodes.js';
import { MAX_GAS } from './packed.js';
import { priceOf } from './prices.js';

/**
 * A loop whose number of trips is known when it begins: a straight body that steps one local by a power of two and goes on until it equals a value
 * that the body does not change. It can be charged ahead, so that nothing is counted inside.
 */
export interface CountedLoop {
  /** Index of its `end` instruction. */
  readonly end: number;
  readonly counter: number;
  /** The step is `direction × 2^shift`. */
  readonly direction: 1 | -1;
  readonly shift: number;
  readonly limit: { readonly local: number } | { readonly constant: number };
  /** Of one trip. */
  readonly price: number;
  /** When start and limit are both constants. */
  readonly trips?: number;
  /** Locals that the body writes. */
  readonly written: ReadonlySet<number>;
}

/** Most gas of one trip. All trips of a loop, 2^32 at most, then cost at most what a call can be given: their sum fits where gas does. */
const MOST_A_TRIP = MAX_GAS / 2 ** 32;
/** Loops inside loops inside loops that are looked into. */
const DEEPEST_NEST = 4;

/** The number that a local is known to hold. */
export type KnownLocals = (local: number) => number | undefined;

/**
 * @param loop index of a `loop` instruction
 * @param known when it begins
 * @returns undefined when it is not such a loop. Cost: O(instructions of the body)
 */
export function countedLoop(code: Instructions, loop: number, known: KnownLocals, nest = 0): CountedLoop | undefined {
  if (code.a[loop] !== EMPTY_BLOCK || nest >= DEEPEST_NEST) return undefined;
  const writes = new Map<number, number>();
  const written = new Set<number>();
  /** Constants from before hold for the first trip only; those set in the body hold for each. */
  const constants = new Map<number, number>();
  let price = 0;
  let at = loop + 1;
  for (; code.op[at] !== Op.brIf; at++) {
    const op = code.op[at]!;
    if (op === Op.loop) {
      const inner = countedLoop(code, at, (local) => constants.get(local), nest + 1);
      if (inner?.trips === undefined) return undefined;
      price += inner.trips * inner.price;
      for (const local of inner.written) {
        written.add(local);
        writes.set(local, Number.NaN);
        constants.delete(local);
      }
      at = inner.end;
      continue;
    }
    if (!isStraight(op)) return undefined;
    price += priceOf[op]!;
    if (op === Op.localSet || op === Op.localTee) {
      const local = code.a[at]!;
      writes.set(local, written.has(local) ? Number.NaN : at);
      written.add(local);
      if (code.op[at - 1] === Op.i32Const) constants.set(local, code.a[at - 1]!);
      else constants.delete(local);
    }
  }
  if (code.a[at] !== 0 || code.op[at + 1] !== Op.end) return undefined;
  price += priceOf[Op.brIf]!;
  if (price > MOST_A_TRIP) return undefined;

  for (const { counter, read, limit } of tests(code, at)) {
    if ('local' in limit && (written.has(limit.local) || limit.local === counter)) continue;
    const update = writes.get(counter);
    if (update === undefined || Number.isNaN(update) || update > read) continue;
    const step = stepOf(code, update, counter, loop);
    if (!step) continue;
    const end = at + 1;
    const base = { end, counter, ...step, limit, price, written };
    const from = known(counter);
    const to = 'constant' in limit ? limit.constant : known(limit.local);
    if (from === undefined || to === undefined) return base;
    const trips = tripsOf(from, to, step.direction, step.shift);
    return trips === undefined ? base : { ...base, trips };
  }
  return undefined;
}

/** An instruction that neither leaves the straight line nor costs more than its fixed price. */
function isStraight(op: number): boolean {
  if (op <= Op.returnCallIndirect) return op === Op.nop;
  if (op === Op.memoryGrow) return false;
  return !(op >= Op.memoryInit && op <= Op.tableFill && op !== Op.tableSize) && op !== 0x301 && op !== 0x302;
}

interface Test {
  readonly counter: number;
  /** Index of the instruction that reads the counter. */
  readonly read: number;
  readonly limit: CountedLoop['limit'];
}

/** What the condition before the closing `br_if` may compare: counter ≠ limit either way round, or counter ≠ 0. */
function tests(code: Instructions, brIf: number): Test[] {
  const op = (back: number) => code.op[brIf - back];
  const a = (back: number) => code.a[brIf - back]!;
  const isLocal = (back: number) => op(back) === Op.localGet || op(back) === Op.localTee;
  const found: Test[] = [];
  if (isLocal(1)) found.push({ counter: a(1), read: brIf - 1, limit: { constant: 0 } });
  if (op(1) !== Op.i32Ne) return found;
  if (op(2) === Op.i32Const && isLocal(3)) {
    found.push({ counter: a(3), read: brIf - 3, limit: { constant: a(2) } });
  } else if (op(2) === Op.localGet && isLocal(3)) {
    found.push({ counter: a(3), read: brIf - 3, limit: { local: a(2) } });
    if (op(3) === Op.localGet) found.push({ counter: a(2), read: brIf - 2, limit: { local: a(3) } });
  } else if (op(2) === Op.localTee && op(6) === Op.localGet) {
    found.push({ counter: a(2), read: brIf - 2, limit: { local: a(6) } });
  } else if (op(2) === Op.localTee && op(6) === Op.i32Const) {
    found.push({ counter: a(2), read: brIf - 2, limit: { constant: a(6) } });
  }
  return found;
}

/** The step of `local.get i; i32.const ±2^n; i32.add (or sub); local.set i`. */
function stepOf(
  code: Instructions,
  update: number,
  counter: number,
  loop: number,
): Pick<CountedLoop, 'direction' | 'shift'> | undefined {
  if (update - 3 <= loop) return undefined;
  if (code.op[update - 3] !== Op.localGet || code.a[update - 3] !== counter) return undefined;
  if (code.op[update - 2] !== Op.i32Const) return undefined;
  const operation = code.op[update - 1];
  if (operation !== Op.i32Add && operation !== Op.i32Sub) return undefined;
  const step = operation === Op.i32Add ? code.a[update - 2]! : -code.a[update - 2]!;
  const shift = Math.log2(Math.abs(step));
  return Number.isInteger(shift) && shift < 31 ? { direction: step > 0 ? 1 : -1, shift } : undefined;
}

/** Trips from one constant to the other modulo 2^32; undefined when they never meet. */
function tripsOf(from: number, to: number, direction: 1 | -1, shift: number): number | undefined {
  const distance = (direction === 1 ? to - from : from - to) >>> 0;
  const trips = (distance === 0 ? 2 ** 32 : distance) / 2 ** shift;
  return Number.isInteger(trips) ? trips : undefined;
}
