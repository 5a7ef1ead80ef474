/**
 * The records of one assigned partition on their way through a function. Longer than a screen because what it promises (order, tries, the safe offset,
 * bounded memory) is promised by all of it together: each record is in exactly one place, a lane, a job, or behind an unfinished one.
 */
import type { Clock } from '../../clock.js';
import { type ErrorCode, IguanaError, messageOf } from '../../errors.js';
import { streamTriggerLimits } from '../../limits.js';
import type { Condition } from '../definition.js';
import { matches } from '../event-filter.js';
import type { EventRecord } from '../invocation.js';
import { Fifo } from './fifo.js';
import { Slots } from './slots.js';

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

/** What a stream or queue trigger says of batches, order and failures. */
export interface DispatchRules {
  readonly batch: { readonly size: number; readonly bytes: number; readonly windowMs: number };
  readonly filter?: Condition | undefined;
  readonly order: 'partition' | 'key';
  readonly bisect: boolean;
  readonly attempts: number;
  readonly maxAgeSeconds: number;
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A record waits until so long after its timestamp (default 0). */
  readonly delayMs?: number;
}

export interface GivenUp<R extends StreamRecord> {
  readonly record: R;
  readonly code: ErrorCode;
  readonly reason: string;
  readonly error: unknown;
  /** Calls that it failed in; 0 when it could not be read. */
  readonly attempts: number;
}

/** What a call gave. */
export interface Answer {
  readonly output: unknown;
}

export interface DispatcherPorts<R extends StreamRecord, A extends Answer = Answer> {
  readonly clock: Clock;
  /** Calls the function. The signal tells that nobody waits any more. */
  invoke(records: readonly EventRecord[], attempt: number, signal: AbortSignal): Promise<A>;
  /**
   * Takes what came of records (ascending offsets) before they count as finished; of a `partial` answer, which only names failures, these are the others. Rejects only for what is the function's own fault, which is then a failure
   * of these records; what the world is at fault for it tries again itself.
   */
  deliver(records: readonly R[], answer: A, partial: boolean): Promise<void>;
  /** Told what is wrong with an answer, of a call that seemed well to who made it. */
  unfit?(answer: A, error: unknown): void;
  /** Takes a record that is not tried again; it is asked until it succeeds. */
  giveUp(letter: GivenUp<R>): Promise<void>;
  /** Told when the safe offset has moved. */
  advanced?(): void;
  /** Told of errors that no record is at fault for, and for which all of them wait. */
  stalled?(error: unknown): void;
  /** Between 0 and 1 (default Math.random). */
  readonly random?: () => number;
}

/** What is counted of records and calls. */
export interface DispatchCounts {
  /** Records that are finished. */
  done: number;
  /** Records that were given up. */
  dead: number;
  /** Records that the filter passed over. */
  filtered: number;
  calls: number;
  failedCalls: number;
}

export function noCounts(): DispatchCounts {
  return { done: 0, dead: 0, filtered: 0, calls: 0, failedCalls: 0 };
}

export interface DispatcherOptions {
  /** Counted here too, beside what others count. Default: its own. */
  readonly counts?: DispatchCounts;
  /** Calls at once. Default: one of its own. */
  readonly slots?: Slots;
  /** Records held, at most (default 10,000, and at least two batches). */
  readonly maxRecords?: number;
  /** Bytes held, at most (default 32 MiB, and at least two batches). */
  readonly maxBytes?: number;
  /** Finished records count as held until `committed` says that their offsets are. */
  readonly retain?: boolean;
  /** Offset of the first record to come. Default: known with the first record. */
  readonly start?: number;
}

/** Failures of a call that say nothing about its records: they are tried again, uncounted, until it is over. */
const NOT_THE_RECORDS = new Set<ErrorCode>([
  'IGU_FUNCTION_BUSY',
  'IGU_FUNCTION_CANCELLED',
  'IGU_FUNCTION_CODE',
  'IGU_FUNCTION_INTERRUPTED',
  'IGU_FUNCTION_NOT_FOUND',
  'IGU_FUNCTION_NOT_READY',
]);

