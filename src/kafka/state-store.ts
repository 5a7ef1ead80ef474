import type { Kafka } from 'kafkajs';
import { kafkaLimits } from '../limits.js';
import type { WantedTopic } from './admin.js';
import { readPartition } from './partition-reader.js';
import type { PartitionState } from './partition-state.js';
import type { Sink } from './sink.js';
import type { StartPoint } from './source.js';

/** The name of a pipeline's compacted state topic; it has as many partitions as the input. */
export function stateTopicOf(pipeline: string): string {
  return `iguana-state-${pipeline}`;
}

/** What `ensureTopics` needs to make a pipeline's state topic. Records hold the state of many series and may be larger than usual. */
export function stateTopic(pipeline: string, partitions: number): WantedTopic {
  const configs = { 'cleanup.policy': 'compact', 'max.message.bytes': String(kafkaLimits.maxStateRecordBytes) };
  return { topic: stateTopicOf(pipeline), partitions, configs, grows: true };
}

/**
 * Loads the state of one input partition from the state topic and says where the input has to be read again from. Where nothing was ever
 * saved, that is `first`, and it is written down before anything is learnt: a crash before the first checkpoint then replays from there.
 * State that reaches beyond `end`, the end of the input, was learnt from a topic that was deleted since: it is kept, and `first` comes next.
 */
export async function restoreState<T>(
  kafka: Kafka,
  sink: Sink,
  topic: string,
  partition: number,
  state: PartitionState<T>,
  first: bigint,
  end: bigint,
  heartbeat: () => Promise<void>,
): Promise<StartPoint> {
  await readPartition(
    kafka,
    topic,
    partition,
    ({ key, value }) => {
      if (key && value) state.load(key.toString(), value);
    },
    heartbeat,
  );
  const start = state.startPoint;
  if (start && start.position <= end) return start;
  if (start) state.beginAnew(first);
  await checkpointState(sink, topic, partition, state, first);
  return { position: first, cuts: [] };
}

/** Writes a checkpoint: all series changed since the last one, as of an input offset. */
export async function checkpointState<T>(
  sink: Sink,
  topic: string,
  partition: number,
  state: PartitionState<T>,
  offset: bigint,
): Promise<void> {
  const { chunks, marker, failed } = state.checkpoint(offset);
  try {
    await sink.write(
      topic,
      chunks.map((record) => ({ ...record, partition })),
    );
    // only when all chunks are there may the marker say so
    await sink.write(topic, [{ ...marker, partition }]);
  } catch (error) {
    failed();
    throw error;
  }
}
