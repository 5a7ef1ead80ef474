import type { GpuNode, GpuService, WaitingRequest } from '../gpu/gpu-service.js';
import { migModelOf } from '../gpu/mig/mig-profiles.js';
import type { AbsenceReason, Fact, Gpu, GpuVendor, HealthState } from '../gpu/types.js';
import { gpuHttpLimits } from '../limits.js';
import { type HeldGpu, heldByGpu } from './gpu-holders.js';

/** Who has a part of a GPU, as its bar shows it. */
interface ShownTenant {
  /** Instance, or owner of a reservation. */
  readonly name: string;
  readonly owner: string;
  readonly reserved: boolean;
  readonly mode: HeldGpu['mode'];
  readonly memoryMb: number | null;
  /** Of the GPU, 0 to 1: the larger of its parts of memory and compute. */
  readonly part: number;
}

/** A partition, where it lies. */
interface ShownSlice {
  readonly id: string | null;
  readonly profile: string | null;
  /** First memory slot and how many. */
  readonly start: number;
  readonly size: number;
  /** Compute slots, which begin at the same number; null: they are not told from memory. */
  readonly compute: number | null;
  /** Instance, or owner of a reservation; null: nobody has it. */
  readonly tenant: string | null;
  readonly owner: string | null;
  /** `planned`: somebody has it once it is made. */
  readonly state: 'held' | 'reserved' | 'planned' | 'free';
}

interface ShownSlices {
  /** 8 and 7 on most that have MIG. */
  readonly memorySlots: number;
  readonly computeSlots: number | null;
  readonly slices: readonly ShownSlice[];
  /** Partitions of which it is not told where they lie, or beyond the bound. */
  readonly notDrawn: number;
}

const shownFacts = ['utilization', 'memoryUsedMb', 'memoryTotalMb', 'temperature', 'power', 'powerLimit'] as const;
type ShownFact = (typeof shownFacts)[number];

/** What the page shows of a GPU: null has its reason under the same name in `absent`. */
export interface ShownGpu extends Readonly<Record<ShownFact, number | null>> {
  readonly id: string;
  readonly name: string;
  readonly vendor: GpuVendor;
  readonly health: HealthState;
  /** What and what to do, a sentence each; the worst first. */
  readonly causes: readonly string[];
  readonly stale: boolean;
  /** Of what is stale; null: it changes with every look, and nothing else does. */
  readonly seenAt: number | null;
  readonly absent: Readonly<Partial<Record<ShownFact, AbsenceReason>>>;
  readonly processes: number | null;
  readonly tenants: readonly ShownTenant[];
  readonly moreTenants: number;
  /** MiB in use that no tenant accounts for; null where that cannot be told. */
  readonly foreignMb: number | null;
  readonly slices: ShownSlices | null;
}

interface ShownNode {
  readonly node: string;
  /** Of a silent one when it was last heard; null: it is heard all the time. */
  readonly at: number | null;
  readonly silent: boolean;
  readonly gpus: readonly ShownGpu[];
  /** GPUs of it that are not shown. */
  readonly more: number;
}

export interface ShownGpus {
  readonly nodes: readonly ShownNode[];
  /** Of all, whether shown or not. */
  readonly totals: { readonly nodes: number; readonly gpus: number; readonly held: number; readonly reserved: number };
  readonly notShown: number;
  readonly waiting: readonly WaitingRequest[];
  readonly moreWaiting: number;
  readonly role: GpuService['role'];
}

/**
 * What the page shows of GPUs. When there are more than `gpuHttpLimits.maxShownGpus`, nodes with trouble are shown first, then those that are used.
 * Cost: O(GPUs + holdings), and of those shown some microseconds each.
 */
export function gpuRows(gpus: GpuService): ShownGpus {
  const all = gpus.nodes();
  const holders = heldByGpu(gpus.records());
  const total = all.reduce((sum, { gpus: of }) => sum + of.length, 0);
  const { maxShownGpus, maxShownWaiting } = gpuHttpLimits;
  let room: number = maxShownGpus;
  const ordered = total > room ? mostToSeeFirst(all, holders) : all;
  const nodes: ShownNode[] = [];
  for (const { node, at, silent, gpus: of } of ordered) {
    if (room === 0) break;
    const shown = of.slice(0, room).map((gpu) => shownGpu(gpu, holders(node, gpu.id)));
    room -= shown.length;
    nodes.push({ node, at: silent ? at : null, silent, gpus: shown, more: of.length - shown.length });
  }
  nodes.sort((a, b) => (a.node < b.node ? -1 : 1));
  const waiting = [...gpus.waiting()].sort((a, b) => b.priority - a.priority || a.since - b.since);
  const { held, reserved } = gpus.stats();
  return {
    nodes,
    totals: { nodes: all.length, gpus: total, held, reserved },
    notShown: Math.max(0, total - maxShownGpus),
    waiting: waiting.slice(0, maxShownWaiting),
    moreWaiting: Math.max(0, waiting.length - maxShownWaiting),
    role: gpus.role,
  };
}

function mostToSeeFirst(nodes: readonly GpuNode[], holders: ReturnType<typeof heldByGpu>): GpuNode[] {
  const rank = ({ node, silent, gpus }: GpuNode): number => {
    if (silent || gpus.some(({ health, stale }) => health.state !== 'ok' || stale)) return 0;
    return gpus.some(({ id }) => holders(node, id).length > 0) ? 1 : 2;
  };
  return nodes
    .map((node) => ({ node, rank: rank(node) }))
    .sort((a, b) => a.rank - b.rank || (a.node.node < b.node.node ? -1 : 1))
    .map(({ node }) => node);
}

