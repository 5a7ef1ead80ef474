import { wasiLimits } from '../../limits.js';
import { Errno } from './abi.js';
import { WasiError } from './wasi-error.js';

/**
 * Reading and writing the guest's memory through its byte view: no DataView, so that nothing is allocated. Addresses are unsigned; whoever calls has
 * checked the range, for which there is `checkRange`.
 */

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

/** @throws WasiError FAULT when any of `length` bytes at `address` is outside. */
export function checkRange(memory: Uint8Array, address: number, length: number): void {
  if (address + length > memory.length) throw new WasiError(Errno.FAULT);
}

export function getU32(memory: Uint8Array, at: number): number {
  return (memory[at]! | (memory[at + 1]! << 8) | (memory[at + 2]! << 16) | (memory[at + 3]! << 24)) >>> 0;
}

export function setU32(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value;
  memory[at + 1] = value >>> 8;
  memory[at + 2] = value >>> 16;
  memory[at + 3] = value >>> 24;
}

export function setU16(memory: Uint8Array, at: number, value: number): void {
  memory[at] = value;
  memory[at + 1] = value >>> 8;
}

/** Exact up to 2^53. */
export function setU64(memory: Uint8Array, at: number, value: number): void {
  setU32(memory, at, value % 4_294_967_296);
  setU32(memory, at + 4, value / 4_294_967_296);
}

export function setBig(memory: Uint8Array, at: number, value: bigint): void {
  setU32(memory, at, Number(BigInt.asUintN(32, value)));
  setU32(memory, at + 4, Number(BigInt.asUintN(32, value >> 32n)));
}

export function getBig(memory: Uint8Array, at: number): bigint {
  return BigInt(getU32(memory, at)) | (BigInt(getU32(memory, at + 4)) << 32n);
}

/** `milliseconds` × 10^6 + `nanoseconds`, without rounding and without a bigint; nanoseconds below 2^32. */
export function setNanoseconds(memory: Uint8Array, at: number, milliseconds: number, nanoseconds: number): void {
  const high = Math.floor(milliseconds / 65_536) * 1_000_000;
  const low = (high % 65_536) * 65_536 + (milliseconds % 65_536) * 1_000_000 + nanoseconds;
  setU32(memory, at, low % 4_294_967_296);
  setU32(memory, at + 4, Math.floor(high / 65_536) + Math.floor(low / 4_294_967_296));
}

/** @throws WasiError FAULT outside of memory, NAMETOOLONG, ILSEQ when it is not UTF-8, INVAL when it has a zero byte. */
export function getPath(memory: Uint8Array, address: number, length: number): string {
  checkRange(memory, address, length);
  if (length > wasiLimits.maxPathBytes) throw new WasiError(Errno.NAMETOOLONG);
  let text: string;
  try {
    text = decoder.decode(memory.slice(address, address + length));
  } catch (cause) {
    if (cause instanceof TypeError) throw new WasiError(Errno.ILSEQ);
    throw cause;
  }
  if (text.includes('\0')) throw new WasiError(Errno.INVAL);
  return text;
}

export function encodeText(text: string): Uint8Array {
  return encoder.encode(text);
}
