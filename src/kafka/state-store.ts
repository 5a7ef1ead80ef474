import type { Kafka } from 'kafkajs';
import { readPartition } from './partition-reader.js';
import type { PartitionState } from './partition-state.js';
import type { OutRecord, Sink } from './sink.js';
import type { StartPoint } from './source.js';

/** The name of a pipeline's compacted state topic; it has as many partitions as the input. */
export function stateTopicOf(pipeline: string): string {
  return `iguana-state-${pipeline}`;
}

/** Loads the state of one input partition from the state topic; says where the input has to be read again from. */
export async function restoreState<T>(
  kafka: Kafka,
  topic: string,
  partition: number,
  state: PartitionState<T>,
  heartbeat: () => Promise<void>,
): Promise<StartPoint | undefined> {
  await readPartition(
    kafka,
    topic,
    partition,
    ({ key, value }) => {
      if (key && value) state.load(key.toString(), value);
    },
    heartbeat,
  );
  return state.startPoint;
}

/** Writes a checkpoint: all series changed since the last one, as of an input offset. */
export async function checkpointState<T>(
  sink: Sink,
  topic: string,
  partition: number,
  state: PartitionState<T>,
  offset: bigint,
): Promise<void> {
  const records: OutRecord[] = state.checkpoint(offset).map(({ key, value }) => ({ key, value, partition }));
  await sink.write(topic, records);
}
