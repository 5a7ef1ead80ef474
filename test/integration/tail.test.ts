import { afterAll, beforeAll, expect, it } from 'vitest';
import { tail } from '../../src/kafka/tail.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
beforeAll(async () => {
  broker = await kafkaUnderTest();
});
afterAll(() => broker.stop());

it('begins at a time: nothing older is shown, and nothing twice', async () => {
  const kafka = kafkaClientFor(broker.brokers);
  const topic = uniqueName('times');
  const producer = kafka.producer();
  await producer.connect();
  const begin = Date.now() - 60_000;
  for (let i = 0; i < 20; i++)
    await producer.send({ topic, messages: [{ partition: 0, value: String(i), timestamp: String(begin + 1000 * i) }] });
  const seen: string[] = [];
  const following = tail(kafka, [topic], begin + 15_000);
  following.messages.subscribe(({ message }) => seen.push(String(message.value)));
  await until('the messages', () => seen.length >= 5);
  await producer.send({ topic, messages: [{ partition: 0, value: 'last' }] });
  await until('the last one', () => seen.includes('last'));
  expect(seen).toEqual(['15', '16', '17', '18', '19', 'last']);
  await following.closed();
  await producer.disconnect();
});
