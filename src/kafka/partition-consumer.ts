/**
 * A consumer group's member that hands each of its partitions to a reader of its own, which takes as much as it has room for and works at its own pace.
 * Longer than a screen because the life of a partition is one thing: assigned, opened, fed, held while the group changes, lost.
 */
import type { Admin, Consumer, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs';
import { kafkaLimits, streamTriggerLimits } from '../limits.js';
import { isRebalance, keepRunning, retriable } from './keep-running.js';

/** Where a group without offsets begins: a number is ms since 1970. */
export type BeginAt = 'latest' | 'earliest' | number;

/** A message as it came. */
export type ReceivedMessage = Pick<KafkaMessage, 'key' | 'value' | 'timestamp' | 'offset' | 'headers'>;

/** Whatever works on one assigned partition. */
export interface PartitionReader {
  /** Takes messages from the front, as many as there is room for; returns how many. */
  offer(messages: readonly KafkaMessage[]): number;
  /** Resolves when there is room for a good many, or when it is closed. */
  room(): Promise<void>;
  /** There is no message below this offset that was not offered. */
  reach(offset: number): void;
  /** Where reading goes on. */
  readonly nextOffset: number;
  /** What the group's offset may be moved to. Undefined: the reader moves it itself. */
  readonly committable: number | undefined;
  /** Begins nothing new, for the group changes. */
  hold(): void;
  resume(): void;
  /** Ends what has begun; begins nothing new. */
  drain(): Promise<void>;
  /** The partition is lost, or this process ends: what is not finished is somebody else's. */
  close(): void;
}

export interface PartitionConsumerOptions {
  readonly groupId: string;
  readonly topic: string;
  /** Where the group begins when it has no offsets. Partitions that come later begin at their first record. */
  readonly from: BeginAt;
  /**
   * Makes a partition's reader. `position` asks the group where it is; `lost` is for a reader that finds the partition to be another's: it is closed and
   * made anew. Rejects: it is tried again.
   */
  readonly open: (partition: number, position: () => Promise<number>, lost: () => void) => Promise<PartitionReader>;
  /** A member silent for so long leaves the group, ms: how long its partitions wait after a kill (default 15,000). */
  readonly sessionTimeoutMs?: number;
  readonly onError: (error: unknown) => void;
}

export interface PartitionConsumer {
  /** Partition → its end, as far as is known, and its reader. */
  readonly partitions: ReadonlyMap<number, { readonly end: number; readonly reader: PartitionReader | undefined }>;
  /** Drains the readers, moves the group's offsets, leaves the group. */
  stop(): Promise<void>;
}

interface Assigned {
  readonly partition: number;
  reader: PartitionReader | undefined;
  lost: boolean;
  /** The newest known. */
  end: number;
  committed: number | undefined;
}

export function partitionConsumer(kafka: Kafka, options: PartitionConsumerOptions): PartitionConsumer {
  const { groupId, topic, onError, sessionTimeoutMs = kafkaLimits.sessionTimeoutMs } = options;
  const consumer: Consumer = kafka.consumer({
    groupId,
    maxWaitTimeInMs: kafkaLimits.maxWaitMs,
    maxBytesPerPartition: kafkaLimits.maxBytesPerPartition,
    maxBytes: kafkaLimits.maxBytesPerFetch,
    sessionTimeout: sessionTimeoutMs,
    heartbeatInterval: Math.min(kafkaLimits.heartbeatMs, sessionTimeoutMs / 5),
    retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries: kafkaLimits.retries },
  });
  const admin = sharedAdmin(kafka);
  const assigned = new Map<number, Assigned>();
  let leader = false;
  let holding = false;
  let stopping = false;

  const report = (error: unknown): void => {
    if (!isRebalance(error) && !stopping) onError(error);
  };
  /** Whether the client fetches a partition. One that does not run is told when it does. */
  const fetching = (one: Assigned, wanted: boolean): void => {
    if (one.lost || stopping) return;
    const places = [{ topic, partitions: [one.partition] }];
    try {
      if (wanted) consumer.resume(places);
      else consumer.pause(places);
    } catch (error) {
      report(error);
    }
  };

  const lose = (one: Assigned): void => {
    one.lost = true;
    one.reader?.close();
    if (assigned.get(one.partition) === one) assigned.delete(one.partition);
  };
  const open = async (one: Assigned): Promise<void> => {
    const { partition } = one;
    fetching(one, false);
    const reopen = (): void => again(one);
    while (!one.lost && !stopping) {
      try {
        const reader = await options.open(
          partition,
          () =>
            beginning(
              admin,
              options,
              partition,
              () => (leader ? consumer : undefined),
              () => one.lost || stopping,
            ),
          reopen,
        );
        if (one.lost || stopping) {
          reader.close();
          return;
        }
        one.reader = reader;
        if (holding) reader.hold();
        consumer.seek({ topic, partition, offset: String(reader.nextOffset) });
        fetching(one, true);
      } catch (error) {
        if (one.lost || stopping) return;
        report(error);
        await new Promise((resolve) => setTimeout(resolve, kafkaLimits.runAgainMs));
        continue;
      }
      return;
    }
  };
  const again = (one: Assigned): void => {
    if (one.lost || stopping) return;
    lose(one);
    void open(adopt(one.partition));
  };
  const adopt = (partition: number): Assigned => {
    const one: Assigned = { partition, reader: undefined, lost: false, end: 0, committed: undefined };
    assigned.set(partition, one);
    return one;
  };

  consumer.on(consumer.events.REBALANCING, () => {
    holding = true;
    for (const { reader } of assigned.values()) reader?.hold();
    void commit().catch(() => undefined);
  });
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    holding = false;
    leader = payload.isLeader;
    const own = new Set(payload.memberAssignment[topic] ?? []);
    for (const one of [...assigned.values()]) if (!own.has(one.partition)) lose(one);
    for (const partition of own) {
      const { reader } = assigned.get(partition) ?? {};
      if (reader) {
        // the client begins where the group is, and this one is further
        consumer.seek({ topic, partition, offset: String(reader.nextOffset) });
        if (!stopping) reader.resume();
      } else if (!assigned.has(partition)) void open(adopt(partition));
    }
  });

  const eachBatch = async ({ batch, resolveOffset, isRunning, isStale }: EachBatchPayload): Promise<void> => {
    const one = assigned.get(batch.partition);
    if (!one?.reader || stopping || isStale()) return;
    const { reader } = one;
    const { messages } = batch;
    const end = Number(batch.highWatermark);
    if (reader.nextOffset > end) {
      // the topic was deleted and made anew meanwhile
      again(one);
      return;
    }
    one.end = Math.max(one.end, end);
    const giveUpAt = Date.now() + streamTriggerLimits.roomWaitMs;
    let taken = 0;
    while (taken < messages.length && Number(messages[taken]!.offset) < reader.nextOffset) taken++;
    for (;;) {
      taken += reader.offer(taken === 0 ? messages : messages.slice(taken));
      if (taken === messages.length) break;
      if (one.lost || stopping || !isRunning() || isStale()) return;
      if (await within(reader.room(), giveUpAt - Date.now())) continue;
      // slow: others need not wait with it
      fetching(one, false);
      void reader.room().then(() => fetching(one, true));
      break;
    }
    const last = messages[taken - 1];
    if (last) resolveOffset(last.offset);
    if (taken === messages.length) reader.reach(Number(batch.lastOffset()) + 1);
  };

  let committing: Promise<void> = Promise.resolve();
  const commit = (): Promise<void> => {
    committing = committing
      .catch(() => undefined)
      .then(async () => {
        const due: { one: Assigned; offset: number }[] = [];
        for (const one of assigned.values()) {
          const offset = one.reader?.committable;
          if (offset !== undefined && offset !== one.committed) due.push({ one, offset });
        }
        if (due.length === 0) return;
        await consumer.commitOffsets(
          due.map(({ one, offset }) => ({ topic, partition: one.partition, offset: String(offset) })),
        );
        for (const { one, offset } of due) one.committed = offset;
      });
    return committing;
  };
  const look = async (): Promise<void> => {
    const connected = await admin.get();
    for (const { partition, high } of await connected.fetchTopicOffsets(topic)) {
      const one = assigned.get(partition);
      if (one) one.end = Math.max(one.end, Number(high));
    }
  };

  const run = async (): Promise<void> => {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      partitionsConsumedConcurrently: kafkaLimits.partitionsAtOnce,
      eachBatch: async (payload) => {
        try {
          await eachBatch(payload);
        } catch (error) {
          report(error);
          throw retriable(error);
        }
      },
    });
  };
  const stopRunning = keepRunning(consumer, run, report);
  // one that fails is made good by the next; a group that changes is found out by the heartbeat
  const timers = [
    setInterval(() => void commit().catch(() => undefined), streamTriggerLimits.commitEveryMs),
    setInterval(() => void look().catch(() => undefined), streamTriggerLimits.lagEveryMs),
  ];
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    stopping = true;
    for (const timer of timers) clearInterval(timer);
    const readers = [...assigned.values()].flatMap(({ reader }) => reader ?? []);
    await within(Promise.all(readers.map((reader) => reader.drain())), streamTriggerLimits.drainMs);
    stopRunning();
    await commit().catch(() => undefined);
    for (const one of [...assigned.values()]) lose(one);
    await consumer.disconnect();
    await admin.close();
  };
  return {
    partitions: assigned,
    stop: () => {
      stopped ??= stop();
      return stopped;
    },
  };
}

