import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EngineInstance } from '../../../src/wasm/engines/engine.js';
import type { PreparedModule } from '../../../src/wasm/module/prepared.js';
import { initialImageOf, readInitialImage } from '../../../src/wasm/snapshot/initial-image.js';
import { preinitialise } from '../../../src/wasm/snapshot/preinitialise.js';
import { restoreInPlace, restorePlan, restoreSnapshot } from '../../../src/wasm/snapshot/restore-snapshot.js';
import { createSnapshot, type Snapshot } from '../../../src/wasm/snapshot/snapshot.js';
import { compiled, foreign, imports, prepared, stateOf } from './snapshot-support.js';

const image = initialImageOf(compiled, imports);
const fresh = () => compiled.instantiate(imports);
const take = (instance: EngineInstance) => createSnapshot(instance, prepared, image);
const call = (instance: EngineInstance, name: string, ...args: number[]) => instance.function(name)(...args);

/** A snapshot as values that compare fast. */
const plain = ({ pages, ...rest }: Snapshot) => ({ ...rest, pages: Buffer.from(pages).toString('latin1') });

/** One thing a guest or host may do to an instance at rest. */
type Step =
  | { do: 'write'; at: number; bytes: number[] }
  | { do: 'fill'; page: number; count: number; with: number }
  | { do: 'grow'; pages: number }
  | { do: 'global'; index: number; value: number | bigint | null }
  | { do: 'table'; element: number; to: string | null }
  | { do: 'grow-table'; by: number }
  | { do: 'call'; name: string; argument: number };

const f32 = fc.float({ noDefaultInfinity: false });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('write' as const),
      at: fc.nat(5 * 65_536),
      bytes: fc.array(fc.nat(255), { minLength: 1, maxLength: 20 }),
    }),
  },
  fc.record({
    do: fc.constant('fill' as const),
    page: fc.nat(80),
    count: fc.integer({ min: 1, max: 20 }),
    with: fc.constantFrom(0, 1, 200),
  }),
  fc.record({ do: fc.constant('grow' as const), pages: fc.nat(3) }),
  fc.oneof(
    fc.record({
      do: fc.constant('global' as const),
      index: fc.constant(0),
      value: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    }),
    fc.record({
      do: fc.constant('global' as const),
      index: fc.constant(1),
      value: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
    }),
    fc.record({ do: fc.constant('global' as const), index: fc.constant(2), value: f32 }),
    fc.record({ do: fc.constant('global' as const), index: fc.constant(3), value: fc.double() }),
  ),
  fc.record({ do: fc.constant('table' as const), element: fc.nat(6), to: fc.constantFrom('f1', 'f2', 'f3', null) }),
  fc.record({ do: fc.constant('grow-table' as const), by: fc.nat(3) }),
  fc.record({
    do: fc.constant('call' as const),
    name: fc.constantFrom('init', 'start', 'drop-data', 'drop-elements'),
    argument: fc.constant(0),
  }),
);

function apply(instance: EngineInstance, steps: readonly Step[]): void {
  for (const one of steps) {
    const memory = instance.memory('m0');
    const tables = instance.tables!;
    if (one.do === 'write')
      memory.set(one.bytes.slice(0, Math.max(0, memory.length - one.at)), Math.min(one.at, memory.length));
    else if (one.do === 'fill') memory.fill(one.with, one.page * 4096, (one.page + one.count) * 4096);
    else if (one.do === 'grow') instance.growMemory('m0', one.pages);
    else if (one.do === 'global') instance.setGlobal(`g${one.index}`, one.value);
    else if (one.do === 'grow-table') tables.grow('t0', one.by);
    else if (one.do === 'call') call(instance, one.name);
    else if (one.element < tables.length('t0')) tables.set('t0', one.element, one.to && tables.reference(one.to));
  }
}

