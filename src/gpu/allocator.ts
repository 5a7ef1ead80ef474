/**
 * Gives GPUs to workloads: judges each GPU by its mode's rules, lets the placement policy choose, and writes what it did as events of the ledger. It is longer than others since
 * allocation, reservations, gangs and preemption are one decision over one state: each may use what another gives back.
 */
import type { Clock } from '../clock.js';
import { IguanaError } from '../errors.js';
import { gpuLedgerLimits } from '../limits.js';
import { AllocatorCluster, type Choice, demandOf, milliOf } from './allocator-cluster.js';
import { type Enforcement, enforcementOf, environmentOf } from './allocator-environment.js';
import {
  type GpuOffer,
  type GpuRefusal,
  type GpuRequest,
  type GpuSharing,
  IDLE_USE_MB,
  judge,
  matchesModel,
  stepsOf,
  type TriedGang,
  wantsWhole,
} from './allocator-rules.js';
import {
  type Allocation,
  countedMilli,
  type GpuHolding,
  Ledger,
  type LedgerEvent,
  type LedgerEventType,
  type LedgerRecord,
  type Reservation,
  type SharingMode,
} from './ledger.js';
import type { MigMix } from './mig/mig-outlook.js';
import type { MigStep } from './mig/mig-plan.js';
import { type DemandShare, type ExpectedDemand, WHOLE_GPU } from './placement/demand.js';
import type { PlacementPolicyName } from './placement/inflation.js';
import type { Gpu } from './types.js';

export interface AllocatorOptions {
  readonly clock: Clock;
  /** Default: an empty one. */
  readonly ledger?: Ledger;
  /** How nodes and GPUs are chosen (default `fragmentation-gradient`). */
  readonly policy?: PlacementPolicyName;
  /** How each GPU may be used (default: all `open`). */
  readonly sharing?: (node: string, gpu: Gpu) => GpuSharing;
  /** GPUs that an owner may hold at a time, reservations with it, a share counting as its part (default: no bound). */
  readonly quotas?: Readonly<Record<string, number>>;
  /** GPUs whose reasons are told with a refusal (default all). */
  readonly maxToldGpus?: number;
  /** Called with each change, in order: what is to be written to the topic. */
  readonly onEvent?: (event: LedgerEvent) => void;
}

/** What a workload got. */
export interface GpuGrant {
  readonly granted: true;
  readonly allocation: Allocation;
  readonly gpuId: string;
  readonly gpuIds: readonly string[];
  readonly node: string;
  readonly mode: SharingMode;
  /** For the workload's process; empty while a partition is still to be made. */
  readonly environment: Readonly<Record<string, string>>;
  readonly enforcement: Enforcement;
  /** What makes the MIG instance that was planned; then tell `partitioned`. */
  readonly steps: readonly MigStep[];
  /** Allocations that had to go for it. */
  readonly preempted: readonly string[];
}

export function grantOf(allocation: Allocation, steps: readonly MigStep[], preempted: readonly string[]): GpuGrant {
  const gpuIds = allocation.holdings.map(({ gpuId }) => gpuId);
  const { node, mode } = allocation.holdings[0]!;
  return {
    granted: true,
    allocation,
    gpuId: gpuIds[0]!,
    gpuIds,
    node,
    mode,
    environment: allocation.environment,
    enforcement: enforcementOf(mode),
    steps,
    preempted,
  };
}

export type RefusalReason = 'gpus' | 'quota' | 'records' | 'instance' | 'request';

/** Why there is nothing. */
export interface GpuDenial {
  readonly granted: false;
  readonly reason: RefusalReason;
  readonly what: string;
  /** For each GPU that will not do, why. It is as it was when the request came, and costs O(GPUs) when it is read first. */
  readonly gpus: readonly GpuRefusal[];
}

export interface GangMember {
  readonly instance: string;
  readonly request: GpuRequest;
}

/** An all-or-nothing change that goes on: what was before it, and what it will tell. */
interface Attempted {
  readonly before: Map<string, LedgerRecord | undefined>;
  readonly sequence: number;
  readonly events: LedgerEvent[];
  readonly demands: ExpectedDemand[];
}

