import { IguanaError } from '../errors.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';
import { gpuName, readGpuRequest } from '../gpu/commands.js';
import { gpuSchedulerLimits } from '../limits.js';

/** @throws IguanaError `IGU_GPU_REQUEST` for a name or a field that cannot be */
export function checkedRequest(who: string, request: unknown): GpuRequest {
  const { maxNameLength } = gpuSchedulerLimits;
  if (typeof who !== 'string' || who === '' || who.length > maxNameLength)
    throw new IguanaError('IGU_GPU_REQUEST', {
      instance: String(who).slice(0, 20) || '(no name)',
      what: `a name of 1 to ${maxNameLength} characters is needed`,
    });
  const { error } = gpuName.safeParse(who);
  if (error)
    throw new IguanaError('IGU_GPU_REQUEST', {
      instance: JSON.stringify(who),
      what: `its name: ${error.issues[0]!.message}`,
    });
  return readGpuRequest(who, request);
}

/**
 * The options of a call, which a program may have left out.
 * @throws IguanaError `IGU_GPU_REQUEST` when they are no object
 */
export function checkedObject<T extends object>(who: string, options: T): T {
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options;
  throw new IguanaError('IGU_GPU_REQUEST', { instance: String(who), what: `an object is needed, not ${options}` });
}

/** @throws IguanaError `IGU_GPU_REQUEST` */
export function checkedWait(who: string, waitMs: number): number {
  return checkedMs(who, 'waitMs', waitMs, 0, gpuSchedulerLimits.maxWaitMs);
}

/** @throws IguanaError `IGU_GPU_REQUEST` */
export function checkedReservation(who: string, forMs: number): number {
  return checkedMs(who, 'forMs', forMs, 1, gpuSchedulerLimits.maxReservationMs);
}

function checkedMs(instance: string, name: string, ms: number, least: number, most: number): number {
  const whole = Math.ceil(ms);
  if (whole >= least && whole <= most) return whole;
  throw new IguanaError('IGU_GPU_REQUEST', {
    instance,
    what: `${name}: ${least} to ${most} ms are possible, not ${ms}`,
  });
}
