import { randomUUID } from 'node:crypto';
import type { Kafka, KafkaMessage } from 'kafkajs';
import { Observable } from 'rxjs';
import { kafkaLimits } from '../limits.js';
import { keepRunning } from './keep-running.js';

export interface TailedMessage {
  readonly topic: string;
  readonly partition: number;
  readonly message: KafkaMessage;
}

/** Where reading begins: the oldest record, new ones only, or the first at or after a time (ms since 1970). */
export type TailFrom = 'earliest' | 'latest' | number;

/**
 * The messages of some topics as they come, for looking at: its own throw-away group, nothing is committed (so nothing of the group is left),
 * no acknowledgement asked. After a lost connection it goes on where it was. Unsubscribing leaves the group; `closed` waits for that.
 */
export function tail(
  kafka: Kafka,
  topics: readonly string[],
  from: TailFrom,
): { messages: Observable<TailedMessage>; closed(): Promise<void> } {
  const groupId = `iguana-tail-${randomUUID()}`;
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: kafkaLimits.maxWaitMs });
  let stopRunning = (): void => undefined;
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> => {
    stopRunning();
    closing ??= consumer.disconnect();
    return closing;
  };
  /** Where reading goes on in each partition, as far as it is known. */
  const next = new Map<string, { topic: string; partition: number; offset: string }>();
  const note = (topic: string, partition: number, offset: string): void => {
    next.set(`${topic}/${partition}`, { topic, partition, offset });
  };
  // whenever the group is joined the client begins where the group is, and this one commits nothing
  consumer.on(consumer.events.GROUP_JOIN, () => {
    for (const place of next.values()) consumer.seek(place);
  });
  const messages = new Observable<TailedMessage>((subscriber) => {
    let ran = false;
    const run = async (): Promise<void> => {
      if (typeof from === 'number' && next.size === 0) await findTime(kafka, topics, from, note);
      await consumer.connect();
      await consumer.subscribe({ topics: [...topics], fromBeginning: from !== 'latest' });
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => {
          note(topic, partition, String(BigInt(message.offset) + 1n));
          subscriber.next({ topic, partition, message });
        },
      });
      ran = true;
    };
    stopRunning = keepRunning(consumer, run, (error) => {
      if (!ran) subscriber.error(error);
    });
    return () => void close();
  });
  return { messages, closed: close };
}

async function findTime(
  kafka: Kafka,
  topics: readonly string[],
  timestamp: number,
  note: (topic: string, partition: number, offset: string) => void,
): Promise<void> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    for (const topic of topics) {
      for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(topic, timestamp))
        note(topic, partition, offset);
    }
  } finally {
    await admin.disconnect();
  }
}
