import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { functionSchema } from '../../../src/functions/definition.js';
import { type InstanceFactories, instanceFactories } from '../../../src/functions/instance-factories.js';
import type { FunctionEvent, FunctionInstance, InvocationContext } from '../../../src/functions/invocation.js';

const all: InstanceFactories[] = [];
const started: FunctionInstance[] = [];
let factories = made();
afterEach(async () => {
  await Promise.all(started.splice(0).map((instance) => instance.close()));
});
afterAll(() => Promise.all(all.map((one) => one.close())));

function made(): InstanceFactories {
  const one = instanceFactories({ warmWorkers: 1 });
  all.push(one);
  return one;
}

/** Workers that no other test has had to do with. */
function anew(): void {
  factories = made();
}

/** A function that shares workers with the others here. */
function functionOf(name: string, code: string, env: Record<string, string> = {}) {
  const definition = functionSchema.parse({
    name,
    runtime: 'javascript',
    code: { inline: code },
    isolation: 'shared',
    memoryMb: 64,
  });
  const factory = factories.of({ definition, code: Buffer.from(code) }, env);
  return async () => {
    const instance = await factory.start();
    started.push(instance);
    return instance;
  };
}

const within = (ms: number): InvocationContext => ({
  function: 'f',
  version: 1,
  invocationId: 'i',
  attempt: 1,
  deadline: Date.now() + ms,
});
function call(instance: FunctionInstance, input: unknown, ms = 10_000) {
  const event: FunctionEvent = { trigger: 'call', input };
  return instance.invoke(event, within(ms));
}

/** Which thread it runs in. */
const WHERE = `import { threadId } from 'node:worker_threads';
let calls = 0;
export const handle = () => [threadId, ++calls];`;
const where = async (instance: FunctionInstance) => (await call(instance, 0)).output as [number, number];

/** Instances of one function in the worker that the given one lives in. */
async function neighbours(
  instance: FunctionInstance,
  start: () => Promise<FunctionInstance>,
): Promise<FunctionInstance> {
  const [thread] = await where(instance);
  for (let i = 0; i < 8; i++) {
    const other = await start();
    if ((await where(other))[0] === thread) return other;
  }
  throw new Error('no instance came to live there');
}

/** As `WHERE` says, unless it is given code to run. */
const WHERE_OR = `import { threadId } from 'node:worker_threads';
let calls = 0;
export const handle = ({ input }) => input ? new Function('input', input)() : [threadId, ++calls];`;

