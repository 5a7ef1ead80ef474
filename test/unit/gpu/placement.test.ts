import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type DemandShare,
  demandMix,
  type ExpectedDemand,
  type GpuDemand,
  type PlacementNode,
} from '../../../src/gpu/placement/demand.js';
import { Fragmentation } from '../../../src/gpu/placement/fragmentation.js';
import { FragmentationGradient } from '../../../src/gpu/placement/fragmentation-gradient.js';
import { inflate, placementPolicies } from '../../../src/gpu/placement/inflation.js';
import { readDemands, readNodes } from '../../../src/gpu/placement/openb.js';
import { PlacementState } from '../../../src/gpu/placement/placement-state.js';
import { Placer } from '../../../src/gpu/placement/policy.js';
import { seededRandom } from '../../../src/stats/seeded-random.js';

const models = ['A', 'B', 'C'];
/** MiB that a GPU can give: of A there are two sizes, of C nothing is known. */
const gpuMemory: Readonly<Record<string, readonly (number | undefined)[]>> = {
  ...{ A: [16_000, 30_000], B: [40_000, 40_000], C: [undefined, undefined] },
};
const node = fc.record({
  model: fc.constantFrom(...models),
  cpuMilli: fc.integer({ min: 0, max: 16 }).map((n) => n * 1_000),
  memoryMb: fc.integer({ min: 1, max: 64 }).map((n) => n * 1_024),
  gpus: fc.integer({ min: 0, max: 8 }),
  size: fc.nat(1),
});
const nodes = fc.array(node, { minLength: 1, maxLength: 6 }).map((list) =>
  list.map(({ size, ...one }, i): PlacementNode => {
    const gpuMemoryMb = gpuMemory[one.model]![size];
    return { id: `n${i}`, ...one, ...(gpuMemoryMb !== undefined && { gpuMemoryMb }) };
  }),
);
const demand: fc.Arbitrary<GpuDemand> = fc
  .record({
    cpuMilli: fc.integer({ min: 0, max: 8 }).map((n) => n * 1_000),
    memoryMb: fc.integer({ min: 0, max: 8 }).map((n) => n * 1_024),
    gpuCount: fc.integer({ min: 0, max: 4 }),
    gpuMilli: fc.constantFrom(100, 250, 500, 730, 1_000),
    models: fc.option(fc.subarray(models, { minLength: 1 }), { nil: undefined }),
  })
  .map(({ models: only, gpuMilli, ...one }) => ({
    ...one,
    gpuMilli: one.gpuCount === 0 ? 0 : one.gpuCount > 1 ? 1_000 : gpuMilli,
    ...(only && { models: only }),
  }));
const demands = fc.array(demand, { minLength: 1, maxLength: 30 });
const expectedDemands = fc.array(
  fc
    .tuple(demand, fc.option(fc.constantFrom(100, 8_000, 16_000, 16_001, 25_000, 90_000), { nil: undefined }))
    .map(([one, gpuMemoryMb]): ExpectedDemand => ({ ...one, ...(gpuMemoryMb !== undefined && { gpuMemoryMb }) })),
  { minLength: 1, maxLength: 30 },
);

/** Fragments of a node by the published definition, word for word. */
function fragmentsOf(state: PlacementState, at: number, mix: readonly DemandShare[]): number {
  const residuals = [...state.freeGpu.subarray(state.firstGpu[at]!, state.firstGpu[at + 1]!)];
  const idle = residuals.reduce((sum, residual) => sum + residual, 0);
  const { model, gpuMemoryMb: total } = state.nodes[at]!;
  return mix.reduce((sum, { demand: one, share }) => {
    const asked = one.gpuMemoryMb;
    const ofMemory = asked === undefined || total === undefined ? 0 : Math.floor((1_000 * asked) / total);
    const never = asked !== undefined && total !== undefined && asked > total;
    const milli = never ? 1_001 : Math.max(one.gpuMilli, ofMemory);
    const enough = residuals.filter((residual) => residual >= milli).length >= one.gpuCount;
    const runs =
      one.gpuCount > 0 && one.cpuMilli <= state.freeCpu[at]! && enough && (one.models?.includes(model) ?? true);
    const fragments = runs
      ? residuals.filter((residual) => residual < milli).reduce((total, residual) => total + residual, 0)
      : idle;
    return sum + share * fragments;
  }, 0);
}

