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
  const { gpu, gpuMemory, gpuShare } = needs;
  const said =
    gpuMemory !== undefined || gpuShare !== undefined || needs.model !== undefined || needs.profile !== undefined;
  if (gpu === false || (gpu === undefined && !said)) return undefined;
  const { exclusive, minComputeCapability, model, vendor, mode, profile, node, owner, priority, preempt, leaseMs } =
    needs;
  const asked = {
    gpuCount: typeof gpu === 'number' ? gpu : 1,
    memoryMb: gpuMemory,
    computeShare: gpuShare,
    ...{ exclusive, minComputeCapability, model, vendor, mode, profile, node, owner, priority, preempt, leaseMs },
  };
  return Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined));
}
