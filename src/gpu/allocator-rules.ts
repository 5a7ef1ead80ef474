/**
 * What each sharing mode allows, GPU by GPU: the one place that says why a GPU will not do. It is longer than others since a rule without its exact words of refusal is half a
 * rule, and the modes exclude one another.
 */
import type { GpuHolder, GpuHolding, SharingMode } from './ledger.js';
import { type MigInstance, type MigStep, planMig } from './mig/mig-plan.js';
import { type MigProfile, migModelOf } from './mig/mig-profiles.js';
import { type MigTable, migTableOf } from './mig/mig-table.js';
import { WHOLE_GPU } from './placement/demand.js';
import { absent, type Gpu, type GpuPartition, type GpuProcess, type GpuVendor } from './types.js';

/** How a GPU may be used; each GPU of a node has its own. `open`: exclusively or in shares, as it is asked for. */
export type GpuSharing =
  | { readonly mode: 'open' | 'exclusive' | 'shared' | 'partition' }
  | { readonly mode: 'time-slicing'; readonly replicas: number }
  | { readonly mode: 'mps'; readonly replicas: number; readonly pipeDirectory?: string }
  /** `static`: only instances that exist are given; `dynamic`: they are planned as they are needed. `memoryMb`: MiB by profile, from `nvidia-smi mig -lgip`. */
  | {
      readonly mode: 'mig';
      readonly layout: 'static' | 'dynamic';
      readonly memoryMb?: Readonly<Record<string, number>>;
    };

/** What a workload asks for. */
export interface GpuRequest {
  /** GPUs, all different and alike, on one node (default 1). */
  readonly gpuCount?: number;
  /** MiB on each. */
  readonly memoryMb?: number;
  /** Part of each one's compute, above 0 to 1. Without it and without memory: whole GPUs. */
  readonly computeShare?: number;
  /** Nobody else on them (default: when neither memory nor share is given). */
  readonly exclusive?: boolean;
  /** NVIDIA: at least this, `8.0`. */
  readonly minComputeCapability?: string;
  /** Words of the product name: `A100`, `A100 80GB`. */
  readonly model?: string;
  readonly vendor?: GpuVendor;
  readonly mode?: SharingMode;
  /** MIG or AMD partition by name: `3g.40gb`, `CPX`. */
  readonly profile?: string;
  /** On this node only. */
  readonly node?: string;
  /** Whose quota and reservations count (default: the instance). */
  readonly owner?: string;
  /** Higher goes first (default 0). */
  readonly priority?: number;
  /** Take GPUs from allocations of lower priority when none is free (default false). */
  readonly preempt?: boolean;
  /** Given back when no heartbeat came for so long, ms (default 60,000); null: never. */
  readonly leaseMs?: number | null;
}

export type RefusalCode =
  | 'vendor'
  | 'model'
  | 'node'
  | 'compute-capability'
  | 'compute-capability-unknown'
  | 'health'
  | 'stale'
  | 'mode'
  | 'memory'
  | 'memory-unknown'
  | 'share'
  | 'held'
  | 'foreign-process'
  | 'clients'
  | 'profile'
  | 'no-partition'
  | 'plan';

/** Why one GPU will not do. */
export interface GpuRefusal {
  readonly node: string;
  readonly gpuId: string;
  readonly code: RefusalCode;
  readonly what: string;
}

/** What one GPU would give. */
export interface GpuOffer {
  readonly holding: GpuHolding;
  readonly gpu: Gpu;
  /** Steps that make the partition, when it is not there. */
  readonly steps: readonly MigStep[];
  /** For dynamic MIG: table, layout of what is in use, and the placement. */
  readonly mig?: { readonly table: MigTable; readonly layout: number; readonly places: readonly number[] };
}

/** Its words are made when somebody reads them: of thousands of GPUs that will not do, most are never told. */
class Refused {
  constructor(
    readonly code: RefusalCode,
    /** In words; `tried`: members of this gang hold something until it fails. */
    readonly say: (tried?: TriedGang) => string,
  ) {}
}

