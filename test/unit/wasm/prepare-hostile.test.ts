/** Modules written to run without gas, to break the account, or to make the host work for ever. */
import { describe, expect, test } from 'vitest';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import { gasLeft, MAX_GAS, packGas, stackUsedUp } from '../../../src/wasm/gas/packed.js';
import { prices } from '../../../src/wasm/gas/prices.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import { body, functionType, name, unsigned, valueBytes } from '../../support/wasm-binary.js';
import {
  add,
  brIf,
  build,
  call,
  constant,
  end,
  expectExact,
  get,
  loop,
  Metered,
  ne,
  oneFunction,
  refusal,
  set,
  sub,
  tee,
  UNARY,
  unreachable,
} from '../../support/wasm-metered.js';

const { i32, funcref, externref } = valueBytes;
const [drop, nop] = [[0x1a], [0x01]];
const repeat = (times: number, ...code: number[][]): number[][] => Array.from({ length: times }, () => code.flat());

describe('without gas no work is done', () => {
  // Each loop would run for seconds: that the test ends at once is what it shows.
  const many = 2 ** 27;

  test('by a loop between constants', () => {
    const code = [constant(many), set(1), loop(get(1), constant(1), sub, tee(1), brIf(0)), get(0)];
    const started = performance.now();
    for (let run = 0; run < 20; run++) expect(new Metered(oneFunction(code, 1)).run(0, 100).result).toBe('trap');
    expect(performance.now() - started).toBeLessThan(5000);
  });

  test('by loops charged ahead one after the other', () => {
    const code = [...repeat(60, get(0), set(1), loop(get(1), constant(1), sub, tee(1), brIf(0))), get(0)];
    const started = performance.now();
    const metered = new Metered(oneFunction(code, 1));
    expect(metered.run(many, 1000)).toMatchObject({ result: 'trap', stack: false });
    expect(performance.now() - started).toBeLessThan(5000);
    expectExact(metered, 3, 3, 60 * (2 + 3 * 5) + 1);
  });

  test('by a loop whose step misses its end, however much gas there is', () => {
    // x steps by 2 from an odd number: only memory ends it.
    const bytes = build({
      functions: [0],
      memory: [0, 1],
      bodies: [
        body(
          [],
          [...loop(get(0), [0x2d, 0, 0], drop, get(0), constant(2), add, tee(0), constant(0), ne, brIf(0)), ...get(0)],
        ),
      ],
    });
    const metered = new Metered(bytes);
    metered.gas.value = packGas(MAX_GAS, 1000);
    expect(() => metered.call('run', 1)).toThrow(/out of bounds/);
    expect(metered.run(1, 9 * 1000).used).toBeLessThan(9 * 1001 + 2);
  });

  test('by prices that overflow the account', () => {
    // Each call of the large function is 40,000 units: callers pay them one by one, not all before the first.
    const large = body([], [...repeat(40_000, get(0), drop).flat(), ...get(0)]);
    const bytes = build({
      functions: [0, 0],
      bodies: [body([], [...get(0), ...repeat(20_000, call(1)).flat()]), large],
    });
    const metered = new Metered(bytes);
    expect(metered.run(1, 1_000_000)).toMatchObject({ result: 'trap', stack: false });
    const { used } = metered.run(1, 1_000_000);
    expect(used).toBeGreaterThan(1_000_000);
    expect(used).toBeLessThan(1_000_000 + 20_000 * 300);
  });

  test('by loops in loops that multiply up', () => {
    const nested = (depth: number): number[] =>
      depth === 0
        ? [...nop]
        : [
            ...constant(-1),
            ...set(depth),
            ...loop(nested(depth - 1), get(depth), constant(1), sub, tee(depth), brIf(0)),
          ];
    const metered = new Metered(oneFunction([nested(5), get(0)], 8));
    const { result, used } = metered.run(0, 100_000);
    expect(result).toBe('trap');
    expect(used).toBeLessThan(200_000);
  });

  test('by values that are copied a thousand at a time', () => {
    const many = Array<number>(900).fill(i32);
    const shifted = build({
      types: [UNARY, functionType(many, many)],
      functions: [0],
      bodies: [
        body(
          [],
          [
            ...repeat(900, constant(1)).flat(),
            ...[0x03, 1, ...get(0), ...get(0), ...constant(1), ...sub, ...tee(0), ...brIf(0)],
            ...[...drop, ...end, ...repeat(899, drop).flat()],
          ],
        ),
      ],
    });
    expectExact(new Metered(shifted), 10, 1, 900 + 10 * (1800 - prices.freeValues + 6));

    const passed = build({
      types: [UNARY, functionType([], many)],
      functions: [0, 1, 1],
      bodies: [
        body([], [...call(1), ...repeat(899, drop).flat()]),
        body([], call(2)),
        body([], repeat(900, constant(3)).flat()),
      ],
    });
    expectExact(new Metered(passed), 0, 3, 2 * (prices.call + 900 - prices.freeValues) + 900);
  });

  test('by the host, when it is called through a table', () => {
    const source = (open: boolean) =>
      build({
        imports: [[...name('env'), ...name('f'), 0, 0]],
        functions: [0],
        table: [funcref, 0, 1],
        exports: [[...name('run'), 0, 1], ...(open ? [[...name('table'), 1, 0]] : [])],
        elements: [[0, ...constant(0), ...end, 1, 0]],
        bodies: [body([], [...get(0), ...constant(0), 0x11, 0, 0])],
      });
    const imports = { env: { f: (x: number) => x + 1 } };
    for (const open of [false, true])
      expectExact(new Metered(source(open), {}, imports), 4, 5, 2 + prices.callIndirect + prices.hostCall);
  });
});

