/** A GPU as placement counts it: thousandths. */
export const WHOLE_GPU = 1_000;

/** What a workload asks of one node. */
export interface GpuDemand {
  /** Thousandths of a processor. */
  readonly cpuMilli: number;
  /** MiB of host memory. */
  readonly memoryMb: number;
  /** 0: none. More than one are whole ones. */
  readonly gpuCount: number;
  /** Thousandths of each GPU, 1 to 1,000; 0 without GPUs. */
  readonly gpuMilli: number;
  /** GPU models that will do; default any. */
  readonly models?: readonly string[];
}

/** A kind of demand that is to be expected. Its memory is the same wherever it goes, and another part of each GPU; a smaller GPU never does. */
export interface ExpectedDemand extends GpuDemand {
  /** MiB of each GPU that were asked for; default: what `gpuMilli` says. */
  readonly gpuMemoryMb?: number;
}

export interface PlacementNode {
  readonly id: string;
  /** Of its GPUs: they are alike. */
  readonly model: string;
  readonly cpuMilli: number;
  readonly memoryMb: number;
  readonly gpus: number;
  /** MiB that each GPU can give; default: not known, demands of memory are as large there as they say in thousandths. */
  readonly gpuMemoryMb?: number;
}

/** Where a demand goes: a node and GPUs in it, by position. */
export interface Placement {
  readonly node: number;
  readonly gpus: readonly number[];
}

/** A kind of demand and how often it comes, of all that come: shares add up to 1. */
export interface DemandShare {
  readonly demand: ExpectedDemand;
  readonly share: number;
}

/**
 * The demands that are to be expected: the most frequent kinds, until so much of the given ones is covered.
 * @param counted each demand and how often it came or is forecast to come
 * @param cover between 0 and 1 (default 0.95)
 * Source: Weng et al., "Beware of Fragmentation", USENIX ATC 2023.
 */
export function demandMix(counted: Iterable<readonly [ExpectedDemand, number]>, cover = 0.95): DemandShare[] {
  const kinds = new Map<string, { demand: ExpectedDemand; count: number }>();
  let total = 0;
  for (const [demand, count] of counted) {
    const key = kindOf(demand);
    const kind = kinds.get(key);
    if (kind) kind.count += count;
    else kinds.set(key, { demand, count });
    total += count;
  }
  const chosen: { demand: ExpectedDemand; count: number }[] = [];
  let covered = 0;
  for (const kind of [...kinds.values()].sort((a, b) => b.count - a.count)) {
    if (covered >= cover * total) break;
    chosen.push(kind);
    covered += kind.count;
  }
  return chosen.map(({ demand, count }) => ({ demand, share: count / covered }));
}

/** The same for demands that differ in host memory only: fragments are of GPUs and processors. */
function kindOf({ cpuMilli, gpuCount, gpuMilli, models, gpuMemoryMb }: ExpectedDemand): string {
  return `${cpuMilli}/${gpuCount}/${gpuMilli}/${models?.join('|') ?? ''}/${gpuMemoryMb ?? ''}`;
}

/** Thousandths that a demand takes of a GPU that can give so many MiB; +∞: it never fits. */
export function milliOn({ gpuMilli, gpuMemoryMb }: ExpectedDemand, memoryMb: number | undefined): number {
  if (gpuMemoryMb === undefined || memoryMb === undefined) return gpuMilli;
  if (gpuMemoryMb > memoryMb) return Number.POSITIVE_INFINITY;
  return Math.max(gpuMilli, Math.floor((WHOLE_GPU * gpuMemoryMb) / memoryMb));
}

/** The same for numbers of MiB that are within about 2 % of each other. */
export function sizeOf(memoryMb: number): number {
  return Math.floor(Math.log2(memoryMb) * SIZES_A_DOUBLING);
}

const SIZES_A_DOUBLING = 32;

/** The same for demands that no policy tells apart. */
export function shapeOf(demand: GpuDemand): string {
  return `${kindOf(demand)}/${demand.memoryMb}`;
}
