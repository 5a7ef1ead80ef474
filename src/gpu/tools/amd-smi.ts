import { gpuValueLimits } from '../../limits.js';
import type { Fact, GpuProcess } from '../types.js';
import { absent, known } from '../types.js';
import { isObject, type Json, type JsonObject, jsonAt, jsonBlocks, jsonText } from './json-blocks.js';
import type { Bounds, GpuFacts, GpuReading, Quantity, ToolReading } from './reading.js';
import { bounds, firstFact, kebab, mapFact, numberFact, Problems, withinTotal, wordFact } from './reading.js';

/** The answers of amd-smi with `--json`. Each is optional: what is not told is absent. */
export interface AmdAnswers {
  /** `list` */
  readonly list?: string | undefined;
  /** `static` */
  readonly static?: string | undefined;
  /** `metric` */
  readonly metric?: string | undefined;
  /** `process` */
  readonly process?: string | undefined;
}

type Path = readonly string[];

/**
 * Reads answers of amd-smi: a bare list, `{"gpu_data": […]}`, or several lists one after the other. GPUs are joined by the tool's number, which is the same in
 * answers of one moment. amd-smi says MB and counts MiB.
 */
export function parseAmdSmi(answers: AmdAnswers): ToolReading {
  const problems = new Problems();
  const byNumber = new Map<number, Partial<Record<keyof AmdAnswers, JsonObject>>>();
  for (const part of ['list', 'static', 'metric', 'process'] as const) {
    const text = answers[part];
    if (text === undefined) continue;
    const { blocks, problems: odd } = jsonBlocks(text);
    for (const what of odd) problems.add(`${part}: ${what}`);
    for (const entry of blocks.flatMap(entriesOf)) {
      const number = numberOf(entry);
      if (number === undefined) continue;
      const one = byNumber.get(number) ?? {};
      byNumber.set(number, one);
      // the tool sometimes prints a list twice: what came first stays, and what the second adds is added
      one[part] = { ...entry, ...one[part] };
    }
  }
  const gpus = [...byNumber].map(([number, told]) => gpuOf(number, told, problems));
  return { gpus, problems: problems.list };
}

/** Whether there is a list of GPUs in it, be it an empty one: then those that are not in it are not there. */
export function isAmdAnswer(text: string): boolean {
  return jsonBlocks(text).blocks.some(
    (block) => Array.isArray(block) || Array.isArray(jsonAt(block, 'gpu_data')) || (isObject(block) && 'gpu' in block),
  );
}

function entriesOf(block: Json): readonly JsonObject[] {
  if (Array.isArray(block)) return (block as readonly Json[]).filter(isObject);
  const data = jsonAt(block, 'gpu_data');
  if (Array.isArray(data)) return (data as readonly Json[]).filter(isObject);
  return isObject(block) ? [block] : [];
}

function numberOf(entry: JsonObject): number | undefined {
  const text = jsonText(entry.gpu);
  const fact = text === undefined ? undefined : numberFact(text, 'count', bounds.index);
  return fact?.value ?? undefined;
}

