import { gpuToolLimits, gpuValueLimits } from '../../limits.js';
import type { AbsenceReason, Fact, Gpu, GpuPartition, GpuProcess, GpuVendor, HealthSignals } from '../types.js';
import { absent, known } from '../types.js';

/** The facts of a GPU that a tool may tell. */
export type GpuFacts = Pick<
  Gpu,
  | 'index'
  | 'busId'
  | 'serial'
  | 'driver'
  | 'architecture'
  | 'memoryTotalMb'
  | 'memoryUsedMb'
  | 'memoryFreeMb'
  | 'memoryReservedMb'
  | 'utilization'
  | 'memoryUtilization'
  | 'temperature'
  | 'memoryTemperature'
  | 'power'
  | 'powerLimit'
  | 'coreClock'
  | 'memoryClock'
  | 'fanPercent'
  | 'computeMode'
  | 'partitionMode'
>;

/** With the tool's number of it within its GPU, by which other listings are joined. */
export interface ReadPartition extends GpuPartition {
  readonly device: Fact;
}

/** What one answer of a tool says of one GPU. What it does not say is not in it. */
export interface GpuReading {
  readonly vendor: GpuVendor;
  readonly uuid: Fact<string>;
  readonly name: Fact<string>;
  readonly facts: Partial<GpuFacts>;
  readonly signals: Partial<HealthSignals>;
  readonly partitions?: readonly ReadPartition[];
  readonly processes?: readonly GpuProcess[];
  /** The tool says itself that this GPU is gone. */
  readonly lost?: boolean;
}

/** A tool's answer: what could be understood, and what could not. */
export interface ToolReading {
  readonly gpus: readonly GpuReading[];
  readonly problems: readonly string[];
}

/** Odd things found in answers, at most `gpuToolLimits.maxProblems` of them. */
export class Problems {
  readonly list: string[] = [];
  private more = 0;

  add(what: string): void {
    if (this.list.length < gpuToolLimits.maxProblems) this.list.push(what.slice(0, gpuValueLimits.maxText));
    else this.list[gpuToolLimits.maxProblems] = `and ${++this.more} more`;
  }
}

const tokens: readonly (readonly [RegExp, AbsenceReason])[] = [
  [/^\[?(n\/a|na|not supported|not available|function not found|not found|-+)\]?$/i, 'not-supported'],
  [/^n\/a \(.*\)$/i, 'not-supported'],
  [/deprecated/i, 'deprecated'],
  [/insufficient permission|no permission|permission denied|not permitted/i, 'no-permission'],
  [/gpu is lost|fallen off the bus/i, 'lost'],
  [/^err!?$|^error\b|\berror\]?$|requires reset|unable to|failed to/i, 'driver-error'],
];

/** Why a cell has no value, or undefined when it seems to have one. */
export function absenceOf(text: string): AbsenceReason | undefined {
  const cell = text.trim();
  if (cell === '') return 'not-reported';
  // most cells are numbers, and no word for absence begins with a digit
  const first = cell.charCodeAt(0);
  if (first >= 0x30 && first <= 0x39) return undefined;
  for (const [pattern, reason] of tokens) if (pattern.test(cell)) return reason;
  // makers put every word that stands for a value in brackets
  return /^\[.*\]$/.test(cell) ? 'driver-error' : undefined;
}

export type Quantity = 'MiB' | '%' | 'C' | 'W' | 'MHz' | 'count';

/** Factors to the model's unit. AMD writes MB and means MiB. */
const units: Readonly<Record<Quantity, Readonly<Record<string, number>>>> = {
  MiB: {
    mib: 1,
    mb: 1,
    m: 1,
    gib: 1024,
    gb: 1024,
    kib: 1 / 1024,
    kb: 1 / 1024,
    b: 1 / 1_048_576,
    bytes: 1 / 1_048_576,
  },
  '%': { '%': 1 },
  C: { c: 1, '°c': 1 },
  W: { w: 1, mw: 0.001, kw: 1000 },
  MHz: { mhz: 1, ghz: 1000 },
  count: {},
};

