import { placesOf, type TopicTriggers, type TopicTriggersOptions, topicTriggers } from './topic-triggers.js';

/**
 * Topics as queues (`triggers: [{ type: queue }]`), as docs/functions-streams.md says: each record is a call of its own, as many at once as `parallel`,
 * those of one key one after the other. A call that takes longer than `visibilityMs` is stopped and its record given to another. A queue begins at its first
 * record.
 */
export function queueTriggers(options: TopicTriggersOptions): TopicTriggers {
  return topicTriggers(options, ({ name, definition }) =>
    definition.triggers.flatMap((trigger) => {
      if (trigger.type !== 'queue') return [];
      const { topic, visibilityMs: timeoutMs, parallel } = trigger;
      // one at a time, however large
      const batch = { size: 1, bytes: 1, windowMs: 0 };
      return {
        ...{ kind: 'queue', name, topic, from: 'earliest', parallel, shared: true, timeoutMs, exactlyOnce: false },
        ...placesOf(definition, trigger, options),
        rules: { ...trigger, batch, order: 'key', bisect: false },
      } as const;
    }),
  );
}