function gpuOf(number: number, told: Partial<Record<keyof AmdAnswers, JsonObject>>, problems: Problems): GpuReading {
  const text = (paths: readonly Path[]): readonly string[] =>
    paths.flatMap(([part, ...path]) => jsonText(jsonAt(told[part as keyof AmdAnswers], ...path)) ?? []);
  const word = (...paths: readonly Path[]): Fact<string> => firstFact(text(paths).map(wordFact));
  const count = (quantity: Quantity, within: Bounds, ...paths: readonly Path[]): Fact =>
    firstFact(text(paths).map((one) => numberFact(one, quantity, within)));
  const memory = (name: string): Fact => count('MiB', bounds.memory, ['metric', 'mem_usage', name]);
  const facts: Partial<GpuFacts> = {
    index: known(number),
    busId: word(['list', 'bdf'], ['static', 'bus', 'bdf']),
    serial: word(['static', 'asic', 'asic_serial'], ['static', 'board', 'product_serial']),
    driver: word(['static', 'driver', 'version']),
    architecture: word(['static', 'asic', 'target_graphics_version']),
    memoryTotalMb: firstFact([
      memory('total_vram'),
      count('MiB', bounds.memory, ['static', 'vram', 'size'], ['static', 'vram', 'vram_size_mb']),
    ]),
    memoryUsedMb: memory('used_vram'),
    memoryFreeMb: memory('free_vram'),
    utilization: count('%', bounds.percent, ['metric', 'usage', 'gfx_activity'], ['metric', 'usage', 'gfx_usage']),
    memoryUtilization: count(
      '%',
      bounds.percent,
      ['metric', 'usage', 'umc_activity'],
      ['metric', 'usage', 'mem_usage'],
    ),
    // data-centre GPUs have no sensor at the edge
    temperature: count(
      'C',
      bounds.temperature,
      ['metric', 'temperature', 'edge'],
      ['metric', 'temperature', 'hotspot'],
    ),
    memoryTemperature: count('C', bounds.temperature, ['metric', 'temperature', 'mem']),
    power: count(
      'W',
      bounds.power,
      ['metric', 'power', 'socket_power'],
      ['metric', 'power', 'average_socket_power'],
      ['metric', 'power', 'current_power'],
    ),
    powerLimit: count(
      'W',
      bounds.power,
      ['metric', 'power', 'power_limit'],
      ['static', 'limit', 'socket_power'],
      ['static', 'limit', 'current_power'],
    ),
    coreClock: count('MHz', bounds.clock, ['metric', 'clock', 'gfx_0', 'clk'], ['metric', 'clock', 'gfx', 'cur_clk']),
    memoryClock: count('MHz', bounds.clock, ['metric', 'clock', 'mem_0', 'clk'], ['metric', 'clock', 'mem', 'cur_clk']),
    fanPercent: count('%', bounds.fan, ['metric', 'fan', 'usage']),
    partitionMode: word(['static', 'partition', 'accelerator_partition'], ['static', 'partition', 'compute_partition']),
  };
  const uncorrected = count('count', bounds.count, ['metric', 'ecc', 'total_uncorrectable_count']);
  const processes = processesOf(told.process, problems);
  return {
    vendor: 'amd',
    uuid: word(['list', 'uuid']),
    name: word(['static', 'asic', 'market_name'], ['static', 'board', 'product_name']),
    facts: withinTotal(facts),
    signals: { eccUncorrectedVolatile: uncorrected, throttleReasons: throttleOf(told.metric) },
    ...(processes && { processes }),
  };
}

/** `throttle: {"prochot_violation_status": "NOT ACTIVE", …}` of newer versions. */
function throttleOf(metric: JsonObject | undefined): Fact<readonly string[]> {
  const group = jsonAt(metric, 'throttle');
  if (group === undefined) return absent('not-reported');
  if (!isObject(group)) return mapFact(wordFact(jsonText(group) ?? ''), () => absent('invalid'));
  const states = Object.entries(group).filter(([key]) => key.endsWith('_violation_status'));
  const told = states.flatMap(([key, value]) => {
    const text = (jsonText(value) ?? '').toUpperCase();
    return text === 'ACTIVE' || text === 'NOT ACTIVE' ? [{ key, active: text === 'ACTIVE' }] : [];
  });
  if (told.length === 0) return absent('not-supported');
  return known(told.filter(({ active }) => active).map(({ key }) => kebab(key.replace('_violation_status', ''))));
}

function processesOf(entry: JsonObject | undefined, problems: Problems): GpuProcess[] | undefined {
  const list = jsonAt(entry, 'process_list');
  if (!Array.isArray(list)) return undefined;
  const found: GpuProcess[] = [];
  for (const item of list as readonly Json[]) {
    const info = jsonAt(item, 'process_info') ?? item;
    // a sentence: nothing runs
    if (!isObject(info)) {
      if (typeof info !== 'string' || !/no running|n\/a/i.test(info)) problems.add('process: an entry that is none');
      continue;
    }
    const pid = numberFact(jsonText(info.pid) ?? '', 'count', bounds.pid);
    if (pid.absent !== undefined || found.length >= gpuValueLimits.maxProcesses) {
      problems.add('process: an entry without number, or more than are kept');
      continue;
    }
    const memory = jsonText(info.mem_usage) ?? jsonText(jsonAt(info, 'memory_usage', 'vram_mem'));
    const bytes = memory !== undefined && /^\s*\d+\s*$/.test(memory) ? `${memory} B` : memory;
    found.push({
      pid: pid.value,
      name: wordFact(jsonText(info.name) ?? ''),
      memoryMb: numberFact(bytes ?? '', 'MiB', bounds.memory),
      partition: absent('not-reported'),
    });
  }
  return found;
}
