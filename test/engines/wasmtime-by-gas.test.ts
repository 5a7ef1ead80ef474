/** Wasmtime without the checks that let it be stopped, where a small gas limit ends every call; and with them everywhere else. */
import { readFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { IguanaError, messageOf } from '../../src/errors.js';
import { wasmRuntimeLimits } from '../../src/limits.js';
import { describeEngines } from '../../src/wasm/engines/describe.js';
import { type CreateOptions, type InstanceHandle, WasmRuntime } from '../../src/wasm/runtime/runtime.js';
import { WasmTrap } from '../../src/wasm/trap.js';

const loops = new Uint8Array(readFileSync(new URL('../guests/hostile/endless-loop.wasm', import.meta.url)));
const there = (await describeEngines()).some((one) => one.name === 'wasmtime' && !('missing' in one));

let runtime: WasmRuntime;
let moduleId: string;
beforeEach(async () => {
  runtime = new WasmRuntime({ workers: 1 });
  moduleId = (await runtime.loadModule(loops)).id;
});
afterEach(() => runtime.close());

const create = (more: Partial<CreateOptions> = {}) =>
  runtime.createInstance({ moduleId, runtime: 'wasmtime', ...more });
const spin = (instance: InstanceHandle) =>
  runtime.callFunction(instance, 'spin').then(
    () => 'none',
    (error: unknown) =>
      error instanceof WasmTrap ? error.trap : error instanceof IguanaError ? error.code : messageOf(error),
  );
const refusal = (changed: Promise<void>) => changed.then(() => 'none', messageOf);

/** Calls the instance and asks for its end until the call has ended. @returns whether it could be stopped, and the call's end */
async function interrupted(instance: InstanceHandle): Promise<readonly [boolean, string]> {
  let over = false;
  let stopped = false;
  const end = spin(instance).finally(() => {
    over = true;
  });
  while (!over) {
    await new Promise((resolve) => setImmediate(resolve));
    stopped = (await runtime.interrupt(instance)) || stopped;
  }
  return [stopped, await end];
}

describe.skipIf(!there)('wasmtime', () => {
  it('is ended by gas alone where that is soon, and cannot be stopped then', async () => {
    for (const limits of [{ limits: { maxInstructions: 10_000_000 } }, { gas: 10_000_000 }])
      expect(await interrupted(await create(limits))).toEqual([false, 'out-of-gas']);
  });

  it('can be stopped without a gas limit, with a high one, and with a timeout', async () => {
    const high = { maxInstructions: wasmRuntimeLimits.maxUnstoppableGas + 1 };
    for (const limits of [{}, high, { maxInstructions: 1_000_000_000, timeout: 60_000 }])
      expect(await interrupted(await create({ limits }))).toEqual([true, 'timeout']);
    expect(await spin(await create({ limits: { maxInstructions: 1_000_000_000, timeout: 20 } }))).toBe('timeout');
  });

  it('keeps the limits that end it, and says why', async () => {
    const instance = await create({ limits: { maxInstructions: 1_000_000 } });
    const most = wasmRuntimeLimits.maxUnstoppableGas;
    for (const limits of [{ timeout: 100 }, { maxInstructions: null }, { maxInstructions: most + 1 }])
      expect(await refusal(runtime.setResourceLimits(instance, limits))).toMatch(
        /^IGU_WASM_UNSUPPORTED a timeout, or more than 1000000000 units of gas a call, .* made with a gas limit alone/,
      );
    await runtime.setResourceLimits(instance, { maxInstructions: 2_000_000 });
    expect(await spin(instance)).toBe('out-of-gas');
    await runtime.setGasLimit(instance, 500);
    await runtime.setResourceLimits(instance, { maxInstructions: null });
    expect(await refusal(runtime.setGasLimit(instance, null))).toContain('IGU_WASM_UNSUPPORTED');
    expect(await spin(instance)).toBe('out-of-gas');
    expect((await runtime.getGasUsed(instance)).lastCall).toBe(500);
  });

  it('counts the same gas both ways', async () => {
    const used = async (limits: CreateOptions['limits']) => {
      const instance = await create({ ...(limits && { limits }) });
      const [result] = await runtime.callFunction(instance, 'add', [
        { type: 'i32', value: 40 },
        { type: 'i32', value: 2 },
      ]);
      return [result?.value, (await runtime.getGasUsed(instance)).total];
    };
    expect(await used({ maxInstructions: 1_000 })).toEqual(await used({}));
  });

  it('is stopped in the thread that it came back to', async () => {
    const instance = await create({ limits: { timeout: 2_000 } });
    await runtime.snapshotCreate(instance);
    const culprit = await runtime.createInstance({ moduleId, limits: { timeout: 20 } });
    const other = await runtime.createInstance({ moduleId });
    const held = spin(other);
    while (!(await runtime.interrupt(other))) await new Promise((resolve) => setImmediate(resolve));
    expect(await held).toBe('timeout');
    expect(await spin(culprit)).toBe('IGU_WASM_LOST');
    await runtime.setResourceLimits(instance, { timeout: 30 });
    expect(await spin(instance)).toBe('timeout');
    expect(runtime.stats().workersEnded).toBe(1);
  });
});
