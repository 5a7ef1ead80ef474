import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RunningBroker, startBroker } from '../../src/broker/broker.js';
import { startBrokerThread } from '../../src/broker/broker-thread.js';
import { kafkaClientFor, until } from '../support/kafka.js';

let folder: string;
const running: RunningBroker[] = [];

beforeEach(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-broker-'));
});
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop()));
  rmSync(folder, { recursive: true, force: true });
});

async function start(options: Parameters<typeof startBroker>[0] = {}): Promise<RunningBroker> {
  const broker = await startBroker({ port: 0, dataDir: folder, ...options });
  running.push(broker);
  return broker;
}

async function restart(broker: RunningBroker): Promise<RunningBroker> {
  await broker.stop();
  running.splice(running.indexOf(broker), 1);
  return start();
}

const addressOf = (broker: { host: string; port: number }): string => `${broker.host}:${broker.port}`;

async function readAll(brokers: string, topic: string, count: number): Promise<string[]> {
  const consumer = kafkaClientFor(brokers).consumer({ groupId: `reader-${Math.random()}`, maxWaitTimeInMs: 100 });
  const seen: string[] = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => void seen.push(String(message.value)) });
  try {
    await until(`${count} records of ${topic}`, () => seen.length >= count);
  } finally {
    await consumer.disconnect();
  }
  return seen;
}

