import { randomUUID } from 'node:crypto';
import type { Kafka, KafkaMessage } from 'kafkajs';
import { Observable } from 'rxjs';
import { kafkaLimits } from '../limits.js';

export interface TailedMessage {
  readonly topic: string;
  readonly partition: number;
  readonly message: KafkaMessage;
}

/** Where reading begins: the oldest record, new ones only, or the first at or after a time (ms since 1970). */
export type TailFrom = 'earliest' | 'latest' | number;

/**
 * The messages of some topics as they come, for looking at: its own throw-away group, nothing is committed (so nothing of the group is left),
 * no acknowledgement asked. Unsubscribing leaves the group; `closed` waits for that.
 */
export function tail(
  kafka: Kafka,
  topics: readonly string[],
  from: TailFrom,
): { messages: Observable<TailedMessage>; closed(): Promise<void> } {
  const groupId = `iguana-tail-${randomUUID()}`;
  const consumer = kafka.consumer({ groupId, maxWaitTimeInMs: kafkaLimits.maxWaitMs });
  let closing: Promise<void> | undefined;
  const messages = new Observable<TailedMessage>((subscriber) => {
    const run = async (): Promise<void> => {
      await consumer.connect();
      await consumer.subscribe({ topics: [...topics], fromBeginning: from !== 'latest' });
      await consumer.run({
        autoCommit: false,
        eachMessage: async ({ topic, partition, message }) => subscriber.next({ topic, partition, message }),
      });
      if (typeof from === 'number') await seekToTime(kafka, consumer, topics, from);
    };
    run().catch((error) => subscriber.error(error));
    return () => {
      closing ??= consumer.disconnect();
    };
  });
  return {
    messages,
    async closed() {
      closing ??= consumer.disconnect();
      await closing;
    },
  };
}

async function seekToTime(
  kafka: Kafka,
  consumer: ReturnType<Kafka['consumer']>,
  topics: readonly string[],
  timestamp: number,
): Promise<void> {
  const admin = kafka.admin();
  await admin.connect();
  try {
    for (const topic of topics) {
      for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)) {
        consumer.seek({ topic, partition, offset });
      }
    }
  } finally {
    await admin.disconnect();
  }
}
