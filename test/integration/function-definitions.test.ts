import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { wallClock } from '../../src/clock.js';
import { functionSchema } from '../../src/functions/definition.js';
import { aliasedRecord, deployedRecord, type FunctionRecord } from '../../src/functions/function-record.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { ensureTopics } from '../../src/kafka/admin.js';
import { readPartition } from '../../src/kafka/partition-reader.js';
import { deployedFunctions } from '../../src/operators/deployed-functions.js';
import { type FunctionDefinitions, keptDefinitions } from '../../src/operators/function-definitions.js';
import { kafkaClientFor, kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

let kafka: Awaited<ReturnType<typeof kafkaUnderTest>>;
beforeAll(async () => {
  kafka = await kafkaUnderTest();
});
afterAll(() => kafka.stop());

const errors: unknown[] = [];

const instance = {
  invoke: async () => ({ output: 1, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
  usable: true,
  memoryBytes: () => 1,
  close: async () => undefined,
};

/** One process: what it was told, in order, and its code of the newest version. */
async function process(topic: string) {
  const told: string[] = [];
  const code = new Map<string, Uint8Array>();
  const definitions = await keptDefinitions({
    connection: { brokers: kafka.brokers.split(',') },
    topic,
    onRecord: (name, record, codeOf) => {
      told.push(record ? `${name}:${record.newest}` : `${name} deleted`);
      if (record) code.set(name, codeOf(record.versions[record.newest]!.code.sha256));
      else code.delete(name);
    },
    onError: (error) => errors.push(error),
  });
  return { definitions, told, code };
}

function deployment(name: string, code: string | Uint8Array) {
  const definition = functionSchema.parse({ name, runtime: 'javascript', code: { inline: 'x' } });
  return { definition, code: typeof code === 'string' ? Buffer.from(code) : code };
}

async function deploy(definitions: FunctionDefinitions, name: string, code: string | Uint8Array): Promise<number> {
  let made: FunctionRecord | undefined;
  await definitions.change(name, (before) => {
    const given = deployment(name, code);
    made = deployedRecord(before, given, 1);
    return { record: made, code: given.code };
  });
  return made!.newest;
}

test('every process has every function with its code, in one order, after a restart too; deploying the same changes nothing', async () => {
  const topic = uniqueName('functions');
  const a = await process(topic);
  const b = await process(topic);
  // three chunks
  const large = randomBytes(1_200_000);
  expect(await deploy(a.definitions, 'f', large)).toBe(1);
  expect(await deploy(b.definitions, 'f', large)).toBe(1);
  expect(await deploy(b.definitions, 'g', 'one')).toBe(1);
  expect(await deploy(a.definitions, 'g', 'two')).toBe(2);
  await a.definitions.change('f', (before) => ({ record: aliasedRecord(before!, 'live', { 1: 1 }) }));
  expect(a.definitions.records.get('f')!.aliases).toEqual({ live: { 1: 1 } });
  await b.definitions.change('f', () => ({ record: undefined }));
  await until('the deletion', () => a.told.length === 5);
  expect(a.told).toEqual(['f:1', 'g:1', 'g:2', 'f:1', 'f deleted']);
  expect(b.told).toEqual(a.told);
  expect(Buffer.from(a.code.get('g')!).toString()).toBe('two');
  await a.definitions.stop();
  await b.definitions.stop();

  // what is kept of code is what is used
  const keys = new Map<string, number>();
  await readPartition(kafkaClientFor(kafka.brokers), topic, 0, ({ key, value }) => {
    if (value) keys.set(key!.toString().split('/')[0]!, value.length);
    else keys.delete(key!.toString());
  });
  expect([...keys]).toContainEqual(['code', 3]);

  const c = await process(topic);
  expect([...c.definitions.records.keys()]).toEqual(['g']);
  expect(Buffer.from(c.code.get('g')!).toString()).toBe('two');
  expect(await deploy(c.definitions, 'g', 'three')).toBe(3);
  expect(await deploy(c.definitions, 'f', 'again')).toBe(1);
  await c.definitions.stop();
  expect(errors).toEqual([]);
}, 60_000);

test('processes that deploy at the same time never give out a number twice', async () => {
  const topic = uniqueName('functions');
  const three = await Promise.all([process(topic), process(topic), process(topic)]);
  const numbers = await Promise.all(
    three.flatMap(({ definitions }, i) => [0, 1, 2].map((n) => deploy(definitions, 'f', `code ${i} ${n}`))),
  );
  expect(numbers.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  await until('all to be told', () => three.every(({ told }) => told.length === 9));
  for (const { told, code } of three) {
    expect(told).toEqual(three[0]!.told);
    expect(code.get('f')).toEqual(three[0]!.code.get('f'));
  }
  await Promise.all(three.map(({ definitions }) => definitions.stop()));
  expect(errors).toEqual([]);
}, 60_000);

test('a function that comes from another file now is the same version; what is deployed by hand stays the file’s', () => {
  const given = deployment('f', 'code');
  const a = { host: 'a', file: '/a/f.yaml' };
  const b = { host: 'b', file: '/a/f.yaml' };
  const byHand = deployedRecord(undefined, given, 1);
  const first = deployedRecord(byHand, given, 2, a);
  expect(first).toEqual({ ...byHand, origin: a });
  const second = deployedRecord(first, given, 3, b);
  expect(second).toEqual({ ...byHand, origin: b });
  expect(deployedRecord(second, given, 4, b)).toBe(second);
  expect(deployedRecord(second, given, 5)).toBe(second);
  expect(deployedRecord(second, deployment('f', 'other'), 6)).toMatchObject({ newest: 2 });
  expect(deployedRecord(second, deployment('f', 'other'), 6)).not.toHaveProperty('origin');
});

test('what another process deployed and this one lacked a secret for is served once it is deployed again with it', async () => {
  const topic = uniqueName('functions');
  const told: unknown[] = [];
  async function deploying(secrets: Map<string, string>) {
    const service = new FunctionService({
      clock: wallClock,
      secret: (name) => secrets.get(name),
      factory: () => ({ start: async () => instance }),
    });
    const kept = { connection: { brokers: kafka.brokers.split(',') }, topic };
    const deployed = await deployedFunctions({
      service,
      kept,
      onChange: () => undefined,
      onError: (error) => told.push(error),
    });
    return { service, deployed };
  }
  const given = deployment('f', 'one');
  const needing = { ...given, definition: { ...given.definition, secrets: { KEY: 'key' } } };
  const secrets = new Map<string, string>();
  const a = await deploying(new Map([['key', 'hidden']]));
  const b = await deploying(secrets);
  await a.deployed.deploy(needing);
  await until('the other process', () => told.length > 0);
  expect(told).toMatchObject([{ code: 'IGU_FUNCTION_CODE' }]);
  expect(() => b.service.describe('f')).toThrow(/IGU_FUNCTION_NOT_FOUND/);
  await expect(b.deployed.deploy(needing)).rejects.toMatchObject({ code: 'IGU_FUNCTION_CODE' });
  secrets.set('key', 'hidden');
  expect(await b.deployed.deploy(needing)).toMatchObject({ name: 'f', version: 1 });
  expect(await b.service.invoke('f', { trigger: 'call', input: 0 })).toMatchObject({ output: 1 });
  expect(a.service.describe('f').version).toBe(1);
  for (const { service, deployed } of [a, b]) {
    await deployed.stop();
    await service.close();
  }
});

test('code and definitions have bounds', async () => {
  const { definitions } = await process(uniqueName('functions'));
  await expect(deploy(definitions, 'f', new Uint8Array(33_554_433))).rejects.toMatchObject({ code: 'IGU_LIMIT' });
  expect(definitions.records.size).toBe(0);
  await definitions.stop();
});

test('processes that make the same topic larger at the same time all find it so', async () => {
  const topic = uniqueName('growing');
  const connection = { brokers: kafka.brokers.split(',') };
  await ensureTopics(connection, [{ topic, partitions: 1 }]);
  const wanted = [{ topic, partitions: 4, grows: true }];
  const found = await Promise.all(Array.from({ length: 6 }, () => ensureTopics(connection, wanted)));
  expect(found.map((partitions) => partitions.get(topic))).toEqual([4, 4, 4, 4, 4, 4]);
});

test('of processes that give one route to two functions at the same time one is refused', async () => {
  const topic = uniqueName('functions');
  const begin = async () => {
    const service = new FunctionService({ clock: wallClock, factory: () => ({ start: async () => instance }) });
    const kept = { connection: { brokers: kafka.brokers.split(',') }, topic };
    return deployedFunctions({ service, kept, onChange: () => undefined, onError: (error) => errors.push(error) });
  };
  const processes = await Promise.all([begin(), begin()]);
  const outcomes = await Promise.allSettled(
    processes.map((one, i) => {
      const given = deployment(`f${i}`, 'code');
      const triggers = [{ type: 'http', method: '*', path: '/x', maxBodyBytes: 1 } as const];
      return one.deploy({ ...given, definition: { ...given.definition, triggers } });
    }),
  );
  expect(outcomes.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
  expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'IGU_FUNCTION_ROUTE' },
  });
  expect(processes[0]!.records.size).toBe(1);
  await Promise.all(processes.map((one) => one.stop()));
  expect(errors).toEqual([]);
}, 60_000);
