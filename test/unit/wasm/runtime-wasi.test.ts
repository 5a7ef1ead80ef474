import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WasmRuntime } from '../../../src/wasm/runtime/runtime.js';
import { WasiExit } from '../../../src/wasm/wasi/wasi-error.js';

const text = Buffer.from('the cat and the dog and the bird\n');
let runtime: WasmRuntime;
let folder: string;

beforeAll(async () => {
  runtime = new WasmRuntime({ workers: 1 });
  folder = await mkdtemp(path.join(os.tmpdir(), 'iguana-runtime-wasi-'));
  await writeFile(path.join(folder, 'one.txt'), 'abc');
});
afterAll(async () => {
  await runtime.close();
  await rm(folder, { recursive: true });
});

/** Runs `_start`, which returns or exits with 0. */
async function start(instance: { readonly id: string }): Promise<void> {
  try {
    await runtime.callFunction(instance.id, '_start');
  } catch (error) {
    if (!(error instanceof WasiExit) || error.code !== 0) throw error;
  }
}

describe.each(['in-place', 'worker'] as const)('a WASI guest %s', (placement) => {
  it('reads its input and writes its output, with the same gas each time', async () => {
    const { id } = await runtime.loadModule('test/guests/c/word-frequency.wasm');
    const gas: number[] = [];
    for (let i = 0; i < 2; i++) {
      const instance = await runtime.createInstance({
        moduleId: id,
        placement,
        wasi: { args: ['word-frequency'], stdin: text },
      });
      await start(instance);
      expect(await runtime.output(instance)).toEqual({
        stdout: '3 the\n2 and\n1 bird\n1 cat\n1 dog\n',
        stderr: '',
        truncated: false,
      });
      gas.push((await runtime.getGasUsed(instance)).total);
      await runtime.destroy(instance);
    }
    expect(gas[0]).toBeGreaterThan(1_000);
    expect(gas[1]).toBe(gas[0]);
  });

  it('sees the directories that it is given and no others', async () => {
    const { id } = await runtime.loadModule('test/guests/rust/list-files.wasm');
    const wasi = { args: ['list', '/data'], preopens: [{ guest: '/data', host: folder }] };
    const instance = await runtime.createInstance({ moduleId: id, placement, wasi });
    await start(instance);
    expect((await runtime.output(instance)).stdout).toBe('/data/one.txt 3\n');
    const blind = await runtime.createInstance({ moduleId: id, placement, wasi: { args: ['list', '/data'] } });
    const ended = await start(blind).then(
      () => 0,
      (error: unknown) => (error instanceof WasiExit ? error.code : -1),
    );
    expect(ended).not.toBe(-1);
    expect((await runtime.output(blind)).stdout).toBe('');
    await runtime.destroy(instance);
    await runtime.destroy(blind);
  });

  it('is refused where nothing is said of WASI', async () => {
    const { id } = await runtime.loadModule('test/guests/c/word-frequency.wasm');
    await expect(runtime.createInstance({ moduleId: id, placement })).rejects.toMatchObject({ code: 'IGU_WASM_LINK' });
  });

  it('is kept with its WASI state by a snapshot', async () => {
    const { id } = await runtime.loadModule('test/guests/c/word-frequency.wasm');
    const create = (more = {}) =>
      runtime.createInstance({ moduleId: id, placement, wasi: { args: ['word-frequency'], stdin: text }, ...more });
    const first = await create();
    const snapshot = await runtime.snapshotCreate(first);
    expect(snapshot.wasi?.length).toBeGreaterThan(0);
    const second = await create({ snapshot });
    await start(second);
    expect((await runtime.output(second)).stdout).toContain('3 the\n');
    await runtime.destroy(first);
    await runtime.destroy(second);
  });
});
