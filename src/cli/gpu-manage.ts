import { Command } from 'commander';
import type { Allocation, Reservation } from '../gpu/ledger.js';
import { type NeedOptions, needOptions, requestOf, timeOf } from './gpu-request.js';
import { gpusText, tellRefusal, timeText } from './gpu-text.js';
import { ask, gpuPath, type ServerOptions, serverOptions } from './server-client.js';

const whichOne = 'id of an allocation or reservation, or name of an instance';

/** `iguana gpu release ID|INSTANCE`. */
export function gpuReleaseCommand(): Command {
  const command = new Command('release')
    .description('Give GPUs back: of an allocation, a reservation, or what waits for them')
    .argument('<id>', `${whichOne}; the name of a gang: all its members`);
  return serverOptions(command)
    .addHelpText('after', '\nExamples:\n  iguana gpu release train\n  iguana gpu release reservation/team-a/7')
    .action(async (id: string, options: ServerOptions) => {
      const answer = await ask<{ released: string }>(options, 'DELETE', gpuPath('allocations', id));
      tell(options, answer, `${answer.released} is released`);
    });
}

/** `iguana gpu renew ID|INSTANCE`: a heartbeat, for scripts that hold GPUs. */
export function gpuRenewCommand(): Command {
  const command = new Command('renew')
    .description('Renew the lease of an allocation: a heartbeat for scripts; `allocate … -- COMMAND` does it by itself')
    .argument('<id>', 'id of an allocation, or name of an instance');
  return serverOptions(command)
    .addHelpText('after', '\nExamples:\n  iguana gpu renew train\n  iguana gpu renew "$IGUANA_GPU_ALLOCATION"')
    .action(async (id: string, options: ServerOptions) => {
      const answer = await ask<Allocation>(options, 'POST', gpuPath('allocations', id, 'renew'), {});
      const lasts = answer.leaseMs === null ? 'has no lease' : `is renewed for ${timeText(answer.leaseMs)}`;
      tell(options, answer, `${answer.id} ${lasts}`);
    });
}

/** `iguana gpu reserve OWNER --for TIME`. */
export function gpuReserveCommand(): Command {
  const command = new Command('reserve')
    .description("Keep GPUs for an owner's next allocations")
    .argument('<owner>', 'who gives this name with --owner, or the instance of this name');
  needOptions(command).requiredOption('--for <time>', 'so long at most, such as 10m', timeOf('--for'));
  return serverOptions(command)
    .addHelpText('after', '\nExamples:\n  iguana gpu reserve team-a --for 10m --gpus 2 --model H100')
    .action(async (owner: string, options: ServerOptions & NeedOptions & { for: number }) => {
      const body = { owner, ttlMs: options.for, ...requestOf(options) };
      try {
        const made = await ask<Reservation>(options, 'POST', gpuPath('reservations'), body);
        const ids = made.holdings.map(({ gpuId }) => gpuId);
        const kept = `${gpusText(ids.length)} of ${made.holdings[0]?.node ?? '-'}`;
        const until = new Date(made.expiresAt).toISOString();
        tell(options, made, `${made.id} keeps ${kept} for ${owner} until ${until}: ${ids.join(', ')}`);
      } catch (error) {
        tellRefusal(error, options.json);
      }
    });
}

function tell({ json }: ServerOptions, answer: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(answer) : text}\n`);
}
