import type { Kafka, Message, Producer, TopicMessages } from 'kafkajs';
import { kafkaLimits } from '../limits.js';

/** One record to write; `partition` only where it is fixed (state). Without it the key decides. */
export interface OutRecord {
  readonly key: Buffer | string | null;
  readonly value: Buffer | string | null;
  readonly headers?: Record<string, string | Buffer>;
  readonly partition?: number;
}

interface Pending {
  readonly topic: string;
  readonly records: readonly OutRecord[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Writes records: `write` resolves when the broker has them on all replicas in sync. */
export interface Sink {
  connect(): Promise<void>;
  write(topic: string, records: readonly OutRecord[]): Promise<void>;
  /** Records written and requests made so far. */
  readonly counts: { readonly records: number; readonly flushes: number };
  close(): Promise<void>;
}

/**
 * Packs what is written at the same time, by whichever partition, into one `sendBatch`; one in flight, so that order is kept.
 * Idempotent, acks −1. After a request that failed a new producer writes: the fate of the old one's records is unknown, kafkajs would number
 * the next ones like them, and the broker take those for repetitions or refuse all that come. Bounded: what waits belongs to callers that
 * wait for it, at most one batch of each partition.
 */
export function sink(kafka: Kafka): Sink {
  const open = (): Producer =>
    kafka.producer({ idempotent: true, maxInFlightRequests: 1, allowAutoTopicCreation: true });
  let producer = open();
  let connected = false;
  const queue: Pending[] = [];
  const counts = { records: 0, flushes: 0 };
  let flushing = false;
  let idle: (() => void) | undefined;

  const connect = async (): Promise<void> => {
    if (connected) return;
    await producer.connect();
    connected = true;
  };
  const renew = async (): Promise<void> => {
    const broken = producer;
    producer = open();
    connected = false;
    await broken.disconnect().catch(() => undefined);
  };
  const flush = async (): Promise<void> => {
    // what other partitions write in the same turn of the event loop goes along
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (queue.length > 0) {
      const taken = take(queue);
      try {
        await connect();
        await producer.sendBatch({ acks: -1, topicMessages: byTopic(taken) });
        counts.flushes++;
        for (const pending of taken) {
          counts.records += pending.records.length;
          pending.resolve();
        }
      } catch (error) {
        await renew();
        for (const pending of taken) pending.reject(error);
      }
    }
    flushing = false;
    idle?.();
  };

  return {
    counts,
    connect,
    async write(topic, records) {
      if (records.length === 0) return;
      const written = split(records).map(
        ({ part, bytes }) =>
          new Promise<void>((resolve, reject) => {
            queue.push({ topic, records: part, bytes, resolve, reject });
          }),
      );
      if (!flushing) {
        flushing = true;
        void flush();
      }
      await Promise.all(written);
    },
    async close() {
      if (flushing)
        await new Promise<void>((resolve) => {
          idle = resolve;
        });
      await producer.disconnect();
    },
  };
}

/** The queue's head: as many writes as fit into one request, at least one. */
function take(queue: Pending[]): Pending[] {
  let bytes = 0;
  let n = 0;
  for (const pending of queue) {
    if (n > 0 && bytes + pending.bytes > kafkaLimits.maxBytesPerFlush) break;
    bytes += pending.bytes;
    n++;
  }
  return queue.splice(0, n);
}

function byTopic(taken: readonly Pending[]): TopicMessages[] {
  const topics = new Map<string, Message[]>();
  for (const { topic, records } of taken) {
    let messages = topics.get(topic);
    if (!messages) {
      messages = [];
      topics.set(topic, messages);
    }
    for (const record of records) messages.push(record as Message);
  }
  return [...topics].map(([topic, messages]) => ({ topic, messages }));
}

function split(records: readonly OutRecord[]): { part: readonly OutRecord[]; bytes: number }[] {
  const parts: { part: readonly OutRecord[]; bytes: number }[] = [];
  let from = 0;
  let bytes = 0;
  for (let i = 0; i < records.length; i++) {
    const size = sizeOf(records[i]!);
    if (i > from && bytes + size > kafkaLimits.maxBytesPerFlush) {
      parts.push({ part: records.slice(from, i), bytes });
      from = i;
      bytes = 0;
    }
    bytes += size;
  }
  parts.push({ part: from === 0 ? records : records.slice(from), bytes });
  return parts;
}

function sizeOf(record: OutRecord): number {
  return 32 + (record.key?.length ?? 0) + (record.value?.length ?? 0);
}
