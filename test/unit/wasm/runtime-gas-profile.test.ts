import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { countingImports, profileModule, readProfile } from '../../../src/wasm/runtime/gas-profile.js';
import { Instance } from '../../../src/wasm/runtime/instance.js';
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
