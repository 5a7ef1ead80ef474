import { wasiLimits } from '../../limits.js';
import { Errno } from './abi.js';
import type { WasiContext } from './context.js';
import type { Descriptor } from './descriptor.js';
import { checkRange, getU32, setU32 } from './guest-memory.js';
import { errnoOf, WasiError } from './wasi-error.js';

/** Moves bytes between the guest's buffers and a descriptor until one is not filled; answers in `result` how many. What was moved is paid. */
export function transfer<T extends Descriptor>(
  { memory: memoryNow, pay }: WasiContext,
  vectors: number,
  count: number,
  result: number,
  descriptor: T,
  move: (descriptor: T, memory: Uint8Array, start: number, end: number, position: number) => number,
  position = 0,
): number {
  if (count > wasiLimits.maxVectors) throw new WasiError(Errno.INVAL);
  const memory = memoryNow();
  checkRange(memory, vectors, count * 8);
  checkRange(memory, result, 4);
  let done = 0;
  for (let i = 0; i < count; i++) {
    const start = getU32(memory, vectors + 8 * i);
    let length = getU32(memory, vectors + 8 * i + 4);
    if (start + length > memory.length) {
      if (done > 0) break;
      throw new WasiError(Errno.FAULT);
    }
    if (length > wasiLimits.maxTransferBytes - done) length = wasiLimits.maxTransferBytes - done;
    if (length === 0) continue;
    let moved: number;
    try {
      moved = move(descriptor, memory, start, start + length, position + done);
    } catch (error) {
      // What was moved before counts, as POSIX says; the error comes again with the next call.
      if (done > 0 && errnoOf(error) !== 0) break;
      throw error;
    }
    done += moved;
    if (moved < length) break;
  }
  // a sink of the host may have called the guest, whose memory then grew
  setU32(memoryNow(), result, done);
  pay(done);
  return 0;
}