export class GpuAllocator {
  readonly ledger: Ledger;
  private readonly cluster: AllocatorCluster;
  private attempt: Attempted | undefined;
  private tried: (TriedGang & { readonly records: Set<string> }) | undefined;

  constructor(private readonly options: AllocatorOptions) {
    this.ledger = options.ledger ?? new Ledger();
    this.cluster = new AllocatorCluster(this.ledger, options.policy ?? 'fragmentation-gradient');
  }

  /**
   * What a node has now. GPUs that are missing take nothing new; who held them holds them still. False: no request sees a difference.
   * Cost: some µs a GPU while they are those that were told before; when there are others, the next request costs O(all GPUs).
   */
  setNode(node: string, gpus: readonly Gpu[]): boolean {
    const { sharing } = this.options;
    return this.cluster.setNode(node, gpus, (gpu) => sharing?.(node, gpu) ?? { mode: 'open' });
  }

  /** A node that is gone: its allocations stay until their leases are over, for it may come back. */
  removeNode(node: string): void {
    this.cluster.removeNode(node);
  }

  /** Follows what another allocator wrote. False: it was known already. */
  apply(event: LedgerEvent): boolean {
    const before = this.ledger.get(event.id);
    if (!this.ledger.apply(event)) return false;
    for (const { gpuId } of [...(before?.holdings ?? []), ...(event.record?.holdings ?? [])])
      this.cluster.refresh(gpuId);
    const { type, record } = event;
    const gpu = type === 'allocated' ? this.cluster.gpuOf(record?.holdings[0]?.gpuId ?? '')?.gpu : undefined;
    if (record && gpu)
      this.cluster.learn(this.demandBy(JSON.parse(record.request) as GpuRequest, record.holdings, gpu));
    return true;
  }

  /** What makes the partitions that a record still waits for, in order. */
  stepsFor({ id, holdings }: LedgerRecord): readonly MigStep[] {
    return holdings.flatMap(({ gpuId, partition }) => {
      const candidate = partition?.id === null ? this.cluster.candidate(gpuId, new Set([id])) : undefined;
      return candidate && partition ? stepsOf(candidate, partition) : [];
    });
  }

  /** The same where a compacted topic has no longer the event that ended a record. False: there was none. */
  forget(id: string): boolean {
    const before = this.ledger.get(id);
    if (!before) return false;
    this.ledger.forget(id);
    for (const { gpuId } of before.holdings) this.cluster.refresh(gpuId);
    return true;
  }

  /** Kinds of demand that were seen so far, or are expected. */
  get demandMix(): readonly DemandShare[] {
    return this.cluster.demandMix;
  }

  /** Demand to be expected, for placement; undefined: what was asked for so far. */
  expect(mix: readonly DemandShare[] | undefined, migProfiles?: MigMix): void {
    this.cluster.expect(mix, migProfiles);
  }

  /**
   * Gives a workload GPUs, or says of each GPU why not. The same instance with the same request gets what it has already, with the steps that are still to
   * be done; `preempted` names what had to go for this answer, so it is empty then.
   * Cost: O(groups of like GPUs of a node), and a judgement of each GPU that changed since the last request of that shape.
   * @throws IguanaError `IGU_GPU_REQUEST` when the request cannot be meant
   */
  allocate(instance: string, request: GpuRequest): GpuGrant | GpuDenial {
    return this.grant(instance, request, null);
  }

  /** What `allocate` would say; nothing changes. */
  canAllocate(instance: string, request: GpuRequest): GpuGrant | GpuDenial {
    let answer: GpuGrant | GpuDenial | undefined;
    this.atomically(() => {
      answer = this.grant(instance, request, null);
      return false;
    });
    return answer!;
  }

