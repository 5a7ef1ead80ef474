import { EMPTY_BLOCK, type Instructions } from '../module/instructions.js';
import { featureOf, heightChange, Op } from '../module/opcodes.js';
import type { ParsedModule } from '../module/parse-module.js';
import type { FunctionType } from '../types.js';
import { priceOf } from './prices.js';

/** What metering a call needs to know of the function called. */
export interface FunctionSurvey {
  /** Price of what always runs first: up to the first branch or loop, without what is called. */
  readonly entryPrice: number;
  /** Stack the function takes, in slots of 8 bytes: parameters, locals, operands at their highest, and what engines add. */
  readonly frameSlots: number;
  /** Price of all its code when it neither calls nor loops, moves memory in bulk or ends by `unreachable`; infinite otherwise. */
  readonly straightPrice: number;
  /** Functions called directly, each once. */
  readonly callees: readonly number[];
  /** Types of indirect calls, each once. */
  readonly indirectTypes: readonly number[];
}

/** What the code of a whole module does that its sections do not say. */
export interface ModuleSurvey {
  /** Of every function with a body, in order. */
  readonly functions: readonly FunctionSurvey[];
  /** Functions that `ref.func` in code refers to. */
  readonly referenced: ReadonlySet<number>;
  /** Tables that code writes. */
  readonly changedTables: ReadonlySet<number>;
  readonly droppedData: ReadonlySet<number>;
  readonly droppedElements: ReadonlySet<number>;
  readonly growsMemory: boolean;
  /** Moves or fills memory or tables by one instruction. */
  readonly movesInBulk: boolean;
  readonly features: ReadonlySet<string>;
}

const bulkInstructions = [Op.memoryInit, Op.memoryCopy, Op.memoryFill, Op.tableInit, Op.tableCopy, Op.tableFill];

/** What a frame takes beside its values on any engine: return address, instance, saved registers. */
const FRAME_OVERHEAD_SLOTS = 8;
const V128 = 0x7b;

/** Reads every body once. Cost: O(bytes). */
export function survey(module: ParsedModule, code: Instructions): ModuleSurvey {
  const result = {
    functions: [] as FunctionSurvey[],
    referenced: new Set<number>(),
    changedTables: new Set<number>(),
    droppedData: new Set<number>(),
    droppedElements: new Set<number>(),
    growsMemory: false,
    movesInBulk: false,
    features: new Set<string>(),
  };
  const seen = new Uint8Array(0x400);
  const parameterSlots = module.types.map(({ params }) =>
    params.reduce((sum, param) => sum + (param === 'v128' ? 2 : 1), 0),
  );
  for (const [i, range] of module.code.entries()) {
    code.read(range.from, range.to);
    const type = module.functionTypes[module.importedFunctions + i]!;
    const callees = new Set<number>();
    const indirectTypes = new Set<number>();
    let entryPrice = 0;
    let atEntry = true;
    let straightPrice = 0;
    for (let at = 0; at < code.count; at++) {
      const op = code.op[at]!;
      seen[op] = 1;
      const price = priceOf[op]!;
      straightPrice += price;
      if (atEntry) {
        if (op === Op.loop || op === Op.end || op === Op.else) atEntry = false;
        else {
          entryPrice += price;
          if (endsSegment(op)) atEntry = false;
        }
      }
      switch (op) {
        case Op.call:
        case Op.returnCall:
          callees.add(code.a[at]!);
          break;
        case Op.callIndirect:
        case Op.returnCallIndirect:
          indirectTypes.add(code.a[at]!);
          break;
        case Op.loop:
        case Op.unreachable: // It says what is left of the gas, which must be exact then.
          straightPrice = Number.POSITIVE_INFINITY;
          break;
        case Op.refFunc:
          result.referenced.add(code.a[at]!);
          break;
        case Op.memoryGrow:
          result.growsMemory = true;
          straightPrice = Number.POSITIVE_INFINITY;
          break;
        case Op.tableSet:
        case Op.tableGrow:
        case Op.tableFill:
          result.changedTables.add(code.a[at]!);
          break;
        case Op.tableInit:
          result.changedTables.add(code.b[at]!);
          break;
        case Op.tableCopy:
          result.changedTables.add(code.a[at]!);
          break;
        case Op.dataDrop:
          result.droppedData.add(code.a[at]!);
          break;
        case Op.elementDrop:
          result.droppedElements.add(code.a[at]!);
          break;
      }
      if (op >= Op.memoryInit && op <= Op.tableFill) straightPrice = Number.POSITIVE_INFINITY;
      if (code.a[at]! >= 0 && (op === Op.block || op === Op.loop || op === Op.if)) result.features.add('multi-value');
    }
    if (callees.size + indirectTypes.size > 0) straightPrice = Number.POSITIVE_INFINITY;
    result.functions.push({
      entryPrice,
      straightPrice,
      frameSlots: parameterSlots[type]! + frameSlots(module, code, module.types[type]!),
      callees: [...callees],
      indirectTypes: [...indirectTypes],
    });
  }
  result.movesInBulk = bulkInstructions.some((op) => seen[op]);
  for (const [op, present] of seen.entries()) {
    const feature = present ? featureOf(op) : undefined;
    if (feature) result.features.add(feature);
  }
  return result;
}

