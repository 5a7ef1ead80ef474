/**
 * Reads one partition from its first record on, without a consumer group: kafkajs's consumers always join one, which costs seconds
 * at a restart. It uses the client's own cluster object (kafkajs 2.2.4; the package is pinned), which the typings do not show.
 */
import type { Kafka } from 'kafkajs';
import { kafkaLimits } from '../limits.js';
import { patiently } from './patiently.js';

export interface StoredRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly offset: string;
}

interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  readonly highWatermark: string;
  readonly lastStableOffset?: string;
  readonly abortedTransactions?: readonly { readonly producerId: string; readonly firstOffset: string }[];
  readonly messages: readonly FetchedMessage[];
}

interface FetchedMessage extends StoredRecord {
  readonly isControlRecord: boolean;
  readonly batchContext?: {
    readonly firstOffset: string;
    readonly lastOffsetDelta: number;
    readonly producerId: string;
    readonly inTransaction: boolean;
  };
}

interface Broker {
  fetch(request: {
    isolationLevel: number;
    maxWaitTime: number;
    minBytes: number;
    maxBytes: number;
    topics: { topic: string; partitions: { partition: number; fetchOffset: string; maxBytes: number }[] }[];
  }): Promise<{ responses: { topicName: string; partitions: FetchedPartition[] }[] }>;
}

interface Cluster {
  connect(): Promise<void>;
  disconnect(): Promise<void>;
  addTargetTopic(topic: string): Promise<void>;
  refreshMetadata(): Promise<void>;
  findLeaderForPartitions(topic: string, partitions: number[]): Record<string, number[]>;
  findBroker(at: { nodeId: string }): Promise<Broker>;
  fetchTopicsOffset(
    topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
  ): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>;
}

const READ_UNCOMMITTED = 0;
const READ_COMMITTED = 1;
const BYTES_PER_FETCH = 4 * 1024 * 1024;

/** Calls `each` for every record of the partition, oldest first, up to the end as it was at the start. Returns the number of records. */
export async function readPartition(
  kafka: Kafka,
  topic: string,
  partition: number,
  each: (record: StoredRecord) => void,
  alive?: () => Promise<void>,
): Promise<number> {
  const cluster = clusterOf(kafka);
  await cluster.connect();
  try {
    await target(cluster, topic);
    const end = await edge(cluster, topic, partition, false);
    let next = await edge(cluster, topic, partition, true);
    let records = 0;
    while (next < end) {
      const got = await fetchFrom(cluster, topic, partition, next, kafkaLimits.maxWaitMs, (record) => {
        records++;
        each(record);
      });
      if (got === next) break;
      next = got;
      await alive?.();
    }
    return records;
  } finally {
    await cluster.disconnect();
  }
}

