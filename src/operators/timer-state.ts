import type { TimerMemory } from '../functions/triggers/timer-trigger.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { ownership } from '../kafka/ownership.js';
import { followPartition } from '../kafka/partition-reader.js';
import type { Sink } from '../kafka/sink.js';
import { stateTopic } from '../kafka/state-store.js';
import { topicOfGroup } from './group-topic.js';

/** Whose timers are whose in a group of processes, and what has run. */
export interface TimerState {
  readonly memory: TimerMemory;
  isOwner(functionName: string): boolean;
  stop(): Promise<void>;
}

/** Timers are shared out among the processes of the group in so many parts. */
const SHARES = 16;

/**
 * Keeps the newest run of every timer in a compacted topic, which each process follows: whoever takes a timer over knows where it stands. The topic's
 * partitions are also what timers are shared out by; records are all in the first.
 */
export async function timerState(options: {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix; each group has its own timers. */
  readonly group: string;
  readonly sink: Sink;
  readonly onError: (error: unknown) => void;
}): Promise<TimerState> {
  const { connection, group, sink, onError } = options;
  const wanted = stateTopic(topicOfGroup('timers', group), SHARES);
  const partitions = (await ensureTopics(connection, [wanted])).get(wanted.topic) ?? SHARES;
  const kafka = kafkaClient(connection);
  const newest = new Map<string, number>();
  const following = followPartition(
    kafka,
    wanted.topic,
    0,
    ({ key, value }) => {
      if (!key) return;
      if (value) newest.set(key.toString(), Number(value.toString()));
      else newest.delete(key.toString());
    },
    onError,
  );
  const shares = ownership(kafka, { groupId: `${group}-timers`, topic: wanted.topic, partitions, onError });
  return {
    memory: {
      async load() {
        await following.caughtUp();
        return newest;
      },
      save: (timer, at) => sink.write(wanted.topic, [{ key: timer, value: String(at), partition: 0 }]),
      forget: (timer) => sink.write(wanted.topic, [{ key: timer, value: null, partition: 0 }]),
    },
    isOwner: shares.owns,
    async stop() {
      await Promise.all([following.stop(), shares.stop()]);
    },
  };
}
