import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { GpuGrant } from '../gpu/allocator.js';
import { isOver } from '../gpu/gpu-over.js';
import type { Allocation, LedgerRecord } from '../gpu/ledger.js';
import { nodeHere } from './gpu-here.js';
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
import { environmentLines, grantLine, grantText, partitionNumbers, stepCommands, tellRefusal } from './gpu-text.js';
import { ask, gpuPath, type ServerOptions, serverOptions } from './server-client.js';
import { oneOf } from './suggest.js';
import { paint, printJson } from './terminal.js';

interface AllocateOptions extends ServerOptions, NeedOptions, ClaimOptions {
  readonly wait?: number;
  readonly env?: boolean;
  readonly onLost: 'stop' | 'keep';
}

/** An answer takes so long at most, beside what it waits for room, ms. */
const ANSWER_MS = 60_000;
/** Who does not answer while something is waited for is asked again this often, ms. */
const AGAIN_MS = 1_000;
/** Whether a partition is there is asked so often at most, ms. */
const PARTITION_MS = 2_000;
const examples = `
With a command or --env the GPUs are of this machine: the node of its host name, or of IGUANA_NODE.

Examples:
  iguana gpu allocate train --gpus 2 --model A100 -- python train.py
  iguana gpu allocate notebook --memory 16384 --share 0.5 --wait 5m -- jupyter lab
  eval $(iguana gpu allocate train --lease none --env)`;

/** `iguana gpu allocate INSTANCE`: GPUs for a workload, and with a command the workload itself. */
export function gpuAllocateCommand(): Command {
  const command = new Command('allocate')
    .description('Get GPUs for a workload; with a command run it here on them, and give them back when it ends')
    .argument('<instance>', 'name of the workload; the same name and request again get the same GPUs')
    .argument('[command...]', 'after --: what to run');
  claimOptions(needOptions(command))
    .option('--wait <time>', 'wait for room so long (default: not at all)', timeOf('--wait'))
    .option('--env', 'print only the environment, for eval $(…) in a shell; of GPUs of this machine, as with a command')
    .option(
      '--on-lost <what>',
      'when the lease is lost while the command runs: stop, keep',
      checked('--on-lost', oneOf(['stop', 'keep'])),
      'stop',
    );
  return serverOptions(command)
    .addHelpText('after', examples)
    .action(async (instance: string, run: string[], given: AllocateOptions) => {
      // who is started here and shown GPUs of another machine would use those of this one that have the same numbers, or none
      const isHere = run.length > 0 || given.env;
      const options = isHere ? { ...given, node: await nodeHere(given, given.node) } : given;
      let grant: GpuGrant;
      if (run.length > 0) await noteHeld(options, instance);
      try {
        grant = await allocate(options, instance);
      } catch (error) {
        return tellRefusal(error, options.json);
      }
      if (run.length > 0) await runCommand(options, grant, run);
      else await show(options, grant);
    });
}

/** What is held by this name may have a command already, and the same request gets the same GPUs. */
async function noteHeld(options: AllocateOptions, instance: string): Promise<void> {
  try {
    const { id } = await ask<LedgerRecord>(options, 'GET', gpuPath('allocations', instance));
    tell(`${instance} has ${id} already: the first command of this name that ends gives it back`);
  } catch (error) {
    if (!isOver(error)) throw error;
  }
}

async function allocate(options: AllocateOptions, instance: string): Promise<GpuGrant> {
  const { wait = 0 } = options;
  const body = { instance, ...requestOf(options) };
  const asked = (waitMs: number): Promise<GpuGrant> =>
    ask(options, 'POST', gpuPath('allocations'), { ...body, ...(waitMs > 0 && { waitMs }) }, waitMs + ANSWER_MS);
  if (wait === 0) return asked(0);
  const deadline = Date.now() + wait;
  return givenBackAtSignal(options, instance, () =>
    patiently(deadline, () => asked(Math.max(0, deadline - Date.now()))),
  );
}

/** Asks until there is an answer: an Iguana that is started again, or another that takes over, goes on with what waits. */
async function patiently<T>(deadline: number, ask: () => Promise<T>): Promise<T> {
  for (let away = false; ; away = true) {
    try {
      return await ask();
    } catch (error) {
      if (Date.now() >= deadline || !mayPass(error, away)) throw error;
      if (!away) tell(`${messageOf(error)}; it is asked again until the wait is over`);
    }
    await sleep(AGAIN_MS);
  }
}

/** @param away it did not answer before; where there was nobody from the beginning there is nobody to wait for */
function mayPass(error: unknown, away: boolean): boolean {
  const code = codeOf(error);
  if (code !== 'IGU_SERVER_UNREACHABLE') return code === 'IGU_GPU_SCHEDULER';
  return away || codeOf((error as Error).cause) === 'ECONNRESET';
}

/** A signal meanwhile gives back what there is, or is waited for, and ends the command. */
async function givenBackAtSignal<T>(
  options: AllocateOptions,
  idOrInstance: string,
  wait: () => Promise<T>,
): Promise<T> {
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
  const steps = await commandsOf(options, grant);
  if (options.json) printJson(grant);
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
    for (const step of await commandsOf(options, grant)) process.stderr.write(`${step}\n`);
  while (Object.keys(environment).length === 0) {
    if (grant.steps.length === 0 || Date.now() >= deadline) {
      const { instance } = allocation;
      throw new IguanaError('IGU_GPU_REFUSED', { instance, what: missingText(grant) });
    }
    await sleep(pause);
    const renew = () => ask<Allocation>(options, 'POST', gpuPath('allocations', allocation.id, 'renew'), {});
    ({ environment } = await patiently(deadline, renew));
  }
  return environment;
}

async function commandsOf(options: AllocateOptions, { steps }: GpuGrant): Promise<string[]> {
  return stepCommands(steps, await partitionNumbers(options, steps));
}

function missingText({ steps, node, gpuIds }: GpuGrant): string {
  return steps.length > 0
    ? `its partition is still to be made on ${node}; do that while this waits, with --wait 5m`
    : `the number of ${gpuIds.join(', ')} is not known, by which its runtime names GPUs`;
}

/** Says so when that does not work. */
async function release(options: AllocateOptions, idOrInstance: string): Promise<void> {
  try {
    await ask(options, 'DELETE', gpuPath('allocations', idOrInstance));
  } catch (error) {
    if (isOver(error)) return;
    const then =
      options.lease === 'none'
        ? `it is held until \`iguana gpu release ${idOrInstance}\``
        : 'it is given back when its lease is over';
    tell(`${idOrInstance} could not be given back: ${messageOf(error)}; ${then}`);
  }
}

function codeOf(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}
