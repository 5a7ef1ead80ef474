import type { AbsenceReason, Gpu } from './types.js';

/** A GPU as plain JSON: a field a fact, null where it has no value, and then the reason under the same name in `absent`. */
export type PlainGpu = Readonly<Record<string, unknown>> & {
  readonly id: string;
  readonly absent: Readonly<Record<string, AbsenceReason>>;
};

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