/** A gang that gets all or nothing, with the records of its members so far. */
export interface TriedGang {
  readonly gang: string;
  readonly records: ReadonlySet<string>;
}

export type Verdict = { readonly offer: GpuOffer } | Refused;

/** A GPU with what is known and held of it. */
export interface GpuCandidate {
  readonly node: string;
  readonly gpu: Gpu;
  readonly sharing: GpuSharing;
  /** All that is held, save what the request may take the place of. */
  readonly holders: readonly GpuHolder[];
}

/** MPS clients a GPU can have: since Volta, and before. Source: NVIDIA MPS documentation. */
export const MPS_CLIENTS = 48;
const MPS_CLIENTS_BEFORE_VOLTA = 16;

/** Whole GPUs are wanted. */
export function wantsWhole({ exclusive, memoryMb, computeShare, mode, profile }: GpuRequest): boolean {
  if (exclusive !== undefined && mode !== 'mig' && mode !== 'partition') return exclusive || mode === 'exclusive';
  if (mode !== undefined) return mode === 'exclusive';
  return profile === undefined && memoryMb === undefined && computeShare === undefined;
}

/** Whether a GPU can serve a request now. */
export function judge(request: GpuRequest, candidate: GpuCandidate): Verdict {
  return lacks(request, candidate) ?? judgeNow(request, candidate);
}

/** Why a GPU will never do, by what it is and where. */
export function lacks(request: GpuRequest, { gpu, node }: GpuCandidate): Refused | undefined {
  if (request.node !== undefined && request.node !== node) return no('node', () => `it is on ${node}`);
  if (request.vendor !== undefined && request.vendor !== gpu.vendor)
    return no('vendor', () => `it is of ${gpu.vendor}`);
  if (request.model !== undefined && !matchesModel(gpu.name, request.model))
    return no('model', () => `it is a ${gpu.name}`);
  return lacksCapability(request, gpu);
}

/** Whether a GPU of the right kind can serve a request now. */
export function judgeNow(request: GpuRequest, candidate: GpuCandidate): Verdict {
  const { gpu } = candidate;
  if (!isWell(gpu))
    return no(
      'health',
      () => `it is ${gpu.health.state}: ${gpu.health.causes.map(({ what }) => what).join(', ') || 'no cause told'}`,
    );
  if (gpu.stale) return no('stale', () => 'what is known of it is too old');
  return byMode(request, candidate);
}

function byMode(request: GpuRequest, candidate: GpuCandidate): Verdict {
  const { sharing } = candidate;
  const whole = wantsWhole(request);
  const offered: SharingMode = sharing.mode === 'open' ? (whole ? 'exclusive' : 'shared') : sharing.mode;
  if (request.mode !== undefined && request.mode !== offered)
    return no('mode', () => `it is set to ${sharing.mode}, not ${request.mode}`);
  if (request.profile !== undefined && offered !== 'mig' && offered !== 'partition')
    return no('mode', () => noProfiles(candidate, request.profile!));
  if (whole && offered !== 'exclusive') return no('mode', () => `it is set to ${sharing.mode}: others may use it`);
  if (!whole && offered === 'exclusive') return no('mode', () => 'it is given as a whole only');
  const { value: compute } = candidate.gpu.computeMode;
  if (compute === 'Prohibited') return no('mode', () => 'its compute mode is Prohibited: no process may use it');
  if (compute === 'Exclusive_Process' && (offered === 'shared' || offered === 'time-slicing'))
    return no('mode', () => 'its compute mode is Exclusive_Process: a second process could not use it');
  if (migEnabled(candidate.gpu) && offered !== 'mig')
    return no('mode', () => `MIG is on: CUDA sees its instances only, and it is set to ${sharing.mode}`);
  switch (offered) {
    case 'exclusive':
      return exclusive(request, candidate);
    case 'shared':
      return shared(request, candidate);
    case 'time-slicing':
    case 'mps':
      return replicated(request, candidate, offered);
    case 'mig':
      return sharing.mode === 'mig' && sharing.layout === 'dynamic'
        ? dynamicMig(request, candidate)
        : existing(request, candidate, 'mig');
    case 'partition':
      return existing(request, candidate, 'partition');
  }
}

