import { describe, expect, it } from 'vitest';
import { IguanaError } from '../../../src/errors.js';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { Instance, type InstanceOptions } from '../../../src/wasm/runtime/instance.js';
import { TenantAccount } from '../../../src/wasm/runtime/tenant-account.js';
import type { TypedValue } from '../../../src/wasm/runtime/values.js';
import { WasmTrap } from '../../../src/wasm/trap.js';
import { calcModule } from '../../support/wasm-calc.js';

const engine = new NativeEngine();
const compiled = engine.compile(prepareModule(calcModule));
const plain = engine.compile(prepareModule(calcModule, { metered: false }));
const quiet = { host: { tell: () => undefined } };
const make = (options: InstanceOptions = {}): Instance => new Instance(compiled, { imports: quiet, ...options });
const i32 = (value: unknown): TypedValue => ({ type: 'i32', value });

function failure(action: () => unknown): IguanaError {
  try {
    action();
  } catch (error) {
    if (error instanceof IguanaError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}
const trapOf = (action: () => unknown): string => {
  const error = failure(action);
  return error instanceof WasmTrap ? error.trap : error.code;
};

describe('calls', () => {
  it('gives typed values back for typed values', () => {
    const calc = make();
    expect(calc.call('add', [i32(2), i32(40)])).toEqual([i32(42)]);
    expect(calc.call('add', [i32(0xffff_ffff), i32(0)])).toEqual([i32(-1)]);
    expect(
      calc.call('add64', [
        { type: 'i64', value: 2n ** 62n },
        { type: 'i64', value: 5 },
      ]),
    ).toEqual([{ type: 'i64', value: 2n ** 62n + 5n }]);
    expect(calc.call('half', [{ type: 'f64', value: 3 }])).toEqual([{ type: 'f64', value: 1.5 }]);
    expect(calc.call('single', [{ type: 'f32', value: 0.1 }])).toEqual([{ type: 'f32', value: Math.fround(0.1) }]);
    expect(calc.call('both', [i32(7), { type: 'i64', value: 9n }])).toEqual([{ type: 'i64', value: 9n }, i32(7)]);
    expect(calc.call('sum4', [i32(1), i32(2), i32(3), i32(4)])).toEqual([i32(10)]);
    expect(calc.call('poke', [i32(8), i32(5)])).toEqual([]);
    expect(calc.function('peek')(8)).toBe(5);
  });

  it('refuses other numbers, types and values by the signature, before anything runs', () => {
    const calc = make();
    const wrong: readonly (readonly TypedValue[])[] = [
      [],
      [i32(1)],
      [i32(1), i32(2), i32(3)],
      [i32(1), { type: 'f64', value: 2 }],
      [i32(1), i32(1.5)],
      [i32(1), i32(2 ** 32)],
      [i32(1), i32('2')],
      [i32(1), i32(2n)],
      [i32(Number.NaN), i32(1)],
    ];
    for (const args of wrong) expect(failure(() => calc.call('add', args)).code).toBe('IGU_WASM_SIGNATURE');
    const add = calc.function('add');
    for (const args of [[], [1], [1, 2, 3], [1, 1.5], ['1', 2], [1n, 2]])
      expect(failure(() => add(...args)).code).toBe('IGU_WASM_SIGNATURE');
    expect(
      failure(() =>
        calc.call('add64', [
          { type: 'i64', value: 1n << 64n },
          { type: 'i64', value: 0n },
        ]),
      ).code,
    ).toBe('IGU_WASM_SIGNATURE');
    expect(failure(() => calc.call('sum4', [i32(1)])).message).toContain('sum4 takes (i32, i32, i32, i32)');
    expect(failure(() => calc.call('nothing')).code).toBe('IGU_WASM_NOT_FOUND');
    expect(calc.getGasUsed().total).toBe(0);
  });
});

describe('gas', () => {
  it('adds up over calls, the same for the same call', () => {
    const calc = make();
    calc.call('loop', [i32(10)]);
    const once = calc.getGasUsed().lastCall;
    calc.call('loop', [i32(10)]);
    expect(calc.getGasUsed()).toEqual({ total: 2 * once, lastCall: once });
    calc.call('loop', [i32(20)]);
    const twice = calc.getGasUsed().lastCall;
    calc.call('loop', [i32(30)]);
    expect(calc.getGasUsed().lastCall - twice).toBe(twice - once);
  });

  it('lets a call through with what it needs and stops it with one unit less', () => {
    const probe = make();
    probe.call('loop', [i32(1000)]);
    const need = probe.getGasUsed().total;
    const enough = make({ gas: need });
    expect(enough.call('loop', [i32(1000)])).toEqual([i32(1000)]);
    expect(enough.getGasUsed()).toEqual({ total: need, lastCall: need, left: 0 });
    const short = make({ gas: need - 1 });
    expect(trapOf(() => short.call('loop', [i32(1000)]))).toBe('out-of-gas');
    expect(short.getGasUsed()).toEqual({ total: need - 1, lastCall: need - 1, left: 0 });
  });

  it('leaves an instance that ran out to look at, and to go on with once it has gas again', () => {
    const calc = make({ gas: 10_000 });
    const error = failure(() => calc.call('forever'));
    expect(error.code).toBe('IGU_WASM_OUT_OF_GAS');
    expect((error as WasmTrap).frames).toEqual(['forever']);
    const count = calc.global('count') as number;
    expect(count).toBeGreaterThan(100);
    expect(calc.memory().length).toBe(65_536);
    expect(trapOf(() => calc.call('add', [i32(1), i32(2)]))).toBe('out-of-gas');
    calc.setGasLimit(1_000);
    expect(calc.call('add', [i32(1), i32(2)])).toEqual([i32(3)]);
    expect(calc.getGasUsed().left).toBe(1_000 - calc.getGasUsed().lastCall);
    calc.setGasLimit(null);
    expect(calc.getGasUsed().left).toBeUndefined();
    expect(calc.global('count')).toBe(count);
  });

  it('limits each call by maxInstructions and all together by the gas limit', () => {
    const calc = make({ limits: { maxInstructions: 5_000 }, gas: 12_000 });
    for (const lastCall of [5_000, 5_000, 2_000]) {
      expect(trapOf(() => calc.call('forever'))).toBe('out-of-gas');
      expect(calc.getGasUsed().lastCall).toBe(lastCall);
    }
    expect(calc.getGasUsed()).toEqual({ total: 12_000, lastCall: 2_000, left: 0 });
  });

  it('charges a trap inside an instruction all that was given, unreachable only what ran', () => {
    const calc = make({ gas: 100_000 });
    expect(trapOf(() => calc.call('stop'))).toBe('unreachable');
    expect(calc.getGasUsed().total).toBeLessThan(10);
    expect(trapOf(() => calc.call('divide', [i32(1), i32(0)]))).toBe('integer-divide-by-zero');
    expect(calc.getGasUsed()).toMatchObject({ total: 100_000, left: 0 });
    const perCall = make({ limits: { maxInstructions: 700 } });
    expect(trapOf(() => perCall.call('divide', [i32(1), i32(0)]))).toBe('integer-divide-by-zero');
    expect(perCall.getGasUsed().total).toBe(700);
    expect(perCall.call('divide', [i32(8), i32(2)])).toEqual([i32(4)]);
    expect(perCall.global('count')).toBe(2);
  });

  it('charges host functions their price and what they ask for', () => {
    const free = make();
    free.call('say', [i32(1)]);
    const base = free.getGasUsed().total;
    const priced = make({ imports: { host: { tell: { call: () => undefined, gas: 1_000 } } } });
    priced.call('say', [i32(1)]);
    expect(priced.getGasUsed().total).toBe(base + 1_000);
    const asks = make({
      imports: (self) => ({ host: { tell: (units) => self.charge(units as number) } }),
      gas: base + 500,
    });
    asks.call('say', [i32(500)]);
    expect(asks.getGasUsed()).toEqual({ total: base + 500, lastCall: base + 500, left: 0 });
    asks.setGasLimit(base + 500);
    expect(trapOf(() => asks.call('say', [i32(501)]))).toBe('out-of-gas');
    expect(asks.getGasUsed().left).toBe(0);
  });

  it('passes an error of a host function through, charged exactly', () => {
    const broken = new Error('host has a fault');
    const calc = make({
      gas: 10_000,
      imports: {
        host: {
          tell: () => {
            throw broken;
          },
        },
      },
    });
    expect(() => calc.call('say', [i32(1)])).toThrow(broken);
    expect(calc.getGasUsed().total).toBeGreaterThan(60);
    expect(calc.getGasUsed().total).toBeLessThan(100);
  });

  it('gives a call from within a host function what the outer one has left', () => {
    const seen: unknown[] = [];
    const calc = make({
      gas: 100_000,
      imports: (self) => ({ host: { tell: (n) => seen.push(self.call('loop', [i32(n)])[0]!.value) } }),
    });
    const alone = make();
    alone.call('loop', [i32(50)]);
    alone.call('say', [i32(50)]);
    calc.call('say', [i32(50)]);
    expect(seen).toEqual([50]);
    expect(calc.getGasUsed().lastCall).toBe(alone.getGasUsed().total);
    calc.setGasLimit(200);
    expect(trapOf(() => calc.call('say', [i32(50)]))).toBe('out-of-gas');
    expect(calc.getGasUsed().left).toBe(0);
  });

  it('is refused where the module is not metered', () => {
    const bare = new Instance(plain, { imports: quiet });
    expect(bare.call('add', [i32(1), i32(1)])).toEqual([i32(2)]);
    expect(failure(() => bare.setGasLimit(5)).code).toBe('IGU_WASM_UNSUPPORTED');
    expect(failure(() => bare.setResourceLimits({ maxInstructions: 5 })).code).toBe('IGU_WASM_UNSUPPORTED');
  });
});

describe('limits', () => {
  it('stops recursion at the same depth whatever the host stack', () => {
    const calc = make({ limits: { maxStackDepth: 1_000 } });
    const error = failure(() => calc.call('deep', [i32(1_000_000)])) as WasmTrap;
    expect(error.trap).toBe('stack-overflow');
    expect(error.frames[0]).toBe('deep');
    let deepest = 0;
    for (let step = 512; step >= 1; step /= 2) {
      try {
        calc.call('deep', [i32(deepest + step)]);
        deepest += step;
      } catch (caught) {
        expect(caught).toBeInstanceOf(WasmTrap);
      }
    }
    expect(deepest).toBeGreaterThan(50);
    calc.setResourceLimits({ maxStackDepth: 2_000 });
    expect(calc.call('deep', [i32(2 * deepest)])).toEqual([i32(2 * deepest)]);
    expect(trapOf(() => calc.call('deep', [i32(2 * deepest + 20)]))).toBe('stack-overflow');
  });

  it('lets memory grow to the limit, not beyond, and answers -1 to the guest', () => {
    const calc = make({ limits: { maxMemory: 4 * 65_536 } });
    expect(calc.call('grow', [i32(2)])).toEqual([i32(1)]);
    expect(calc.memoryBytes).toBe(3 * 65_536);
    expect(calc.call('grow', [i32(2)])).toEqual([i32(-1)]);
    expect(calc.call('grow', [i32(1)])).toEqual([i32(3)]);
    expect(calc.call('grow', [i32(65_535)])).toEqual([i32(-1)]);
    expect(calc.memory().length).toBe(4 * 65_536);
    expect(failure(() => make({ limits: { maxMemory: 1_000 } })).code).toBe('IGU_WASM_LIMIT');
  });

  it('counts memory with the tenant, over instances, until they are closed', () => {
    const tenant = TenantAccount.create('acme', 5 * 65_536);
    const a = make({ tenant });
    const b = make({ tenant });
    expect(tenant.usedBytes).toBe(2 * 65_536);
    expect(a.call('grow', [i32(3)])).toEqual([i32(1)]);
    expect(b.call('grow', [i32(1)])).toEqual([i32(-1)]);
    expect(failure(() => make({ tenant })).message).toContain('memory of tenant acme');
    a.close();
    a.close();
    expect(tenant.usedBytes).toBe(65_536);
    expect(b.call('grow', [i32(1)])).toEqual([i32(1)]);
    b.close();
    expect(tenant.usedBytes).toBe(0);
    expect(failure(() => b.call('grow', [i32(1)])).code).toBe('IGU_WASM_LOST');
  });

  it('stops an endless loop by the clock and stays usable', () => {
    const calc = make({ limits: { timeout: 150 }, gas: 2 ** 42 });
    const before = performance.now();
    const error = failure(() => calc.call('forever'));
    expect(performance.now() - before).toBeLessThan(2_000);
    expect(error.code).toBe('IGU_WASM_TIMEOUT');
    expect(calc.getGasUsed().left).toBe(0);
    calc.setGasLimit(null);
    expect(calc.function('add')(1, 2)).toBe(3);
    expect(trapOf(() => calc.function('forever')())).toBe('timeout');
    calc.setResourceLimits({ timeout: null });
    expect(calc.limits.timeout).toBeUndefined();
    expect(calc.function('add')(1, 2)).toBe(3);
  });

  it('refuses calls after a trap where the host wants so', () => {
    const calc = make({ afterTrap: 'refuse' });
    expect(trapOf(() => calc.call('stop'))).toBe('unreachable');
    expect(failure(() => calc.call('add', [i32(1), i32(1)])).code).toBe('IGU_WASM_LOST');
    expect(calc.global('count')).toBe(0);
    expect(calc.counts).toEqual({ calls: 1, traps: 1 });
  });

  it('refuses limits that are no whole numbers', () => {
    for (const limits of [{ maxMemory: -1 }, { maxInstructions: 1.5 }, { timeout: Number.NaN }, { maxStackDepth: 1e9 }])
      expect(failure(() => make({ limits })).code).toBe('IGU_USAGE');
    expect(failure(() => make().setResourceLimits({ maxTableElements: 5 })).code).toBe('IGU_USAGE');
  });
});