/** Whether what follows an instruction may run another number of times than the instruction itself. */
function endsSegment(op: number): boolean {
  return (
    op === Op.unreachable || (op >= Op.loop && op <= Op.return) || op === Op.returnCall || op === Op.returnCallIndirect
  );
}

/** Without parameters. */
function frameSlots(module: ParsedModule, code: Instructions, type: FunctionType): number {
  let slots = FRAME_OVERHEAD_SLOTS;
  for (const local of code.locals) slots += local.type === V128 ? local.count * 2 : local.count;
  return slots + highestStack(module, code, type);
}

/** Height at the entry of each open block, its parameters and results; one array for all bodies, since every body needs it. */
let blocks = new Int32Array(3 * 64);

/** The most operands at once. In code that is never reached heights are a guess, as operands there are. */
function highestStack(module: ParsedModule, code: Instructions, type: FunctionType): number {
  let top = 0;
  blocks[0] = 0;
  blocks[1] = 0;
  blocks[2] = type.results.length;
  let height = 0;
  let highest = 0;
  for (let at = 0; at < code.count; at++) {
    const op = code.op[at]!;
    height += heightChange[op]!;
    if (op > Op.returnCallIndirect) {
      if (height > highest) highest = height;
      continue;
    }
    switch (op) {
      case Op.block:
      case Op.loop:
      case Op.if: {
        const block = code.a[at]!;
        const signature = block >= 0 ? module.types[block] : undefined;
        const params = signature?.params.length ?? 0;
        top += 3;
        if (top >= blocks.length) {
          const grown = new Int32Array(blocks.length * 2);
          grown.set(blocks);
          blocks = grown;
        }
        blocks[top] = height - params;
        blocks[top + 1] = params;
        blocks[top + 2] = signature?.results.length ?? (block === EMPTY_BLOCK ? 0 : 1);
        break;
      }
      case Op.else:
        height = blocks[top]! + blocks[top + 1]!;
        break;
      case Op.end:
        height = blocks[top]! + blocks[top + 2]!;
        top -= 3;
        break;
      case Op.br:
      case Op.brTable:
      case Op.return:
      case Op.returnCall:
      case Op.returnCallIndirect:
      case Op.unreachable:
        height = blocks[top]!;
        break;
      case Op.call:
      case Op.callIndirect: {
        const called = module.types[op === Op.call ? module.functionTypes[code.a[at]!]! : code.a[at]!];
        height += (called?.results.length ?? 0) - (called?.params.length ?? 0);
        break;
      }
    }
    if (height > highest) highest = height;
  }
  return highest;
}
