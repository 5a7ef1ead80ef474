import { seededRandom, shuffled } from '../../stats/seeded-random.js';
import { type DemandShare, demandMix, type GpuDemand, type PlacementNode, WHOLE_GPU } from './demand.js';
import { FragmentationGradient } from './fragmentation-gradient.js';
import { PlacementState } from './placement-state.js';
import { type NodeScorer, Placer } from './policy.js';
import { BestFit, Packing, Spread } from './simple-policies.js';

/** Placement policies by the names that users write. */
export const placementPolicies = {
  'fragmentation-gradient': (state: PlacementState, mix: readonly DemandShare[]) =>
    new FragmentationGradient(state, mix),
  'best-fit': (state: PlacementState) => new BestFit(state),
  packing: (state: PlacementState) => new Packing(state),
  spread: (state: PlacementState) => new Spread(state),
} satisfies Record<string, ScorerFactory>;

export type ScorerFactory = (state: PlacementState, mix: readonly DemandShare[]) => NodeScorer;

export type PlacementPolicyName = keyof typeof placementPolicies;

export interface InflationOptions {
  readonly policy: PlacementPolicyName | ScorerFactory;
  readonly seed: number;
  /** Demand that arrives, as a part of the GPUs there are (default 1.3). */
  readonly arrival?: number;
  /** Where to look, as parts of the GPUs there are (default 0.5, 0.8, 1, 1.3). */
  readonly marks?: readonly number[];
  /** Called with the milliseconds of each decision. */
  readonly onDecision?: (ms: number) => void;
}

export interface InflationResult {
  /** For each mark, per cent of all GPUs that are allocated when so much has arrived. */
  readonly allocated: readonly number[];
  readonly arrived: number;
  readonly rejected: number;
}

/**
 * Fills an empty cluster: the demands in random order, then drawn from them again, until so much was asked for; none leaves. The published way to compare placement policies.
 * Source: Weng et al., USENIX ATC 2023, section 6.
 * @param seed the same seed gives the same order to every policy
 */
export function inflate(
  nodes: readonly PlacementNode[],
  demands: readonly GpuDemand[],
  { policy, seed, arrival = 1.3, marks = [0.5, 0.8, 1, 1.3], onDecision }: InflationOptions,
): InflationResult {
  const state = new PlacementState(nodes);
  const mix = demandMix(demands.map((demand) => [demand, 1] as const));
  const scorer = typeof policy === 'string' ? placementPolicies[policy] : policy;
  const placer = new Placer(state, scorer(state, mix));
  const capacity = state.freeGpu.length * WHOLE_GPU;
  const allocated: number[] = [];
  let asked = 0;
  let used = 0;
  let arrived = 0;
  let rejected = 0;
  const look = (): void => {
    while (allocated.length < marks.length && asked >= marks[allocated.length]! * capacity)
      allocated.push((100 * used) / capacity);
  };
  for (const demand of arrivals(demands, seed)) {
    if (asked >= arrival * capacity) break;
    arrived++;
    const gpus = demand.gpuCount * demand.gpuMilli;
    asked += gpus;
    const began = performance.now();
    const placement = placer.place(demand);
    onDecision?.(performance.now() - began);
    if (placement) used += gpus;
    else rejected++;
    look();
  }
  return { allocated, arrived, rejected };
}

/** Each once in random order, then one at random again and again. */
function* arrivals(demands: readonly GpuDemand[], seed: number): Generator<GpuDemand> {
  const random = seededRandom(seed);
  yield* shuffled(demands, random);
  for (;;) yield demands[Math.floor(random() * demands.length)]!;
}
