/**
 * One suite over every engine: the same programs, the same answers. The test runner's files run in worker threads, where native libraries may be used;
 * an engine that is not there is skipped with what is missing. Programs: test/support/engine-programs (sources beside them, `wat2wasm` of wabt).
 */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Script } from 'node:vm';
import { afterAll, describe, expect, it } from 'vitest';
import { IguanaError, messageOf } from '../../src/errors.js';
import type { Engine, EngineInstance, HostImports } from '../../src/wasm/engines/engine.js';
import { NativeEngine } from '../../src/wasm/engines/native.js';
import { engineNames, openEngine } from '../../src/wasm/engines/open-engine.js';
import { stopCall } from '../../src/wasm/engines/stop-call.js';
import { gasLeft, packGas } from '../../src/wasm/gas/packed.js';
import { parseModule } from '../../src/wasm/module/parse-module.js';
import { prepareModule } from '../../src/wasm/module/prepare.js';
import type { PreparedModule } from '../../src/wasm/module/prepared.js';
import { WasmTrap } from '../../src/wasm/trap.js';
import { body, functionType, moduleOf, name as nameOf, section, unsigned, valueBytes } from '../support/wasm-binary.js';

/** A module as it is, without what preparing adds. */
function asIs(bytes: Uint8Array<ArrayBuffer>, features: readonly string[] = []): PreparedModule {
  const parsed = parseModule(bytes);
  const { imports, exports, memories, tables, functionNames } = parsed;
  return {
    id: createHash('sha256').update(bytes).digest('hex'),
    bytes,
    info: {
      size: bytes.length,
      imports,
      exports,
      memories,
      tables,
      globals: parsed.globals,
      functionCount: parsed.code.length,
      features,
      hasStart: parsed.start !== undefined,
      functionNames,
      ...(parsed.moduleName === undefined ? {} : { moduleName: parsed.moduleName }),
    },
    metered: false,
    hostImports: [],
    memories: [],
    globals: [],
    tables: [],
    references: [],
    segments: [],
  };
}

function program(name: string, features?: readonly string[]): PreparedModule {
  const file = new URL(`../support/engine-programs/${name}.wasm`, import.meta.url);
  return asIs(new Uint8Array(readFileSync(file)), features);
}

/** What was thrown. */
function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

const numeric = {
  add: (a: unknown, b: unknown) => (a as number) + (b as number),
  wide: (a: unknown, b: unknown, c: unknown) => (a as bigint) + BigInt((b as number) + (c as number)),
  two: () => [7, 0.5],
  fail: () => undefined,
};

for (const name of engineNames) {
  const opened = await openEngine(name).catch((error: unknown) => {
    if (error instanceof IguanaError && error.code === 'IGU_WASM_ENGINE_MISSING') return messageOf(error);
    throw error;
  });
  if (typeof opened === 'string') {
    describe(name, () => {
      it(`is tested where it is there: ${opened}`, (context) => context.skip(opened));
    });
  } else describe(name, () => suite(opened));
}

