import type { Kafka } from 'kafkajs';
import { expect, it } from 'vitest';
import { sink } from '../../../src/kafka/sink.js';

it('writes with a new producer after a request that failed, whose sequence numbers may be used up', async () => {
  const log: string[] = [];
  let made = 0;
  const kafka = {
    producer: () => {
      const number = ++made;
      return {
        connect: async () => void log.push(`connect ${number}`),
        disconnect: async () => void log.push(`disconnect ${number}`),
        sendBatch: async () => {
          log.push(`send ${number}`);
          if (number === 1) throw new Error('no answer');
        },
      };
    },
  } as unknown as Kafka;
  const one = sink(kafka);
  await one.connect();
  await expect(one.write('t', [{ key: null, value: 'a' }])).rejects.toThrow('no answer');
  await one.write('t', [{ key: null, value: 'a' }]);
  await one.write('t', [{ key: null, value: 'b' }]);
  await one.close();
  expect(log).toEqual(['connect 1', 'send 1', 'disconnect 1', 'connect 2', 'send 2', 'send 2', 'disconnect 2']);
  expect(one.counts).toMatchObject({ records: 2, flushes: 2 });
});
