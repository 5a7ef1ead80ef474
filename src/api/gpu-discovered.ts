import { type PlainGpu, toldGpu } from '../gpu/plain-gpu.js';
import type { AbsenceReason, Fact, Gpu, GpuHealth, GpuVendor } from '../gpu/types.js';

/** Facts of a GPU that are numbers, by the name that programs read; memory in MiB. */
const numbers = {
  index: 'index',
  memoryTotal: 'memoryTotalMb',
  memoryUsed: 'memoryUsedMb',
  memoryFree: 'memoryFreeMb',
  memoryReserved: 'memoryReservedMb',
  utilization: 'utilization',
  memoryUtilization: 'memoryUtilization',
  temperature: 'temperature',
  memoryTemperature: 'memoryTemperature',
  power: 'power',
  powerLimit: 'powerLimit',
  coreClock: 'coreClock',
  memoryClock: 'memoryClock',
  fanPercent: 'fanPercent',
} as const satisfies Record<string, keyof Gpu>;

const texts = {
  busId: 'busId',
  serial: 'serial',
  driver: 'driver',
  architecture: 'architecture',
  computeMode: 'computeMode',
  partitionMode: 'partitionMode',
} as const satisfies Record<string, keyof Gpu>;

type Numbers = { readonly [Name in keyof typeof numbers]: number | null };
type Texts = { readonly [Name in keyof typeof texts]: string | null };
type Absent = Readonly<Record<string, AbsenceReason>>;

export interface DiscoveredProcess {
  readonly pid: number;
  readonly name: string | null;
  /** MiB. */
  readonly memory: number | null;
  /** Partition it runs in. */
  readonly partition: string | null;
  readonly absent: Absent;
}

export interface DiscoveredPartition {
  /** For `CUDA_VISIBLE_DEVICES` and the like. */
  readonly id: string;
  /** `3g.40gb`, `CPX`, … */
  readonly profile: string | null;
  /** MiB. */
  readonly memoryTotal: number | null;
  readonly memoryUsed: number | null;
  readonly absent: Absent;
}

/**
 * A GPU as a program reads it: memory in MiB, utilization in per cent, temperature in °C, power in W, clocks in MHz. null: not known, and `absent` has the reason under the same name. Unknown is
 * never zero.
 */
export interface DiscoveredGpu extends Numbers, Texts {
  /** UUID, or the bus address where its tool tells none. */
  readonly id: string;
  readonly node: string;
  readonly vendor: GpuVendor;
  /** Model; null: its tool does not tell. */
  readonly name: string | null;
  /** null: it is lost. */
  readonly partitions: readonly DiscoveredPartition[] | null;
  /** null: its tool does not tell. */
  readonly processes: readonly DiscoveredProcess[] | null;
  readonly health: GpuHealth;
  /** ms since 1970 when a tool last told of it. */
  readonly seenAt: number;
  /** That is too long ago. */
  readonly stale: boolean;
  readonly absent: Absent;
  /** All facts as `iguana gpu list --json` writes them, signals of health with them. */
  readonly facts: PlainGpu;
}

export function discoveredGpu(node: string, gpu: Gpu): DiscoveredGpu {
  const { id, vendor, health, seenAt, stale, partitions, processes } = gpu;
  const pick = (names: Readonly<Record<string, keyof Gpu>>) =>
    read(Object.fromEntries(Object.entries(names).map(([as, field]) => [as, gpu[field] as Fact<unknown>])));
  const counted = pick(numbers);
  const told = pick(texts);
  const facts = toldGpu(gpu);
  const others = ['name', 'partitions', 'processes'].flatMap((field) => {
    const why = facts.absent[field];
    return why === undefined ? [] : [[field, why] as const];
  });
  return {
    id,
    node,
    vendor,
    name: facts.name as string | null,
    ...(counted.values as Numbers),
    ...(told.values as Texts),
    partitions:
      facts.partitions === null
        ? null
        : partitions.map(({ id: partition, profile, memoryTotalMb, memoryUsedMb }) => {
            const { values, absent } = read({ profile, memoryTotal: memoryTotalMb, memoryUsed: memoryUsedMb });
            return { id: partition, ...values, absent };
          }),
    processes:
      processes?.map(({ pid, name: program, memoryMb, partition }) => {
        const { values, absent } = read({ name: program, memory: memoryMb, partition });
        return { pid, ...values, absent };
      }) ?? null,
    health,
    seenAt,
    stale,
    absent: { ...counted.absent, ...told.absent, ...Object.fromEntries(others) },
    facts,
  };
}

/** Values of facts, and why some have none. */
function read<T extends Readonly<Record<string, Fact<unknown>>>>(
  facts: T,
): { values: { [Name in keyof T]: T[Name]['value'] }; absent: Absent } {
  const values = Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, fact.value]));
  const absent = Object.fromEntries(
    Object.entries(facts).flatMap(([name, fact]) => (fact.absent === undefined ? [] : [[name, fact.absent]])),
  );
  return { values: values as { [Name in keyof T]: T[Name]['value'] }, absent };
}
