import type { HeldGpu } from '../dashboard/gpu-holders.js';
import { gpusText, partText, type ToldNode, timeText } from './gpu-text.js';
import { ask, gpuPath, type ServerOptions } from './server-client.js';
import { paint, printJson, textTable } from './terminal.js';

/** `iguana gpu list --cluster`: all nodes as a running Iguana knows them, and who holds their GPUs. */
export async function listCluster(options: ServerOptions): Promise<void> {
  const nodes = await ask<ToldNode[]>(options, 'GET', gpuPath('nodes'));
  if (options.json) printJson(nodes);
  else process.stdout.write(`${clusterText(nodes, Date.now())}\n`);
}

function clusterText(nodes: readonly ToldNode[], now: number): string {
  if (nodes.length === 0)
    return 'No node has told of GPUs: none has any, or no tool for them (see `iguana gpu list` there), or none has looked yet.';
  return nodes
    .map(({ node, at, silent, gpus }) => {
      const heard = silent ? paint('red', `silent for ${timeText(Math.max(0, now - at))}`) : 'heard';
      const rows = gpus.map((gpu) => [
        gpu.id,
        String(gpu.name ?? '-'),
        `${gib(gpu.memoryUsedMb)} / ${gib(gpu.memoryTotalMb)}`,
        typeof gpu.utilization === 'number' ? `${gpu.utilization} %` : '-',
        healthText(gpu.health, gpu.stale === true),
        gpu.holders.map(holderText).join('; ') || '-',
      ]);
      const table = rows.length > 0 ? `\n${textTable(header, rows)}` : '';
      return `${node}: ${gpusText(gpus.length)}, ${heard}${table}`;
    })
    .join('\n\n');
}

const header = ['GPU', 'model', 'memory GiB', 'load', 'health', 'held by'];

const gib = (mib: unknown): string => (typeof mib === 'number' ? (mib / 1024).toFixed(1) : '-');

function healthText(health: unknown, stale: boolean): string {
  const state = typeof health === 'object' && health !== null && 'state' in health ? String(health.state) : '-';
  return stale ? `${state} (stale)` : state;
}

function holderText({ kind, instance, owner, mode, memoryMb, shareMilli, partition }: HeldGpu): string {
  const who = kind === 'reservation' || instance === null ? `reserved for ${owner}` : instance;
  return mode === 'exclusive' ? who : `${who} (${mode}, ${partText(shareMilli, memoryMb, partition?.profile)})`;
}
