import type { Clock } from '../clock.js';
import type { FunctionService } from '../functions/function-service.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { readPartition } from '../kafka/partition-reader.js';
import type { OutRecord, Sink } from '../kafka/sink.js';
import { stateTopic } from '../kafka/state-store.js';
import { prewarmLimits } from '../limits.js';
import { topicOfGroup } from './group-topic.js';

export interface KeepAliveMemoryOptions {
  /** Without functions yet: each begins with what is kept of it when it is deployed. */
  readonly service: Pick<FunctionService, 'list' | 'history' | 'restoreHistory' | 'onChange'>;
  readonly connection: ConnectionOptions;
  /** Consumer group prefix (default `iguana`): each group has its own memory. */
  readonly group?: string;
  readonly sink: Pick<Sink, 'write'>;
  readonly clock: Clock;
  readonly onError?: (error: unknown) => void;
}

/**
 * Keeps over restarts what has been learnt of when functions are called, in a compacted topic: written every five minutes where it has changed. Of several
 * processes that call one function the last that wrote is what the next start begins with.
 */
export async function keepAliveMemory(options: KeepAliveMemoryOptions): Promise<{ stop(): Promise<void> }> {
  const { service, connection, group, sink, clock, onError } = options;
  const wanted = stateTopic(topicOfGroup('keep-alive', group), 1);
  await ensureTopics(connection, [wanted]);
  const kept = new Map<string, Buffer>();
  await readPartition(kafkaClient(connection), wanted.topic, 0, ({ key, value }) => {
    if (!key) return;
    if (value) kept.set(key.toString(), value);
    else kept.delete(key.toString());
  });
  const known = new Set<string>();
  const gone = new Set<string>();
  const look = (): void => {
    const names = new Set(service.list().map(({ name }) => name));
    for (const name of names) {
      if (known.has(name)) continue;
      known.add(name);
      gone.delete(name);
      const saved = kept.get(name);
      try {
        if (saved) service.restoreHistory(name, saved);
      } catch (error) {
        // what an older release has written is learnt anew
        onError?.(error);
      }
    }
    for (const name of known) {
      if (names.has(name)) continue;
      known.delete(name);
      kept.delete(name);
      gone.add(name);
    }
  };
  const save = async (): Promise<void> => {
    const forgotten = [...gone];
    const changed = new Map([...known].map((name) => [name, service.history(name)] as const));
    for (const [name, value] of changed) if (kept.get(name)?.equals(value)) changed.delete(name);
    const records: OutRecord[] = forgotten.map((name) => ({ key: name, value: null, partition: 0 }));
    for (const [name, value] of changed) records.push({ key: name, value, partition: 0 });
    await sink.write(wanted.topic, records);
    // what could not be written is written the next time
    for (const name of forgotten) gone.delete(name);
    for (const [name, value] of changed) if (known.has(name)) kept.set(name, value);
  };
  let underWay: Promise<void> = Promise.resolve();
  const saveQuietly = (): Promise<void> => {
    underWay = underWay.then(save).catch((error) => onError?.(error));
    return underWay;
  };
  const stopLooking = service.onChange(look);
  const stopSaving = clock.every(prewarmLimits.saveEveryMs, () => void saveQuietly());
  look();
  return {
    async stop() {
      stopLooking();
      stopSaving();
      await saveQuietly();
    },
  };
}
