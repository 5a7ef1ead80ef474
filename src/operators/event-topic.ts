import { catchError, defer, EMPTY, mergeMap } from 'rxjs';
import { deadLetter } from '../codec/dead-letter.js';
import { IguanaError } from '../errors.js';
import type { CloudEvent } from '../functions/invocation.js';
import { assertDepth, readCloudEvent, writeCloudEvent } from '../functions/triggers/cloud-events.js';
import type { EventTriggers } from '../functions/triggers/event-trigger.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import type { OutRecord, Sink } from '../kafka/sink.js';
import { type AckBatch, source } from '../kafka/source.js';
import { eventLimits, kafkaLimits } from '../limits.js';
import { assertFits } from './function-outcomes.js';
import { keptHeaders } from './topic-trigger-records.js';

type Message = AckBatch['messages'][number];

/** What an event topic is called unless its user says otherwise. */
const TOPIC = 'function-events';
const PARTITIONS = 8;
/** Small batches: what a crash repeats. */
const BYTES_PER_BATCH = 65_536;

export interface EventTopicOptions {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix: each event is handled by one of its processes. */
  readonly group: string;
  readonly sink: Sink;
  readonly triggers: Pick<EventTriggers, 'dispatch'>;
  /** Default `function-events`. */
  readonly topic?: string;
  /** Where goes what is no event, and what went round too often. */
  readonly deadLetters: string;
  readonly onError?: (error: unknown) => void;
}

export interface EventTopic {
  /**
   * Writes an event to the topic; some process of the group handles it.
   * @throws IguanaError `IGU_FUNCTION_EVENT_DEPTH`, `IGU_RECORD_MALFORMED` for one that is too large
   */
  emit(event: CloudEvent): Promise<void>;
  stop(): Promise<void>;
}

/**
 * CloudEvents from a topic, structured or binary, to the functions that they start, and events to the topic. At least once: an offset is committed when all
 * functions that the event starts have ended and their outcomes are written. Events with one key (their subject, else their source) are handled in order.
 */
export async function eventTopic(options: EventTopicOptions): Promise<EventTopic> {
  const { connection, group, sink, triggers, topic = TOPIC, deadLetters, onError } = options;
  await ensureTopics(connection, [{ topic, partitions: PARTITIONS }]);
  const input = source(kafkaClient(connection), {
    topics: [topic],
    groupId: `${group}-events`,
    maxBytesPerPartition: BYTES_PER_BATCH,
    ...(onError ? { onError } : {}),
  });

  /** What has to be written about a message that is given up. */
  const handle = async (batch: AckBatch, message: Message): Promise<OutRecord | undefined> => {
    try {
      await triggers.dispatch(readCloudEvent(headersOf(message), message.value, 'kafka'));
      return undefined;
    } catch (error) {
      const givenUp =
        error instanceof IguanaError &&
        (error.code === 'IGU_RECORD_MALFORMED' || error.code === 'IGU_FUNCTION_EVENT_DEPTH');
      if (!givenUp) throw error;
      onError?.(error);
      const { offset, key, value } = message;
      const letter = deadLetter({ topic, partition: batch.partition, offset, key, value }, error.code, error.message);
      // attributes of an event in binary form are its headers
      return { ...letter, headers: { ...keptHeaders(headersOf(message)), ...letter.headers } };
    }
  };
  const handleAll = async (batch: AckBatch): Promise<void> => {
    const byKey = new Map<string, Message[]>();
    for (const message of batch.messages) {
      const key = message.key?.toString('latin1') ?? `/${message.offset}`;
      const same = byKey.get(key);
      if (same) same.push(message);
      else byKey.set(key, [message]);
    }
    const lanes = [...byKey.values()];
    const letters: OutRecord[] = [];
    const failures: unknown[] = [];
    const work = async (): Promise<void> => {
      for (let lane = lanes.pop(); lane; lane = lanes.pop()) {
        for (const message of lane) {
          // the batch comes again as a whole, when nothing of it is under way any more
          if (failures.length > 0) return;
          try {
            const letter = await handle(batch, message);
            if (letter) letters.push(letter);
          } catch (error) {
            failures.push(error);
          }
        }
      }
    };
    lanes.reverse();
    await Promise.all(Array.from({ length: Math.min(lanes.length, eventLimits.maxAtOnce) }, work));
    if (failures.length > 0) throw failures[0];
    await sink.write(deadLetters, letters);
    batch.ack();
  };
  const subscription = input.batches
    .pipe(
      mergeMap((batch) =>
        defer(() => handleAll(batch)).pipe(
          catchError((error: unknown) => {
            batch.fail(error);
            return EMPTY;
          }),
        ),
      ),
    )
    .subscribe();
  return {
    async emit(event) {
      assertDepth(event);
      const { headers, value } = writeCloudEvent(event, 'structured');
      const record = { key: event.subject ?? event.source, headers, value };
      assertFits(record, `event ${event.id.slice(0, 80)} has`);
      await sink.write(topic, [record]);
    },
    async stop() {
      await input.drain(kafkaLimits.drainMs);
      await input.commit().catch((error) => onError?.(error));
      await input.close();
      subscription.unsubscribe();
    },
  };
}

/** Headers as texts, names in lower case; of several with one name the last. */
function headersOf({ headers = {} }: Message): Record<string, string> {
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== undefined) texts[name.toLowerCase()] = last.toString();
  }
  return texts;
}