describe('fragmentation', () => {
  test('is what the definition says, on any node', () => {
    fc.assert(
      fc.property(nodes, expectedDemands, demands, (cluster, expected, taken) => {
        const state = new PlacementState(cluster);
        const mix = demandMix(expected.map((one) => [one, 1] as const));
        const placer = new Placer(state, placementPolicies.spread(state));
        for (const one of taken) placer.place(one);
        const fragmentation = new Fragmentation(state, mix);
        for (let at = 0; at < cluster.length; at++) {
          fragmentation.begin(at, state.freeCpu[at]!);
          const residuals = state.freeGpu.slice(state.firstGpu[at]!, state.firstGpu[at + 1]!);
          expect(fragmentation.of(residuals, residuals.length)).toBeCloseTo(fragmentsOf(state, at, mix), 6);
        }
      }),
    );
  });

  test('a kind that is named often presses on the models it names', () => {
    const cluster = [
      { id: 'a', model: 'A', cpuMilli: 1, memoryMb: 1, gpus: 2 },
      { id: 'b', model: 'B', cpuMilli: 1, memoryMb: 1, gpus: 6 },
    ];
    const one = { cpuMilli: 0, memoryMb: 0, gpuCount: 1, gpuMilli: 1_000 };
    const mix = demandMix([
      [one, 3],
      [{ ...one, models: ['A'] }, 1],
    ]);
    // a quarter of what eight GPUs would be asked for is two, all that there are of A
    expect([...new Fragmentation(new PlacementState(cluster), mix).pressure]).toEqual([1, 0]);
  });
});

test('memory presses on the GPUs that have so much, by its part of them', () => {
  const cluster = [
    { id: 'a', model: 'A', cpuMilli: 1, memoryMb: 1, gpus: 3, gpuMemoryMb: 40_000 },
    { id: 'b', model: 'B', cpuMilli: 1, memoryMb: 1, gpus: 1, gpuMemoryMb: 80_000 },
  ];
  const one = { cpuMilli: 0, memoryMb: 0, gpuCount: 1, gpuMilli: 1 };
  const pressureOf = (gpuMemoryMb: number) => [
    ...new Fragmentation(new PlacementState(cluster), demandMix([[{ ...one, gpuMemoryMb }, 1]])).pressure,
  ];
  const half = { ...one, gpuMilli: 500 };
  const withHalves = (ofB: ExpectedDemand) => {
    const mix = demandMix([
      [{ ...half, models: ['A'] }, 1],
      [{ ...ofB, models: ['B'] }, 1],
    ]);
    return [...new Fragmentation(new PlacementState(cluster), mix).pressure];
  };
  expect(pressureOf(60_000)).toEqual([0, 4]);
  expect(pressureOf(20_000)).toEqual([1, 1]);
  expect(pressureOf(90_000)).toEqual([0, 0]);
  // of those it takes: half of a B, be the same number of MiB all of an A
  expect(withHalves({ ...one, gpuMemoryMb: 40_000 })).toEqual(withHalves(half));
});

describe('the mix of demands', () => {
  test('has the most frequent kinds until enough is covered, with shares of one', () => {
    const of = (gpuMilli: number): GpuDemand => ({ cpuMilli: 1, memoryMb: 1, gpuCount: 1, gpuMilli });
    const mix = demandMix([
      [of(100), 60],
      [of(200), 30],
      [{ ...of(200), memoryMb: 2 }, 6],
      [of(300), 4],
    ]);
    expect(mix.map(({ demand: { gpuMilli }, share }) => [gpuMilli, share])).toEqual([
      [100, 60 / 96],
      [200, 36 / 96],
    ]);
  });
});

describe.each(Object.entries(placementPolicies))('%s', (name, factory) => {
  test('places what fits somewhere, never more than there is, and gives all back', () => {
    fc.assert(
      fc.property(nodes, demands, fc.integer(), (cluster, arriving, seed) => {
        const state = new PlacementState(cluster);
        const mix = demandMix(arriving.map((one) => [one, 1] as const));
        const placer = new Placer(state, factory(state, mix));
        const random = seededRandom(seed);
        const held: { one: GpuDemand; at: NonNullable<ReturnType<Placer['place']>> }[] = [];
        for (const one of [...arriving, ...arriving]) {
          const allowed = state.allowed(one);
          const somewhere = cluster.some((_, i) => state.fits(i, one, allowed));
          const at = placer.place(one);
          expect(at !== undefined).toBe(somewhere);
          if (at) {
            held.push({ one, at });
            expect(at.gpus).toHaveLength(one.gpuCount);
            expect(one.models?.includes(cluster[at.node]!.model) ?? true).toBe(true);
          }
          expect(Math.min(...state.freeGpu, ...state.freeCpu, ...state.freeMemory)).toBeGreaterThanOrEqual(0);
          if (held.length > 0 && random() < 0.4) {
            const [gone] = held.splice(Math.floor(random() * held.length), 1);
            placer.give(gone!.one, gone!.at);
          }
        }
        for (const { one, at } of held) placer.give(one, at);
        expect([...state.freeGpu].every((free) => free === 1_000)).toBe(true);
        expect([...state.freeCpu]).toEqual(cluster.map(({ cpuMilli }) => cpuMilli));
      }),
      { numRuns: 60 },
    );
  });

  test('answers the same from kept scores as anew', () => {
    fc.assert(
      fc.property(nodes, demands, (cluster, arriving) => {
        const state = new PlacementState(cluster);
        const mix = demandMix(arriving.map((one) => [one, 1] as const));
        const placer = new Placer(state, factory(state, mix));
        for (const one of arriving) {
          const anew = new Placer(state, factory(state, mix)).choose(one);
          expect(placer.choose(one), name).toEqual(anew);
          placer.place(one);
        }
      }),
      { numRuns: 40 },
    );
  });
});

