import { gpuValueLimits } from '../../limits.js';
import type { GpuProcess } from '../types.js';
import { absent } from '../types.js';
import { readCsvTable } from './csv-table.js';
import { bounds, numberFact, Problems, wordFact } from './reading.js';

/** The name comes last, for it may hold commas. */
export const nvidiaAppFields = ['gpu_uuid', 'pid', 'used_gpu_memory', 'process_name'] as const;

const columns = new Set([...nvidiaAppFields, 'gpu_name', 'gpu_bus_id', 'gpu_serial', 'used_memory', 'name']);

/**
 * Reads `--query-compute-apps=… --format=csv`. On a GPU split by MIG the tool names the parent and no instance: the XML tells that.
 */
export function parseNvidiaApps(text: string): {
  readonly byGpu: ReadonlyMap<string, readonly GpuProcess[]>;
  /** It is an answer: whoever is not in it does not run. */
  readonly answered: boolean;
  readonly problems: readonly string[];
} {
  const table = readCsvTable(text, (column) => columns.has(column), 'process_name');
  const problems = new Problems();
  const none = table.others.some((line) => /no running processes/i.test(line));
  if (table.headed || !none) for (const problem of table.problems) problems.add(problem);
  for (const line of table.others) if (!/no running processes/i.test(line)) problems.add(line);
  const byGpu = new Map<string, GpuProcess[]>();
  for (const row of table.rows) {
    const gpu = wordFact(row.get('gpu_uuid')?.text ?? '');
    const pid = numberFact(row.get('pid')?.text ?? '', 'count', bounds.pid);
    if (gpu.absent !== undefined || pid.absent !== undefined) {
      problems.add(`a process without ${gpu.absent !== undefined ? 'GPU' : 'number'}`);
      continue;
    }
    const memory = row.get('used_gpu_memory') ?? row.get('used_memory');
    const of = byGpu.get(gpu.value) ?? [];
    byGpu.set(gpu.value, of);
    if (of.length >= gpuValueLimits.maxProcesses) {
      problems.add(`more than ${gpuValueLimits.maxProcesses} processes on ${gpu.value}`);
      continue;
    }
    of.push({
      pid: pid.value,
      name: wordFact(row.get('process_name')?.text ?? ''),
      memoryMb: memory ? numberFact(memory.text, 'MiB', bounds.memory, memory.unit) : absent('not-reported'),
      partition: absent('not-reported'),
    });
  }
  return { byGpu, answered: table.headed || none, problems: problems.list };
}
