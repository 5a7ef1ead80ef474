import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { functionSchema } from '../../../src/functions/definition.js';
import { takeLogs } from '../../../src/functions/failed-logs.js';
import type { FunctionEvent, FunctionInstance, InvocationContext } from '../../../src/functions/invocation.js';
import { wasmFactory } from '../../../src/functions/wasm/wasm-factory.js';
import { WasmThreads } from '../../../src/functions/wasm/wasm-threads.js';
import { bytesGuest, commandGuest } from '../../support/function-guests.js';

const threads = new WasmThreads(2);
let bytes: Uint8Array;
let command: Uint8Array;
beforeAll(async () => {
  bytes = await bytesGuest();
  command = await commandGuest();
});
afterAll(() => threads.close());

const deployment = (code: Uint8Array, handler: string, options: object = {}) => ({
  definition: functionSchema.parse({ name: 'f', runtime: 'wasm', handler, code: { file: 'f.wasm' }, ...options }),
  code,
});
const start = (code: Uint8Array, handler: string, options: object = {}): Promise<FunctionInstance> =>
  wasmFactory(threads, deployment(code, handler, options), { GREETING: 'hello' }).start();

const within = (ms: number): InvocationContext => ({
  function: 'f',
  version: 3,
  invocationId: 'i-1',
  attempt: 2,
  deadline: Date.now() + ms,
});
const call = (instance: FunctionInstance, input: unknown = null, ms = 5_000, signal?: AbortSignal) => {
  const event: FunctionEvent = { trigger: 'call', input };
  return instance.invoke(event, within(ms), signal);
};

describe.each([true, false])('exports of the bytes convention (snapshot: %s)', (snapshot) => {
  const started = (handler: string, options: object = {}) => start(bytes, handler, { snapshot, ...options });

  test('are given event and context, and answer with any value', async () => {
    const instance = await started('echo');
    const { output, gasUsed, durationMs, memoryUsedMb } = await call(instance, {
      text: 'Grüße',
      bytes: new Uint8Array([1, 2]),
    });
    expect(output).toEqual({
      trigger: 'call',
      input: { text: 'Grüße', bytes: { base64: 'AQI=' } },
      context: { function: 'f', version: 3, invocationId: 'i-1', attempt: 2, deadline: expect.any(Number) },
    });
    expect(gasUsed).toBeGreaterThan(10);
    expect(durationMs).toBeLessThan(1_000);
    expect(memoryUsedMb).toBe(0.125);
    expect(instance.memoryBytes()).toBe(131_072);
  });

  test('keep their state between calls, and are initialised once', async () => {
    const instance = await started('count');
    expect((await call(instance)).output).toBe(71);
    expect((await call(instance)).output).toBe(72);
    expect((await call(await started('count'))).output).toBe(71);
  });

  test('that trap are told with their functions, and begin anew', async () => {
    const instance = await started('fragile');
    await call(instance);
    expect((await call(instance)).output).toBe(2);
    await expect(call(instance, 'x'.repeat(300))).rejects.toMatchObject({
      code: 'IGU_FUNCTION_FAILED',
      message: expect.stringContaining('unreachable in deep < fragile'),
      cause: { gasUsed: expect.any(Number), frames: ['deep', 'fragile'] },
    });
    expect((await call(instance)).output).toBe(1);
  });

  test('that may not have the memory say so', async () => {
    const instance = await started('bomb', { memoryMb: 16 });
    await expect(call(instance)).rejects.toMatchObject({
      code: 'IGU_FUNCTION_MEMORY',
      message: expect.stringContaining('16 MB'),
      cause: { message: expect.stringContaining('unreachable in bomb') },
    });
    await expect(call(instance)).rejects.toMatchObject({ code: 'IGU_FUNCTION_MEMORY' });
  });

  test('cost the same gas each time', async () => {
    const instance = await started('echo');
    const gas = [];
    for (let i = 0; i < 3; i++) gas.push((await call(instance, 'same')).gasUsed);
    expect(new Set(gas).size).toBe(1);
  });
});