function exclusive({ memoryMb }: GpuRequest, candidate: GpuCandidate): Verdict {
  const { gpu, holders } = candidate;
  if (holders.length > 0) return heldBy(holders);
  const foreign = gpu.processes?.[0];
  if (foreign) return no('foreign-process', () => `process ${foreign.pid} uses it, which no allocation accounts for`);
  const room = roomOf(candidate);
  if (memoryMb !== undefined) {
    if (room === null) return unknownMemory(gpu);
    if (memoryMb > room) return no('memory', () => `${memoryMb} MiB are asked for, ${room} are free`);
  }
  return offer(candidate, { mode: 'exclusive', memoryMb: givableMb(gpu), shareMilli: WHOLE_GPU });
}

/** Bookkeeping: what is not said of memory or share follows from the other. Parts are rounded down, so that as many as their number says fit. */
function shared(request: GpuRequest, candidate: GpuCandidate): Verdict {
  const { gpu, holders } = candidate;
  const others = holdersBut(holders, 'shared');
  if (others) return heldBy(others);
  const givable = givableMb(gpu);
  const room = roomOf(candidate);
  if (givable === null || room === null) return unknownMemory(gpu);
  const { computeShare = 1 } = request;
  const memoryMb = request.memoryMb ?? partOf(computeShare * givable, room, candidate);
  const shareMilli = Math.max(1, request.computeShare ? whole(WHOLE_GPU * computeShare) : milliOfMemory(memoryMb, gpu));
  if (memoryMb > room) return no('memory', () => `${memoryMb} MiB are asked for, ${room} are free`);
  const free = WHOLE_GPU - sum(holders, ({ shareMilli: milli }) => milli);
  if (shareMilli > free)
    return no('share', () => `a share of ${shareMilli / WHOLE_GPU} is asked for, ${free / WHOLE_GPU} is free`);
  return offer(candidate, { mode: 'shared', memoryMb, shareMilli });
}

function replicated(request: GpuRequest, candidate: GpuCandidate, mode: 'time-slicing' | 'mps'): Verdict {
  const { gpu, holders, sharing } = candidate;
  if (gpu.vendor !== 'nvidia') return no('mode', () => `${mode} is for NVIDIA GPUs, it is of ${gpu.vendor}`);
  const replicas = sharing.mode === 'time-slicing' || sharing.mode === 'mps' ? sharing.replicas : 1;
  const others = holdersBut(holders, mode);
  if (others) return heldBy(others);
  const most = mode === 'mps' ? Math.min(replicas, mpsClients(gpu)) : replicas;
  if (holders.length >= most) return no('clients', () => `all ${most} places are taken`);
  const shareMilli = Math.floor(WHOLE_GPU / replicas);
  if (request.computeShare !== undefined && request.computeShare * replicas > 1)
    return no(
      'share',
      () =>
        `${request.computeShare} is asked for, each of ${replicas} places has 1/${replicas}; more places give no more`,
    );
  if (mode === 'time-slicing') {
    if (request.memoryMb === undefined) return offer(candidate, { mode, memoryMb: null, shareMilli });
    const room = roomOf(candidate);
    if (room === null) return unknownMemory(gpu);
    if (request.memoryMb > room) return no('memory', () => `${request.memoryMb} MiB are asked for, ${room} are free`);
    return offer(candidate, { mode, memoryMb: request.memoryMb, shareMilli });
  }
  const givable = givableMb(gpu);
  const room = roomOf(candidate);
  if (givable === null || room === null) return unknownMemory(gpu);
  const memoryMb = partOf(givable / replicas, room, candidate);
  if (request.memoryMb !== undefined && request.memoryMb > memoryMb)
    return no(
      'memory',
      () => `${request.memoryMb} MiB are asked for, each of ${replicas} MPS clients may use ${memoryMb}`,
    );
  if (memoryMb > room) return no('memory', () => `an MPS client may use ${memoryMb} MiB, ${room} are free`);
  return offer(candidate, { mode, memoryMb, shareMilli });
}