describe('a data directory', () => {
  it('keeps topics, settings, records, offsets and producer ids over a restart', async () => {
    let broker = await start();
    const kafka = kafkaClientFor(addressOf(broker));
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({
      topics: [{ topic: 't', numPartitions: 3, configEntries: [{ name: 'retention.ms', value: '1000000' }] }],
    });
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic: 't', messages: ['a', 'b', 'c'].map((value) => ({ value, partition: 1 })) });
    const committing = kafka.producer({ transactionalId: 'c', idempotent: true, maxInFlightRequests: 1 });
    await committing.connect();
    const transaction = await committing.transaction();
    await transaction.sendOffsets({
      consumerGroupId: 'g',
      topics: [{ topic: 't', partitions: [{ partition: 1, offset: '2' }] }],
    });
    await transaction.commit();
    await Promise.all([producer.disconnect(), committing.disconnect(), admin.disconnect()]);
    broker = await restart(broker);
    const again = kafkaClientFor(addressOf(broker)).admin();
    await again.connect();
    expect((await again.fetchTopicOffsets('t')).map((p) => p.high).sort()).toEqual(['0', '0', '3']);
    const [offsets] = await again.fetchOffsets({ groupId: 'g', topics: ['t'] });
    expect(offsets!.partitions.find((p) => p.partition === 1)!.offset).toBe('2');
    const { resources } = await again.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: 2, name: 't', configNames: ['retention.ms'] }],
    });
    expect(resources[0]!.configEntries[0]!.configValue).toBe('1000000');
    await again.deleteTopics({ topics: ['t'] });
    await again.disconnect();
    broker = await restart(broker);
    const last = kafkaClientFor(addressOf(broker)).admin();
    await last.connect();
    expect(await last.listTopics()).toEqual([]);
    await last.disconnect();
    expect(await readAllOffsets(broker)).toEqual(['-1', '-1', '-1']);
  });

  it('belongs to one broker at a time, also between threads, and is taken over from a process that is gone', async () => {
    await start();
    await expect(startBrokerThread({ port: 0, dataDir: folder })).rejects.toThrow(/IGU_DATA_DIR .*process \d+ uses it/);
    await Promise.all(running.splice(0).map((one) => one.stop()));
    expect(existsSync(path.join(folder, 'lock'))).toBe(false);
    // a process number that lives, but began at another time: it was given out again
    writeFileSync(path.join(folder, 'lock'), JSON.stringify({ pid: process.pid, startedAt: '1' }));
    await start();
  });

  it('that cannot be used is named, and so are a taken port and an address that is not here', async () => {
    const file = path.join(folder, 'file');
    writeFileSync(file, '');
    await expect(startBroker({ port: 0, dataDir: file })).rejects.toThrow(/IGU_DATA_DIR/);
    const broker = await start();
    await expect(startBroker({ port: broker.port })).rejects.toThrow(/IGU_PORT_TAKEN/);
    await expect(startBroker({ port: 0, host: '192.0.2.1' })).rejects.toThrow(/IGU_LISTEN/);
  });

  it('holds every acknowledged record once after kill -9 in the middle of producing', async () => {
    const child = spawn(
      process.execPath,
      ['dist/src/cli/main.js', 'broker', '--port', '0', '--data', folder, '--json'],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    const ended = new Promise((resolve) => child.once('exit', resolve));
    const address = await new Promise<{ host: string; port: number }>((resolve) => {
      child.stdout.once('data', (text: Buffer) =>
        resolve(JSON.parse(text.toString()) as { host: string; port: number }),
      );
    });
    const producer = kafkaClientFor(addressOf(address), 1).producer({
      idempotent: true,
      maxInFlightRequests: 1,
      retry: { retries: 1 },
    });
    await producer.connect();
    const acknowledged: string[] = [];
    let killed = false;
    for (let i = 0; !killed && i < 10_000; i++) {
      const value = `${i}`;
      const sending = producer.send({ topic: 'k', messages: [{ key: 'one', value }] });
      if (i === 300) {
        child.kill('SIGKILL');
        killed = true;
      }
      await sending.then(
        () => acknowledged.push(value),
        () => undefined,
      );
    }
    await ended;
    await producer.disconnect().catch(() => undefined);
    expect(acknowledged.length).toBeGreaterThanOrEqual(300);
    const broker = await start();
    const seen = await readAll(addressOf(broker), 'k', acknowledged.length);
    expect(seen.slice(0, acknowledged.length)).toEqual(acknowledged);
    expect(new Set(seen).size).toBe(seen.length);
  }, 60_000);

  it('finishes a transaction that was decided and not yet carried out, and aborts one that was not decided', async () => {
    let broker = await start();
    const kafka = kafkaClientFor(addressOf(broker));
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: 'tx', numPartitions: 1 }] });
    await admin.disconnect();
    const open = async (transactionalId: string, value: string) => {
      const producer = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
      await producer.connect();
      const transaction = await producer.transaction();
      await transaction.send({ topic: 'tx', messages: [{ value }] });
      return producer;
    };
    const producers = [await open('decided', 'committed'), await open('undecided', 'aborted')];
    await broker.stop();
    running.splice(0);
    await Promise.all(producers.map((one) => one.disconnect().catch(() => undefined)));
    // what the broker writes first when it is told to commit: the decision, with the offsets that go along
    const journal = path.join(folder, 'transactions.journal');
    const lines = readFileSync(journal, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { id?: string; o?: boolean });
    const last = lines.filter((line) => line.id === 'decided' && line.o).at(-1)!;
    appendFileSync(journal, `${JSON.stringify({ ...last, d: true, f: [['g', 'tx/0', '41', null]] })}\n`);
    broker = await start();
    expect(await readAll(addressOf(broker), 'tx', 1)).toEqual(['committed']);
    const check = kafkaClientFor(addressOf(broker)).admin();
    await check.connect();
    const [offsets] = await check.fetchOffsets({ groupId: 'g', topics: ['tx'] });
    expect(offsets!.partitions[0]!.offset).toBe('41');
    await check.disconnect();
    // no open transaction holds readers back
    const after = kafkaClientFor(addressOf(broker)).producer();
    await after.connect();
    await after.send({ topic: 'tx', messages: [{ value: 'later' }] });
    await after.disconnect();
    expect(await readAll(addressOf(broker), 'tx', 2)).toEqual(['committed', 'later']);
  });
});

