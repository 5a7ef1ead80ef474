/**
 * GPUs as a program uses them. Over 300 lines because it is all of what `gpu.` offers, and each name needs its sentence.
 */
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { type ScheduleGpusOptions, scheduleGpus } from '../../pipelines/schedule-gpus.js';
import type { Clock } from '../clock.js';
import { defined } from '../defined.js';
import { IguanaError } from '../errors.js';
import type { GangMember, GpuDenial, GpuGrant } from '../gpu/allocator.js';
import type { GpuRequest, GpuSharing } from '../gpu/allocator-rules.js';
import { isOver, releaseIfThere } from '../gpu/gpu-over.js';
import type { AllocateOptions, GpuPlan, GpuService, GpuStats, WaitingRequest } from '../gpu/gpu-service.js';
import type { Allocation, LedgerRecord, Reservation } from '../gpu/ledger.js';
import { type LocalGpusOptions, localGpus } from '../gpu/local-gpus.js';
import { sharingBy, sharingRuleSchema } from '../gpu/sharing-rules.js';
import type { Gpu } from '../gpu/types.js';
import { assertReachable, type ConnectionOptions } from '../kafka/client.js';
import { checkedObject, checkedRequest, checkedReservation, checkedWait } from './gpu-checks.js';
import { type DiscoveredGpu, type DiscoveredProcess, discoveredGpu } from './gpu-discovered.js';
import { keepLease } from './gpu-lease.js';
import { allocateSchema, configureSchema, connectSchema, gangMembersSchema, gangOptionsSchema } from './gpu-options.js';
import { GpuRefusedError } from './gpu-refused.js';
import { assertOptions } from './option-checks.js';

/** As `gpu.sharing` of iguana.yaml: `mode` with what belongs to it; `node` and `gpu` (id or product) may have `*` for any characters. */
export type GpuSharingRule = z.input<typeof sharingRuleSchema>;

export type GpuOptions = Pick<LocalGpusOptions, 'quotas' | 'policy' | 'node' | 'nodes' | 'everyMs' | 'clock'> & {
  /** How GPUs may be used (default `open`): one way for all, rules by node and GPU of which the first that meets one counts, or a function. */
  readonly sharing?: GpuSharingRule | readonly GpuSharingRule[] | ((node: string, gpu: Gpu) => GpuSharing);
};

export interface GpuConnectOptions extends Pick<GpuOptions, 'sharing' | 'quotas' | 'policy' | 'everyMs'> {
  /** Kafka brokers, `host:port`. */
  readonly brokers: readonly string[];
  /** TLS, SASL and more of the connection. */
  readonly connection?: Omit<ConnectionOptions, 'brokers'>;
  /** Consumer group prefix (default `iguana`): of the processes with the same one, one decides. `sharing`, `quotas` and `policy` are the same for all of them. */
  readonly group?: string;
  /** Name of this machine (default its host name): processes that are started here get GPUs of this node. */
  readonly node?: string;
  /** Tell the others of this machine's GPUs (default true); false where `iguana start` runs on it. */
  readonly agent?: boolean;
  /** Owners and models for which GPUs are kept ready by forecasts, by the process that decides. */
  readonly preallocate?: ScheduleGpusOptions['preallocate'];
  /** Topics (defaults `metrics`, `forecasts`, `dead-letters`). */
  readonly topics?: Partial<Pick<ScheduleGpusOptions, 'metrics' | 'forecasts' | 'deadLetters'>>;
  /** Told of what goes wrong beside a call. Default: nobody. */
  readonly onError?: (error: unknown) => void;
}

/** An allocation by its id, the name of its instance, or as `allocate` returned it. */
export type GpuRef = string | Pick<GpuGrant, 'allocation'>;

/** A workload of a gang. */
export type GpuGangMember = Pick<GangMember, 'instance'> & Partial<Pick<GangMember, 'request'>>;

export interface GpuAllocateOptions extends GpuRequest, AllocateOptions {
  /** Renew the lease while this process runs (default true). With false call `renew`. */
  readonly keep?: boolean;
  /** Told when the lease is lost in spite of that: others may be given the GPUs. Default: nobody. */
  readonly onLost?: (why: string) => void;
}

/** A running service, and the node that workloads of this process must be on. */
export interface UsedGpus {
  readonly service: GpuService;
  readonly clock: Clock;
  /** undefined: whichever it gives. */
  readonly node: string | undefined;
}

/** This machine's GPUs are waited for so long after connecting, ms. */
const OWN_NODE_MS = 15_000;
/** And looked for this often. */
const OWN_NODE_LOOK_MS = 20;