/** Instances that are there: the smallest free one that will do. */
function existing(request: GpuRequest, candidate: GpuCandidate, mode: 'mig' | 'partition'): Verdict {
  const { gpu, holders } = candidate;
  if (mode === 'mig' && gpu.vendor !== 'nvidia')
    return no('mode', () => `MIG is for NVIDIA GPUs, it is of ${gpu.vendor}`);
  if (mode === 'partition' && gpu.vendor !== 'amd')
    return no('mode', () => `compute partitions are of AMD, it is of ${gpu.vendor}`);
  if ((request.gpuCount ?? 1) > 1 && mode === 'mig') return no('mode', () => 'a process sees one MIG instance only');
  const taken = new Set(holders.map(({ holding }) => holding.partition?.id));
  const others = holdersBut(holders, mode);
  if (others) return heldBy(others);
  const partitions = partitionsOf(gpu);
  if (partitions.length === 0) return no('no-partition', () => 'it has no partition');
  let unknown = false;
  const fitting = partitions.filter((partition) => {
    // CUDA takes no other name than the UUID, and who holds it is known by that
    if (mode === 'mig' && !partition.id.startsWith('MIG-')) return false;
    if (taken.has(partition.id) || inUse(gpu, partition)) return false;
    if (request.profile !== undefined && partition.profile.value !== request.profile) return false;
    if (request.memoryMb !== undefined) {
      if (partition.memoryTotalMb.value === null) {
        unknown = true;
        return false;
      }
      if (partition.memoryTotalMb.value < request.memoryMb) return false;
    }
    return request.computeShare === undefined || shareOf(gpu, partition) >= request.computeShare * WHOLE_GPU;
  });
  if (fitting.length === 0)
    return unknown
      ? no('memory-unknown', () => 'the memory of its free partitions is not known')
      : no('no-partition', () => `no free partition of ${partitions.length} will do${usedBy(gpu, partitions, taken)}`);
  const best = fitting.reduce((a, b) => {
    const larger = (a.memoryTotalMb.value ?? 0) - (b.memoryTotalMb.value ?? 0);
    return larger > 0 || (larger === 0 && shareOf(gpu, a) > shareOf(gpu, b)) ? b : a;
  });
  return offer(candidate, {
    mode,
    memoryMb: best.memoryTotalMb.value,
    shareMilli: shareOf(gpu, best),
    partition: {
      id: best.id,
      profile: best.profile.value ?? 'unknown',
      start: best.placement.value?.start ?? null,
    },
  });
}

/** What uses partitions that nobody holds, in words. */
function usedBy(
  { processes }: Gpu,
  partitions: readonly GpuPartition[],
  taken: ReadonlySet<string | null | undefined>,
): string {
  const free = partitions.filter(({ id }) => !taken.has(id));
  if (free.length === 0) return '';
  if (processes === null) return '; whether processes use those that nobody holds is not known';
  const foreign = processes.filter(({ partition: { value } }) => free.some(({ id }) => id === value));
  const somewhere = processes.filter(({ partition: { value } }) => value === null);
  const accounted = foreign.length > 0 ? `; no allocation accounts for ${named(foreign)}` : '';
  return somewhere.length > 0 ? `${accounted}; in which of them ${named(somewhere)} runs is not told` : accounted;
}

