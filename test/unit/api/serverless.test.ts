import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, expect, test } from 'vitest';
import { type AsyncInvocation, serverless } from '../../../src/index.js';
import { until } from '../../support/kafka.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-serverless-'));
afterEach(() => serverless.close());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const double = {
  name: 'double',
  runtime: 'javascript',
  memoryMb: 32,
  code: 'export const handle = ({ input }) => input * 2;',
} as const;

test('a function is created, called in both ways, measured, billed and deleted', async () => {
  const made = await serverless.createFunction(double);
  expect(made).toMatchObject({ name: 'double', version: 1 });
  expect((await serverless.createFunction(double)).version).toBe(1);
  await serverless.prewarmFunction(made, { instances: 2 });
  expect((await serverless.getFunctionMetrics(made)).instances).toBe(2);
  const result = await serverless.invokeSync(made, 21);
  expect(result).toMatchObject({ output: 42, cold: false, logs: [] });
  expect(result.durationMs).toBeGreaterThan(0);
  expect(result.memoryUsedMb).toBeGreaterThan(0);
  const ended: AsyncInvocation[] = [];
  const { invocationId } = await serverless.invokeAsync('double', 4, { callback: (call) => ended.push(call) });
  expect(await serverless.waitForInvocation(invocationId)).toMatchObject({ state: 'succeeded', output: 8 });
  await until('the callback', () => ended.length === 1);
  expect(ended[0]).toMatchObject({ invocationId, function: 'double', output: 8, attempts: 1 });
  expect(await serverless.getInvocation(invocationId)).toEqual(ended[0]);
  expect(await serverless.cancelInvocation(invocationId)).toBe(false);
  const metrics = await serverless.getFunctionMetrics(made);
  expect(metrics).toMatchObject({ totalInvocations: 2, successfulInvocations: 2, coldStarts: 0 });
  const hour = 3_600_000;
  const bill = await serverless.getBilling(made, { start: new Date(Date.now() - hour), end: Date.now() + hour });
  expect(bill.invocationCount).toBe(2);
  expect(bill.estimatedCostUsd).toBeCloseTo((2 * 0.2) / 1e6 + bill.gbSeconds * 0.0000166667, 12);
  expect(await serverless.stats()).toMatchObject({ functions: 1, totalInvocations: 2, instances: 2 });
  await serverless.deleteFunction(made);
  await expect(serverless.invokeSync(made)).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
  expect(await serverless.list()).toEqual([]);
});

test('settings make versions with the same code; an alias stays on one', async () => {
  const code = 'export const handle = (event, context) => [process.env.A ?? null, context.version];';
  const f = await serverless.createFunction({ ...double, name: 'f', code });
  await serverless.setAlias(f, 'live', { 1: 1 });
  await serverless.setEnvVar(f, 'A', 'a');
  await serverless.setMemory(f, 64);
  await serverless.setTimeout(f, 5_000);
  await serverless.setConcurrency(f, 4, 40);
  await serverless.setScalingPolicy(f, { maxInstances: 3, targetConcurrency: 0.5, enablePredictiveScaling: false });
  const last = await serverless.addTrigger(f, { type: 'timer', cron: '0 0 1 1 *' });
  expect(last.version).toBe(7);
  expect(last.definition).toMatchObject({
    ...{ memoryMb: 64, timeoutMs: 5_000, concurrency: 4, maxConcurrency: 40, env: { A: 'a' } },
    scaling: { minInstances: 0, maxInstances: 3, targetConcurrency: 0.5, enablePredictiveScaling: false },
    triggers: [{ type: 'timer', timezone: 'UTC' }],
  });
  expect((await serverless.invokeSync(f)).output).toEqual(['a', 7]);
  expect((await serverless.invokeSync(f, 0, { qualifier: 'live' })).output).toEqual([null, 1]);
  await serverless.setEnvVar(f, 'A', undefined);
  expect((await serverless.invokeSync(f)).output).toEqual([null, 8]);
  await serverless.enableColdStartOptimization(f);
  await serverless.deployFunction(f, { code: 'export const handle = () => 1;' });
  expect((await serverless.invokeSync(f)).output).toBe(1);
  expect(await serverless.stats()).toMatchObject({ functions: 1 });
});

