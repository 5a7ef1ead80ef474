import { type AbsenceReason, absent, type Fact, type Gpu, type GpuVendor, healthSignalNames } from './types.js';

/** A GPU as plain JSON: a field a fact, null where it has no value, and then the reason under the same name in `absent`. */
export type PlainGpu = Readonly<Record<string, unknown>> & {
  readonly id: string;
  readonly absent: Readonly<Record<string, AbsenceReason>>;
};

/** What a GPU is called whose tool told no name. */
export function namelessGpu(vendor: GpuVendor): string {
  return `${vendor} GPU`;
}

/**
 * As `plainGpu`, for who reads it: what has no value but something in its place is null too, with the reason. That is the name of a GPU whose tool told none, partitions of a lost one, and processes that are
 * not told.
 */
export function toldGpu(gpu: Gpu): PlainGpu {
  const plain = plainGpu(gpu);
  const isLost = gpu.utilization.absent === 'lost';
  const reason: AbsenceReason = isLost ? 'lost' : 'not-reported';
  const unknown = [
    ...(gpu.name === namelessGpu(gpu.vendor) ? ['name'] : []),
    ...(isLost && gpu.partitions.length === 0 ? ['partitions'] : []),
    ...(gpu.processes === null ? ['processes'] : []),
  ];
  const nulls = Object.fromEntries(unknown.map((field) => [field, null]));
  const reasons = Object.fromEntries(unknown.map((field) => [field, reason]));
  return { ...plain, ...nulls, absent: { ...plain.absent, ...reasons } };
}

/** Pure. Facts within `partitions` and `processes` are written the same way, each with an `absent` of its own; `signals` become fields like the others. */
export function plainGpu(gpu: Gpu): PlainGpu {
  const { signals, partitions, processes, ...rest } = gpu;
  return {
    ...flat({ ...rest, ...signals }),
    partitions: partitions.map((one) => flat({ ...one })),
    processes: processes?.map((one) => flat({ ...one })) ?? null,
  } as unknown as PlainGpu;
}

function flat(of: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  const absent: Record<string, AbsenceReason> = {};
  for (const [key, value] of Object.entries(of)) {
    const fact =
      typeof value === 'object' && value !== null && 'value' in value
        ? (value as { value: unknown; absent?: AbsenceReason })
        : undefined;
    plain[key] = fact ? fact.value : value;
    if (fact?.absent) absent[key] = fact.absent;
  }
  return { ...plain, absent };
}

/** The other way: what `plainGpu` gave, checked for its shape elsewhere. */
export function gpuFromPlain(plain: Readonly<Record<string, unknown>>): Gpu {
  const { partitions, processes, health, seenAt, stale, id, vendor, name, absent: _, ...rest } = plain;
  const { facts, signals } = sorted(facted(rest, plain.absent as Absences));
  const inner = (one: Readonly<Record<string, unknown>>, own: 'id' | 'pid') => {
    const { absent: reasons, [own]: name, ...fields } = one;
    return { [own]: name, ...facted(fields, reasons as Absences) };
  };
  const rows = (value: unknown) => value as readonly Readonly<Record<string, unknown>>[] | null;
  return {
    ...{ id, vendor, name, health, seenAt, stale },
    ...facts,
    signals,
    partitions: (rows(partitions) ?? []).map((one) => inner(one, 'id')),
    processes: rows(processes)?.map((one) => inner(one, 'pid')) ?? null,
  } as unknown as Gpu;
}

type Absences = Readonly<Record<string, AbsenceReason>>;

const signalNames: ReadonlySet<string> = new Set(healthSignalNames);

function facted(fields: Readonly<Record<string, unknown>>, absences: Absences): Record<string, Fact<unknown>> {
  const entries = Object.entries(fields).map(([key, value]): [string, Fact<unknown>] => [
    key,
    value === null ? absent(absences[key] ?? 'not-reported') : { value },
  ]);
  return Object.fromEntries(entries);
}

function sorted(all: Readonly<Record<string, Fact<unknown>>>): {
  readonly facts: Record<string, Fact<unknown>>;
  readonly signals: Record<string, Fact<unknown>>;
} {
  const facts: Record<string, Fact<unknown>> = {};
  const signals: Record<string, Fact<unknown>> = {};
  for (const [key, fact] of Object.entries(all)) (signalNames.has(key) ? signals : facts)[key] = fact;
  return { facts, signals };
}