interface Item<R> {
  readonly record: R;
  readonly lane: Lane<R>;
  readonly since: number;
  event: EventRecord | undefined;
  tries: number;
  finished: boolean;
}

/** Records that follow each other: of one key, or of the whole partition. */
interface Lane<R> {
  readonly key: string | null;
  /** Records without a key follow nothing. */
  readonly ordered: boolean;
  readonly items: Fifo<Item<R>>;
  bytes: number;
  /** Some of its records are in a job. */
  busy: boolean;
  /** It stands among the lanes that may be taken from. */
  ready: boolean;
}

/** A batch, or what is left of one: parts that are called one after the other, the next one last. Its lanes are its own. */
interface Job<R> {
  readonly parts: Item<R>[][];
  readonly lanes: Set<Lane<R>>;
  /** Waits in a row that no record was at fault for. */
  stalls: number;
}

/**
 * Order: a record is in no call before all earlier ones of its lane are finished or in the same call, halves and repetitions included. Where a function names
 * records as failed, its later ones of the same lane are repeated with them.
 *
 * Tries: an error in a call of several records halves them (with `bisect`), which counts as no try; a record alone, a whole batch without `bisect`, and a
 * record that was named use theirs up. What waits for another try holds its own lane only. Throttling, broken code and a neighbour's crash are no tries.
 * Cost: O(1) a record, and O(n log n) for a batch of n records of several keys.
 */
export class StreamDispatcher<R extends StreamRecord, A extends Answer = Answer> {
  readonly counts: DispatchCounts;
  private readonly order = new Fifo<Item<R>>();
  private readonly retained = new Fifo<R>();
  private readonly delayed = new Fifo<Item<R>>();
  private readonly lanes = new Map<string, Lane<R>>();
  private readonly common: Lane<R>;
  private readonly readyLanes = new Fifo<Lane<R>>();
  private readyRecords = 0;
  private readyBytes = 0;
  /** When the oldest record that may be taken has waited for its window. */
  private dueAt = Number.POSITIVE_INFINITY;
  private readonly jobs = new Fifo<Job<R>>();
  private running = 0;
  private next: number | undefined;
  private bytes = 0;
  private readonly cancels = new Map<'window' | 'delay', () => void>();
  private readonly naps = new Set<() => void>();
  private readonly waiters: (() => void)[] = [];
  private readonly quiet: (() => void)[] = [];
  private readonly abort = new AbortController();
  private paused = false;
  private readonly slots: Slots;
  private readonly maxRecords: number;
  private readonly maxBytes: number;

  constructor(
    private readonly rules: DispatchRules,
    private readonly ports: DispatcherPorts<R, A>,
    private readonly options: DispatcherOptions = {},
  ) {
    const { batch, order } = rules;
    this.slots = options.slots ?? new Slots(1);
    this.maxRecords = options.maxRecords ?? Math.max(streamTriggerLimits.maxHeldRecords, 2 * batch.size);
    this.maxBytes = options.maxBytes ?? Math.max(streamTriggerLimits.maxHeldBytes, 2 * batch.bytes);
    this.common = laneOf<R>(null, order === 'partition');
    this.next = options.start;
    this.counts = options.counts ?? noCounts();
  }

  /** Takes records in order of their offsets, from the front, as many as there is room for. Returns how many: that is the back pressure. */
  offer(records: readonly R[]): number {
    const since = this.ports.clock.now();
    let taken = 0;
    for (const record of records) {
      const held = this.held;
      if (this.closed || held >= this.maxRecords || (held > 0 && this.bytes + record.bytes > this.maxBytes)) break;
      taken++;
      this.next = record.offset + 1;
      this.bytes += record.bytes;
      const item = { record, lane: this.laneFor(record), since, event: undefined, tries: 0, finished: false };
      this.order.push(item);
      if ((this.rules.delayMs ?? 0) > 0) this.delayed.push(item);
      else this.enter(item);
    }
    this.ripen();
    this.serve();
    return taken;
  }

