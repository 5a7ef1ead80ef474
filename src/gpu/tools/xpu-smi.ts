import { gpuValueLimits } from '../../limits.js';
import type { Fact, GpuProcess } from '../types.js';
import { absent, known } from '../types.js';
import { isObject, type Json, type JsonObject, jsonAt, jsonBlocks, jsonText } from './json-blocks.js';
import type { Bounds, GpuReading, Quantity, ToolReading } from './reading.js';
import { bounds, firstFact, numberFact, Problems, withinTotal, wordFact } from './reading.js';

/** The answers of xpu-smi 1 with `-j`. */
export interface XpuAnswers {
  /** `discovery` */
  readonly discovery: string;
  /** `discovery -d N`, by N. */
  readonly details?: ReadonlyMap<number, string>;
  /** `stats -d N`, by N. */
  readonly stats?: ReadonlyMap<number, string>;
  /** Why there are no `stats -d N`, by N. */
  readonly failed?: ReadonlyMap<number, string>;
  /** `ps` */
  readonly ps?: string | undefined;
}

/** Numbers of the devices in `discovery -j`, without virtual functions: those would be counted twice. */
export function xpuDevices(discovery: string): readonly number[] {
  return physical(discovery, new Problems()).map(({ number }) => number);
}

/** Whether there is a list of devices in it, be it an empty one: then those that are not in it are not there. */
export function isXpuAnswer(discovery: string): boolean {
  return Array.isArray(jsonAt(firstObject(discovery, 'discovery', new Problems()), 'device_list'));
}

/** Reads answers of xpu-smi 1. Memory used is MiB in this tool's JSON; the size of memory is bytes; what a device does not measure is not in the answer. */
export function parseXpuSmi(answers: XpuAnswers): ToolReading {
  const problems = new Problems();
  const processes = answers.ps === undefined ? undefined : processesOf(answers.ps, problems);
  const gpus = physical(answers.discovery, problems).map(({ number, device }): GpuReading => {
    const details = firstObject(answers.details?.get(number), `device ${number}`, problems);
    const told = firstObject(answers.stats?.get(number), `statistics of ${number}`, problems);
    const stats = statsOf(told);
    const why = answers.failed?.get(number);
    if (why !== undefined) problems.add(`statistics of ${number}: ${why}`);
    // a device that answers leaves out what it does not measure
    const wrong = why !== undefined || (told === undefined && answers.stats?.has(number));
    const otherwise = absent(wrong ? 'driver-error' : 'not-reported');
    const text = (...keys: readonly string[]): readonly string[] =>
      keys.flatMap((key) => jsonText(details?.[key]) ?? jsonText(device[key]) ?? []);
    const word = (...keys: readonly string[]): Fact<string> => firstFact(text(...keys).map(wordFact));
    const metric = (quantity: Quantity, within: Bounds, ...names: readonly string[]): Fact =>
      firstFact(names.map((name) => metricOf(stats, name, quantity, within) ?? otherwise));
    const own = processes?.get(number);
    return {
      vendor: 'intel',
      uuid: word('uuid'),
      name: word('device_name'),
      facts: withinTotal({
        index: known(number),
        busId: word('pci_bdf_address'),
        serial: word('serial_number'),
        driver: word('driver_version'),
        architecture: word('pci_device_id'),
        memoryTotalMb: firstFact(
          text('memory_physical_size_byte').map((size) => numberFact(size, 'MiB', bounds.memory, 'b')),
        ),
        memoryUsedMb: metric('MiB', bounds.memory, 'XPUM_STATS_MEMORY_USED'),
        utilization: metric('%', bounds.percent, 'XPUM_STATS_GPU_UTILIZATION'),
        memoryUtilization: metric('%', bounds.percent, 'XPUM_STATS_MEMORY_BANDWIDTH'),
        temperature: metric('C', bounds.temperature, 'XPUM_STATS_GPU_CORE_TEMPERATURE'),
        memoryTemperature: metric('C', bounds.temperature, 'XPUM_STATS_MEMORY_TEMPERATURE'),
        power: metric('W', bounds.power, 'XPUM_STATS_POWER'),
        coreClock: metric('MHz', bounds.clock, 'XPUM_STATS_GPU_FREQUENCY'),
      }),
      signals: {
        eccUncorrectedVolatile: metric('count', bounds.count, 'XPUM_STATS_RAS_ERROR_CAT_CACHE_ERRORS_UNCORRECTABLE'),
      },
      ...(processes && { processes: own ?? [] }),
    };
  });
  return { gpus, problems: problems.list };
}