test('code comes from files too, TypeScript by its name; WebAssembly as bytes', async () => {
  const file = path.join(folder, 'typed.ts');
  writeFileSync(file, 'export const handle = ({ input }: { input: number }): number => input + 1;');
  for (const code of [{ file }, pathToFileURL(file)]) {
    const typed = await serverless.createFunction({ ...double, name: 'typed', code });
    expect((await serverless.invokeSync(typed, 1)).output).toBe(2);
  }
  // exports nothing that could be called
  const module = Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0);
  await expect(serverless.createFunction({ name: 'w', runtime: 'wasm', code: module })).rejects.toMatchObject({
    code: 'IGU_FUNCTION_CODE',
  });
});

test('HTTP triggers are served, and events dispatched', async () => {
  const { url } = await serverless.listen({ port: 0 });
  const code = 'export const handle = (event) => { console.log(event.trigger); return event.params ?? null; };';
  await serverless.createFunction({
    ...{ ...double, name: 'hello', code },
    triggers: [
      { type: 'http', method: 'GET', path: '/hello/:name' },
      { type: 'event', eventType: 'greeting' },
    ],
  });
  expect(await (await fetch(`${url}/functions/hello/Ada`)).json()).toEqual({ name: 'Ada' });
  await serverless.publishEvent({ specversion: '1.0', id: '1', source: 'test', type: 'greeting' });
  await until('the event', async () => (await serverless.getLogs('hello')).some(({ line }) => line === 'info event'));
});

test('what is wrong is said', async () => {
  const wrong = { ...double, memoryMb: 1 };
  await expect(serverless.createFunction(wrong)).rejects.toThrow(/IGU_CONFIG function double: memoryMb: /);
  await expect(serverless.createFunction({ ...double, code: { file: '/nowhere.js' } })).rejects.toMatchObject({
    code: 'IGU_FILE_MISSING',
  });
  await expect(serverless.createFunction({ ...double, triggers: [{ type: 'stream', topic: 't' }] })).rejects.toThrow(
    /IGU_USAGE stream and queue triggers need Kafka/,
  );
  await expect(serverless.connect({})).rejects.toMatchObject({ code: 'IGU_USAGE' });
  await serverless.close();
  await serverless.connect({ secret: () => 'known' });
  const reads = { ...double, code: 'export const handle = () => process.env.S;', secrets: { S: 's' } };
  expect((await serverless.invokeSync(await serverless.createFunction(reads))).output).toBe('known');
});

test('a time limit or tries that cannot be are refused before anything runs', async () => {
  const made = await serverless.createFunction(double);
  for (const timeout of ['5s', Number.NaN, 0, -1] as number[]) {
    await expect(serverless.invokeSync(made, 1, { timeout })).rejects.toThrow(/^IGU_USAGE the time limit of a call is/);
    await expect(serverless.invokeAsync(made, 1, { timeout })).rejects.toThrow(
      /^IGU_USAGE the time limit of a call is/,
    );
  }
  for (const attempts of [0, 'x'] as number[])
    await expect(serverless.invokeAsync(made, 1, { attempts })).rejects.toThrow(/^IGU_USAGE tries of a call: /);
  for (const instances of [-3, 'x', 2_000] as number[])
    await expect(serverless.prewarmFunction(made, { instances })).rejects.toThrow(
      /: a whole number from 0 to 1000, not /,
    );
  expect((await serverless.getFunctionMetrics(made)).totalInvocations).toBe(0);
});

test('a route that another function has is refused, whatever the names; it is free when that one lets it go', async () => {
  const trigger = (path: string, method: 'GET' | 'POST' = 'GET') => ({ type: 'http', method, path }) as const;
  const has = (name: string, ...triggers: ReturnType<typeof trigger>[]) =>
    serverless.createFunction({ ...double, name, triggers });
  await has('zebra', trigger('/x/:id'));
  const refused = /IGU_FUNCTION_ROUTE HTTP trigger GET \/x\/:name of ant cannot be served: zebra has it already/;
  await expect(has('ant', trigger('/x/:name'))).rejects.toThrow(refused);
  expect((await serverless.list()).map(({ name }) => name)).toEqual(['zebra']);
  await has('ant', trigger('/x/:name', 'POST'), trigger('/x/1'));
  await expect(serverless.addTrigger('ant', trigger('/x/:name'))).rejects.toThrow(refused);
  // who has it may change everything else, and give it away
  await serverless.setMemory('zebra', 64);
  await serverless.deployFunction('zebra', { triggers: [trigger('/z')] });
  await serverless.addTrigger('ant', trigger('/x/:name'));
  await serverless.deleteFunction('zebra');
  await has('bee', trigger('/z'));
});