test('what is not there cannot be taken, nor given back twice', () => {
  const state = new PlacementState([{ id: 'n0', model: 'A', cpuMilli: 4_000, memoryMb: 1_024, gpus: 1 }]);
  const half: GpuDemand = { cpuMilli: 1_000, memoryMb: 1, gpuCount: 1, gpuMilli: 600 };
  const at = { node: 0, gpus: [0] };
  state.take(half, at);
  expect(() => state.take(half, at)).toThrow(expect.objectContaining({ code: 'IGU_GPU_PLACEMENT' }));
  state.give(half, at);
  expect(() => state.give(half, at)).toThrow(expect.objectContaining({ code: 'IGU_GPU_PLACEMENT' }));
  expect(state.freeGpu[0]).toBe(1_000);
});

test('a share goes to the GPU that it leaves useful', () => {
  const state = new PlacementState([
    { id: 'n0', model: 'A', cpuMilli: 8_000, memoryMb: 8_192, gpus: 2 },
    { id: 'n1', model: 'A', cpuMilli: 8_000, memoryMb: 8_192, gpus: 2 },
  ]);
  const of = (gpuMilli: number): GpuDemand => ({ cpuMilli: 0, memoryMb: 0, gpuCount: 1, gpuMilli });
  const mix = demandMix([
    [of(500), 1],
    [of(1_000), 1],
  ]);
  const placer = new Placer(state, new FragmentationGradient(state, mix));
  const first = placer.place(of(500))!;
  // the other half of that GPU is the only place that costs no whole one
  expect(placer.place(of(500))).toEqual(first);
});

test('filling a cluster is the same for the same seed, and counts what was refused', () => {
  const cluster = readNodes('sn,cpu_milli,memory_mib,gpu,model\nn0,8000,8192,2,A\nn1,8000,8192,4,B\n');
  const list = readDemands(
    'name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np0,1000,512,1,500,\np1,2000,512,2,1000,B\np2,500,256,0,0,\n',
  );
  expect(list).toEqual([
    { cpuMilli: 1_000, memoryMb: 512, gpuCount: 1, gpuMilli: 500 },
    { cpuMilli: 2_000, memoryMb: 512, gpuCount: 2, gpuMilli: 1_000, models: ['B'] },
    { cpuMilli: 500, memoryMb: 256, gpuCount: 0, gpuMilli: 0 },
  ]);
  const once = inflate(cluster, list, { policy: 'fragmentation-gradient', seed: 7 });
  expect(inflate(cluster, list, { policy: 'fragmentation-gradient', seed: 7 })).toEqual(once);
  expect(once.allocated).toHaveLength(4);
  expect(once.allocated[3]).toBeLessThanOrEqual(100);
  expect(once.allocated[3]!).toBeGreaterThan(once.allocated[0]!);
  expect(once.rejected).toBeGreaterThan(0);
});

test('a table that is none is told with its line', () => {
  expect(() => readNodes('sn,gpu\nn0,1\n', 'nodes.csv')).toThrow(/nodes.csv:1: no column cpu_milli, memory_mib, model/);
  expect(() => readDemands('cpu_milli,memory_mib,num_gpu,gpu_milli\n1,1,1,1001\n', 'pods.csv')).toThrow(
    /pods.csv:2: gpu_milli is 1001/,
  );
  expect(() => readDemands('cpu_milli,memory_mib,num_gpu,gpu_milli\n1,,1,1\n')).toThrow(/memory_mib is ""/);
});
