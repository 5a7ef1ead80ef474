import { defined } from '../defined.js';
import { type TopicTriggers, type TopicTriggersOptions, topicTriggers } from './topic-triggers.js';

const DEFAULT_DEAD_LETTERS = 'dead-letters';

/**
 * Topics as queues (`triggers: [{ type: queue }]`), as docs/functions-streams.md says: each record is a call of its own, as many at once as `parallel`,
 * those of one key one after the other. A call that takes longer than `visibilityMs` is stopped and its record given to another. A queue begins at its first
 * record.
 */
export function queueTriggers(options: TopicTriggersOptions): TopicTriggers {
  return topicTriggers(options, ({ name, definition }) => {
    const to = defined({
      output: definition.output,
      onSuccess: definition.onSuccess,
      onFailure: definition.onFailure,
    });
    return definition.triggers.flatMap((trigger) => {
      if (trigger.type !== 'queue') return [];
      const { topic, visibilityMs: timeoutMs, parallel, deadLetters } = trigger;
      // one at a time, however large
      const batch = { size: 1, bytes: 1, windowMs: 0 };
      return {
        ...{ kind: 'queue', name, topic, from: 'earliest', parallel, shared: true, timeoutMs, exactlyOnce: false, to },
        rules: { ...trigger, batch, order: 'key', bisect: false },
        deadLetters: deadLetters === DEFAULT_DEAD_LETTERS ? options.deadLetters : deadLetters,
      } as const;
    });
  });
}
