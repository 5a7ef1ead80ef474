/**
 * One assigned partition of a topic that starts a function: calls through a dispatcher, what comes of them to topics, and how far all of it is done. Longer
 * than a screen because the two promises, at least once and exactly once, differ in when a result is written and are easiest checked side by side.
 */
import type { Clock } from '../clock.js';
import { defined } from '../defined.js';
import { messageOf } from '../errors.js';
import type { FunctionDefinition } from '../functions/definition.js';
import type { FunctionService } from '../functions/function-service.js';
import type { EventRecord, FunctionEvent, InvocationResult } from '../functions/invocation.js';
import type { Slots } from '../functions/triggers/slots.js';
import {
  type DispatchCounts,
  type DispatchRules,
  type GivenUp,
  StreamDispatcher,
} from '../functions/triggers/stream-dispatcher.js';
import type { PartitionReader, ReceivedMessage } from '../kafka/partition-consumer.js';
import type { Sink } from '../kafka/sink.js';
import type { TransactionalWriter, TopicRecord as Write } from '../kafka/transactional-writer.js';
import { streamTriggerLimits } from '../limits.js';
import { resultRecord } from './function-outcomes.js';
import { deadLetterOf, outputsOf, TopicRecord } from './topic-trigger-records.js';

/** A stream or queue trigger of a function, whichever it is. */
export interface TopicTrigger {
  readonly kind: 'stream' | 'queue';
  readonly name: string;
  readonly topic: string;
  readonly from: 'latest' | 'earliest' | number;
  readonly rules: DispatchRules;
  /** Calls at once: of each partition, or of all. */
  readonly parallel: number;
  readonly shared: boolean;
  /** A call is stopped after this, ms. Default: the function's timeout. */
  readonly timeoutMs?: number;
  /** Default: the newest version. */
  readonly alias?: string;
  readonly exactlyOnce: boolean;
  readonly deadLetters: string | false;
  readonly to: Pick<FunctionDefinition, 'output' | 'onSuccess' | 'onFailure'>;
}

export interface TopicPartitionOptions {
  readonly trigger: TopicTrigger;
  readonly groupId: string;
  readonly partition: number;
  /** Offset of the first record to come. */
  readonly start: number;
  readonly slots: Slots;
  /** Of all partitions of the trigger. */
  readonly counts?: DispatchCounts;
  readonly service: Pick<FunctionService, 'invoke'> & Partial<Pick<FunctionService, 'note'>>;
  readonly sink: Pick<Sink, 'write'>;
  readonly clock: Clock;
  /** For exactly once: it was fenced before `start` was asked for. */
  readonly transactions?: {
    readonly writer: TransactionalWriter;
    /** Where the group is now. */
    readonly position: () => Promise<number>;
    /** The partition is somebody else's. */
    readonly lost: () => void;
  };
  readonly onError: (error: unknown) => void;
}

/** What came of finished records and is not committed yet: all of it is, or none, with the records first … last. */
interface Staged {
  readonly first: number;
  readonly last: number;
  readonly writes: readonly Write[];
}

export class TopicPartition implements PartitionReader {
  readonly dispatcher: StreamDispatcher<TopicRecord, InvocationResult>;
  /** When something last went wrong that no record is at fault for, ms since 1970. */
  stalledAt: number | undefined;
  private staged: Staged[] = [];
  private committed: number;
  private committing: Promise<void> | undefined;
  private readonly source: string;

  constructor(private readonly options: TopicPartitionOptions) {
    const { trigger, partition, start, slots, clock, transactions, counts } = options;
    this.committed = start;
    this.source = `${trigger.topic}/${partition}`;
    this.dispatcher = new StreamDispatcher<TopicRecord, InvocationResult>(
      trigger.rules,
      {
        clock,
        invoke: (records, attempt, signal) => this.invoke(records, attempt, signal),
        deliver: (records, answer, partial) => this.deliver(records, answer, partial),
        unfit: ({ invocationId }, error) =>
          options.service.note?.(trigger.name, invocationId, `error ${messageOf(error)}`),
        giveUp: (letter) => this.giveUp(letter),
        advanced: () => this.advanced(),
        stalled: (error) => this.report(error),
      },
      { slots, start, retain: transactions !== undefined, ...defined({ counts }) },
    );
  }

  offer(messages: readonly ReceivedMessage[]): number {
    return this.dispatcher.offer(messages.map((message) => new TopicRecord(message)));
  }

  room(): Promise<void> {
    return this.dispatcher.room();
  }

  reach(offset: number): void {
    this.dispatcher.reach(offset);
  }

  get nextOffset(): number {
    return this.dispatcher.nextOffset ?? this.committed;
  }

  get committable(): number | undefined {
    return this.options.transactions ? undefined : this.dispatcher.safeOffset;
  }

  hold(): void {
    this.dispatcher.pause();
  }

  resume(): void {
    this.dispatcher.resume();
  }

  async drain(): Promise<void> {
    this.dispatcher.pause();
    await this.dispatcher.idle();
    while (this.committing) await this.committing;
  }

  close(): void {
    this.dispatcher.close();
    void this.options.transactions?.writer.close().catch((error) => this.options.onError(error));
  }

  private invoke(records: readonly EventRecord[], attempt: number, signal: AbortSignal): Promise<InvocationResult> {
    const { service, trigger } = this.options;
    const { name, timeoutMs, alias } = trigger;
    return service.invoke(name, this.event(records), {
      attempt,
      signal,
      ...(timeoutMs === undefined ? {} : { timeoutMs, timeoutOf: `visibilityMs of its trigger on ${trigger.topic}` }),
      ...(alias === undefined ? {} : { qualifier: alias }),
    });
  }

