import { Command, InvalidArgumentError } from 'commander';
import { wallClock } from '../clock.js';
import { IguanaError } from '../errors.js';
import { discover, GpuDiscovery } from '../gpu/discovery.js';
import { type GpuChange, type GpuInventory, gpuSamples } from '../gpu/inventory.js';
import { GpuMonitor } from '../gpu/monitor.js';
import { toldGpu } from '../gpu/plain-gpu.js';
import { ToolRunner } from '../gpu/tools/run-tool.js';
import type { Fact, Gpu, HealthState } from '../gpu/types.js';
import { listCluster } from './gpu-cluster.js';
import { checked } from './gpu-request.js';
import { type ServerOptions, serverAddress } from './server-client.js';
import { wholeNumber } from './suggest.js';
import { paint, printJson, textTable } from './terminal.js';
import { untilStopped } from './until-stopped.js';

const colours = { ok: 'green', degraded: 'yellow', draining: 'yellow', lost: 'red' } as const satisfies Record<
  HealthState,
  string
>;

/** Between two looks, s: a tool takes longer than the shortest anyway; the longest is a day. */
const SHORTEST = 0.05;
const LONGEST = 86_400;

/** `iguana gpu list`: the GPUs of this machine, asked once; or those of all nodes, from a running Iguana. */
export function gpuListCommand(): Command {
  const command = new Command('list')
    .description('The GPUs of this machine: memory, load, temperature, power, partitions, processes and health')
    .option(
      '--json',
      'print an array of GPUs, a field a fact; null has its reason in "absent" (docs/gpu.md); with --cluster one of nodes, each with such GPUs and their holders',
    )
    .option('--cluster', 'those of all nodes and who holds them, from a running Iguana');
  return serverAddress(command)
    .addHelpText('after', '\nExamples:\n  iguana gpu list\n  iguana gpu list --json\n  iguana gpu list --cluster')
    .action(async (options: ServerOptions & { cluster?: boolean }) => {
      const { json, cluster } = options;
      if (cluster) return listCluster(options);
      const inventory = await discover(new ToolRunner().run, wallClock);
      const { gpus, tools, summary, problems } = inventory;
      const wrong = tools.filter(({ state }) => state === 'failed' || state === 'no-driver');
      if (json) printJson(gpus.map(toldGpu));
      else if (gpus.length > 0) process.stdout.write(`${inventoryText(inventory)}\n`);
      else if (wrong.length === 0) process.stdout.write(`${summary}\n`);
      for (const problem of problems) process.stderr.write(`${paint('dim', problem, process.stderr)}\n`);
      // none is told of then, which is not the same as none there
      if (wrong.length > 0)
        throw new IguanaError('IGU_GPU_TOOL', {
          what: wrong.map(({ command, what }) => `${command}: ${what}`).join('; '),
          command: wrong.map(({ command }) => command).join(' and '),
        });
      if (json && gpus.length === 0) process.stderr.write(`${summary}\n`);
    });
}

interface WatchOptions {
  json?: boolean;
  every: number;
  times?: number;
}

/** `iguana gpu watch`: a line for every change. */
export function gpuWatchCommand(): Command {
  return withTimes(new Command('watch'))
    .description('Watch the GPUs of this machine and tell what changes: found, lost, health, partitions, stale data')
    .option('--json', 'print a line of JSON a look: inventory time, samples and changes')
    .addHelpText('after', '\nExamples:\n  iguana gpu watch\n  iguana gpu watch --json --every 5 --times 3')
    .action((options: WatchOptions) =>
      watch(options, (inventory, changes) => {
        if (options.json) {
          const told = changes.map(({ kind, gpu, what }) => ({ kind, gpu: gpu.id, health: gpu.health.state, what }));
          process.stdout.write(
            `${JSON.stringify({ at: inventory.takenAt, changes: told, samples: gpuSamples(inventory) })}\n`,
          );
          return;
        }
        const time = new Date(inventory.takenAt).toISOString().slice(11, 19);
        for (const { kind, gpu, what } of changes)
          process.stdout.write(`${paint('dim', time)}  ${paint(colours[gpu.health.state], kind)}  ${what}\n`);
      }),
    );
}