describe('the account says the truth', () => {
  test('when a small function traps while its caller has lent or taken gas', () => {
    // In the loop the charge of one branch is often moved before it: `unreachable` in the callee must see none of that.
    const bytes = build({
      functions: [0, 0],
      bodies: [
        body(
          [[1, i32]],
          [
            ...loop(
              get(0),
              [0x04, 0x40, ...constant(3), ...call(1), ...drop, ...repeat(40, get(0), drop).flat(), 0x05],
              [...repeat(90, get(0), drop).flat(), 0x0b],
              get(0),
              brIf(0),
            ),
            ...get(0),
          ],
        ),
        body([], [...get(0), ...unreachable]),
      ],
    });
    const metered = new Metered(bytes);
    const used = 2 + 2 + 2 + 40 + 1;
    for (const gas of [used, used + 1, used + 30, 1e6]) {
      const ran = metered.run(5, gas);
      expect(ran.result).toBe('trap');
      expect(ran.used).toBeLessThanOrEqual(gas);
    }
  });

  test('when the stack is gone and the gas just enough', () => {
    const metered = new Metered(oneFunction([get(0), call(0)]));
    const { used, stack } = metered.run(0);
    expect(stack).toBe(true);
    expect(metered.run(0, used)).toEqual({ result: 'trap', used, stack: true });
    expect(metered.run(0, Math.floor(used / 2))).toMatchObject({ result: 'trap', stack: false });
  });

  test('whatever slots and gas are left', () => {
    for (const gas of [-5, -1, 0, 1, 7]) {
      for (const slots of [-(2 ** 19), -1, 0, 1, 2 ** 19 - 1]) {
        const packed = BigInt(gas) * 2n ** 20n + BigInt(slots);
        expect([gasLeft(packed), stackUsedUp(packed)]).toEqual([gas, slots < 0]);
      }
    }
  });
});

