import { existsSync } from 'node:fs';
import { z } from 'zod';
import { ruleSchema } from '../detectors/rule.js';
import { IguanaError } from '../errors.js';
import { priceTableSchema } from '../functions/billing.js';
import { type PlacementPolicyName, placementPolicies } from '../gpu/placement/inflation.js';
import { sharingRuleSchema } from '../gpu/sharing-rules.js';
import { policySchema } from '../scaling/policy.js';
import { logLevels } from './log.js';
import { checkedYaml, textOf } from './yaml-file.js';

export const saslMechanisms = ['plain', 'scram-sha-256', 'scram-sha-512'] as const;

const port = z.number().int().min(0).max(65_535);

/** What `iguana.yaml` may say; flags on the command line win over it. */
export const configSchema = z.strictObject({
  /** Address of the page, the API and Prometheus metrics. */
  dashboard: z
    .strictObject({
      host: z.string().default('127.0.0.1'),
      port: port.default(4480),
      /** What requests to `/api/functions` must have (`Authorization: Bearer …`); else IGUANA_TOKEN in the environment; without one only this machine may deploy and call functions there. */
      token: z.string().min(16).optional(),
    })
    .prefault({}),
  /** The embedded broker; not started when `kafka.brokers` is given. */
  broker: z
    .strictObject({
      host: z.string().default('127.0.0.1'),
      /** Address told to clients; by default the one they came in at. */
      advertisedHost: z.string().optional(),
      port: port.default(9092),
      partitions: z.number().int().min(1).max(1000).default(4),
    })
    .prefault({}),
  /** An existing Kafka cluster to use instead of the embedded broker. */
  kafka: z
    .strictObject({
      brokers: z.array(z.string().min(1)).default([]),
      ssl: z.boolean().default(false),
      sasl: z
        .strictObject({
          mechanism: z.enum(saslMechanisms),
          username: z.string(),
          password: z.string(),
        })
        .optional(),
    })
    .prefault({}),
  /** Consumer group prefix: processes with the same one share the work. */
  group: z.string().min(1).default('iguana'),
  /** Log of the Kafka client, JSON lines on standard error. */
  log: z.enum(logLevels).default('silent'),
  /** Where records, offsets and learnt state are kept; null keeps them in memory. */
  data: z.string().nullable().default('.iguana'),
  /** This machine's own metrics. */
  host: z
    .strictObject({ enabled: z.boolean().default(true), everyMs: z.number().int().min(100).default(1000) })
    .prefault({}),
  /** The neural member of the ensemble, trained here over all series; it makes a forecast about three times as dear. */
  neural: z
    .strictObject({ enabled: z.boolean().default(true), trainEveryMs: z.number().int().min(1000).default(20_000) })
    .prefault({}),
  /** Functions: code that records, requests, timers and events start. */
  functions: z
    .strictObject({
      enabled: z.boolean().default(true),
      /** Definitions in its `*.yaml` are deployed, and followed while this runs; not there is none. */
      directory: z.string().min(1).default('functions'),
      /** YAML with the name and value of each secret; without it, or beside it, `IGUANA_SECRET_NAME` in the environment. */
      secretsFile: z.string().min(1).optional(),
      /** Key that usage is signed with, made at the first start; default `usage.key` in the data directory. The same one for all processes of a group. */
      usageKeyFile: z.string().min(1).optional(),
      /** US dollars; the default is AWS Lambda's first tier. */
      prices: priceTableSchema.prefault({}),
      /** Where JavaScript runs, whatever definitions say; default: as they say. */
      isolation: z.enum(['thread', 'process']).optional(),
    })
    .prefault({}),
  /** GPUs: those of this machine are told of, those of the group are given to workloads. */
  gpu: z
    .strictObject({
      enabled: z.boolean().default(true),
      /** Name of this machine; default its host name. */
      node: z.string().min(1).optional(),
      /** Between two looks at the GPUs, ms. */
      everyMs: z.number().int().min(100).default(1000),
      /** How nodes and GPUs are chosen. */
      policy: z.enum(Object.keys(placementPolicies) as PlacementPolicyName[]).default('fragmentation-gradient'),
      /** GPUs that an owner may hold at a time. The same for all processes of a group. */
      quotas: z.record(z.string(), z.number().positive()).default({}),
      /** How GPUs may be used; without a rule exclusively or in shares, as it is asked for. */
      sharing: z.array(sharingRuleSchema).default([]),
      /** Whose GPUs are reserved before they are asked for, by forecasts of their demand. */
      preallocation: z
        .array(
          z.strictObject({
            owner: z.string().min(1),
            /** Model, as requests name it. */
            model: z.string().min(1),
            /** Of an hour of waiting, in idle GPU-hours (default 5). */
            waiting: z.number().positive().optional(),
            /** Idle reserved GPU-hours at most, as a part of those used (default 0.05). */
            idleBudget: z.number().min(0).optional(),
            /** What it takes to get a GPU that was not reserved, ms (default 240,000). */
            leadMs: z.number().positive().optional(),
            /** Between two looks, ms (default 60,000). */
            reviewMs: z.number().min(1000).optional(),
          }),
        )
        .default([]),
    })
    .prefault({}),
  /** What is to be called an anomaly beside what the detectors find. */
  rules: z.array(ruleSchema).default([]),
  /** Scaling policies, inline. */
  policies: z
    .array(policySchema)
    .default([])
    .superRefine((policies, context) => {
      policies.forEach(({ name, min, max }, i) => {
        if (min > max)
          context.addIssue({ code: 'custom', path: [i, 'min'], message: `${min} is more than max, ${max}` });
        if (policies.findIndex((one) => one.name === name) < i)
          context.addIssue({ code: 'custom', path: [i, 'name'], message: `there is a policy named ${name} already` });
      });
    }),
});

export type Config = z.infer<typeof configSchema>;

/** Reads and checks a configuration file; without a path, `iguana.yaml` here if there is one, else the defaults. Errors name file:line:col and the fix. */
export function readConfig(path?: string): Config {
  const file = path ?? 'iguana.yaml';
  if (!existsSync(file)) {
    if (path) throw new IguanaError('IGU_FILE_MISSING', { path });
    return configSchema.parse({});
  }
  return checkedYaml(file, textOf(file), configSchema, () => 'see docs/cli.md for what it may be').value;
}
