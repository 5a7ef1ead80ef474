import { setTimeout as sleep } from 'node:timers/promises';
import { kafkaLimits } from '../limits.js';

/** First wait before asking again, ms. */
const AGAIN_MS = 50;

/** What is waited out, and how. */
export interface Patience {
  /** Whether an error may pass by itself. Default: what the broker calls retriable. */
  readonly passes?: (error: unknown) => boolean;
  /** Times it is asked at most (default: the client's retries). */
  readonly tries?: number;
  /** Wait after the n-th time, ms (default 50 n). */
  readonly waitMs?: (n: number) => number;
  /** Called before each further time; it may fail for the same reason. */
  readonly before?: () => Promise<void>;
}

/**
 * Asks again while the broker says that it may pass: a topic that was just made and is not known everywhere yet, a partition that has another leader now. An
 * error of the connection is passed on: for that the client has to be made anew.
 */
export async function patiently<T>(
  ask: () => Promise<T>,
  { passes = isRetriable, tries = kafkaLimits.retries, waitMs = (n) => AGAIN_MS * n, before }: Patience = {},
): Promise<T> {
  for (let n = 1; ; n++) {
    try {
      if (n > 1) await before?.();
      return await ask();
    } catch (error) {
      if (!passes(error) || n >= tries) throw error;
      await sleep(waitMs(n));
    }
  }
}

function isRetriable(error: unknown): boolean {
  const { retriable, name } = error as { retriable?: boolean; name?: string };
  return retriable === true && name === 'KafkaJSProtocolError';
}
