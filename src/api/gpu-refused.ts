import { IguanaError } from '../errors.js';
import type { GpuDenial } from '../gpu/allocator.js';
import type { GpuRefusal, RefusalCode } from '../gpu/allocator-rules.js';

/** `IGU_GPU_REFUSED`: there is nothing for a workload now; `denial` says of each GPU why. */
export class GpuRefusedError extends IguanaError {
  constructor(
    instance: string,
    readonly denial: GpuDenial,
  ) {
    const reasons = refusalsByReason(denial.gpus).map(
      ({ code, example: { gpuId, node, what } }) => `${code}: ${gpuId} of ${node}: ${what}`,
    );
    const what = reasons.length > 0 ? `${denial.what} (${reasons.join('; ')})` : denial.what;
    super('IGU_GPU_REFUSED', { instance, what });
  }
}

export interface RefusalReasonCount {
  readonly code: RefusalCode;
  readonly count: number;
  readonly example: GpuRefusal;
}

/** For each reason how many GPUs, and one of them; the most frequent first. */
export function refusalsByReason(refusals: readonly GpuRefusal[]): RefusalReasonCount[] {
  const byCode = new Map<RefusalCode, { count: number; readonly example: GpuRefusal }>();
  for (const example of refusals) {
    const alike = byCode.get(example.code);
    if (alike) alike.count++;
    else byCode.set(example.code, { count: 1, example });
  }
  return [...byCode].map(([code, counted]) => ({ code, ...counted })).sort((a, b) => b.count - a.count);
}