  /** Resolves when there is room for at least half of what can be held, or when it is closed. */
  async room(): Promise<void> {
    while (!this.closed && (this.held > this.maxRecords / 2 || this.bytes > this.maxBytes / 2)) {
      await new Promise<void>((resolve) => this.waiters.push(resolve));
    }
  }

  /** Nothing comes below this offset: what lies before it was no record. */
  reach(offset: number): void {
    if (this.next === undefined || offset > this.next) this.next = offset;
  }

  /** All below it are finished; undefined before the first record. */
  get safeOffset(): number | undefined {
    return this.order.peek()?.record.offset ?? this.next;
  }

  /** Where reading goes on; undefined before the first record. */
  get nextOffset(): number | undefined {
    return this.next;
  }

  /** Records taken and not finished, finished ones behind an unfinished one included, and those that are retained. */
  get held(): number {
    return this.order.length + this.retained.length;
  }

  /** Timestamp of the first record that is not finished. */
  get oldest(): number | undefined {
    return this.order.peek()?.record.timestamp;
  }

  get closed(): boolean {
    return this.abort.signal.aborted;
  }

  /** With `retain`: offsets below this one are committed. */
  committed(offset: number): void {
    for (let record = this.retained.peek(); record && record.offset < offset; record = this.retained.peek()) {
      this.retained.shift();
      this.bytes -= record.bytes;
    }
    this.wakeWaiters();
  }

