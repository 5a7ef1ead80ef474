/**
 * What is left of gas and stack travels as one i64: `gas × 2^20 + slots`. Both go down by one subtraction and each has its own sign to test: the
 * number's for gas, bit 19 for slots. Neither can reach the other: slots stay below 2^19, and code traps before gas goes far below zero.
 */
const SLOT_BITS = 20n;
/** A unit of gas in the packed number. */
export const GAS_UNIT = 2 ** 20;
/** Set once more slots were used than there were. */
export const SLOTS_USED_UP = 2 ** 19;

/** Most gas one call can be given: 2^42 units, about half an hour of computing. Twice as much would fit: code lends itself gas for a moment. */
export const MAX_GAS = 2 ** 42;
/** Deepest stack, in slots of 8 bytes: 2^19 − 1, about 4 MiB. */
export const MAX_STACK_SLOTS = SLOTS_USED_UP - 1;

/** @param gas units, 0 to `MAX_GAS` @param slots 0 to `MAX_STACK_SLOTS` */
export function packGas(gas: number, slots: number): bigint {
  return (BigInt(gas) << SLOT_BITS) | BigInt(slots);
}

/** Gas that is left; negative when it ran out. Slots that were used and not there have borrowed a unit: it is given back. */
export function gasLeft(packed: bigint): number {
  return Number((packed + BigInt(SLOTS_USED_UP)) >> SLOT_BITS);
}

/** Whether a call needed more stack than it was given. Only after a trap: code that ran to its end has what it started with. */
export function stackUsedUp(packed: bigint): boolean {
  return (packed & BigInt(SLOTS_USED_UP)) !== 0n;
}
