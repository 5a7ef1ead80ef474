import { z } from 'zod';
import { wildcard } from '../wildcard.js';
import { type GpuSharing, MPS_CLIENTS } from './allocator-rules.js';
import type { Gpu } from './types.js';

const replicas = z.number().int().min(1).max(64);
const mpsReplicas = z.number().int().min(1).max(MPS_CLIENTS, `an MPS server takes at most ${MPS_CLIENTS} clients`);
const where = {
  /** Name of the node, `*` for any characters (default all). */
  node: z.string().min(1).default('*'),
  /** Id or product of the GPU, `*` for any characters (default all). */
  gpu: z.string().min(1).default('*'),
};

/** How GPUs may be used; of several rules for a GPU the first counts, without one it is `open`. */
export const sharingRuleSchema = z.discriminatedUnion('mode', [
  z.strictObject({ ...where, mode: z.enum(['open', 'exclusive', 'shared', 'partition']) }),
  z.strictObject({ ...where, mode: z.literal('time-slicing'), replicas }),
  z.strictObject({
    ...where,
    mode: z.literal('mps'),
    replicas: mpsReplicas,
    pipeDirectory: z.string().min(1).optional(),
  }),
  z.strictObject({
    ...where,
    mode: z.literal('mig'),
    /** `static`: only instances that exist are given; `dynamic`: they are planned as they are needed. */
    layout: z.enum(['static', 'dynamic']).default('static'),
    /** MiB by profile, from `nvidia-smi mig -lgip`. */
    memoryMb: z.record(z.string(), z.number().positive()).optional(),
  }),
]);

export type SharingRule = z.output<typeof sharingRuleSchema>;

export function sharingBy(rules: readonly SharingRule[]): (node: string, gpu: Gpu) => GpuSharing {
  const matchers = rules.map(({ node, gpu, ...sharing }) => ({
    node: wildcard(node),
    gpu: wildcard(gpu),
    sharing: sharing as GpuSharing,
  }));
  return (node, { id, name }) =>
    matchers.find((one) => one.node.test(node) && (one.gpu.test(id) || one.gpu.test(name)))?.sharing ?? {
      mode: 'open',
    };
}
