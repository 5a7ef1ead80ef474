import { gpuLedgerLimits } from '../limits.js';
import { type DemandShare, demandMix, type ExpectedDemand, sizeOf, WHOLE_GPU } from './placement/demand.js';

/** How often each kind of demand came, or what a forecast says of it. */
export class DemandCounts {
  private readonly counts = new Map<string, { demand: ExpectedDemand; count: number }>();
  private forecast: readonly DemandShare[] | undefined;
  /** Demands that were counted, and one whole GPU, which is expected before anything is known: so the first shares go together. */
  total = 0;

  constructor() {
    this.add({ cpuMilli: 0, memoryMb: 0, gpuCount: 1, gpuMilli: WHOLE_GPU });
  }

  add(demand: ExpectedDemand): void {
    this.total++;
    const { gpuCount, gpuMilli, models = null, gpuMemoryMb } = demand;
    // sizes that are nearly the same are one kind, as large as the first of them
    const memory = gpuMemoryMb === undefined ? null : sizeOf(gpuMemoryMb);
    const key = JSON.stringify([gpuCount, gpuMilli, models, memory]);
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
    if (this.forecast) return this.forecast;
    const counted = [...this.counts.values()].map(({ demand, count }) => [demand, count] as const);
    // requests for any number of MiB are as many kinds: more of them than this say no more, and each costs time at every place
    return demandMix(counted.sort((a, b) => b[1] - a[1]).slice(0, MAX_KINDS));
  }
}

/** Kinds that placement weighs. */
const MAX_KINDS = 64;
