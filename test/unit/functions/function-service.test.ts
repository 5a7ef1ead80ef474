import { afterEach, describe, expect, test, vi } from 'vitest';
import { VirtualClock, wallClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import { isAuthentic, type UsageRecord } from '../../../src/functions/billing.js';
import { functionSchema } from '../../../src/functions/definition.js';
import { FunctionService, type ServiceOptions } from '../../../src/functions/function-service.js';
import { instanceFactories } from '../../../src/functions/instance-factories.js';
import type { FunctionEvent } from '../../../src/functions/invocation.js';
import { bytesGuest } from '../../support/function-guests.js';

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

function service(options: Partial<ServiceOptions> = {}) {
  const factories = instanceFactories({ warmWorkers: 1 });
  const made = new FunctionService({
    clock: wallClock,
    factory: (deployment, env) => factories.of(deployment, env),
    ...options,
  });
  closing.push(
    () => factories.close(),
    () => made.close(),
  );
  return made;
}

function deployment(code: string, more: object = {}) {
  const definition = functionSchema.parse({
    name: 'f',
    runtime: 'javascript',
    memoryMb: 32,
    code: { inline: code },
    ...more,
  });
  return { definition, code: Buffer.from(code) };
}

const input = (value: unknown): FunctionEvent => ({ trigger: 'call', input: value });

describe('functions', () => {
  test('are deployed, called, counted, billed and deleted', async () => {
    const usage: UsageRecord[] = [];
    const functions = service({ onUsage: (record) => usage.push(record), usageKey: 'k' });
    await functions.deploy(
      deployment('export const handle = ({ input }) => { console.log("saw", input); return input * 2; }'),
    );
    const first = await functions.invoke('f', input(21), { invocationId: 'one' });
    expect(first).toMatchObject({ output: 42, cold: 'first-call', invocationId: 'one', logs: ['info saw 21'] });
    expect(first.initMs).toBeGreaterThan(0);
    expect(await functions.invoke('f', input(1))).toMatchObject({ output: 2, cold: false, initMs: 0 });
    expect(functions.metrics('f')).toMatchObject({
      totalInvocations: 2,
      successfulInvocations: 2,
      coldStarts: 1,
      coldStartsByCause: { 'first-call': 1 },
      instances: 1,
    });
    expect(functions.logs('f').map(({ line }) => line)).toEqual(['info saw 21', 'info saw 1']);
    expect(usage).toHaveLength(2);
    expect(usage[0]).toMatchObject({ invocationId: 'one', memoryMb: 32, success: true });
    expect(usage.every((record) => isAuthentic(record, 'k'))).toBe(true);
    await functions.delete('f');
    await expect(functions.invoke('f', input(1))).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
  });

  test('that a setting of their trigger ends say which one, in the error and in the log', async () => {
    const functions = service();
    await functions.deploy(deployment('export const handle = () => new Promise(() => undefined)', { timeoutMs: 60 }));
    const ended = async (timeoutMs: number) => {
      await functions.prewarm('f', 1);
      const options = { timeoutMs, timeoutOf: 'visibilityMs of its trigger on jobs' };
      return functions.invoke('f', input(1), options).catch(String);
    };
    expect(await ended(50)).toMatch(/f was stopped after 50 ms; raise visibilityMs of its trigger on jobs, or make it/);
    expect(await ended(60)).toMatch(/after 60 ms; raise visibilityMs of its trigger on jobs and its timeout, or make/);
    expect(await ended(70)).toMatch(/after 60 ms; raise its timeout, or make/);
    expect(functions.logs('f')[0]!.line).toMatch(/raise visibilityMs of its trigger on jobs, or make it do less/);
  });

  test('tell listeners of what is deployed and deleted', async () => {
    const functions = service();
    const seen: string[][] = [];
    const end = functions.onChange(() => seen.push(functions.list().map(({ name, version }) => `${name}:${version}`)));
    await functions.deploy(deployment('export const handle = () => 1'));
    await functions.deploy(deployment('export const handle = () => 2'));
    await functions.delete('f');
    end();
    await functions.deploy(deployment('export const handle = () => 3'));
    expect(seen).toEqual([['f:1'], ['f:2'], []]);
  });

  test('that fail are counted by their error, billed for their time and keep their logs', async () => {
    const usage: UsageRecord[] = [];
    const functions = service({ onUsage: (record) => usage.push(record) });
    await functions.deploy(
      deployment(
        'export function handle({ input }) { console.log("trying"); if (input) throw new Error("no"); for (;;); }',
      ),
    );
    await expect(functions.invoke('f', input(1))).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED' });
    await expect(functions.invoke('f', input(0), { timeoutMs: 100 })).rejects.toMatchObject({
      code: 'IGU_FUNCTION_TIMEOUT',
    });
    expect(functions.metrics('f')).toMatchObject({
      totalInvocations: 2,
      successfulInvocations: 0,
      failedInvocations: { IGU_FUNCTION_FAILED: 1, IGU_FUNCTION_TIMEOUT: 1 },
    });
    const { durations, p99DurationMs, averageDurationMs } = functions.metrics('f');
    expect(durations.count).toBe(2);
    expect(p99DurationMs).toBeGreaterThanOrEqual(95);
    expect(averageDurationMs).toBeGreaterThanOrEqual(48);
    expect(functions.logs('f').map(({ line }) => line)).toEqual([
      'info trying',
      'error IGU_FUNCTION_FAILED f failed: no; see its logs with `iguana function logs`\nError: no\n    at handle (f:1:77)',
      'info trying',
      expect.stringMatching(/^error IGU_FUNCTION_TIMEOUT/),
    ]);
    expect(usage.map(({ success }) => success)).toEqual([false, false]);
    expect(usage[1]!.billedMs).toBeGreaterThanOrEqual(100);
  });

  test('have the gas of the bill in their metrics', async () => {
    const usage: UsageRecord[] = [];
    const functions = service({ onUsage: (record) => usage.push(record) });
    const definition = functionSchema.parse({
      ...{ name: 'w', runtime: 'wasm', handler: 'fragile', code: { file: 'w' }, memoryMb: 32 },
    });
    await functions.deploy({ definition, code: await bytesGuest() });
    await functions.invoke('w', input(1));
    await expect(functions.invoke('w', input('x'.repeat(300)))).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED' });
    expect(usage.every(({ gasUsed }) => gasUsed > 0)).toBe(true);
    expect(functions.metrics('w').gasUsed).toBe(usage.reduce((sum, { gasUsed }) => sum + gasUsed, 0));
  });

  test('take notes of what was wrong with an answer', async () => {
    const functions = service();
    await functions.deploy(deployment('export const handle = () => 1'));
    functions.note('f', 'a-call', 'error it cannot be answered');
    functions.note('gone', 'a-call', 'error it cannot be answered');
    expect(functions.logs('f')).toMatchObject([{ invocationId: 'a-call', line: 'error it cannot be answered' }]);
  });

  test('that are cancelled keep what they had logged, and what they log until they have ended', async () => {
    const functions = service();
    await functions.deploy(
      deployment(
        `export async function handle({ input }, { signal }) {
          if (input) return;
          console.log('begins');
          await new Promise((resolve) => signal.addEventListener('abort', resolve));
          console.log('cleans up');
        }`,
        { concurrency: 2, scaling: { maxInstances: 1 } },
      ),
    );
    await functions.invoke('f', input(1));
    const ending = new AbortController();
    const cancelled = functions.invoke('f', input(0), { signal: ending.signal, invocationId: 'given-up' });
    await functions.invoke('f', input(1));
    ending.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    const error = expect.stringMatching(/^error IGU_FUNCTION_CANCELLED/);
    const logged = () => functions.logs('f').map(({ line, invocationId }) => [invocationId, line]);
    await vi.waitFor(() =>
      expect(logged()).toEqual([
        ['given-up', 'info begins'],
        ['given-up', error],
        ['given-up', 'info cleans up'],
      ]),
    );
  });

  test('take over by a new version, and by aliases share by share', async () => {
    const random = [0.1, 0.95, 0.5];
    const functions = service({ random: () => random.shift()! });
    await functions.deploy(deployment('export const handle = () => "one"'));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment('export const handle = () => "two"'));
    const outputs = async (qualifier?: string | number) =>
      (await functions.invoke('f', input(0), qualifier === undefined ? {} : { qualifier })).output;
    expect([await outputs(), await outputs(1)]).toEqual(['two', 'one']);
    await functions.setAlias('f', 'live', { 1: 0.9, 2: 0.1 });
    expect([await outputs('live'), await outputs('live'), await outputs('live')]).toEqual(['one', 'two', 'one']);
    await functions.setAlias('f', 'live', { 2: 1 });
    await expect(outputs(1)).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
    await expect(functions.setAlias('f', 'live', { 2: 0.5 })).rejects.toThrow(/add up to 0.5/);
    await expect(functions.setAlias('f', 'live', { 9: 1 })).rejects.toThrow(/no version 9; it has 2/);
    // no alias either, though every object has something of that name
    await expect(functions.deleteAlias('f', 'constructor')).rejects.toMatchObject({ code: 'IGU_NOT_FOUND' });
    await functions.deleteAlias('f', 'live');
    await expect(outputs('live')).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
  });

  test('see their secrets and nothing of the environment of others', async () => {
    const functions = service({ secret: (name) => (name === 'db' ? 's3cret' : undefined) });
    const code = 'export const handle = () => process.env';
    await functions.deploy(deployment(code, { env: { A: '1' }, secrets: { PASSWORD: 'db' } }));
    expect((await functions.invoke('f', input(0))).output).toEqual({ A: '1', PASSWORD: 's3cret' });
    await expect(functions.deploy(deployment(code, { secrets: { X: 'none' } }))).rejects.toThrow(
      /secret none \(for X\)/,
    );
  });

  test('scale to zero when idle, follow load, and obey prewarm and forecasts', async () => {
    const clock = new VirtualClock(1e12);
    const started: number[] = [];
    const functions = service({
      clock,
      factory: () => ({
        start: async () => {
          started.push(clock.now());
          return {
            invoke: async () => ({ output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
            usable: true,
            memoryBytes: () => 1,
            close: async () => undefined,
          };
        },
      }),
    });
    const instances = () => functions.metrics('f').instances;
    const pass = async (seconds: number) => {
      for (let i = 0; i < seconds; i++) {
        clock.advance(1000);
        await functions.tick();
      }
    };
    await functions.deploy(deployment('-', { scaling: { idleSeconds: 60 } }));
    await functions.invoke('f', input(0));
    await pass(50);
    expect(instances()).toBe(1);
    await pass(20);
    expect(instances()).toBe(0);
    await functions.prewarm('f', 3);
    expect(instances()).toBe(3);
    await pass(59);
    expect(instances()).toBe(3);
    await pass(2);
    expect(instances()).toBe(0);
    functions.expectLoad('f', 2, clock.now() + 30_000);
    await pass(10);
    expect(instances()).toBe(3);
    await pass(30);
    expect(instances()).toBe(0);
    expect(started).toHaveLength(7);
  });

  test('have as many instances as the highest forecast says, and then as the next', async () => {
    const clock = new VirtualClock(1e12);
    const functions = service({
      clock,
      factory: () => ({
        start: async () => ({
          invoke: async () => ({ output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-', { scaling: { targetConcurrency: 1, idleSeconds: 0 } }));
    const inSeconds = (seconds: number) => clock.now() + seconds * 1_000;
    functions.expectLoad('f', 2, inSeconds(30));
    functions.expectLoad('f', 5, inSeconds(10));
    functions.expectLoad('f', 1, inSeconds(60));
    functions.expectLoad('f', 1, inSeconds(20));
    const seen: number[] = [];
    for (let second = 0; second < 70; second += 10) {
      await functions.tick();
      seen.push(functions.metrics('f').instances);
      clock.advance(10_000);
    }
    expect(seen).toEqual([5, 2, 2, 1, 1, 1, 0]);
  });

  test('bill what ran: not the wait for an instance, nor what never began', async () => {
    const usage: UsageRecord[] = [];
    const ends: { succeed: () => void; fail: (error: unknown) => void }[] = [];
    const functions = service({
      onUsage: (record) => usage.push(record),
      factory: () => ({
        start: async () => ({
          invoke: () =>
            new Promise((resolve, reject) => {
              const reply = { output: 0, durationMs: 7, memoryUsedMb: 1, logs: [], logsTruncated: false };
              ends.push({ succeed: () => resolve(reply), fail: reject });
            }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-', { maxConcurrency: 1 }));
    let now = 0;
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now);
    const turn = async () => {
      await new Promise((resolve) => setImmediate(resolve));
      now += 30;
    };
    const first = functions.invoke('f', input(0));
    await turn();
    const second = functions.invoke('f', input(0)).catch((error: unknown) => error);
    const never = new AbortController();
    const third = functions.invoke('f', input(0), { signal: never.signal }).catch((error: unknown) => error);
    await turn();
    never.abort();
    expect(await third).toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    ends[0]!.succeed();
    await first;
    await turn();
    ends[1]!.fail(new IguanaError('IGU_FUNCTION_CRASHED', { name: 'f', what: 'exit' }));
    expect(await second).toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
    const interrupted = functions.invoke('f', input(0)).catch((error: unknown) => error);
    await turn();
    ends[2]!.fail(new IguanaError('IGU_FUNCTION_INTERRUPTED', { name: 'f', what: 'another' }));
    await interrupted;
    clock.mockRestore();
    expect(usage.map(({ success, billedMs }) => [success, billedMs])).toEqual([
      [true, 7],
      [false, 30],
    ]);
  });

  test('called briefly between two ticks keep their instance for the idle time, then lose it', async () => {
    const clock = new VirtualClock(1e12);
    const functions = service({
      clock,
      factory: () => ({
        start: async () => ({
          invoke: async () => ({ output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-'));
    let cold = 0;
    for (let second = 0; second < 1_200; second++) {
      if (second % 200 === 0 && (await functions.invoke('f', input(0))).cold) cold++;
      clock.advance(1_000);
      await functions.tick();
    }
    expect(cold).toBe(1);
    for (let second = 0; second < 110; second++) {
      clock.advance(1_000);
      await functions.tick();
    }
    expect(functions.metrics('f').instances).toBe(0);
  });

  test('called every half hour are started again just before, once that is asked for', async () => {
    const clock = new VirtualClock(1e12);
    const functions = service({
      clock,
      factory: () => ({
        start: async () => ({
          invoke: async () => ({ output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-'));
    functions.enableColdStartOptimization('f');
    const at = async (minutes: number) => {
      for (let i = 0; i < minutes; i++) {
        clock.advance(60_000);
        await functions.tick();
      }
      return functions.metrics('f').instances;
    };
    for (let i = 0; i < 20; i++) {
      await functions.invoke('f', input(0));
      clock.advance(30 * 60_000);
    }
    expect((await functions.invoke('f', input(0))).cold).toBe(false);
    expect([await at(5), await at(20), await at(4)]).toEqual([0, 0, 1]);
    clock.advance(60_000);
    expect((await functions.invoke('f', input(0))).cold).toBe(false);
  });

  /** Instances that answer at once with their version, counted by it. */
  function counted(options: Partial<ServiceOptions> = {}) {
    const clock = new VirtualClock(1e12);
    const started: string[] = [];
    const functions = service({
      clock,
      factory: ({ code }) => ({
        start: async () => {
          const output = Buffer.from(code).toString();
          started.push(output);
          return {
            invoke: async () => ({ output, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false }),
            usable: true,
            memoryBytes: () => 1,
            close: async () => undefined,
          };
        },
      }),
      ...options,
    });
    return { clock, started, functions };
  }

  test('keep their instances when an alias changes, and those of a version that an alias names like any other', async () => {
    const { clock, started, functions } = counted();
    await functions.deploy(deployment('one'));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment('two'));
    for (const qualifier of ['live', 2]) await functions.invoke('f', input(0), { qualifier });
    await functions.setAlias('f', 'live', { 1: 0.5, 2: 0.5 });
    expect(functions.metrics('f').instances).toBe(2);
    for (let second = 0; second < 250; second++) {
      clock.advance(1_000);
      await functions.tick();
    }
    for (const qualifier of [1, 2]) {
      expect(await functions.invoke('f', input(0), { qualifier })).toMatchObject({ cold: false });
    }
    expect(started).toEqual(['one', 'two']);
    expect(functions.metrics('f').coldStartsByCause).toEqual({ 'first-call': 1, 'new-version': 1 });
    for (let second = 0; second < 320; second++) {
      clock.advance(1_000);
      await functions.tick();
    }
    expect(functions.metrics('f').instances).toBe(0);
  });

  test('have the fewest instances of every version that is called, and take over the load of the one before', async () => {
    const { clock, started, functions } = counted();
    await functions.deploy(deployment('one', { scaling: { minInstances: 2 } }));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment('two'));
    clock.advance(1_000);
    await functions.tick();
    expect(started).toEqual(['one', 'one']);
    await functions.invoke('f', input(0));
    await functions.tick();
    await functions.deploy(deployment('three'));
    await functions.tick();
    expect(started).toEqual(['one', 'one', 'two', 'three']);
  });

  test('stop an unused instance after a short idle time as after a long one', async () => {
    const { clock, functions } = counted();
    await functions.deploy(deployment('one', { scaling: { idleSeconds: 10 } }));
    await functions.invoke('f', input(0));
    const seen: number[] = [];
    for (let second = 0; second < 13; second++) {
      await functions.tick();
      seen.push(functions.metrics('f').instances);
      clock.advance(1_000);
    }
    expect(seen).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
  });

  test('learn how long they were idle, whatever timers do meanwhile', async () => {
    const learnt: number[] = [];
    const windows = { prewarmMs: 0, keepAliveMs: 0, warm: [], tier: 'standard' } as const;
    const policy = { name: 'p', learn: (ms: number) => void learnt.push(ms), windows: () => windows };
    const keepAlive = () => ({ ...policy, save: () => undefined, restore: () => undefined });
    const ends: (() => void)[] = [];
    const { clock, functions } = counted({
      keepAlive,
      factory: () => ({
        start: async () => ({
          invoke: () =>
            new Promise((resolve) => {
              const reply = { output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false };
              ends.push(() => resolve(reply));
            }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-'));
    const settled = () => new Promise((resolve) => setImmediate(resolve));
    const call = async (event: FunctionEvent) => {
      const running = functions.invoke('f', event);
      await settled();
      const end = ends.pop()!;
      return async () => {
        end();
        await running;
      };
    };
    const timer: FunctionEvent = { trigger: 'timer', scheduledTime: new Date(0).toISOString() };
    await (await call(input(0)))();
    clock.advance(1_000);
    const endTimer = await call(timer);
    const endCall = await call(input(0));
    clock.advance(1_000);
    await endCall();
    await endTimer();
    clock.advance(500);
    await (await call(input(0)))();
    expect(learnt).toEqual([1_000, 500]);
  });

  test('give a call that has waited all of its time, and let none wait longer than that', async () => {
    const deadlines: number[] = [];
    const ends: (() => void)[] = [];
    const { clock, functions } = counted({
      factory: () => ({
        start: async () => ({
          invoke: (_event, { deadline }) =>
            new Promise((resolve) => {
              deadlines.push(deadline);
              const reply = { output: 0, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false };
              ends.push(() => resolve(reply));
            }),
          usable: true,
          memoryBytes: () => 1,
          close: async () => undefined,
        }),
      }),
    });
    await functions.deploy(deployment('-', { maxConcurrency: 1, timeoutMs: 1_000 }));
    const calls = [1_000, 1_000, 500].map((timeoutMs) => functions.invoke('f', input(0), { timeoutMs }));
    const refused = expect(calls[2]).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_READY' });
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(900);
    await refused;
    ends[0]!();
    await calls[0];
    await new Promise((resolve) => setImmediate(resolve));
    ends[1]!();
    await calls[1];
    expect(deadlines).toEqual([1e12 + 1_000, 1e12 + 1_900]);
    const { throttles, failedInvocations } = functions.metrics('f');
    expect([throttles, failedInvocations]).toEqual([0, { IGU_FUNCTION_NOT_READY: 1 }]);
  });

  test('refuse a time limit that is no number above 0, and instances that cannot be, before anything runs', async () => {
    const { functions, started } = counted();
    await functions.deploy(deployment('-'));
    for (const given of ['5s', '', Number.NaN, Number.POSITIVE_INFINITY, 0, -1, null] as number[]) {
      const refused = functions.invoke('f', input(0), { timeoutMs: given });
      await expect(refused).rejects.toThrow(/^IGU_USAGE the time limit of a call is a number of ms above 0, not /);
    }
    for (const given of ['x', -3, 1.5, Number.NaN, 2_000] as number[])
      await expect(functions.prewarm('f', given)).rejects.toThrow(/^IGU_USAGE .*: a whole number from 0 to 1000, not /);
    expect(started).toEqual([]);
    expect(functions.metrics('f').totalInvocations).toBe(0);
    await functions.invoke('f', input(0), { timeoutMs: 0.5 });
  });

  test('refuse aliases that mean nothing', async () => {
    const { functions } = counted();
    await functions.deploy(deployment('one'));
    await functions.setAlias('f', 'live', { 1: 1 });
    await functions.deploy(deployment('two'));
    for (const [alias, weights] of [
      ['2', { 1: 1 }],
      ['', { 1: 1 }],
      ['live', {}],
      ['live', { 1: 1.5, 2: -0.5 }],
      ['live', { 1: Number.NaN, 2: 1 }],
    ] as const) {
      await expect(functions.setAlias('f', alias, weights)).rejects.toMatchObject({ code: 'IGU_USAGE' });
    }
    expect((await functions.invoke('f', input(0), { qualifier: 2 })).output).toBe('two');
  });

  test('a call that its caller gave up holds its instance until it ends, and is stopped at its deadline', async () => {
    const functions = service();
    const code = 'let n = 0; export const handle = ({ input }) => { if (input) for (;;); return ++n; }';
    await functions.deploy(deployment(code));
    const controller = new AbortController();
    const hanging = functions.invoke('f', input(1), { timeoutMs: 2_000, signal: controller.signal });
    const refused = expect(hanging).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    await expect.poll(() => functions.metrics('f').concurrency).toBe(1);
    controller.abort();
    await refused;
    // another instance takes what comes next, and nobody pays for the one that hangs
    expect((await functions.invoke('f', input(0), { timeoutMs: 1_500 })).output).toBe(1);
    expect(functions.metrics('f')).toMatchObject({ concurrency: 1, instances: 2 });
    await expect.poll(() => functions.metrics('f').instances, { timeout: 5_000 }).toBe(1);
    expect(functions.metrics('f')).toMatchObject({ concurrency: 0, failedInvocations: { IGU_FUNCTION_CANCELLED: 1 } });
  });

  test('a handler sees that its call was cancelled also when it looks later', async () => {
    const functions = service();
    const code = `let seen; export async function handle({ input }, context) {
      if (input) { await new Promise((resolve) => setTimeout(resolve, 300)); seen = context.signal.aborted; }
      return seen;
    }`;
    await functions.deploy(deployment(code, { concurrency: 2, scaling: { maxInstances: 1 } }));
    const controller = new AbortController();
    const cancelled = functions.invoke('f', input(1), { signal: controller.signal }).catch((error: unknown) => error);
    await expect.poll(() => functions.metrics('f').concurrency).toBe(1);
    controller.abort();
    await cancelled;
    await expect.poll(async () => (await functions.invoke('f', input(0))).output, { timeout: 5_000 }).toBe(true);
  });

  test('share the room for instances: the one idle longest gives way to a call, none to what is made ready ahead', async () => {
    const held: (() => void)[] = [];
    const { clock, started, functions } = counted({
      maxInstances: 2,
      factory: ({ definition: { name } }) => ({
        start: async () => {
          started.push(name);
          return {
            invoke: (event) =>
              new Promise((resolve) => {
                const reply = { output: name, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false };
                if (event.trigger === 'call' && event.input) held.push(() => resolve(reply));
                else resolve(reply);
              }),
            usable: true,
            memoryBytes: () => 1,
            close: async () => undefined,
          };
        },
      }),
    });
    for (const name of ['a', 'b', 'c']) await functions.deploy(deployment('-', { name }));
    const instances = () => ['a', 'b', 'c'].map((name) => functions.metrics(name).instances);
    await functions.invoke('a', input(0));
    clock.advance(1_000);
    await functions.invoke('b', input(0));
    await functions.prewarm('c', 1);
    expect(instances()).toEqual([1, 1, 0]);
    await functions.invoke('c', input(0));
    expect(instances()).toEqual([0, 1, 1]);
    const running = ['b', 'c'].map((name) => functions.invoke(name, input(1)));
    await new Promise((resolve) => setImmediate(resolve));
    await expect(functions.invoke('a', input(0))).rejects.toThrow(
      /^IGU_FUNCTION_NOT_READY .*all 2 instances that one process may have are taken by calls; /,
    );
    for (const end of held) end();
    await Promise.all(running);
    expect((await functions.invoke('a', input(0))).output).toBe('a');
    await functions.delete('a');
    expect((await functions.invoke('b', input(0))).output).toBe('b');
    expect(started).toEqual(['a', 'b', 'c', 'a', 'b']);
  });
});