export interface Bounds {
  readonly min: number;
  readonly max: number;
}

export const bounds = {
  memory: { min: 0, max: gpuValueLimits.maxMemoryMb },
  percent: { min: 0, max: 100 },
  fan: { min: 0, max: gpuValueLimits.maxFanPercent },
  temperature: { min: gpuValueLimits.minTemperature, max: gpuValueLimits.maxTemperature },
  power: { min: 0, max: gpuValueLimits.maxPower },
  clock: { min: 0, max: gpuValueLimits.maxClock },
  count: { min: 0, max: Number.MAX_SAFE_INTEGER },
  index: { min: 0, max: gpuValueLimits.maxIndex },
  pid: { min: 0, max: gpuValueLimits.maxPid },
} as const satisfies Record<string, Bounds>;

/**
 * A number with its unit, as tools write them: `81559 MiB`, `12.5`, `(300Mhz)`, `[N/A]`.
 *
 * @param unit of the column, for cells that carry none
 */
export function numberFact(text: string, quantity: Quantity, within: Bounds, unit?: string): Fact {
  const why = absenceOf(text);
  if (why) return absent(why);
  const match = /^\(?\s*([+-]?\d+(?:\.\d+)?)\s*([a-z%°]*)\s*\)?$/i.exec(text.trim());
  if (!match) return absent('invalid');
  const written = (match[2] || unit || '').toLowerCase();
  const factor = written === '' ? 1 : units[quantity][written];
  if (factor === undefined) return absent('invalid');
  const value = Number(match[1]) * factor;
  if (quantity === 'count' && !Number.isInteger(value)) return absent('invalid');
  return within.min <= value && value <= within.max ? known(value) : absent('invalid');
}

/** A word: a name, an address, a version. */
export function wordFact(text: string): Fact<string> {
  const why = absenceOf(text);
  if (why) return absent(why);
  const word = text.trim();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return word.length > gpuValueLimits.maxText || /[\u0000-\u001f\u007f\ufffd]/.test(word)
    ? absent('invalid')
    : known(word);
}

export function yesNoFact(text: string): Fact<boolean> {
  const why = absenceOf(text);
  if (why) return absent(why);
  if (/^(yes|active|pending|true|1)$/i.test(text.trim())) return known(true);
  return /^(no|not active|none|false|0)$/i.test(text.trim()) ? known(false) : absent('invalid');
}

export function mapFact<A, B>(fact: Fact<A>, convert: (value: A) => Fact<B>): Fact<B> {
  return fact.absent === undefined ? convert(fact.value) : fact;
}

/** The sum where all are known, else why the first unknown one is not. */
export function sumFact(facts: readonly Fact[]): Fact {
  let sum = 0;
  for (const fact of facts) {
    if (fact.absent !== undefined) return fact;
    sum += fact.value;
  }
  return facts.length > 0 ? known(sum) : absent('not-reported');
}

/** The first that is known, else the first that says why not. */
export function firstFact<T>(facts: readonly (Fact<T> | undefined)[]): Fact<T> {
  const told = facts.filter((fact) => fact !== undefined);
  return told.find((fact) => fact.absent === undefined) ?? told[0] ?? absent('not-reported');
}

/** `GPU Reset` → `gpu-reset`. */
export function kebab(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** Memory of a GPU cannot be more than it has: then the parts are not believed. */
export function withinTotal(facts: Partial<GpuFacts>): Partial<GpuFacts> {
  const total = facts.memoryTotalMb?.value;
  if (typeof total !== 'number') return facts;
  const checked: { -readonly [K in keyof GpuFacts]?: GpuFacts[K] } = { ...facts };
  for (const part of ['memoryUsedMb', 'memoryFreeMb', 'memoryReservedMb'] as const) {
    const value = facts[part]?.value;
    // what is rounded to MiB may be one too many
    if (typeof value === 'number' && value > total + 1) checked[part] = absent('invalid');
  }
  return checked;
}