function named(processes: readonly GpuProcess[]): string {
  const told = processes
    .slice(0, MAX_TOLD)
    .map(({ pid, partition: { value } }) => (value ? `${pid} in ${value}` : pid));
  const more = processes.length - told.length;
  return `process ${told.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Processes that are named in a refusal. */
const MAX_TOLD = 3;

/** amd-smi lists each partition of a split GPU as a GPU of its own: that one is the partition. */
function partitionsOf(gpu: Gpu): readonly GpuPartition[] {
  const { id, vendor, partitionMode, partitions, memoryTotalMb, memoryUsedMb } = gpu;
  if (partitions.length > 0 || vendor !== 'amd' || !/^[SDTQC]PX$/.test(partitionMode.value ?? '')) return partitions;
  const none = absent('not-reported');
  const numbers = { gpuInstance: none, computeInstance: none, placement: none };
  return [{ id, profile: partitionMode as GpuPartition['profile'], ...numbers, memoryTotalMb, memoryUsedMb }];
}

function dynamicMig(request: GpuRequest, candidate: GpuCandidate): Verdict {
  const { gpu, holders, sharing } = candidate;
  if ((request.gpuCount ?? 1) > 1) return no('mode', () => 'a process sees one MIG instance only');
  const model = gpu.vendor === 'nvidia' ? migModelOf(gpu.name) : undefined;
  if (!model) return no('mode', () => `no MIG profiles of a ${gpu.name} are known`);
  const others = holdersBut(holders, 'mig');
  if (others) return heldBy(others);
  const table = migTableOf(model);
  const listed = sharing.mode === 'mig' ? sharing.memoryMb : undefined;
  const profile = smallest(request, model.profiles, model.computeSlices, listed);
  if (!('name' in profile)) return profile;
  const instances = instancesOf(gpu, holders);
  if (!instances) return no('plan', () => 'where its instances are is not known');
  const enabled = migEnabled(gpu);
  // whoever holds it waits for an instance
  const idle = gpu.processes && gpu.processes.length === 0;
  const used = instances.filter(({ busy }) => busy).map((one) => table.positionOf(one.profile, one.start));
  const layout = table.layoutOf(used);
  if (layout < 0) return no('plan', () => 'it tells of instances that cannot be there together');
  const places = table.placements.flatMap((one, p) =>
    one.profile.name === profile.name && table.with(layout, p) >= 0 ? [p] : [],
  );
  if (places.length === 0) return no('no-partition', () => `it has no room for a ${profile.name}`);
  // The place is chosen later, over all GPUs; here only whether there is one, which is plain where nothing is in the way.
  const plain = instances.length === 0 && (enabled || idle);
  const plan = plain
    ? undefined
    : planMig(table, { id: gpu.id, enabled, idle, instances }, [{ profile: profile.name }]);
  if (plan && !plan.steps) return no('plan', () => plan.refused);
  const made = offer(candidate, {
    mode: 'mig',
    memoryMb: listed?.[profile.name] ?? profile.memoryMb,
    shareMilli: Math.floor((WHOLE_GPU * profile.compute) / model.computeSlices),
    partition: { id: null, profile: profile.name, start: null },
  });
  return 'offer' in made ? { offer: { ...made.offer, mig: { table, layout, places } } } : made;
}

/** The same offer with the start that was chosen, and the steps that make it. */
export function placeMig(candidate: GpuCandidate, made: GpuOffer, placement: number): GpuOffer {
  const { profile, start } = made.mig!.table.placements[placement]!;
  const instances = instancesOf(candidate.gpu, candidate.holders) ?? [];
  const there = instances.find((one) => !one.busy && one.profile === profile.name && one.start === start);
  const partition = { id: there?.id ?? null, profile: profile.name, start };
  return {
    ...made,
    steps: stepsOf(candidate, { profile: profile.name, start }),
    holding: { ...made.holding, partition },
  };
}

/** What gives a GPU an instance at a place, beside those in use; none where it is there, or cannot be. */
export function stepsOf(
  { gpu, holders, sharing }: GpuCandidate,
  { profile, start }: { readonly profile: string; readonly start: number | null },
): readonly MigStep[] {
  const model = sharing.mode === 'mig' ? migModelOf(gpu.name) : undefined;
  if (!model || start === null) return [];
  const instances = instancesOf(gpu, holders) ?? [];
  // what was planned is told also while something runs there: whoever switches MIG on sees that it has to end first
  const seen = { id: gpu.id, enabled: migEnabled(gpu), idle: true, instances };
  return planMig(migTableOf(model), seen, [{ profile, start }]).steps ?? [];
}

function smallest(
  { memoryMb, computeShare, profile: wanted }: GpuRequest,
  profiles: readonly MigProfile[],
  slices: number,
  listed: Readonly<Record<string, number>> | undefined,
): MigProfile | Verdict {
  let unknown = false;
  const fitting = profiles.filter((profile) => {
    if (wanted !== undefined) return profile.name === wanted;
    if (computeShare !== undefined && profile.compute < computeShare * slices) return false;
    if (memoryMb === undefined) return true;
    const has = listed?.[profile.name] ?? profile.memoryMb;
    if (has === null) unknown = true;
    return has !== null && has >= memoryMb;
  });
  const best = fitting.sort((a, b) => a.memory - b.memory || a.compute - b.compute)[0];
  if (best) return best;
  if (unknown)
    return no(
      'memory-unknown',
      () => 'the memory of its MIG profiles is not known; `nvidia-smi mig -lgip` on the node tells',
    );
  return no('profile', () =>
    wanted === undefined ? 'no MIG profile is large enough' : `it has no MIG profile ${wanted}`,
  );
}

/** Those that exist and those that are held but still to be made; undefined: a place is not known. */
function instancesOf(gpu: Gpu, holders: readonly GpuHolder[]): MigInstance[] | undefined {
  const held = new Map(
    holders.map(({ holding: { partition } }): [string, GpuHolding['partition']] => [
      `${partition?.profile}@${partition?.start}`,
      partition,
    ]),
  );
  const heldIds = new Set(holders.map(({ holding }) => holding.partition?.id));
  const instances: MigInstance[] = [];
  for (const partition of gpu.partitions) {
    const profile = partition.profile.value;
    const start = partition.placement.value?.start;
    if (profile === null || start === undefined) return undefined;
    const key = `${profile}@${start}`;
    const busy = heldIds.has(partition.id) || held.has(key) || inUse(gpu, partition);
    held.delete(key);
    instances.push({ id: partition.id, profile, start, busy });
  }
  for (const partition of held.values()) {
    if (!partition || partition.start === null) return undefined;
    instances.push({
      id: `${gpu.id}/${partition.profile}:${partition.start}`,
      profile: partition.profile,
      start: partition.start,
      busy: true,
    });
  }
  return instances;
}

/** A process that no allocation accounts for runs in it, or it cannot be told whether one does. */
function inUse(gpu: Gpu, { id }: GpuPartition): boolean {
  return (
    gpu.processes === null || gpu.processes.some(({ partition }) => partition.value === null || partition.value === id)
  );
}

/** Thousandths of the GPU: `3g.40gb` has three of seven compute slices, `1c.3g.40gb` one; AMD partitions are alike. */
function shareOf(gpu: Gpu, partition: GpuPartition): number {
  if (gpu.vendor === 'amd') return Math.floor(WHOLE_GPU / partitionsOf(gpu).length);
  const parts = /^(?:(\d+)c\.)?(\d+)g\./.exec(partition.profile.value ?? '');
  const slices = migModelOf(gpu.name)?.computeSlices ?? 7;
  return parts ? Math.floor((WHOLE_GPU * Number(parts[1] ?? parts[2])) / slices) : 0;
}

/** MiB that workloads can have: all but what the driver keeps for itself; null: the total is not known. */
export function givableMb({ memoryTotalMb, memoryReservedMb }: Gpu): number | null {
  return memoryTotalMb.value === null ? null : Math.max(0, memoryTotalMb.value - (memoryReservedMb.value ?? 0));
}

/** Thousandths of what workloads can have, rounded down as parts are; 0 where nothing is known of it. */
export function milliOfMemory(memoryMb: number | null, gpu: Gpu): number {
  const givable = givableMb(gpu);
  if (givable === null || memoryMb === null || memoryMb === 0) return 0;
  return whole(WHOLE_GPU * Math.min(1, memoryMb / givable));
}

/** MiB that nobody holds and that the driver does not say are used by others; null: the total is not known. */
function roomOf({ gpu, holders }: GpuCandidate): number | null {
  const givable = givableMb(gpu);
  return givable === null ? null : Math.max(0, givable - heldMb(holders) - foreignMb(gpu, holders));
}

/** MiB of a part of a GPU. A driver says of an idle GPU too that it uses a few: a part that would fit but for them has so much less. */
function partOf(memoryMb: number, room: number, { gpu, holders }: GpuCandidate): number {
  const part = whole(memoryMb);
  return part > room && part - room <= Math.min(IDLE_USE_MB, foreignMb(gpu, holders)) ? room : part;
}

/** Less than any program uses that runs on a GPU: its context alone takes more. */
export const IDLE_USE_MB = 32;

/** Rounded down, but for what computing in binary loses: 0.57 of 1,000 are 570. */
function whole(value: number): number {
  return Math.floor(value + 1e-6);
}

/** MiB that the driver says are used and nobody holds. */
export function foreignMb(gpu: Gpu, holders: readonly GpuHolder[]): number {
  return Math.max(0, (gpu.memoryUsedMb.value ?? 0) - heldMb(holders));
}

function heldMb(holders: readonly GpuHolder[]): number {
  let total = 0;
  for (const { holding } of holders) total += holding.memoryMb ?? 0;
  return total;
}

/**
 * All that verdicts, their words and what is free depend on of a GPU, as text, beside `foreignMb` and what makes GPUs alike (vendor, name, capability, memory). Temperatures, loads and the
 * memory of who holds it change from second to second and are not in it.
 */
export function factsOf(gpu: Gpu): string {
  const { health, partitions, processes } = gpu;
  return JSON.stringify([
    isWell(gpu) || [health.state, health.causes.map(({ what }) => what)],
    gpu.stale,
    gpu.partitionMode.value,
    gpu.computeMode.value,
    gpu.memoryReservedMb.value,
    gpu.memoryTotalMb.absent,
    partitions.map(({ id, profile, placement, memoryTotalMb }) => [
      id,
      profile.value,
      placement.value?.start,
      memoryTotalMb.value,
    ]),
    processes && [
      processes[0]?.pid,
      partitions.length > 0 ? processes.map(({ pid, partition }) => [pid, partition.value]) : [],
    ],
  ]);
}

/** The same for GPUs of one kind that serve the same requests now, and refuse others for the same reason. Those with partitions are each by themselves. */
export function standingOf({ gpu, holders, sharing }: GpuCandidate): string {
  if (gpu.partitions.length > 0 || (sharing.mode === 'mig' && holders.length > 0)) return gpu.id;
  return JSON.stringify([
    isWell(gpu),
    gpu.stale,
    gpu.partitionMode.value,
    gpu.computeMode.value,
    gpu.memoryReservedMb.value,
    gpu.processes && gpu.processes.length > 0,
    foreignMb(gpu, holders),
    holders.map(({ holding: { mode, memoryMb, shareMilli } }) => [mode, memoryMb, shareMilli]),
  ]);
}

export function isWell({ health }: Gpu): boolean {
  return health.state === 'ok' || health.state === 'degraded';
}

/** Thousandths of a GPU that placement counts as free. */
export function freeMilli(candidate: GpuCandidate): number {
  const { gpu, holders, sharing } = candidate;
  if (!isWell(gpu) || gpu.stale || sharing.mode === 'mig') return 0;
  if (holders.length === 0)
    return gpu.processes !== null && gpu.processes.length > 0 && sharing.mode === 'exclusive' ? 0 : WHOLE_GPU;
  if (holders.some(({ holding }) => holding.mode === 'exclusive')) return 0;
  const share = WHOLE_GPU - sum(holders, ({ shareMilli }) => shareMilli);
  const room = roomOf(candidate);
  return Math.max(0, room === null ? share : Math.min(share, milliOfMemory(room, gpu)));
}

function lacksCapability({ minComputeCapability }: GpuRequest, { vendor, architecture }: Gpu): Refused | undefined {
  if (minComputeCapability === undefined) return undefined;
  if (vendor !== 'nvidia') return no('compute-capability', () => `${vendor} GPUs have no compute capability`);
  if (architecture.value === null) return no('compute-capability-unknown', () => 'its compute capability is not known');
  return compare(architecture.value, minComputeCapability) < 0
    ? no('compute-capability', () => `it has ${architecture.value}, ${minComputeCapability} is asked for`)
    : undefined;
}

/** By parts, so that 10.0 is more than 9.0. */
function compare(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split('.').map(Number);
  const [bMajor = 0, bMinor = 0] = b.split('.').map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}

/** Each word of what is asked for is a word of the name: `A10` does not mean an A100. */
export function matchesModel(name: string, asked: string): boolean {
  const there = wordsOf(name);
  for (const word of wordsOf(asked)) if (!there.has(word)) return false;
  return true;
}

const words = new Map<string, ReadonlySet<string>>();

function wordsOf(text: string): ReadonlySet<string> {
  let found = words.get(text);
  if (!found) {
    if (words.size >= MAX_NAMES) words.clear();
    found = new Set(
      text
        .toLowerCase()
        .split(/[^a-z0-9]+/)
        .filter(Boolean),
    );
    words.set(text, found);
  }
  return found;
}

/** Product names, and what was asked for of them, whose words are kept. */
const MAX_NAMES = 1_024;

function mpsClients({ architecture }: Gpu): number {
  return architecture.value !== null && compare(architecture.value, '7.0') < 0 ? MPS_CLIENTS_BEFORE_VOLTA : MPS_CLIENTS;
}

/** It says so, or has instances and says nothing of it. */
function migEnabled({ vendor, partitionMode: { value }, partitions }: Gpu): boolean {
  return vendor === 'nvidia' && (value === null ? partitions.length > 0 : value.toLowerCase() === 'enabled');
}

/** Why a GPU that is not set to give parts by profile gives none. */
function noProfiles({ gpu, sharing }: GpuCandidate, profile: string): string {
  const set = `it is set to ${sharing.mode}`;
  if (gpu.vendor === 'amd') return `${set}: ${profile} would be given where it is set to partition`;
  if (gpu.vendor !== 'nvidia') return `${set}, and GPUs of ${gpu.vendor} have no profiles`;
  const state = migEnabled(gpu) ? 'MIG is on, but' : 'it is not in MIG mode, and';
  return `${state} no MIG layout is configured for it (${set}): ${profile} would be given where it is set to mig`;
}

function holdersBut(holders: readonly GpuHolder[], mode: SharingMode): readonly GpuHolder[] | undefined {
  return holders.some(({ holding }) => holding.mode !== mode)
    ? holders.filter(({ holding }) => holding.mode !== mode)
    : undefined;
}

function heldBy(holders: readonly GpuHolder[]): Refused {
  return no('held', (tried) => {
    const others = holders.filter(({ record }) => !tried?.records.has(record.id));
    const needed = others.length < holders.length ? `needed by another member of gang ${tried!.gang}` : undefined;
    if (others.length === 0) return `it is ${needed}`;
    const [first, ...more] = others;
    const names = more.length === 0 ? nameOf(first!) : [...new Set(others.map(nameOf))].sort().join(', ');
    return `it is held by ${names}${needed ? ` and ${needed}` : ''}`;
  });
}

function nameOf({ record }: GpuHolder): string {
  return record.kind === 'allocation' ? record.instance : `reservation of ${record.owner}`;
}

function unknownMemory({ memoryTotalMb }: Gpu): Verdict {
  return no('memory-unknown', () => `how much memory it has is not known (${memoryTotalMb.absent ?? 'not reported'})`);
}

function offer({ node, gpu }: GpuCandidate, part: Omit<GpuHolding, 'node' | 'gpuId'>): Verdict {
  return { offer: { gpu, steps: [], holding: { node, gpuId: gpu.id, ...part } } };
}

function sum(holders: readonly GpuHolder[], of: (holding: GpuHolding) => number): number {
  let total = 0;
  for (const { holding } of holders) total += of(holding);
  return total;
}

function no(code: RefusalCode, say: (tried?: TriedGang) => string): Refused {
  return new Refused(code, say);
}
