import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { countingImports, profileModule, readProfile } from '../../../src/wasm/runtime/gas-profile.js';
import { Instance } from '../../../src/wasm/runtime/instance.js';
import { Wasi } from '../../../src/wasm/wasi/wasi.js';
import { body, functionType, moduleOf, name as nameOf, section, valueBytes } from '../../support/wasm-binary.js';
import { calcModule } from '../../support/wasm-calc.js';

const engine = new NativeEngine();
const pages = 4_096;
const elements = 100_000;

/** Gas of the same call by the meter and by the profile: two rewriters that share prices and nothing else. */
function both(bytes: Uint8Array, name: string, args: readonly number[], host = {}) {
  const options = { maxMemoryPages: pages, maxTableElements: elements };
  const metered = new Instance(engine.compile(prepareModule(bytes, options)), { imports: host });
  const profile = profileModule(bytes, pages, elements);
  const counting = countingImports(host);
  const plain = engine.compile(prepareModule(profile.bytes, { ...options, metered: false }));
  const profiled = new Instance(plain, { imports: counting.imports });
  const result = metered.function(name)(...args);
  expect(profiled.function(name)(...args)).toEqual(result);
  const functions = [...readProfile(profiled, profile), ...counting.hostCalls()];
  return { metered: metered.getGasUsed().total, sum: functions.reduce((sum, { gas }) => sum + gas, 0), functions };
}

describe('the gas profile', () => {
  const host = { host: { tell: () => undefined } };

  it.each([
    ['add', [1, 2]],
    ['loop', [1_000]],
    ['deep', [500]],
    ['grow', [3]],
    ['grow', [100_000]],
    ['say', [7]],
    ['divide', [8, 2]],
  ] as const)('of %s(%j) adds up to what the meter counts', (name, args) => {
    const { metered, sum } = both(calcModule, name, args, host);
    expect(metered).toBeGreaterThan(0);
    expect(sum).toBe(metered);
  });

  it('of bytes that WASI moves adds up too, and they end a guest that has no gas for them', () => {
    const { i32 } = valueBytes;
    const bytes = moduleOf([
      section(1, [functionType([i32, i32], [i32]), functionType([i32], [i32])]),
      section(2, [[...nameOf('wasi_snapshot_preview1'), ...nameOf('random_get'), 0, 0]]),
      section(3, [[1]]),
      section(5, [[0, 16]]),
      section(7, [
        [...nameOf('memory'), 2, 0],
        [...nameOf('random'), 0, 1],
      ]),
      section(10, [body([], [0x41, 0, 0x20, 0, 0x10, 0])]),
    ]);
    const wasi = () => new Wasi({ random: { seed: 1 } });
    const metered = new Instance(engine.compile(prepareModule(bytes)), { wasi: wasi() });
    const profile = profileModule(bytes, pages, elements);
    const counted = wasi();
    const counting = countingImports({ wasi_snapshot_preview1: counted.imports() }, () => counted.gasOfBytes);
    const plain = engine.compile(prepareModule(profile.bytes, { metered: false }));
    const profiled = new Instance(plain, { wasi: counted, imports: counting.imports });
    for (const length of [0, 512, 100_000, 1_048_576]) {
      expect(metered.function('random')(length)).toBe(0);
      expect(profiled.function('random')(length)).toBe(0);
    }
    const sum = [...readProfile(profiled, profile), ...counting.hostCalls()].reduce((all, { gas }) => all + gas, 0);
    expect(sum).toBe(metered.getGasUsed().total);
    expect(sum).toBeGreaterThan(140_000);
    metered.setGasLimit(1_000);
    expect(() => metered.function('random')(100_000)).toThrow('IGU_WASM_OUT_OF_GAS');
    expect(metered.getGasUsed().left).toBe(0);
  });

  it('names functions, counts their calls and puts the dearest first', () => {
    const { functions } = both(calcModule, 'deep', [500], host);
    expect(functions).toMatchObject([{ name: 'deep', calls: 501 }]);
    const said = both(calcModule, 'say', [7], host).functions;
    expect(said.map(({ name, calls }) => [name, calls])).toEqual([
      ['say', 1],
      ['host host.tell', 1],
    ]);
  });

  const kernels = new Uint8Array(readFileSync('bench/wasm/kernels.wasm'));
  const names = WebAssembly.Module.exports(new WebAssembly.Module(kernels)).filter(
    ({ kind, name }) => kind === 'function' && !name.startsWith('_'),
  );

  it.each(names.map(({ name }) => name))('of the kernel %s adds up to what the meter counts', (name) => {
    const probe = new Instance(engine.compile(prepareModule(kernels)));
    const { params } = probe.signature(name);
    const { metered, sum } = both(
      kernels,
      name,
      params.map(() => 12),
    );
    expect(sum).toBe(metered);
  });

  it('reads kernels at all', () => {
    expect(names.length).toBeGreaterThanOrEqual(7);
  });
});
