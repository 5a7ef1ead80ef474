import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { IguanaError } from '../../../src/errors.js';
import { wasmRuntimeLimits } from '../../../src/limits.js';
import { type CreateOptions, type InstanceHandle, WasmRuntime } from '../../../src/wasm/runtime/runtime.js';
import type { TypedValue } from '../../../src/wasm/runtime/values.js';
import { WasmTrap } from '../../../src/wasm/trap.js';
import { openBelow } from '../../support/open-descriptors.js';
import { calcModule } from '../../support/wasm-calc.js';

const i32 = (value: number): TypedValue => ({ type: 'i32', value });
const LIST_FILES = 'test/guests/rust/list-files.wasm';

let folder: string;
let importsFrom: string;
let runtime: WasmRuntime;
let moduleId: string;
const bounds = wasmRuntimeLimits as { -readonly [K in keyof typeof wasmRuntimeLimits]: number };
const usual = { ...bounds };

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'iguana-lost-'));
  importsFrom = path.join(folder, 'imports.mjs');
  writeFileSync(importsFrom, 'export default { host: { tell: () => undefined } };\n');
});
afterAll(() => rm(folder, { recursive: true }));

beforeEach(async () => {
  runtime = new WasmRuntime({ workers: 1 });
  moduleId = (await runtime.loadModule(calcModule)).id;
});
afterEach(async () => {
  Object.assign(bounds, usual);
  await runtime.close();
});

const create = (more: Partial<CreateOptions> = {}) => runtime.createInstance({ moduleId, importsFrom, ...more });

async function trapOf(action: Promise<unknown>): Promise<string> {
  const error = await action.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof WasmTrap) return error.trap;
  return error instanceof IguanaError ? error.code : String(error);
}

/** Ends the only worker thread by a call of another instance that does not stop. */
async function loseThread(): Promise<void> {
  const culprit = await create();
  const stopped = trapOf(runtime.callFunction(culprit, 'forever'));
  // only a call that has reached the thread can be interrupted
  while (!(await runtime.interrupt(culprit))) await new Promise(setImmediate);
  expect(await stopped).toBe('timeout');
  await runtime.destroy(culprit);
}

const peek = (one: InstanceHandle) => runtime.callFunction(one, 'peek', [i32(0)]);

describe('an instance whose thread was lost', () => {
  it('comes back with the gas limit that it was last given', async () => {
    const kept = await create({ gas: 1_000_000, limits: { timeout: 5_000 } });
    await runtime.snapshotCreate(kept);
    await runtime.setGasLimit(kept, 500);
    await loseThread();
    expect(await trapOf(runtime.callFunction(kept, 'forever'))).toBe('out-of-gas');
    await runtime.setGasLimit(kept, null);
    await loseThread();
    expect((await runtime.callFunction(kept, 'loop', [i32(1_000_000)]))[0]?.value).toBe(1_000_000);
  });

  it('comes back with what calls that trapped had used', async () => {
    const kept = await create({ gas: 10_000, limits: { maxInstructions: 4_000 } });
    await runtime.snapshotCreate(kept);
    expect(await trapOf(runtime.callFunction(kept, 'forever'))).toBe('out-of-gas');
    expect(await trapOf(runtime.callFunction(kept, 'forever'))).toBe('out-of-gas');
    await loseThread();
    expect(await runtime.getGasUsed(kept)).toMatchObject({ total: 8_000, left: 2_000 });
    expect(await trapOf(runtime.callFunction(kept, 'forever'))).toBe('out-of-gas');
    expect(await runtime.getGasUsed(kept)).toMatchObject({ total: 10_000, left: 0 });
  });

  it('leaves nothing behind when it is destroyed while it comes back', async () => {
    const kept = await create({ tenant: 'one' });
    await runtime.snapshotCreate(kept);
    await loseThread();
    const call = trapOf(peek(kept));
    await runtime.destroy(kept);
    await call;
    const next = await create({ tenant: 'one' });
    expect(runtime.stats().tenants).toMatchObject({ one: 65_536 });
    await runtime.destroy(next);
    expect(runtime.stats().tenants).toMatchObject({ one: 0 });
  });
});

describe('snapshots that are kept', () => {
  it('are not counted for instances that are gone', async () => {
    bounds.maxKeptSnapshotBytes = 10_000;
    const kept = await create();
    await runtime.callFunction(kept, 'poke', [i32(0), i32(7)]);
    await runtime.snapshotCreate(kept);
    for (let i = 0; i < 4; i++) {
      const other = await create();
      await runtime.callFunction(other, 'poke', [i32(0), i32(1)]);
      const late = runtime.snapshotCreate(other);
      for (let turn = 0; turn < 5; turn++) await null; // the request is on its way
      await runtime.destroy(other);
      expect((await late).pages.length).toBe(4_096);
    }
    await loseThread();
    expect(await peek(kept)).toEqual([i32(7)]);
  });

  it('are counted with their state of WASI', async () => {
    bounds.maxKeptSnapshotBytes = 300_000;
    const first = await create();
    const snapshot = { ...(await runtime.snapshotCreate(first)), wasi: new Uint8Array(200_000) };
    const second = await create({ snapshot });
    const third = await create({ snapshot });
    await loseThread();
    expect(await trapOf(peek(second))).toBe('IGU_WASM_LOST');
    expect(await peek(third)).toEqual([i32(0)]);
  });
});

describe('what fails', () => {
  it('closes the directories that it was given', async () => {
    const { id } = await runtime.loadModule(LIST_FILES);
    const attempt = () =>
      runtime.createInstance({
        moduleId: id,
        placement: 'in-place',
        limits: { maxMemory: 0 },
        wasi: { preopens: [{ guest: '/', host: folder }] },
      });
    for (let i = 0; i < 20; i++) expect(await trapOf(attempt())).toBe('IGU_WASM_LIMIT');
    expect(openBelow(folder)).toBe(0);
  });

  it('does not leave a thread without the module that it is thought to have', async () => {
    bounds.maxWaitingCalls = 0;
    expect(await trapOf(create())).toBe('IGU_LIMIT');
    bounds.maxWaitingCalls = usual.maxWaitingCalls;
    expect(await peek(await create())).toEqual([i32(0)]);
  });
});

describe('tenants', () => {
  it('that were forgotten are counted anew in every thread', async () => {
    bounds.maxTenants = 3;
    for (let i = 0; i < 6; i++) await runtime.destroy(await create({ tenant: `t${i}` }));
    const again = await create({ tenant: 't0' });
    expect(runtime.stats().tenants).toMatchObject({ t0: 65_536 });
    await runtime.destroy(again);
  });
});
