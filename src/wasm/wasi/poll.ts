import { wasiLimits } from '../../limits.js';
import { Errno, Rights } from './abi.js';
import type { WasiContext } from './context.js';
import { checkRange, getBig, getU32, setU16, setU32, setU64 } from './guest-memory.js';
import { errnoOf, WasiError } from './wasi-error.js';

const CLOCK = 0;
const FD_READ = 1;
const FD_WRITE = 2;
const ABSOLUTE = 1;
const EVENT = 32;

/**
 * `poll_oneoff`: waits until the first of the subscriptions is due and tells all that are. Descriptors are always ready: nothing here waits for other
 * programs, save sockets, whose calls block themselves. With a virtual clock a wait moves its time and takes none.
 */
export function pollOneoff(context: WasiContext, input: number, output: number, count: number, result: number): void {
  const { clock, version } = context;
  const memory = context.memory();
  const size = version.clockIdentifier ? 56 : 48;
  if (count === 0 || count > wasiLimits.maxSubscriptions) throw new WasiError(Errno.INVAL);
  checkRange(memory, input, count * size);
  checkRange(memory, output, count * EVENT);
  checkRange(memory, result, 4);
  context.pay(count * (size + EVENT));

  // The events may be written over the subscriptions, so those are copied first.
  const subscriptions = memory.slice(input, input + count * size);
  const events: { at: number; tag: number; error: number; bytes: number }[] = [];
  const clocks: { at: number; wait: number }[] = [];
  for (let at = 0; at < subscriptions.length; at += size) {
    const tag = subscriptions[at + 8]!;
    if (tag === CLOCK) {
      const from = at + (version.clockIdentifier ? 24 : 16);
      const id = getU32(subscriptions, from);
      if (id > 1) {
        events.push({ at, tag, error: id > 3 ? Errno.INVAL : Errno.NOTSUP, bytes: 0 });
        continue;
      }
      const timeout = Number(getBig(subscriptions, from + 8)) / 1e6;
      const absolute = (subscriptions[from + 24]! & ABSOLUTE) !== 0;
      const wait = absolute ? timeout - (id === 0 ? clock.realtime() : clock.monotonic()) : timeout;
      clocks.push({ at, wait: Math.max(0, wait) });
    } else if (tag === FD_READ || tag === FD_WRITE) {
      const fd = getU32(subscriptions, at + 16);
      try {
        const found = context.table.get(fd, tag === FD_READ ? Rights.FD_READ : Rights.FD_WRITE);
        if (!(found.rights & Rights.POLL_FD_READWRITE)) throw new WasiError(Errno.NOTCAPABLE);
        const bytes = tag === FD_READ ? found.readable() : wasiLimits.maxTransferBytes;
        events.push({ at, tag, error: 0, bytes });
      } catch (error) {
        events.push({ at, tag, error: errnoOf(error), bytes: 0 });
      }
    } else throw new WasiError(Errno.INVAL);
  }

  let wait = 0;
  if (events.length === 0) {
    wait = Math.min(...clocks.map((c) => c.wait));
    if (wait > 0 && !clock.advance(wait)) {
      const whole = context.sleep(Math.min(wait, wasiLimits.maxSleepMs));
      if (!whole || wait > wasiLimits.maxSleepMs) throw new WasiError(Errno.INTR);
    }
  }
  for (const { at, wait: due } of clocks) if (due <= wait) events.push({ at, tag: CLOCK, error: 0, bytes: 0 });

  events.sort((a, b) => a.at - b.at);
  const after = context.memory();
  for (const [i, event] of events.entries()) {
    const at = output + i * EVENT;
    after.fill(0, at, at + EVENT);
    after.set(subscriptions.subarray(event.at, event.at + 8), at);
    setU16(after, at + 8, event.error);
    after[at + 10] = event.tag;
    setU64(after, at + 16, event.bytes);
  }
  setU32(after, result, events.length);
}