/**
 * Where the group is in a partition. Where it is nowhere yet, the group's leader says for all partitions where they begin and writes it down, so that no
 * restart begins anywhere else: `from` for a new group; the first record for a partition that was added to a topic that the group knows.
 */
async function beginning(
  admin: SharedAdmin,
  { groupId, topic, from }: PartitionConsumerOptions,
  partition: number,
  leading: () => Consumer | undefined,
  ended: () => boolean,
): Promise<number> {
  const giveUpAt = Date.now() + streamTriggerLimits.beginWaitMs;
  for (;;) {
    const client = await admin.get();
    const [known] = await client.fetchOffsets({ groupId, topics: [topic] });
    const offsets = new Map((known?.partitions ?? []).map((one) => [one.partition, Number(one.offset)]));
    const own = offsets.get(partition) ?? -1;
    if (own >= 0) {
      // beyond its end: of a topic that was deleted since
      const there = (await client.fetchTopicOffsets(topic)).find((one) => one.partition === partition);
      return there && own > Number(there.high) ? Number(there.low) : own;
    }
    const late = Date.now() > giveUpAt;
    const leader = leading();
    if (leader || late || ended()) {
      const grown = [...offsets.values()].some((offset) => offset >= 0);
      const starts = await startsOf(client, topic, grown ? 'earliest' : from);
      const due = [...starts].flatMap(([one, offset]) =>
        (offsets.get(one) ?? -1) >= 0 ? [] : [{ topic, partition: one, offset: String(offset) }],
      );
      await leader?.commitOffsets(due);
      if (late || ended()) return starts.get(partition) ?? 0;
    }
    await new Promise((resolve) => setTimeout(resolve, leader ? 0 : kafkaLimits.askAgainMs));
  }
}

async function startsOf(admin: Admin, topic: string, from: BeginAt): Promise<Map<number, number>> {
  if (typeof from === 'number') {
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, from);
    return new Map(found.map(({ partition, offset }) => [partition, Number(offset)]));
  }
  const found = await admin.fetchTopicOffsets(topic);
  return new Map(found.map(({ partition, low, high }) => [partition, Number(from === 'earliest' ? low : high)]));
}

interface SharedAdmin {
  get(): Promise<Admin>;
  close(): Promise<void>;
}

/** One connection for all questions, made with the first. */
function sharedAdmin(kafka: Kafka): SharedAdmin {
  let connecting: Promise<Admin> | undefined;
  const connect = async (): Promise<Admin> => {
    const admin = kafka.admin();
    await admin.connect();
    return admin;
  };
  return {
    get() {
      if (!connecting) {
        connecting = connect();
        connecting.catch(() => {
          connecting = undefined;
        });
      }
      return connecting;
    },
    async close() {
      const admin = await connecting?.catch(() => undefined);
      connecting = undefined;
      await admin?.disconnect();
    },
  };
}

/** Whether a promise resolves within so many ms. */
async function within(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), Math.max(0, ms));
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
