import { Op } from '../module/opcodes.js';
import type { FunctionType } from '../types.js';

/**
 * What code costs, in units of gas. A change of any number is a new version: counts of different versions do not compare.
 * One unit is one simple instruction; what an engine does in many machine instructions costs more.
 */
export const prices = {
  version: 1,
  instruction: 1,
  /** Integer and float division, remainder, square root. */
  division: 4,
  /** A branch table. */
  branchTable: 2,
  call: 2,
  callIndirect: 4,
  /** A call of a function of the host, beside what the host itself charges. */
  hostCall: 64,
  /** Each page (64 KiB) that a memory grows. */
  memoryPage: 1024,
  /** Memory that bulk instructions move or fill: one unit for so many bytes (a power of two). */
  bytesPerUnit: 8,
  /** Bytes that a call of WASI moves for its own price; each further `bytesPerUnit` cost one unit, as bulk instructions do. */
  hostCallBytes: 512,
  /** Values that a call, a block or one trip of a loop takes and gives for nothing; each more costs a unit, since it may be copied. */
  freeValues: 16,
  /** Each table element that bulk instructions move or fill, or a table grows. */
  tableElement: 1,
} as const;

/** `log2(bytesPerUnit)`. */
export const BYTES_PER_UNIT_SHIFT = Math.log2(prices.bytesPerUnit);

/** What a call, a block or one trip of a loop of a type costs for its values, beside its instruction. */
export function priceOfValues({ params, results }: FunctionType): number {
  return Math.max(0, params.length + results.length - prices.freeValues);
}

/** What a call of WASI that moves so many bytes costs beside `hostCall`. */
export function priceOfBytes(bytes: number): number {
  return bytes <= prices.hostCallBytes ? 0 : Math.floor((bytes - prices.hostCallBytes) / prices.bytesPerUnit);
}

/** Price of each opcode, as `opcodes.ts` numbers them. What only structures code is free. */
export const priceOf = new Uint8Array(0x400).fill(prices.instruction);
for (const free of [Op.unreachable, Op.nop, Op.block, Op.loop, Op.else, Op.end, Op.return, Op.drop]) priceOf[free] = 0;
priceOf.fill(prices.division, 0x6d, 0x71); // i32 div_s div_u rem_s rem_u
priceOf.fill(prices.division, 0x7f, 0x83); // i64
for (const op of [0x91, 0x95, 0x9f, 0xa3, 0x2e3, 0x2e7, 0x2ef, 0x2f3]) priceOf[op] = prices.division; // sqrt, div
priceOf[Op.brTable] = prices.branchTable;
priceOf[Op.call] = prices.call;
priceOf[Op.returnCall] = prices.call;
priceOf[Op.callIndirect] = prices.callIndirect;
priceOf[Op.returnCallIndirect] = prices.callIndirect;
