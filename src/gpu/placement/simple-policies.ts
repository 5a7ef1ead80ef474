import { type GpuDemand, WHOLE_GPU } from './demand.js';
import type { PlacementState } from './placement-state.js';
import type { NodeScore, NodeScorer } from './policy.js';

/** The GPU of a node with the least room that will do, by position; −1 for a demand of whole ones or none. */
function tightestGpu(state: PlacementState, node: number, { gpuCount, gpuMilli }: GpuDemand): number {
  if (gpuCount === 0 || gpuMilli === WHOLE_GPU) return -1;
  const first = state.firstGpu[node]!;
  let best = -1;
  for (let g = first; g < state.firstGpu[node + 1]!; g++) {
    const free = state.freeGpu[g]!;
    if (free >= gpuMilli && (best < 0 || free < state.freeGpu[best]!)) best = g;
  }
  return best - first;
}

/** Least processors and GPUs left over on the node, half and half. */
export class BestFit implements NodeScorer {
  constructor(protected readonly state: PlacementState) {}

  score(node: number, demand: GpuDemand, out: NodeScore): void {
    const { state } = this;
    const gpuLeft = state.idleGpu(node) - demand.gpuCount * demand.gpuMilli;
    const cpuLeft = state.freeCpu[node]! - demand.cpuMilli;
    out.gpu = tightestGpu(state, node, demand);
    out.score = -(0.5 * cpuLeft) / state.maxCpu - (0.5 * gpuLeft) / (state.maxGpus * WHOLE_GPU);
  }
}

/** Most left over: for few neighbours. */
export class Spread extends BestFit {
  override score(node: number, demand: GpuDemand, out: NodeScore): void {
    super.score(node, demand, out);
    out.score = -out.score;
    const { state } = this;
    if (out.gpu < 0) return;
    const first = state.firstGpu[node]!;
    for (let g = first; g < state.firstGpu[node + 1]!; g++)
      if (state.freeGpu[g]! > state.freeGpu[first + out.gpu]!) out.gpu = g - first;
  }
}

/** A GPU that is shared already, else a free one of a node in use, else a free node; of several the fullest. */
export class Packing implements NodeScorer {
  constructor(private readonly state: PlacementState) {}

  score(node: number, demand: GpuDemand, out: NodeScore): void {
    const { state } = this;
    const first = state.firstGpu[node]!;
    const gpus = state.firstGpu[node + 1]! - first;
    out.gpu = tightestGpu(state, node, demand);
    const idle = state.idleGpu(node);
    const chosen = out.gpu < 0 ? WHOLE_GPU : state.freeGpu[first + out.gpu]!;
    if (chosen < WHOLE_GPU) out.score = 2 + (WHOLE_GPU - chosen) / WHOLE_GPU;
    else if (idle < gpus * WHOLE_GPU) out.score = 1 + 1 - idle / (gpus * WHOLE_GPU);
    else out.score = 1 - gpus / (state.maxGpus + 1);
  }
}