function physical(discovery: string, problems: Problems): { number: number; device: JsonObject }[] {
  const answer = firstObject(discovery, 'discovery', problems);
  const list = jsonAt(answer, 'device_list');
  if (!Array.isArray(list)) return [];
  return (list as readonly Json[]).filter(isObject).flatMap((device) => {
    if (/virtual/i.test(jsonText(device.device_function_type) ?? '')) return [];
    const number = numberFact(jsonText(device.device_id) ?? '', 'count', bounds.index);
    if (number.absent === undefined) return [{ number: number.value, device }];
    problems.add('discovery: a device without number');
    return [];
  });
}

function firstObject(text: string | undefined, what: string, problems: Problems): JsonObject | undefined {
  if (text === undefined) return undefined;
  const { blocks, problems: odd } = jsonBlocks(text);
  for (const one of odd) problems.add(`${what}: ${one}`);
  const object = blocks.find(isObject);
  const error = jsonText(object?.error);
  if (error !== undefined) {
    problems.add(`${what}: ${error}`);
    return undefined;
  }
  return object;
}

/** By device where it tells so; a device of tiles only tells by tile: one tile is the device, of several there is no one value. */
function statsOf(stats: JsonObject | undefined): ReadonlyMap<string, JsonObject> {
  const found = new Map<string, JsonObject>();
  const add = (list: Json | undefined): void => {
    if (!Array.isArray(list)) return;
    for (const one of (list as readonly Json[]).filter(isObject)) {
      const name = jsonText(one.metrics_type);
      if (name !== undefined && !found.has(name)) found.set(name, one);
    }
  };
  add(jsonAt(stats, 'device_level'));
  const tiles = jsonAt(stats, 'tile_level');
  if (Array.isArray(tiles) && tiles.length === 1) add(jsonAt(tiles[0] as Json, 'data_list'));
  return found;
}

function metricOf(
  stats: ReadonlyMap<string, JsonObject>,
  name: string,
  quantity: Quantity,
  within: Bounds,
): Fact | undefined {
  const text = jsonText(stats.get(name)?.value);
  return text === undefined ? undefined : numberFact(text, quantity, within);
}

function processesOf(text: string, problems: Problems): Map<number, GpuProcess[]> | undefined {
  const list = jsonAt(firstObject(text, 'ps', problems), 'device_util_by_proc_list');
  if (!Array.isArray(list)) return undefined;
  const byDevice = new Map<number, GpuProcess[]>();
  for (const one of (list as readonly Json[]).filter(isObject)) {
    const device = numberFact(jsonText(one.device_id) ?? '', 'count', bounds.index);
    const pid = numberFact(jsonText(one.process_id) ?? '', 'count', bounds.pid);
    if (device.absent !== undefined || pid.absent !== undefined) {
      problems.add('ps: a process without device or number');
      continue;
    }
    const of = byDevice.get(device.value) ?? [];
    byDevice.set(device.value, of);
    if (of.length >= gpuValueLimits.maxProcesses) continue;
    of.push({
      pid: pid.value,
      name: wordFact(jsonText(one.process_name) ?? ''),
      memoryMb: numberFact(jsonText(one.mem_size) ?? '', 'MiB', bounds.memory, 'kib'),
      partition: absent('not-reported'),
    });
  }
  return byDevice;
}
