import { readdirSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IguanaError } from '../../../src/errors.js';
import {
  type CreateOptions,
  type ModuleHandle,
  type Placement,
  WasmRuntime,
} from '../../../src/wasm/runtime/runtime.js';
import type { TypedValue } from '../../../src/wasm/runtime/values.js';
import type { Snapshot } from '../../../src/wasm/snapshot/snapshot.js';
import { WasmTrap } from '../../../src/wasm/trap.js';
import { calcModule } from '../../support/wasm-calc.js';

const i32 = (value: number): TypedValue => ({ type: 'i32', value });

let folder: string;
let importsFrom: string;
let runtime: WasmRuntime;
let calc: ModuleHandle;

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'iguana-runtime-'));
  importsFrom = path.join(folder, 'imports.mjs');
  writeFileSync(importsFrom, 'export default { host: { tell: () => undefined } };\n');
  runtime = new WasmRuntime({ workers: 2 });
  calc = await runtime.loadModule(calcModule);
});
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true });
});

const create = (placement: Placement, more: Partial<CreateOptions> = {}) =>
  runtime.createInstance({ moduleId: calc.id, placement, importsFrom, ...more });

async function failure(action: Promise<unknown>): Promise<IguanaError> {
  const error = await action.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof IguanaError) return error;
  throw new Error(`no IguanaError but ${String(error)}`);
}
const trapOf = async (action: Promise<unknown>): Promise<string> => {
  const error = await failure(action);
  return error instanceof WasmTrap ? error.trap : error.code;
};

describe('modules', () => {
  it('are known by their content and told with what they need', async () => {
    const file = path.join(folder, 'calc.wasm');
    writeFileSync(file, calcModule);
    expect((await runtime.loadModule(file)).id).toBe(calc.id);
    expect(calc.size).toBe(calcModule.length);
    expect(calc.exports.find(({ name }) => name === 'add')).toMatchObject({
      kind: 'function',
      type: { params: ['i32', 'i32'], results: ['i32'] },
    });
    expect(calc.imports).toMatchObject([{ module: 'host', name: 'tell', kind: 'function' }]);
    expect(calc.memory).toEqual([{ initial: 65_536 }]);
    expect(calc.features).toContain('multi-value');
    expect(structuredClone(calc)).toEqual(calc);
  });

  it('that are none, or not there, are refused', async () => {
    expect((await failure(runtime.loadModule(new Uint8Array([1, 2, 3])))).code).toBe('IGU_WASM_MALFORMED');
    expect((await failure(runtime.loadModule(path.join(folder, 'no.wasm')))).code).toBe('IGU_FILE_MISSING');
    expect((await failure(runtime.createInstance({ moduleId: 'x' }))).code).toBe('IGU_WASM_NOT_FOUND');
  });

  it('are held to a number and a size, with a clear error at the wall', async () => {
    const small = new WasmRuntime({ maxModules: 1, maxCodeBytes: 10_000 });
    const one = await small.loadModule(calcModule);
    const other = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0]);
    expect((await failure(small.loadModule(other))).message).toContain('number of loaded modules is 2, the limit is 1');
    small.unloadModule(one.id);
    expect(small.stats().codeBytes).toBe(0);
    await small.loadModule(other);
    await small.close();
    const tight = new WasmRuntime({ maxCodeBytes: 100 });
    expect((await failure(tight.loadModule(calcModule))).message).toContain('code of all modules');
    await tight.close();
  });
});

describe('code compiled ahead', () => {
  it('is kept in a directory and begins at the optimised tier', async () => {
    const codeCache = path.join(folder, 'code');
    const ahead = new WasmRuntime({ workers: 1, codeCache });
    const { id } = await ahead.loadModule(calcModule);
    expect((await ahead.compileAhead(id)).bytes).toBeGreaterThan(500);
    expect((await ahead.compileAhead(id)).tookMs).toBe(0);
    for (const placement of ['in-place', 'worker'] as const) {
      const handle = await ahead.createInstance({ moduleId: id, placement, importsFrom, tier: 'optimised' });
      expect(handle.tier).toBe('optimised');
      expect(await ahead.callFunction(handle, 'loop', [i32(100)])).toEqual([i32(100)]);
    }
    await ahead.close();
    const names = readdirSync(codeCache).sort();
    const next = new WasmRuntime({ workers: 1, codeCache });
    expect(await next.loadModule(calcModule)).toEqual(calc);
    const again = await next.createInstance({ moduleId: id, placement: 'in-place', importsFrom, gas: 10_000 });
    expect(await trapOf(next.callFunction(again, 'forever'))).toBe('out-of-gas');
    await next.close();
    expect(readdirSync(codeCache).sort()).toEqual(names);
    expect((await failure(runtime.compileAhead(calc.id))).message).toContain('codeCache');
  });
});