/** Started at the first use. */
let shared: Promise<UsedGpus> | undefined;
/** What ends the heartbeats, by id of the allocation. */
const kept = new Map<string, () => void>();

/** Looking at GPUs and renewing leases does not keep a program from ending. */
const backgroundClock: Clock = {
  now: () => Date.now(),
  after(ms, action) {
    const timer = setTimeout(action, ms).unref();
    return () => clearTimeout(timer);
  },
  every(ms, action) {
    const timer = setInterval(action, ms).unref();
    return () => clearInterval(timer);
  },
};

async function begin({ sharing, clock = backgroundClock, ...rest }: GpuOptions): Promise<UsedGpus> {
  const service = await localGpus({ clock, ...rest, ...defined({ sharing: sharingOf(sharing) }) });
  return { service, clock, node: undefined };
}

async function beginConnected(options: GpuConnectOptions): Promise<UsedGpus> {
  const { brokers, connection, group = 'iguana', node = os.hostname(), agent = true, everyMs } = options;
  const { sharing, quotas, policy, preallocate, topics, onError } = options;
  const rules = defined({ sharing: sharingOf(sharing), quotas, policy });
  await assertReachable({ ...connection, brokers });
  const service = await scheduleGpus({
    connection: { ...connection, brokers },
    ...{ group, metrics: 'metrics', forecasts: 'forecasts', deadLetters: 'dead-letters', ...topics },
    rules,
    ...(agent && { agent: { node, ...defined({ everyMs }) } }),
    ...defined({ preallocate, onError }),
  });
  if (agent) {
    // so that what is asked next sees this machine
    const deadline = Date.now() + OWN_NODE_MS;
    await Promise.race([service.looked(), sleep(OWN_NODE_MS, undefined, { ref: false })]);
    const told = (): boolean => service.nodes().some((one) => one.node === node);
    while ((service.inventory()?.gpus.length ?? 0) > 0 && !told() && Date.now() < deadline)
      await sleep(OWN_NODE_LOOK_MS);
  }
  return { service, clock: backgroundClock, node };
}

function sharingOf(sharing: GpuOptions['sharing']): LocalGpusOptions['sharing'] {
  if (sharing === undefined || typeof sharing === 'function') return sharing;
  const parsed = z.array(sharingRuleSchema).safeParse(Array.isArray(sharing) ? sharing : [sharing]);
  if (parsed.success) return sharingBy(parsed.data);
  const { path, message } = parsed.error.issues[0]!;
  const fix = 'see sharing modes in docs/gpu-placement.md';
  throw new IguanaError('IGU_CONFIG', { where: ['sharing', ...path].join('.'), what: message, fix });
}

/** The GPUs that `gpu` gives, for what else of the library hands them out. */
export function usedGpus(): Promise<UsedGpus> {
  return shared ?? started(begin({}));
}

/** One that cannot begin is begun anew at the next use. */
function started(beginning: Promise<UsedGpus>): Promise<UsedGpus> {
  shared = beginning;
  beginning.catch(() => {
    if (shared === beginning) shared = undefined;
  });
  return beginning;
}

async function use(start: () => Promise<UsedGpus>): Promise<void> {
  if (shared) throw new IguanaError('IGU_USAGE', { what: 'GPUs are in use already: say how before, or close them' });
  await started(start());
}

/**
 * GPUs for a process here must be of this machine.
 * @throws IguanaError `IGU_GPU_REQUEST` when those of another one are asked for
 */
export function onNode({ node }: UsedGpus, who: string, request: GpuRequest): GpuRequest {
  if (node === undefined) return request;
  if (request.node !== undefined && request.node !== node) {
    const what = `node: its process runs here, on ${node}, and cannot use GPUs of ${request.node}`;
    throw new IguanaError('IGU_GPU_REQUEST', { instance: who, what });
  }
  return { ...request, node };
}

const service = async (): Promise<GpuService> => (await usedGpus()).service;

/** @throws IguanaError `IGU_GPU_REQUEST` for what is no reference */
function idOf(ref: GpuRef): string {
  const id: unknown = typeof ref === 'string' ? ref : ref?.allocation?.id;
  if (typeof id === 'string' && id !== '') return id;
  throw new IguanaError('IGU_GPU_REQUEST', {
    instance: '(no name)',
    what: 'an id, the name of an instance, or what allocate returned is needed',
  });
}

