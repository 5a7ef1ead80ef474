import { refusalsByReason } from '../api/gpu-refused.js';
import type { HeldGpu } from '../dashboard/gpu-holders.js';
import type { GpuDenial, GpuGrant } from '../gpu/allocator.js';
import type { GpuRefusal } from '../gpu/allocator-rules.js';
import type { MigStep } from '../gpu/mig/mig-plan.js';
import type { PlainGpu } from '../gpu/plain-gpu.js';
import { AnsweredError, ask, gpuPath, type ServerOptions } from './server-client.js';
import { aligned, printJson } from './terminal.js';

/** A node as a running Iguana tells it. */
export interface ToldNode {
  readonly node: string;
  readonly at: number;
  readonly silent: boolean;
  readonly gpus: readonly (PlainGpu & { readonly holders: readonly HeldGpu[] })[];
}

interface ToldDenial extends GpuDenial {
  /** Further GPUs whose reasons are not told. */
  readonly gpusLeftOut?: number;
}

/** Of a refusal that a running Iguana answered; undefined: it is another error. */
function denialOf(error: unknown): ToldDenial | undefined {
  if (!(error instanceof AnsweredError) || error.code !== 'IGU_GPU_REFUSED') return undefined;
  const { denial } = error.body as { denial?: ToldDenial };
  return denial && Array.isArray(denial.gpus) ? denial : undefined;
}

/** Tells a refusal, with which the command ends with 1; other errors go on. */
export function tellRefusal(error: unknown, json: boolean | undefined): void {
  const denial = denialOf(error);
  if (!denial) throw error;
  if (json) printJson(denial);
  else {
    const { gpus, gpusLeftOut = 0 } = denial;
    const more = gpusLeftOut > 0 ? [`  and ${gpusText(gpusLeftOut)} more whose reasons are not told here`] : [];
    process.stderr.write(`${[(error as AnsweredError).message, ...reasonLines(gpus), ...more].join('\n')}\n`);
  }
  process.exitCode = 1;
}

/** For each reason how many GPUs, and one of them. */
function reasonLines(refusals: readonly GpuRefusal[]): string[] {
  return refusalsByReason(refusals).map(
    ({ code, count, example: { gpuId, node, what } }) =>
      `  ${code}: ${gpusText(count)}, such as ${gpuId} of ${node}: ${what}`,
  );
}

/** What was given, and what it holds to. */
export function grantText(grant: GpuGrant, steps: readonly string[]): string {
  const { allocation, enforcement, environment, preempted } = grant;
  const { enforced, notEnforced } = enforcement;
  const leased = `${timeText(allocation.leaseMs ?? 0)}, then given back unless \`iguana gpu renew\` comes`;
  const rows: [string, string][] = [
    ['allocation', allocation.id],
    ['lease', allocation.leaseMs === null ? 'none: held until `iguana gpu release`' : leased],
    ['enforced', enforced.length > 0 ? enforced.join('; ') : 'nothing'],
  ];
  if (notEnforced.length > 0) rows.push(['not enforced', notEnforced.join('; ')]);
  if (preempted.length > 0) rows.push(['ended for it', preempted.join(', ')]);
  const made = steps.length > 0 ? [`To be made on ${grant.node} first:`, ...steps.map((step) => `  ${step}`)] : [];
  return [grantLine(grant), aligned(rows), ...made, ...environmentLines(environment)].join('\n');
}

export function grantLine({ allocation, gpuIds, node, mode }: GpuGrant): string {
  return `${allocation.instance} has ${gpusText(gpuIds.length)} of ${node} (${mode}): ${gpuIds.join(', ')}`;
}

/** For a POSIX shell, also when it makes one line of them. */
export function environmentLines(environment: Readonly<Record<string, string>>): string[] {
  return Object.entries(environment).map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}';`);
}

/** Numbers of the GPU instances that steps destroy, by id: the tool takes no other name. Asks for nothing where none is destroyed. */
export async function partitionNumbers(
  options: ServerOptions,
  steps: readonly MigStep[],
): Promise<ReadonlyMap<string, number>> {
  if (!steps.some(({ kind }) => kind === 'destroy')) return new Map();
  const nodes = await ask<ToldNode[]>(options, 'GET', gpuPath('nodes'));
  const partitions = nodes.flatMap(({ gpus }) =>
    gpus.flatMap((gpu) => (gpu.partitions ?? []) as readonly ToldPartition[]),
  );
  return new Map(partitions.flatMap(({ id, gpuInstance }) => (gpuInstance === null ? [] : [[id, gpuInstance]])));
}

interface ToldPartition {
  readonly id: string;
  readonly gpuInstance: number | null;
}

/** Commands that do the steps, to be run on the GPUs' node. */
export function stepCommands(steps: readonly MigStep[], numbers: ReadonlyMap<string, number>): string[] {
  return steps.flatMap((step) => stepCommand(step, numbers));
}

function stepCommand(step: MigStep, instances: ReadonlyMap<string, number>): string[] {
  const { gpu } = step;
  switch (step.kind) {
    case 'enable':
      return [`nvidia-smi -i ${gpu} -mig 1`];
    case 'disable':
      return [`nvidia-smi -i ${gpu} -mig 0`];
    case 'create':
      return [`nvidia-smi mig -i ${gpu} -cgi ${step.argument} -C  # ${step.profile} at ${step.start}`];
    case 'destroy': {
      const number = instances.get(step.instance);
      if (number === undefined)
        return [`# destroy ${step.instance}: \`nvidia-smi mig -i ${gpu} -lgi\` tells its number`];
      return [
        `nvidia-smi mig -i ${gpu} -dci -gi ${number}  # ${step.instance}`,
        `nvidia-smi mig -i ${gpu} -dgi -gi ${number}`,
      ];
    }
  }
}

export function gpusText(count: number): string {
  return `${count} ${count === 1 ? 'GPU' : 'GPUs'}`;
}

/** In the largest unit of which there is at least one. */
export function timeText(ms: number): string {
  const units = [
    [3_600_000, 'h'],
    [60_000, 'm'],
    [1_000, 's'],
  ] as const;
  const [size, unit] = units.find(([least]) => ms >= least) ?? [1, 'ms'];
  return `${Number((ms / size).toFixed(1))}${unit}`;
}

/** Part of the GPU as a person reads it. */
export function partText(shareMilli: number, memoryMb: number | null, profile: string | undefined): string {
  const memory = memoryMb === null ? '-' : `${(memoryMb / 1024).toFixed(1)} GiB`;
  return `${profile ? `${profile}, ` : ''}${shareMilli / 10} %, ${memory}`;
}
