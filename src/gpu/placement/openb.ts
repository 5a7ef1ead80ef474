import { IguanaError } from '../../errors.js';
import { type GpuDemand, type PlacementNode, WHOLE_GPU } from './demand.js';

interface Row {
  (column: string): string;
  readonly where: string;
}

/**
 * Nodes of a cluster from CSV with the openb trace's columns, found by header: `sn,cpu_milli,memory_mib,gpu,model`.
 * @throws IguanaError `IGU_CSV_ROW` naming line and column
 */
export function readNodes(text: string, path = 'nodes'): PlacementNode[] {
  return rows(text, path, ['sn', 'cpu_milli', 'memory_mib', 'gpu', 'model']).map((row) => ({
    id: row('sn'),
    model: row('model'),
    cpuMilli: whole(row, 'cpu_milli'),
    memoryMb: whole(row, 'memory_mib'),
    gpus: whole(row, 'gpu'),
  }));
}

/**
 * Workloads from CSV with the openb trace's columns: `cpu_milli,memory_mib,num_gpu,gpu_milli`, and `gpu_spec` (models parted by `|`) where it is there.
 * @throws IguanaError `IGU_CSV_ROW`
 */
export function readDemands(text: string, path = 'workloads'): GpuDemand[] {
  return rows(text, path, ['cpu_milli', 'memory_mib', 'num_gpu', 'gpu_milli']).map((row) => {
    const gpuCount = whole(row, 'num_gpu');
    const milli = whole(row, 'gpu_milli');
    if (gpuCount > 0 && (milli < 1 || milli > WHOLE_GPU))
      throw csvError(row.where, `gpu_milli is ${milli}, not 1 to ${WHOLE_GPU}`);
    const spec = row('gpu_spec');
    return {
      cpuMilli: whole(row, 'cpu_milli'),
      memoryMb: whole(row, 'memory_mib'),
      gpuCount,
      gpuMilli: gpuCount === 0 ? 0 : gpuCount > 1 ? WHOLE_GPU : milli,
      ...(spec !== '' && { models: spec.split('|') }),
    };
  });
}

function rows(text: string, path: string, needed: readonly string[]): Row[] {
  const [header = '', ...lines] = text.trim().split(/\r?\n/);
  const columns = header.split(',').map((name) => name.trim());
  const missing = needed.filter((name) => !columns.includes(name));
  if (missing.length > 0)
    throw csvError(`${path}:1`, `no column ${missing.join(', ')}; there are ${columns.join(', ')}`);
  return lines.map((content, i) => {
    const cells = content.split(',');
    const cell = (column: string): string => cells[columns.indexOf(column)]?.trim() ?? '';
    return Object.assign(cell, { where: `${path}:${i + 2}` });
  });
}

function whole(row: Row, column: string): number {
  const text = row(column);
  const value = Number(text);
  if (text === '' || !Number.isInteger(value) || value < 0)
    throw csvError(row.where, `${column} is "${text}", not a whole number`);
  return value;
}

function csvError(where: string, what: string): IguanaError {
  const at = where.lastIndexOf(':');
  const fix = 'the columns are those of the openb trace: see docs/gpu-placement.md';
  return new IguanaError('IGU_CSV_ROW', { path: where.slice(0, at), line: where.slice(at + 1), what, fix });
}
