import { availableParallelism } from 'node:os';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { functionSchema } from '../../../src/functions/definition.js';
import { takeLogs } from '../../../src/functions/failed-logs.js';
import { instanceFactories } from '../../../src/functions/instance-factories.js';
import type { FunctionEvent, InvocationContext } from '../../../src/functions/invocation.js';
import { JavaScriptInstance } from '../../../src/functions/javascript/javascript-instance.js';
import { LogRing, linesIn, sharedLogMemory } from '../../../src/functions/javascript/log-ring.js';
import { WarmWorkers } from '../../../src/functions/javascript/warm-workers.js';
import { functionLimits } from '../../../src/limits.js';

const started: JavaScriptInstance[] = [];
afterEach(async () => {
  await Promise.all(started.splice(0).map((instance) => instance.close()));
});

async function instanceOf(code: string, options: { isolation?: 'thread' | 'process'; memoryMb?: number } = {}) {
  const instance = await JavaScriptInstance.start(options.memoryMb ?? 64, options.isolation);
  started.push(instance);
  await instance.load({ name: 'f', code, handler: 'handle', env: { GREETING: 'hello' } });
  return instance;
}

const event = (input: unknown): FunctionEvent => ({ trigger: 'call', input });
const within = (ms: number): InvocationContext => ({
  function: 'f',
  version: 3,
  invocationId: 'i-1',
  attempt: 2,
  deadline: Date.now() + ms,
});
const call = (instance: JavaScriptInstance, input: unknown, ms = 5_000, signal = new AbortController().signal) =>
  instance.invoke(event(input), within(ms), signal);