  /** Starts no more calls. */
  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.serve();
  }

  /** Resolves when no call is under way. */
  async idle(): Promise<void> {
    while (this.running > 0) await new Promise<void>((resolve) => this.quiet.push(resolve));
  }

  /** Starts nothing more and takes no more answers. What is not finished stays above the safe offset and comes again. */
  close(): void {
    if (this.closed) return;
    this.abort.abort();
    this.slots.forget(this.serve);
    for (const cancel of this.cancels.values()) cancel();
    for (const wake of [...this.naps]) wake();
    this.wakeWaiters();
  }

  private laneFor({ key }: R): Lane<R> {
    if (this.rules.order === 'partition' || key === null) return this.common;
    let lane = this.lanes.get(key);
    if (!lane) {
      lane = laneOf<R>(key, true);
      this.lanes.set(key, lane);
    }
    return lane;
  }

  /** Lets the delayed records in whose time has come. */
  private ripen(): void {
    const { clock } = this.ports;
    for (let item = this.delayed.peek(); item; item = this.delayed.peek()) {
      // a sender's clock may be ahead
      const left = Math.min(item.record.timestamp, item.since) + (this.rules.delayMs ?? 0) - clock.now();
      if (left > 0) {
        this.timer('delay', left, () => {
          this.ripen();
          this.serve();
        });
        return;
      }
      this.delayed.shift();
      this.enter(item);
    }
  }

  private enter(item: Item<R>): void {
    const { lane, record } = item;
    if (this.rules.filter && !this.passes(item, this.rules.filter)) {
      this.dropLane(lane);
      return;
    }
    lane.items.push(item);
    lane.bytes += record.bytes;
    if (lane.busy) return;
    this.readyRecords++;
    this.readyBytes += record.bytes;
    this.stand(lane);
  }

  private passes(item: Item<R>, filter: Condition): boolean {
    if (!this.read(item)) return false;
    const { value, key, headers } = item.event!;
    if (matches(filter, { value, key, headers })) return true;
    this.counts.filtered++;
    this.finish(item);
    return false;
  }

  /** Decodes a record; one that cannot be is given up. */
  private read(item: Item<R>): boolean {
    try {
      item.event ??= item.record.decode();
      return true;
    } catch (error) {
      void this.bury(item, error);
      return false;
    }
  }

  private stand(lane: Lane<R>): void {
    if (lane.ready) return;
    lane.ready = true;
    this.readyLanes.push(lane);
    this.dueAt = Math.min(this.dueAt, lane.items.peek()!.since + this.rules.batch.windowMs);
  }

  /** Starts what there is to do, as far as there are slots. */
  private readonly serve = (): void => {
    while (!this.paused && !this.closed && (this.jobs.length > 0 || this.batchDue())) {
      if (!this.slots.take()) {
        this.slots.wait(this.serve);
        return;
      }
      const job = this.jobs.shift() ?? this.nextJob();
      if (job) void this.run(job);
      else this.slots.free();
    }
  };

  private batchDue(): boolean {
    if (this.readyRecords === 0) return false;
    const { size, bytes, windowMs } = this.rules.batch;
    if (windowMs === 0 || this.readyRecords >= size || this.readyBytes >= bytes) return true;
    const left = this.dueAt - this.ports.clock.now();
    if (left <= 0) return true;
    this.timer('window', left, this.serve);
    return false;
  }

  /** A batch from the lanes that have waited longest. Undefined when nothing that was taken could be read. */
  private nextJob(): Job<R> | undefined {
    const { batch } = this.rules;
    const items: Item<R>[] = [];
    const lanes = new Set<Lane<R>>();
    let bytes = 0;
    let full = false;
    for (let lane = this.readyLanes.peek(); lane && !full; lane = this.readyLanes.peek()) {
      const before = items.length;
      for (let item = lane.items.peek(); item; item = lane.items.peek()) {
        full = items.length >= batch.size || (items.length > 0 && bytes + item.record.bytes > batch.bytes);
        if (full) break;
        lane.items.shift();
        lane.bytes -= item.record.bytes;
        this.readyRecords--;
        this.readyBytes -= item.record.bytes;
        if (!this.read(item)) continue;
        items.push(item);
        bytes += item.record.bytes;
      }
      const taken = items.length > before;
      if (!taken && lane.items.length > 0) break;
      this.readyLanes.shift();
      lane.ready = false;
      if (!taken || !lane.ordered) {
        // what follows nothing goes on at the end of the line
        if (lane.items.length > 0) this.stand(lane);
        else this.dropLane(lane);
        continue;
      }
      lane.busy = true;
      lanes.add(lane);
      this.readyRecords -= lane.items.length;
      this.readyBytes -= lane.bytes;
    }
    const oldest = this.readyLanes.peek()?.items.peek();
    this.dueAt = oldest ? oldest.since + batch.windowMs : Number.POSITIVE_INFINITY;
    if (items.length === 0) return undefined;
    if (lanes.size !== 1 || items[0]!.lane !== items.at(-1)!.lane) items.sort(byOffset);
    return { parts: [items], lanes, stalls: 0 };
  }

  private async run(job: Job<R>): Promise<void> {
    this.running++;
    let waitMs: number | undefined;
    while (waitMs === undefined && job.parts.length > 0 && !this.paused && !this.closed) {
      waitMs = await this.step(job, job.parts.pop()!);
      this.release(job);
    }
    this.running--;
    if (!this.closed && job.parts.length > 0) {
      if (waitMs === undefined) this.jobs.push(job);
      else void this.nap(waitMs).then(() => this.again(job));
    }
    this.slots.free();
    this.serve();
    if (this.running === 0) for (const resolve of this.quiet.splice(0)) resolve();
  }

  private again(job: Job<R>): void {
    if (this.closed) return;
    this.jobs.push(job);
    this.serve();
  }

  /** Gives back the lanes that a job has no records of any more. */
  private release(job: Job<R>): void {
    const left = new Set(job.parts.flatMap((part) => part.map(({ lane }) => lane)));
    for (const lane of job.lanes) {
      if (left.has(lane)) continue;
      job.lanes.delete(lane);
      lane.busy = false;
      if (lane.items.length === 0) this.dropLane(lane);
      else {
        this.readyRecords += lane.items.length;
        this.readyBytes += lane.bytes;
        this.stand(lane);
      }
    }
  }

  private dropLane(lane: Lane<R>): void {
    if (lane.key !== null && !lane.busy && !lane.ready && lane.items.length === 0) this.lanes.delete(lane.key);
  }

  /** One call. What is not finished goes back to the job. Returns how long it has to wait, ms; undefined when it can go on. */
  private async step(job: Job<R>, part: Item<R>[]): Promise<number | undefined> {
    const attempt = 1 + Math.max(...part.map(({ tries }) => tries));
    let named: ReadonlySet<Item<R>> | undefined;
    let answer: A | undefined;
    this.counts.calls++;
    try {
      const events = part.map(({ event }) => event!);
      answer = await this.ports.invoke(events, attempt, this.abort.signal);
      if (this.closed) return undefined;
      job.stalls = 0;
      named = namedAsFailed(part, answer.output);
      const rest = named ? withFollowers(part, named) : new Set<Item<R>>();
      const done = rest.size === 0 ? part : part.filter((item) => !rest.has(item));
      if (done.length > 0) {
        await this.ports.deliver(
          done.map(({ record }) => record),
          answer,
          named !== undefined,
        );
        if (this.closed) return undefined;
      }
      this.counts.done += done.length;
      this.finish(...done);
      if (rest.size === 0) return undefined;
    } catch (error) {
      if (this.closed) return undefined;
      if (answer) this.ports.unfit?.(answer, error);
      return this.failed(job, part, error);
    }
    this.counts.failedCalls++;
    const why = new IguanaError('IGU_FUNCTION_FAILED', { name: 'the function', what: 'it named the record as failed' });
    this.ports.unfit?.(answer, why);
    const left = part.filter(({ finished }) => !finished);
    return this.anotherTry(job, left, named!, why);
  }

  private async failed(job: Job<R>, part: Item<R>[], error: unknown): Promise<number | undefined> {
    this.counts.failedCalls++;
    if (error instanceof IguanaError && NOT_THE_RECORDS.has(error.code)) {
      this.ports.stalled?.(error);
      job.parts.push(part);
      const { stallMs, maxStallMs } = streamTriggerLimits;
      return Math.min(maxStallMs, stallMs * 2 ** Math.min(job.stalls++, 20)) * (0.5 + this.random() / 2);
    }
    if (!this.rules.bisect || part.length === 1) return this.anotherTry(job, part, new Set(part), error);
    const { first, second, inOrder } = halves(part);
    if (inOrder) {
      job.parts.push(second, first);
      return undefined;
    }
    // no order between them: each goes its own way
    job.parts.push(first);
    const lanes = new Set<Lane<R>>();
    for (const { lane } of second) {
      if (job.lanes.delete(lane)) lanes.add(lane);
    }
    this.jobs.push({ parts: [second], lanes, stalls: 0 });
    return undefined;
  }

  /** Counts a try of the records at fault, gives up those that have no more, and puts the rest of the part back. */
  private async anotherTry(
    job: Job<R>,
    part: readonly Item<R>[],
    atFault: ReadonlySet<Item<R>>,
    why: unknown,
  ): Promise<number | undefined> {
    const { attempts, maxAgeSeconds, backoffMs, maxBackoffMs } = this.rules;
    const bound = this.ports.clock.now() - maxAgeSeconds * 1000;
    let most = 0;
    for (const item of atFault) {
      item.tries++;
      if (item.tries >= attempts || item.record.timestamp < bound) await this.bury(item, why);
      else most = Math.max(most, item.tries);
    }
    const left = part.filter(({ finished }) => !finished);
    if (left.length > 0) job.parts.push(left);
    if (most === 0) return undefined;
    return Math.min(maxBackoffMs, backoffMs * 2 ** Math.min(most - 1, 30)) * this.random();
  }

  private async bury(item: Item<R>, error: unknown): Promise<void> {
    const { record, tries } = item;
    const unread = item.event === undefined;
    const code = error instanceof IguanaError ? error.code : unread ? 'IGU_RECORD_MALFORMED' : 'IGU_FUNCTION_FAILED';
    for (let turn = 0; !this.closed; turn++) {
      try {
        await this.ports.giveUp({ record, code, reason: messageOf(error), error, attempts: tries });
        if (this.closed) return;
        this.counts.dead++;
        this.finish(item);
        return;
      } catch (trouble) {
        // Nothing is lost: it stays unfinished until it is taken.
        this.ports.stalled?.(trouble);
        const { stallMs, maxStallMs } = streamTriggerLimits;
        await this.nap(Math.min(maxStallMs, stallMs * 2 ** Math.min(turn, 20)));
      }
    }
  }

  private random(): number {
    return (this.ports.random ?? Math.random)();
  }

  private nap(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        stop();
        this.naps.delete(wake);
        resolve();
      };
      const stop = this.ports.clock.after(ms, wake);
      this.naps.add(wake);
    });
  }

  private timer(name: 'window' | 'delay', ms: number, action: () => void): void {
    this.cancels.get(name)?.();
    this.cancels.set(name, this.ports.clock.after(ms, action));
  }

  private finish(...items: readonly Item<R>[]): void {
    for (const item of items) {
      item.finished = true;
      item.event = undefined;
    }
    const before = this.order.length;
    while (this.order.peek()?.finished) {
      const { record } = this.order.shift()!;
      if (this.options.retain) this.retained.push(record);
      else this.bytes -= record.bytes;
    }
    if (this.order.length === before) return;
    this.wakeWaiters();
    this.ports.advanced?.();
  }

  private wakeWaiters(): void {
    for (const wake of this.waiters.splice(0)) wake();
  }
}