  /**
   * All members or none. The answer of the first that gets nothing, or one for each.
   * @throws IguanaError `IGU_GPU_REQUEST` when a request cannot be meant or an instance is in it twice
   */
  allocateGang(gang: string, members: readonly GangMember[]): readonly GpuGrant[] | GpuDenial {
    const instances = new Set<string>();
    for (const { instance } of members) {
      if (instances.has(instance)) throw invalid(instance, `it is in gang ${gang} twice`);
      instances.add(instance);
    }
    const answers = new Map<GangMember, GpuGrant>();
    let denied: GpuDenial | undefined;
    // The hardest to place first.
    const order = [...members].sort((a, b) => size(b.request) - size(a.request));
    const tried = { gang, records: new Set<string>() };
    this.tried = tried;
    try {
      this.atomically(() => {
        for (const member of order) {
          const before = this.ledger.sequence;
          const answer = this.grant(member.instance, member.request, gang);
          if (!answer.granted) {
            denied = denialOf(answer.reason, `${member.instance} of gang ${gang}: ${answer.what}`, () => answer.gpus);
            return false;
          }
          answers.set(member, answer);
          if (this.ledger.sequence > before) tried.records.add(answer.allocation.id);
        }
        return true;
      });
    } finally {
      this.tried = undefined;
    }
    return denied ?? members.map((member) => answers.get(member)!);
  }

  /** @throws IguanaError `IGU_GPU_ALLOCATION` when there is none such */
  release(id: string, why = 'it was released'): void {
    this.expectRecord(id);
    this.write('released', id, why, null);
  }

  /** A heartbeat. @throws IguanaError `IGU_GPU_ALLOCATION` when it is over already: then allocate again */
  renew(id: string): Allocation {
    const record = this.expectRecord(id);
    if (record.kind !== 'allocation') throw new IguanaError('IGU_GPU_ALLOCATION', { id });
    if (record.leaseMs === null) return record;
    const renewed = { ...record, expiresAt: this.options.clock.now() + record.leaseMs };
    this.write('renewed', id, 'a heartbeat came', renewed);
    return renewed;
  }

  /**
   * Gives back what is due: leases without heartbeat, reservations that nobody used. Call it regularly.
   * @param spared those that stay although they are due (default none)
   */
  expire(spared: (record: LedgerRecord) => boolean = () => false): number {
    const now = this.options.clock.now();
    const due = [...this.ledger.all()].filter(
      (record) => record.expiresAt !== null && record.expiresAt <= now && !spared(record),
    );
    for (const { id, kind } of due)
      this.write('expired', id, kind === 'allocation' ? 'no heartbeat came' : 'nobody used it', null);
    return due.length;
  }

  /** Keeps GPUs for an owner: its next allocations that fit use them first. */
  reserve(owner: string, request: GpuRequest, ttlMs: number): Reservation | GpuDenial {
    if (!(ttlMs > 0) || !Number.isFinite(ttlMs)) throw invalid(owner, `a reservation for ${ttlMs} ms`);
    check(owner, request);
    const full = this.full();
    if (full) return full;
    const asked = { ...request, owner };
    const found = this.decide(asked);
    if (!('choice' in found)) return found;
    const id = `reservation/${owner}/${this.ledger.sequence + 1}`;
    const now = this.options.clock.now();
    const record: Reservation = {
      kind: 'reservation',
      id,
      owner,
      request: canonical(request),
      holdings: found.choice.offers.map(({ holding }) => holding),
      since: now,
      expiresAt: now + ttlMs,
    };
    this.write('reserved', id, `kept for ${owner}`, record);
    return record;
  }

  /** MIG instances that were planned are there now, by GPU. The allocation's environment names them. */
  partitioned(id: string, instances: ReadonlyMap<string, string>): Allocation {
    const record = this.expectRecord(id);
    if (record.kind !== 'allocation') throw new IguanaError('IGU_GPU_ALLOCATION', { id });
    const holdings = record.holdings.map((holding): GpuHolding => {
      const uuid = instances.get(holding.gpuId);
      if (uuid === undefined || !holding.partition) return holding;
      return { ...holding, partition: { ...holding.partition, id: uuid } };
    });
    const there = holdings.flatMap(({ gpuId }) => this.cluster.gpuOf(gpuId) ?? []);
    const gpus = there.map(({ gpu }) => gpu);
    const sharing = there[0]?.sharing ?? { mode: 'open' };
    const made = { ...record, holdings, environment: environmentOf(holdings, gpus, sharing) };
    this.write('partitioned', id, 'its partition was made', made);
    return made;
  }

  /** For each GPU, what speaks against a request now; an empty list: nothing. */
  explain(request: GpuRequest): { readonly fits: readonly string[]; readonly gpus: readonly GpuRefusal[] } {
    check('request', request);
    return this.cluster.explain(request);
  }

