import type { GpuSharing } from './allocator-rules.js';
import type { GpuHolding, SharingMode } from './ledger.js';
import type { Gpu } from './types.js';

/** What a mode holds to by hardware or driver, and what is only counted. */
export interface Enforcement {
  readonly enforced: readonly string[];
  readonly notEnforced: readonly string[];
}

const enforcement: Record<SharingMode, Enforcement> = {
  exclusive: {
    enforced: ['the workload sees these GPUs only'],
    notEnforced: ['that nobody else starts a process on them, unless compute mode is Exclusive_Process'],
  },
  shared: {
    enforced: ['the workload sees these GPUs only'],
    notEnforced: ['memory', 'compute share', 'a fault of one workload may end the others'],
  },
  'time-slicing': {
    enforced: ['workloads take turns'],
    notEnforced: ['memory', 'a fault of one workload may end the others', 'more than one place gives no more compute'],
  },
  mps: {
    enforced: ['memory, per CUDA client', 'share of the threads'],
    notEnforced: [
      'a fatal fault of one client ends the others',
      'limits are those of each process, not of all processes of a workload together',
    ],
  },
  mig: { enforced: ['memory', 'compute', 'cache and bandwidth', 'faults stay in the instance'], notEnforced: [] },
  partition: { enforced: ['compute units', 'memory, by the memory mode of the GPU'], notEnforced: [] },
};

export function enforcementOf(mode: SharingMode): Enforcement {
  return enforcement[mode];
}

/**
 * Variables that show a workload what it was given and no more. GPUs are named by UUID where the runtime takes one. Empty when a partition is still to be made.
 * Sources: CUDA C++ programming guide (environment variables), NVIDIA MPS documentation, ROCm system settings, Level Zero specification.
 */
export function environmentOf(
  holdings: readonly GpuHolding[],
  gpus: readonly Gpu[],
  sharing: GpuSharing,
): Record<string, string> {
  if (holdings.some(({ partition }) => partition?.id === null)) return {};
  const ids = holdings.map(({ partition, gpuId }) => partition?.id ?? gpuId);
  // an instance has its name whether its node tells of the GPU just now or not
  if (holdings[0]?.mode === 'mig') return { CUDA_VISIBLE_DEVICES: ids.join(',') };
  const first = gpus[0];
  if (!first) return {};
  if (first.vendor === 'amd') return { ROCR_VISIBLE_DEVICES: visible(ids, gpus, holdings) };
  if (first.vendor === 'intel') {
    const indices = gpus.map(({ index }) => index.value);
    return indices.includes(null) ? {} : { ZE_AFFINITY_MASK: indices.join(',') };
  }
  const environment: Record<string, string> = { CUDA_VISIBLE_DEVICES: ids.join(',') };
  if (sharing.mode === 'mps' && holdings[0]?.mode === 'mps') {
    environment.CUDA_MPS_ACTIVE_THREAD_PERCENTAGE = String(Math.max(1, Math.floor(100 / sharing.replicas)));
    environment.CUDA_MPS_PINNED_DEVICE_MEM_LIMIT = holdings
      .flatMap(({ memoryMb }, i) => (memoryMb === null ? [] : `${i}=${memoryMb}M`))
      .join(',');
    if (sharing.pipeDirectory !== undefined) environment.CUDA_MPS_PIPE_DIRECTORY = sharing.pipeDirectory;
  }
  return environment;
}

/** ROCm takes `GPU-<uuid>` or the position; partitions by their own id. */
function visible(ids: readonly string[], gpus: readonly Gpu[], holdings: readonly GpuHolding[]): string {
  return ids
    .map((id, i) => {
      const partition = holdings[i]?.partition?.id;
      if (/^GPU-/i.test(id) || (partition !== undefined && partition !== gpus[i]?.id)) return id;
      const index = gpus[i]?.index.value;
      return index === null || index === undefined ? id : String(index);
    })
    .join(',');
}
