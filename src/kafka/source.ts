import type { Consumer, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import { Observable } from 'rxjs';
import { kafkaLimits } from '../limits.js';
import { isRebalance, keepRunning, retriable } from './keep-running.js';
import { OffsetTracker } from './offset-tracker.js';

/** What one `eachBatch` call brought of one partition. It stays in flight until `ack`: that is the back pressure. */
export interface AckBatch {
  readonly topic: string;
  readonly partition: number;
  readonly messages: readonly KafkaMessage[];
  readonly firstOffset: bigint;
  readonly lastOffset: bigint;
  /** Offset after the newest record of the partition, as the broker last said. */
  readonly highWatermark: bigint;
  /** True while state is rebuilt from input whose outputs are written already: learn, but write nothing. */
  readonly replay: boolean;
  /** All outputs are written: lets `eachBatch` return and the offsets be committed. */
  ack(): void;
  /** Lets `eachBatch` fail: nothing of the batch is committed and it comes again. */
  fail(error: unknown): void;
}

/** Where a partition's input has to begin, once its state is there. */
export interface StartPoint {
  /** First offset that the state does not contain. */
  readonly position: bigint;
  /** Offsets at which a batch must be cut in two, ascending: no batch may straddle one. */
  readonly cuts: readonly bigint[];
}

export interface SourceOptions {
  readonly topics: readonly string[];
  readonly groupId: string;
  /** Where a group without committed offsets begins. Default true: at the oldest record. */
  readonly fromBeginning?: boolean;
  /** Commit at most this often, ms. Default 1,000. */
  readonly commitEveryMs?: number;
  /** Partitions worked on at the same time. Default 4. */
  readonly concurrency?: number;
  /** Bytes fetched at once from one partition. Default 1 MiB; larger means fewer, larger batches. */
  readonly maxBytesPerPartition?: number;
  /**
   * Called before the first batch (it begins at `first`, the partition ends before `end`) of a newly assigned partition: restores its state.
   * Default: begin where the group is.
   */
  readonly prepare?: (
    topic: string,
    partition: number,
    first: bigint,
    end: bigint,
    heartbeat: () => Promise<void>,
  ) => Promise<StartPoint>;
  readonly onAssigned?: (partitions: ReadonlyMap<string, readonly number[]>) => void;
  readonly onRevoked?: (topic: string, partition: number) => void;
  /** Told of every batch that failed (it comes again) and of a client that gave up (it runs again). */
  readonly onError?: (error: unknown) => void;
}

export interface Source {
  readonly batches: Observable<AckBatch>;
  /** Lets no further batch in and waits for those in flight, at most `timeoutMs`. */
  drain(timeoutMs: number): Promise<void>;
  /** Commits what is acknowledged now. */
  commit(): Promise<void>;
  /** Leaves the group and disconnects; completes `batches`. */
  close(): Promise<void>;
}

interface Partition {
  readonly topic: string;
  readonly partition: number;
  readonly tracker: OffsetTracker;
  prepared: boolean;
  /** False: the client fetches from where the group is, which may be beyond `position`. */
  inPlace: boolean;
  /** Below it the input is in the state already. */
  position: bigint;
  /** Below it the outputs are written already. */
  written: bigint;
  cuts: readonly bigint[];
}

/**
 * Kafka topics as an Observable of batches. One `eachBatch` call is one emission (cut in two only where restored state begins), and the
 * call returns when the chain has acknowledged it: nothing is pushed and forgotten. Offsets are committed only below what is
 * acknowledged. Source: kafkajs consumer, `eachBatchAutoResolve: false`.
 */
export function source(kafka: Kafka, options: SourceOptions): Source {
  const consumer: Consumer = kafka.consumer({
    groupId: options.groupId,
    maxWaitTimeInMs: kafkaLimits.maxWaitMs,
    maxBytesPerPartition: options.maxBytesPerPartition ?? kafkaLimits.maxBytesPerPartition,
    maxBytes: kafkaLimits.maxBytesPerFetch,
    sessionTimeout: kafkaLimits.sessionTimeoutMs,
    heartbeatInterval: kafkaLimits.heartbeatMs,
    retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries: kafkaLimits.retries },
  });
  const partitions = new Map<string, Partition>();
  const committed = new Map<string, bigint>();
  let draining = false;
  let working = 0;
  let complete: (() => void) | undefined;
  let closing: Promise<void> | undefined;
  let idle: (() => void) | undefined;

  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const assigned = new Map(Object.entries(payload.memberAssignment));
    for (const [key, { topic, partition }] of partitions)
      if (!assigned.get(topic)?.includes(partition)) {
        partitions.delete(key);
        committed.delete(key);
        options.onRevoked?.(topic, partition);
      }
    for (const at of partitions.values()) {
      at.tracker.reset();
      at.inPlace = false;
    }
    options.onAssigned?.(assigned);
  });

  const partitionOf = (topic: string, partition: number): Partition => {
    const key = `${topic}/${partition}`;
    let known = partitions.get(key);
    if (!known) {
      const tracker = new OffsetTracker();
      known = { topic, partition, tracker, prepared: false, inPlace: false, position: 0n, written: 0n, cuts: [] };
      partitions.set(key, known);
    }
    return known;
  };

  const eachBatch = async (payload: EachBatchPayload, next: (batch: AckBatch) => void): Promise<void> => {
    const { batch, resolveOffset, heartbeat, isRunning, isStale } = payload;
    if (draining || isStale() || batch.messages.length === 0) return;
    const at = partitionOf(batch.topic, batch.partition);
    const first = BigInt(batch.messages[0]?.offset ?? 0);
    const end = BigInt(batch.highWatermark);
    if (at.prepared && at.position > end) {
      // the topic was deleted and made anew meanwhile
      at.tracker.reset();
      at.written = 0n;
      at.prepared = false;
      options.onRevoked?.(at.topic, at.partition);
    }
    if (!at.prepared) {
      const start = await options.prepare?.(batch.topic, batch.partition, first, end, heartbeat);
      if (at.written < first) at.written = first;
      at.position = start?.position ?? first;
      at.cuts = [...new Set([...(start?.cuts ?? []), at.position, at.written])].sort((a, b) => (a < b ? -1 : 1));
      at.prepared = true;
    }
    if (!at.inPlace) {
      at.inPlace = true;
      if (at.position < first) {
        consumer.seek({ topic: batch.topic, partition: batch.partition, offset: at.position.toString() });
        return;
      }
    }
    for (const messages of cut(batch.messages, at.position, at.cuts)) {
      if (draining || !isRunning() || isStale()) return;
      const firstOffset = BigInt(messages[0]?.offset ?? 0);
      const lastOffset = BigInt(messages.at(-1)?.offset ?? 0);
      const acknowledge = at.tracker.begin(firstOffset, lastOffset);
      const acknowledged = new Promise<void>((resolve, reject) => {
        next({
          topic: batch.topic,
          partition: batch.partition,
          messages,
          firstOffset,
          lastOffset,
          highWatermark: end,
          replay: lastOffset < at.written,
          ack: () => {
            acknowledge();
            at.position = lastOffset + 1n;
            resolve();
          },
          fail: (error) => {
            // the state has learnt from a batch whose outputs are not written: begin again from the last checkpoint
            at.tracker.reset();
            if (at.written < at.position) at.written = at.position;
            at.prepared = false;
            at.inPlace = false;
            options.onRevoked?.(at.topic, at.partition);
            reject(retriable(error));
          },
        });
      });
      // a batch may take longer than a silent member is waited for; a group that changes is told by the heartbeat at the end
      const beating = setInterval(() => void heartbeat().catch(() => undefined), kafkaLimits.heartbeatMs);
      await acknowledged.finally(() => clearInterval(beating));
    }
    const last = batch.messages.at(-1)?.offset;
    if (last !== undefined && at.position > BigInt(last)) resolveOffset(last);
    await heartbeat();
  };

  const commit = async (): Promise<void> => {
    const due: { topic: string; partition: number; offset: string }[] = [];
    for (const [key, at] of partitions) {
      const offset = at.tracker.committable;
      if (offset === undefined || offset < at.written || offset === committed.get(key)) continue;
      committed.set(key, offset);
      due.push({ topic: at.topic, partition: at.partition, offset: offset.toString() });
    }
    if (due.length === 0) return;
    try {
      await consumer.commitOffsets(due);
    } catch (error) {
      for (const { topic, partition } of due) committed.delete(`${topic}/${partition}`);
      throw error;
    }
  };

  const report = (error: unknown): void => {
    if (!isRebalance(error)) options.onError?.(error);
  };
  const commitEveryMs = options.commitEveryMs ?? kafkaLimits.commitEveryMs;
  let started = false;
  let stopRunning = (): void => undefined;
  const batches = new Observable<AckBatch>((subscriber) => {
    if (started) throw new Error('a source has one subscriber');
    started = true;
    complete = () => subscriber.complete();
    let lastCommit = Date.now();
    // one that fails is made good by the next; a group that changes is found out by the heartbeat
    const commitIfDue = async (): Promise<void> => {
      if (Date.now() - lastCommit < commitEveryMs) return;
      lastCommit = Date.now();
      await commit().catch(() => undefined);
    };
    const run = async (): Promise<void> => {
      await consumer.connect();
      await consumer.subscribe({ topics: [...options.topics], fromBeginning: options.fromBeginning ?? true });
      await consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        partitionsConsumedConcurrently: options.concurrency ?? 4,
        eachBatch: async (payload) => {
          working++;
          try {
            await eachBatch(payload, (batch) => subscriber.next(batch));
            await commitIfDue();
          } catch (error) {
            report(error);
            throw error;
          } finally {
            working--;
            if (working === 0) idle?.();
          }
        },
      });
    };
    stopRunning = keepRunning(consumer, run, report);
    // a partition that falls silent is committed too
    const timer = setInterval(() => {
      if (working === 0 && !draining) void commitIfDue();
    }, commitEveryMs);
    return () => clearInterval(timer);
  });

  return {
    batches,
    commit,
    async drain(timeoutMs) {
      draining = true;
      try {
        // without it the client would fetch the batches that are not let in over and over
        consumer.pause(options.topics.map((topic) => ({ topic })));
      } catch {
        // it does not run
      }
      if (working === 0) return;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        idle = resolve;
        timer = setTimeout(resolve, timeoutMs);
      });
      clearTimeout(timer);
    },
    close() {
      draining = true;
      stopRunning();
      closing ??= consumer.disconnect().then(() => complete?.());
      return closing;
    },
  };
}

/** Leaves out what lies below `position` and splits the rest so that no part straddles a cut. One part, the same array, in the common case. */
export function cut<M extends { readonly offset: string }>(
  messages: readonly M[],
  position: bigint,
  cuts: readonly bigint[],
): (readonly M[])[] {
  const first = BigInt(messages[0]?.offset ?? 0);
  const last = BigInt(messages.at(-1)?.offset ?? 0);
  const within = [position, ...cuts.filter((c) => c > position)].filter((c) => c > first && c <= last);
  if (last < position) return [];
  if (within.length === 0) return [messages];
  const parts: (readonly M[])[] = [];
  let from = first < position ? -1 : 0;
  for (const border of within) {
    const to = messages.findIndex((m) => BigInt(m.offset) >= border);
    if (from >= 0 && to > from) parts.push(messages.slice(from, to));
    from = to;
  }
  parts.push(messages.slice(from));
  return parts;
}
