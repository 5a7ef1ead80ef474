import { ensureTopics } from './admin.js';
import { type ConnectionOptions, kafkaClient } from './client.js';
import { readPartition } from './partition-reader.js';
import type { Sink } from './sink.js';
import { stateTopic } from './state-store.js';

/** One value that survives restarts, the last record of a compacted state topic of its own. */
export interface KeptValue {
  /** What was kept last; undefined the first time. */
  readonly value: Buffer | undefined;
  keep(value: Buffer | string): Promise<void>;
}

export async function keptValue(connection: ConnectionOptions, sink: Sink, name: string): Promise<KeptValue> {
  const wanted = stateTopic(name, 1);
  await ensureTopics(connection, [wanted]);
  let value: Buffer | undefined;
  await readPartition(kafkaClient(connection), wanted.topic, 0, (record) => {
    if (record.value) value = record.value;
  });
  return { value, keep: (next) => sink.write(wanted.topic, [{ key: name, value: next, partition: 0 }]) };
}
