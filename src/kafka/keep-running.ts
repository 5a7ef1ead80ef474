import type { Consumer } from 'kafkajs';
import { messageOf } from '../errors.js';
import { kafkaLimits } from '../limits.js';

/** Errors by which the broker says that the group changes: the client joins again by itself. */
const REBALANCES = new Set([
  'REBALANCE_IN_PROGRESS',
  'ILLEGAL_GENERATION',
  'UNKNOWN_MEMBER_ID',
  'NOT_COORDINATOR_FOR_GROUP',
]);

/** Whether an error only says that the group changes. */
export function isRebalance(error: unknown): boolean {
  return REBALANCES.has((error as { type?: string } | null)?.type ?? '');
}

/** An error of our own as kafkajs has to see it: one it knows not to be retriable, or a TypeError, would end the consumer. */
export function retriable(error: unknown): Error {
  return new Error(messageOf(error), { cause: error });
}

/**
 * Keeps a consumer at work. After an error that kafkajs holds for final it leaves the group and ends, without a word; then `run` (connect,
 * subscribe, run) is called again after a pause, and `onError` is told. The returned function ends that.
 */
export function keepRunning(
  consumer: Consumer,
  run: () => Promise<void>,
  onError: (error: unknown) => void,
): () => void {
  let ended = false;
  let timer: NodeJS.Timeout | undefined;
  const again = (error: unknown): void => {
    if (ended) return;
    onError(error);
    timer = setTimeout(begin, kafkaLimits.runAgainMs);
  };
  // one that joined its group while it was ended would stay in it
  const begin = (): void =>
    void run()
      .then(() => (ended ? consumer.disconnect() : undefined))
      .catch(again);
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    if (!payload.restart) again(payload.error);
  });
  begin();
  return () => {
    ended = true;
    clearTimeout(timer);
  };
}
