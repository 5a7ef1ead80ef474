import { Command } from 'commander';
import { defined } from '../defined.js';
import type { GpuDenial, GpuGrant } from '../gpu/allocator.js';
import type { GpuRefusal } from '../gpu/allocator-rules.js';
import type { GpuPlan, WaitingRequest } from '../gpu/gpu-service.js';
import type { LedgerRecord } from '../gpu/ledger.js';
import { type ClaimOptions, checked, claimOptions, type NeedOptions, needOptions, requestOf } from './gpu-request.js';
import { partitionNumbers, partText, stepCommands, type ToldNode, timeText } from './gpu-text.js';
import { ask, gpuPath, type ServerOptions, serverOptions } from './server-client.js';
import { wholeNumber } from './suggest.js';
import { printJson, textTable } from './terminal.js';

interface Explained {
  readonly fits: readonly string[];
  readonly gpus: readonly GpuRefusal[];
  readonly answer: GpuGrant | GpuDenial;
}

/** `iguana gpu explain`: what an allocation would get, GPU by GPU. */
export function gpuExplainCommand(): Command {
  const command = new Command('explain')
    .description('Say of each GPU whether it would do, or why not; nothing is allocated')
    .argument('[instance]', 'the workload that would ask');
  return serverOptions(claimOptions(needOptions(command)))
    .addHelpText(
      'after',
      '\nExamples:\n  iguana gpu explain --memory 40000 --model A100\n  iguana gpu explain train --gpus 4',
    )
    .action(async (instance: string | undefined, options: ServerOptions & NeedOptions & ClaimOptions) => {
      const body = { ...requestOf(options), ...defined({ instance }) };
      const explained = await ask<Explained>(options, 'POST', gpuPath('explain'), body);
      if (options.json) return printJson(explained);
      const nodes = await ask<ToldNode[]>(options, 'GET', gpuPath('nodes'));
      process.stdout.write(`${explainText(explained, nodes)}\n`);
    });
}

function explainText({ fits, gpus, answer }: Explained, nodes: readonly ToldNode[]): string {
  const would = new Set(fits);
  // one that is known by its bus address only may have a namesake on another node
  const keyOf = (node: string, id: string): string => `${node}\n${id}`;
  const refused = new Map(gpus.map((refusal) => [keyOf(refusal.node, refusal.gpuId), refusal]));
  const rows = nodes.flatMap(({ node, silent, gpus: told }) =>
    told.map(({ id, name }) => {
      const refusal = refused.get(keyOf(node, id));
      const otherwise = would.has(id) && !silent ? 'would do' : 'its node is silent';
      return [id, node, String(name ?? '-'), refusal ? `${refusal.code}: ${refusal.what}` : otherwise];
    }),
  );
  const outcome = answer.granted
    ? `An allocation would get ${answer.gpuIds.join(', ')} of ${answer.node} (${answer.mode}).`
    : `An allocation would be refused: ${answer.what}.`;
  const ended = answer.granted && answer.preempted.length > 0 ? `It would end ${answer.preempted.join(', ')}.` : '';
  const header = ['GPU', 'node', 'model', 'answer'];
  return [rows.length > 0 ? textTable(header, rows) : 'There are no GPUs.', outcome, ended].filter(Boolean).join('\n');
}

/** `iguana gpu plan`: what would make more GPUs usable. */
export function gpuPlanCommand(): Command {
  const command = new Command('plan')
    .description('Show moves of workloads that make more GPUs usable, and partitions to be made; nothing is done')
    .option('--max-moves <n>', 'at most so many (default: 10)', checked('--max-moves', wholeNumber(1, 1_000)));
  return serverOptions(command)
    .addHelpText('after', '\nExamples:\n  iguana gpu plan\n  iguana gpu plan --max-moves 3 --json')
    .action(async (options: ServerOptions & { maxMoves?: number }) => {
      const asked = options.maxMoves === undefined ? '' : `?maxMoves=${options.maxMoves}`;
      const plan = await ask<GpuPlan>(options, 'GET', gpuPath('plan') + asked);
      if (options.json) return printJson(plan);
      process.stdout.write(`${await planText(plan, options)}\n`);
    });
}