describe.each(['in-place', 'worker'] as const)('instances %s', (placement) => {
  it('answer calls, count gas and tell which engine runs', async () => {
    const handle = await create(placement, { gas: 1_000_000 });
    expect(structuredClone(handle)).toEqual(handle);
    expect(handle).toMatchObject({
      moduleId: calc.id,
      runtime: 'native',
      tier: 'tiered',
      placement,
      tenant: 'default',
    });
    expect(handle.version).toBe(`V8 ${process.versions.v8}`);
    expect(await runtime.callFunction(handle, 'add', [i32(2), i32(40)])).toEqual([i32(42)]);
    expect(
      await runtime.callFunction(handle.id, 'add64', [
        { type: 'i64', value: -5n },
        { type: 'i64', value: 2n },
      ]),
    ).toEqual([{ type: 'i64', value: -3n }]);
    const used = await runtime.getGasUsed(handle);
    expect(used.total).toBeGreaterThan(used.lastCall);
    expect(used.left).toBe(1_000_000 - used.total);
    await runtime.setGasLimit(handle, 500);
    expect(await trapOf(runtime.callFunction(handle, 'forever'))).toBe('out-of-gas');
    expect((await runtime.getGasUsed(handle)).left).toBe(0);
    await runtime.setGasLimit(handle, null);
    await runtime.setResourceLimits(handle, { maxInstructions: 700, maxMemory: 131_072 });
    expect(await trapOf(runtime.callFunction(handle, 'forever'))).toBe('out-of-gas');
    expect((await runtime.getGasUsed(handle)).lastCall).toBe(700);
    await runtime.setResourceLimits(handle, { maxInstructions: null });
    expect(await runtime.callFunction(handle, 'grow', [i32(2)])).toEqual([i32(-1)]);
    expect(await runtime.callFunction(handle, 'grow', [i32(1)])).toEqual([i32(1)]);
    expect(await runtime.info(handle)).toMatchObject({
      engine: 'native',
      host: 'native',
      memoryBytes: 131_072,
      calls: 6,
      traps: 2,
      limits: { maxMemoryPages: 2 },
    });
    await runtime.destroy(handle);
    expect((await failure(runtime.callFunction(handle, 'add', [i32(1), i32(2)]))).code).toBe('IGU_WASM_NOT_FOUND');
    expect((await failure(runtime.destroy(handle))).code).toBe('IGU_WASM_NOT_FOUND');
  });

  it('refuse wrong calls with the same errors', async () => {
    const handle = await create(placement);
    expect((await failure(runtime.callFunction(handle, 'add', [i32(1)]))).code).toBe('IGU_WASM_SIGNATURE');
    expect((await failure(runtime.callFunction(handle, 'minus'))).code).toBe('IGU_WASM_NOT_FOUND');
    const trap = await failure(runtime.callFunction(handle, 'divide', [i32(1), i32(0)]));
    expect(trap).toBeInstanceOf(WasmTrap);
    expect((trap as WasmTrap).frames).toEqual(['divide']);
    expect((await failure(runtime.setResourceLimits(handle, { maxMemory: 1.5 }))).code).toBe('IGU_USAGE');
    expect((await failure(runtime.setResourceLimits(handle, { maxMemory: 2 ** 31 }))).message).toMatch(/written into/);
    const snapshot = {} as Snapshot;
    expect((await failure(create(placement, { snapshot }))).code).toBe('IGU_WASM_SNAPSHOT');
    expect((await failure(runtime.readMemory(handle, 65_530, 10))).code).toBe('IGU_USAGE');
    await runtime.destroy(handle);
  });

  it('go back to a snapshot, or begin with one', async () => {
    const handle = await create(placement);
    await runtime.callFunction(handle, 'poke', [i32(64), i32(1234)]);
    await runtime.callFunction(handle, 'divide', [i32(4), i32(2)]);
    const snapshot = await runtime.snapshotCreate(handle);
    await runtime.callFunction(handle, 'poke', [i32(64), i32(9)]);
    await runtime.writeMemory(handle, 40_000, new Uint8Array([1, 2, 3]));
    await runtime.callFunction(handle, 'grow', [i32(1)]);
    expect(await runtime.readMemory(handle, 40_000, 3)).toEqual(new Uint8Array([1, 2, 3]));
    await runtime.snapshotRestore(handle, snapshot);
    expect(await runtime.callFunction(handle, 'peek', [i32(64)])).toEqual([i32(1234)]);
    expect(await runtime.readMemory(handle, 40_000, 3)).toEqual(new Uint8Array(3));
    expect((await runtime.info(handle)).memoryBytes).toBe(65_536);
    const other = await create(placement === 'worker' ? 'in-place' : 'worker', { snapshot });
    expect(await runtime.callFunction(other, 'peek', [i32(64)])).toEqual([i32(1234)]);
    expect((await runtime.getGasUsed(other)).total).toBe((await runtime.getGasUsed(other)).lastCall);
    await runtime.destroy(handle);
    await runtime.destroy(other);
  });

  it('have their memory counted by tenant, until they are destroyed', async () => {
    const tenant = `tenant-${placement}`;
    const a = await create(placement, { tenant });
    const b = await create(placement, { tenant });
    await runtime.callFunction(a, 'grow', [i32(3)]);
    expect(runtime.stats().tenants[tenant]).toBe(5 * 65_536);
    await runtime.destroy(a);
    expect(runtime.stats().tenants[tenant]).toBe(65_536);
    await runtime.destroy(b);
    expect(runtime.stats().tenants[tenant]).toBe(0);
  });

  it('are stopped by the clock', async () => {
    const handle = await create(placement, { limits: { timeout: 150 } });
    const other = await create(placement);
    expect(await runtime.callFunction(handle, 'add', [i32(1), i32(2)])).toEqual([i32(3)]);
    const before = performance.now();
    expect(await trapOf(runtime.callFunction(handle, 'forever'))).toBe('timeout');
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(await runtime.callFunction(other, 'add', [i32(1), i32(2)])).toEqual([i32(3)]);
    await runtime.destroy(handle);
    await runtime.destroy(other);
  });
});

