import type { Admin, Consumer, Kafka, KafkaMessage } from 'kafkajs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let broker: Awaited<ReturnType<typeof kafkaUnderTest>>;
let kafka: Kafka;
let admin: Admin;
const open: { disconnect(): Promise<void> }[] = [];

beforeAll(async () => {
  broker = await kafkaUnderTest();
  kafka = kafkaClientFor(broker.brokers);
  admin = kafka.admin();
  await admin.connect();
});
afterEach(async () => {
  await Promise.all(open.splice(0).map((one) => one.disconnect()));
});
afterAll(async () => {
  await admin.disconnect();
  await broker.stop();
});

async function topic(partitions = 1, configEntries: { name: string; value: string }[] = []): Promise<string> {
  const name = uniqueName('topic');
  await admin.createTopics({
    topics: [{ topic: name, numPartitions: partitions, configEntries }],
    waitForLeaders: true,
  });
  return name;
}

async function read(
  name: string,
  count: number,
  options: { readUncommitted?: boolean; groupId?: string } = {},
): Promise<KafkaMessage[]> {
  const consumer = kafka.consumer({
    groupId: options.groupId ?? uniqueName('group'),
    maxWaitTimeInMs: 200,
    readUncommitted: options.readUncommitted ?? false,
  });
  const seen: KafkaMessage[] = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [name], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => void seen.push(message) });
  try {
    await until(`${count} messages of ${name}`, () => seen.length >= count);
  } finally {
    await consumer.disconnect();
  }
  return seen;
}

async function producer(options: Parameters<Kafka['producer']>[0] = {}): Promise<ReturnType<Kafka['producer']>> {
  const one = kafka.producer(options);
  await one.connect();
  open.push(one);
  return one;
}

const texts = (messages: readonly KafkaMessage[]): string[] => messages.map((m) => String(m.value));

describe('producing and reading', () => {
  it('gives back keys, values, headers and times in order, whatever the acks', async () => {
    const name = await topic();
    const one = await producer();
    const [first] = await one.send({
      topic: name,
      acks: -1,
      messages: [{ key: 'k', value: 'a', headers: { h: 'x' }, timestamp: '1700000000000' }],
    });
    expect(first).toMatchObject({ topicName: name, partition: 0, errorCode: 0, baseOffset: '0' });
    await one.send({ topic: name, acks: 1, messages: [{ value: 'b' }] });
    await one.send({ topic: name, acks: 0, messages: [{ value: 'c' }] });
    const messages = await read(name, 3);
    expect(texts(messages)).toEqual(['a', 'b', 'c']);
    expect(messages[0]).toMatchObject({ offset: '0', timestamp: '1700000000000' });
    expect(String(messages[0]?.key)).toBe('k');
    expect(String(messages[0]?.headers?.h)).toBe('x');
  });

  it('reads many compressed batches completely', async () => {
    const name = await topic();
    const one = await producer();
    for (let b = 0; b < 10; b++) {
      await one.send({
        topic: name,
        compression: 1,
        messages: Array.from({ length: 500 }, (_, i) => ({ value: `${b * 500 + i}` })),
      });
    }
    const messages = await read(name, 5000);
    expect(texts(messages)).toEqual(Array.from({ length: 5000 }, (_, i) => `${i}`));
  });

  it('creates a topic on first use', async () => {
    const name = uniqueName('auto');
    const one = await producer({ allowAutoTopicCreation: true });
    await one.send({ topic: name, messages: [{ value: 'x' }] });
    expect(await admin.listTopics()).toContain(name);
  });

  it('finds offsets by time', async () => {
    const name = await topic();
    const one = await producer();
    for (const time of [1000, 2000, 3000])
      await one.send({ topic: name, messages: [{ value: `${time}`, timestamp: `${time}` }] });
    expect(await admin.fetchTopicOffsetsByTimestamp(name, 1500)).toEqual([{ partition: 0, offset: '1' }]);
    expect(await admin.fetchTopicOffsets(name)).toEqual([{ partition: 0, offset: '3', high: '3', low: '0' }]);
  });
});

