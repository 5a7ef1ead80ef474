/**
 * Reads one partition from its first record to its end, without a consumer group: kafkajs's consumers always join one, which costs seconds
 * at a restart. It uses the client's own cluster object (kafkajs 2.2.4; the package is pinned), which the typings do not show.
 */
import type { Kafka } from 'kafkajs';

export interface StoredRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly offset: string;
}

interface FetchedPartition {
  readonly partition: number;
  readonly errorCode: number;
  readonly highWatermark: string;
  readonly messages: readonly (StoredRecord & {
    readonly isControlRecord: boolean;
    readonly batchContext?: { readonly firstOffset: string; readonly lastOffsetDelta: number };
  })[];
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
  findLeaderForPartitions(topic: string, partitions: number[]): Record<string, number[]>;
  findBroker(at: { nodeId: string }): Promise<Broker>;
  fetchTopicsOffset(
    topics: { topic: string; partitions: { partition: number }[]; fromBeginning: boolean }[],
  ): Promise<{ topic: string; partitions: { partition: number; offset: string }[] }[]>;
}

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
    await cluster.addTargetTopic(topic);
    const offset = async (fromBeginning: boolean): Promise<bigint> => {
      const found = await cluster.fetchTopicsOffset([{ topic, partitions: [{ partition }], fromBeginning }]);
      return BigInt(found[0]?.partitions[0]?.offset ?? 0);
    };
    const end = await offset(false);
    let next = await offset(true);
    let records = 0;
    while (next < end) {
      const nodeId = Object.entries(cluster.findLeaderForPartitions(topic, [partition])).find(([, led]) =>
        led.includes(partition),
      )?.[0];
      if (nodeId === undefined) throw new Error(`no leader for ${topic}/${partition}`);
      const broker = await cluster.findBroker({ nodeId });
      const { responses } = await broker.fetch({
        isolationLevel: READ_COMMITTED,
        maxWaitTime: 250,
        minBytes: 1,
        maxBytes: BYTES_PER_FETCH,
        topics: [{ topic, partitions: [{ partition, fetchOffset: next.toString(), maxBytes: BYTES_PER_FETCH }] }],
      });
      const got = responses[0]?.partitions[0];
      const before = next;
      for (const message of got?.messages ?? []) {
        const at = BigInt(message.offset);
        if (at < next) continue;
        next = at + 1n;
        if (message.isControlRecord) continue;
        records++;
        each(message);
      }
      const context = got?.messages.at(-1)?.batchContext;
      // compaction may have removed the records at a batch's end
      if (context) next = max(next, BigInt(context.firstOffset) + BigInt(context.lastOffsetDelta) + 1n);
      if (next === before) {
        if (!got || BigInt(got.highWatermark) <= next || got.messages.length === 0) break;
        next++;
      }
      await alive?.();
    }
    return records;
  } finally {
    await cluster.disconnect();
  }
}

function clusterOf(kafka: Kafka): Cluster {
  const symbol = Object.getOwnPropertySymbols(kafka).find((s) => s.description === 'private:Kafka:createCluster');
  const create: unknown = symbol && Reflect.get(kafka, symbol);
  if (typeof create !== 'function') throw new Error('this version of kafkajs has no cluster factory');
  return create({ metadataMaxAge: 300_000, allowAutoTopicCreation: false }) as Cluster;
}

function max(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
