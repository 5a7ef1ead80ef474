import { gpuLedgerLimits } from '../limits.js';
import { freeMilli, type GpuCandidate, type GpuOffer } from './allocator-rules.js';
import { type DemandShare, demandMix, type GpuDemand, WHOLE_GPU } from './placement/demand.js';
import { type PlacementPolicyName, placementPolicies, type ScorerFactory } from './placement/inflation.js';
import { PlacementState } from './placement/placement-state.js';
import type { NodeScore, NodeScorer } from './placement/policy.js';

interface Placed {
  /** Position in its group. */
  readonly at: number;
  readonly made: GpuOffer;
}

export interface RankedOffers {
  readonly offers: readonly GpuOffer[];
  /** Higher is better. */
  readonly score: number;
}

/** No policy puts anything so low: for places that fit by the MiB but not by the thousandth. */
const LAST = -1e6;

/**
 * The cluster as placement sees it: a node for each group of GPUs of a node that are alike (model, memory and how they are shared), with what is free of each, kept in step with the ledger, and the policy over it. It learns what is asked
 * for, so that fragmentation gradient descent knows which fragments matter; a forecast can say so instead.
 */
export class AllocatorRanking {
  private readonly groupOf = new Map<string, { group: number; at: number }>();
  private readonly state: PlacementState;
  private scorer: NodeScorer;
  private readonly out: NodeScore = { score: 0, gpu: -1 };
  private sinceMix = 0;

  constructor(
    candidates: Iterable<GpuCandidate>,
    private readonly policy: PlacementPolicyName,
    private readonly demand: DemandCounts,
  ) {
    const groups = new Map<string, { readonly at: number; readonly model: string; gpus: number }>();
    const all = [...candidates];
    for (const { node, gpu, sharing } of all) {
      const key = JSON.stringify([node, gpu.name, gpu.memoryTotalMb.value, sharing]);
      let group = groups.get(key);
      if (!group) {
        group = { at: groups.size, model: gpu.name, gpus: 0 };
        groups.set(key, group);
      }
      this.groupOf.set(gpu.id, { group: group.at, at: group.gpus++ });
    }
    this.state = new PlacementState(
      [...groups].map(([id, { model, gpus }]) => ({ id, model, gpus, cpuMilli: 0, memoryMb: 0 })),
    );
    for (const candidate of all) this.set(candidate);
    this.scorer = this.makeScorer();
  }

  get models(): readonly string[] {
    return this.state.models;
  }

  /** What is free of a GPU has changed. */
  refresh(candidate: GpuCandidate): void {
    const at = this.set(candidate);
    if (at !== undefined) this.scorer.changed?.(at);
  }

  /**
   * Ways to serve a request with GPUs that will do, a group each, best first.
   * @param count GPUs that are needed
   * @param offers of GPUs that can serve it now
   */
  rank(offers: readonly GpuOffer[], count: number): RankedOffers[] {
    const byGroup: Placed[][] = [];
    for (const made of offers) {
      const place = this.groupOf.get(made.holding.gpuId);
      if (!place) continue;
      const list = byGroup[place.group];
      if (list) list.push({ at: place.at, made });
      else byGroup[place.group] = [{ at: place.at, made }];
    }
    const ranked: (RankedOffers & { readonly group: number })[] = [];
    byGroup.forEach((there, group) => {
      if (there.length >= count) ranked.push({ group, ...this.inGroup(group, there, count) });
    });
    return ranked.sort((a, b) => b.score - a.score || b.group - a.group);
  }

  /** So much was given: what is asked for is learnt. */
  learn(demand: GpuDemand): void {
    this.demand.add(demand);
    if (++this.sinceMix < Math.min(gpuLedgerLimits.mixEvery, this.demand.total / 2)) return;
    this.scorer = this.makeScorer();
  }

  /** Looks anew at what is expected. */
  renew(): void {
    this.scorer = this.makeScorer();
  }

  private inGroup(group: number, there: Placed[], count: number): RankedOffers {
    const milli = milliOf(there[0]!.made);
    const demand: GpuDemand = { cpuMilli: 0, memoryMb: 0, gpuCount: count, gpuMilli: count > 1 ? WHOLE_GPU : milli };
    let score = LAST - milli / WHOLE_GPU;
    let chosen = -1;
    if (this.state.fits(group, demand, undefined)) {
      this.out.gpu = -1;
      this.scorer.score(group, demand, this.out);
      score = this.out.score;
      chosen = this.out.gpu;
    }
    const first = this.state.firstGpu[group]!;
    const { freeGpu } = this.state;
    const tightest = there.sort(
      (a, b) =>
        Number(b.at === chosen) - Number(a.at === chosen) ||
        freeGpu[first + a.at]! - freeGpu[first + b.at]! ||
        a.at - b.at,
    );
    return { score, offers: tightest.slice(0, count).map(({ made }) => made) };
  }

  private set(candidate: GpuCandidate): number | undefined {
    const place = this.groupOf.get(candidate.gpu.id);
    if (!place) return undefined;
    const at = this.state.firstGpu[place.group]! + place.at;
    const free = freeMilli(candidate);
    if (this.state.freeGpu[at] === free) return undefined;
    this.state.freeGpu[at] = free;
    this.state.version[place.group]!++;
    return place.group;
  }

  private makeScorer(): NodeScorer {
    this.sinceMix = 0;
    const make: ScorerFactory = placementPolicies[this.policy];
    return make(this.state, this.demand.mix());
  }
}

/** Thousandths of a GPU that an offer takes: the larger of its shares of memory and compute. */
export function milliOf({ holding, gpu }: GpuOffer): number {
  if (holding.mode === 'exclusive') return WHOLE_GPU;
  const total = gpu.memoryTotalMb.value;
  const memory = total === null ? 0 : Math.ceil((WHOLE_GPU * holding.memoryMb) / total);
  return Math.min(WHOLE_GPU, Math.max(1, holding.shareMilli, memory));
}

/** How often each kind of demand came, or what a forecast says of it. */
export class DemandCounts {
  private readonly counts = new Map<string, { demand: GpuDemand; count: number }>();
  private forecast: readonly DemandShare[] | undefined;
  /** Demands that were counted, and one whole GPU, which is expected before anything is known: so the first shares go together. */
  total = 0;

  constructor() {
    this.add({ cpuMilli: 0, memoryMb: 0, gpuCount: 1, gpuMilli: WHOLE_GPU });
  }

  add(demand: GpuDemand): void {
    this.total++;
    const key = JSON.stringify([demand.gpuCount, demand.gpuMilli, demand.models ?? null]);
    const known = this.counts.get(key);
    if (known) {
      known.count++;
      return;
    }
    if (this.counts.size >= gpuLedgerLimits.maxShapes) this.counts.delete(this.counts.keys().next().value as string);
    this.counts.set(key, { demand, count: 1 });
  }

  expect(mix: readonly DemandShare[] | undefined): void {
    this.forecast = mix;
  }

  mix(): readonly DemandShare[] {
    return this.forecast ?? demandMix([...this.counts.values()].map(({ demand, count }) => [demand, count] as const));
  }
}