test.each([
  ['refuses', /f failed: it will not/],
  ['outside', /its answer lies outside of its memory/],
  ['endless-answer', /it answered 1073741824 bytes, more than 6291456/],
])('an export that %s', async (handler, message) => {
  const instance = await start(bytes, handler);
  await expect(call(instance)).rejects.toMatchObject({
    code: 'IGU_FUNCTION_FAILED',
    message: expect.stringMatching(message),
  });
  expect(instance.usable).toBe(true);
});

test('answers may be bytes, as they are or as base64', async () => {
  expect((await call(await start(bytes, 'bytes'))).output).toEqual(new Uint8Array([0xff, 0xfe]));
  expect((await call(await start(bytes, 'base64'))).output).toEqual(new Uint8Array([1, 2, 3]));
  expect((await call(await start(bytes, 'logs'))).output).toBe(null);
});

test('logs are kept with the call, within bounds', async () => {
  const { logs, logsTruncated } = await call(await start(bytes, 'logs'));
  expect({ logs, logsTruncated }).toEqual({ logs: ['info hello from the guest'], logsTruncated: false });
  const flood = await call(await start(bytes, 'floods'));
  expect(flood.logsTruncated).toBe(true);
  expect(flood.logs.join('').length).toBeLessThan(100_000);
});

test.each([
  ['nothing', /exports no function nothing: \(i32, i32\) → \(i64\); its functions are _initialize, iguana_alloc/],
  ['wrong', /its export wrong is \(i32\) → \(i32\), not \(i32, i32\) → \(i64\)/],
])('a module without the handler %s is refused', async (handler, message) => {
  await expect(start(bytes, handler)).rejects.toMatchObject({
    code: 'IGU_FUNCTION_CODE',
    message: expect.stringMatching(message),
  });
});

test('what is no module is refused', async () => {
  await expect(start(new TextEncoder().encode('export const x = 1'), 'handle')).rejects.toMatchObject({
    code: 'IGU_FUNCTION_CODE',
  });
});

describe.each([true, false])('a WASI command (snapshot: %s)', (snapshot) => {
  test('reads the event, answers on standard output, and each call is its first', async () => {
    const instance = await start(command, 'handle', { snapshot });
    for (const input of ['a', 'b', 'x'.repeat(300_000)]) {
      const { output, logs, gasUsed } = await call(instance, input);
      expect(output).toEqual([{ trigger: 'call', input, context: expect.objectContaining({ function: 'f' }) }]);
      expect(logs).toEqual(['warn seen']);
      expect(gasUsed).toBeGreaterThan(10);
    }
  });

  test('that ends with another code than 0 has failed', async () => {
    const instance = await start(await commandGuest({ exits: true }), '_start', { snapshot });
    for (let i = 0; i < 2; i++)
      await expect(call(instance)).rejects.toMatchObject({
        code: 'IGU_FUNCTION_FAILED',
        message: expect.stringContaining('exit code 3'),
        cause: { logs: ['warn seen'] },
      });
  });
});

