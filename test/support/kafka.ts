import { randomUUID } from 'node:crypto';
import { Kafka, logLevel } from 'kafkajs';
import { startBroker } from '../../src/broker/broker.js';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';

/** The broker the integration suite runs on: the real Kafka of KAFKA_BROKERS, else an embedded one in memory on a free port. */
export async function kafkaUnderTest(): Promise<{ brokers: string; real: boolean; stop(): Promise<void> }> {
  const given = process.env.KAFKA_BROKERS;
  if (given) return { brokers: given, real: true, stop: async () => undefined };
  const broker = await startBroker({ port: 0 });
  return { brokers: `${broker.host}:${broker.port}`, real: false, stop: () => broker.stop() };
}

export function kafkaClientFor(brokers: string, retries = 20): Kafka {
  return new Kafka({
    brokers: brokers.split(','),
    clientId: 'test',
    logLevel: logLevel.NOTHING,
    retry: { initialRetryTime: 50, retries },
  });
}

export function uniqueName(what: string): string {
  return `${what}-${randomUUID().slice(0, 8)}`;
}

/** A real broker makes topics and finds coordinators at its own pace, and a busy machine does everything so. */
const PATIENCE_MS = 45_000;

/** Waits until the condition holds; fails with what was seen after the deadline. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = PATIENCE_MS,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const seen = await look();
    if (seen !== undefined && seen !== false) return seen;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