/** GPUs as a program uses them, those of this machine or after `connect` of a cluster: found, watched, given to workloads and taken back. */
export const gpu = {
  /**
   * Says how GPUs are given here; before anything else is called.
   * Errors: `IGU_CONFIG` for what cannot be, `IGU_USAGE` afterwards.
   *
   *     await gpu.configure({ sharing: { mode: 'mps', replicas: 4 }, quotas: { 'team-a': 2 } });
   */
  async configure(options: GpuOptions): Promise<void> {
    assertOptions(configureSchema, 'gpu.configure', options);
    await use(() => begin(options));
  },

  /**
   * Takes part in a cluster over Kafka topics: its GPUs are seen and given here; before anything else is called.
   * Errors: `IGU_CONFIG` for what cannot be, `IGU_USAGE` afterwards, `IGU_BROKER_UNREACHABLE`.
   */
  async connect(options: GpuConnectOptions): Promise<void> {
    assertOptions(connectSchema, 'gpu.connect', options);
    await use(() => beginConnected(options));
  },

  /**
   * The GPUs as they were told of last, a second ago at most: memory in MiB, °C, W, per cent; null where a value is not known, with the reason under the same name in `absent`. None: an
   * empty array.
   *
   *     for (const { name, memoryFree } of await gpu.discover()) console.log(name, memoryFree);
   */
  async discover(): Promise<readonly DiscoveredGpu[]> {
    const nodes = (await service()).nodes();
    return nodes.flatMap(({ node, gpus }) => gpus.map((one) => discoveredGpu(node, one)));
  },
  /** Load and memory of one GPU, as `discover` tells them. Errors: `IGU_NOT_FOUND`. */
  async getUtilization(
    id: string,
  ): Promise<
    Pick<
      DiscoveredGpu,
      'id' | 'utilization' | 'memoryUtilization' | 'memoryTotal' | 'memoryUsed' | 'memoryFree' | 'absent'
    >
  > {
    const { utilization, memoryUtilization, memoryTotal, memoryUsed, memoryFree, absent } = await found(id);
    return { id, utilization, memoryUtilization, memoryTotal, memoryUsed, memoryFree, absent };
  },
  /** What runs on one GPU; null: its tool does not tell, which is not the same as nothing. Errors: `IGU_NOT_FOUND`. */
  async processes(id: string): Promise<readonly DiscoveredProcess[] | null> {
    return (await found(id)).processes;
  },

  /**
   * GPUs for a workload; `environment` is for its process. The same instance with the same request gets what it has already. The lease is renewed while this process runs, until
   * `deallocate`.
   * Errors: `IGU_GPU_REFUSED`, a `GpuRefusedError` with `denial`, when there is no room; `IGU_GPU_REQUEST` for what cannot be meant.
   *
   *     const { gpuIds, environment } = await gpu.allocate('ml-worker-1', { gpuCount: 2, model: 'A100' });
   */
  async allocate(instance: string, options: GpuAllocateOptions = {}): Promise<GpuGrant> {
    const { waitMs: given = 0, keep = true, onLost, ...request } = checkedObject(instance, options);
    assertOptions(allocateSchema, 'gpu.allocate', options);
    const asked = checkedRequest(instance, request);
    const waitMs = checkedWait(instance, given);
    const using = await usedGpus();
    const answer = await heldOpen(waitMs, () => using.service.allocate(instance, asked, { waitMs }));
    if (!answer.granted) throw new GpuRefusedError(instance, answer);
    if (keep) keepAllocation(using, answer.allocation, onLost);
    return answer;
  },
  /** All members or none; a request that is left out is for one whole GPU. Errors: as `allocate`. */
  async allocateGang(
    gang: string,
    members: readonly GpuGangMember[],
    options: Pick<GpuAllocateOptions, 'waitMs' | 'keep' | 'onLost'> = {},
  ): Promise<readonly GpuGrant[]> {
    const { waitMs: given = 0, keep = true, onLost } = checkedObject(gang, options);
    assertOptions(gangOptionsSchema, 'gpu.allocateGang', options);
    assertOptions(gangMembersSchema, 'gpu.allocateGang', members);
    const waitMs = checkedWait(gang, given);
    const asked = members.map(({ instance, request = {} }) => ({
      instance,
      request: checkedRequest(instance, request),
    }));
    const using = await usedGpus();
    const answer = await heldOpen(waitMs, () => using.service.allocateGang(gang, asked, { waitMs }));
    if ('granted' in answer) throw new GpuRefusedError(gang, answer);
    if (keep) for (const { allocation } of answer) keepAllocation(using, allocation, onLost);
    return answer;
  },
  /** What `allocate` would say now: `granted` with what it would give, or why not. Nothing changes. Errors: `IGU_GPU_REQUEST`. */
  async canAllocate(instance: string, request: GpuRequest = {}): Promise<GpuGrant | GpuDenial> {
    return (await service()).canAllocate(instance, checkedRequest(instance, request));
  },
  /**
   * Gives GPUs back: of an allocation, a reservation, or what waits for them; by name of a gang, where no instance is called so, those of all its members.
   * Errors: `IGU_GPU_ALLOCATION`.
   */
  async deallocate(ref: GpuRef): Promise<void> {
    const using = await service();
    const id = using.find(idOf(ref))?.id ?? idOf(ref);
    // a heartbeat that came after would find it gone, and tell that it is lost
    for (const one of [id, ...membersOf(using, id)]) stopKeeping(one);
    await using.release(id);
  },
  /** A heartbeat: the lease lasts as long as at first again. Errors: `IGU_GPU_ALLOCATION` when it is over. */
  async renew(ref: GpuRef): Promise<Allocation> {
    return (await service()).renew(idOf(ref));
  },
  /**
   * Keeps GPUs for an owner's next allocations.
   * @param forMs so long at most, ms (default 600,000)
   * Errors: as `allocate`.
   */
  async reserve(owner: string, options: GpuRequest & { readonly forMs?: number } = {}): Promise<Reservation> {
    const { forMs = 600_000, ...request } = checkedObject(owner, options);
    const asked = checkedRequest(owner, request);
    const ttlMs = checkedReservation(owner, forMs);
    const answer = await (await service()).reserve(owner, asked, ttlMs);
    if ('granted' in answer) throw new GpuRefusedError(owner, answer);
    return answer;
  },

  /** Allocations and reservations. */
  async allocations(): Promise<readonly LedgerRecord[]> {
    return (await service()).records();
  },
  /** Requests that wait for room. */
  async waiting(): Promise<readonly WaitingRequest[]> {
    return (await service()).waiting();
  },
  /** Ids of the GPUs that would do for a request, and of the others why not. Errors: `IGU_GPU_REQUEST`. */
  async explain(request: GpuRequest = {}): Promise<ReturnType<GpuService['explain']>> {
    return (await service()).explain(checkedRequest('explain', request));
  },
  /** Moves of workloads that would make more GPUs usable, and partitions to be made. Nothing of it is done. @param maxMoves default 10 */
  async plan(maxMoves?: number): Promise<GpuPlan> {
    return (await service()).plan(maxMoves);
  },
  async stats(): Promise<GpuStats & Pick<GpuService, 'role'>> {
    const using = await service();
    return { ...using.stats(), role: using.role };
  },

  /** Gives back what this process allocated and still keeps, and looks no more. The next call begins anew. */
  async close(): Promise<void> {
    const closing = shared;
    shared = undefined;
    const ids = [...kept.keys()];
    for (const id of ids) stopKeeping(id);
    const used = await closing;
    if (!used) return;
    try {
      for (const id of ids) await releaseIfThere(used.service, id);
    } finally {
      await used.service.stop();
    }
  },
};

