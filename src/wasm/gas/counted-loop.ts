import { EMPTY_BLOCK, type Instructions } from '../module/instructions.js';
import { Op } from '../module/opcodes.js';
import { MAX_GAS } from './packed.js';
import { priceOf } from './prices.js';

/** As an opcode: a loop goes on while `counter relation limit`. */
type Relation = typeof Op.i32Ne | typeof Op.i32LtS | typeof Op.i32LtU | typeof Op.i32GtS | typeof Op.i32GtU;

/**
 * A loop whose number of trips is known when it begins: a straight body that steps one local by a power of two and goes on while it is another value, or
 * a lower or higher one, than what the body does not change. It can be charged ahead, so that nothing is counted inside.
 */
export interface CountedLoop {
  /** Index of its `end` instruction. */
  readonly end: number;
  /** Index of the first instruction that runs once a trip: what comes before is the test. */
  readonly body: number;
  readonly counter: number;
  /** The step is `direction × 2^shift`. */
  readonly direction: 1 | -1;
  readonly shift: number;
  readonly relation: Relation;
  readonly limit: { readonly local: number } | { readonly constant: number };
  /** The test comes before each trip, not after it: there may be no trips. */
  readonly testedFirst: boolean;
  /** It ends by a branch to the end of the block around it, which comes next. */
  readonly leaves: boolean;
  /** Of one trip. */
  readonly price: number;
  /** What all trips cost more together: the test that finds no more of them; or less: the branch back that the last one does not take. */
  readonly once: number;
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
 * @param inBlock whether it stands in a block that is not a loop: a branch to the end of that then leaves it
 * @returns undefined when it is not such a loop. Cost: O(instructions of the body)
 */
export function countedLoop(
  code: Instructions,
  loop: number,
  known: KnownLocals,
  inBlock: boolean,
  nest = 0,
): CountedLoop | undefined {
  if (code.a[loop] !== EMPTY_BLOCK || nest >= DEEPEST_NEST) return undefined;
  const first = straight(code, loop + 1, nest);
  if (!first) return undefined;
  const { at } = first;
  const branch = code.op[at];
  if (branch !== Op.brIf && branch !== Op.if) return undefined;
  const label = code.a[at]!;
  const op = (index: number, wanted: number, operand?: number): boolean =>
    code.op[index] === wanted && (operand === undefined || code.a[index] === operand);

  // do { … } while (test): `br_if 0`
  if (branch === Op.brIf && label === 0 && op(at + 1, Op.end)) {
    const shape = { end: at + 1, body: loop + 1, testedFirst: false, leaves: false, once: 0 };
    return counted(code, first, shape, first.price + priceOf[Op.brIf]!, tests(code, at, false), known);
  }
  const mayLeave = branch === Op.brIf && label === 1 && inBlock;
  // do { … } while (test), otherwise laid out: `br_if 1; br 0`
  if (mayLeave && op(at + 1, Op.br, 0) && op(at + 2, Op.end) && op(at + 3, Op.end)) {
    const shape = { end: at + 2, body: loop + 1, testedFirst: false, leaves: true, once: -priceOf[Op.br]! };
    const price = first.price + priceOf[Op.brIf]! + priceOf[Op.br]!;
    return counted(code, first, shape, price, tests(code, at, true), known);
  }
  // while (test) { … }: `if … br 1 end`, or `br_if 1 … br 0`
  const byIf = branch === Op.if && label === EMPTY_BLOCK;
  if (!byIf && !mayLeave) return undefined;
  const found = tests(code, at, !byIf).filter((test) => test.begin === loop + 1 && test.pure);
  if (found.length === 0) return undefined;
  const body = straight(code, at + 1, nest);
  if (!body || !op(body.at, Op.br, byIf ? 1 : 0) || !op(body.at + 1, Op.end) || !op(body.at + 2, Op.end)) {
    return undefined;
  }
  const test = first.price + priceOf[branch]!;
  const end = byIf ? body.at + 2 : body.at + 1;
  const shape = { end, body: at + 1, testedFirst: true, leaves: !byIf, once: test };
  return counted(code, body, shape, test + body.price + priceOf[Op.br]!, found, known);
}

/** A run of code without branches, loops of known length inside it included. */
interface Straight {
  /** Index of the instruction that ends it. */
  readonly at: number;
  readonly price: number;
  /** Where each local is written: NaN when that is more than one place. */
  readonly writes: ReadonlyMap<number, number>;
}

function straight(code: Instructions, from: number, nest: number): Straight | undefined {
  const writes = new Map<number, number>();
  /** Constants from before hold for the first trip only; those set in the body hold for each. */
  const constants = new Map<number, number>();
  let price = 0;
  for (let at = from; ; at++) {
    const op = code.op[at]!;
    if (op === Op.brIf || op === Op.br || op === Op.if) return { at, price, writes };
    if (op === Op.loop) {
      const inner = countedLoop(code, at, (local) => constants.get(local), false, nest + 1);
      if (inner?.trips === undefined) return undefined;
      price += inner.trips * inner.price + inner.once;
      for (const local of inner.written) {
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
      writes.set(local, writes.has(local) ? Number.NaN : at);
      if (code.op[at - 1] === Op.i32Const) constants.set(local, code.a[at - 1]!);
      else constants.delete(local);
    }
  }
}

type Shape = Pick<CountedLoop, 'end' | 'body' | 'testedFirst' | 'leaves' | 'once'>;

function counted(
  code: Instructions,
  { writes }: Straight,
  shape: Shape,
  price: number,
  found: readonly Test[],
  known: KnownLocals,
): CountedLoop | undefined {
  if (price > MOST_A_TRIP) return undefined;
  for (const { counter, read, limit, relation } of found) {
    if ('local' in limit && (writes.has(limit.local) || limit.local === counter)) continue;
    const update = writes.get(counter);
    if (update === undefined || Number.isNaN(update) || (!shape.testedFirst && update > read)) continue;
    const step = stepOf(code, update, counter, shape.body);
    if (!step || !goesTo(relation, step.direction)) continue;
    const base = { ...shape, counter, ...step, relation, limit, price, written: new Set(writes.keys()) };
    const from = known(counter);
    const to = 'constant' in limit ? limit.constant : known(limit.local);
    if (from === undefined || to === undefined) return base;
    const trips = tripsOf(from, to, base);
    return trips === undefined ? base : { ...base, trips };
  }
  return undefined;
}

/** Whether such steps lead to the end. */
function goesTo(relation: Relation, direction: 1 | -1): boolean {
  if (relation === Op.i32Ne) return true;
  return (relation === Op.i32LtS || relation === Op.i32LtU) === (direction === 1);
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
  readonly relation: Relation;
  /** Index of its first instruction. */
  readonly begin: number;
  /** It writes no local. */
  readonly pure: boolean;
}

/** By opcode − `i32.eq`: what holds when it does not, and with its operands in the other order. */
const INVERSE = [
  Op.i32Ne,
  Op.i32Eq,
  Op.i32GeS,
  Op.i32GeU,
  Op.i32LeS,
  Op.i32LeU,
  Op.i32GtS,
  Op.i32GtU,
  Op.i32LtS,
  Op.i32LtU,
];
const SWAPPED = [
  Op.i32Eq,
  Op.i32Ne,
  Op.i32GtS,
  Op.i32GtU,
  Op.i32LtS,
  Op.i32LtU,
  Op.i32GeS,
  Op.i32GeU,
  Op.i32LeS,
  Op.i32LeU,
];

function isRelation(op: number): op is Relation {
  return op === Op.i32Ne || op === Op.i32LtS || op === Op.i32LtU || op === Op.i32GtS || op === Op.i32GtU;
}

/**
 * What the condition before a branch may compare: counter and limit either way round, or counter and 0.
 * @param leaves whether the branch ends the loop
 */
function tests(code: Instructions, branch: number, leaves: boolean): Test[] {
  let last = branch - 1;
  let inverted = leaves;
  for (; code.op[last] === Op.i32Eqz; last--) inverted = !inverted;
  const op = (back: number) => code.op[last - back];
  const a = (back: number) => code.a[last - back]!;
  const isLocal = (back: number) => op(back) === Op.localGet || op(back) === Op.localTee;
  const found: Test[] = [];
  const add = (counter: number, limit: CountedLoop['limit'], relation: number, begin: number): void => {
    if (!isRelation(relation)) return;
    const pure = op(counter) === Op.localGet && begin <= 2;
    found.push({ counter: a(counter), read: last - counter, limit, relation, begin: last - begin, pure });
  };
  if (isLocal(0) && !inverted) add(0, { constant: 0 }, Op.i32Ne, 0);
  const comparison = op(0)! - Op.i32Eq;
  if (!(comparison >= 0 && comparison < INVERSE.length)) return found;
  const relation = inverted ? INVERSE[comparison]! : op(0)!;
  const other = SWAPPED[relation - Op.i32Eq]!;
  if (op(1) === Op.i32Const && isLocal(2)) add(2, { constant: a(1) }, relation, 2);
  else if (op(2) === Op.i32Const && op(1) === Op.localGet) add(1, { constant: a(2) }, other, 2);
  else if (op(1) === Op.localGet && isLocal(2)) {
    add(2, { local: a(1) }, relation, 2);
    if (op(2) === Op.localGet) add(1, { local: a(2) }, other, 2);
  } else if (op(1) === Op.localTee && op(5) === Op.localGet) add(1, { local: a(5) }, other, 5);
  else if (op(1) === Op.localTee && op(5) === Op.i32Const) add(1, { constant: a(5) }, other, 5);
  return found;
}

/** The step of `local.get i; i32.const ±2^n; i32.add (or sub); local.set i`. */
function stepOf(
  code: Instructions,
  update: number,
  counter: number,
  body: number,
): Pick<CountedLoop, 'direction' | 'shift'> | undefined {
  if (update - 3 < body) return undefined;
  if (code.op[update - 3] !== Op.localGet || code.a[update - 3] !== counter) return undefined;
  if (code.op[update - 2] !== Op.i32Const) return undefined;
  const operation = code.op[update - 1];
  if (operation !== Op.i32Add && operation !== Op.i32Sub) return undefined;
  const step = operation === Op.i32Add ? code.a[update - 2]! : -code.a[update - 2]!;
  const shift = Math.log2(Math.abs(step));
  return Number.isInteger(shift) && shift < 31 ? { direction: step > 0 ? 1 : -1, shift } : undefined;
}

/** The farthest limit that a counter cannot step over beyond the end of its numbers, and how a limit within it compares. */
export function farthest({ relation, shift }: Pick<CountedLoop, 'relation' | 'shift'>): {
  readonly limit: number;
  readonly within: number;
} {
  const over = 2 ** shift - 1;
  if (relation === Op.i32LtS) return { limit: 2 ** 31 - 1 - over, within: Op.i32LeS };
  if (relation === Op.i32LtU) return { limit: -1 - over, within: Op.i32LeU };
  if (relation === Op.i32GtS) return { limit: -(2 ** 31) + over, within: Op.i32GeS };
  return { limit: over, within: Op.i32GeU };
}

type Trips = Pick<CountedLoop, 'direction' | 'shift' | 'relation' | 'testedFirst'>;

/** Trips from one constant to the other; undefined when they never meet, or that is not known. */
function tripsOf(from: number, to: number, loop: Trips): number | undefined {
  const { direction, shift, relation, testedFirst } = loop;
  const distance = (direction === 1 ? to - from : from - to) >>> 0;
  if (relation === Op.i32Ne) {
    if (testedFirst && distance === 0) return 0;
    const trips = (distance === 0 ? 2 ** 32 : distance) / 2 ** shift;
    return Number.isInteger(trips) ? trips : undefined;
  }
  const signed = relation === Op.i32LtS || relation === Op.i32GtS;
  const number = (value: number): number => (signed ? value | 0 : value >>> 0);
  const goesOn = direction === 1 ? number(from) < number(to) : number(from) > number(to);
  if (!goesOn) return testedFirst ? 0 : undefined;
  const end = number(farthest(loop).limit);
  if (direction === 1 ? number(to) > end : number(to) < end) return undefined;
  return ((distance - 1) >>> shift) + 1;
}
