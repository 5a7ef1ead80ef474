import { gpuValueLimits } from '../../limits.js';
import type { Fact, GpuPartition, GpuProcess } from '../types.js';
import { absent, known } from '../types.js';
import { recoveryActionOf } from './nvidia-query.js';
import type { Bounds, GpuFacts, GpuReading, Quantity, ReadPartition, ToolReading } from './reading.js';
import {
  absenceOf,
  bounds,
  firstFact,
  kebab,
  mapFact,
  numberFact,
  Problems,
  sumFact,
  withinTotal,
  wordFact,
  yesNoFact,
} from './reading.js';
import { readXml, type XmlElement } from './xml.js';

/** Most of an answer, and nothing that is asked for. */
const unread = new Set(['supported_clocks', 'accounted_processes']);

/**
 * Reads `nvidia-smi -q -x` of the schemas 10 to 13 and of before they had a number. What has changed its place is looked for in each, newest first. Without a compute
 * capability: the XML has none. MIG devices have neither UUID nor profile in it: `joinMigDevices` adds them from `-L`.
 */
export function parseNvidiaXml(text: string): ToolReading {
  const { root, problem } = readXml(text, unread);
  const problems = new Problems();
  if (problem) problems.add(problem);
  if (root?.name !== 'nvidia_smi_log') {
    if (root) problems.add(`<${root.name}> where <nvidia_smi_log> should be`);
    return { gpus: [], problems: problems.list };
  }
  const driver = word(root, ['driver_version']);
  return { gpus: root.all('gpu').map((gpu, at) => gpuOf(gpu, at, driver, problems)), problems: problems.list };
}

/** The same, GPU by GPU with a pause between: the answer for 16 of them is a megabyte, and the event loop goes on. */
export async function parseNvidiaXmlInParts(text: string): Promise<ToolReading> {
  const begin = text.search(/<gpu[\s>]/);
  const parts = begin < 0 ? [] : text.slice(begin).split(/(?<=<\/gpu>)/);
  if (parts.length < 3) return parseNvidiaXml(text);
  const head = text.slice(0, begin);
  const end = parts.pop() as string;
  // what does not end as it should is cut, or no XML: then what there is of it is read in one
  if (end.trim() !== '</nvidia_smi_log>') return parseNvidiaXml(text);
  const gpus: GpuReading[] = [];
  const problems = new Problems();
  for (const part of parts) {
    const reading = parseNvidiaXml(`${head}${part}</nvidia_smi_log>`);
    gpus.push(...reading.gpus);
    for (const what of reading.problems) problems.add(what);
    await new Promise(setImmediate);
  }
  return { gpus, problems: problems.list };
}

type Path = readonly string[];

function word(of: XmlElement, ...paths: readonly Path[]): Fact<string> {
  return firstFact(
    paths.map((path) => {
      const element = of.at(...path);
      return element && wordFact(element.text);
    }),
  );
}

function number(of: XmlElement, quantity: Quantity, within: Bounds, ...paths: readonly Path[]): Fact {
  return firstFact(
    paths.map((path) => {
      const element = of.at(...path);
      return element && numberFact(element.text, quantity, within);
    }),
  );
}

function flag(of: XmlElement, ...path: Path): Fact<boolean> {
  const element = of.at(...path);
  if (element) return yesNoFact(element.text);
  // a whole group can be `N/A`
  const parent = of.at(...path.slice(0, -1));
  const why = parent && parent.text !== '' && absenceOf(parent.text);
  return absent(why || 'not-reported');
}

function gpuOf(gpu: XmlElement, at: number, driver: Fact<string>, problems: Problems): GpuReading {
  const memory = (part: string): Fact => number(gpu, 'MiB', bounds.memory, ['fb_memory_usage', part]);
  const power = (...names: readonly string[]): Fact =>
    number(
      gpu,
      'W',
      bounds.power,
      ...['gpu_power_readings', 'power_readings'].flatMap((group) => names.map((name) => [group, name])),
    );
  const facts: GpuFacts = {
    index: absent('not-reported'),
    busId: firstFact([wordFact(gpu.attributes.get('id') ?? ''), word(gpu, ['pci', 'pci_bus_id'])]),
    serial: word(gpu, ['serial']),
    driver,
    architecture: absent('not-reported'),
    memoryTotalMb: memory('total'),
    memoryUsedMb: memory('used'),
    memoryFreeMb: memory('free'),
    memoryReservedMb: memory('reserved'),
    utilization: number(gpu, '%', bounds.percent, ['utilization', 'gpu_util']),
    memoryUtilization: number(gpu, '%', bounds.percent, ['utilization', 'memory_util']),
    temperature: number(gpu, 'C', bounds.temperature, ['temperature', 'gpu_temp']),
    memoryTemperature: number(gpu, 'C', bounds.temperature, ['temperature', 'memory_temp']),
    power: power('average_power_draw', 'power_draw', 'instant_power_draw'),
    powerLimit: power('current_power_limit', 'enforced_power_limit', 'power_limit'),
    coreClock: number(gpu, 'MHz', bounds.clock, ['clocks', 'sm_clock'], ['clocks', 'graphics_clock']),
    memoryClock: number(gpu, 'MHz', bounds.clock, ['clocks', 'mem_clock']),
    fanPercent: number(gpu, '%', bounds.fan, ['fan_speed']),
    computeMode: word(gpu, ['compute_mode']),
    partitionMode: mapFact(word(gpu, ['mig_mode', 'current_mig']), (mode) => known(kebab(mode))),
  };
  const uuid = word(gpu, ['uuid']);
  const owner = uuid.value ?? facts.busId.value ?? `gpu-${at}`;
  const partitions = (gpu.at('mig_devices')?.all('mig_device') ?? []).map((device) => partitionOf(device, owner));
  const list = gpu.at('processes');
  return {
    vendor: 'nvidia',
    uuid,
    name: word(gpu, ['product_name']),
    facts: withinTotal(facts),
    signals: {
      eccUncorrectedVolatile: eccOf(gpu, 'volatile'),
      eccUncorrectedTotal: eccOf(gpu, 'aggregate'),
      remapPending: flag(gpu, 'remapped_rows', 'remapped_row_pending'),
      remapFailed: flag(gpu, 'remapped_rows', 'remapped_row_failure'),
      retiredPagesPending: firstFact([
        flag(gpu, 'retired_pages', 'pending_retirement'),
        flag(gpu, 'retired_pages', 'pending_blacklist'),
      ]),
      throttleReasons: throttleReasonsOf(gpu),
      recoveryAction: recoveryOf(gpu),
    },
    partitions,
    // `N/A`: not told, which is not the same as none
    ...(list && !/n\/a/i.test(list.text) && { processes: processesOf(list, partitions, problems) }),
  };
}