describe.each(['thread', 'process'] as const)('a JavaScript instance in a %s', (isolation) => {
  test('is given its event and context, and answers with any value', async () => {
    const instance = await instanceOf(
      `export async function handle(event, context) {
        return { got: event.input, bytes: new Uint8Array([1]), who: [context.function, context.version, context.attempt], env: process.env };
      }`,
      { isolation },
    );
    const { output, durationMs, memoryUsedMb } = await call(instance, { a: [1] });
    expect(output).toEqual({
      got: { a: [1] },
      bytes: new Uint8Array([1]),
      who: ['f', 3, 2],
      env: { GREETING: 'hello' },
    });
    expect(durationMs).toBeLessThan(1_000);
    expect(memoryUsedMb).toBeGreaterThan(0.5);
  });

  test('a copy of a context has its signal', async () => {
    const instance = await instanceOf(
      `export async function handle(event, context) {
        const { signal, invocationId } = { ...context };
        const same = signal === context.signal;
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        globalThis.seen = [same, invocationId, signal.aborted];
      }`,
      { isolation },
    );
    const ending = new AbortController();
    const cancelled = call(instance, 0, 5_000, ending.signal);
    ending.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    await instance.load({ name: 'f', code: 'export const handle = () => globalThis.seen', handler: 'handle', env: {} });
    expect((await call(instance, 0)).output).toEqual([true, 'i-1', true]);
  });

  test('calls with deadlines of their own are stopped by the one that comes first', async () => {
    const instance = await instanceOf(
      'export const handle = ({ input }) => (input ? new Promise(() => undefined) : 1)',
      { isolation },
    );
    const began = performance.now();
    const ended = Promise.allSettled([call(instance, 'long', 10_000), call(instance, 'short', 400)]);
    expect((await call(instance, 0, 60_000)).output).toBe(1);
    const [long, short] = await ended;
    expect(performance.now() - began).toBeGreaterThanOrEqual(398);
    expect(short).toMatchObject({ reason: { code: 'IGU_FUNCTION_TIMEOUT' } });
    expect(long).toMatchObject({ reason: { code: 'IGU_FUNCTION_INTERRUPTED' } });
  });

  test('keeps what a call logs with the call', async () => {
    const instance = await instanceOf(
      `export async function handle({ input }, { log }) {
        console.log('before', { input });
        await new Promise((resolve) => setTimeout(resolve, 5));
        log.warn('after', input);
      }`,
      { isolation },
    );
    const [a, b] = await Promise.all([call(instance, 1), call(instance, 2)]);
    expect(a.logs).toEqual(['info before { input: 1 }', 'warn after 1']);
    expect(b.logs).toEqual(['info before { input: 2 }', 'warn after 2']);
  });

  const ends = [
    ['waits past its deadline', 'await new Promise(() => undefined);', 'IGU_FUNCTION_TIMEOUT'],
    ['does not give way', 'for (;;);', 'IGU_FUNCTION_TIMEOUT'],
    ['ends its program', 'process.exit(3);', 'IGU_FUNCTION_CRASHED'],
    [
      'throws where nothing catches it',
      'setTimeout(() => { throw new Error("too late"); }); await new Promise(() => undefined);',
      'IGU_FUNCTION_CRASHED',
    ],
  ] as const;
  test.each(ends)('that %s has logged what it wrote before', async (_, end, code) => {
    const instance = await instanceOf(
      `export const handle = async () => {
        console.log('one', 'ä'.repeat(3));
        await new Promise((resolve) => setTimeout(resolve, 5));
        console.warn('two');
        ${end}
      }`,
      { isolation },
    );
    const failed = await call(instance, 0, 300).catch((error) => error);
    expect(failed).toMatchObject({ code, cause: { logs: ['info one äää', 'warn two'] } });
    if (end.includes('too late')) expect(failed.message).toContain('too late');
  });

  test('that logs much and does not give way keeps the bounds of a log', async () => {
    const instance = await instanceOf(
      "export const handle = () => { for (let i = 0; ; i++) console.log(i, 'x'.repeat(300)); }",
      { isolation },
    );
    const { cause } = await call(instance, 0, 300).catch((error) => error);
    expect(cause.logs.slice(0, 2)).toEqual([`info 0 ${'x'.repeat(300)}`, `info 1 ${'x'.repeat(300)}`]);
    expect(cause.logs.length).toBeGreaterThan(150);
    expect(cause.logs.length).toBeLessThanOrEqual(functionLimits.maxLogLines);
    expect(cause.logs.join('').length).toBeLessThan(100_000);
    expect(cause.logs.map((line: string) => Number(line.split(' ')[1]))).toEqual(Array.from(cause.logs, (_, i) => i));
  });

  test('that is cancelled tells what it has logged, and the rest when it has ended', async () => {
    const instance = await instanceOf(
      `export const handle = async ({ input }, { signal }) => {
        if (input) return input;
        console.log('begins');
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        console.log('cleans up');
      }`,
      { isolation },
    );
    const ending = new AbortController();
    const context = within(5_000);
    const cancelled = instance.invoke(event(0), context, ending.signal);
    expect((await call(instance, 1)).output).toBe(1);
    ending.abort();
    const lines: string[] = [];
    takeLogs(context, (more) => lines.push(...more));
    expect(lines).toEqual(['info begins']);
    await expect(cancelled).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    expect(lines).toEqual(['info begins', 'info cleans up']);
  });

  test('that throws tells where in the function, and nothing of what runs it', async () => {
    const code = `// ${'x'.repeat(200)}
      function deep() { throw new TypeError('bad', { cause: new Error('inner') }); }
      export const handle = async ({ input }) => {
        if (input) await import('./later.mjs');
        await null;
        console.error('saw', new Error('noted'));
        deep();
      };`;
    const instance = await instanceOf(code, { isolation });
    const { cause, message } = await call(instance, 0).catch((error) => error);
    expect(message).not.toContain('deep');
    expect(cause.stack).toBe(
      'TypeError: bad\n    at deep (f:2:31)\n    at handle (f:7:9)\ncaused by Error: inner\n    at deep (f:2:61)\n    at handle (f:7:9)',
    );
    expect(cause.logs).toEqual(['error saw Error: noted\n    at handle (f:6:30)']);
    const later = await call(instance, 1).catch((error) => error);
    expect(later.message).toContain('f failed: it imports "./later.mjs": a function is one file');
    expect(later.cause.stack).toMatch(/^TypeError.*it imports ".\/later.mjs": [^\n]*\n {4}at handle \(f:4:\d+\)$/);
  });

  test.each([
    ['const a = 1;\nexport const handle = () => {\n  if (', 'Unexpected end of input (f:3:7)'],
    ["import { x } from 'node:fs';", "does not provide an export named 'x' (f:1:10)"],
    ['let a = 1;\nthrow new Error("top");', 'loaded: top (f:2:7)'],
    ["let a;\nimport u from './util.mjs';", 'it imports "./util.mjs": a function is one file, so what it imports'],
    ["let a;\nimport u from './util.mjs';", 'bundled into it (f:2:15)'],
    ["import 'pkg';", 'it imports "pkg"'],
    ['export const handle = 5', 'its export handle is no function, but number'],
    ['export const handle = null', 'its export handle is no function, but null'],
    ['export const handel = 5', 'it exports no function handle, but handel'],
  ])('that cannot be loaded says where: %j', async (code, what) => {
    await expect(instanceOf(code, { isolation })).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
      message: expect.stringContaining(what),
    });
  });

  test('has its buffers in its memory', async () => {
    const instance = await instanceOf(
      'let kept; export const handle = ({ input }) => { kept = Buffer.alloc(input); kept.fill(1); };',
      { isolation },
    );
    const { memoryUsedMb: before } = await call(instance, 1);
    const { memoryUsedMb: after } = await call(instance, 100 * 2 ** 20);
    expect(after - before).toBeGreaterThan(90);
    expect(after - before).toBeLessThan(130);
    expect(instance.memoryBytes()).toBeGreaterThan(100 * 2 ** 20);
  });

  test('that is closed tells its calls so', async () => {
    const instance = await instanceOf(
      'export const handle = ({ input }) => { if (input) return; console.log("waits"); return new Promise(() => undefined); }',
      { isolation },
    );
    const ended = call(instance, 0).catch((error) => error);
    await call(instance, 1);
    await instance.close();
    expect(await ended).toMatchObject({
      code: 'IGU_FUNCTION_CRASHED',
      message: expect.stringContaining('the system was closed'),
      cause: { logs: ['info waits'] },
    });
  });

  test('is stopped when it does not give way', async () => {
    const instance = await instanceOf('export function handle() { for (;;); }', { isolation });
    const before = performance.now();
    await expect(call(instance, 0, 100)).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(instance.usable).toBe(false);
    await expect(call(instance, 0)).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
  });
});