function shownGpu(gpu: Gpu, held: readonly HeldGpu[]): ShownGpu {
  const { id, name, vendor, health, stale, seenAt } = gpu;
  const values: Partial<Record<ShownFact, number | null>> = {};
  const absent: Partial<Record<ShownFact, AbsenceReason>> = {};
  for (const fact of shownFacts) {
    const told: Fact = gpu[fact];
    values[fact] = told.value;
    if (told.absent) absent[fact] = told.absent;
  }
  const { maxShownCauses, maxShownTenants } = gpuHttpLimits;
  return {
    ...{ id, name, vendor, health: health.state, stale, seenAt: stale ? seenAt : null, absent },
    ...(values as Record<ShownFact, number | null>),
    causes: health.causes
      .slice(0, maxShownCauses)
      .map(({ what, action }) => (action === '' ? what : `${what}; ${action}`)),
    processes: gpu.processes?.length ?? null,
    tenants: held.slice(0, maxShownTenants).map((one) => tenantOf(one, gpu)),
    moreTenants: Math.max(0, held.length - maxShownTenants),
    foreignMb: foreignMemory(gpu, held),
    slices: slicesOf(gpu, held),
  };
}

function tenantOf({ instance, owner, kind, mode, memoryMb, shareMilli }: HeldGpu, gpu: Gpu): ShownTenant {
  const total = gpu.memoryTotalMb.value;
  const ofMemory = total === null || total <= 0 || memoryMb === null ? 0 : memoryMb / total;
  const part = mode === 'exclusive' ? 1 : Math.min(1, Math.max(shareMilli / 1000, ofMemory));
  const rounded = Math.round(part * 1000) / 1000;
  return { name: instance ?? owner, owner, reserved: kind === 'reservation', mode, memoryMb, part: rounded };
}

/** Some of what a driver keeps for itself counts as used, so without a process nothing is foreign. */
function foreignMemory({ memoryUsedMb, processes }: Gpu, held: readonly HeldGpu[]): number | null {
  if (processes?.length === 0) return 0;
  const used = memoryUsedMb.value;
  // A time slice may be held without saying how much memory it takes.
  if (used === null || held.some(({ memoryMb }) => !memoryMb)) return null;
  return Math.max(0, used - held.reduce((sum, { memoryMb }) => sum + (memoryMb ?? 0), 0));
}

function slicesOf(gpu: Gpu, held: readonly HeldGpu[]): ShownSlices | null {
  const parts = held.flatMap((one) => (one.partition ? [{ ...one, partition: one.partition }] : []));
  if (gpu.partitions.length === 0 && parts.length === 0 && gpu.partitionMode.value !== 'enabled') return null;
  return gpu.vendor === 'nvidia' ? migSlices(gpu, parts) : equalSlices(gpu, parts);
}

type HeldPartition = HeldGpu & { readonly partition: NonNullable<HeldGpu['partition']> };

function migSlices(gpu: Gpu, held: readonly HeldPartition[]): ShownSlices {
  const model = migModelOf(gpu.name, 'media');
  const computeOf = (profile: string | null): number | null => {
    const known = model?.profiles.find(({ name }) => name === profile)?.compute;
    const told = profile?.match(/(\d+)g\./)?.[1];
    return known ?? (told === undefined ? null : Number(told));
  };
  // Several compute instances may share a GPU instance: one place, one slice.
  const byPlace = new Map<number, ShownSlice>();
  let notDrawn = 0;
  for (const { id, profile, placement } of gpu.partitions) {
    const place = placement.value;
    if (place === null) {
      notDrawn++;
      continue;
    }
    const holder = held.find(({ partition }) => partition.id === id);
    const before = byPlace.get(place.start);
    if (before && !holder) continue;
    const name = profile.value?.replace(/^\d+c\./, '') ?? null;
    byPlace.set(place.start, sliceOf(id, name, place.start, place.size, computeOf(name), holder));
  }
  for (const holder of held) {
    const { id, profile, start } = holder.partition;
    if (id !== null || start === null) continue;
    const size = model?.profiles.find(({ name }) => name === profile)?.memory ?? 1;
    byPlace.set(start, { ...sliceOf(null, profile, start, size, computeOf(profile), holder), state: 'planned' });
  }
  const slices = [...byPlace.values()].sort((a, b) => a.start - b.start);
  const drawn = slices.slice(0, gpuHttpLimits.maxShownPartitions);
  const last = drawn.reduce((end, { start, size }) => Math.max(end, start + size), 0);
  return {
    memorySlots: Math.min(gpuHttpLimits.maxShownPartitions, Math.max(model?.memorySlices ?? 8, last)),
    computeSlots: model?.computeSlices ?? 7,
    slices: drawn,
    notDrawn: notDrawn + slices.length - drawn.length,
  };
}

/** Compute partitions of AMD are alike, and nothing tells where they lie. */
function equalSlices(gpu: Gpu, held: readonly HeldPartition[]): ShownSlices {
  const drawn = gpu.partitions.slice(0, gpuHttpLimits.maxShownPartitions);
  return {
    memorySlots: Math.max(1, drawn.length),
    computeSlots: null,
    slices: drawn.map(({ id, profile }, i) => {
      const holder = held.find(({ partition }) => partition.id === id);
      return sliceOf(id, profile.value, i, 1, null, holder);
    }),
    notDrawn: gpu.partitions.length - drawn.length,
  };
}

function sliceOf(
  id: string | null,
  profile: string | null,
  start: number,
  size: number,
  compute: number | null,
  holder: HeldGpu | undefined,
): ShownSlice {
  const state = holder === undefined ? 'free' : holder.kind === 'reservation' ? 'reserved' : 'held';
  const { owner = null } = holder ?? {};
  return { id, profile, start, size, compute, tenant: holder?.instance ?? owner, owner, state };
}