describe('a call that does not end', () => {
  test('is stopped at its deadline and ends its instance', async () => {
    const instance = await start(bytes, 'spins');
    const before = performance.now();
    await expect(call(instance, null, 100)).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(instance.usable).toBe(false);
    await expect(call(instance)).rejects.toMatchObject({ code: 'IGU_FUNCTION_TIMEOUT' });
  });

  test('is told with what it had logged, also when it was given up', async () => {
    const instance = await start(bytes, 'says-and-spins');
    await expect(call(instance, null, 100)).rejects.toMatchObject({
      code: 'IGU_FUNCTION_TIMEOUT',
      cause: { logs: ['info hello from the guest'] },
    });
    const ending = new AbortController();
    const another = await start(bytes, 'says-and-spins');
    const context = within(300);
    const givenUp = another.invoke({ trigger: 'call', input: 1 }, context, ending.signal);
    ending.abort();
    const lines: string[] = [];
    takeLogs(context, (more) => lines.push(...more));
    await expect(givenUp).rejects.toThrow();
    expect(lines).toEqual(['info hello from the guest']);
  });

  test('is told that the system was closed', async () => {
    const own = new WasmThreads(1);
    const instance = await wasmFactory(own, deployment(bytes, 'says-and-spins'), {}).start();
    const ended = call(instance).catch((error) => error);
    const begun = Date.now() + 300;
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(begun), { timeout: 2_000 });
    await own.close();
    expect(await ended).toMatchObject({
      code: 'IGU_FUNCTION_CRASHED',
      message: expect.stringContaining('the system was closed'),
      cause: { logs: ['info hello from the guest'] },
    });
  });

  test('keeps no other function waiting, wherever it lives', async () => {
    const own = new WasmThreads(2);
    const starts = (handler: string) => wasmFactory(own, deployment(bytes, handler), {}).start();
    const hanging = await Promise.all([1, 2, 3].map(() => starts('spins')));
    const others = await Promise.all([1, 2, 3, 4].map(() => starts('count')));
    let ended = 0;
    const stopped = hanging.map((instance) =>
      call(instance, null, 60_000).catch(({ code }: { code: string }) => {
        ended++;
        return code;
      }),
    );
    for (const { output } of await Promise.all(others.map((instance) => call(instance, null, 60_000))))
      expect(output).toBe(71);
    // and those that moved go on with what they have, unless they had to move again
    for (const instance of others)
      expect((await call(instance, null, 60_000)).output).toSatisfy((calls) => calls === 72 || calls === 71);
    expect(own.count).toBeGreaterThan(2);
    expect(ended).toBe(0);
    await own.close();
    expect(await Promise.all(stopped)).toEqual(Array(3).fill('IGU_FUNCTION_CRASHED'));
  });

  test('takes no other function with it when it is stopped', async () => {
    const own = new WasmThreads(1);
    const starts = (handler: string) => wasmFactory(own, deployment(bytes, handler), {}).start();
    const [hanging, other] = await Promise.all([starts('spins'), starts('count')]);
    const stopped = call(hanging, null, 300).catch(({ code }: { code: string }) => code);
    expect((await call(other, null, 60_000)).output).toBe(71);
    expect(await stopped).toBe('IGU_FUNCTION_TIMEOUT');
    expect((await call(other, null, 60_000)).output).toSatisfy((calls) => calls === 72 || calls === 71);
    await own.close();
  });

  test('takes no other call of its own function with it', async () => {
    const own = new WasmThreads(1);
    const instance = await wasmFactory(own, deployment(bytes, 'sometimes'), {}).start();
    const long = call(instance, 'x'.repeat(300), 200).catch(({ code }: { code: string }) => code);
    const short = [1, 2].map(() => call(instance, null, 60_000));
    expect(await long).toBe('IGU_FUNCTION_TIMEOUT');
    for (const { output } of await Promise.all(short)) expect(output).toBe(5);
    expect(instance.usable).toBe(false);
    expect(own.memoryBytes).toBe(131_072);
    await instance.close();
    await expect.poll(() => own.memoryBytes).toBe(0);
    await own.close();
  });

  test('holds its place until it has ended when its caller gives it up', async () => {
    const instance = await start(bytes, 'works');
    const controller = new AbortController();
    const givenUp = call(instance, null, 5_000, controller.signal);
    controller.abort();
    expect((await givenUp).output).toBe(1);
    await expect(call(instance, null, 5_000, controller.signal)).rejects.toMatchObject({
      code: 'IGU_FUNCTION_CANCELLED',
    });
    expect((await call(instance)).output).toBe(1);
  });
});

test('instances give their memory back', async () => {
  const before = threads.memoryBytes;
  const instances = await Promise.all(Array.from({ length: 20 }, () => start(bytes, 'echo')));
  expect(threads.memoryBytes - before).toBe(20 * 131_072);
  await Promise.all(instances.map((instance) => instance.close()));
  await call(await start(bytes, 'echo'));
  await expect.poll(() => threads.memoryBytes - before).toBe(131_072);
});

test('after the end nothing is left waiting', async () => {
  const own = new WasmThreads(1);
  const factory = wasmFactory(own, deployment(bytes, 'spins'), {});
  const instance = await factory.start();
  const pending = [call(instance), call(instance)].map((one) => one.catch(({ code }: { code: string }) => code));
  await own.close();
  expect(await Promise.all(pending)).toEqual(['IGU_FUNCTION_CRASHED', 'IGU_FUNCTION_CRASHED']);
});