describe('consumer groups', () => {
  it('shares partitions between two members, moves them when one leaves, and goes on from the committed offsets', async () => {
    const name = await topic(4);
    const groupId = uniqueName('group');
    const seen: string[] = [];
    const assigned = new Map<string, number[]>();
    const member = async (label: string): Promise<Consumer> => {
      const consumer = kafka.consumer({
        groupId,
        maxWaitTimeInMs: 200,
        heartbeatInterval: 200,
        sessionTimeout: 10_000,
      });
      consumer.on(
        consumer.events.GROUP_JOIN,
        ({ payload }) => void assigned.set(label, payload.memberAssignment[name] ?? []),
      );
      await consumer.connect();
      await consumer.subscribe({ topics: [name], fromBeginning: true });
      await consumer.run({
        autoCommitInterval: 100,
        eachMessage: async ({ message }) => void seen.push(String(message.value)),
      });
      return consumer;
    };
    const first = await member('first');
    await until('the first member has all', () => assigned.get('first')?.length === 4);
    const second = await member('second');
    await until('both have two', () => assigned.get('first')?.length === 2 && assigned.get('second')?.length === 2);
    const one = await producer();
    await one.send({
      topic: name,
      messages: Array.from({ length: 40 }, (_, i) => ({ value: `${i}`, partition: i % 4 })),
    });
    await until('all 40 are read', () => seen.length >= 40);
    const { groups } = await admin.describeGroups([groupId]);
    expect(groups[0]).toMatchObject({ state: 'Stable', protocolType: 'consumer' });
    expect(groups[0]?.members.length).toBe(2);
    await second.disconnect();
    await until('the first member has all again', () => assigned.get('first')?.length === 4);
    await one.send({
      topic: name,
      messages: Array.from({ length: 40 }, (_, i) => ({ value: `${40 + i}`, partition: i % 4 })),
    });
    await until('the other 40 are read', () => new Set(seen).size === 80);
    await first.disconnect();
    const [offsets] = await admin.fetchOffsets({ groupId, topics: [name] });
    expect(offsets?.partitions.map((p) => p.offset)).toEqual(['20', '20', '20', '20']);
    expect((await admin.listGroups()).groups.map((g) => g.groupId)).toContain(groupId);
    await admin.deleteGroups([groupId]);
    expect((await admin.listGroups()).groups.map((g) => g.groupId)).not.toContain(groupId);
  });
});

describe('admin', () => {
  it('adds partitions, changes settings, deletes records and topics', async () => {
    const name = await topic(1, [{ name: 'cleanup.policy', value: 'compact' }]);
    await admin.createPartitions({ topicPartitions: [{ topic: name, count: 3 }] });
    const metadata = await admin.fetchTopicMetadata({ topics: [name] });
    expect(metadata.topics[0]?.partitions.length).toBe(3);
    const setting = async (): Promise<string | undefined> => {
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: 2, name, configNames: ['cleanup.policy'] }],
      });
      return resources[0]?.configEntries.find((e) => e.configName === 'cleanup.policy')?.configValue;
    };
    expect(await setting()).toBe('compact');
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name, configEntries: [{ name: 'cleanup.policy', value: 'delete' }] }],
    });
    await until('the setting is changed', async () => (await setting()) === 'delete');
    const one = await producer();
    await one.send({ topic: name, messages: Array.from({ length: 5 }, (_, i) => ({ value: `${i}`, partition: 0 })) });
    await admin.fetchTopicOffsets(name); // kafkajs looks for the leaders in what it knows already
    await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '3' }] });
    expect((await admin.fetchTopicOffsets(name)).find((p) => p.partition === 0)).toMatchObject({ low: '3', high: '5' });
    await admin.deleteTopics({ topics: [name] });
    await until('the topic is gone', async () => !(await admin.listTopics()).includes(name));
  });

  it('refuses what makes no sense with the error of Kafka', async () => {
    const name = await topic(2);
    expect(await admin.createTopics({ topics: [{ topic: name }] })).toBe(false);
    await expect(admin.createTopics({ topics: [{ topic: 'no such/name' }] })).rejects.toThrow();
    await expect(admin.createPartitions({ topicPartitions: [{ topic: name, count: 1 }] })).rejects.toThrow();
    const cluster = await admin.describeCluster();
    expect(cluster.brokers.length).toBe(1);
    expect(cluster.controller).toBe(cluster.brokers[0]?.nodeId);
  });
});