/** Corrected errors are no sign. Uncorrected ones are told by the kind of memory: their sum, where all are told. */
function eccOf(gpu: XmlElement, span: 'volatile' | 'aggregate'): Fact {
  const group = gpu.at('ecc_errors', span);
  if (!group) return absent('not-reported');
  const total = group.at('double_bit', 'total');
  if (total) return numberFact(total.text, 'count', bounds.count);
  const told = (name: string): Fact => number(group, 'count', bounds.count, [name]);
  const sram = group.at('sram_uncorrectable')
    ? [told('sram_uncorrectable')]
    : [told('sram_uncorrectable_parity'), told('sram_uncorrectable_secded')];
  return sumFact([...sram, told('dram_uncorrectable')]);
}

/** Of these every version tells. */
const expected = [
  'sw-power-cap',
  'hw-slowdown',
  'hw-thermal-slowdown',
  'hw-power-brake-slowdown',
  'sw-thermal-slowdown',
];

function throttleReasonsOf(gpu: XmlElement): Fact<readonly string[]> {
  const group = gpu.at('clocks_event_reasons') ?? gpu.at('clocks_throttle_reasons');
  if (!group) return absent('not-reported');
  if (group.children.length === 0) return absent(absenceOf(group.text) ?? 'invalid');
  const told = new Map(
    group.children.map(({ name, text }) => [
      kebab(name.replace(/^clocks_(event|throttle)_reason_/, '')),
      yesNoFact(text),
    ]),
  );
  const active: string[] = [];
  for (const reason of [...expected, 'sync-boost']) {
    const is = told.get(reason);
    // one that a device has not is not active; one that is missing might be
    if (!is && reason !== 'sync-boost') return absent('not-reported');
    if (is && is.absent !== undefined && is.absent !== 'not-supported') return is;
    if (is?.value) active.push(reason);
  }
  return known(active);
}

function recoveryOf(gpu: XmlElement): Fact<string> {
  const action = gpu.at('gpu_recovery_action');
  if (action) return recoveryActionOf(action.text);
  const reset = flag(gpu, 'gpu_reset_status', 'reset_required');
  if (reset.absent !== undefined) return reset;
  if (reset.value) return known('gpu-reset');
  return mapFact(flag(gpu, 'gpu_reset_status', 'drain_and_reset_recommended'), (drain) =>
    known(drain ? 'drain-and-reset' : 'none'),
  );
}

function partitionOf(device: XmlElement, owner: string): ReadPartition {
  const gpuInstance = number(device, 'count', bounds.index, ['gpu_instance_id']);
  const computeInstance = number(device, 'count', bounds.index, ['compute_instance_id']);
  return {
    device: number(device, 'count', bounds.index, ['index']),
    id: `${owner}/${gpuInstance.value ?? '?'}/${computeInstance.value ?? '?'}`,
    profile: absent('not-reported'),
    gpuInstance,
    computeInstance,
    placement: absent('not-reported'),
    memoryTotalMb: number(device, 'MiB', bounds.memory, ['fb_memory_usage', 'total']),
    memoryUsedMb: number(device, 'MiB', bounds.memory, ['fb_memory_usage', 'used']),
  };
}

function processesOf(list: XmlElement, partitions: readonly GpuPartition[], problems: Problems): GpuProcess[] {
  const found: GpuProcess[] = [];
  for (const process of list.all('process_info')) {
    const pid = number(process, 'count', bounds.pid, ['pid']);
    if (pid.absent !== undefined || found.length >= gpuValueLimits.maxProcesses) {
      problems.add(pid.absent !== undefined ? 'a process without number' : 'more processes than are kept');
      continue;
    }
    const instance = number(process, 'count', bounds.index, ['gpu_instance_id']);
    const compute = number(process, 'count', bounds.index, ['compute_instance_id']);
    const partition = partitions.find(
      (one) =>
        instance.absent === undefined &&
        compute.absent === undefined &&
        one.gpuInstance.value === instance.value &&
        one.computeInstance.value === compute.value,
    );
    found.push({
      pid: pid.value,
      name: word(process, ['process_name']),
      memoryMb: number(process, 'MiB', bounds.memory, ['used_memory']),
      partition: partition
        ? known(partition.id)
        : mapFact(instance, (gi) => mapFact(compute, (ci) => known(`${gi}/${ci}`))),
    });
  }
  return found;
}