  /** GPUs that an owner holds, a share counting as its part. */
  usageOf(owner: string): number {
    let milli = 0;
    for (const { holdings } of this.ledger.ofOwner(owner)) milli += countedMilli(holdings);
    return milli / WHOLE_GPU;
  }

  private grant(instance: string, request: GpuRequest, gang: string | null): GpuGrant | GpuDenial {
    check(instance, request);
    const asked = canonical(request);
    const there = this.ledger.allocationOf(instance);
    // one whose lease is over is about to be given back: it is not handed out once more
    const over = there !== undefined && there.expiresAt !== null && there.expiresAt <= this.options.clock.now();
    if (there && !over) {
      if (there.request === asked) return grantOf(there, this.stepsFor(there), []);
      return deny('instance', `${instance} holds ${there.id} by another request; release that first`);
    }
    const full = this.full();
    if (full) return full;
    const owner = request.owner ?? instance;
    const reserved = this.fromReservation(owner, request);
    let choice = reserved?.choice;
    let preempted: readonly string[] = [];
    let granted: GpuGrant | GpuDenial | undefined;
    this.atomically(() => {
      if (over) this.write('expired', there.id, 'no heartbeat came', null);
      if (reserved) this.shrink(reserved.reservation, reserved.choice, instance);
      if (!choice) {
        const found = this.decide(request, instance);
        if ('choice' in found) choice = found.choice;
        else if (found.reason === 'gpus' && request.preempt) {
          const way = this.preempt(request, instance, gang);
          if (way) ({ choice, preempted } = way);
        }
        if (!choice) {
          granted = 'choice' in found ? undefined : found;
          return false;
        }
      }
      granted = this.record(instance, owner, request, asked, gang, choice, preempted);
      return true;
    });
    return granted!;
  }

  private full(): GpuDenial | undefined {
    return this.ledger.size < gpuLedgerLimits.maxRecords
      ? undefined
      : deny('records', `there are ${gpuLedgerLimits.maxRecords} allocations and reservations already`);
  }

  private record(
    instance: string,
    owner: string,
    request: GpuRequest,
    asked: string,
    gang: string | null,
    { offers, sharing }: Choice,
    preempted: readonly string[],
  ): GpuGrant {
    const now = this.options.clock.now();
    const holdings = offers.map(({ holding }) => holding);
    const leaseMs = request.leaseMs === undefined ? gpuLedgerLimits.leaseMs : request.leaseMs;
    const allocation: Allocation = {
      kind: 'allocation',
      id: `${instance}/${this.ledger.sequence + 1}`,
      instance,
      owner,
      priority: request.priority ?? 0,
      gang,
      request: asked,
      holdings,
      environment: environmentOf(
        holdings,
        offers.map(({ gpu }) => gpu),
        sharing,
      ),
      since: now,
      leaseMs,
      expiresAt: leaseMs === null ? null : now + leaseMs,
    };
    this.write('allocated', allocation.id, `placed on ${holdings[0]!.node}`, allocation);
    this.attempt?.demands.push(this.demandBy(request, holdings, offers[0]!.gpu));
    return grantOf(
      allocation,
      offers.flatMap(({ steps }) => steps),
      preempted,
    );
  }

  /** MiB stay MiB: on the GPUs that it did not get they are another part, or more than there is. */
  private demandBy(request: GpuRequest, holdings: readonly GpuHolding[], gpu: Gpu): ExpectedDemand {
    const { model, memoryMb, computeShare = 0 } = request;
    const beside = wantsWhole(request) ? WHOLE_GPU : Math.max(1, Math.floor(WHOLE_GPU * computeShare));
    const milli = memoryMb === undefined ? milliOf({ holding: holdings[0]!, gpu }) : beside;
    return {
      ...demandOf(holdings.length, milli),
      ...(memoryMb !== undefined && { gpuMemoryMb: memoryMb }),
      ...(model !== undefined && { models: this.cluster.models.filter((name) => matchesModel(name, model)) }),
    };
  }

