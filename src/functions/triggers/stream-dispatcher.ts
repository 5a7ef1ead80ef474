import type { Clock } from '../../clock.js';
import { type ErrorCode, IguanaError, messageOf } from '../../errors.js';
import { streamTriggerLimits } from '../../limits.js';
import type { StreamTrigger } from '../definition.js';
import { matches } from '../event-filter.js';
import type { EventRecord } from '../invocation.js';

export interface StreamRecord {
  readonly offset: number;
  readonly key: string | null;
  /** Of key and value. */
  readonly bytes: number;
  /** ms since 1970. */
  readonly timestamp: number;
  /** May throw: the record is then given up as it came. */
  decode(): EventRecord;
}

export interface GivenUp {
  readonly record: StreamRecord;
  readonly code: ErrorCode;
  readonly reason: string;
  readonly attempts: number;
}

export interface DispatcherPorts {
  readonly clock: Clock;
  /** Calls the function. */
  invoke(records: readonly EventRecord[], attempt: number): Promise<unknown>;
  /** Takes what came of records before they count as done; failing, it makes their call fail. */
  deliver(records: readonly EventRecord[], output: unknown): Promise<void>;
  /** Takes a record that is not tried again; it is asked until it succeeds. */
  giveUp(letter: GivenUp): Promise<void>;
  /** Between 0 and 1 (default Math.random). */
  readonly random?: () => number;
}

interface Item {
  readonly record: StreamRecord;
  readonly event: EventRecord;
  readonly since: number;
}

/**
 * The records of one assigned partition on their way through a function: batches, order, tries, and the offset below which all are finished.
 *
 * A batch keeps its place and its keys until each of its records is done or given up, its halves and repetitions included; so later records of a key
 * never overtake. Halving is not a try: only a record alone, or a whole batch without `bisect`, uses up `attempts`.
 * Cost: O(records held) for each batch.
 */
export class StreamDispatcher {
  readonly counts = { done: 0, dead: 0, filtered: 0, calls: 0 };
  private waiting: Item[] = [];
  /** Offsets of records held, ascending; finished ones leave from the front. */
  private readonly order: number[] = [];
  private readonly finished = new Set<number>();
  private readonly busyKeys = new Set<string>();
  private running = 0;
  private next: number | undefined;
  private stopTimer: (() => void) | undefined;
  private paused = false;
  private closed = false;
  private readonly room: (() => void)[] = [];
  private readonly pauses = new Set<() => void>();

  constructor(
    private readonly trigger: StreamTrigger,
    private readonly ports: DispatcherPorts,
    private readonly maxHeld: number = streamTriggerLimits.maxHeldRecords,
  ) {}

  /** Takes records in order of their offsets. Resolves when there is room for more: that is the back pressure. */
  async push(records: readonly StreamRecord[]): Promise<void> {
    const since = this.ports.clock.now();
    for (const record of records) {
      this.order.push(record.offset);
      this.next = record.offset + 1;
      this.take(record, since);
    }
    this.serve();
    while (this.held >= this.maxHeld && !this.closed) await new Promise<void>((resolve) => this.room.push(resolve));
  }

  /** All below it are finished; undefined before the first record. */
  get safeOffset(): number | undefined {
    return this.order[0] ?? this.next;
  }

  /** Records taken and not finished, finished ones behind an unfinished one included. */
  get held(): number {
    return this.order.length;
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.serve();
  }

  /** Starts nothing more. What is not finished stays below no safe offset and comes again. */
  close(): void {
    this.closed = true;
    this.stopTimer?.();
    for (const wake of [...this.pauses]) wake();
    for (const wake of this.room.splice(0)) wake();
  }

  private take(record: StreamRecord, since: number): void {
    let event: EventRecord;
    try {
      event = record.decode();
    } catch (error) {
      void this.bury(record, error, 0);
      return;
    }
    const { filter } = this.trigger;
    if (filter && !matches(filter, { value: event.value, key: event.key, headers: event.headers })) {
      this.counts.filtered++;
      this.finish(record);
    } else this.waiting.push({ record, event, since });
  }

  private serve(): void {
    const limit = this.trigger.order === 'key' ? this.trigger.parallel : 1;
    while (!this.paused && !this.closed && this.running < limit) {
      const batch = this.nextBatch();
      if (batch.length === 0) return;
      void this.process(batch);
    }
  }

