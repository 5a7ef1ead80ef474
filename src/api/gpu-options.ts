import { z } from 'zod';
import type { Clock } from '../clock.js';
import { IguanaError } from '../errors.js';
import { type PlacementPolicyName, placementPolicies } from '../gpu/placement/inflation.js';
import type { Gpu } from '../gpu/types.js';
import type { ConnectionOptions } from '../kafka/client.js';

/** Between two looks at GPUs, ms: a tool takes about as long as the shortest; the longest is a day. */
const SHORTEST_MS = 50;
const LONGEST_MS = 86_400_000;

const name = z.string().min(1);
const aFunction = z.custom<(...given: never[]) => unknown>((value) => typeof value === 'function', 'it is no function');
const anObject = <T extends object>(what: string) =>
  z.custom<T>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), what);

const costs = {
  waiting: z.number().positive().optional(),
  idleBudget: z.number().min(0).optional(),
  leadMs: z.number().positive().optional(),
  reviewMs: z.number().positive().optional(),
  memory: z.number().positive().optional(),
  margin: z.number().min(0).optional(),
};

/** What is said of the placement of workloads here and on Kafka. */
const rules = {
  /** Checked where it is read. */
  sharing: z.unknown().optional(),
  quotas: z.record(z.string(), z.number().positive()).optional(),
  policy: z.enum(Object.keys(placementPolicies) as [PlacementPolicyName, ...PlacementPolicyName[]]).optional(),
  everyMs: z.number().min(SHORTEST_MS).max(LONGEST_MS).optional(),
  node: name.optional(),
};

export const configureSchema = z.strictObject({
  ...rules,
  nodes: z.record(z.string(), z.array(anObject<Gpu>('it is no GPU'))).optional(),
  clock: anObject<Clock>('it is no clock').optional(),
});

export const connectSchema = z.strictObject({
  ...rules,
  brokers: z.array(name).min(1),
  connection: anObject<Omit<ConnectionOptions, 'brokers'>>('it is no object').optional(),
  group: name.optional(),
  agent: z.boolean().optional(),
  preallocate: z.array(z.strictObject({ ...costs, owner: name, model: name })).optional(),
  topics: z
    .strictObject({ metrics: name.optional(), forecasts: name.optional(), deadLetters: name.optional() })
    .optional(),
  onError: aFunction.optional(),
});

export const costsSchema = z.strictObject(costs);

/** Its other fields are those of a request. */
export const allocateSchema = z.looseObject({ keep: z.boolean().optional(), onLost: aFunction.optional() });
/** What is asked for is said by each member. */
export const gangOptionsSchema = z.strictObject({ ...allocateSchema.shape, waitMs: z.number().optional() });
export const gangMembersSchema = z.array(z.strictObject({ instance: z.unknown(), request: z.unknown().optional() }));

/**
 * Options that a program gave, before anything is done with them: what is not known is not ignored.
 * @param of whose they are, for the error
 * @throws IguanaError `IGU_CONFIG` with the first that is wrong
 */
export function assertOptions(schema: z.ZodType, of: string, options: unknown): void {
  const { success, error } = schema.safeParse(options);
  if (success) return;
  const { path, message } = error.issues[0]!;
  throw new IguanaError('IGU_CONFIG', {
    where: path.length > 0 ? `${of}: ${path.join('.')}` : of,
    what: message,
    fix: 'see docs/library.md',
  });
}
