import { describe, expect, test } from 'vitest';
import { gasLeft, MAX_GAS, packGas } from '../../../src/wasm/gas/packed.js';
import { prices } from '../../../src/wasm/gas/prices.js';
import { inspectModule, prepareModule } from '../../../src/wasm/module/prepare.js';
import { body, functionType, moduleOf, name, section, unsigned, valueBytes } from '../../support/wasm-binary.js';
import {
  add,
  block,
  br,
  brIf,
  build,
  call,
  constant,
  end,
  eqz,
  expectExact,
  get,
  loop,
  Metered,
  ne,
  oneFunction,
  refusal,
  ret,
  SLOTS,
  set,
  sub,
  tee,
  UNARY,
  unreachable,
  when,
} from '../../support/wasm-metered.js';

const { i32, i64 } = valueBytes;

describe('gas of', () => {
  test('straight code is one unit an instruction', () => {
    expectExact(new Metered(oneFunction([get(0), constant(5), add])), 1, 6, 3);
  });

  test('a branch is what ran', () => {
    const metered = new Metered(
      oneFunction([get(0), when([get(0), constant(1), add, constant(2), add], [constant(7)])]),
    );
    expectExact(metered, 1, 4, 2 + 5);
    expectExact(metered, 0, 7, 2 + 1);
  });

  test('a division is dearer', () => {
    expectExact(new Metered(oneFunction([constant(40), get(0), [0x6d]])), 4, 10, 2 + prices.division);
  });

  test('a counted loop is its trips, charged ahead', () => {
    // do { x += 2; n -= 1 } while (n != 0)
    const counting = loop(get(1), constant(2), add, set(1), get(0), constant(1), sub, tee(0), brIf(0));
    const metered = new Metered(oneFunction([counting, get(1)], 1));
    expectExact(metered, 1, 2, 9 + 1);
    expectExact(metered, 1000, 2000, 9 * 1000 + 1);
    // Around once: 2^32 trips are more than can be charged ahead, and are counted one by one.
    expect(metered.run(0, 1_000_000).result).toBe('trap');
  });

  test('a loop between constants is a part of what is around it', () => {
    const code = [constant(10), set(1), loop(get(1), constant(-2), add, tee(1), brIf(0)), get(0)];
    expectExact(new Metered(oneFunction(code, 1)), 3, 3, 2 + 5 * 5 + 1);
  });

  test('a loop whose step never meets its end runs until the gas is gone', () => {
    const code = [loop(get(0), constant(2), add, tee(0), constant(7), ne, brIf(0)), get(0)];
    const metered = new Metered(oneFunction(code));
    expectExact(metered, 1, 7, 3 * 7 + 1);
    const odd = metered.run(0, 100_000);
    expect(odd.result).toBe('trap');
    expect(odd.used).toBeLessThan(100_010);
  });

  test('loops with several ways through them', () => {
    // while (n) { if (n & 1) x += 3; n -= 1 }
    const code = [
      block(
        loop(
          [...get(0), ...eqz, ...brIf(1)],
          [...get(0), ...constant(1), 0x71, 0x04, 0x40, ...get(1), ...constant(3), ...add, ...set(1), 0x0b],
          [...get(0), ...constant(1), ...sub, ...set(0), ...br(0)],
        ),
      ),
      get(1),
    ];
    const metered = new Metered(oneFunction(code, 1));
    const used = (n: number) => 3 + 1 + n * (3 + 4 + 5) + Math.ceil(n / 2) * 4;
    for (const n of [0, 1, 2, 7, 100]) expectExact(metered, n, Math.ceil(n / 2) * 3, used(n));
  });

  test('a call is both functions', () => {
    const bytes = build({
      functions: [0, 0],
      bodies: [
        body([], [...get(0), ...call(1), ...get(0), ...call(1), ...add]),
        body([], [...get(0), ...constant(1), ...add]),
      ],
    });
    expectExact(new Metered(bytes), 4, 10, 3 + 2 * (prices.call + 3));
  });

  test('recursion, and the stack ends it at the same depth everywhere', () => {
    // f(n) = n ? f(n − 1) + 1 : 0
    const recursive = [get(0), when([get(0), constant(1), sub, call(0), constant(1), add], [constant(0)])];
    const metered = new Metered(oneFunction(recursive));
    const used = (n: number) => 2 + n * (5 + prices.call + 2) + 1;
    for (const n of [0, 1, 50]) expectExact(metered, n, n, used(n));
    // A frame: 8 slots, a parameter, at most two operands. One of them is the room that calls without recursion have.
    const frame = 8 + 1 + 2;
    const deepest = Math.floor((SLOTS - frame) / frame);
    expect(metered.run(deepest)).toMatchObject({ result: deepest, stack: false });
    expect(metered.run(deepest + 1)).toMatchObject({ result: 'trap', stack: true });
  });

  test('unreachable is exact', () => {
    const metered = new Metered(oneFunction([get(0), [0x04, 0x40, ...get(0), 0x1a, ...unreachable, 0x0b], get(0)]));
    expect(metered.run(1)).toMatchObject({ result: 'trap', used: 3 });
    expectExact(metered, 0, 0, 3);
  });

  test('a call of the host has a price, and the host may charge more', () => {
    const bytes = build({
      imports: [[...name('env'), ...name('f'), 0, 0]],
      functions: [0],
      exports: [[...name('run'), 0, 1]],
      bodies: [body([], [...get(0), ...call(0), ...constant(1), ...add])],
    });
    const metered: Metered = new Metered(
      bytes,
      {},
      {
        env: {
          f: (x: number) => {
            metered.gas.value -= packGas(1000, 0);
            return x * 2;
          },
        },
      },
    );
    expectExact(metered, 4, 9, 1 + prices.call + prices.hostCall + 2 + 1000);
  });

  test('growth of memory is paid by the page when there is room', () => {
    const bytes = build({ functions: [0], memory: [1, 1, 3], bodies: [body([], [...get(0), 0x40, 0])] });
    const metered = new Metered(bytes);
    expect(metered.run(1, 1 + prices.memoryPage).result).toBe('trap');
    expect(metered.run(1, 2 + prices.memoryPage)).toMatchObject({ result: 1, used: 2 + prices.memoryPage });
    expect(metered.run(100)).toMatchObject({ result: -1, used: 2 });
  });

  test('what is moved in bulk is paid by its length', () => {
    const code = [constant(0), constant(1), get(0), [0xfc, 0x0b, 0], get(0)];
    const bytes = build({ functions: [0], memory: [0, 1], bodies: [body([], code.flat())] });
    expectExact(new Metered(bytes), 800, 800, 5 + 100);
  });

  test('calls through a table that stays inside', () => {
    const bytes = build({
      functions: [0, 0],
      table: [0x70, 0, 1],
      elements: [[0, ...constant(0), ...end, 1, 1]],
      bodies: [body([], [...get(0), ...constant(0), 0x11, 0, 0]), body([], [...get(0), ...get(0), ...add])],
    });
    expectExact(new Metered(bytes), 4, 8, 2 + prices.callIndirect + 3);
  });

  test('calls through a table that the host sees', () => {
    const bytes = build({
      functions: [0, 0],
      table: [0x70, 0, 1],
      exports: [
        [...name('run'), 0, 0],
        [...name('table'), 1, 0],
      ],
      elements: [[0, ...constant(0), ...end, 1, 1]],
      bodies: [body([], [...get(0), ...constant(0), 0x11, 0, 0]), body([], [...get(0), ...get(0), ...add])],
    });
    const metered = new Metered(bytes);
    expectExact(metered, 4, 8, 2 + prices.callIndirect + 3);
    metered.gas.value = packGas(100, SLOTS);
    const fromTable = (metered.exports.table as WebAssembly.Table).get(0) as (x: number) => number;
    expect(fromTable(21)).toBe(42);
    expect(gasLeft(metered.gas.value)).toBe(97);
  });

  test('early returns and functions of several results', () => {
    const bytes = build({
      types: [UNARY, functionType([i32], [i32, i64])],
      functions: [0, 1],
      bodies: [
        body([[1, i64]], [...get(0), ...call(1), ...set(1)]),
        body([], [...get(0), 0x04, 0x40, ...get(0), 0x42, 9, ...ret, ...end, ...constant(3), 0x42, 8]),
      ],
    });
    const metered = new Metered(bytes);
    expectExact(metered, 5, 5, 1 + prices.call + 1 + 4);
    expectExact(metered, 0, 3, 1 + prices.call + 1 + 4);
  });
});

