import { z } from 'zod';
import { IguanaError } from '../errors.js';
import { gpuSchedulerLimits } from '../limits.js';
import type { GpuRequest } from './allocator-rules.js';
import { sharingModes } from './ledger.js';
import { gpuVendors } from './types.js';

/** Control characters, halves of a character and ends of lines: they are seen nowhere, break tables and terminals, and cannot be in an address. */
const unseen = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** A name that can be shown, and be a part of an address. */
export const gpuName = z
  .string()
  .min(1)
  .max(gpuSchedulerLimits.maxNameLength)
  .refine((name) => name.search(unseen) < 0, 'it has a control character')
  .refine((name) => name !== '.' && name !== '..', '. and .. cannot be in an address');

/** What a request may say, as `GpuRequest` tells it. */
const requestFields = {
  gpuCount: z.number().int().min(1).max(gpuSchedulerLimits.maxGpusPerRequest).optional(),
  memoryMb: z.number().positive().optional(),
  computeShare: z.number().positive().max(1).optional(),
  exclusive: z.boolean().optional(),
  minComputeCapability: z
    .string()
    .regex(/^\d+\.\d+$/, 'like 8.0')
    .optional(),
  model: gpuName.optional(),
  vendor: z.enum(gpuVendors).optional(),
  mode: z.enum(sharingModes).optional(),
  profile: gpuName.optional(),
  node: gpuName.optional(),
  owner: gpuName.optional(),
  priority: z.number().int().min(-1000).max(1000).optional(),
  preempt: z.boolean().optional(),
  leaseMs: z.number().int().positive().nullable().optional(),
};

export const gpuRequestSchema = z.strictObject(requestFields);

export const waitMs = z.number().int().min(0).max(gpuSchedulerLimits.maxWaitMs).default(0);
const member = z.strictObject({ instance: gpuName, request: gpuRequestSchema.default({}) });
const members = z.array(member).min(1).max(gpuSchedulerLimits.maxGangMembers);
export const ttlMs = z.number().int().positive().max(gpuSchedulerLimits.maxReservationMs);
// ids of records are made of names
const id = z
  .string()
  .min(1)
  .max(2 * gpuSchedulerLimits.maxNameLength);

const commandSchema = z.discriminatedUnion('action', [
  z.strictObject({ action: z.literal('allocate'), id, ...member.shape, waitMs }),
  z.strictObject({ action: z.literal('allocate-gang'), id, gang: gpuName, members, waitMs }),
  z.strictObject({ action: z.literal('reserve'), id, owner: gpuName, request: gpuRequestSchema.default({}), ttlMs }),
  z.strictObject({ action: z.literal('release'), id, allocation: id }),
  z.strictObject({ action: z.literal('renew'), id, allocation: id }),
]);

/**
 * What a scheduler is asked to do: a record of the topic `gpu-requests`. `id` is chosen by whoever asks and names the answer; `allocation` is the id of an allocation or reservation, or
 * the name of an instance.
 */
export type GpuCommand = z.output<typeof commandSchema>;

/**
 * A command from what came over a wire; null counts as not given, as Avro has it (save `leaseMs`, whose null in JSON means: no lease).
 * @throws IguanaError `IGU_RECORD_MALFORMED` with the field that is wrong
 */
export function readGpuCommand(value: unknown): GpuCommand {
  const parsed = commandSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new IguanaError('IGU_RECORD_MALFORMED', { what: `gpu-requests: ${complaint(parsed.error)}` });
}

/** @throws IguanaError `IGU_GPU_REQUEST` with the field that is wrong */
export function readGpuRequest(instance: string, value: unknown): GpuRequest {
  return meant(gpuRequestSchema, instance, value) as GpuRequest;
}

/**
 * A command of this process's own user.
 * @throws IguanaError `IGU_GPU_REQUEST` with the field that is wrong
 */
export function ownGpuCommand(instance: string, value: unknown): GpuCommand {
  return meant(commandSchema, instance, value);
}

function meant<T>(schema: z.ZodType<T>, instance: string, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const shown = instance.replace(unseen, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`);
  throw new IguanaError('IGU_GPU_REQUEST', { instance: shown, what: complaint(parsed.error) });
}

function complaint({ issues }: z.ZodError): string {
  const { path, message } = issues[0]!;
  return path.length > 0 ? `${path.join('.')}: ${message}` : message;
}