function suite(engine: Engine): void {
  afterAll(() => engine.close());

  const instantiate = (module: PreparedModule, imports: HostImports = {}): EngineInstance =>
    engine.compile(module).instantiate(imports);

  it('tells what really runs', () => {
    const { version, host, tiers, features } = engine.description;
    expect(version).toMatch(/\d+\.\d+/);
    expect(host).toBe(engine.description.name === 'wasm3' ? 'v8' : 'native');
    expect(tiers.length).toBeGreaterThan(0);
    expect(features).toContain('sign-extension');
    expect(engine.compile(program('values')).tier).toBe(tiers[0]);
  });

  it('gives values of every number type back as they are', () => {
    const instance = instantiate(program('values'));
    const same = (name: string, values: readonly unknown[]) => {
      const run = instance.function(name);
      for (const value of values) expect(run(value)).toBe(value);
    };
    same('i32', [0, 1, -1, 2_147_483_647, -2_147_483_648]);
    same('i64', [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 0x1234_5678_9abc_def0n]);
    same('f32', [0, -0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, Math.fround(1e-45), Math.fround(3.4e38)]);
    same('f64', [0, -0, 0.1, Number.NaN, Number.NEGATIVE_INFINITY, Number.MIN_VALUE, Number.MAX_VALUE]);
    expect(instance.function('nothing')()).toBeUndefined();
    expect(instance.function('mixed')(1, 2n, 3.5, 4.25, -1)).toBe(1 + 2 + 3.5 + 4.25 + 4_294_967_295);
    expect(instance.function('bits')(-0)).toBe(-(2n ** 63n));
    expect(instance.function('narrow')(0x1_ffff_ffffn)).toBe(-1);
    expect(instance.function('add')(2_147_483_647, 1)).toBe(-2_147_483_648);
    expect(instance.function('fib')(15)).toBe(610);
    instance.close();
  });

  it('gives several results in order', () => {
    const instance = instantiate(program('values'));
    expect(instance.function('swap')(5, 6n)).toEqual([6n, 5]);
    instance.close();
  });

  it('runs what came after the first release', () => {
    const instance = instantiate(program('newer', ['sign-extension', 'non-trapping-conversion', 'bulk-memory']));
    expect(instance.function('extend')(0x1ff)).toBe(-1);
    expect(instance.function('saturate')(1e20)).toBe(2_147_483_647);
    expect(instance.function('saturate')(Number.NaN)).toBe(0);
    instance.function('fill')(16, 9, 4);
    instance.function('copy')(18, 16, 4);
    expect([...instance.memory('memory').subarray(15, 23)]).toEqual([0, 9, 9, 9, 9, 9, 9, 0]);
    instance.close();
  });

  it('keeps a local that stands on the operand stack twice while a branch is taken', () => {
    const { i32, i64 } = valueBytes;
    const chosen = [0x04, i32, 0x41, 0x7f, 0x05, 0x20, 0, 0x0b]; // if (result i32) −1, else local 0
    const code = [0x02, i64, 0x20, 1, 0x20, 1, 0x41, 7, ...chosen, 0x1a, 0x7c, 0x0b];
    const bytes = moduleOf([
      section(1, [functionType([i32, i64], [i64])]),
      section(3, [[0]]),
      section(7, [[...nameOf('twice'), 0, 0]]),
      section(10, [body([], code)]),
    ]);
    expect(instantiate(asIs(bytes)).function('twice')(3, 21n)).toBe(42n);
  });

  it('copies from a passive segment until it is dropped, or says that it cannot', () => {
    const module = program('passive', ['bulk-memory']);
    if (engine.description.name === 'wasm3') {
      const error = thrown(() => engine.compile(module));
      expect(error).toMatchObject({ code: 'IGU_WASM_UNSUPPORTED' });
      expect(messageOf(error)).toContain('passive data segment');
      return;
    }
    const instance = instantiate(module);
    instance.function('init')(100);
    expect(Buffer.from(instance.memory('memory').subarray(100, 107)).toString()).toBe('passive');
    instance.function('drop')();
    expect(thrown(() => instance.function('init')(200))).toMatchObject({ trap: 'out-of-bounds-memory' });
    instance.close();
  });

  it('calls the host with values of every number type, again and again', () => {
    const instance = instantiate(program('host'), { env: numeric, other: { fail: () => 0 } });
    expect(instance.function('add')(40, 2)).toBe(42);
    expect(instance.function('wide')(2n ** 40n, 1.5, 2.5)).toBe(2n ** 40n + 4n);
    expect(instance.function('two')()).toBe(7.5);
    expect(instance.function('many')(20_000)).toBe(20_000);
    expect(instance.getGlobal('calls')).toBe(1);
    instance.close();
  });

  it('lets an error of the host through unchanged, and lives on', () => {
    const mine = new RangeError('mine');
    const instance = instantiate(program('host'), {
      env: {
        ...numeric,
        fail: () => {
          throw mine;
        },
      },
      other: { fail: () => 0 },
    });
    expect(thrown(() => instance.function('fail')(1))).toBe(mine);
    expect(instance.memory('memory')[0]).toBe(7);
    expect(instance.function('add')(1, 2)).toBe(3);
    const odd = { not: 'an error' };
    const second = instantiate(program('host'), {
      env: {
        ...numeric,
        fail: () => {
          throw odd;
        },
      },
      other: { fail: () => 0 },
    });
    expect(thrown(() => second.function('fail')(1))).toBe(odd);
    instance.close();
    second.close();
  });

  it('lets the host call the guest that calls it, and an inner trap out through both', () => {
    const traps = instantiate(program('traps'));
    const instance: EngineInstance = instantiate(program('host'), {
      env: numeric,
      other: {
        fail: (depth) => {
          if ((depth as number) === 0) return 100;
          if ((depth as number) < 0) return traps.function('load')(-1);
          return instance.function('enter')((depth as number) - 1);
        },
      },
    });
    expect(instance.function('enter')(5)).toBe(106);
    expect(thrown(() => instance.function('enter')(-1))).toMatchObject({ trap: 'out-of-bounds-memory' });
    expect(instance.function('enter')(2)).toBe(103);
    instance.close();
    traps.close();
  });

  it('ends endless nesting of host and guest with a trap', () => {
    const instance: EngineInstance = instantiate(program('host'), {
      env: numeric,
      other: { fail: () => instance.function('enter')(0) },
    });
    expect(thrown(() => instance.function('enter')(0))).toMatchObject({ trap: 'stack-overflow' });
    expect(instance.function('add')(1, 2)).toBe(3);
    instance.close();
  });

  it('names every kind of trap with the same word', () => {
    const instance = instantiate(program('traps'));
    const trapOf = (name: string, ...args: unknown[]) => {
      const error = thrown(() => instance.function(name)(...args));
      expect(error).toBeInstanceOf(WasmTrap);
      return (error as WasmTrap).trap;
    };
    expect(trapOf('unreachable')).toBe('unreachable');
    expect(trapOf('load', 65_533)).toBe('out-of-bounds-memory');
    expect(trapOf('load', -1)).toBe('out-of-bounds-memory');
    expect(trapOf('store', 65_525)).toBe('out-of-bounds-memory');
    expect(trapOf('indirect', 1)).toBe('indirect-call-mismatch');
    expect(trapOf('indirect', 2)).toBe('indirect-call-mismatch');
    expect(trapOf('indirect', 4)).toBe('undefined-element');
    expect(trapOf('divide', 1, 0)).toBe('integer-divide-by-zero');
    expect(trapOf('divide', -2_147_483_648, -1)).toBe('integer-overflow');
    expect(trapOf('remainder', 1n, 0n)).toBe('integer-divide-by-zero');
    expect(trapOf('truncate', Number.NaN)).toBe('invalid-conversion');
    expect(trapOf('truncate', 1e20)).toBe('invalid-conversion');
    expect(trapOf('recurse', 0)).toBe('stack-overflow');
    expect(instance.function('divide')(7, 2)).toBe(3);
    instance.close();
  });

  it('names the functions on the stack', (context) => {
    const instance = instantiate(program('traps'));
    const { frames } = thrown(() => instance.function('outer')()) as WasmTrap;
    if (engine.description.name === 'wasm2c') context.skip('a C compiler puts functions into one another');
    expect(frames.slice(0, 2)).toEqual(['unreachable', 'outer']);
    instance.close();
  });

  it('shows memory, also after it has grown, and grows to the maximum only', () => {
    const instance = instantiate(program('state'));
    const view = instance.memory('memory');
    expect(view.length).toBe(65_536);
    expect(Buffer.from(view.subarray(8, 14)).toString()).toBe('iguana');
    view[100] = 77;
    expect(instance.function('get')(100)).toBe(77);
    instance.function('put')(101, 78);
    expect(instance.memory('memory')[101]).toBe(78);
    expect(instance.function('grow')(1)).toBe(1);
    expect(instance.memory('memory').length).toBe(131_072);
    expect(instance.memory('memory')[100]).toBe(77);
    expect(instance.growMemory('memory', 1)).toBe(true);
    expect(instance.function('size')()).toBe(3);
    instance.memory('memory')[196_607] = 5;
    expect(instance.function('get')(196_607)).toBe(5);
    expect(instance.growMemory('memory', 1)).toBe(false);
    expect(instance.function('grow')(1)).toBe(-1);
    instance.close();
  });

  it('reads and writes globals of every number type', () => {
    const instance = instantiate(program('state'));
    expect(['i32', 'i64', 'f32', 'f64', 'fixed'].map((name) => instance.getGlobal(name))).toEqual([
      -1,
      2n ** 63n - 1n,
      1.5,
      -0.25,
      42,
    ]);
    instance.setGlobal('i32', 7);
    instance.setGlobal('i64', -5n);
    instance.setGlobal('f32', 0.5);
    instance.setGlobal('f64', Number.NaN);
    expect(['i32', 'i64', 'f32', 'f64'].map((name) => instance.getGlobal(name))).toEqual([7, -5n, 0.5, Number.NaN]);
    expect(instance.function('bump')()).toBe(-4n);
    expect(instance.getGlobal('i64')).toBe(-4n);
    instance.close();
  });

  it('shows tables, where it can', (context) => {
    const instance = instantiate(program('tables'));
    const call = instance.function('call');
    expect([call(0), call(1)]).toEqual([1, 2]);
    const { tables } = instance;
    if (!tables) {
      instance.close();
      return context.skip('this engine shows no tables');
    }
    expect(tables.length('table')).toBe(3);
    const [one, three] = [tables.get('table', 0), tables.reference('three')];
    expect(tables.same(one, tables.reference('one'))).toBe(true);
    expect(tables.same(one, three)).toBe(false);
    expect(tables.same(tables.get('table', 2), null)).toBe(true);
    tables.set('table', 2, three);
    tables.set('table', 0, tables.get('table', 1));
    expect([call(0), call(2)]).toEqual([2, 3]);
    tables.set('table', 1, null);
    expect(thrown(() => call(1))).toMatchObject({ trap: 'indirect-call-mismatch' });
    expect(tables.grow('table', 2)).toBe(true);
    expect(tables.length('table')).toBe(5);
    expect(tables.get('table', 4)).toBeNull();
    expect(tables.grow('table', 1)).toBe(false);
    instance.close();
  });

  it('keeps instances of one module apart', () => {
    const compiled = engine.compile(program('state'));
    const [a, b] = [compiled.instantiate({}), compiled.instantiate({})];
    a.function('put')(50, 1);
    a.setGlobal('i32', 99);
    a.function('grow')(2);
    expect(b.function('get')(50)).toBe(0);
    expect(b.getGlobal('i32')).toBe(-1);
    expect(b.function('size')()).toBe(1);
    a.close();
    expect(b.function('size')()).toBe(1);
    expect(b.memory('memory').length).toBe(65_536);
    b.close();
  });

  it('closes more than once, and its instances outlive a closed module', () => {
    const compiled = engine.compile(program('values'));
    const instance = compiled.instantiate({});
    compiled.close();
    compiled.close();
    expect(instance.function('add')(1, 2)).toBe(3);
    instance.close();
    instance.close();
  });

  it('lets a host function close the instance that called it', () => {
    const instance: EngineInstance = instantiate(program('host'), {
      env: {
        ...numeric,
        add: () => {
          instance.close();
          return 5;
        },
      },
      other: { fail: () => 0 },
    });
    expect(instance.function('add')(1, 2)).toBe(5);
  });

  it('names an import that is missing or no function', () => {
    const compiled = engine.compile(program('host'));
    const { two: _, ...without } = numeric;
    const error = thrown(() => compiled.instantiate({ env: without, other: { fail: () => 0 } }));
    expect(error).toMatchObject({ code: 'IGU_WASM_LINK' });
    expect(messageOf(error)).toContain('env.two');
    const odd = thrown(() => compiled.instantiate({ env: { ...numeric, two: {} }, other: { fail: () => 0 } }));
    expect(messageOf(odd)).toContain('env.two');
    compiled.close();
  });

  it('names an export that is not there', () => {
    const instance = instantiate(program('state'));
    for (const ask of [
      () => instance.function('memory'),
      () => instance.function('no'),
      () => instance.memory('grow'),
      () => instance.getGlobal('memory'),
    ]) {
      expect(thrown(ask)).toMatchObject({ code: 'IGU_WASM_NOT_FOUND' });
    }
    instance.close();
  });

  it('refuses a module that is not valid, with a reason, and a segment that does not fit with a trap', () => {
    const good = program('values');
    const bytes = good.bytes.slice();
    bytes[bytes.indexOf(0x20, 150)] = 0x0b; // a function without its operand
    const error = thrown(() => {
      const compiled = engine.compile({ ...good, id: 'broken', bytes });
      compiled.instantiate({}).function('i32')(1);
    });
    expect(error).toMatchObject({ code: 'IGU_WASM_INVALID' });
    expect(thrown(() => instantiate(program('overhang')))).toMatchObject({ trap: 'out-of-bounds-memory' });
  });

  it('refuses a feature and a tier that it lacks, by name', () => {
    const module = { ...program('values', ['time-travel']), id: 'future' };
    expect(thrown(() => engine.compile(module))).toMatchObject({ code: 'IGU_WASM_UNSUPPORTED' });
    const lacking = (['interpreter', 'tiered', 'optimised', 'baseline'] as const).find(
      (tier) => !engine.description.tiers.includes(tier),
    );
    expect(thrown(() => engine.compile(program('values'), lacking))).toMatchObject({ code: 'IGU_WASM_UNSUPPORTED' });
  });

  it('gives the same answers in every tier', () => {
    for (const tier of engine.description.tiers) {
      const compiled = engine.compile(program('values'), tier);
      expect(compiled.tier).toBe(tier);
      const instance = compiled.instantiate({});
      expect(instance.function('fib')(12)).toBe(144);
      expect(instance.function('mixed')(1, 2n, 3.5, 4.25, 3)).toBe(13.75);
      instance.close();
      compiled.close();
    }
  });

  it('loads what it serialised, where it can, and refuses other bytes', (context) => {
    const compiled = engine.compile(program('values'));
    if (!compiled.serialize || !engine.load) return context.skip('this engine does not serialise');
    const code = compiled.serialize();
    compiled.close();
    const loaded = engine.load(program('values'), code)!;
    const instance = loaded.instantiate({});
    expect(instance.function('fib')(12)).toBe(144);
    instance.close();
    loaded.close();
    expect(engine.load(program('values'), new Uint8Array(100))).toBeUndefined();
  });

  it('runs a metered module: start when asked, growth by leave, gas to the unit as on V8, traps by name', () => {
    const bytes = new Uint8Array(readFileSync(new URL('../support/engine-programs/metered.wasm', import.meta.url)));
    const prepared = prepareModule(bytes, { metered: true, maxMemoryPages: 3 });
    const native = new NativeEngine();
    const given = 1_000_000;
    const story = (one: Engine) => {
      let leave = 1;
      const instance = one.compile(prepared).instantiate({ iguana: { grow: () => leave } });
      const told: unknown[] = [];
      const metered = (name: string, ...args: unknown[]) => {
        instance.setGlobal(prepared.gas!, packGas(given, 1_000));
        let result: unknown;
        try {
          result = instance.function(name)(...args);
        } catch (error) {
          const { trap, frames } = error as WasmTrap;
          result = trap;
          if (name === 'outer' && one.description.name !== 'wasm2c')
            expect(frames.slice(0, 2)).toEqual(['inner', 'outer']);
        }
        told.push([name, result, given - gasLeft(instance.getGlobal(prepared.gas!) as bigint)]);
      };
      told.push(instance.getGlobal('started'));
      metered(prepared.start!);
      told.push(instance.getGlobal('started'));
      metered('work', 1_000);
      metered('grow', 1);
      leave = 0;
      metered('grow', 1);
      leave = 1;
      metered('grow', 2);
      told.push(instance.memory('memory').length);
      metered('outer');
      metered('spin');
      metered('deep', 0);
      metered('work', 10);
      instance.close();
      return told;
    };
    const told = story(engine);
    expect(told).toEqual(story(native));
    expect(told[0]).toBe(0);
    expect(told[2]).toBe(1);
    expect(told[3]).toEqual(['work', 250_000, expect.any(Number)]);
    expect(told[7]).toBe(2 * 65_536);
    expect(told[8]).toEqual(['outer', 'unreachable', expect.any(Number)]);
  });

  it('moves megabytes in parts between which the host is asked, and what does not fit not at all', () => {
    const { i32 } = valueBytes;
    const three = [0, 1, 2].flatMap((local) => [0x20, local]);
    const bytes = moduleOf([
      section(1, [functionType([i32, i32, i32], [])]),
      section(3, [[0], [0]]),
      section(5, [[0, ...unsigned(128)]]),
      section(7, [
        [...nameOf('memory'), 2, 0],
        [...nameOf('fill'), 0, 0],
        [...nameOf('copy'), 0, 1],
      ]),
      section(10, [body([], [...three, 0xfc, 11, 0]), body([], [...three, 0xfc, 10, 0, 0])]),
    ]);
    const prepared = prepareModule(bytes);
    let asked = 0;
    const grow = (pages: unknown) => {
      expect(pages).toBe(0);
      return ++asked;
    };
    const instance = engine.compile(prepared).instantiate({ iguana: { grow } });
    const size = 128 * 65_536;
    const expected = new Uint8Array(size);
    for (let i = 0; i < size; i++) expected[i] = i ^ (i >> 7) ^ (i >> 15);
    instance.memory('memory').set(expected);
    const run = (name: 'fill' | 'copy', to: number, from: number, length: number) => {
      instance.setGlobal(prepared.gas!, packGas(10_000_000, 1_000));
      const trap = to + length > size || (name === 'copy' && from + length > size);
      const call = () => instance.function(name)(to, from, length);
      if (trap) expect(thrown(call)).toMatchObject({ trap: 'out-of-bounds-memory' });
      else {
        call();
        if (name === 'fill') expected.fill(from, to, to + length);
        else expected.copyWithin(to, from, from + length);
        const used = 10_000_000 - gasLeft(instance.getGlobal(prepared.gas!) as bigint);
        expect(used).toBe(4 + (length >>> 3));
      }
      expect(Buffer.compare(instance.memory('memory'), expected), `${name} ${to} ${from} ${length}`).toBe(0);
    };
    const mib = 1 << 20;
    for (const [to, from, length] of [
      [1, 9, 3 * mib + 5],
      [4_000_001, 3_999_000, 4 * mib],
      [3_999_000, 4_000_001, 4 * mib],
      [mib, 0, 4 * mib],
      [0, mib, 4 * mib],
      [7, 7, 2 * mib],
      [0, 1, size - 1],
      [1, 0, size - 1],
      [6 * mib, 0, 2 * mib + 1],
      [0, 6 * mib, 2 * mib + 1],
      [size, 0, 0],
      [5, 3 * mib, mib],
    ] as const)
      run('copy', to, from, length);
    expect(asked).toBeGreaterThan(30);
    for (const [to, length] of [
      [3, 5 * mib + 3],
      [0, size],
      [size - mib - 1, mib + 1],
      [size - mib, mib + 1],
    ] as const)
      run('fill', to, 0x5a + (length & 15), length);
    // Little things add up: 1 MiB of them, and what crosses it, are one question.
    asked = 0;
    for (let i = 0; i < 4096; i++) instance.function('fill')(i, i, 1024);
    expect([3, 4]).toContain(asked);
    instance.close();
  });

  it('ends a call on request, where ending the thread would not, and runs the next', async (context) => {
    const { stopper } = engine;
    if (stopper === undefined) return context.skip('V8 ends its calls with the thread');
    if (stopper === 'never') return context.skip('this engine has no way to end a call');
    expect(await stopCall(stopper)).toBe(true);
    let calls = 0;
    const instance = instantiate(program('host'), {
      env: {
        ...numeric,
        add: (a) => {
          if (++calls === 3) void stopCall(stopper);
          return (a as number) + 1;
        },
      },
      other: { fail: () => 0 },
    });
    expect(thrown(() => instance.function('many')(1_000_000))).toMatchObject({ trap: 'timeout' });
    expect(calls).toBe(3);
    expect(instance.function('many')(10)).toBe(10);
    instance.close();
  });

  it('is well after a call that was cut off from outside', async () => {
    const instance = instantiate(program('host'), {
      env: {
        ...numeric,
        add: () => {
          for (;;);
        },
      },
      other: { fail: () => 0 },
    });
    const slot = globalThis as { cutOff?: () => unknown };
    slot.cutOff = () => instance.function('add')(1, 2);
    const script = new Script('cutOff()');
    for (let turn = 0; turn < 3; turn++) {
      expect(thrown(() => script.runInThisContext({ timeout: 5 }))).toMatchObject({
        code: 'ERR_SCRIPT_EXECUTION_TIMEOUT',
      });
      await Promise.resolve();
    }
    delete slot.cutOff;
    expect(instance.function('wide')(1n, 2, 3)).toBe(6n);
    expect(instance.function('enter')(0)).toBe(1);
    instance.close();
  });

  it('stays well through hundreds of instances, traps and host errors', () => {
    const traps = engine.compile(program('traps'));
    const host = engine.compile(program('host'));
    const mine = new Error('mine');
    const imports = {
      env: {
        ...numeric,
        fail: () => {
          throw mine;
        },
      },
      other: { fail: () => 0 },
    };
    const rounds = engine.description.tiers[0] === 'interpreter' ? 60 : 250;
    for (let round = 0; round < rounds; round++) {
      const [a, b] = [traps.instantiate({}), host.instantiate(imports)];
      expect(thrown(() => a.function('load')(-1))).toBeInstanceOf(WasmTrap);
      expect(thrown(() => a.function('divide')(1, 0))).toBeInstanceOf(WasmTrap);
      expect(thrown(() => b.function('fail')(1))).toBe(mine);
      expect(b.memory('memory')[0]).toBe(7);
      expect(b.function('many')(10)).toBe(10);
      a.close();
      b.close();
    }
    traps.close();
    host.close();
  });
}
