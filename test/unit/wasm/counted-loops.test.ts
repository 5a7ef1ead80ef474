/** Loops in the layouts of several compilers: what they cost is what a walk through them counts, whether it is charged ahead or not. */
import { describe, expect, it } from 'vitest';
import { ControlFlow } from '../../../src/wasm/gas/control-flow.js';
import { Instructions } from '../../../src/wasm/module/instructions.js';
import { parseModule } from '../../../src/wasm/module/parse-module.js';
import {
  add,
  block,
  br,
  brIf,
  constant,
  expectExact,
  get,
  loop,
  Metered,
  oneFunction,
  set,
  sub,
  tee,
} from '../../support/wasm-metered.js';

/** Whether a loop goes on, by opcode. */
const relations: Readonly<Record<number, (a: number, b: number) => boolean>> = {
  71: (a, b) => a !== b,
  72: (a, b) => a < b,
  73: (a, b) => a >>> 0 < b >>> 0,
  74: (a, b) => a > b,
  75: (a, b) => a >>> 0 > b >>> 0,
};
const inverse: Readonly<Record<number, number>> = { 71: 70, 72: 78, 73: 79, 74: 76, 75: 77 };
const swapped: Readonly<Record<number, number>> = {
  71: 71,
  72: 74,
  73: 75,
  74: 72,
  75: 73,
  70: 70,
  76: 78,
  77: 79,
  78: 76,
  79: 77,
};
/** More trips than that are not walked. */
const MANY = 300;
const [COUNTER, LIMIT, SUM] = [1, 2, 3];

interface Case {
  readonly relation: number;
  readonly step: number;
  readonly from: number;
  readonly to: number;
  readonly limit: 'local' | 'constant';
  readonly limitFirst: boolean;
  /** The start is a constant. */
  readonly known?: boolean;
  readonly layout: 'do' | 'do, leaving' | 'while by if' | 'while by branch' | 'do, step in the test';
}

function code(one: Case): number[][] {
  const { relation, step, layout, limitFirst } = one;
  const limit = one.limit === 'local' ? get(LIMIT) : constant(one.to);
  const step_ = step < 0 && step % 4 === 0 ? [...constant(-step), ...sub] : [...constant(step), ...add];
  const body = [get(SUM), constant(1), add, set(SUM)];
  const update = [get(COUNTER), step_, set(COUNTER)];
  const leaves = layout === 'do, leaving' || layout === 'while by branch';
  const holds = leaves ? inverse[relation]! : relation;
  const test = limitFirst ? [limit, get(COUNTER), [swapped[holds]!]] : [get(COUNTER), limit, [holds]];
  const begin = [one.known ? constant(one.from) : get(0), set(COUNTER), constant(one.to), set(LIMIT)];
  const loops = {
    do: [loop(...body, ...update, ...test, brIf(0))],
    'do, leaving': [block(loop(...body, ...update, ...test, brIf(1), br(0)))],
    'while by if': [loop(...test, [0x04, 0x40, ...[...body, ...update, br(1)].flat(), 0x0b])],
    'while by branch': [block(loop(...test, brIf(1), ...update, ...body, br(0)))],
    'do, step in the test': [
      loop(
        ...body,
        ...(limitFirst ? [limit] : []),
        get(COUNTER),
        step_,
        tee(COUNTER),
        ...(limitFirst ? [] : [limit]),
        [test[2]![0]!],
        brIf(0),
      ),
    ],
  };
  return [...begin, ...loops[layout], get(SUM)];
}

/** Trips and gas; undefined when there are too many. */
function walk({ relation, step, from, to, layout }: Case): { trips: number; gas: number } | undefined {
  const goesOn = relations[relation]!;
  const first = layout.startsWith('while');
  const stepInTest = layout === 'do, step in the test';
  let i = from;
  let gas = 4;
  for (let trips = 0; trips <= MANY; trips++) {
    if (first) {
      gas += 4;
      if (!goesOn(i, to)) return { trips, gas: gas + 1 };
    }
    gas += 4 + 4;
    i = (i + step) | 0;
    if (first) gas += 1;
    else {
      gas += stepInTest ? 3 : 4;
      if (!goesOn(i, to)) return { trips: trips + 1, gas: gas + 1 };
      if (layout === 'do, leaving') gas += 1;
    }
  }
  return undefined;
}

const limits = [0, 7, -5, 0x7fff_ffff, 0x7fff_fff8, -0x7fff_fff9];
const DISTANCES = [0, 1, 3, 16, 17, -1, -8, 100];
const layouts = ['do', 'do, leaving', 'while by if', 'while by branch', 'do, step in the test'] as const;

describe.each(layouts)('loops laid out as %s', (layout) => {
  it.each(Object.keys(relations).map(Number))(
    'with relation %i cost what is walked, from and to any number',
    (relation) => {
      let walked = 0;
      let endless = 0;
      for (const step of [1, -1, 8, -4, 3])
        for (const to of limits)
          for (const limitFirst of [false, true]) {
            const limit = (step + to) & 1 ? 'local' : 'constant';
            const template = { relation, step, to, layout, limitFirst, limit } as const;
            const metered = new Metered(oneFunction(code({ ...template, from: 0 }), 3));
            for (const distance of DISTANCES) {
              const from = (to - distance * Math.sign(step)) | 0;
              const told = walk({ ...template, from });
              if (told) {
                expectExact(metered, from, told.trips, told.gas);
                walked++;
              } else {
                const run = metered.run(from, 2_000);
                expect(run.result).toBe('trap');
                expect(run.used).toBeGreaterThan(2_000);
                endless++;
              }
            }
          }
      expect(walked).toBeGreaterThan(100);
      expect(walked + endless).toBe(5 * limits.length * 2 * DISTANCES.length);
    },
  );

  it.each(Object.keys(relations).map(Number))(
    'with relation %i cost the same where all is known before',
    (relation) => {
      for (const step of [1, -1, 4, -3])
        for (const to of [7, 0x7fff_fffe, -0x8000_0000])
          for (const distance of [0, 3, 16, -1]) {
            const from = (to - distance * Math.sign(step)) | 0;
            const one = {
              relation,
              step,
              to,
              from,
              layout,
              limitFirst: false,
              limit: 'constant',
              known: true,
            } as const;
            const metered = new Metered(oneFunction(code(one), 3));
            const told = walk(one);
            if (told) expectExact(metered, 0, told.trips, told.gas);
            else expect(metered.run(0, 2_000)).toMatchObject({ result: 'trap' });
          }
    },
  );

  it('are charged ahead where their number of trips is known', () => {
    const charged = (relation: number, step: number): boolean => {
      const bytes = oneFunction(
        code({ relation, step, from: 0, to: 50, layout, limitFirst: false, limit: 'local' }),
        3,
      );
      const module = parseModule(bytes);
      const instructions = new Instructions(bytes);
      const body = module.code[0]!;
      instructions.read(body.from, body.to);
      const flow = new ControlFlow(instructions, {
        entryPrice: () => 0,
        valuesPrice: () => 0,
        mustTest: () => false,
        recurs: () => false,
        indirectRecurs: () => false,
      });
      flow.read(1);
      return flow.countedLoops.size > 0 || !flow.isHeader.slice(0, flow.count).includes(true);
    };
    for (const [relation, step, expected] of [
      [71, 1, true],
      [71, -8, true],
      [71, 3, false],
      [72, 1, true],
      [72, -1, false],
      [73, 4, true],
      [74, -1, true],
      [74, 1, false],
      [75, -4, true],
    ] as const)
      expect(charged(relation, step), `${relation} ${step}`).toBe(expected);
  });
});
