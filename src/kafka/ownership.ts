import type { Consumer, Kafka } from 'kafkajs';
import { kafkaLimits } from '../limits.js';
import { hash64 } from '../records.js';
import { keepRunning } from './keep-running.js';

export interface Ownership {
  /** Whether a name is this process's. Of a group exactly one says so, none while the group changes. */
  owns(name: string): boolean;
  stop(): Promise<void>;
}

/**
 * Shares names out among the processes of a consumer group: each belongs to a partition of the topic, and so to whoever has that one. Nothing is read.
 * A process that ends without a word keeps its names until its session does (15 s).
 */
export function ownership(
  kafka: Kafka,
  options: {
    readonly groupId: string;
    readonly topic: string;
    readonly partitions: number;
    readonly onError: (error: unknown) => void;
  },
): Ownership {
  const { groupId, topic, partitions, onError } = options;
  const consumer: Consumer = kafka.consumer({
    groupId,
    maxWaitTimeInMs: kafkaLimits.maxWaitMs,
    sessionTimeout: kafkaLimits.sessionTimeoutMs,
    heartbeatInterval: kafkaLimits.heartbeatMs,
    retry: { initialRetryTime: 100, maxRetryTime: 5_000, retries: kafkaLimits.retries },
  });
  let own: ReadonlySet<number> = new Set();
  const none = (): void => {
    own = new Set();
  };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const assigned = payload.memberAssignment[topic] ?? [];
    own = new Set(assigned);
    // it belongs to the group, and asks the broker for nothing
    consumer.pause([{ topic }]);
  });
  consumer.on(consumer.events.REBALANCING, none);
  consumer.on(consumer.events.CRASH, none);
  const run = async (): Promise<void> => {
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: false });
    await consumer.run({ autoCommit: false, eachBatch: async () => undefined });
  };
  const stopRunning = keepRunning(consumer, run, onError);
  return {
    owns: (name) => own.has(Number.parseInt(hash64(name).slice(0, 8), 16) % partitions),
    async stop() {
      none();
      stopRunning();
      await consumer.disconnect();
    },
  };
}