function laneOf<R>(key: string | null, ordered: boolean): Lane<R> {
  return { key, ordered, items: new Fifo<Item<R>>(), bytes: 0, busy: false, ready: false };
}

function byOffset<R extends StreamRecord>(a: Item<R>, b: Item<R>): number {
  return a.record.offset - b.record.offset;
}

/** The records that a function named as failed; undefined when it gave no list. @throws IguanaError when the list makes no sense */
function namedAsFailed<R extends StreamRecord>(part: readonly Item<R>[], output: unknown): Set<Item<R>> | undefined {
  if (typeof output !== 'object' || output === null || !('batchItemFailures' in output)) return undefined;
  const { batchItemFailures } = output;
  const wrong = (what: string) => new IguanaError('IGU_FUNCTION_FAILED', { name: 'the function', what });
  if (!Array.isArray(batchItemFailures)) throw wrong('its batchItemFailures is no list');
  const known = new Map(part.map((item) => [item.record.offset, item]));
  const named = new Set<Item<R>>();
  for (const one of batchItemFailures) {
    const offset: unknown = (one as { offset?: unknown } | null)?.offset;
    const item = typeof offset === 'number' || typeof offset === 'string' ? known.get(Number(offset)) : undefined;
    if (!item) throw wrong(`its batchItemFailures names offset ${String(offset)}, which it was not given`);
    named.add(item);
  }
  return named;
}