/** `iguana gpu top`: the table again and again. */
export function gpuTopCommand(): Command {
  return withTimes(new Command('top'))
    .description('The GPUs of this machine and what runs on them, refreshed; q ends')
    .option('--json', 'print a line of JSON a look: the array of "list --json"')
    .addHelpText('after', '\nExamples:\n  iguana gpu top\n  iguana gpu top --json --times 1')
    .action((options: WatchOptions) =>
      watch(options, (inventory) => {
        if (options.json) process.stdout.write(`${JSON.stringify(inventory.gpus.map(toldGpu))}\n`);
        else process.stdout.write(`${process.stdout.isTTY ? '\u001b[H\u001b[2J' : ''}${topText(inventory)}\n`);
      }),
    );
}

function withTimes(command: Command): Command {
  return command
    .option('--every <seconds>', 'between two looks', checked('--every', seconds), 1)
    .option(
      '--times <n>',
      'end after so many looks; else when asked to',
      checked('--times', wholeNumber(1, 1_000_000_000)),
    );
}

function seconds(given: string): number {
  const value = Number(given);
  if (!(value >= SHORTEST && value <= LONGEST))
    throw new InvalidArgumentError(`Seconds from ${SHORTEST} to ${LONGEST} are needed, such as 5.`);
  return value;
}

async function watch(
  options: WatchOptions,
  show: (inventory: GpuInventory, changes: readonly GpuChange[]) => void,
): Promise<void> {
  const monitor = new GpuMonitor(new GpuDiscovery(new ToolRunner().run, wallClock), wallClock, {
    everyMs: 1000 * options.every,
  });
  let looks = 0;
  let enough = (_: number): void => undefined;
  const done = new Promise<number>((resolve) => (enough = resolve));
  monitor.onLook((inventory, changes) => {
    if (options.times !== undefined && looks >= options.times) return;
    show(inventory, changes);
    if (++looks === options.times) enough(0);
  });
  const stopped = options.times === undefined ? untilStopped() : done;
  const first = await monitor.start();
  if (first.gpus.length === 0) process.stderr.write(`${first.summary}\n`);
  process.exitCode = await stopped;
  await monitor.stop();
}

const text = (fact: Fact, unit = '', digits = 0): string =>
  fact.value === null ? '-' : `${fact.value.toFixed(digits)}${unit && ` ${unit}`}`;

const gib = (fact: Fact): string => (fact.value === null ? '-' : (fact.value / 1024).toFixed(1));

function rowOf(gpu: Gpu): string[] {
  return [
    gpu.id,
    gpu.name,
    `${gib(gpu.memoryUsedMb)} / ${gib(gpu.memoryTotalMb)}`,
    text(gpu.utilization, '%'),
    text(gpu.temperature),
    `${text(gpu.power)} / ${text(gpu.powerLimit)}`,
    gpu.processes === null ? '-' : String(gpu.processes.length),
    `${gpu.health.state}${gpu.stale ? ' (stale)' : ''}`,
  ];
}

const header = ['GPU', 'model', 'memory GiB', 'load', '°C', 'power W', 'processes', 'health'];

function inventoryText(inventory: GpuInventory): string {
  if (inventory.gpus.length === 0) return inventory.summary;
  const lines = [textTable(header, inventory.gpus.map(rowOf))];
  for (const gpu of inventory.gpus) {
    for (const { id, profile, memoryUsedMb, memoryTotalMb } of gpu.partitions)
      lines.push(`  ${profile.value ?? 'partition'}  ${id}  ${gib(memoryUsedMb)} / ${gib(memoryTotalMb)} GiB`);
    for (const { state, what, action } of gpu.health.causes)
      lines.push(`${paint(colours[state], state)}  ${gpu.id}: ${what}; ${action}`);
  }
  return lines.join('\n');
}

function topText(inventory: GpuInventory): string {
  const processes = inventory.gpus.flatMap((gpu) => (gpu.processes ?? []).map((one) => ({ gpu, one })));
  processes.sort((a, b) => (b.one.memoryMb.value ?? -1) - (a.one.memoryMb.value ?? -1));
  const rows = processes
    .slice(0, 20)
    .map(({ gpu, one }) => [String(one.pid), one.name.value ?? '-', text(one.memoryMb), one.partition.value ?? gpu.id]);
  const table = rows.length > 0 ? `\n\n${textTable(['pid', 'process', 'MiB', 'on'], rows)}` : '';
  return `${inventoryText(inventory)}${table}`;
}