  private nextBatch(): Item[] {
    const { batch, order } = this.trigger;
    const chosen: Item[] = [];
    let bytes = 0;
    let full = false;
    for (const item of this.waiting) {
      const { key } = item.record;
      if (order === 'key' && key !== null && this.busyKeys.has(key)) continue;
      if (chosen.length >= batch.size || (chosen.length > 0 && bytes + item.record.bytes > batch.bytes)) {
        full = true;
        break;
      }
      chosen.push(item);
      bytes += item.record.bytes;
    }
    full ||= chosen.length >= batch.size || bytes >= batch.bytes;
    const oldest = chosen[0];
    if (!oldest) return chosen;
    const left = oldest.since + batch.windowMs - this.ports.clock.now();
    if (!full && left > 0) {
      this.stopTimer?.();
      this.stopTimer = this.ports.clock.after(left, () => this.serve());
      return [];
    }
    const taken = new Set(chosen);
    this.waiting = this.waiting.filter((item) => !taken.has(item));
    return chosen;
  }

  private async process(batch: readonly Item[]): Promise<void> {
    const keys = batch.flatMap(({ record: { key } }) => key ?? []);
    this.running++;
    for (const key of keys) this.busyKeys.add(key);
    await this.attempt(batch, 1);
    for (const key of keys) this.busyKeys.delete(key);
    this.running--;
    this.serve();
  }

  private async attempt(items: readonly Item[], attempt: number): Promise<void> {
    if (this.closed) return;
    let failed = items;
    let why: unknown;
    let partial = false;
    this.counts.calls++;
    try {
      const output = await this.ports.invoke(
        items.map(({ event }) => event),
        attempt,
      );
      const offsets = failedOffsets(output);
      const known = new Set(items.map(({ record }) => record.offset));
      if (offsets === undefined) failed = [];
      else if ([...offsets].every((offset) => known.has(offset))) {
        failed = items.filter(({ record }) => offsets.has(record.offset));
        partial = true;
      }
      const done = items.filter((item) => !failed.includes(item));
      const events = done.map(({ event }) => event);
      if (done.length > 0) await this.ports.deliver(events, offsets ? undefined : output);
      for (const { record } of done) {
        this.counts.done++;
        this.finish(record);
      }
      why = new IguanaError('IGU_FUNCTION_FAILED', { name: 'the function', what: 'it named the record as failed' });
    } catch (error) {
      why = error;
      failed = items;
    }
    if (failed.length === 0) return;
    if (this.trigger.bisect && !partial && failed.length > 1) {
      const middle = failed.length >> 1;
      await this.attempt(failed.slice(0, middle), attempt);
      await this.attempt(failed.slice(middle), attempt);
      return;
    }
    const { attempts, maxAgeSeconds } = this.trigger;
    const bound = this.ports.clock.now() - maxAgeSeconds * 1000;
    const again = attempt < attempts ? failed.filter(({ record }) => record.timestamp >= bound) : [];
    for (const item of failed) if (!again.includes(item)) await this.bury(item.record, why, attempt);
    if (again.length === 0) return;
    await this.backOff(attempt);
    await this.attempt(again, attempt + 1);
  }

  private async bury(record: StreamRecord, error: unknown, attempts: number): Promise<void> {
    const code =
      error instanceof IguanaError ? error.code : attempts === 0 ? 'IGU_RECORD_MALFORMED' : 'IGU_FUNCTION_FAILED';
    for (let turn = 1; !this.closed; turn++) {
      try {
        await this.ports.giveUp({ record, code, reason: messageOf(error), attempts });
        this.counts.dead++;
        this.finish(record);
        return;
      } catch {
        // Nothing is lost: it stays unfinished until it is taken.
        await this.backOff(turn);
      }
    }
  }

  private backOff(turn: number): Promise<void> {
    const { backoffMs, maxBackoffMs } = this.trigger;
    const most = Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(turn - 1, 30));
    return new Promise((resolve) => {
      const wake = (): void => {
        stop();
        this.pauses.delete(wake);
        resolve();
      };
      const stop = this.ports.clock.after(most * (this.ports.random ?? Math.random)(), wake);
      this.pauses.add(wake);
    });
  }

  private finish({ offset }: StreamRecord): void {
    this.finished.add(offset);
    let n = 0;
    while (n < this.order.length && this.finished.delete(this.order[n]!)) n++;
    this.order.splice(0, n);
    if (this.held < this.maxHeld) for (const wake of this.room.splice(0)) wake();
  }
}

/** The offsets that a function names as failed; undefined when its answer is no such list. */
function failedOffsets(output: unknown): Set<number> | undefined {
  if (typeof output !== 'object' || output === null || !('batchItemFailures' in output)) return undefined;
  const { batchItemFailures } = output;
  if (!Array.isArray(batchItemFailures)) return new Set([-1]);
  return new Set(batchItemFailures.map((one) => Number((one as { offset?: unknown } | null)?.offset ?? -1)));
}