/** Failed records with those that come after one of them in its lane. */
function withFollowers<R extends StreamRecord>(
  part: readonly Item<R>[],
  named: ReadonlySet<Item<R>>,
): ReadonlySet<Item<R>> {
  const lanes = new Set<Lane<R>>();
  const rest = new Set<Item<R>>();
  for (const item of part) {
    if (!named.has(item) && !lanes.has(item.lane)) continue;
    rest.add(item);
    if (item.lane.ordered) lanes.add(item.lane);
  }
  return rest;
}

/** Two halves, each with whole lanes where there are several; else `inOrder`: the second comes after the first. Ascending offsets in both. */
function halves<R extends StreamRecord>(
  part: readonly Item<R>[],
): { first: Item<R>[]; second: Item<R>[]; inOrder: boolean } {
  const groups = new Map<unknown, Item<R>[]>();
  for (const item of part) {
    const group = item.lane.ordered ? item.lane : item;
    const known = groups.get(group);
    if (known) known.push(item);
    else groups.set(group, [item]);
  }
  const middle = part.length >> 1;
  if (groups.size === 1) return { first: part.slice(0, middle), second: part.slice(middle), inOrder: true };
  const all = [...groups.values()];
  const first: Item<R>[] = [];
  let n = 0;
  // at least one group for each
  while (n === 0 || (n < all.length - 1 && first.length + all[n]!.length <= middle)) first.push(...all[n++]!);
  return { first: first.sort(byOffset), second: all.slice(n).flat().sort(byOffset), inOrder: false };
}
