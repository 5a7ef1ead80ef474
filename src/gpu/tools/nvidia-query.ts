import type { Fact, GpuVendor } from '../types.js';
import { absent, known } from '../types.js';
import { type Cell, readCsvTable } from './csv-table.js';
import type { Bounds, GpuFacts, GpuReading, Quantity, ToolReading } from './reading.js';
import {
  absenceOf,
  bounds,
  firstFact,
  kebab,
  mapFact,
  numberFact,
  Problems,
  withinTotal,
  wordFact,
  yesNoFact,
} from './reading.js';

/** Each fact, and the names its field has had, the newest first; of several that are asked for the first with a value is taken. */
const fields = {
  uuid: ['uuid', 'gpu_uuid'],
  name: ['name', 'gpu_name'],
  index: ['index'],
  busId: ['pci.bus_id', 'gpu_bus_id'],
  serial: ['serial', 'gpu_serial'],
  driver: ['driver_version'],
  architecture: ['compute_cap'],
  memoryTotalMb: ['memory.total'],
  memoryReservedMb: ['memory.reserved'],
  memoryUsedMb: ['memory.used'],
  memoryFreeMb: ['memory.free'],
  utilization: ['utilization.gpu'],
  memoryUtilization: ['utilization.memory'],
  temperature: ['temperature.gpu'],
  memoryTemperature: ['temperature.memory'],
  power: ['power.draw', 'power.draw.average', 'power.draw.instant'],
  powerLimit: ['enforced.power.limit', 'power.limit'],
  coreClock: ['clocks.current.sm', 'clocks.sm', 'clocks.current.graphics', 'clocks.gr'],
  memoryClock: ['clocks.current.memory', 'clocks.mem'],
  fanPercent: ['fan.speed'],
  computeMode: ['compute_mode'],
  partitionMode: ['mig.mode.current'],
  eccUncorrectedVolatile: ['ecc.errors.uncorrected.volatile.total'],
  eccUncorrectedTotal: ['ecc.errors.uncorrected.aggregate.total'],
  remapPending: ['remapped_rows.pending'],
  remapFailed: ['remapped_rows.failure'],
  retiredPagesPending: ['retired_pages.pending'],
  throttleReasons: ['clocks_event_reasons.active', 'clocks_throttle_reasons.active'],
  recoveryAction: ['gpu_recovery_action'],
} as const;

type Field = keyof typeof fields;

const names = new Set<string>(Object.values(fields).flat());

/** What every version since 2014 knows: for when a tool does not say what it knows. */
const basicFields = [
  'uuid',
  'name',
  'index',
  'pci.bus_id',
  'driver_version',
  'memory.total',
  'memory.used',
  'memory.free',
  'utilization.gpu',
  'temperature.gpu',
];

/** Names of fields in the answer to `--help-query-gpu`: `"memory.total"`, or `"name" or "gpu_name"`. */
export function parseNvidiaHelp(text: string): ReadonlySet<string> {
  const found = new Set<string>();
  for (const line of text.split(/\r?\n/))
    if (/^\s*"[^"]+"(\s+or\s+"[^"]+")*\s*$/.test(line))
      for (const [, name] of line.matchAll(/"([^"]+)"/g)) if (name) found.add(name);
  return found;
}

/**
 * The fields to ask an installed version for: one unknown field makes its whole answer an error.
 *
 * @param known what it says to know; none: a few that every version knows
 */
export function nvidiaQueryFields(known: ReadonlySet<string>): readonly string[] {
  if (known.size === 0) return basicFields;
  return Object.values(fields).flatMap((candidates) => {
    const there = candidates.filter((name) => known.has(name));
    // power has fields that differ; of the others the second is the first by its old name
    return (candidates as readonly string[]).includes('power.draw') ? there : there.slice(0, 1);
  });
}

/** Bits of `clocks_event_reasons.active` (nvml.h). Idle, the clocks a user set and those of the display are no reasons to worry. */
const reasons: readonly (readonly [bigint, string])[] = [
  [0x4n, 'sw-power-cap'],
  [0x8n, 'hw-slowdown'],
  [0x10n, 'sync-boost'],
  [0x20n, 'sw-thermal-slowdown'],
  [0x40n, 'hw-thermal-slowdown'],
  [0x80n, 'hw-power-brake-slowdown'],
];

/** With whether it is an answer at all, so that GPUs that are not in it are not there: names of columns, and nothing but rows when there are none. */
interface QueryReading extends ToolReading {
  readonly answered: boolean;
}