describe('worker threads', () => {
  it('stop only the call while others live in the thread', async () => {
    const one = new WasmRuntime({ workers: 1 });
    const { id } = await one.loadModule(calcModule);
    const bad = await one.createInstance({ moduleId: id, importsFrom, limits: { timeout: 150 } });
    const good = await one.createInstance({ moduleId: id, importsFrom });
    await one.callFunction(good, 'poke', [i32(0), i32(7)]);
    expect(await trapOf(one.callFunction(bad, 'forever'))).toBe('timeout');
    expect(await one.callFunction(good, 'peek', [i32(0)])).toEqual([i32(7)]);
    expect(await one.callFunction(bad, 'add', [i32(1), i32(2)])).toEqual([i32(3)]);
    expect(one.stats()).toMatchObject({ workersEnded: 0, lost: 0, workers: 1, instances: 2 });
    await one.close();
  });

  it('are ended when a lone call does not stop; the handle says so, and comes back from a snapshot', async () => {
    const one = new WasmRuntime({ workers: 1 });
    const { id } = await one.loadModule(calcModule);
    const create = () =>
      one.createInstance({ moduleId: id, importsFrom, limits: { timeout: 150 }, gas: 2 ** 42, tenant: 'lone' });
    const lone = await create();
    const call = one.callFunction(lone, 'forever');
    const queued = one.callFunction(lone, 'add', [i32(1), i32(2)]);
    const queuedError = failure(queued);
    expect(await trapOf(call)).toBe('timeout');
    const lost = await queuedError;
    expect(lost.code).toBe('IGU_WASM_LOST');
    expect(lost.retriable).toBe(true);
    expect(one.stats()).toMatchObject({ workersEnded: 1, lost: 1, workers: 0, tenants: { lone: 0 } });
    expect(await one.getGasUsed(lone)).toMatchObject({ total: 2 ** 42, left: 0 });
    expect((await failure(one.callFunction(lone, 'add', [i32(1), i32(2)]))).code).toBe('IGU_WASM_LOST');
    await one.destroy(lone);

    const kept = await create();
    await one.callFunction(kept, 'poke', [i32(0), i32(77)]);
    await one.snapshotCreate(kept);
    await one.setGasLimit(kept, null);
    await one.getGasUsed(kept);
    expect(await trapOf(one.callFunction(kept, 'forever'))).toBe('timeout');
    expect(await one.callFunction(kept, 'peek', [i32(0)])).toEqual([i32(77)]);
    expect(one.stats()).toMatchObject({ restored: 1, workersEnded: 2, tenants: { lone: 65_536 } });
    await one.close();
  });

  it('end a call on request', async () => {
    const one = new WasmRuntime({ workers: 1 });
    const { id } = await one.loadModule(calcModule);
    const endless = await one.createInstance({ moduleId: id, importsFrom });
    const other = await one.createInstance({ moduleId: id, importsFrom });
    await one.snapshotCreate(other);
    expect(await one.interrupt(endless)).toBe(false);
    const stopped = trapOf(one.callFunction(endless, 'forever'));
    expect(await one.interrupt(other)).toBe(false);
    expect(await one.interrupt(endless)).toBe(true);
    expect(await stopped).toBe('timeout');
    expect((await failure(one.callFunction(endless, 'stop'))).code).toBe('IGU_WASM_LOST');
    expect(await one.callFunction(other, 'add', [i32(1), i32(2)])).toEqual([i32(3)]);
    expect(one.stats()).toMatchObject({ workersEnded: 1, lost: 2, restored: 1 });
    await one.close();
  });

  it('that fail by themselves are told as lost, and the next call has another', async () => {
    const one = new WasmRuntime({ workers: 1 });
    const { id } = await one.loadModule(calcModule);
    const file = path.join(folder, 'ends.mjs');
    writeFileSync(file, 'export default { host: { tell: () => process.exit(3) } };\n');
    const ends = await one.createInstance({ moduleId: id, importsFrom: file, limits: { timeout: 10_000 } });
    await one.snapshotCreate(ends);
    const lost = await failure(one.callFunction(ends, 'say', [i32(1)]));
    expect(lost.code).toBe('IGU_WASM_LOST');
    expect(lost.message).toContain('its worker thread ended with 3');
    expect(await one.callFunction(ends, 'add', [i32(1), i32(2)])).toEqual([i32(3)]);
    await one.close();
  });

  it('share the work, and what is over the most instances is refused', async () => {
    const two = new WasmRuntime({ workers: 2, maxInstances: 3 });
    const { id } = await two.loadModule(calcModule);
    const handles = await Promise.all([1, 2, 3].map(() => two.createInstance({ moduleId: id, importsFrom })));
    expect(two.stats()).toMatchObject({ workers: 2, instances: 3, byPlacement: { worker: 3 } });
    expect((await failure(two.createInstance({ moduleId: id, importsFrom }))).message).toContain(
      'number of instances is 4, the limit is 3',
    );
    const sums = await Promise.all(handles.map((handle, i) => two.callFunction(handle, 'add', [i32(i), i32(i)])));
    expect(sums).toEqual([[i32(0)], [i32(2)], [i32(4)]]);
    await two.close();
    expect((await failure(two.createInstance({ moduleId: id }))).code).toBe('IGU_USAGE');
  });

  it('and engines that are none are refused, numbers that are none too', async () => {
    expect((await failure(create('worker', { runtime: 'nativ' as never }))).message).toContain(
      'runtime must be one of',
    );
    expect((await failure(create('in-place', { runtime: 'nativ' as never }))).code).toBe('IGU_USAGE');
    expect((await failure(create('thread' as never))).message).toContain('placement must be one of worker, in-place');
    for (const name of ['maxInstances', 'maxTenantMemory'])
      expect(() => new WasmRuntime({ [name]: Number.NaN })).toThrow(`${name} must be a whole number`);
  });

  it('take no functions, and say what to use', async () => {
    expect((await failure(create('worker', { imports: {} }))).message).toContain('importsFrom');
    const file = path.join(folder, 'broken.mjs');
    writeFileSync(file, 'export const other = 1;\n');
    expect((await failure(create('worker', { importsFrom: file }))).message).toContain('no default export');
    expect((await failure(runtime.createInstance({ moduleId: calc.id }))).code).toBe('IGU_WASM_LINK');
    const handle = await create('worker');
    expect(() => runtime.inPlace(handle)).toThrow(IguanaError);
    await runtime.destroy(handle);
  });
});