  /** Which GPUs; nothing is written. */
  private decide(request: GpuRequest, instance?: string): { readonly choice: Choice } | GpuDenial {
    const owner = request.owner ?? instance ?? '';
    const choice = this.cluster.choose(request);
    if (!choice) return this.denyGpus(request);
    const quota = this.options.quotas?.[owner];
    if (quota !== undefined) {
      const used = this.usageOf(owner);
      const more = countedMilli(choice.offers.map(({ holding }) => holding)) / WHOLE_GPU;
      if (used + more > quota + 1e-9)
        return deny('quota', `${owner} holds ${used} of ${quota} GPUs and asks for ${more} more`);
    }
    return { choice };
  }

  private denyGpus(request: GpuRequest): GpuDenial {
    const { size } = this.cluster;
    if (size === 0) return deny('gpus', 'there are no GPUs');
    const { maxToldGpus = Number.POSITIVE_INFINITY } = this.options;
    const { counts, fits, tell } = this.cluster.refusals(request, maxToldGpus);
    const told = [...counts].sort((a, b) => b[1] - a[1]).map(([code, count]) => `${code} ${count}`);
    const what =
      fits > 0
        ? `no node has ${request.gpuCount ?? 1} like GPUs that will do (${fits} will, alone)`
        : `none of ${size} GPUs will do: ${told.join(', ')}`;
    const { tried } = this;
    return denialOf('gpus', what, () => tell(tried));
  }

  private fromReservation(
    owner: string,
    request: GpuRequest,
  ): { readonly reservation: Reservation; readonly choice: Choice } | undefined {
    // In an order that does not hang on how the ledger came about: what ends first goes first.
    const own: Reservation[] = [];
    for (const record of this.ledger.ofOwner(owner)) if (record.kind === 'reservation') own.push(record);
    own.sort((a, b) => a.expiresAt - b.expiresAt || (a.id < b.id ? -1 : 1));
    for (const record of own) {
      const without = new Set([record.id]);
      const choice = this.cluster.choose(request, { only: record.holdings.map(({ gpuId }) => gpuId), without });
      if (choice && within(choice.offers, record)) return { reservation: record, choice };
    }
    return undefined;
  }

  /** What is used of a reservation is no longer kept; the rest is. */
  private shrink(reservation: Reservation, { offers }: Choice, instance: string): void {
    const used = new Map(offers.map(({ holding }) => [holding.gpuId, holding]));
    const holdings = reservation.holdings.flatMap((kept) => restOf(kept, used.get(kept.gpuId)));
    if (holdings.length === 0) this.write('used', reservation.id, `used by ${instance}`, null);
    else this.write('reduced', reservation.id, `used in part by ${instance}`, { ...reservation, holdings });
  }

  /**
   * Frees GPUs for a request of higher priority: where the least is lost, which is first the lowest priority and then the fewest GPU-milliseconds of work. Nobody goes who need not, but of
   * a gang all go, for the others could do nothing alone. Undefined: that would not help, and nothing is written.
   * @param gang that the request is of: its members stay
   */
  private preempt(
    request: GpuRequest,
    instance: string,
    gang: string | null,
  ): { choice: Choice; preempted: readonly string[] } | undefined {
    const priority = request.priority ?? 0;
    const count = request.gpuCount ?? 1;
    const now = this.options.clock.now();
    const gangs = new Map<string, Allocation[]>();
    let lower = false;
    for (const record of this.ledger.all()) {
      if (record.kind !== 'allocation') continue;
      lower ||= record.priority < priority;
      if (record.gang === null) continue;
      const members = gangs.get(record.gang);
      if (members) members.push(record);
      else gangs.set(record.gang, [record]);
    }
    if (!lower) return undefined;
    const withIt = (one: Allocation): readonly Allocation[] => (one.gang === null ? [one] : gangs.get(one.gang)!);
    const mayGo = (one: Allocation): boolean =>
      (one.gang === null || one.gang !== gang) && withIt(one).every((other) => other.priority < priority);
    let best: { victims: ReadonlySet<Allocation>; loss: Loss } | undefined;
    for (const group of this.cluster.suitable(request)) {
      const list = group.flatMap(({ gpu: { id } }) => {
        const victims = this.victimsOn(id, request, mayGo, now)?.flatMap(withIt);
        return victims ? [{ id, victims, loss: lossOf(new Set(victims), now) }] : [];
      });
      if (list.length < count) continue;
      const cheapest = list.sort((a, b) => compareLoss(a.loss, b.loss)).slice(0, count);
      const victims = new Set(cheapest.flatMap((one) => one.victims));
      const loss = lossOf(victims, now);
      if (best && compareLoss(loss, best.loss) >= 0) continue;
      const without = new Set([...victims].map(({ id }) => id));
      if (this.cluster.choose(request, { only: cheapest.map(({ id }) => id), without })) best = { victims, loss };
    }
    if (!best) return undefined;
    const preempted = [...best.victims].map(({ id }) => id);
    for (const id of preempted) this.write('preempted', id, `${instance} has priority ${priority}`, null);
    const again = this.decide(request, instance);
    // The quota speaks against it, or the place is another one: then nothing of this happens.
    if (!('choice' in again)) return undefined;
    return { choice: again.choice, preempted };
  }

