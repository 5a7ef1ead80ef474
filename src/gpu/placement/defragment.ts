import { type DemandShare, type GpuDemand, type Placement, WHOLE_GPU } from './demand.js';
import { Fragmentation } from './fragmentation.js';
import type { PlacementState } from './placement-state.js';

/** A workload that runs and may be moved. */
export interface Movable {
  readonly id: string;
  readonly demand: GpuDemand;
  readonly placement: Placement;
}

export interface Move {
  readonly id: string;
  readonly from: Placement;
  readonly to: Placement;
  /** GPUs that become usable by it for the demands that are expected. */
  readonly gain: number;
}

export interface DefragmentationPlan {
  /** In this order: each fits when those before it are done. */
  readonly moves: readonly Move[];
  /** GPUs that the expected demands cannot use, before and after. */
  readonly before: number;
  readonly after: number;
}

export interface DefragmentOptions {
  /** Moves at most (default 10). */
  readonly maxMoves?: number;
  /** GPUs that a move must gain at least (default 0.05): moving costs the workload a restart. */
  readonly minGain?: number;
}

/**
 * Moves that leave fewer GPUs that the expected demands cannot use: again and again the one that gains most, each to a place that is free before the workload leaves the old one.
 * Nothing is moved; the state is as before.
 * Cost: O(workloads · nodes · GPUs of a node) a move: for some hundreds of workloads and nodes at a time.
 * @param state what is free, with the movable ones in their places
 */
export function planDefragmentation(
  state: PlacementState,
  mix: readonly DemandShare[],
  movable: readonly Movable[],
  { maxMoves = 10, minGain = 0.05 }: DefragmentOptions = {},
): DefragmentationPlan {
  const fragments = new NodeFragments(state, mix);
  const now = movable.map((one) => ({ ...one }));
  const before = fragments.total();
  const moves: Move[] = [];
  try {
    while (moves.length < maxMoves) {
      let best: { at: number; to: Placement; gain: number } | undefined;
      now.forEach((one, at) => {
        if (one.demand.gpuCount === 0) return;
        const leaving = fragments.gainOfGiving(one.demand, one.placement);
        // A move within a node is worth what the node has less of afterwards; elsewhere both nodes count.
        for (let node = 0; node < state.nodes.length; node++) {
          const found = fragments.bestWithin(node, one.demand, one.placement);
          if (!found) continue;
          const gain = node === one.placement.node ? found.gain : leaving + found.gain;
          if (!best || gain > best.gain) best = { at, to: { node, gpus: found.gpus }, gain };
        }
      });
      if (!best || best.gain < minGain * WHOLE_GPU) break;
      const one = now[best.at]!;
      state.take(one.demand, best.to);
      state.give(one.demand, one.placement);
      moves.push({ id: one.id, from: one.placement, to: best.to, gain: best.gain / WHOLE_GPU });
      now[best.at] = { ...one, placement: best.to };
    }
    return { moves, before: before / WHOLE_GPU, after: fragments.total() / WHOLE_GPU };
  } finally {
    for (const { id, from, to } of [...moves].reverse()) {
      const { demand } = movable.find((one) => one.id === id)!;
      state.take(demand, from);
      state.give(demand, to);
    }
  }
}

/** Fragments of single nodes, with something put on them or taken off. */
class NodeFragments {
  private readonly fragmentation: Fragmentation;
  private readonly residuals: Int32Array;

  constructor(
    private readonly state: PlacementState,
    mix: readonly DemandShare[],
  ) {
    this.fragmentation = new Fragmentation(state, mix);
    this.residuals = new Int32Array(state.maxGpus);
  }

  total(): number {
    let sum = 0;
    for (let node = 0; node < this.state.nodes.length; node++) sum += this.of(node);
    return sum;
  }

  /** How much less a node has of them once a demand has left it. */
  gainOfGiving({ cpuMilli, gpuMilli }: GpuDemand, { node, gpus }: Placement): number {
    const before = this.of(node);
    this.load(node);
    for (const g of gpus) this.residuals[g]! += gpuMilli;
    return before - this.compute(node, cpuMilli);
  }

  /** The GPUs of a node where a demand leaves the fewest of them, beside where it is now. */
  bestWithin(
    node: number,
    demand: GpuDemand,
    placement: Placement,
  ): { readonly gpus: number[]; readonly gain: number } | undefined {
    const { state } = this;
    if (!state.fits(node, demand, state.allowed(demand))) return undefined;
    const same = node === placement.node;
    const before = this.of(node);
    const ways: number[][] =
      demand.gpuCount === 1
        ? Array.from({ length: state.nodes[node]!.gpus }, (_, g) => [g])
        : [state.firstFit(node, demand)];
    let best: { gpus: number[]; gain: number } | undefined;
    for (const gpus of ways) {
      this.load(node);
      if (gpus.some((g) => this.residuals[g]! < demand.gpuMilli)) continue;
      for (const g of gpus) this.residuals[g]! -= demand.gpuMilli;
      if (same) for (const g of placement.gpus) this.residuals[g]! += demand.gpuMilli;
      const gain = before - this.compute(node, same ? 0 : -demand.cpuMilli);
      if (!best || gain > best.gain) best = { gpus, gain };
    }
    return best;
  }

  private of(node: number): number {
    this.load(node);
    return this.compute(node, 0);
  }

  private load(node: number): void {
    const { firstGpu, freeGpu } = this.state;
    const first = firstGpu[node]!;
    for (let g = first; g < firstGpu[node + 1]!; g++) this.residuals[g - first] = freeGpu[g]!;
  }

  private compute(node: number, cpuMore: number): number {
    this.fragmentation.begin(node, this.state.freeCpu[node]! + cpuMore);
    return this.fragmentation.of(this.residuals, this.state.nodes[node]!.gpus);
  }
}