describe('a JavaScript instance', () => {
  test('that throws says why and lives on', async () => {
    const instance = await instanceOf(
      'export function handle({ input }) { if (input) throw new TypeError("bad"); return 1; }',
    );
    await expect(call(instance, 1)).rejects.toMatchObject({
      code: 'IGU_FUNCTION_FAILED',
      message: expect.stringContaining('f failed: bad'),
    });
    expect((await call(instance, 0)).output).toBe(1);
  });

  test('that needs more memory than it has ends alone', async () => {
    const instance = await instanceOf(
      'export function handle() { const all = []; for (;;) all.push(new Array(1e5).fill(7)); }',
      { memoryMb: 32 },
    );
    await expect(call(instance, 0, 15_000)).rejects.toMatchObject({ code: 'IGU_FUNCTION_MEMORY' });
  });

  test('that ends its process ends only itself', async () => {
    const instance = await instanceOf('export function handle() { process.exit(3); }');
    await expect(call(instance, 0)).rejects.toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
  });

  test('cannot return what cannot be sent', async () => {
    const instance = await instanceOf('export function handle() { return () => 1; }');
    await expect(call(instance, 0)).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED' });
  });

  test('hears of a cancelled call', async () => {
    const instance = await instanceOf(
      `let seen = 'no';
       export function handle({ input }, { signal }) {
         if (input) return seen;
         return new Promise((resolve) => signal.addEventListener('abort', () => { seen = 'yes'; resolve(); }));
       }`,
    );
    const controller = new AbortController();
    const cancelled = call(instance, 0, 5_000, controller.signal);
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    expect((await call(instance, 1)).output).toBe('yes');
  });

  test('floods its log within bounds', async () => {
    const instance = await instanceOf(
      'export function handle() { for (let i = 0; i < 1e5; i++) console.log("x".repeat(10_000)); }',
    );
    const { logs, logsTruncated } = await call(instance, 0);
    expect(logsTruncated).toBe(true);
    expect(logs.join('').length).toBeLessThan(100_000);
  });

  test.each([
    ['export const other = 1', /exports no function handle, but other/],
    ['export function handle( {', /cannot be loaded/],
    ['throw new Error("at load")', /at load/],
  ])('cannot load %j', async (code, message) => {
    const instance = await JavaScriptInstance.start(32);
    started.push(instance);
    await expect(instance.load({ name: 'f', code, handler: 'handle', env: {} })).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
      message: expect.stringMatching(message),
    });
  });
});