  /** The least that has to go for a GPU to do; undefined: nothing would help. */
  private victimsOn(
    gpuId: string,
    request: GpuRequest,
    mayGo: (one: Allocation) => boolean,
    now: number,
  ): Allocation[] | undefined {
    const victims = new Set<Allocation>();
    const fits = (): boolean => {
      const without = new Set([...victims].map(({ id }) => id));
      return 'offer' in judge(request, this.cluster.candidate(gpuId, without)!);
    };
    const lower = this.ledger
      .holdersOf(gpuId)
      .flatMap(({ record }) => (record.kind === 'allocation' && mayGo(record) ? [record] : []))
      .sort((a, b) => a.priority - b.priority || workOf(a, now) - workOf(b, now) || (a.id < b.id ? -1 : 1));
    for (const record of lower) {
      if (fits()) break;
      victims.add(record);
    }
    if (!fits()) return undefined;
    for (const record of lower.reverse()) {
      if (!victims.delete(record)) continue;
      if (!fits()) victims.add(record);
    }
    return [...victims];
  }

  private expectRecord(id: string): LedgerRecord {
    const record = this.ledger.get(id);
    if (!record) throw new IguanaError('IGU_GPU_ALLOCATION', { id });
    return record;
  }

  private write(type: LedgerEventType, id: string, why: string, record: LedgerRecord | null): void {
    const before = this.ledger.get(id);
    const event = this.ledger.next(type, id, this.options.clock.now(), why, record);
    if (this.attempt && !this.attempt.before.has(id)) this.attempt.before.set(id, before);
    this.ledger.apply(event);
    for (const { gpuId } of [...(before?.holdings ?? []), ...(record?.holdings ?? [])]) this.cluster.refresh(gpuId);
    if (this.attempt) this.attempt.events.push(event);
    else this.options.onEvent?.(event);
  }

  /** Either all that `change` writes happens and is told, or nothing of it. */
  private atomically(change: () => boolean): void {
    const outer = this.attempt;
    this.attempt = { before: new Map(), sequence: this.ledger.sequence, events: [], demands: [] };
    const mine = this.attempt;
    let done = false;
    try {
      done = change();
    } finally {
      this.attempt = outer;
      if (!done) this.undo(mine);
    }
    if (!done) return;
    if (outer) {
      for (const [id, record] of mine.before) if (!outer.before.has(id)) outer.before.set(id, record);
      outer.events.push(...mine.events);
      outer.demands.push(...mine.demands);
      return;
    }
    for (const event of mine.events) this.options.onEvent?.(event);
    for (const demand of mine.demands) this.cluster.learn(demand);
  }

  private undo({ before, sequence }: Attempted): void {
    const touched = [...before.keys()].flatMap((id) => this.ledger.get(id)?.holdings ?? []);
    this.ledger.rollBack(sequence, before);
    for (const record of before.values()) if (record) touched.push(...record.holdings);
    for (const { gpuId } of touched) this.cluster.refresh(gpuId);
  }
}

/** No more is taken than was kept, so that a reservation stretches neither over others nor over the quota. */
function within(offers: readonly GpuOffer[], { holdings }: Reservation): boolean {
  return offers.every(({ holding }) =>
    holdings.some(
      (kept) =>
        kept.gpuId === holding.gpuId &&
        kept.mode === holding.mode &&
        covers(kept, holding) &&
        kept.shareMilli >= holding.shareMilli,
    ),
  );
}