test('what no call can be made of is said by code, before anything runs', async () => {
  type Anything = Parameters<typeof serverless.invokeSync>[0] & Parameters<typeof serverless.createFunction>[0] & never;
  const nothing = undefined as Anything;
  const given = (value: unknown) => value as Anything;
  const refused = async (asked: Promise<unknown>, how: RegExp) => {
    const began = performance.now();
    await expect(asked).rejects.toThrow(how);
    expect(performance.now() - began).toBeLessThan(1_000);
  };
  await refused(serverless.connect({ brokers: [] }), /^IGU_CONFIG serverless\.connect: brokers: at least one broker/);
  await refused(serverless.connect(given({ broker: ['a:1'] })), /^IGU_CONFIG serverless\.connect: .*"broker"/);
  await refused(serverless.connect({ brokers: ['127.0.0.1:1'] }), /^IGU_BROKER_UNREACHABLE .* at 127\.0\.0\.1:1; /);
  await refused(serverless.createFunction(nothing), /^IGU_CONFIG createFunction: /);
  await refused(serverless.createFunction(given({ name: 'f', runtime: 'javascript' })), /: code is needed: its text, /);
  await refused(
    serverless.createFunction({ ...double, code: new URL('http://127.0.0.1/f.js') }),
    /^IGU_CONFIG createFunction: code: code is needed/,
  );
  await refused(serverless.deployFunction('double', nothing), /^IGU_CONFIG deployFunction: /);
  await refused(
    serverless.invokeSync(nothing),
    /^IGU_USAGE a function is given by its name, .* not as undefined; see --help/,
  );
  await refused(serverless.invokeSync(given({ name: 7 })), /^IGU_USAGE a function is given by its name/);
  await refused(serverless.invokeSync('double', 1, given({ signal: 'now' })), /^IGU_CONFIG invokeSync: signal: /);
  await refused(serverless.invokeAsync('double', 1, given({ callback: 1 })), /^IGU_CONFIG invokeAsync: callback: /);
  await refused(serverless.setScalingPolicy('double', nothing), /^IGU_CONFIG setScalingPolicy: /);
  await refused(serverless.setAlias('double', nothing, nothing), /^IGU_CONFIG setAlias: alias: /);
  await refused(serverless.setEnvVar('double', nothing, 'a'), /^IGU_CONFIG setEnvVar: variable: /);
  await refused(serverless.listen(given({ port: 'abc' })), /^IGU_CONFIG listen: port: /);
  await refused(serverless.listen({ port: 70_000 }), /^IGU_CONFIG listen: port: /);
  await refused(
    serverless.publishEvent(given({ specversion: '1.0', id: '1', type: 't' })),
    /^IGU_USAGE CloudEvent: source is missing/,
  );
});

test('a period is said by Dates, numbers or texts; what is no time is refused', async () => {
  const made = await serverless.createFunction(double);
  await serverless.invokeSync(made, 1);
  const calls = async (start: Date | number | string, end?: Date | number | string) =>
    (await serverless.getBilling(made, { start, ...(end === undefined ? {} : { end }) })).invocationCount;
  const day = (from: number) => new Date(Date.now() + from * 86_400_000);
  const text = (from: number) => day(from).toISOString();
  expect(await calls(text(-1))).toBe(1);
  expect(await calls(text(-1).slice(0, 10), text(2).slice(0, 10))).toBe(1);
  expect(await calls(day(-1), day(1))).toBe(1);
  expect(await calls(day(-1).getTime(), text(1))).toBe(1);
  expect(await calls(text(1), text(2))).toBe(0);
  for (const wrong of [new Date('x'), Number.NaN, 'yesterday', 'foo 1', ''])
    await expect(calls(wrong)).rejects.toThrow(/^IGU_USAGE start: a Date, ms since 1970 or a text such as .*, not /);
  await expect(calls(text(2), text(1))).rejects.toThrow(/^IGU_USAGE the period ends \(.*\) before it starts \(.*\);/);
});
