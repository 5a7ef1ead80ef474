import type { Clock } from '../clock.js';
import { deadLetter } from '../codec/dead-letter.js';
import { IguanaError } from '../errors.js';
import type { GpuCommand } from '../gpu/commands.js';
import { Ledger } from '../gpu/ledger.js';
import {
  type GpuForecaster,
  Preallocation,
  type PreallocationReport,
  type PreallocationRule,
} from '../gpu/preallocation.js';
import { type GpuEvent, GpuScheduler, isOver, markAfter, type SchedulerState } from '../gpu/scheduler.js';
import type { PartitionReader, ReceivedMessage } from '../kafka/partition-consumer.js';
import type { TopicRecord, TransactionalWriter } from '../kafka/transactional-writer.js';
import { gpuSchedulerLimits } from '../limits.js';
import { decodeGpuCommand, encodeGpuEvent } from './gpu-records.js';
import type { GpuReplica, GpuRules } from './gpu-replica.js';

export interface GpuSchedulerPartitionOptions {
  readonly groupId: string;
  /** Topics. */
  readonly requests: string;
  readonly allocations: string;
  readonly deadLetters: string;
  /** Fenced. */
  readonly writer: TransactionalWriter;
  /** Offset of the first request to come. */
  readonly start: number;
  /** The end of the requests, as far as is known. */
  readonly end: () => number;
  /** It has all that was written since the fence. */
  readonly replica: GpuReplica;
  readonly rules: GpuRules;
  readonly preallocate: readonly PreallocationRule[];
  readonly forecast: GpuForecaster;
  readonly clock: Clock;
  /** What it decides can be written no more: another one acts, or the broker is gone. */
  readonly lost: () => void;
  /** It decides no more, for whatever reason. */
  readonly ended: () => void;
  readonly onError: (error: unknown) => void;
}

const MAX_QUEUE = 4 * gpuSchedulerLimits.maxBatch;

/**
 * The scheduler that acts: whoever has the one partition of the requests. Requests, what comes of them and how far they are read are one transaction, so that each is decided once,
 * whatever ends in between; a transaction that fails ends this one, and the next begins with what the topic has.
 */
export class GpuSchedulerPartition implements PartitionReader {
  readonly committable = undefined;
  private readonly scheduler: GpuScheduler;
  private readonly preallocations: readonly Preallocation[];
  private readonly queue: Asked[] = [];
  private lingering = false;
  private next: number;
  private committed: number;
  private held = false;
  private ended = false;
  private due = true;
  private deaf = true;
  private lookedAt = Number.NEGATIVE_INFINITY;
  private toldAnew = 0;
  private working: Promise<void> | undefined;
  private roomWanted: (() => void)[] = [];
  private readonly stops: (() => void)[] = [];

  constructor(private readonly options: GpuSchedulerPartitionOptions) {
    const { start, replica, rules, clock, preallocate, forecast } = options;
    this.next = start;
    this.committed = start;
    this.scheduler = new GpuScheduler({ ...rules, clock, state: copyOf(replica.state) });
    for (const { node, gpus, silent } of replica.nodes.values()) if (!silent) this.scheduler.setNode(node, gpus);
    this.preallocations = preallocate.map((rule) => new Preallocation(this.scheduler.allocator, forecast, rule));
    this.stops.push(
      replica.onNode((node, gpus) => {
        if (!gpus) this.scheduler.removeNode(node);
        else if (this.scheduler.setNode(node, gpus)) this.wake();
      }),
      clock.every(gpuSchedulerLimits.tickMs, () => this.wake()),
    );
    this.wake();
  }

  get preallocation(): readonly PreallocationReport[] {
    return this.preallocations.flatMap(({ report }) => report ?? []);
  }

  offer(messages: readonly ReceivedMessage[]): number {
    const taken = Math.max(0, Math.min(messages.length, MAX_QUEUE - this.queue.length));
    if (taken === 0) return 0;
    const asked = messages.slice(0, taken).map(read);
    this.queue.push(...asked);
    this.next = Number(messages[taken - 1]!.offset) + 1;
    // heartbeats have time, and go together
    if (asked.some(({ command }) => command?.action !== 'renew') || this.queue.length >= gpuSchedulerLimits.maxBatch)
      this.wake();
    else if (!this.lingering) {
      this.lingering = true;
      this.options.clock.after(gpuSchedulerLimits.heartbeatLingerMs, () => this.wake());
    }
    return taken;
  }

  room(): Promise<void> {
    if (this.ended || this.queue.length <= MAX_QUEUE / 2) return Promise.resolve();
    return new Promise((resolve) => this.roomWanted.push(resolve));
  }

  reach(offset: number): void {
    this.next = Math.max(this.next, offset);
  }

