import { hash64 } from '../records.js';

/** Processes that say nothing else are of this group, and its topics have no addition. */
const USUAL_GROUP = 'iguana';
/** With the longest name before it a topic stays below the 249 characters that brokers take. */
const MAX_LENGTH = 200;
const TOPIC = /^[A-Za-z0-9._-]+$/;

/**
 * A topic that each group of processes has for itself: two groups on one cluster know nothing of each other's functions.
 * @param group consumer group prefix; what no topic may be called stands there in short
 */
export function topicOfGroup(topic: string, group: string = USUAL_GROUP): string {
  if (group === USUAL_GROUP) return topic;
  return `${topic}-${TOPIC.test(group) && group.length <= MAX_LENGTH ? group : hash64(group)}`;
}
