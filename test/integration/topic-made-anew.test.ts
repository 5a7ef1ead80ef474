import { afterAll, beforeAll, expect, it } from 'vitest';
import { detect } from '../../pipelines/detect.js';
import { type RunningBroker, startBroker } from '../../src/broker/broker.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { stateTopic } from '../../src/kafka/state-store.js';
import { kafkaClientFor, until } from '../support/kafka.js';

// a broker of its own: pipelines of one name share a state topic
let broker: RunningBroker;
beforeAll(async () => {
  broker = await startBroker({ port: 0 });
});
afterAll(() => broker.stop());

it('learns from a topic that was deleted and made anew from its first record on, running or started again', async () => {
  const brokers = `${broker.host}:${broker.port}`;
  const connection = { brokers: [brokers] };
  const kafka = kafkaClientFor(brokers);
  const input = { topic: 'metrics', partitions: 1 };
  const others = ['anomalies', 'dead-letters'].map((topic) => ({ topic, partitions: 1 }));
  await ensureTopics(connection, [input, ...others, stateTopic('detect', 1)]);
  const names = { input: 'metrics', output: 'anomalies', deadLetters: 'dead-letters', group: 'g' };
  const errors: string[] = [];
  const start = () =>
    detect({ connection, ...names, checkpointEveryMs: 100, onError: (error) => errors.push(String(error)) });
  const producer = kafka.producer();
  await producer.connect();
  const begin = Date.now() - 3_600_000;
  const produce = (from: number, to: number) => {
    const messages = Array.from({ length: to - from }, (_, i) => {
      const sample = { name: 'requests', labels: {}, timestamp: begin + 1000 * (from + i), value: i % 7 };
      return { value: JSON.stringify(sample) };
    });
    return producer.send({ topic: 'metrics', messages });
  };
  const admin = kafka.admin();
  await admin.connect();
  const makeAnew = async (): Promise<void> => {
    await admin.deleteTopics({ topics: ['metrics'] });
    await ensureTopics(connection, [input]);
  };
  const first = await start();
  await produce(0, 300);
  await until('all is read', () => first.status().samples >= 300);
  await first.stop();

  await makeAnew();
  await produce(300, 350);
  const second = await start();
  await until('all of the new one is read', () => second.status().samples >= 50);

  await makeAnew();
  await produce(350, 380);
  await until('all of the newest one is read', () => second.status().samples >= 80);
  expect(second.status()).toMatchObject({ samples: 80, series: 1 });
  await second.stop();
  await Promise.all([admin.disconnect(), producer.disconnect()]);
});
