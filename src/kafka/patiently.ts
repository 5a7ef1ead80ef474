import { setTimeout as sleep } from 'node:timers/promises';
import { kafkaLimits } from '../limits.js';

/** First wait before asking again, ms. */
const AGAIN_MS = 50;

/**
 * Asks again while the broker says that it may pass: a topic that was just made and is not known everywhere yet, a partition that has another leader now. An
 * error of the connection is passed on: for that the client has to be made anew.
 * @param before is called before each further time
 */
export async function patiently<T>(
  ask: () => Promise<T>,
  before: () => Promise<void> = async () => undefined,
): Promise<T> {
  for (let n = 1; ; n++) {
    try {
      // it may fail for the same reason
      if (n > 1) await before();
      return await ask();
    } catch (error) {
      const { retriable, name } = error as { retriable?: boolean; name?: string };
      if (!retriable || name !== 'KafkaJSProtocolError' || n >= kafkaLimits.retries) throw error;
      await sleep(AGAIN_MS * n);
    }
  }
}