test('a child process can neither write nor read files, nor start others', async () => {
  const instance = await instanceOf(
    `import { readFileSync, writeFileSync } from 'node:fs';
     import { spawnSync } from 'node:child_process';
     const codeOf = (action) => { try { action(); return 'done'; } catch (error) { return error.code; } };
     export const handle = () => [
       codeOf(() => writeFileSync('/tmp/iguana-escape', '1')),
       codeOf(() => readFileSync('/etc/hostname')),
       codeOf(() => spawnSync('true')),
     ];`,
    { isolation: 'process' },
  );
  expect((await call(instance, 0)).output).toEqual(['ERR_ACCESS_DENIED', 'ERR_ACCESS_DENIED', 'ERR_ACCESS_DENIED']);
});

test('log lines are read from shared memory whatever is said of how many there are', () => {
  const memory = sharedLogMemory();
  const ring = new LogRing(memory);
  for (const [i, line] of ['info ä€😀', 'info two'].entries()) {
    ring.add(7, i, line);
    ring.add(8, i, 'of another call');
  }
  expect([linesIn(memory, 7, 0), linesIn(memory, 7, 1)]).toEqual([['info ä€😀', 'info two'], ['info two']]);
  const state = new Int32Array(memory, 0, 1);
  state[0] = 2 ** 31 - 1;
  expect(linesIn(memory, 7, 0).slice(0, 2)).toEqual(['info ä€😀', 'info two']);
  state[0] = -1;
  expect(linesIn(memory, 7, 0)).toEqual([]);
});

describe('a function in TypeScript', () => {
  const factories = instanceFactories({ warmWorkers: 1 });
  afterAll(() => factories.close());
  const typed = (source: string, file = 'f.ts', isolation = 'thread', name = 'f') => {
    const definition = functionSchema.parse({ name, runtime: 'javascript', code: { file }, isolation });
    return factories.of({ definition, code: new TextEncoder().encode(source) }, {}).start();
  };

  test('runs without its types, with enums and parameter properties', async () => {
    const instance = await typed(`
      import type { Nothing } from './not-there.js';
      enum State { Open = 'open' }
      interface Order { readonly id: string }
      class Box<T> { constructor(private readonly value: T) {} get(): T { return this.value; } }
      export async function handle({ input }: { input: Order }): Promise<readonly [string, State]> {
        return [new Box<Order>(input).get().id satisfies string, State.Open];
      }`);
    started.push(instance as JavaScriptInstance);
    expect((await instance.invoke(event({ id: 'o-1' }), within(5_000))).output).toEqual(['o-1', 'open']);
  });

  test.each(['thread', 'process', 'shared'] as const)('tells places in it, in a %s', async (isolation) => {
    const source = `import type { Nothing } from './not-there.js';
      interface Order {
        readonly id: number;
      }

      // told of all three
      export async function handle({ input }: { input: Order['id'] }): Promise<void> {
        console.log(new Error('noted'));
        if (input) setTimeout(() => {
          throw new Error('late');
        });
        else throw new Error('at once');
        await new Promise(() => undefined);
      }`;
    const instance = (await typed(source, 'f.ts', isolation)) as JavaScriptInstance;
    started.push(instance);
    const atOnce = await call(instance, 0).catch((error) => error);
    expect(atOnce.cause.stack).toMatch(/^Error: at once\n {4}at handle \(f:12:\d+\)$/);
    expect(atOnce.cause.logs).toEqual([expect.stringMatching(/^info Error: noted\n {4}at handle \(f:8:\d+\)$/)]);
    const late = await call(instance, 1).catch((error) => error);
    expect(late).toMatchObject({ code: 'IGU_FUNCTION_CRASHED', message: expect.stringContaining('late') });
    expect(late.cause.stack).toMatch(/^Error: late\n {4}at Timeout\..*\(f:10:\d+\)/);
    const missing = "type A = 1;\n\nimport { a } from './a.js';\nexport const handle = () => a;";
    await expect(typed(missing, 'f.ts', isolation)).rejects.toThrow(/it imports ".\/a.js": .* \(f:3:\d+\);/);
  });

  test('tells places whatever is called there, and for a name that begins with a digit', async () => {
    const source = `type Nothing = never;

      class Odd {
        async ['a (b)'](): Promise<Nothing> { await null; throw new Error('odd'); }
      }

      // nameless
      export async function handle(): Promise<void> {
        await (async () => {
          await new Odd()['a (b)']();
        })();
      }`;
    const instance = (await typed(source, 'f.ts', 'thread', '3-d')) as JavaScriptInstance;
    started.push(instance);
    const { cause } = await call(instance, 0).catch((error) => error);
    const places = [...cause.stack.matchAll(/3-d:(\d+):\d+/g)].map(([, line]) => Number(line));
    expect(places).toEqual([4, 10, 9]);
    expect(cause.stack).toMatch(/ a \(b\) \(3-d:4:\d+\)\n {4}at async 3-d:10:/);
  });

  test('leaves places to a later version in JavaScript that shares its thread', async () => {
    const before = await typed('type A = 1;\n\n\nexport const handle = (): A => 1;', 'f.ts', 'shared');
    const after = await typed('\n\n\nexport const handle = () => {\n  throw new Error();\n};', 'f.mjs', 'shared');
    started.push(before as JavaScriptInstance, after as JavaScriptInstance);
    const { cause } = await call(after as JavaScriptInstance, 0).catch((error) => error);
    expect(cause.stack).toMatch(/at handle \(f:5:9\)$/);
  });

  test('that cannot be read says where', async () => {
    await expect(typed('export const a = 1;\nexport function handle( {')).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
      message: expect.stringMatching(/line 2, column \d+/),
    });
  });

  test('is known by its file: JavaScript is left as it is', async () => {
    await expect(typed('export const handle: number = 1;', 'f.js')).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CODE',
    });
  });
});