export interface FollowedPartition {
  /** Resolves when `each` was given all that was committed before the call. */
  caughtUp(): Promise<void>;
  /**
   * The same of all that was written, so it waits for the end of transactions under way too. A transaction of one's own that was just committed may be among
   * those: a broker writes its end after the answer.
   */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Calls `each` for every record of the partition, oldest first, and goes on with those that come; what was in an aborted transaction is left out. After a
 * lost connection it goes on where it was; `onError` is told.
 */
export function followPartition(
  kafka: Kafka,
  topic: string,
  partition: number,
  each: (record: StoredRecord) => void,
  onError: (error: unknown) => void,
): FollowedPartition {
  let next: bigint | undefined;
  let stopping = false;
  let cluster: Cluster | undefined;
  let wake: (() => void) | undefined;
  const waiting = new Set<{ readonly end: bigint; readonly resolve: () => void }>();
  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  const follow = async (own: Cluster): Promise<void> => {
    await own.connect();
    await target(own, topic);
    next ??= await edge(own, topic, partition, true);
    while (!stopping) {
      next = await fetchFrom(own, topic, partition, next, kafkaLimits.maxWaitMs, each);
      for (const one of waiting) {
        if (next < one.end) continue;
        waiting.delete(one);
        one.resolve();
      }
    }
  };
  const run = async (): Promise<void> => {
    while (!stopping) {
      cluster = clusterOf(kafka);
      try {
        await follow(cluster);
      } catch (error) {
        if (stopping) break;
        onError(error);
        // the topic was made anew, or what was not read yet is deleted
        if ((error as { type?: string }).type === 'OFFSET_OUT_OF_RANGE') next = undefined;
        await pause(kafkaLimits.runAgainMs);
      } finally {
        await cluster.disconnect().catch(() => undefined);
      }
    }
  };
  const running = run();
  const reached = async (isolationLevel: number): Promise<void> => {
    const asking = clusterOf(kafka, isolationLevel);
    await asking.connect();
    let end: bigint;
    try {
      await target(asking, topic);
      end = await edge(asking, topic, partition, false);
    } finally {
      await asking.disconnect();
    }
    if (stopping || (next !== undefined && next >= end)) return;
    await new Promise<void>((resolve) => waiting.add({ end, resolve }));
  };
  return {
    caughtUp: () => reached(READ_COMMITTED),
    settled: () => reached(READ_UNCOMMITTED),
    async stop() {
      stopping = true;
      wake?.();
      for (const { resolve } of waiting) resolve();
      waiting.clear();
      await running;
    },
  };
}

/** Has the cluster know the topic's partitions. */
function target(cluster: Cluster, topic: string): Promise<void> {
  // what is a target already is not asked for again by itself
  return patiently(() => cluster.addTargetTopic(topic), { before: () => cluster.refreshMetadata() });
}

/** The first offset of a partition, or the one after its last. */
async function edge(cluster: Cluster, topic: string, partition: number, first: boolean): Promise<bigint> {
  const found = await patiently(
    () => cluster.fetchTopicsOffset([{ topic, partitions: [{ partition }], fromBeginning: first }]),
    { before: () => cluster.refreshMetadata() },
  );
  return BigInt(found[0]?.partitions[0]?.offset ?? 0);
}

/** One fetch of committed records. Returns the offset to go on with: the given one when there is nothing yet. */
async function fetchFrom(
  cluster: Cluster,
  topic: string,
  partition: number,
  from: bigint,
  maxWaitTime: number,
  each: (record: StoredRecord) => void,
): Promise<bigint> {
  const ask = async () => {
    const nodeId = Object.entries(cluster.findLeaderForPartitions(topic, [partition])).find(([, led]) =>
      led.includes(partition),
    )?.[0];
    if (nodeId === undefined) throw new Error(`no leader for ${topic}/${partition}`);
    const broker = await cluster.findBroker({ nodeId });
    return broker.fetch({
      isolationLevel: READ_COMMITTED,
      maxWaitTime,
      minBytes: 1,
      maxBytes: BYTES_PER_FETCH,
      topics: [{ topic, partitions: [{ partition, fetchOffset: from.toString(), maxBytes: BYTES_PER_FETCH }] }],
    });
  };
  const { responses } = await patiently(ask, { before: () => cluster.refreshMetadata() });
  const got = responses[0]?.partitions[0];
  if (!got) return from;
  let next = from;
  for (const message of committed(got)) {
    const at = BigInt(message.offset);
    if (at < next) continue;
    next = at + 1n;
    if (!message.isControlRecord) each(message);
  }
  const last = got.messages.at(-1);
  if (last) next = max(next, BigInt(last.offset) + 1n);
  // compaction may have removed the records at a batch's end
  const context = last?.batchContext;
  if (context) next = max(next, BigInt(context.firstOffset) + BigInt(context.lastOffsetDelta) + 1n);
  if (next > from) return next;
  const stable = BigInt(got.lastStableOffset ?? got.highWatermark);
  return from < stable && from < BigInt(got.highWatermark) && stable >= 0n ? from + 1n : from;
}

/** Key of the record that ends an aborted transaction: version 0, type 0. */
const ABORT = Buffer.from([0, 0, 0, 0]);

/** Without what was written in aborted transactions. */
function committed({ messages, abortedTransactions }: FetchedPartition): readonly FetchedMessage[] {
  if (!abortedTransactions || abortedTransactions.length === 0) return messages;
  const begun = abortedTransactions
    .map(({ producerId, firstOffset }) => ({ producerId, firstOffset: BigInt(firstOffset) }))
    .sort((a, b) => (a.firstOffset < b.firstOffset ? -1 : 1));
  const aborting = new Set<string>();
  return messages.filter(({ offset, key, isControlRecord, batchContext }) => {
    while (begun[0] && BigInt(offset) >= begun[0].firstOffset) aborting.add(begun.shift()!.producerId);
    if (!batchContext) return true;
    if (isControlRecord) {
      if (key?.equals(ABORT)) aborting.delete(batchContext.producerId);
      return true;
    }
    return !(batchContext.inTransaction && aborting.has(batchContext.producerId));
  });
}

/** @param isolationLevel what the end of a partition is */
function clusterOf(kafka: Kafka, isolationLevel = READ_COMMITTED): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find((s) => s.description === 'private:Kafka:createCluster');
  const create: unknown = symbol && Reflect.get(kafka, symbol);
  if (typeof create !== 'function') throw new Error('this version of kafkajs has no cluster factory');
  return create({ metadataMaxAge: 300_000, allowAutoTopicCreation: false, isolationLevel }) as Cluster;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