/** Whoever has a whole GPU has its memory, also where nobody knew how much that is. A part that was kept may have less for what the idle GPU used then. */
function covers(kept: GpuHolding, { memoryMb }: GpuHolding): boolean {
  if (memoryMb === null || kept.mode === 'exclusive') return true;
  return kept.memoryMb !== null && kept.memoryMb + IDLE_USE_MB >= memoryMb;
}

/** Of a share the part that was not used is kept on; anything else is used as a whole. */
function restOf(kept: GpuHolding, used: GpuHolding | undefined): GpuHolding[] {
  if (!used) return [kept];
  const memoryMb = (kept.memoryMb ?? 0) - (used.memoryMb ?? 0);
  const shareMilli = kept.shareMilli - used.shareMilli;
  return kept.mode === 'shared' && memoryMb > 0 && shareMilli > 0 ? [{ ...kept, memoryMb, shareMilli }] : [];
}

/** What is lost when an allocation ends: GPU-milliseconds of work. */
function workOf({ since, holdings }: Allocation, now: number): number {
  const gpus = countedMilli(holdings) / WHOLE_GPU;
  return gpus * Math.max(1, now - since);
}

interface Loss {
  /** The highest of what goes: nobody of higher priority goes for one of lower. */
  readonly priority: number;
  readonly work: number;
}

function lossOf(victims: Iterable<Allocation>, now: number): Loss {
  let priority = Number.NEGATIVE_INFINITY;
  let work = 0;
  for (const one of victims) {
    priority = Math.max(priority, one.priority);
    work += workOf(one, now);
  }
  return { priority, work };
}

function compareLoss(a: Loss, b: Loss): number {
  return a.priority - b.priority || a.work - b.work;
}

function size({ gpuCount = 1, computeShare = 1, memoryMb = 0 }: GpuRequest): number {
  return gpuCount * 1e9 + computeShare * 1e6 + Math.min(memoryMb, 1e6);
}

export function deny(reason: RefusalReason, what: string): GpuDenial {
  return { granted: false, reason, what, gpus: [] };
}

/** Reasons for thousands of GPUs are put into words when they are read first. */
function denialOf(reason: RefusalReason, what: string, tell: () => readonly GpuRefusal[]): GpuDenial {
  let gpus: readonly GpuRefusal[] | undefined;
  return {
    granted: false,
    reason,
    what,
    get gpus() {
      gpus ??= tell();
      return gpus;
    },
  };
}

/** The same text for the same request, whatever the order of its fields. */
function canonical(request: GpuRequest): string {
  const entries = Object.entries(request).filter(([, value]) => value !== undefined);
  return JSON.stringify(Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1))));
}

function check(instance: string, request: GpuRequest): void {
  const { gpuCount = 1, memoryMb, computeShare, leaseMs, priority = 0, minComputeCapability } = request;
  if (!Number.isSafeInteger(gpuCount) || gpuCount < 1) throw invalid(instance, `gpuCount is ${gpuCount}`);
  if (memoryMb !== undefined && !(memoryMb > 0 && Number.isFinite(memoryMb)))
    throw invalid(instance, `memoryMb is ${memoryMb}`);
  if (computeShare !== undefined && !(computeShare > 0 && computeShare <= 1))
    throw invalid(instance, `computeShare is ${computeShare}`);
  if (leaseMs !== undefined && leaseMs !== null && !(leaseMs > 0 && Number.isFinite(leaseMs)))
    throw invalid(instance, `leaseMs is ${leaseMs}`);
  if (!Number.isSafeInteger(priority) || Math.abs(priority) > 1_000) throw invalid(instance, `priority is ${priority}`);
  if (minComputeCapability !== undefined && !/^\d+\.\d+$/.test(minComputeCapability))
    throw invalid(instance, `minComputeCapability is ${minComputeCapability}, not like 8.0`);
}

function invalid(instance: string, what: string): IguanaError {
  return new IguanaError('IGU_GPU_REQUEST', { instance, what });
}
