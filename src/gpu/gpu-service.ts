import type { GangMember, GpuDenial, GpuGrant } from './allocator.js';
import type { GpuRefusal, GpuRequest } from './allocator-rules.js';
import type { Allocation, LedgerRecord, Reservation } from './ledger.js';
import type { MigStep } from './mig/mig-plan.js';
import type { PreallocationReport } from './preallocation.js';
import type { Gpu } from './types.js';

/** The GPUs of one node, as its agent last told. */
export interface GpuNode {
  readonly node: string;
  readonly gpus: readonly Gpu[];
  /** ms since 1970 when its agent told of them. */
  readonly at: number;
  /** Its agent has not been heard for too long: nothing new is placed there. */
  readonly silent: boolean;
}

/** A request that gets nothing now and waits until there is room. */
export interface WaitingRequest {
  readonly instance: string;
  /** All members of a gang wait as one. */
  readonly gang: string | null;
  readonly owner: string;
  readonly gpuCount: number;
  readonly priority: number;
  /** ms since 1970. */
  readonly since: number;
  readonly until: number;
  /** Why it got nothing when it was last tried, one sentence. */
  readonly what: string;
}

export interface AllocateOptions {
  /** When there is no room: wait for it so long, ms (default 0: refused at once). The answer comes at the end of the wait. */
  readonly waitMs?: number;
}

/** A workload that would leave less waste elsewhere. */
export interface GpuMove {
  readonly allocation: string;
  readonly instance: string;
  readonly from: { readonly node: string; readonly gpuIds: readonly string[] };
  readonly to: { readonly node: string; readonly gpuIds: readonly string[] };
  /** GPUs that become usable by it. */
  readonly gain: number;
}

/** What could be done, in this order. Nothing of it is done by itself. */
export interface GpuPlan {
  readonly moves: readonly GpuMove[];
  /** GPUs that the demand seen so far cannot use: now, and after the moves. */
  readonly unusableBefore: number;
  readonly unusableAfter: number;
  /** Partitions that allocations wait for, with what makes them. */
  readonly partitions: readonly {
    readonly allocation: string;
    readonly node: string;
    readonly steps: readonly MigStep[];
  }[];
}

export interface GpuStats {
  readonly nodes: number;
  readonly gpus: number;
  /** By the worst of their causes. */
  readonly healthy: number;
  readonly allocations: number;
  readonly reservations: number;
  /** Whole GPUs that are held, a share counting as its part. */
  readonly held: number;
  readonly reserved: number;
  /** Requests that wait. */
  readonly waiting: number;
  /** Since this process began: grants, refusals, what ended for want of a heartbeat, what had to go for another. */
  readonly granted: number;
  readonly refused: number;
  readonly expired: number;
  readonly preempted: number;
  /** Mean wait of those that were granted, ms; null: none was. */
  readonly averageWaitMs: number | null;
  /** GPU-hours that were reserved and not used, and used, since this process began. */
  readonly idleReservedHours: number;
  readonly usedHours: number;
}

/**
 * Whoever gives GPUs: of this machine alone, or of a cluster over topics. Errors of all that change something: `IGU_GPU_REQUEST` for what cannot be meant, `IGU_GPU_ALLOCATION` for what
 * is not there, and over topics `IGU_GPU_SCHEDULER` when no scheduler answers in time.
 */
export interface GpuService {
  nodes(): readonly GpuNode[];
  /** Allocations and reservations. */
  records(): readonly LedgerRecord[];
  waiting(): readonly WaitingRequest[];
  /** By id of the record, or name of the instance. */
  find(idOrInstance: string): LedgerRecord | undefined;
  allocate(instance: string, request: GpuRequest, options?: AllocateOptions): Promise<GpuGrant | GpuDenial>;
  /** All members or none. */
  allocateGang(
    gang: string,
    members: readonly GangMember[],
    options?: AllocateOptions,
  ): Promise<readonly GpuGrant[] | GpuDenial>;
  /** Keeps GPUs for an owner's next allocations, for so long. */
  reserve(owner: string, request: GpuRequest, ttlMs: number): Promise<Reservation | GpuDenial>;
  /** Of an allocation, a reservation, or what waits; by id, or name of the instance. By name of a gang: of all its members, where no instance is called so. */
  release(idOrInstance: string): Promise<void>;
  /** A heartbeat. */
  renew(idOrInstance: string): Promise<Allocation>;
  /** What `allocate` would say now; nothing changes. */
  canAllocate(instance: string, request: GpuRequest): GpuGrant | GpuDenial;
  /** For each GPU what speaks against a request, and those that would do. */
  explain(request: GpuRequest): { readonly fits: readonly string[]; readonly gpus: readonly GpuRefusal[] };
  /** @param maxMoves at most so many (default 10) */
  plan(maxMoves?: number): GpuPlan;
  stats(): GpuStats;
  /** What is kept ready from forecasts, and why, by owner and model; empty where no policy asks for it or another process decides. */
  preallocation(): readonly PreallocationReport[];
  /** `acting`: this process decides; `standing-by`: another one does; `local`: there is nobody else. */
  readonly role: 'acting' | 'standing-by' | 'local';
  stop(): Promise<void>;
}
