import { decodeForecast } from '../codec/decode.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { tail } from '../kafka/tail.js';
import type { ForecastRecord } from '../records.js';

/** Calls `each` with every forecast that comes from now on; anybody may write to the topic, so what is none is told to `onError`. */
export function followForecasts(
  connection: ConnectionOptions,
  topic: string,
  each: (record: ForecastRecord) => void,
  onError: (error: unknown) => void,
): { stop(): Promise<void> } {
  const following = tail(kafkaClient(connection), [topic], 'latest');
  const subscription = following.messages.subscribe({
    next: ({ message }) => {
      try {
        if (message.value) each(decodeForecast(message.value));
      } catch (error) {
        onError(error);
      }
    },
    error: onError,
  });
  return {
    stop() {
      subscription.unsubscribe();
      return following.closed();
    },
  };
}
