import type { Kafka } from 'kafkajs';
import { kafkaLimits } from '../limits.js';
import type { OutRecord } from './sink.js';

/**
 * Writes records to a topic in one transaction, all of them or none, under an id that all writers of the topic share: its name. Beginning one ends everybody
 * else's that is under way, so what `decide` reads then is nobody else's to change, or this one fails. Errors: the client's; it may be tried again.
 */
export async function exclusiveTransaction(
  kafka: Kafka,
  topic: string,
  decide: () => Promise<readonly OutRecord[]>,
): Promise<void> {
  const producer = kafka.producer({
    transactionalId: topic,
    idempotent: true,
    maxInFlightRequests: 1,
    transactionTimeout: kafkaLimits.exclusiveTransactionMs,
    retry: { retries: kafkaLimits.retries },
  });
  await producer.connect();
  try {
    const transaction = await producer.transaction();
    try {
      for (const messages of parts(await decide())) await transaction.send({ topic, acks: -1, messages });
      await transaction.commit();
    } catch (error) {
      // it may be ended already, by whoever came next
      await transaction.abort().catch(() => undefined);
      throw error;
    }
  } finally {
    await producer.disconnect();
  }
}

/** As many records at once as fit into a request. */
function parts(records: readonly OutRecord[]): OutRecord[][] {
  const all: OutRecord[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const record of records) {
    const size = (record.key?.length ?? 0) + (record.value?.length ?? 0);
    if (bytes + size > kafkaLimits.maxBytesPerFlush) {
      all.push([]);
      bytes = 0;
    }
    all.at(-1)!.push(record);
    bytes += size;
  }
  return all;
}
