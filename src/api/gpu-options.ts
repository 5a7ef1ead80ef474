import { z } from 'zod';
import type { Clock } from '../clock.js';
import { type PlacementPolicyName, placementPolicies } from '../gpu/placement/inflation.js';
import type { Gpu } from '../gpu/types.js';
import type { ConnectionOptions } from '../kafka/client.js';
import { aFunction, anObject, aText } from './option-checks.js';

/** Between two looks at GPUs, ms: a tool takes about as long as the shortest; the longest is a day. */
const SHORTEST_MS = 50;
const LONGEST_MS = 86_400_000;

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
  node: aText.optional(),
};

export const configureSchema = z.strictObject({
  ...rules,
  nodes: z.record(z.string(), z.array(anObject<Gpu>('it is no GPU'))).optional(),
  clock: anObject<Clock>('it is no clock').optional(),
});

export const connectSchema = z.strictObject({
  ...rules,
  brokers: z.array(aText).min(1),
  connection: anObject<Omit<ConnectionOptions, 'brokers'>>('it is no object').optional(),
  group: aText.optional(),
  agent: z.boolean().optional(),
  preallocate: z.array(z.strictObject({ ...costs, owner: aText, model: aText })).optional(),
  topics: z
    .strictObject({ metrics: aText.optional(), forecasts: aText.optional(), deadLetters: aText.optional() })
    .optional(),
  onError: aFunction.optional(),
});

export const costsSchema = z.strictObject(costs);

/** Its other fields are those of a request. */
export const allocateSchema = z.looseObject({ keep: z.boolean().optional(), onLost: aFunction.optional() });
/** What is asked for is said by each member. */
export const gangOptionsSchema = z.strictObject({ ...allocateSchema.shape, waitMs: z.number().optional() });
export const gangMembersSchema = z.array(z.strictObject({ instance: z.unknown(), request: z.unknown().optional() }));