async function planText(
  { moves, unusableBefore, unusableAfter, partitions }: GpuPlan,
  options: ServerOptions,
): Promise<string> {
  const unusable = `what was asked for so far cannot use ${number(unusableBefore)} GPUs that are free`;
  const lines =
    moves.length === 0
      ? [`No move helps; ${unusable}.`]
      : [
          `Now ${unusable}; after ${moves.length} ${moves.length === 1 ? 'move' : 'moves'} ${number(unusableAfter)}:`,
          textTable(
            ['instance', 'allocation', 'from', 'to', 'gain'],
            moves.map(({ instance, allocation, from, to, gain }) => [
              instance,
              allocation,
              placeText(from),
              placeText(to),
              number(gain),
            ]),
          ),
        ];
  const allSteps = partitions.flatMap(({ steps }) => steps);
  const numbers = await partitionNumbers(options, allSteps);
  for (const { allocation, node, steps } of partitions) {
    lines.push(`${allocation} waits for its partition; on ${node}:`);
    for (const command of stepCommands(steps, numbers)) lines.push(`  ${command}`);
  }
  return lines.join('\n');
}

/** `iguana gpu allocations`: who holds what, and who waits. */
export function gpuAllocationsCommand(): Command {
  return serverOptions(
    new Command('allocations').description('Show who holds which GPUs, for whom they are kept, and who waits'),
  )
    .addHelpText('after', '\nExamples:\n  iguana gpu allocations\n  iguana gpu allocations --json')
    .action(async (options: ServerOptions) => {
      const [records, waiting] = await Promise.all([
        ask<LedgerRecord[]>(options, 'GET', gpuPath('allocations')),
        ask<WaitingRequest[]>(options, 'GET', gpuPath('waiting')),
      ]);
      if (options.json) return printJson({ records, waiting });
      process.stdout.write(`${allocationsText(records, waiting, Date.now())}\n`);
    });
}

function allocationsText(records: readonly LedgerRecord[], waiting: readonly WaitingRequest[], now: number): string {
  const parts: string[] = [];
  const rows = records.map(({ id, owner, holdings, expiresAt }) => {
    const [first] = holdings;
    return [
      id,
      owner,
      first?.node ?? '-',
      holdings.map(({ gpuId }) => gpuId).join(', '),
      first?.mode ?? '-',
      first ? partText(first.shareMilli, first.memoryMb, first.partition?.profile) : '-',
      endText(expiresAt, now),
    ];
  });
  if (rows.length > 0) parts.push(textTable(['id', 'owner', 'node', 'GPUs', 'mode', 'of each', 'ends'], rows));
  else parts.push('Nobody holds a GPU.');
  const asks = waiting.map(({ instance, gang, owner, gpuCount, priority, since, until, what }) => [
    gang === null ? instance : `${instance} (gang ${gang})`,
    owner,
    String(gpuCount),
    String(priority),
    timeText(Math.max(0, now - since)),
    timeText(Math.max(0, until - now)),
    what,
  ]);
  const header = ['waiting', 'owner', 'GPUs', 'priority', 'since', 'still', 'why'];
  if (asks.length > 0) parts.push('', textTable(header, asks));
  return parts.join('\n');
}

/** What is due goes at the next look, or once the holder could be heard for the time of its lease. */
function endText(expiresAt: number | null, now: number): string {
  if (expiresAt === null) return 'never';
  return expiresAt <= now ? 'due' : `in ${timeText(expiresAt - now)}`;
}

const number = (value: number): string => String(Number(value.toFixed(2)));

function placeText({ node, gpuIds }: { node: string; gpuIds: readonly string[] }): string {
  return `${node}: ${gpuIds.join(', ')}`;
}
