import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import type {
  FunctionEvent,
  FunctionInstance,
  InstanceReply,
  InvocationContext,
} from '../../../src/functions/invocation.js';
import { FunctionPool, InstanceRoom, type PoolOptions } from '../../../src/functions/pool.js';
import { functionLimits } from '../../../src/limits.js';

/** Instances whose starts and calls end when the test says so. */
class Stage {
  readonly starts: { succeed: () => void; fail: (error: Error) => void }[] = [];
  readonly calls: { instance: number; input: unknown; succeed: () => void; crash: () => void }[] = [];
  readonly closed: number[] = [];
  private readonly broken = new Set<number>();
  private count = 0;
  readonly pool: FunctionPool;
  readonly clock = new VirtualClock();

  constructor(options: Partial<PoolOptions> = {}, room?: InstanceRoom) {
    const all = { name: 'f', concurrency: 1, maxConcurrency: 100, maxInstances: 3, ...options };
    this.pool = new FunctionPool(all, { start: () => this.start() }, this.clock, room);
  }

  private start(): Promise<FunctionInstance> {
    const number = this.count++;
    const instance: FunctionInstance = {
      invoke: (event) =>
        new Promise<InstanceReply>((resolve, reject) => {
          const input = event.trigger === 'call' ? event.input : undefined;
          const reply = { output: number, durationMs: 1, memoryUsedMb: 1, logs: [], logsTruncated: false };
          this.calls.push({
            instance: number,
            input,
            succeed: () => resolve(reply),
            crash: () => {
              this.broken.add(number);
              reject(new IguanaError('IGU_FUNCTION_CRASHED', { name: 'f', what: 'test' }));
            },
          });
        }),
      usable: true,
      memoryBytes: () => 10,
      close: async () => {
        this.closed.push(number);
      },
    };
    Object.defineProperty(instance, 'usable', { get: () => !this.broken.has(number) });
    return new Promise((resolve, reject) => {
      this.starts.push({ succeed: () => resolve(instance), fail: reject });
    });
  }

  /** As one that ends by itself. */
  breakInstance(number: number): void {
    this.broken.add(number);
  }

