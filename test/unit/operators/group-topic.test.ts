import { expect, test } from 'vitest';
import { topicOfGroup } from '../../../src/operators/group-topic.js';

test('the usual group has topics as they are called, any other its own that brokers take', () => {
  expect([topicOfGroup('t'), topicOfGroup('t', 'iguana'), topicOfGroup('t', 'lib')]).toEqual(['t', 't', 't-lib']);
  const groups = ['a b', 'a/b', 'größe', 'x'.repeat(300), 'x'.repeat(301)];
  const topics = groups.map((group) => topicOfGroup('iguana-state-keep-alive', group));
  for (const topic of topics) expect(topic).toMatch(/^iguana-state-keep-alive-[0-9a-f]{16}$/);
  expect(new Set(topics).size).toBe(groups.length);
});