describe('the host is not held up', () => {
  const within = (ms: number, run: () => unknown): void => {
    const started = performance.now();
    run();
    expect(performance.now() - started).toBeLessThan(ms);
  };

  test('by many functions of one type in a table', () => {
    const count = 40_000;
    const items = Array.from({ length: count }, (_, f) => unsigned(f)).flat();
    const bytes = build({
      functions: Array<number>(count).fill(0),
      table: [funcref, 0, ...unsigned(count)],
      elements: [[0, ...constant(0), ...end, ...unsigned(count), ...items]],
      bodies: [body([], [...get(0), ...get(0), 0x11, 0, 0]), ...repeat(count - 1, body([], get(0)))],
    });
    within(5000, () => prepareModule(bytes));
  });

  test('by many constants before many loops', () => {
    const locals = 10_000;
    const constants = Array.from({ length: locals }, (_, i) => [0x41, 7, 0x21, ...unsigned(i + 1)]);
    const loops = repeat(15_000, loop(get(0), constant(1), sub, tee(0), brIf(0)));
    within(5000, () => prepareModule(oneFunction([...constants, ...loops, get(0)], locals)));
  });

  test('by many tables and globals with many exports', () => {
    const count = 20_000;
    const exports = Array.from({ length: count }, (_, i) => [...name(`g${i}`), 3, ...unsigned(i)]);
    const bytes = build({
      functions: [0],
      imports: Array.from({ length: count }, (_, i) => [...name('t'), ...name(`${i}`), 1, externref, 0, 0]),
      globals: repeat(count, [i32, 1, ...constant(0), ...end]),
      exports: [...exports, [...name('run'), 0, 0]],
      bodies: [body([], get(0))],
    });
    within(5000, () => prepareModule(bytes));
  });

  test('by small functions with a thousand parameters, all exported: what that needs is refused', () => {
    const count = 4000;
    const bytes = build({
      types: [functionType(Array<number>(999).fill(i32), [i32])],
      functions: Array<number>(count).fill(0),
      exports: Array.from({ length: count }, (_, i) => [...name(`${i}`), 0, ...unsigned(i)]),
      bodies: repeat(count, body([], get(0))),
    });
    within(5000, () => expect(refusal(bytes)).toMatch(/^IGU_WASM_LIMIT .*bytes of the metered module/));
  });

  test.each([
    ['parameters', functionType(Array<number>(1000).fill(i32), []), body([], [])],
    ['results', functionType([], Array<number>(1000).fill(i32)), body([], repeat(1000, constant(0)).flat())],
    ['locals', UNARY, body([[49_999, i32]], get(0))],
  ])('by functions that with gas have more %s than engines allow', (what, type, code) => {
    const bytes = build({ types: [type], functions: [0], bodies: [code] });
    expect(WebAssembly.validate(bytes)).toBe(true);
    expect(refusal(bytes)).toMatch(new RegExp(`^IGU_WASM_LIMIT .*${what}`));
  });

  test('by instructions that can be written in several ways', () => {
    const long = [0xd0, 0xf0, 0x7f];
    const bytes = build({
      functions: [0],
      table: [funcref, 0, 1],
      elements: [[4, ...constant(0), ...end, 1, ...long, ...end]],
      globals: [[funcref, 1, ...long, ...end]],
      bodies: [body([], [...long, ...drop, 0x02, 0xc0, 0x7f, 0x0b, ...get(0)])],
    });
    expectExact(new Metered(bytes), 6, 6, 2);
  });
});

test('a guest that imports what every object inherits gets nothing of the host', () => {
  const engine = new NativeEngine();
  for (const [from, what] of [
    ['constructor', 'constructor'],
    ['toString', 'call'],
    ['__proto__', 'valueOf'],
    ['env', 'hasOwnProperty'],
  ] as const) {
    const bytes = build({
      types: [functionType([externref], [externref])],
      imports: [[...name(from), ...name(what), 0, 0]],
      functions: [0],
      exports: [[...name('run'), 0, 1]],
      bodies: [body([], [...get(0), ...call(0)])],
    });
    const compiled = engine.compile(prepareModule(bytes));
    expect(() => compiled.instantiate({ env: { f: () => 1 } })).toThrow(/IGU_WASM_LINK/);
  }
});
