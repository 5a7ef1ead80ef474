import { z } from 'zod';
import { defaultBehaviour, type ScalingRules } from './hpa.js';

const rate = z.strictObject({
  type: z.enum(['instances', 'percent']),
  value: z.number().positive(),
  periodSeconds: z.number().int().min(1).max(1800),
});
const rules = ({ stabilizationWindowSeconds, selectPolicy, policies }: ScalingRules) =>
  z
    .strictObject({
      stabilizationWindowSeconds: z.number().int().min(0).max(3600).default(stabilizationWindowSeconds),
      selectPolicy: z.enum(['max', 'min', 'disabled']).default(selectPolicy),
      policies: z.array(rate).default([...policies]),
    })
    .prefault({});

/** How one entity is scaled: which metric, what one instance may carry, and how fast. */
export const policySchema = z.strictObject({
  name: z.string().min(1),
  /** Entity whose metric is watched (the Kafka key). */
  entity: z.string().min(1),
  metric: z.string().min(1),
  /** What one instance should carry: the metric's total over all instances divided by their number is held at this. */
  targetPerInstance: z.number().positive(),
  min: z.number().int().min(0).default(1),
  max: z.number().int().min(1).default(100),
  /** Instances when nothing is known yet. */
  initial: z.number().int().min(0).default(1),
  /** Time from the decision until a new instance serves: the horizon at which the forecast counts. */
  startupSeconds: z.number().int().min(0).default(300),
  /** Level of the forecast's bounds whose upper end is planned for, per cent. */
  level: z.number().min(1).max(99.9).default(80),
  /** Below it the forecast does not count. */
  minConfidence: z.number().min(0).max(1).default(0.1),
  /** The command whose copies are the instances, run here as supervised child processes; without it decisions are only written. */
  process: z
    .strictObject({
      command: z.string().min(1),
      args: z.array(z.string()).default([]),
      basePort: z.number().int().min(1).max(65_000).optional(),
    })
    .optional(),
  /** False lets decisions be carried out. */
  dryRun: z.boolean().default(true),
  behaviour: z
    .strictObject({
      scaleUp: rules(defaultBehaviour.scaleUp),
      scaleDown: rules(defaultBehaviour.scaleDown),
    })
    .prefault({}),
});

export type ScalingPolicy = z.infer<typeof policySchema>;
