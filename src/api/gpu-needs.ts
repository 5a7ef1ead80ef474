import { defined } from '../defined.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';

/** The GPUs of a workload that `constellation` starts, each instance its own. What is beside these is as in `gpu.allocate`. */
export interface GpuNeeds extends Omit<GpuRequest, 'gpuCount' | 'memoryMb' | 'computeShare'> {
  /** So many on one node; true: one. Default: one when anything else of a GPU is said, else none. */
  readonly gpu?: boolean | number;
  /** MiB on each. Without this and `gpuShare`: whole GPUs. */
  readonly gpuMemory?: number;
  /** Part of each one's compute, above 0 to 1. */
  readonly gpuShare?: number;
  /** When there is no room: wait for it so long, ms (default 0). */
  readonly waitMs?: number;
}

/** What is asked for; undefined: no GPU. */
export function requestOf(needs: GpuNeeds): GpuRequest | undefined {
  const { gpu, gpuMemory, gpuShare, exclusive, minComputeCapability, model, vendor, mode, profile, node } = needs;
  const { owner, priority, preempt, leaseMs } = needs;
  const said = defined({
    ...{ memoryMb: gpuMemory, computeShare: gpuShare, exclusive, minComputeCapability, model, vendor, mode, profile },
    ...{ node, owner, priority, preempt, leaseMs },
  });
  // a process that means a GPU and gets none of its own would see all of them
  if (gpu === false || (gpu === undefined && Object.keys(said).length === 0)) return undefined;
  return { gpuCount: typeof gpu === 'number' ? gpu : 1, ...said };
}