  call(input: unknown, signal = new AbortController().signal, deadline = 1e9) {
    const event: FunctionEvent = { trigger: 'call', input };
    const context: InvocationContext = {
      function: 'f',
      version: 1,
      invocationId: String(input),
      attempt: 1,
      deadline,
    };
    const reply = this.pool.run(event, context, signal);
    reply.catch(() => undefined);
    return reply;
  }
}

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('a pool', () => {
  test('starts an instance for the first call and keeps it for the next', async () => {
    const stage = new Stage();
    const first = stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    stage.calls[0]!.succeed();
    expect(await first).toMatchObject({ cold: 'first-call' });
    const second = stage.call('b');
    await settled();
    stage.calls[1]!.succeed();
    expect(await second).toMatchObject({ cold: false, initMs: 0 });
    expect(stage.starts).toHaveLength(1);
  });

  test('a waiting call takes whatever comes first: a free instance or a new one', async () => {
    const stage = new Stage();
    stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    const waiting = stage.call('b');
    expect(stage.starts).toHaveLength(2);
    stage.calls[0]!.succeed();
    await settled();
    expect(stage.calls[1]).toMatchObject({ instance: 0, input: 'b' });
    stage.calls[1]!.succeed();
    expect(await waiting).toMatchObject({ cold: false });
  });

  test('starts no more than it may, and serves in order', async () => {
    const stage = new Stage({ maxInstances: 2 });
    for (const input of ['a', 'b', 'c', 'd']) stage.call(input);
    expect(stage.starts).toHaveLength(2);
    for (const { succeed } of stage.starts) succeed();
    await settled();
    expect(stage.pool.state).toMatchObject({ instances: 2, running: 2, waiting: 2 });
    stage.calls[1]!.succeed();
    await settled();
    expect(stage.calls.map(({ input }) => input)).toEqual(['a', 'b', 'c']);
  });

  test('fills instances that have room before it starts others', async () => {
    const stage = new Stage({ concurrency: 3 });
    for (const input of ['a', 'b', 'c', 'd']) stage.call(input);
    expect(stage.starts).toHaveLength(2);
    stage.starts[0]!.succeed();
    await settled();
    expect(stage.calls.map(({ instance }) => instance)).toEqual([0, 0, 0]);
  });

  test('never runs more calls at once than allowed', async () => {
    const stage = new Stage({ maxConcurrency: 1, maxInstances: 3 });
    stage.call('a');
    stage.call('b');
    expect(stage.starts).toHaveLength(1);
    stage.starts[0]!.succeed();
    await settled();
    expect(stage.pool.state).toMatchObject({ running: 1, waiting: 1 });
  });

  test('replaces an instance that broke, and says why the next call was cold', async () => {
    const stage = new Stage();
    const broken = stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    stage.calls[0]!.crash();
    await expect(broken).rejects.toMatchObject({ code: 'IGU_FUNCTION_CRASHED' });
    await settled();
    expect(stage.closed).toEqual([0]);
    const next = stage.call('b');
    stage.starts[1]!.succeed();
    await settled();
    stage.calls[1]!.succeed();
    expect(await next).toMatchObject({ cold: 'after-failure' });
  });

  test('a failed start fails those who wait', async () => {
    const stage = new Stage({ concurrency: 2 });
    const calls = [stage.call('a'), stage.call('b')];
    stage.starts[0]!.fail(new Error('no code'));
    for (const call of calls) await expect(call).rejects.toThrow('no code');
  });

  test('scales to any number, the longest idle first to go, those with calls last', async () => {
    const stage = new Stage();
    const up = stage.pool.scaleTo(3);
    for (const { succeed } of stage.starts) succeed();
    await up;
    expect(stage.pool.state).toMatchObject({ instances: 3, idle: 3, memoryBytes: 30 });
    stage.clock.advance(10);
    const call = stage.call('a');
    await settled();
    await stage.pool.scaleTo(0);
    expect(stage.pool.state).toMatchObject({ instances: 1, running: 1 });
    stage.calls[0]!.succeed();
    expect(await call).toMatchObject({ cold: false });
    await stage.pool.scaleTo(0);
    expect(stage.pool.state.instances).toBe(0);
    const again = stage.call('b');
    stage.starts[3]!.succeed();
    await settled();
    stage.calls[1]!.succeed();
    expect(await again).toMatchObject({ cold: 'after-idle' });
  });

  test('a call that is cancelled while it waits never starts', async () => {
    const stage = new Stage({ maxInstances: 1 });
    const controller = new AbortController();
    const call = stage.call('a', controller.signal);
    controller.abort();
    await expect(call).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    stage.starts[0]!.succeed();
    await settled();
    expect(stage.calls).toHaveLength(0);
  });

  test('closes when its calls are done', async () => {
    const stage = new Stage();
    stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    const waiting = stage.call('b');
    let closed = false;
    const closing = stage.pool.close().then(() => {
      closed = true;
    });
    await expect(waiting).rejects.toMatchObject({ code: 'IGU_FUNCTION_NOT_FOUND' });
    await settled();
    expect(closed).toBe(false);
    stage.starts[1]!.succeed();
    stage.calls[0]!.succeed();
    await closing;
    expect(stage.closed.sort()).toEqual([0, 1]);
  });

  test('an instance that ended between two calls is replaced, also where there may be one alone', async () => {
    const stage = new Stage({ maxInstances: 1 });
    const first = stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    stage.calls[0]!.succeed();
    await first;
    stage.breakInstance(0);
    const second = stage.call('b');
    expect(stage.starts).toHaveLength(2);
    stage.starts[1]!.succeed();
    await settled();
    stage.calls[1]!.succeed();
    expect(await second).toMatchObject({ cold: 'after-failure', reply: { output: 1 } });
    expect(stage.closed).toEqual([0]);
  });

  test('a start that fails beside a working instance fails nobody, and is not made again at once', async () => {
    const stage = new Stage();
    stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    const second = stage.call('b');
    stage.starts[1]!.fail(new Error('no room for more'));
    await settled();
    expect(stage.starts).toHaveLength(2);
    expect(stage.pool.state).toMatchObject({ running: 1, waiting: 1, starting: 0 });
    stage.calls[0]!.succeed();
    await settled();
    stage.calls[1]!.succeed();
    expect(await second).toMatchObject({ cold: false });
    stage.clock.advance(1_000);
    stage.call('c');
    stage.call('d');
    expect(stage.starts).toHaveLength(3);
  });

  test('of several starts the last one that fails fails those who wait', async () => {
    const stage = new Stage();
    const calls = [stage.call('a'), stage.call('b')];
    stage.starts[0]!.fail(new Error('first'));
    await settled();
    expect(stage.pool.state).toMatchObject({ waiting: 2, starting: 1 });
    stage.starts[1]!.fail(new Error('second'));
    for (const call of calls) await expect(call).rejects.toThrow('second');
    expect(stage.starts).toHaveLength(2);
  });

  test('a call waits for an instance until its deadline, and never begins after it', async () => {
    const stage = new Stage({ maxInstances: 1 });
    stage.call('a');
    stage.starts[0]!.succeed();
    await settled();
    const late = stage.call('b', new AbortController().signal, 500);
    stage.clock.advance(499);
    expect(stage.pool.state.waiting).toBe(1);
    stage.clock.advance(1);
    await expect(late).rejects.toThrow(
      /^IGU_FUNCTION_NOT_READY no instance of f is ready: 1 of at most 1, with 1 of at most 100 calls, had no room within 500 ms;/,
    );
    stage.calls[0]!.succeed();
    await settled();
    expect(stage.calls).toHaveLength(1);
    expect(stage.pool.state).toMatchObject({ waiting: 0, running: 0 });
  });

  test('a call that waits for a start alone is told so, and only one too many is told that too many wait', async () => {
    const stage = new Stage({ maxInstances: 1 });
    const late = stage.call('a', new AbortController().signal, 500);
    for (let i = 1; i < functionLimits.maxWaiting; i++) stage.call(i);
    await expect(stage.call('many')).rejects.toThrow(
      /^IGU_FUNCTION_BUSY f has 100 calls at once and 10000 waiting; call again later, or raise maxConcurrency$/,
    );
    stage.clock.advance(500);
    await expect(late).rejects.toThrow(
      /^IGU_FUNCTION_NOT_READY no instance of f is ready: the first was still starting after 500 ms; give the call more time, /,
    );
    stage.starts[0]!.fail(new Error('ended'));
  });

  test('calls that share a signal have one listener on it, and hear nothing of it when they are over', async () => {
    const stage = new Stage({ maxInstances: 1 });
    const ending = new AbortController();
    const { signal } = ending;
    const listeners = () => getEventListeners(signal, 'abort').length;
    const failed = ['a', 'b'].map((name) => stage.call(name, signal));
    expect(listeners()).toBe(1);
    stage.starts[0]!.fail(new Error('no code'));
    await settled();
    ending.abort();
    for (const call of failed) await expect(call).rejects.toThrow('no code');
    expect(listeners()).toBe(0);
    const aborted = stage.call('c', AbortSignal.abort());
    await expect(aborted).rejects.toMatchObject({ code: 'IGU_FUNCTION_CANCELLED' });
    expect(stage.starts).toHaveLength(1);
  });

  test('without room for an instance ahead a call still gets the place of one that is idle', async () => {
    const room = new InstanceRoom(2);
    const [idle, busy] = [new Stage({}, room), new Stage({}, room)];
    const up = idle.pool.scaleTo(1);
    idle.starts[0]!.succeed();
    await up;
    busy.call('a');
    busy.starts[0]!.succeed();
    await settled();
    await busy.pool.scaleTo(2);
    expect(busy.pool.state).toMatchObject({ instances: 1, starting: 0 });
    const second = busy.call('b');
    expect(idle.closed).toEqual([0]);
    busy.starts[1]!.succeed();
    await settled();
    busy.calls[1]!.succeed();
    expect(await second).toMatchObject({ cold: 'scale-up', reply: { output: 1 } });
  });

  test('a call that comes while an instance ahead finds no room is not refused for that', async () => {
    const room = new InstanceRoom(1);
    const [idle, called] = [new Stage({}, room), new Stage({}, room)];
    const up = idle.pool.scaleTo(1);
    idle.starts[0]!.succeed();
    await up;
    const ahead = called.pool.scaleTo(1);
    const call = called.call('a');
    await ahead;
    called.starts[0]!.succeed();
    await settled();
    called.calls[0]!.succeed();
    expect(await call).toMatchObject({ reply: { output: 0 } });
    expect(idle.closed).toEqual([0]);
  });

  test('the instance that gives way is the one that has been idle longest, of all functions', async () => {
    const room = new InstanceRoom(3);
    const [old, young, called] = [new Stage({}, room), new Stage({}, room), new Stage({}, room)];
    for (const [stage, ms] of [
      [young, 20],
      [old, 10],
      [young, 30],
    ] as const) {
      stage.clock.advance(ms);
      const up = stage.pool.atLeast(stage.pool.state.instances + 1);
      stage.starts.at(-1)!.succeed();
      await up;
    }
    called.call('a');
    await settled();
    expect([old.closed, young.closed]).toEqual([[0], []]);
    called.call('b');
    expect([old.closed, young.closed]).toEqual([[0], [0]]);
  });

  test('raises the number of instances without stopping any', async () => {
    const stage = new Stage();
    const up = stage.pool.atLeast(2);
    for (const { succeed } of stage.starts) succeed();
    await up;
    await stage.pool.atLeast(0);
    expect(stage.pool.state.instances).toBe(2);
    expect(stage.closed).toEqual([]);
  });
});
