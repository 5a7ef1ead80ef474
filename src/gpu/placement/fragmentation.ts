import { type DemandShare, milliOn, WHOLE_GPU } from './demand.js';
import type { PlacementState } from './placement-state.js';

/** Demands of a mix that need the same of GPUs of a model. They fit a node when it has the processors: how many of them do is looked up. */
interface GpuNeed {
  readonly count: number;
  readonly milli: number;
  /** Processors that are needed, ascending, and the share of demands that need no more. */
  readonly cpu: Float64Array;
  readonly share: Float64Array;
}

/**
 * How much of a node's idle GPUs the expected demands cannot use, in thousandths of a GPU: for each kind of demand the residuals that are too small for it, or all that is
 * idle when the node cannot run it (or it wants no GPU), weighted by how often the kind comes.
 * Cost: O(needs · GPUs) a node, needs being the pairs of count and size that occur in the mix.
 * Source: Weng et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation Gradient Descent", USENIX ATC 2023, section 3.
 */
export class Fragmentation {
  private readonly needs: readonly (readonly GpuNeed[])[];
  /** Of the model of the node that `begin` was called for. */
  private here: readonly GpuNeed[] = [];
  /** Share of the demands that fit by processors and model, for each need; of the node that `begin` was called for. */
  private readonly fitting: Float64Array;
  /** Shares of demands that want GPUs of a model only, against what there is of it; see `pressure`. */
  readonly pressure: Float64Array;

  constructor(
    private readonly state: PlacementState,
    mix: readonly DemandShare[],
  ) {
    this.needs = state.models.map((_, model) => needsOf(mix, state, model));
    this.fitting = new Float64Array(this.needs.reduce((most, { length }) => Math.max(most, length), 0));
    this.pressure = pressureOf(state, mix);
  }

  /** Looks up which demands a node with so many processors left could run. Before `of`. */
  begin(node: number, freeCpu: number): void {
    this.here = this.needs[this.state.model[node]!]!;
    for (let n = 0; n < this.here.length; n++) {
      const { cpu, share } = this.here[n]!;
      let low = 0;
      let high = cpu.length;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (cpu[middle]! <= freeCpu) low = middle + 1;
        else high = middle;
      }
      this.fitting[n] = low === 0 ? 0 : share[low - 1]!;
    }
  }

  /** Of a node whose GPUs have these residuals left. */
  of(residuals: Int32Array, gpus: number): number {
    let idle = 0;
    for (let g = 0; g < gpus; g++) idle += residuals[g]!;
    if (idle === 0) return 0;
    let usable = 0;
    for (let n = 0; n < this.here.length; n++) {
      const share = this.fitting[n]!;
      if (share === 0) continue;
      const { count, milli } = this.here[n]!;
      let enough = 0;
      let large = 0;
      for (let g = 0; g < gpus; g++) {
        const residual = residuals[g]!;
        if (residual < milli) continue;
        enough++;
        large += residual;
      }
      if (enough >= count) usable += share * large;
    }
    return idle - usable;
  }
}

/** What GPUs of a model can be used for. Demands that they are too small for, or that take other models only, are not among it. */
function needsOf(mix: readonly DemandShare[], state: PlacementState, model: number): GpuNeed[] {
  const kinds = new Map<string, { readonly count: number; readonly milli: number; readonly of: DemandShare[] }>();
  for (const one of mix) {
    const { gpuCount, models } = one.demand;
    if (gpuCount === 0 || !(models?.includes(state.models[model]!) ?? true)) continue;
    const milli = milliOn(one.demand, state.gpuMemoryMb[model]);
    if (milli > WHOLE_GPU) continue;
    const key = `${gpuCount}/${milli}`;
    const kind = kinds.get(key);
    if (kind) kind.of.push(one);
    else kinds.set(key, { count: gpuCount, milli, of: [one] });
  }
  return [...kinds.values()].map(({ count, milli, of }) => {
    of.sort((a, b) => a.demand.cpuMilli - b.demand.cpuMilli);
    let sum = 0;
    return {
      count,
      milli,
      cpu: Float64Array.from(of, ({ demand }) => demand.cpuMilli),
      share: Float64Array.from(of, ({ share }) => {
        sum += share;
        return sum;
      }),
    };
  });
}

/**
 * For each model, how much of it is spoken for by demands that take no other, when as much is asked for in all as there is: 1 means all of it. Fragmentation alone does not see
 * that: it weighs kinds by how often they come, not by how little there is for them.
 */
function pressureOf(state: PlacementState, mix: readonly DemandShare[]): Float64Array {
  const capacity = new Float64Array(state.models.length);
  state.nodes.forEach(({ gpus }, i) => {
    capacity[state.model[i]!]! += gpus * WHOLE_GPU;
  });
  // memory is a part of each GPU: what it is of the smallest that does
  const milliOf = ({ demand }: DemandShare): number => {
    if (demand.gpuMemoryMb === undefined) return demand.gpuMilli;
    const allowed = state.allowed(demand);
    const there = state.gpuMemoryMb.filter((_, model) => allowed?.[model]);
    return there.reduce<number>((most, memory) => Math.max(most, milliOn(demand, memory)), 0);
  };
  const asked = (one: DemandShare): number => one.share * one.demand.gpuCount * milliOf(one);
  const all = mix.reduce((sum, one) => sum + asked(one), 0);
  const total = capacity.reduce((sum, one) => sum + one, 0);
  const pressure = new Float64Array(state.models.length);
  for (const one of mix) {
    const allowed = state.allowed(one.demand);
    if (!allowed || all === 0) continue;
    const room = capacity.reduce((sum, of, model) => sum + (allowed[model] ? of : 0), 0);
    if (room === 0) continue;
    for (let model = 0; model < pressure.length; model++)
      if (allowed[model]) pressure[model]! += ((asked(one) / all) * total) / room;
  }
  return pressure;
}