/** Reads the rows of `--query-gpu=… --format=csv` (with header; with or without units). xpu-smi 2 answers in the same form. Cost: 20 µs a GPU. */
export function parseNvidiaQuery(text: string, vendor: GpuVendor = 'nvidia'): QueryReading {
  const table = readCsvTable(text, (column) => names.has(column), 'name');
  const problems = new Problems();
  for (const problem of table.problems) problems.add(problem);
  const gpus = table.rows.map((row) => gpuOf(row, vendor));
  const answered = table.headed && (gpus.length > 0 || table.others.length === 0);
  for (const line of table.others) {
    problems.add(line);
    const lost = lostGpuIn(line);
    if (lost) gpus.push({ ...emptyReading(vendor), facts: { busId: known(lost) }, lost: true });
  }
  return { gpus, answered, problems: problems.list };
}

/** The bus address in `Unable to determine the device handle for GPU0000:01:00.0: GPU is lost`. */
export function lostGpuIn(line: string): string | undefined {
  if (!/lost|fallen off|unknown error|unable to determine the device handle/i.test(line)) return undefined;
  return /GPU\s*([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])/i.exec(line)?.[1];
}

function emptyReading(vendor: GpuVendor): GpuReading {
  return { vendor, uuid: absent('lost'), name: absent('lost'), facts: {}, signals: {} };
}

function gpuOf(row: ReadonlyMap<string, Cell>, vendor: GpuVendor): GpuReading {
  const read = <T>(field: Field, how: (cell: Cell) => Fact<T>): Fact<T> =>
    firstFact(
      fields[field].map((name) => {
        const cell = row.get(name);
        return cell && how(cell);
      }),
    );
  const word = (field: Field): Fact<string> => read(field, ({ text }) => wordFact(text));
  const number = (field: Field, quantity: Quantity, within: Bounds): Fact =>
    read(field, ({ text, unit }) => numberFact(text, quantity, within, unit));
  const flag = (field: Field): Fact<boolean> => read(field, ({ text }) => yesNoFact(text));
  const memory = (field: Field): Fact => number(field, 'MiB', bounds.memory);
  const facts: GpuFacts = {
    index: number('index', 'count', bounds.index),
    busId: word('busId'),
    serial: word('serial'),
    driver: word('driver'),
    architecture: word('architecture'),
    memoryTotalMb: memory('memoryTotalMb'),
    memoryUsedMb: memory('memoryUsedMb'),
    memoryFreeMb: memory('memoryFreeMb'),
    memoryReservedMb: memory('memoryReservedMb'),
    utilization: number('utilization', '%', bounds.percent),
    memoryUtilization: number('memoryUtilization', '%', bounds.percent),
    temperature: number('temperature', 'C', bounds.temperature),
    memoryTemperature: number('memoryTemperature', 'C', bounds.temperature),
    power: number('power', 'W', bounds.power),
    powerLimit: number('powerLimit', 'W', bounds.power),
    coreClock: number('coreClock', 'MHz', bounds.clock),
    memoryClock: number('memoryClock', 'MHz', bounds.clock),
    fanPercent: number('fanPercent', '%', bounds.fan),
    computeMode: word('computeMode'),
    partitionMode: mapFact(word('partitionMode'), (mode) => known(kebab(mode))),
  };
  const uuid = word('uuid');
  return {
    vendor,
    uuid,
    name: word('name'),
    facts: withinTotal(facts),
    lost: [uuid, ...Object.values(facts)].some((fact) => fact.absent === 'lost'),
    signals: {
      eccUncorrectedVolatile: number('eccUncorrectedVolatile', 'count', bounds.count),
      eccUncorrectedTotal: number('eccUncorrectedTotal', 'count', bounds.count),
      remapPending: flag('remapPending'),
      remapFailed: flag('remapFailed'),
      retiredPagesPending: flag('retiredPagesPending'),
      throttleReasons: read('throttleReasons', ({ text }) => throttleReasonsOf(text)),
      recoveryAction: read('recoveryAction', ({ text }) => recoveryActionOf(text)),
    },
  };
}

function throttleReasonsOf(mask: string): Fact<readonly string[]> {
  const why = absenceOf(mask);
  if (why) return absent(why);
  if (!/^0x[0-9a-f]{1,16}$/i.test(mask)) return absent('invalid');
  const bits = BigInt(mask);
  return known(reasons.filter(([bit]) => (bits & bit) !== 0n).map(([, name]) => name));
}

const recoveryActions = new Set(['none', 'gpu-reset', 'node-reboot', 'drain-p2p', 'drain-and-reset']);

/** `Node Reboot` → `node-reboot`; `None` is an answer. */
export function recoveryActionOf(text: string): Fact<string> {
  const why = absenceOf(text);
  if (why) return absent(why);
  const action = kebab(text);
  return recoveryActions.has(action) ? known(action) : absent('invalid');
}