  get nextOffset(): number {
    return this.next;
  }

  hold(): void {
    this.held = true;
  }

  resume(): void {
    this.held = false;
    this.wake();
  }

  async drain(): Promise<void> {
    this.held = true;
    await this.working;
  }

  close(): void {
    if (this.ended) return;
    this.ended = true;
    this.options.ended();
    for (const stop of this.stops) stop();
    this.roomAgain();
    void this.options.writer.close().catch(this.options.onError);
  }

  private wake(): void {
    this.due = true;
    this.lingering = false;
    if (this.held || this.ended || this.working) return;
    this.working = this.work()
      .catch((error: unknown) => {
        this.options.onError(error);
        this.close();
        this.options.lost();
      })
      .finally(() => {
        this.working = undefined;
        // what came after the last look at it
        if (this.due) this.wake();
      });
  }

  /** Until nothing is left to do. */
  private async work(): Promise<void> {
    const { writer, groupId, requests } = this.options;
    while (this.due && !this.held && !this.ended) {
      this.due = false;
      const batch = this.queue.splice(0, gpuSchedulerLimits.maxBatch);
      if (this.queue.length > 0) this.due = true;
      const letters = batch.flatMap((asked) => this.take(asked));
      this.tellAnew();
      this.scheduler.tick(this.mayEnd());
      for (const one of this.preallocations) one.review(this.options.clock.now());
      const events = this.scheduler.drain();
      for (const { type, record } of this.preallocations.length > 0 ? events : [])
        if (type === 'allocated' && record?.kind === 'allocation')
          for (const one of this.preallocations) one.allocated(record);
      const records = [...letters, ...this.recordsOf(events)];
      const last = batch.at(-1);
      const offset = last ? Number(last.message.offset) + 1 : this.committed;
      if (records.length === 0 && offset === this.committed) continue;
      await writer.commit(records, { groupId, topic: requests, partition: 0, offset });
      this.committed = offset;
      this.roomAgain();
    }
  }

  /**
   * Whether heartbeats that were sent in time have been read: leases may end. Who could not be heard, since nobody acted or the broker was gone, has the whole time of its lease once more.
   */
  private mayEnd(): boolean {
    const { replica, clock, end } = this.options;
    const now = clock.now();
    // all leases are looked at for it, and a clock may be set back
    if (Math.abs(now - this.lookedAt) < gpuSchedulerLimits.tickMs) return false;
    const silent = now - replica.heardAt > gpuSchedulerLimits.nodeSilentMs;
    if (this.deaf && !silent) this.scheduler.hearAgain();
    this.deaf = silent;
    const may = !silent && this.queue.length === 0 && this.next >= end();
    if (may) this.lookedAt = now;
    return may;
  }

  private tellAnew(): void {
    const { timesAnew } = this.options.replica;
    if (timesAnew > this.toldAnew) this.scheduler.tellAgain();
    this.toldAnew = timesAnew;
  }

  private take({ message, command, error }: Asked): readonly TopicRecord[] {
    const { requests, deadLetters, onError } = this.options;
    if (command) this.scheduler.take(command);
    if (!error) return [];
    onError(error);
    const { offset, key, value } = message;
    const letter = deadLetter({ topic: requests, partition: 0, offset, key, value }, error.code, error.message);
    return [{ topic: deadLetters, record: letter }];
  }

  private recordsOf(events: readonly GpuEvent[]): TopicRecord[] {
    const topic = this.options.allocations;
    const last = events.at(-1);
    if (!last) return [];
    const records = events.flatMap((event): TopicRecord[] => {
      const { id: key } = event;
      const told = { topic, record: { key, value: encodeGpuEvent(event), partition: 0 } };
      return isOver(event) ? [told, { topic, record: { key, value: null, partition: 0 } }] : [told];
    });
    const mark = markAfter(last);
    return [...records, { topic, record: { key: mark.id, value: encodeGpuEvent(mark), partition: 0 } }];
  }

  private roomAgain(): void {
    if (!this.ended && this.queue.length > MAX_QUEUE / 2) return;
    for (const resolve of this.roomWanted.splice(0)) resolve();
  }
}

function copyOf({ ledger, waiting, refused }: SchedulerState): SchedulerState {
  return { ledger: Ledger.restore(ledger.save()), waiting: new Map(waiting), refused: new Map(refused) };
}

/** A request as it came; without command and error it has no value. */
interface Asked {
  readonly message: ReceivedMessage;
  readonly command?: GpuCommand;
  readonly error?: IguanaError;
}

function read(message: ReceivedMessage): Asked {
  if (message.value === null) return { message };
  try {
    return { message, command: decodeGpuCommand(message.value) };
  } catch (error) {
    if (!(error instanceof IguanaError)) throw error;
    return { message, error };
  }
}