describe('instances in a shared worker', () => {
  // three in two workers: at least two of them share one
  test('have modules, environments and logs of their own', async () => {
    const code = `import { env } from 'node:process';
      import { setTimeout as sleep } from 'node:timers/promises';
      const atLoad = { ...process.env };
      let calls = 0;
      export async function handle({ input }, { log }) {
        log.info('before', input);
        await sleep(5);
        console.log('after', process.env.SECRET);
        process.env.LEFT = input;
        return { atLoad, now: { ...process.env }, imported: env.SECRET, names: Object.keys(env), calls: ++calls };
      }`;
    const [a, b] = [
      await functionOf('a', code, { SECRET: 'of a' })(),
      await functionOf('b', code, { SECRET: 'of b', OTHER: 'x' })(),
    ];
    const c = await functionOf('c', code)();
    const [ofA, ofB, ofC] = await Promise.all([call(a, 'one'), call(b, 'two'), call(c, 'three')]);
    expect(ofA.output).toEqual({
      atLoad: { SECRET: 'of a' },
      now: { SECRET: 'of a', LEFT: 'one' },
      imported: 'of a',
      names: ['SECRET', 'LEFT'],
      calls: 1,
    });
    expect(ofB.output).toMatchObject({ now: { SECRET: 'of b', OTHER: 'x', LEFT: 'two' }, imported: 'of b', calls: 1 });
    expect(ofC.output).toMatchObject({ atLoad: {}, now: { LEFT: 'three' }, calls: 1 });
    expect(ofA.logs).toEqual(['info before one', 'info after of a']);
    expect(ofB.logs).toEqual(['info before two', 'info after of b']);
    expect(ofA.memoryUsedMb).toBeGreaterThan(1);
  });

  test('leave nothing where another would find it by accident', async () => {
    const start = functionOf('a', WHERE_OR);
    const instance = await start();
    for (const code of [
      'globalThis.left = 1',
      'Object.prototype.left = 1',
      'Array.prototype.left = 1',
      'JSON.left = 1',
      'process.env = {}',
    ]) {
      await expect(call(instance, `'use strict'; ${code}`), code).rejects.toMatchObject({
        code: 'IGU_FUNCTION_FAILED',
      });
    }
    // what Node itself puts there is there
    expect((await call(instance, "return fetch('data:,there').then((answer) => answer.text())")).output).toBe('there');
  });

  test('live in a few threads, and none starts for an instance', async () => {
    const functions = await Promise.all(Array.from({ length: 20 }, (_, i) => functionOf(`f${i}`, WHERE)()));
    const threads = new Set((await Promise.all(functions.map(where))).map(([thread]) => thread));
    expect(threads.size).toBe(2);
  });

  test('one of which hangs: its call is timed out, the others go on elsewhere, and it lives alone from then on', async () => {
    anew();
    const startHanging = functionOf('hangs', WHERE_OR);
    const startOther = functionOf('other', WHERE_OR);
    const hanging = await startHanging();
    const other = await neighbours(hanging, startOther);
    const [before] = await where(other);
    const waits = call(other, 'return new Promise((resolve) => setTimeout(resolve, 60_000))').catch((error) => error);
    const hung = call(hanging, 'console.log("before"); for (;;);', 700).catch((error) => error);
    const began = performance.now();
    // not begun: it does not wait for the deadline of the one that hangs
    const [moved, calls] = await where(other);
    expect(performance.now() - began).toBeLessThan(600);
    expect(calls).toBe(1);
    expect(moved).not.toBe(before);
    expect(await hung).toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT', cause: { logs: ['info before'] } });
    // begun: it may be made again
    expect(await waits).toMatchObject({ code: 'IGU_FUNCTION_INTERRUPTED', retriable: true });
    const alone = await where(hanging);
    expect(alone[1]).toBe(1);
    const second = await where(await startHanging());
    const companions = await Promise.all(Array.from({ length: 6 }, async () => (await where(await startOther()))[0]));
    expect(companions).not.toContain(alone[0]);
    expect(companions).not.toContain(second[0]);
    expect(alone[0]).not.toBe(second[0]);
    // and hangs alone
    const again = call(hanging, 'for (;;);', 100).catch((error) => error);
    expect((await where(other))[0]).toBe(moved);
    expect(await again).toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect((await where(other))[0]).toBe(moved);
  });

  test('one of which hangs between two turns is known too', async () => {
    anew();
    const hanging = await functionOf('hangs', WHERE_OR)();
    const startOther = functionOf('other', WHERE_OR);
    const other = await neighbours(hanging, startOther);
    const waits = call(other, 'return new Promise((resolve) => setTimeout(resolve, 60_000))').catch((error) => error);
    const hung = call(hanging, 'return new Promise((r) => setTimeout(r, 5)).then(() => { for (;;); })', 400);
    await expect(hung).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect(await waits).toMatchObject({ code: 'IGU_FUNCTION_INTERRUPTED' });
    // it did nothing: it lives with others again
    const [thread] = await where(other);
    expect(await Promise.all([startOther(), startOther()].map(async (one) => (await where(await one))[0]))).toContain(
      thread,
    );
  });

  test('one of which computes long keeps its call, but lives alone from then on', async () => {
    anew();
    const computing = await functionOf('computes', WHERE_OR)();
    const other = await neighbours(computing, functionOf('other', WHERE_OR));
    const [before] = await where(computing);
    const waits = call(other, 'return new Promise((resolve) => setTimeout(resolve, 10_000))', 400).catch(
      (error) => error,
    );
    const code = 'const until = Date.now() + 1_200; while (Date.now() < until); return "done"';
    expect((await call(computing, code)).output).toBe('done');
    // its time was over before the thread answered; it was not stopped for that
    expect(await waits).toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect(await where(computing)).not.toContain(before);
  });

  test('that are stopped in the middle of a call end it', async () => {
    anew();
    const instance = await functionOf('f', WHERE_OR)();
    const waits = call(instance, 'return new Promise(() => undefined)').catch((error) => error);
    await where(instance);
    await instance.close();
    expect(await waits).toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
  });

  test('one of which only waits too long takes no call with it, and is stopped when theirs have ended', async () => {
    anew();
    const waiting = await functionOf('waits', WHERE_OR)();
    const other = await neighbours(waiting, functionOf('other', WHERE_OR));
    const [before] = await where(other);
    const long = call(other, "return new Promise((resolve) => setTimeout(resolve, 500, 'done'))");
    const code = 'return new Promise((resolve) => setTimeout(resolve, 60_000))';
    await expect(call(waiting, code, 100)).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect((await long).output).toBe('done');
    expect((await where(other))[0]).not.toBe(before);
  });

  test('one of which needs too much memory: its call is told, the others begin anew', async () => {
    anew();
    const greedy = await functionOf('greedy', WHERE_OR)();
    const other = await neighbours(greedy, functionOf('other', WHERE_OR));
    const code = 'const all = []; for (;;) all.push(new Array(100_000).fill(all.length));';
    await expect(call(greedy, code, 60_000)).rejects.toMatchObject({ code: 'IGU_FUNCTION_MEMORY' });
    expect((await where(other))[1]).toBe(1);
    expect((await where(greedy))[1]).toBe(1);
  });

  test('one of which throws where nothing catches it, or exits, is told apart', async () => {
    anew();
    const startThrowing = functionOf('throws', WHERE_OR);
    const throwing = await startThrowing();
    const other = await neighbours(throwing, functionOf('other', WHERE_OR));
    const long = call(other, "return new Promise((resolve) => setTimeout(resolve, 200, 'done'))");
    const code = "setTimeout(() => { throw new Error('nobody catches it'); }); return new Promise(() => undefined)";
    await expect(call(throwing, code)).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CRASHED',
      message: expect.stringContaining('nobody catches it'),
    });
    expect((await long).output).toBe('done');
    const leaving = await functionOf('leaves', WHERE_OR)();
    const beside = await neighbours(leaving, functionOf('beside', WHERE_OR));
    await expect(call(leaving, 'process.exit(3)')).rejects.toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
    expect((await where(beside))[1]).toBe(1);
  });

  test('that do not load say why, also when they hang', async () => {
    anew();
    await expect(functionOf('a', "throw new Error('not today')")()).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
      message: expect.stringContaining('not today'),
    });
    const other = await functionOf('other', WHERE)();
    await expect(functionOf('b', 'for (;;); export const handle = 1;')()).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
      message: expect.stringContaining('not ready'),
    });
    expect((await where(other))[0]).toBeGreaterThan(0);
  });

  test('do not suffer from an event or an answer that cannot be sent', async () => {
    const instance = await functionOf('a', 'export const handle = ({ input }) => input === 1 ? () => 1 : input')();
    const answers = await Promise.allSettled([1, 2, () => 3, 4].map((input) => call(instance, input)));
    expect(answers).toMatchObject([
      { reason: { code: 'IGU_FUNCTION_FAILED' } },
      { value: { output: 2 } },
      { reason: { code: 'IGU_FUNCTION_FAILED' } },
      { value: { output: 4 } },
    ]);
  });
});

test('a function that may use much memory does not share', () => {
  const definition = { name: 'f', runtime: 'javascript', code: { inline: '1' }, isolation: 'shared', memoryMb: 257 };
  expect(functionSchema.safeParse(definition).error?.issues).toMatchObject([{ path: ['memoryMb'] }]);
});