describe('workers that wait', () => {
  test('are bounded over all kinds, and replaced after they were taken', async () => {
    const workers = new WarmWorkers(2);
    for (let memoryMb = 16; memoryMb < 16 + functionLimits.maxWarmWorkers; memoryMb++) {
      await workers.prepare(memoryMb, 'thread', 2);
      expect(workers.count).toBeLessThanOrEqual(functionLimits.maxWarmWorkers);
    }
    expect(workers.count).toBe(functionLimits.maxWarmWorkers);
    const code = { name: 'f', code: 'export const handle = () => 1', handler: 'handle', env: {} };
    const instance = await workers.factory(code, 31, 'thread').start();
    started.push(instance as JavaScriptInstance);
    expect(workers.count).toBe(functionLimits.maxWarmWorkers - 1);
    await expect.poll(() => workers.count).toBe(functionLimits.maxWarmWorkers);
    await workers.close();
    expect(workers.count).toBe(0);
  });

  test('give way to one that a call waits for, and are not started any more once they are closed', async () => {
    const most = Math.max(functionLimits.startsAtOnce, availableParallelism());
    const workers = new WarmWorkers(functionLimits.maxWarmWorkers);
    const order: string[] = [];
    // more than start at once: the last of them have to wait for their turn
    const ahead = Array.from({ length: functionLimits.maxWarmWorkers }, (_, i) =>
      workers.prepare(16 + i, 'thread', 1).then(() => order.push('ahead')),
    );
    const code = { name: 'f', code: 'export const handle = () => 1', handler: 'handle', env: {} };
    started.push((await workers.factory(code, 64, 'thread').start()) as JavaScriptInstance);
    order.push('urgent');
    await Promise.all(ahead);
    if (ahead.length > most) expect(order.at(-1)).toBe('ahead');
    const late = Array.from({ length: most + 1 }, () => workers.factory(code, 128, 'thread').start());
    const ended = Promise.allSettled(late);
    await workers.close();
    for (const one of await ended) {
      if (one.status === 'fulfilled') await one.value.close();
      else expect(one.reason).toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
    }
    await expect(workers.factory(code, 32, 'thread').start()).rejects.toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
  });
});
