import type { GpuService } from './gpu-service.js';

/** Whether an error says that an allocation, a reservation or a wait is no more. */
export function isOver(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'IGU_GPU_ALLOCATION';
}

/** Gives back what may have ended by itself meanwhile. */
export async function releaseIfThere(service: Pick<GpuService, 'release'>, idOrInstance: string): Promise<void> {
  try {
    await service.release(idOrInstance);
  } catch (error) {
    if (!isOver(error)) throw error;
  }
}