describe('createSnapshot and restoreSnapshot', () => {
  test('whatever was done to an instance, a new one restored from its snapshot is equal, here and behind another kind of engine', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 15 }), (steps) => {
        const instance = fresh();
        apply(instance, steps);
        const wanted = stateOf(instance);
        const snapshot = structuredClone(take(instance));
        expect(stateOf(restoreSnapshot(snapshot, compiled, imports, image))).toEqual(wanted);
        const elsewhere = restoreSnapshot(snapshot, foreign(), imports, image);
        expect(stateOf(elsewhere)).toEqual(wanted);
        expect(plain(createSnapshot(elsewhere, prepared, image))).toEqual(plain(snapshot));
      }),
      { numRuns: 60 },
    );
  });

  test('whatever was done since, a live instance takes the state of a snapshot in place, or is told to be replaced', () => {
    let inPlace = 0;
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.array(step, { maxLength: 12 }), (before, after) => {
        const instance = fresh();
        apply(instance, before);
        const wanted = stateOf(instance);
        const snapshot = take(instance);
        apply(instance, after);
        const plan = restorePlan(snapshot, instance, prepared);
        if (plan.inPlace) {
          inPlace++;
          restoreInPlace(snapshot, instance, prepared, image);
          expect(stateOf(instance)).toEqual(wanted);
        } else {
          const now = stateOf(instance);
          expect(plan.why).toMatch(/has grown to|was dropped since/);
          expect(() => restoreInPlace(snapshot, instance, prepared, image)).toThrow(
            /IGU_WASM_SNAPSHOT.*replace the instance/,
          );
          expect(stateOf(instance)).toEqual(now);
        }
      }),
      { numRuns: 60 },
    );
    expect(inPlace).toBeGreaterThan(10);
  });

  test('one instance is put back again and again, to one snapshot and another', () => {
    fc.assert(
      fc.property(fc.array(fc.array(step, { maxLength: 6 }), { minLength: 3, maxLength: 8 }), (rounds) => {
        const instance = fresh();
        const other = fresh();
        apply(other, rounds[0]!);
        const targets = [take(fresh()), take(other)].map((snapshot) => ({
          snapshot,
          state: stateOf(restoreSnapshot(snapshot, compiled, imports)),
        }));
        for (const [i, steps] of rounds.entries()) {
          apply(instance, steps);
          const { snapshot, state } = targets[i % 2]!;
          if (!restorePlan(snapshot, instance, prepared).inPlace) continue;
          restoreInPlace(snapshot, instance, prepared, image);
          expect(stateOf(instance)).toEqual(state);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('only pages that differ are kept, neighbours as one run, equal ones once', () => {
    const instance = fresh();
    const memory = instance.memory('m0');
    for (const page of [3, 4, 5, 20]) memory.fill(page === 20 ? 4 : page, page * 4096, (page + 1) * 4096);
    memory[100] = 1; // page 0 has "hello" there
    const snapshot = take(instance);
    expect([...snapshot.memories[0]!.runs]).toEqual([0, 0, 1, 3, 1, 3, 20, 2, 1]);
    expect(snapshot.pages.length).toBe(4 * 4096);
    expect(take(fresh()).pages.length).toBe(0);
  });

  test('zeros written over a data segment are a difference', () => {
    const instance = fresh();
    instance.memory('m0').fill(0);
    const snapshot = take(instance);
    expect([...snapshot.memories[0]!.runs]).toEqual([0, 0, 1, 17, 0, 1]);
    expect(
      restoreSnapshot(snapshot, compiled, imports)
        .memory('m0')
        .every((byte) => byte === 0),
    ).toBe(true);
  });

  test('functions and dropped segments go on working: what was dropped traps, what was not is there', () => {
    const instance = fresh();
    instance.tables!.set('t0', 3, instance.tables!.reference('f3'));
    call(instance, 'drop-data');
    const restored = restoreSnapshot(take(instance), compiled, imports);
    expect(call(restored, 'call', 3)).toBe(33);
    expect(() => call(restored, 'load-passive', 0)).toThrow(/out-of-bounds-memory/);
    call(restored, 'load-elements', 0);
    expect([call(restored, 'call', 0), call(restored, 'call', 1)]).toEqual([33, 11]);
    const undropped = restoreSnapshot(take(fresh()), compiled, imports);
    call(undropped, 'load-passive', 500);
    expect(Buffer.from(undropped.memory('m0').subarray(500, 513)).toString()).toBe('passive bytes');
  });

  test('numbers of globals are exact but for the bits of a NaN, which JavaScript does not tell', () => {
    const instance = fresh();
    const values = [-(2 ** 31), -(2n ** 63n) + 1n, -0, Number.MIN_VALUE];
    values.forEach((value, i) => {
      instance.setGlobal(`g${i}`, value);
    });
    const restored = restoreSnapshot(take(instance), compiled, imports);
    values.forEach((value, i) => {
      expect(restored.getGlobal(`g${i}`)).toBe(value);
    });
    instance.setGlobal('g3', Number.NaN);
    expect(restoreSnapshot(take(instance), compiled, imports).getGlobal('g3')).toBeNaN();
  });

  test('gas used and the state of WASI travel along', () => {
    const snapshot = createSnapshot(fresh(), prepared, image, { gasUsed: 2n ** 62n, wasi: new Uint8Array([1, 2, 3]) });
    expect(snapshot.gasUsed).toBe(2n ** 62n);
    expect(snapshot.wasi).toEqual(new Uint8Array([1, 2, 3]));
  });

  test('what the host put into a table or global cannot be saved, and the error says where it is', () => {
    const withHost = fresh();
    const stranger = fresh().function('read');
    expect(stranger).toBeTypeOf('function');
    withHost.tables!.set('t0', 2, fresh().tables!.reference('f1'));
    expect(() => take(withHost)).toThrow(/IGU_WASM_SNAPSHOT.*element 2 of table 0/);
    const withObject = fresh();
    withObject.setGlobal('g5', { of: 'the host' });
    expect(() => take(withObject)).toThrow(/IGU_WASM_SNAPSHOT.*global 5 holds an object of the host/);
    const withFunction = fresh();
    withFunction.setGlobal('g4', fresh().tables!.reference('f1'));
    expect(() => take(withFunction)).toThrow(/global 4 holds a function that is not/);
  });

  test('a module whose state cannot be reached whole is refused', () => {
    const hidden: PreparedModule = { ...prepared, globals: prepared.globals.slice(1) };
    expect(() => createSnapshot(fresh(), hidden, image)).toThrow(/global 0 of type i32 cannot be read/);
    const memories = prepared.info.memories.map((memory) => ({ ...memory, shared: true }));
    const shared = { ...prepared, info: { ...prepared.info, memories } };
    expect(() => createSnapshot(fresh(), shared, image)).toThrow(/shared with other threads/);
  });
});

describe('bad and foreign snapshots', () => {
  const instance = fresh();
  instance.memory('m0').fill(5, 8192, 20_000);
  const good = take(instance);
  const runs = (...values: number[]) => [{ size: 2, runs: new Uint32Array(values) }];
  const bad: [string, Partial<Snapshot>, RegExp][] = [
    ['format', { format: 2 }, /its format is 2, this version reads 1/],
    ['another module', { moduleId: 'd'.repeat(64) }, /it is of module dddddddddddddddd…/],
    ['another image', { image: 'e'.repeat(64) }, /begin with other memory/],
    ['pages cut off', { pages: good.pages.slice(1) }, /cut off/],
    ['pages missing', { pages: good.pages.slice(4096) }, /pages lie outside/],
    ['a page beyond memory', { memories: runs(32, 0, 1) }, /pages lie outside/],
    ['a run beyond memory', { memories: runs(31, 0, 2) }, /pages lie outside/],
    ['runs out of order', { memories: runs(3, 0, 1, 2, 0, 1) }, /pages lie outside/],
    ['runs that overflow', { memories: runs(0xffffffff, 0, 2) }, /pages lie outside/],
    ['smaller memory', { memories: [{ size: 1, runs: new Uint32Array(0) }] }, /other memories/],
    ['too much memory', { memories: [{ size: 65_537, runs: new Uint32Array(0) }] }, /larger than a snapshot may hold/],
    [
      'more than the maximum',
      { memories: [{ size: 65, runs: new Uint32Array(0) }] },
      /memory 0 cannot grow to 65 pages/,
    ],
    ['no memories', { memories: [] }, /other memories/],
    [
      'a global of another type',
      { globals: good.globals.with(0, { index: 0, type: 'i32', value: 1n }) },
      /global 0 is not of its type/,
    ],
    [
      'a global out of range',
      { globals: good.globals.with(1, { index: 1, type: 'i64', value: 2n ** 63n }) },
      /global 1 is not/,
    ],
    [
      'an unknown function',
      { globals: good.globals.with(4, { index: 4, type: 'funcref', value: 9 }) },
      /other memories, globals/,
    ],
    [
      'a change beyond the table',
      { tables: [{ index: 0, length: 4, changes: new Int32Array([4, -1]) }] },
      /outside its table/,
    ],
    [
      'an unknown function in a table',
      { tables: [{ index: 0, length: 4, changes: new Int32Array([1, 7]) }] },
      /other memories, globals/,
    ],
    [
      'a table over its maximum',
      { tables: [{ index: 0, length: 65, changes: new Int32Array(0) }] },
      /table 0 cannot grow to 65/,
    ],
    ['an unknown segment', { dropped: [{ kind: 'data', index: 9 }] }, /segments/],
  ];

  test.each(bad)('%s is refused, and a live instance stays as it was', (_, change, why) => {
    const snapshot = { ...good, ...change };
    expect(() => restoreSnapshot(snapshot, compiled, imports, image)).toThrow(why);
    expect(() => restoreSnapshot(snapshot, compiled, imports, image)).toThrow(/IGU_WASM_SNAPSHOT/);
    const live = fresh();
    apply(live, [{ do: 'write', at: 9, bytes: [1, 2, 3] }]);
    const before = stateOf(live);
    expect(() => restoreInPlace(snapshot, live, prepared, image)).toThrow(why);
    expect(stateOf(live)).toEqual(before);
  });

  test('the image of another module is refused', () => {
    expect(() => createSnapshot(fresh(), prepared, { ...image, moduleId: 'x' })).toThrow(/another module's/);
  });

  test('an instance that could not be restored is closed', () => {
    let closed = 0;
    const counting = {
      ...foreign(),
      instantiate: () => Object.assign(foreign().instantiate(imports), { close: () => closed++ }),
    };
    expect(() =>
      restoreSnapshot({ ...good, memories: runs(0, 0, 1).map((one) => ({ ...one, size: 65 })) }, counting, imports),
    ).toThrow(/grow/);
    expect(closed).toBe(1);
  });
});

describe('preinitialise', () => {
  test('start and init ran once, before the snapshot, and not again', () => {
    const { snapshot, image: own } = preinitialise(compiled, imports, { calls: ['init'] });
    expect(own).toEqual(image);
    for (let i = 0; i < 2; i++) {
      const instance = restoreSnapshot(snapshot, compiled, imports, own);
      expect([call(instance, 'read', 0), call(instance, 'read', 4), instance.getGlobal('g0')]).toEqual([1, 4242, 99]);
      expect(instance.getGlobal('g4')).toBe(instance.tables!.reference('f2'));
    }
  });

  test('the caller writes gas before and says after what the snapshot carries', () => {
    const seen: string[] = [];
    const { snapshot } = preinitialise(compiled, imports, {
      calls: ['init'],
      before: (instance) => seen.push(`before ${call(instance, 'read', 4)}`),
      after: (instance) => {
        seen.push(`after ${call(instance, 'read', 4)}`);
        return { gasUsed: 77n };
      },
    });
    expect(seen).toEqual(['before 0', 'after 4242']);
    expect(snapshot.gasUsed).toBe(77n);
  });

  test('what is no init function is refused before anything runs', () => {
    expect(() => preinitialise(compiled, imports, { calls: ['nothing'] })).toThrow(/IGU_WASM_NOT_FOUND/);
    expect(() => preinitialise(compiled, imports, { calls: ['init', 'argument'] })).toThrow(/IGU_WASM_SIGNATURE/);
  });
});

test('the initial image is sparse, and the same from every engine', () => {
  expect([...image.memories[0]!.runs]).toEqual([0, 0, 1, 17, 1, 1]);
  expect([...image.tables[0]!]).toEqual([1, 2, -1, -1]);
  expect(readInitialImage(foreign().instantiate(imports), prepared)).toEqual(image);
});
