import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import { type AsyncCall, AsyncCalls, type AsyncCallsOptions } from '../../../src/functions/async-calls.js';
import { functionSchema } from '../../../src/functions/definition.js';
import type { InvokeOptions } from '../../../src/functions/function-service.js';
import type { FunctionEvent, InvocationResult } from '../../../src/functions/invocation.js';
import { asyncCallLimits } from '../../../src/limits.js';

const input: FunctionEvent = { trigger: 'call', input: 1 };
const result = (invocationId: string, output: unknown = 42): InvocationResult => ({
  invocationId,
  output,
  durationMs: 1,
  initMs: 0,
  cold: false,
  memoryUsedMb: 1,
  logs: [],
  logsTruncated: false,
});
const settle = async () => {
  for (let i = 0; i < 20; i++) await Promise.resolve();
};

interface Try {
  readonly id: string;
  readonly attempt: number;
  readonly signal: AbortSignal | undefined;
  succeed(output?: unknown): void;
  fail(error: unknown): void;
}

function made(more: Partial<AsyncCallsOptions> = {}) {
  const clock = new VirtualClock(1_000);
  const tries: Try[] = [];
  const service = {
    describe: (name: string) => {
      if (name !== 'f' && name !== 'other') throw new IguanaError('IGU_FUNCTION_NOT_FOUND', { name });
      const definition = functionSchema.parse({ name, runtime: 'javascript', code: { inline: 'x' } });
      return { name, version: 1, definition, aliases: {} };
    },
    invoke: (_name: string, _event: FunctionEvent, options: InvokeOptions = {}) =>
      new Promise<InvocationResult>((resolve, reject) => {
        const { invocationId: id = '', attempt = 0, signal } = options;
        const abort = () => reject(new IguanaError('IGU_FUNCTION_CANCELLED', { name: 'f' }));
        const end = () => signal?.removeEventListener('abort', abort);
        const succeed = (output?: unknown) => {
          end();
          resolve(result(id, output));
        };
        const fail = (error: unknown) => {
          end();
          reject(error);
        };
        tries.push({ id, attempt, signal, succeed, fail });
        signal?.addEventListener('abort', abort);
      }),
  };
  return { clock, tries, calls: new AsyncCalls({ service, clock, random: () => 1, ...more }) };
}
const failed = new IguanaError('IGU_FUNCTION_FAILED', { name: 'f', what: 'no' });