describe('a prepared module', () => {
  test('has its start function exported, not run', () => {
    const bytes = build({
      types: [UNARY, functionType([], [])],
      functions: [0, 1],
      globals: [[i32, 1, ...constant(0), ...end]],
      start: 1,
      bodies: [body([], [0x23, 0]), body([], [...constant(7), 0x24, 0])],
    });
    const metered = new Metered(bytes);
    expect(metered.run(0).result).toBe(0);
    metered.gas.value = packGas(10, SLOTS);
    metered.call(metered.prepared.start!);
    expect(gasLeft(metered.gas.value)).toBe(8);
    expect(metered.run(0).result).toBe(7);
    expect(metered.prepared.globals).toEqual([{ index: 0, type: 'i32', export: 'iguana:global:0' }]);
  });

  test('may not grow beyond what it is given, and not begin above it', () => {
    const bytes = build({ functions: [0], memory: [0, 2], bodies: [body([], [...get(0), 0x40, 0])] });
    const metered = new Metered(bytes, { maxMemoryPages: 3 });
    expect(metered.run(2).result).toBe(-1);
    expect(metered.run(1).result).toBe(2);
    expect(() => prepareModule(bytes, { maxMemoryPages: 1 })).toThrow(/IGU_WASM_LIMIT/);
  });

  test('asks the host before it grows', () => {
    const bytes = build({ functions: [0], memory: [0, 1], bodies: [body([], [...get(0), 0x40, 0])] });
    const asked: number[] = [];
    const grow = (pages: number) => {
      asked.push(pages);
      return pages < 3 ? 1 : 0;
    };
    const metered = new Metered(bytes, {}, { iguana: { grow } });
    expect([metered.run(2).result, metered.run(3).result, metered.run(0).result]).toEqual([1, -1, 3]);
    expect(asked).toEqual([2, 3, 0]);
  });

  test('says which segments were dropped', () => {
    const bytes = build({
      functions: [0],
      memory: [0, 1],
      dataCount: 1,
      bodies: [body([], [0xfc, 9, 0, ...get(0)])],
      data: [[1, 1, 42]],
    });
    const metered = new Metered(bytes);
    const [segment] = metered.prepared.segments;
    const dropped = metered.exports[segment!.dropped] as WebAssembly.Global;
    expect(dropped.value).toBe(0);
    metered.run(0);
    expect(dropped.value).toBe(1);
  });

  test('keeps the names of functions', () => {
    const names = [...name('name'), 1, 7, 1, 0, 4, ...Buffer.from('crab')];
    const bytes = new Uint8Array([...oneFunction([unreachable]), 0, ...unsigned(names.length), ...names]);
    const metered = new Metered(bytes);
    metered.gas.value = packGas(10, SLOTS);
    expect(() => metered.call('run', 0)).toThrow(expect.objectContaining({ stack: expect.stringContaining('crab') }));
    expect(metered.prepared.info.functionNames.get(0)).toBe('crab');
  });

  test('is the same for the same bytes and options, and without metering has no account', () => {
    const bytes = oneFunction([get(0)]);
    expect(prepareModule(bytes).id).toBe(prepareModule(bytes).id);
    expect(prepareModule(bytes).id).not.toBe(prepareModule(bytes, { maxMemoryPages: 1 }).id);
    expect(prepareModule(bytes).bytes).toEqual(prepareModule(bytes).bytes);
    const plain = prepareModule(bytes, { metered: false });
    expect([plain.metered, plain.gas]).toEqual([false, undefined]);
  });

  test('takes the most gas there is', () => {
    expect(new Metered(oneFunction([get(0)])).run(1, MAX_GAS)).toEqual({ result: 1, used: 1, stack: false });
  });
});