async function readAllOffsets(broker: RunningBroker): Promise<string[]> {
  const admin = kafkaClientFor(addressOf(broker)).admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: 't', numPartitions: 3 }] });
  const [offsets] = await admin.fetchOffsets({ groupId: 'g', topics: ['t'] });
  await admin.disconnect();
  return offsets!.partitions.map((p) => p.offset);
}

describe('the wire', () => {
  function exchange(port: number, bytes: Buffer): Promise<Buffer> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1' }, () => socket.write(bytes));
      let got = Buffer.alloc(0);
      socket.setTimeout(5_000, () => reject(new Error('no answer')));
      socket.on('data', (chunk: Buffer) => {
        got = Buffer.concat([got, chunk]);
        if (got.length >= 4 && got.length >= 4 + got.readInt32BE(0)) socket.end();
      });
      socket.on('close', () => resolve(got));
      socket.on('error', () => resolve(got));
    });
  }

  const request = (key: number, version: number, body = Buffer.alloc(0)): Buffer => {
    const head = Buffer.alloc(14);
    head.writeInt32BE(10 + body.length, 0);
    head.writeInt16BE(key, 4);
    head.writeInt16BE(version, 6);
    head.writeInt32BE(77, 8);
    head.writeInt16BE(-1, 12);
    return Buffer.concat([head, body]);
  };

  it('answers a too new ApiVersions with error 35 in the layout of version 0, naming what it has', async () => {
    const broker = await start({ dataDir: null });
    const answer = await exchange(broker.port, request(18, 9));
    expect(answer.readInt32BE(4)).toBe(77);
    expect(answer.readInt16BE(8)).toBe(35);
    expect(answer.readInt32BE(10)).toBe(1);
    expect([answer.readInt16BE(14), answer.readInt16BE(16), answer.readInt16BE(18)]).toEqual([18, 0, 2]);
    expect(answer.length).toBe(20);
  });

  it('closes a connection that speaks something else, and goes on with the others', async () => {
    const broker = await start({ dataDir: null });
    const admin = kafkaClientFor(addressOf(broker)).admin();
    await admin.connect();
    const foreign = [
      Buffer.from('GET / HTTP/1.1\r\nHost: x\r\n\r\n'),
      Buffer.from([0xff, 0xff, 0xff, 0xff, 0]),
      Buffer.from([0, 0, 0, 2, 0, 3]),
      request(3, 99),
      request(9999, 0),
      request(3, 1, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
      request(0, 7, Buffer.from([0, 5, 1])),
    ];
    for (const bytes of foreign) expect((await exchange(broker.port, bytes)).length).toBe(0);
    await admin.createTopics({ topics: [{ topic: 'still-here' }] });
    expect(await admin.listTopics()).toEqual(['still-here']);
    await admin.disconnect();
  });

  it('tells clients the address they came in at where it listens on all', async () => {
    const broker = await start({ dataDir: null, host: '0.0.0.0' });
    const admin = kafkaClientFor(`127.0.0.1:${broker.port}`).admin();
    await admin.connect();
    expect((await admin.describeCluster()).brokers).toEqual([{ nodeId: 0, host: '127.0.0.1', port: broker.port }]);
    await admin.disconnect();
    const named = await start({ dataDir: null, advertisedHost: 'localhost' });
    const other = kafkaClientFor(addressOf(named)).admin();
    await other.connect();
    expect((await other.describeCluster()).brokers[0]!.host).toBe('localhost');
    await other.disconnect();
  });

  it('applies changed settings at once', async () => {
    const broker = await start({ dataDir: null });
    const kafka = kafkaClientFor(addressOf(broker));
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: 'small' }] });
    const producer = kafka.producer({ retry: { retries: 0 } });
    await producer.connect();
    const value = 'x'.repeat(5_000);
    await producer.send({ topic: 'small', messages: [{ value }] });
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name: 'small', configEntries: [{ name: 'max.message.bytes', value: '1000' }] }],
    });
    await expect(producer.send({ topic: 'small', messages: [{ value }] })).rejects.toThrow(/larger than the max/);
    await Promise.all([producer.disconnect(), admin.disconnect()]);
  });
});
