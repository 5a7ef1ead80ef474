import { defined } from '../defined.js';
import { type TopicTriggers, type TopicTriggersOptions, topicTriggers } from './topic-triggers.js';

/** A trigger that names no topic of its own has this one in its definition; the process's own takes its place. */
const DEFAULT_DEAD_LETTERS = 'dead-letters';

/**
 * Functions that are started by the records of topics (`triggers: [{ type: stream }]`), as docs/functions-streams.md says. One consumer group a function and
 * trigger: several processes share its partitions, and a function that is deployed again goes on where it was.
 * Cost: a connection or two a trigger; with `exactlyOnce` one more for each partition.
 */
export function streamTriggers(options: TopicTriggersOptions): TopicTriggers {
  return topicTriggers(options, ({ name, definition }) => {
    const to = defined({
      output: definition.output,
      onSuccess: definition.onSuccess,
      onFailure: definition.onFailure,
    });
    return definition.triggers.flatMap((trigger) => {
      if (trigger.type !== 'stream') return [];
      const { topic, from, order, exactlyOnce, deadLetters } = trigger;
      return {
        ...{ kind: 'stream', name, topic, from, rules: trigger, exactlyOnce, shared: false, to },
        parallel: order === 'key' ? trigger.parallel : 1,
        deadLetters: deadLetters === DEFAULT_DEAD_LETTERS ? options.deadLetters : deadLetters,
      } as const;
    });
  });
}
