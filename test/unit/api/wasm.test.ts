import { afterEach, describe, expect, it } from 'vitest';
import { IguanaError, WasmTrap, wasm } from '../../../src/index.js';
import { calcModule } from '../../support/wasm-calc.js';

afterEach(() => wasm.close());

const imports = { host: { tell: () => undefined } };

describe('wasm', () => {
  it('loads, makes, calls, limits, saves, restores, tells and destroys', async () => {
    wasm.configure({ workers: 1, maxInstances: 2 });
    const { id, exports } = await wasm.loadModule(calcModule);
    expect(exports.map(({ name }) => name)).toContain('add');
    const instance = await wasm.createInstance({ moduleId: id, placement: 'in-place', imports });
    expect(() => wasm.configure({})).toThrow(IguanaError);
    const sum = await wasm.callFunction(instance, 'add', [
      { type: 'i32', value: 42 },
      { type: 'i32', value: -2 },
    ]);
    expect(sum).toEqual([{ type: 'i32', value: 40 }]);
    expect(wasm.inPlace(instance).function('add')(1, 2)).toBe(3);
    await wasm.setResourceLimits(instance, { maxInstructions: 1_000, maxMemory: 65_536 });
    await expect(wasm.callFunction(instance, 'forever')).rejects.toBeInstanceOf(WasmTrap);
    await wasm.setGasLimit(instance, 5_000);
    expect((await wasm.getGasUsed(instance)).left).toBe(5_000);
    await wasm.writeMemory(instance, 8, new Uint8Array([7, 0, 0, 0]));
    const snapshot = await wasm.snapshotCreate(instance);
    await wasm.writeMemory(instance, 8, new Uint8Array([9]));
    await wasm.snapshotRestore(instance, snapshot);
    expect(await wasm.callFunction(instance, 'peek', [{ type: 'i32', value: 8 }])).toEqual([{ type: 'i32', value: 7 }]);
    expect(await wasm.readMemory(instance, 8, 1)).toEqual(new Uint8Array([7]));
    expect(await wasm.info(instance)).toMatchObject({ engine: 'native', tier: 'tiered', memoryBytes: 65_536 });
    expect(wasm.stats()).toMatchObject({ modules: 1, instances: 1, workers: 0 });
    await wasm.destroy(instance);
    wasm.unloadModule(id);
    expect(wasm.stats()).toMatchObject({ modules: 0, instances: 0, codeBytes: 0 });
  });
});