  private event(records: readonly EventRecord[]): FunctionEvent {
    const { trigger, partition } = this.options;
    return { trigger: trigger.kind, topic: trigger.topic, partition, records };
  }

  private async deliver(records: readonly TopicRecord[], answer: InvocationResult, partial: boolean): Promise<void> {
    const { trigger, clock, transactions } = this.options;
    const { output, onSuccess } = trigger.to;
    const [first, last] = [records[0]!.offset, records.at(-1)!.offset];
    const made = output === undefined || partial ? [] : outputsOf(trigger.name, this.source, records, answer.output);
    const writes: Write[] = made.map(({ record }) => ({ topic: output!, record }));
    if (onSuccess !== undefined) {
      const endedAt = clock.now();
      const value = resultRecord({
        function: trigger.name,
        invocationId: answer.invocationId,
        event: this.event([]),
        attempts: 1,
        startedAt: endedAt - answer.durationMs - answer.initMs,
        endedAt,
        result: partial ? { ...answer, output: undefined } : answer,
      });
      const headers = { 'iguana-id': `${this.source}/${first}-${last}` };
      writes.push({ topic: onSuccess, record: { key: trigger.name, value, headers } });
    }
    if (writes.length === 0) return;
    if (!transactions) await this.write(writes);
    else if (onSuccess === undefined && made.every(({ offset }) => offset !== undefined)) {
      for (const [i, { offset }] of made.entries()) {
        this.staged.push({ first: offset!, last: offset!, writes: [writes[i]!] });
      }
    } else this.staged.push({ first, last, writes });
  }

  private async giveUp(letter: GivenUp<TopicRecord>): Promise<void> {
    const { trigger, partition, clock, transactions } = this.options;
    const { record, error, attempts } = letter;
    const writes: Write[] = [];
    if (trigger.deadLetters !== false) {
      writes.push({ topic: trigger.deadLetters, record: deadLetterOf(trigger.name, trigger.topic, partition, letter) });
    }
    if (trigger.to.onFailure !== undefined) {
      const endedAt = clock.now();
      const invocationId = `${this.source}/${record.offset}`;
      const value = resultRecord({
        ...{
          function: trigger.name,
          invocationId,
          event: this.event([]),
          attempts,
          startedAt: endedAt,
          endedAt,
          error,
        },
      });
      const headers = { 'iguana-id': invocationId };
      writes.push({ topic: trigger.to.onFailure, record: { key: record.message.key, value, headers } });
    }
    if (transactions) this.staged.push({ first: record.offset, last: record.offset, writes });
    else await this.write(writes);
  }

  /** Until the broker has it, or the partition is lost. What is not written is not the function's fault. */
  private async write(writes: readonly Write[]): Promise<void> {
    const byTopic = new Map<string, Write['record'][]>();
    for (const { topic, record } of writes) {
      const records = byTopic.get(topic);
      if (records) records.push(record);
      else byTopic.set(topic, [record]);
    }
    await Promise.all(
      [...byTopic].map(([topic, records]) => this.persist(() => this.options.sink.write(topic, records))),
    );
  }

  private async persist(action: () => Promise<void>): Promise<void> {
    const { stallMs, maxStallMs } = streamTriggerLimits;
    for (let turn = 0; !this.dispatcher.closed; turn++) {
      try {
        await action();
        return;
      } catch (error) {
        this.report(error);
        await this.pause(Math.min(maxStallMs, stallMs * 2 ** Math.min(turn, 20)));
      }
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      this.options.clock.after(ms, resolve);
    });
  }

  private report(error: unknown): void {
    this.stalledAt = this.options.clock.now();
    this.options.onError(error);
  }

  private advanced(): void {
    if (!this.options.transactions || this.committing) return;
    this.committing = this.commitAll()
      .catch((error) => {
        this.report(error);
      })
      .finally(() => {
        this.committing = undefined;
        // what finished after the last look
        if (!this.dispatcher.closed && this.target() > this.committed) this.advanced();
      });
  }

  /** One transaction after the other, each with all that has finished meanwhile. */
  private async commitAll(): Promise<void> {
    const { writer, position, lost } = this.options.transactions!;
    const { groupId, trigger, partition } = this.options;
    for (;;) {
      const target = this.target();
      if (target <= this.committed || this.dispatcher.closed) return;
      const ready = this.staged.filter(({ last }) => last < target).sort((a, b) => a.first - b.first);
      const writes = ready.flatMap((one) => one.writes);
      const offset = { groupId, topic: trigger.topic, partition, offset: target };
      let unsure = false;
      await this.persist(async () => {
        if (unsure) {
          await writer.fence();
          const found = await position();
          if (found === target) return;
          if (found !== this.committed) {
            this.close();
            lost();
            return;
          }
        }
        unsure = true;
        await writer.commit(writes, offset);
      });
      if (this.dispatcher.closed) return;
      this.staged = this.staged.filter(({ last }) => last >= target);
      this.committed = target;
      this.dispatcher.committed(target);
    }
  }

  /** As far as everything has finished, but through the middle of nothing that is written as one. */
  private target(): number {
    let target = this.dispatcher.safeOffset ?? this.committed;
    for (;;) {
      let before = target;
      for (const { first, last } of this.staged) if (first < before && last >= before) before = first;
      if (before === target) return target;
      target = before;
    }
  }
}
