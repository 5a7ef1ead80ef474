import { type DemandShare, type GpuDemand, WHOLE_GPU } from './demand.js';
import { Fragmentation } from './fragmentation.js';
import type { PlacementState } from './placement-state.js';
import type { NodeScore, NodeScorer } from './policy.js';

/**
 * What decides beside fragments, in GPUs: chosen on five of the seventeen published workloads (docs/gpu-placement.md tells what each one does there).
 */
export interface GradientWeights {
  /** Of the processors that stay free on the node, as a part of the largest node's. */
  readonly leftCpu: number;
  /** The same for a demand of a part of a GPU: what matters there is what is left of GPUs. */
  readonly leftCpuOfShares: number;
  /** Of the GPUs that stay idle on the node. */
  readonly leftGpu: number;
  /** For each GPU taken of a model that is asked for by name, times that model's pressure. */
  readonly wantedModel: number;
}

export const gradientWeights: GradientWeights = {
  leftCpu: 0.05,
  leftCpuOfShares: 0.01,
  leftGpu: 0.1,
  wantedModel: 0.2,
};

/**
 * Fragmentation gradient descent with a continuous score: a demand goes where it leaves the fewest GPUs that the expected demands cannot use, among nearly equal places to the
 * fuller node, and to a model that is asked for by name only when others are worse.
 */
export class FragmentationGradient implements NodeScorer {
  private readonly fragmentation: Fragmentation;
  private readonly before: Float64Array;
  private readonly residuals: Int32Array;

  /**
   * @param mix demands to be expected: from past requests, or from a forecast of them
   */
  constructor(
    private readonly state: PlacementState,
    mix: readonly DemandShare[],
    private readonly weights: GradientWeights = gradientWeights,
  ) {
    this.fragmentation = new Fragmentation(state, mix);
    this.residuals = new Int32Array(state.maxGpus);
    this.before = new Float64Array(state.nodes.length);
    for (let node = 0; node < this.before.length; node++) this.changed(node);
  }

  changed(node: number): void {
    this.fragmentation.begin(node, this.state.freeCpu[node]!);
    this.before[node] = this.fragmentation.of(this.residuals, this.load(node));
  }

  score(node: number, demand: GpuDemand, out: NodeScore): void {
    const { state, fragmentation, residuals } = this;
    const gpus = this.load(node);
    const { gpuCount, gpuMilli } = demand;
    fragmentation.begin(node, state.freeCpu[node]! - demand.cpuMilli);
    if (gpuCount === 0 || gpuMilli === WHOLE_GPU) {
      for (let g = 0, missing = gpuCount; missing > 0; g++) {
        if (residuals[g] !== WHOLE_GPU) continue;
        residuals[g] = 0;
        missing--;
      }
      out.gpu = -1;
      out.score = this.value(node, demand, fragmentation.of(residuals, gpus));
      return;
    }
    let least = Number.POSITIVE_INFINITY;
    for (let g = 0; g < gpus; g++) {
      const residual = residuals[g]!;
      if (residual < gpuMilli || seenBefore(residuals, g)) continue;
      residuals[g] = residual - gpuMilli;
      const after = fragmentation.of(residuals, gpus);
      residuals[g] = residual;
      if (after > least) continue;
      least = after;
      out.gpu = g;
    }
    out.score = this.value(node, demand, least);
  }

  private value(node: number, { cpuMilli, gpuCount, gpuMilli }: GpuDemand, fragments: number): number {
    const { state, weights } = this;
    const taken = gpuCount * gpuMilli;
    const share = gpuCount > 0 && gpuMilli < WHOLE_GPU;
    return (
      (this.before[node]! - fragments) / WHOLE_GPU -
      ((share ? weights.leftCpuOfShares : weights.leftCpu) * (state.freeCpu[node]! - cpuMilli)) / state.maxCpu -
      (weights.leftGpu * (state.idleGpu(node) - taken)) / (state.maxGpus * WHOLE_GPU) -
      (weights.wantedModel * this.fragmentation.pressure[state.model[node]!]! * taken) / WHOLE_GPU
    );
  }

  private load(node: number): number {
    const { firstGpu, freeGpu } = this.state;
    const first = firstGpu[node]!;
    const gpus = firstGpu[node + 1]! - first;
    for (let g = 0; g < gpus; g++) this.residuals[g] = freeGpu[first + g]!;
    return gpus;
  }
}

function seenBefore(residuals: Int32Array, at: number): boolean {
  for (let g = 0; g < at; g++) if (residuals[g] === residuals[at]) return true;
  return false;
}