async function found(id: string): Promise<DiscoveredGpu> {
  for (const { node, gpus } of (await service()).nodes()) {
    const one = gpus.find((candidate) => candidate.id === id);
    if (one) return discoveredGpu(node, one);
  }
  throw new IguanaError('IGU_NOT_FOUND', { what: 'GPU', name: id, fix: 'gpu.discover() tells their ids' });
}

function keepAllocation(
  { service: from, clock }: UsedGpus,
  { id, leaseMs, expiresAt }: Allocation,
  onLost?: (why: string) => void,
): void {
  if (leaseMs === null || kept.has(id)) return;
  const end = keepLease({
    leaseMs,
    expiresAt,
    clock,
    renew: () => from.renew(id),
    isOver,
    onLost: (why) => {
      kept.delete(id);
      onLost?.(why);
    },
  });
  kept.set(id, end);
}

/** Ids of a gang's allocations, where it is the gang that is called so. */
function membersOf(using: GpuService, name: string): readonly string[] {
  const isInstance = using.find(name) ?? using.waiting().some((one) => one.gang === null && one.instance === name);
  if (isInstance) return [];
  return using.records().flatMap((one) => (one.kind === 'allocation' && one.gang === name ? [one.id] : []));
}

function stopKeeping(id: string): void {
  kept.get(id)?.();
  kept.delete(id);
}

/** A program that waits for GPUs does not end for having nothing else to do. */
async function heldOpen<T>(waitMs: number, ask: () => Promise<T>): Promise<T> {
  const hold = waitMs > 0 ? setInterval(() => undefined, 60_000) : undefined;
  try {
    return await ask();
  } finally {
    clearInterval(hold);
  }
}