describe('refused', () => {
  test('what is not a module, with the place', () => {
    expect(refusal(new Uint8Array([1, 2, 3]))).toMatch(/^IGU_WASM_MALFORMED .*\\0asm \(byte 0\)/);
    expect(refusal(oneFunction([get(9)]))).toMatch(/^IGU_WASM_MALFORMED .*invalid local index/);
    expect(refusal(oneFunction([get(0)]).slice(0, -2))).toMatch(/^IGU_WASM_MALFORMED/);
  });

  test('what cannot be metered, by its name', () => {
    const throwing = moduleOf([section(1, [functionType([], [])]), section(13, [[0, 0]])]);
    expect(refusal(throwing)).toMatch(/^IGU_WASM_UNSUPPORTED .*exception-handling/);
    const shared = moduleOf([section(5, [[3, 1, 1]])]);
    expect(refusal(shared)).toMatch(/^IGU_WASM_UNSUPPORTED .*threads/);
    const component = new Uint8Array([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0]);
    expect(refusal(component)).toMatch(/^IGU_WASM_UNSUPPORTED .*component-model/);
  });

  test('names that are ours', () => {
    const bytes = build({ functions: [0], exports: [[...name('iguana:gas'), 0, 0]], bodies: [body([], get(0))] });
    expect(refusal(bytes)).toMatch(/^IGU_WASM_UNSUPPORTED .*iguana:gas/);
  });
});

test('a module is described as it was', () => {
  const info = inspectModule(build({ functions: [0], memory: [1, 1, 3], bodies: [body([], [...get(0), 0xc0])] }));
  expect(info).toMatchObject({
    functionCount: 1,
    features: ['sign-extension'],
    memories: [{ min: 1, max: 3, shared: false, imported: false }],
    exports: [{ name: 'run', kind: 'function', index: 0, type: { params: ['i32'], results: ['i32'] } }],
  });
});
