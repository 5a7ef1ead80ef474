import type { Kafka, Message, Producer, Transaction } from 'kafkajs';
import { kafkaLimits } from '../limits.js';
import { type Patience, patiently } from './patiently.js';
import type { OutRecord } from './sink.js';

export interface TopicRecord {
  readonly topic: string;
  readonly record: OutRecord;
}

/** Where a consumer group is in one partition. */
export interface GroupOffset {
  readonly groupId: string;
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
}

export interface TransactionalWriter {
  /** Ends whatever another writer of the same id has under way: that one can write no more. To be called first, and after each failure. */
  fence(): Promise<void>;
  /** Writes records, in order, and moves the group's offset: all of it or nothing. After an error it is unknown which; `fence`, then ask for the offset. */
  commit(records: readonly TopicRecord[], offset: GroupOffset): Promise<void>;
  close(): Promise<void>;
}

/**
 * Kafka's transactions for one input partition. With one id a partition the newest owner of the partition is the only one that can commit, whatever an
 * earlier one still believes (KIP-98 and KIP-129); consumers that read committed records see none of what was not committed.
 * Cost: connections of its own; five requests a commit.
 */
export function transactionalWriter(kafka: Kafka, id: string): TransactionalWriter {
  let producer: Producer | undefined;
  const end = async (): Promise<void> => {
    const old = producer;
    producer = undefined;
    await old?.disconnect().catch(() => undefined);
  };
  return {
    async fence() {
      await end();
      producer = kafka.producer({
        transactionalId: id,
        maxInFlightRequests: 1,
        transactionTimeout: kafkaLimits.transactionTimeoutMs,
        retry: { initialRetryTime: kafkaLimits.concurrentTransactionMs, retries: kafkaLimits.retries },
      });
      await producer.connect();
      // its beginning is what fences; there is nothing to end
      await (await producer.transaction()).abort();
    },
    async commit(records, { groupId, topic, partition, offset }) {
      if (!producer) throw new Error(`writer ${id} was not fenced`);
      const transaction = await producer.transaction();
      for (const topicMessages of requests(records)) {
        await patiently(() => transaction.sendBatch({ acks: -1, topicMessages }), untilEnded);
      }
      const topics = [{ topic, partitions: [{ partition, offset: String(offset) }] }];
      await patiently(() => transaction.sendOffsets({ consumerGroupId: groupId, topics }), untilEnded);
      await transaction.commit();
    },
    close: end,
  };
}

type Batch = Parameters<Transaction['sendBatch']>[0]['topicMessages'];

/** As many records at once as fit into a request. */
function* requests(records: readonly TopicRecord[]): Generator<NonNullable<Batch>> {
  let topics = new Map<string, Message[]>();
  let bytes = 0;
  const all = () => [...topics].map(([topic, messages]) => ({ topic, messages }));
  for (const { topic, record } of records) {
    const size = 32 + (record.key?.length ?? 0) + (record.value?.length ?? 0);
    if (topics.size > 0 && bytes + size > kafkaLimits.maxBytesPerFlush) {
      yield all();
      topics = new Map();
      bytes = 0;
    }
    const messages = topics.get(topic);
    if (messages) messages.push(record as Message);
    else topics.set(topic, [record as Message]);
    bytes += size;
  }
  if (topics.size > 0) yield all();
}

/** The transaction before may not have ended everywhere yet: the broker then refuses the first request of the next one for a moment. */
const untilEnded: Patience = {
  passes: isConcurrent,
  tries: kafkaLimits.concurrentTransactionTries + 1,
  waitMs: () => kafkaLimits.concurrentTransactionMs,
};

function isConcurrent(error: unknown): boolean {
  const { type, cause } = (error ?? {}) as { type?: string; cause?: unknown };
  return type === 'CONCURRENT_TRANSACTIONS' || (cause !== undefined && isConcurrent(cause));
}
