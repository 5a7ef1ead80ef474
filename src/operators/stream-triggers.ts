import { placesOf, type TopicTriggers, type TopicTriggersOptions, topicTriggers } from './topic-triggers.js';

/**
 * Functions that are started by the records of topics (`triggers: [{ type: stream }]`), as docs/functions-streams.md says. One consumer group a function and
 * trigger: several processes share its partitions, and a function that is deployed again goes on where it was.
 * Cost: a connection or two a trigger; with `exactlyOnce` one more for each partition.
 */
export function streamTriggers(options: TopicTriggersOptions): TopicTriggers {
  return topicTriggers(options, ({ name, definition }) =>
    definition.triggers.flatMap((trigger) => {
      if (trigger.type !== 'stream') return [];
      const { topic, from, order, exactlyOnce } = trigger;
      return {
        ...{ kind: 'stream', name, topic, from, rules: trigger, exactlyOnce, shared: false },
        ...placesOf(definition, trigger, options),
        parallel: order === 'key' ? trigger.parallel : 1,
      } as const;
    }),
  );
}
