import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ScheduledGpus, scheduleGpus } from '../../pipelines/schedule-gpus.js';
import { defined } from '../defined.js';
import { type Rule, ruleSchema } from '../detectors/rule.js';
import { sharingBy } from '../gpu/sharing-rules.js';
import type { ConnectionOptions } from '../kafka/client.js';
import type { Config } from './config.js';
import { topics } from './topics.js';

/** The first look at the GPUs is waited for so long, ms: a driver that nobody used yet needs longer. */
const LOOK_MS = 1_000;

/** What counts as an anomaly of a GPU, unless the configuration has a rule of that name. */
const rules: readonly Rule[] = [
  { name: 'gpu-unusable', pattern: 'gpu_health', above: 1, severity: 'critical' as const, forSeconds: 10 },
  { name: 'gpu-throttled', pattern: 'gpu_throttled', above: 0, forSeconds: 60 },
  { name: 'gpu-hung-job', pattern: 'gpu_idle_memory_usage', above: 80, forSeconds: 600 },
].map((rule) => ruleSchema.parse(rule));

export function withGpuRules({ gpu, rules: own }: Config): readonly Rule[] {
  if (!gpu.enabled) return own;
  return [...rules.filter(({ name }) => !own.some((one) => one.name === name)), ...own];
}

/** What tells of this machine's GPUs and gives those of the group. */
export async function startGpus(
  { gpu, group }: Config,
  connection: ConnectionOptions,
  note: (what: string, why: string) => void,
  onError: (error: unknown) => void,
): Promise<ScheduledGpus | undefined> {
  if (!gpu.enabled) return undefined;
  const { everyMs, policy, quotas, sharing, preallocation } = gpu;
  const running = await scheduleGpus({
    ...{ connection, group, metrics: topics.metrics, forecasts: topics.forecasts, deadLetters: topics.deadLetters },
    rules: { ...defined({ policy }), quotas, sharing: sharingBy(sharing) },
    preallocate: preallocation.map(({ owner, model, ...costs }) => ({ owner, model, ...defined(costs) })),
    agent: {
      node: gpu.node ?? os.hostname(),
      everyMs,
      onChange: ({ kind, what }) => kind !== 'added' && note(`GPU ${kind}`, what),
    },
    onError,
  });
  await Promise.race([running.looked(), sleep(LOOK_MS, undefined, { ref: false })]);
  return running;
}

export function gpusRow(gpus: ScheduledGpus): string {
  return gpus.inventory()?.summary ?? 'still looking';
}