describe('calls that nobody waits for', () => {
  test('have an id at once and a result later', async () => {
    const told: AsyncCall[] = [];
    const outcomes: unknown[] = [];
    const { calls, tries, clock } = made({ deliver: async (outcome) => void outcomes.push(outcome) });
    const { id, state } = calls.invokeAsync('f', input, { callback: (call) => told.push(call) });
    expect(state).toBe('queued');
    await settle();
    expect(calls.status(id)).toMatchObject({ state: 'running', attempts: 1, createdAt: 1_000 });
    clock.advance(5);
    tries[0]!.succeed();
    expect(await calls.result(id)).toMatchObject({ state: 'succeeded', endedAt: 1_005, result: { output: 42 } });
    expect(told).toMatchObject([{ id, state: 'succeeded' }]);
    expect(outcomes).toMatchObject([{ function: 'f', invocationId: id, attempts: 1, result: { output: 42 } }]);
    expect(calls.pending).toBe(0);
  });

  test('are found by their id by callers of their function alone', () => {
    const { calls } = made();
    const first = calls.invokeAsync('f', input, { invocationId: 'one' });
    expect(calls.invokeAsync('f', input, { invocationId: 'one' })).toMatchObject({ id: first.id, function: 'f' });
    expect(() => calls.invokeAsync('other', input, { invocationId: 'one' })).toThrow(
      expect.objectContaining({ code: 'IGU_USAGE' }),
    );
  });

  test('are tried again under the same id, after 1 s, 2 s, then given up', async () => {
    const { calls, tries, clock } = made();
    const { id } = calls.invokeAsync('f', input);
    const at: number[] = [];
    for (let i = 0; i < 3; i++) {
      await settle();
      at.push(clock.now());
      tries[i]!.fail(failed);
      await settle();
      if (i < 2) expect(calls.status(id)!.state).toBe('waiting');
      clock.advance(1000 * 2 ** i);
    }
    expect(at).toEqual([1_000, 2_000, 4_000]);
    expect(tries.map(({ attempt, id: own }) => [attempt, own])).toEqual([1, 2, 3].map((n) => [n, id]));
    expect(await calls.result(id)).toMatchObject({
      state: 'failed',
      attempts: 3,
      error: { code: 'IGU_FUNCTION_FAILED' },
    });
  });

  test('what is wrong for good is tried once', async () => {
    const { calls, tries } = made();
    const { id } = calls.invokeAsync('f', input);
    await settle();
    tries[0]!.fail(new IguanaError('IGU_FUNCTION_CODE', { name: 'f', what: 'syntax' }));
    expect(await calls.result(id)).toMatchObject({
      state: 'failed',
      attempts: 1,
      error: { code: 'IGU_FUNCTION_CODE' },
    });
  });

  test('a busy function costs no try, and is tried until the call is too old', async () => {
    const { calls, tries, clock } = made();
    const { id } = calls.invokeAsync('f', input, { maxAgeMs: 600_000 });
    for (let i = 0; i < 40 && calls.pending > 0; i++) {
      await settle();
      tries.at(-1)!.fail(new IguanaError('IGU_FUNCTION_BUSY', { name: 'f', limit: 1, waiting: 1 }));
      await settle();
      clock.advance(60_000);
      await settle();
    }
    expect(await calls.result(id)).toMatchObject({
      state: 'failed',
      attempts: 0,
      error: { code: 'IGU_FUNCTION_EXPIRED' },
    });
    expect(tries.length).toBeGreaterThan(10);
    expect(tries.every(({ attempt }) => attempt === 1)).toBe(true);
  });

  test('are cancelled while they wait, run, or are between two tries', async () => {
    const { calls, tries, clock } = made();
    const running = calls.invokeAsync('f', input);
    await settle();
    expect(calls.cancel(running.id)).toBe(true);
    expect(await calls.result(running.id)).toMatchObject({ state: 'cancelled' });
    expect(tries[0]!.signal?.aborted).toBe(true);
    const between = calls.invokeAsync('f', input);
    await settle();
    tries[1]!.fail(failed);
    await settle();
    expect(calls.cancel(between.id)).toBe(true);
    expect(await calls.result(between.id)).toMatchObject({ state: 'cancelled', attempts: 1 });
    clock.advance(100_000);
    await settle();
    expect(tries.length).toBe(2);
    const many = Array.from({ length: asyncCallLimits.maxRunningPerFunction + 1 }, () => calls.invokeAsync('f', input));
    await settle();
    expect(calls.status(many.at(-1)!.id)!.state).toBe('queued');
    expect(calls.cancel(many.at(-1)!.id)).toBe(true);
    expect(await calls.result(many.at(-1)!.id)).toMatchObject({ state: 'cancelled', attempts: 0 });
    expect(calls.cancel(many.at(-1)!.id)).toBe(false);
    expect(calls.cancel('unknown')).toBe(false);
    await calls.close();
    expect(calls.pending).toBe(0);
  });

  test('never run more at once than the bound, and all run', async () => {
    const { calls, tries } = made();
    const many = Array.from({ length: 250 }, () => calls.invokeAsync('f', input));
    for (let ended = 0; ended < 250; ended++) {
      await settle();
      expect(tries.length).toBe(Math.min(250, ended + asyncCallLimits.maxRunningPerFunction));
      tries[ended]!.succeed();
    }
    const states = await Promise.all(many.map(({ id }) => calls.result(id)));
    expect(states.every((call) => call?.state === 'succeeded')).toBe(true);
  });

  test('are refused by code when too many have not ended, or there is no such function', async () => {
    const { calls } = made();
    for (let i = 0; i < asyncCallLimits.maxPendingPerFunction; i++) calls.invokeAsync('f', input);
    expect(() => calls.invokeAsync('f', input)).toThrow(
      /^IGU_FUNCTION_BUSY f has 100 calls at once and 5000 waiting; call again later; what may wait longer belongs on/,
    );
    expect(() => calls.invokeAsync('g', input)).toThrow(/^IGU_FUNCTION_NOT_FOUND/);
    await calls.close();
  });

  test('are refused with a time limit or tries that cannot be', () => {
    const { calls, tries } = made();
    for (const timeoutMs of ['5s', Number.NaN, 0, -1] as number[])
      expect(() => calls.invokeAsync('f', input, { timeoutMs })).toThrow(/^IGU_USAGE the time limit of a call/);
    for (const attempts of [0, 1.5, 'x', Number.POSITIVE_INFINITY] as number[])
      expect(() => calls.invokeAsync('f', input, { attempts })).toThrow(
        /^IGU_USAGE tries of a call: a whole number from 1,/,
      );
    expect([calls.pending, tries.length]).toEqual([0, 0]);
  });

  test('are bounded in the memory of their inputs and results', async () => {
    const { calls, tries } = made();
    const large = { trigger: 'call', input: { text: 'x'.repeat(30_000_000) } } as const;
    const many: AsyncCall[] = [];
    const fill = () => {
      for (;;) many.push(calls.invokeAsync('f', large));
    };
    expect(fill).toThrow(/^IGU_FUNCTION_BUSY/);
    expect(many.length).toBe(Math.floor(asyncCallLimits.maxPendingBytes / 30_000_000));
    await settle();
    for (const one of tries) one.succeed('y'.repeat(30_000_000));
    await Promise.all(many.map(({ id }) => calls.result(id)));
    const kept = many.filter(({ id }) => calls.status(id) !== undefined);
    expect(kept.map(({ id }) => id)).toEqual(
      many.slice(-Math.floor(asyncCallLimits.maxKeptBytes / 30_000_000)).map(({ id }) => id),
    );
    expect(() => calls.invokeAsync('f', large)).not.toThrow();
    await calls.close();
  });

  test('with an id that is known are not made again', async () => {
    const { calls, tries } = made();
    calls.invokeAsync('f', input, { invocationId: 'one' });
    await settle();
    expect(calls.invokeAsync('f', input, { invocationId: 'one' }).state).toBe('running');
    tries[0]!.succeed();
    await calls.result('one');
    expect(calls.invokeAsync('f', input, { invocationId: 'one' }).state).toBe('succeeded');
    expect(tries.length).toBe(1);
  });

  test('are forgotten after an hour', async () => {
    const { calls, tries, clock } = made();
    const { id } = calls.invokeAsync('f', input);
    await settle();
    tries[0]!.succeed();
    await calls.result(id);
    clock.advance(asyncCallLimits.keptMs);
    expect(calls.status(id)!.state).toBe('succeeded');
    clock.advance(1);
    expect(calls.status(id)).toBeUndefined();
    expect(await calls.result(id)).toBeUndefined();
  });

  test('deliver how they ended whatever a callback does, and before all is closed', async () => {
    const errors: unknown[] = [];
    const delivered: string[] = [];
    let deliver = (): void => undefined;
    const { calls, tries } = made({
      onError: (error) => errors.push(error),
      deliver: ({ invocationId }) =>
        new Promise((resolve) => {
          deliver = () => {
            delivered.push(invocationId);
            resolve();
          };
        }),
    });
    const callback = () => {
      throw new Error('callback');
    };
    calls.invokeAsync('f', input, { invocationId: 'one', callback });
    await settle();
    tries[0]!.succeed();
    await settle();
    expect(errors).toMatchObject([{ message: 'callback' }]);
    let closed = false;
    const closing = calls.close().then(() => {
      closed = true;
    });
    await settle();
    expect(closed).toBe(false);
    deliver();
    await closing;
    expect(delivered).toEqual(['one']);
  });
});
