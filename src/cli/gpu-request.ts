import { type Command, InvalidArgumentError } from 'commander';
import { defined } from '../defined.js';
import { IguanaError } from '../errors.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';
import { type SharingMode, sharingModes } from '../gpu/ledger.js';
import { type GpuVendor, gpuVendors } from '../gpu/types.js';
import { gpuSchedulerLimits } from '../limits.js';
import { durationOf, oneOf, wholeNumber } from './suggest.js';

/** What GPUs are asked for, as the command line says it. */
export interface NeedOptions {
  readonly gpus?: number;
  readonly memory?: number;
  readonly share?: number;
  readonly exclusive?: boolean;
  readonly model?: string;
  readonly vendor?: GpuVendor;
  readonly mode?: SharingMode;
  readonly profile?: string;
  readonly minCompute?: string;
  readonly node?: string;
}

/** For whom, how urgently, and for how long. */
export interface ClaimOptions {
  readonly owner?: string;
  readonly priority?: number;
  readonly preempt?: boolean;
  readonly lease?: number | 'none';
}

/** Options that say which GPUs would do. */
export function needOptions(command: Command): Command {
  return command
    .option(
      '--gpus <n>',
      'so many, on one node (default: 1)',
      checked('--gpus', wholeNumber(1, gpuSchedulerLimits.maxGpusPerRequest)),
    )
    .option('--memory <mb>', 'MiB on each', checked('--memory', memory))
    .option('--share <part>', "a part of each one's compute, above 0 to 1", checked('--share', share))
    .option('--exclusive', 'nobody else on them (default: when neither memory nor share is given)')
    .option('--model <words>', 'words of the product name, such as A100 or "A100 80GB"')
    .option('--vendor <name>', gpuVendors.join(', '), checked('--vendor', oneOf(gpuVendors)))
    .option('--mode <name>', `how they are shared: ${sharingModes.join(', ')}`, checked('--mode', oneOf(sharingModes)))
    .option('--profile <name>', 'MIG or AMD partition, such as 3g.40gb')
    .option('--min-compute <version>', 'NVIDIA compute capability, such as 8.0', checked('--min-compute', capability))
    .option('--node <name>', 'on this node only');
}

/** Options that say for whom, how urgently and for how long. */
export function claimOptions(command: Command): Command {
  return command
    .option('--owner <name>', 'whose quota and reservations count (default: the instance)')
    .option('--priority <n>', 'higher goes first (default: 0)', checked('--priority', wholeNumber(-1_000, 1_000)))
    .option('--preempt', 'take GPUs from allocations of lower priority when none is free')
    .option('--lease <time>', 'given back when not renewed for so long (default: 60s); none: never', lease);
}

export function requestOf(options: NeedOptions & ClaimOptions): GpuRequest {
  const { gpus, memory, share, exclusive, model, vendor, mode, profile, minCompute, node } = options;
  const { owner, priority, preempt, lease } = options;
  return defined({
    gpuCount: gpus,
    memoryMb: memory,
    computeShare: share,
    minComputeCapability: minCompute,
    leaseMs: lease === 'none' ? null : lease,
    exclusive,
    model,
    vendor,
    mode,
    profile,
    node,
    owner,
    priority,
    preempt,
  });
}

/** A parser of times such as 500ms, 60s, 10m or 2h. */
export function timeOf(option: string): (given: string) => number {
  return checked(option, (given) => {
    const ms = Math.ceil(durationOf(given) ?? Number.NaN);
    if (!(ms > 0)) throw new InvalidArgumentError('A time such as 500ms, 60s, 10m or 2h is needed.');
    return ms;
  });
}

/** The same parser, whose complaint has a code. */
export function checked<T>(option: string, parse: (given: string) => T): (given: string) => T {
  return (given) => {
    try {
      return parse(given);
    } catch (cause) {
      if (!(cause instanceof InvalidArgumentError)) throw cause;
      const what = `${option} ${given}: ${cause.message.replace(/\.$/, '')}`;
      throw new IguanaError('IGU_USAGE', { what }, { cause });
    }
  };
}

function lease(given: string): number | 'none' {
  return given === 'none' ? given : timeOf('--lease')(given);
}

function memory(given: string): number {
  const value = Number(given);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('MiB above 0 are needed, such as 16384.');
  return value;
}

function share(given: string): number {
  const value = Number(given);
  if (!(value > 0 && value <= 1))
    throw new InvalidArgumentError("A part of each GPU's compute is needed, above 0 to 1, such as 0.5.");
  return value;
}

function capability(given: string): string {
  if (!/^\d+\.\d+$/.test(given)) throw new InvalidArgumentError('A compute capability such as 8.0 is needed.');
  return given;
}
