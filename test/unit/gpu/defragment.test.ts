import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Movable, planDefragmentation } from '../../../src/gpu/placement/defragment.js';
import type { DemandShare, GpuDemand } from '../../../src/gpu/placement/demand.js';
import { PlacementState } from '../../../src/gpu/placement/placement-state.js';

const whole: GpuDemand = { cpuMilli: 1_000, memoryMb: 1_024, gpuCount: 1, gpuMilli: 1_000 };
const share = (gpuMilli: number): GpuDemand => ({ cpuMilli: 1_000, memoryMb: 1_024, gpuCount: 1, gpuMilli });
const nodes = Array.from({ length: 3 }, (_, i) => ({
  id: `n${i}`,
  model: 'A',
  cpuMilli: 16_000,
  memoryMb: 65_536,
  gpus: 2,
}));
const onlyWhole: DemandShare[] = [{ demand: whole, share: 1 }];

test('shares that are strewn over GPUs are put together, with as few moves as it takes', () => {
  const state = new PlacementState(nodes);
  const movable = [0, 1, 2].map(
    (node): Movable => ({ id: `w${node}`, demand: share(300), placement: { node, gpus: [0] } }),
  );
  for (const { demand, placement } of movable) state.take(demand, placement);
  const free = [...state.freeGpu];
  const plan = planDefragmentation(state, onlyWhole, movable);
  expect(plan.before).toBeCloseTo(2.1);
  expect(plan.after).toBeCloseTo(0.1);
  expect(plan.moves).toHaveLength(2);
  expect([...state.freeGpu]).toEqual(free);
  expect(planDefragmentation(state, onlyWhole, movable, { maxMoves: 1 }).moves).toHaveLength(1);
  expect(planDefragmentation(state, onlyWhole, movable, { minGain: 1.5 }).moves).toHaveLength(0);
});

test('every plan can be carried out in its order, gains what it says, and changes nothing by itself', () => {
  const placed = fc.array(
    fc.record({ node: fc.nat({ max: 2 }), gpu: fc.nat({ max: 1 }), milli: fc.constantFrom(200, 300, 500, 1_000) }),
    { maxLength: 12 },
  );
  const mix: DemandShare[] = [
    { demand: whole, share: 0.5 },
    { demand: share(500), share: 0.3 },
    { demand: { ...whole, gpuCount: 2 }, share: 0.2 },
  ];
  let moved = 0;
  fc.assert(
    fc.property(placed, (wanted) => {
      const state = new PlacementState(nodes);
      const movable: Movable[] = [];
      for (const { node, gpu, milli } of wanted) {
        if (state.freeGpu[node * 2 + gpu]! < milli) continue;
        const one = { id: `w${movable.length}`, demand: share(milli), placement: { node, gpus: [gpu] } };
        state.take(one.demand, one.placement);
        movable.push(one);
      }
      const free = [...state.freeGpu];
      const plan = planDefragmentation(state, mix, movable);
      expect([...state.freeGpu]).toEqual(free);
      expect(plan.moves.reduce((sum, { gain }) => sum + gain, 0)).toBeCloseTo(plan.before - plan.after, 6);
      for (const { id, from, to } of plan.moves) {
        const { demand } = movable.find((one) => one.id === id)!;
        state.take(demand, to);
        state.give(demand, from);
        moved++;
      }
      expect(planDefragmentation(state, mix, []).before).toBeCloseTo(plan.after, 6);
    }),
    { numRuns: 300 },
  );
  expect(moved).toBeGreaterThan(100);
});
