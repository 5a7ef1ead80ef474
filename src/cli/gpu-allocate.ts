import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { GpuGrant } from '../gpu/allocator.js';
import type { Allocation } from '../gpu/ledger.js';
import {
  type ClaimOptions,
  checked,
  claimOptions,
  type NeedOptions,
  needOptions,
  requestOf,
  timeOf,
} from './gpu-request.js';
import { runOnGpus, tell } from './gpu-run.js';
import { environmentLines, grantLine, grantText, stepCommands, tellRefusal } from './gpu-text.js';
import { ask, gpuPath, type ServerOptions, serverOptions } from './server-client.js';
import { oneOf } from './suggest.js';
import { paint } from './terminal.js';

interface AllocateOptions extends ServerOptions, NeedOptions, ClaimOptions {
  readonly wait?: number;
  readonly env?: boolean;
  readonly onLost: 'stop' | 'keep';
}

/** An answer takes so long at most, beside what it waits for room, ms. */
const ANSWER_MS = 60_000;
/** Whether a partition is there is asked so often at most, ms. */
const PARTITION_MS = 2_000;
const examples = `
Examples:
  iguana gpu allocate train --gpus 2 --model A100 -- python train.py
  iguana gpu allocate notebook --memory 16384 --share 0.5 --wait 5m -- jupyter lab
  eval $(iguana gpu allocate train --lease none --env)`;

/** `iguana gpu allocate INSTANCE`: GPUs for a workload, and with a command the workload itself. */
export function gpuAllocateCommand(): Command {
  const command = new Command('allocate')
    .description('Get GPUs for a workload; with a command run it on them, and give them back when it ends')
    .argument('<instance>', 'name of the workload; the same name and request again get the same GPUs')
    .argument('[command...]', 'after --: what to run');
  claimOptions(needOptions(command))
    .option('--wait <time>', 'wait for room so long (default: not at all)', timeOf('--wait'))
    .option('--env', 'print only the environment, for eval $(…) in a shell')
    .option(
      '--on-lost <what>',
      'when the lease is lost while the command runs: stop, keep',
      checked('--on-lost', oneOf(['stop', 'keep'])),
      'stop',
    );
  return serverOptions(command)
    .addHelpText('after', examples)
    .action(async (instance: string, run: string[], options: AllocateOptions) => {
      let grant: GpuGrant;
      try {
        grant = await allocate(options, instance);
      } catch (error) {
        return tellRefusal(error, options.json);
      }
      if (run.length > 0) await runCommand(options, grant, run);
      else await show(options, grant);
    });
}

async function allocate(options: AllocateOptions, instance: string): Promise<GpuGrant> {
  const { wait = 0 } = options;
  const body = { instance, ...requestOf(options), ...(wait > 0 ? { waitMs: wait } : {}) };
  const asked = () => ask<GpuGrant>(options, 'POST', gpuPath('allocations'), body, wait + ANSWER_MS);
  return wait > 0 ? givenBackAtSignal(options, instance, asked) : asked();
}

/** A signal meanwhile gives back what there is, or is waited for, and ends the command. */
async function givenBackAtSignal<T>(options: ServerOptions, idOrInstance: string, wait: () => Promise<T>): Promise<T> {
  const giveUp = (signal: NodeJS.Signals): void => {
    const code = signal === 'SIGINT' ? 130 : 143;
    release(options, idOrInstance).then(() => process.exit(code));
  };
  process.once('SIGINT', giveUp).once('SIGTERM', giveUp);
  try {
    return await wait();
  } finally {
    process.off('SIGINT', giveUp).off('SIGTERM', giveUp);
  }
}

async function show(options: AllocateOptions, grant: GpuGrant): Promise<void> {
  const { allocation, environment } = grant;
  const steps = await stepCommands(options, grant.steps);
  if (options.json) process.stdout.write(`${JSON.stringify(grant, null, 2)}\n`);
  else if (!options.env) process.stdout.write(`${grantText(grant, steps)}\n`);
  else {
    const all = { ...environment, IGUANA_GPU_ALLOCATION: allocation.id };
    process.stdout.write(`${environmentLines(all).join('\n')}\n`);
  }
  if (Object.keys(environment).length > 0) return;
  if (options.env) for (const step of steps) process.stderr.write(`${step}\n`);
  tell(`there is no environment yet: ${missingText(grant)}`);
}

async function runCommand(options: AllocateOptions, grant: GpuGrant, run: readonly string[]): Promise<void> {
  const line = options.json ? JSON.stringify(grant) : grantLine(grant);
  process.stderr.write(`${options.json ? line : paint('dim', line, process.stderr)}\n`);
  try {
    const { id } = grant.allocation;
    const environment = await givenBackAtSignal(options, id, () => environmentOf(options, grant));
    process.exitCode = await runOnGpus(options, { ...grant, environment }, run, options.onLost);
  } finally {
    await release(options, grant.allocation.id);
  }
}

/** Without one a process would see every GPU, so that it is waited for, and nothing started without. */
async function environmentOf(options: AllocateOptions, grant: GpuGrant): Promise<Readonly<Record<string, string>>> {
  const { allocation } = grant;
  let { environment } = grant;
  const deadline = Date.now() + (options.wait ?? 0);
  const pause = Math.min(PARTITION_MS, (allocation.leaseMs ?? Number.POSITIVE_INFINITY) / 3);
  if (Object.keys(environment).length === 0)
    for (const step of await stepCommands(options, grant.steps)) process.stderr.write(`${step}\n`);
  while (Object.keys(environment).length === 0) {
    if (grant.steps.length === 0 || Date.now() >= deadline) {
      const { instance } = allocation;
      throw new IguanaError('IGU_GPU_REFUSED', { instance, what: missingText(grant) });
    }
    await sleep(pause);
    ({ environment } = await ask<Allocation>(options, 'POST', gpuPath('allocations', allocation.id, 'renew'), {}));
  }
  return environment;
}

function missingText({ steps, node, gpuIds }: GpuGrant): string {
  return steps.length > 0
    ? `its partition is still to be made on ${node}; do that while this waits, with --wait 5m`
    : `the number of ${gpuIds.join(', ')} is not known, by which its runtime names GPUs`;
}

/** Says so when that does not work: the lease ends by itself. */
async function release(options: ServerOptions, idOrInstance: string): Promise<void> {
  try {
    await ask(options, 'DELETE', gpuPath('allocations', idOrInstance));
  } catch (error) {
    if (codeOf(error) !== 'IGU_GPU_ALLOCATION') tell(`${idOrInstance} could not be given back: ${messageOf(error)}`);
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}