describe('idempotence and transactions', () => {
  it('writes with an idempotent producer, each record once and in order', async () => {
    const name = await topic();
    const one = await producer({ idempotent: true, maxInFlightRequests: 1 });
    for (let i = 0; i < 20; i++) await one.send({ topic: name, messages: [{ value: `${i}` }] });
    expect(texts(await read(name, 20))).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
  });

  it('hides what was aborted from read_committed and shows it to read_uncommitted', async () => {
    const name = await topic();
    const one = await producer({ transactionalId: uniqueName('tx'), idempotent: true, maxInFlightRequests: 1 });
    const aborted = await one.transaction();
    await aborted.send({ topic: name, messages: [{ value: 'aborted' }] });
    await aborted.abort();
    const committed = await one.transaction();
    await committed.send({ topic: name, messages: [{ value: 'committed' }] });
    await committed.commit();
    expect(texts(await read(name, 1))).toEqual(['committed']);
    expect(texts(await read(name, 2, { readUncommitted: true }))).toEqual(['aborted', 'committed']);
  });

  it('keeps an open transaction from read_committed until it ends', async () => {
    const name = await topic();
    const one = await producer({ transactionalId: uniqueName('tx'), idempotent: true, maxInFlightRequests: 1 });
    const plain = await producer();
    const transaction = await one.transaction();
    await transaction.send({ topic: name, messages: [{ value: 'in the transaction' }] });
    await plain.send({ topic: name, messages: [{ value: 'after it' }] });
    expect(texts(await read(name, 2, { readUncommitted: true }))).toEqual(['in the transaction', 'after it']);
    const reading = read(name, 2);
    await transaction.commit();
    expect(texts(await reading)).toEqual(['in the transaction', 'after it']);
  });

  it('commits offsets with the transaction, and not with an aborted one', async () => {
    const name = await topic();
    const groupId = uniqueName('group');
    const one = await producer({ transactionalId: uniqueName('tx'), idempotent: true, maxInFlightRequests: 1 });
    const send = async (offset: string, commit: boolean): Promise<string | undefined> => {
      const transaction = await one.transaction();
      await transaction.send({ topic: name, messages: [{ value: offset }] });
      await transaction.sendOffsets({
        consumerGroupId: groupId,
        topics: [{ topic: name, partitions: [{ partition: 0, offset }] }],
      });
      await (commit ? transaction.commit() : transaction.abort());
      const [offsets] = await admin.fetchOffsets({ groupId, topics: [name] });
      return offsets?.partitions[0]?.offset;
    };
    expect(await send('7', false)).toBe('-1');
    const committed = await send('9', true);
    // a real Kafka answers the offset a moment after the commit
    if (committed !== '9')
      await until(
        'the offset is committed',
        async () => (await admin.fetchOffsets({ groupId, topics: [name] }))[0]?.partitions[0]?.offset === '9',
      );
  });

  it('fences the older producer with the same transactional id', async () => {
    const name = await topic();
    const transactionalId = uniqueName('tx');
    const options = { transactionalId, idempotent: true, maxInFlightRequests: 1, retry: { retries: 1 } };
    const older = await producer(options);
    const stale = await older.transaction();
    await stale.send({ topic: name, messages: [{ value: 'stale' }] });
    const newer = await producer(options);
    const fresh = await until('the newer producer begins', async () => newer.transaction().catch(() => undefined));
    await fresh.send({ topic: name, messages: [{ value: 'fresh' }] });
    await fresh.commit();
    await expect(stale.commit()).rejects.toThrow();
    expect(texts(await read(name, 1))).toEqual(['fresh']);
  });
});
