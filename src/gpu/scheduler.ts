/**
 * The one that decides: takes commands and time, gives events. Pure, so that the same runs for one machine and over topics. It is longer than others since what waits, what is refused and
 * what is granted are answers to one question, and each has to be told exactly once.
 */
import type { Clock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { gpuSchedulerLimits } from '../limits.js';
import {
  type AllocatorOptions,
  deny,
  type GangMember,
  GpuAllocator,
  type GpuDenial,
  type GpuGrant,
} from './allocator.js';
import type { GpuRequest } from './allocator-rules.js';
import type { GpuCommand } from './commands.js';
import type { WaitingRequest } from './gpu-service.js';
import { Ledger, type LedgerEvent, type LedgerEventType, type LedgerRecord } from './ledger.js';
import type { MigStep } from './mig/mig-plan.js';
import type { Gpu } from './types.js';

/** A command that waits, with how it stands. */
export interface WaitingCommand extends WaitingRequest {
  readonly command: WaitableCommand;
}

type WaitableCommand = Extract<GpuCommand, { action: 'allocate' | 'allocate-gang' }>;

export type GpuEventType = LedgerEventType | 'confirmed' | 'waiting' | 'refused' | 'forgotten' | 'mark';

/**
 * What a scheduler tells: a record of the topic `gpu-allocations`, whose key is `id`. Events of the ledger have its types; `confirmed`: nothing had to change, `record` is as it was; `waiting`, `refused`: the
 * state of a request, under `waiting/` or `refused/` and who asked; `forgotten`: that state is over; `mark`: the ledger's sequence so far, which outlives compaction.
 */
export interface GpuEvent {
  readonly type: GpuEventType;
  /** Of the ledger. */
  readonly sequence: number;
  readonly id: string;
  /** ms since 1970. */
  readonly at: number;
  /** One sentence. */
  readonly why: string;
  /** All of the record after it; null: it is over, or the event is of none. */
  readonly record: LedgerRecord | null;
  /** The command that it answers, and how many events do. */
  readonly request: string | null;
  readonly answers: number;
  /** ms that it waited before it was granted. */
  readonly waitedMs: number;
  /** What makes the partition that was planned. */
  readonly steps: readonly MigStep[];
  /** Allocations that had to go for it. */
  readonly preempted: readonly string[];
  readonly waiting: WaitingCommand | null;
  readonly denial: GpuDenial | null;
}

/** What a scheduler begins with, and what an event changes of it. */
export interface SchedulerState {
  readonly ledger: Ledger;
  /** By key: `waiting/…`. */
  readonly waiting: Map<string, WaitingCommand>;
  /** Key, `refused/…`, and when, ms since 1970. */
  readonly refused: Map<string, number>;
}

export type SchedulerOptions = Omit<AllocatorOptions, 'ledger' | 'onEvent' | 'clock' | 'maxToldGpus'> & {
  readonly clock: Clock;
  readonly state?: SchedulerState;
};

const none = { request: null, answers: 0, waitedMs: 0, steps: [], preempted: [], waiting: null, denial: null } as const;

export function emptySchedulerState(): SchedulerState {
  return { ledger: new Ledger(), waiting: new Map(), refused: new Map() };
}

/** Applies an event to what followers keep. */
export function applyGpuEvent(
  { ledger, waiting, refused }: SchedulerState,
  event: GpuEvent,
  apply: (event: LedgerEvent) => unknown = (one) => ledger.apply(one),
): void {
  switch (event.type) {
    case 'waiting':
      if (event.waiting) waiting.set(event.id, event.waiting);
      break;
    case 'refused':
      refused.delete(event.id);
      refused.set(event.id, event.at);
      break;
    case 'forgotten':
      waiting.delete(event.id);
      refused.delete(event.id);
      break;
    case 'confirmed':
      break;
    case 'mark':
      ledger.apply({ type: 'released', id: '', sequence: event.sequence, at: event.at, why: '', record: null });
      break;
    default:
      apply({ ...event, type: event.type });
  }
}

/** How far the ledger is after an event. */
export function markAfter({ sequence, at }: GpuEvent): GpuEvent {
  return { ...none, type: 'mark', id: 'sequence', sequence, at, why: 'the sequence so far', record: null };
}

/** Nothing of it needs to be kept: its key may be deleted once all have read it. */
export function isOver({ type, record, waiting, denial }: GpuEvent): boolean {
  return type === 'confirmed' || (type !== 'mark' && record === null && waiting === null && denial === null);
}

/** Decides about GPUs: one command after the other, in the order given. Nothing it does is known to anybody before its events are. */
export class GpuScheduler {
  readonly allocator: GpuAllocator;
  private readonly state: SchedulerState;
  private readonly clock: Clock;
  private events: GpuEvent[] = [];
  /** Something that waits may fit now. */
  private changed = true;
  /** Before this nobody could be heard, ms since 1970. */
  private deafUntil = Number.NEGATIVE_INFINITY;

  constructor({ clock, state = emptySchedulerState(), ...options }: SchedulerOptions) {
    this.clock = clock;
    this.state = state;
    this.allocator = new GpuAllocator({
      ...options,
      clock,
      ledger: state.ledger,
      maxToldGpus: gpuSchedulerLimits.maxToldGpus,
      onEvent: (event) => {
        if (event.record === null || event.type === 'reduced') this.changed = true;
        this.events.push({ ...none, ...event });
      },
    });
  }

  get waiting(): readonly WaitingCommand[] {
    return [...this.state.waiting.values()];
  }

  /** What a node has now. False: no request sees a difference. */
  setNode(node: string, gpus: readonly Gpu[]): boolean {
    const changed = this.allocator.setNode(node, gpus);
    this.changed ||= changed;
    this.adoptPartitions(gpus);
    return changed;
  }

  removeNode(node: string): void {
    this.allocator.removeNode(node);
  }

  /** Nobody could be heard until now: whoever holds a lease has its whole time once more for the next heartbeat. */
  hearAgain(): void {
    this.deafUntil = this.clock.now();
  }

  /** Tells all that stands once more, for a topic that lost it. */
  tellAgain(): void {
    const { ledger, waiting } = this.state;
    const why = 'the topic was made anew';
    for (const record of [...ledger.all()]) {
      const event = ledger.next('renewed', record.id, this.clock.now(), why, record);
      this.allocator.apply(event);
      this.events.push({ ...none, ...event });
    }
    for (const [key, one] of waiting) this.push('waiting', key, why, { request: one.command.id, waiting: one });
  }

  /** Does what a command asks for; what came of it is among the events, each command's answer with its id. */
  take(command: GpuCommand): void {
    try {
      if (command.action === 'reserve') this.reserve(command);
      else if (command.action === 'release') this.release(command);
      else if (command.action === 'renew') this.renew(command);
      else this.allocate(command);
    } catch (error) {
      if (!(error instanceof IguanaError)) throw error;
      this.refuse(command.id, keyOf(command), deny('request', wrongIn(error)));
    }
  }

  /**
   * Ends what is due and tries again what waits. Call it about every second.
   * @param mayEnd whether leases and reservations may end (default true): not while there are requests to be read that may have been made in time
   */
  tick(mayEnd = true): void {
    const now = this.clock.now();
    if (mayEnd)
      this.allocator.expire(
        (one) => one.kind === 'allocation' && one.leaseMs !== null && this.deafUntil + one.leaseMs > now,
      );
    for (const [key, at] of this.state.refused) {
      // the oldest first
      if (at + gpuSchedulerLimits.keepRefusalMs > now) break;
      this.forget(key, 'it was long ago');
    }
    const due = [...this.state.waiting].filter(([, { until }]) => until <= now);
    for (const [key, { command, what }] of due) {
      this.forget(key, 'its wait is over');
      this.refuse(command.id, keyOf(command), deny('gpus', `it waited for ${command.waitMs / 1000} s: ${what}`));
    }
    if (!this.changed) return;
    this.changed = false;
    // the most important first, then who waited longest; smaller ones may pass those that still find no room
    const order = [...this.state.waiting].sort(
      ([, a], [, b]) => b.priority - a.priority || a.since - b.since || (a.command.id < b.command.id ? -1 : 1),
    );
    for (const [key, waiting] of order) this.tryAgain(key, waiting);
  }

  /** What has happened since the last call, in order. */
  drain(): readonly GpuEvent[] {
    const events = this.events;
    this.events = [];
    return events;
  }

  private allocate(command: WaitableCommand): void {
    const key = keyOf(command);
    const answer = this.grant(command, 0);
    const before = this.state.waiting.get(`waiting/${key}`);
    if (answer.granted) {
      if (!before) return;
      this.forget(`waiting/${key}`, 'it was granted');
      if (before.command.id === command.id) return;
      this.refuse(before.command.id, key, deny('instance', `${command.id} was granted instead`));
      this.forget(`refused/${key}`, 'it was granted since');
      return;
    }
    const full = this.state.waiting.size >= gpuSchedulerLimits.maxWaiting;
    const mayCome = answer.denial.reason === 'gpus' || answer.denial.reason === 'quota';
    if (!mayCome || command.waitMs <= 0 || full) {
      const crowded = deny('records', `${gpuSchedulerLimits.maxWaiting} requests wait already`);
      this.refuse(command.id, key, mayCome && command.waitMs > 0 ? crowded : answer.denial);
      return;
    }
    const now = this.clock.now();
    const waiting: WaitingCommand = {
      ...described(command),
      command,
      since: before?.since ?? now,
      until: now + command.waitMs,
      what: answer.denial.what,
    };
    // whoever asks again asks for what it asks now
    if (before && before.command.id !== command.id)
      this.refuse(before.command.id, key, deny('instance', `it was asked for again by ${command.id}`));
    this.push('waiting', `waiting/${key}`, answer.denial.what, { request: command.id, answers: 0, waiting });
    this.state.waiting.set(`waiting/${key}`, waiting);
  }

  private tryAgain(key: string, { command, since, what }: WaitingCommand): void {
    try {
      const answer = this.grant(command, this.clock.now() - since);
      if (answer.granted) this.forget(key, 'it was granted');
      else if (answer.denial.what !== what)
        this.state.waiting.set(key, { ...this.state.waiting.get(key)!, what: answer.denial.what });
    } catch (error) {
      if (!(error instanceof IguanaError)) throw error;
      this.forget(key, messageOf(error));
      this.refuse(command.id, keyOf(command), deny('request', wrongIn(error)));
    }
  }

  /** Nothing of a denial is told. */
  private grant(
    command: WaitableCommand,
    waitedMs: number,
  ): { readonly granted: true } | { readonly granted: false; readonly denial: GpuDenial } {
    const answering = { request: command.id, waitedMs };
    const from = this.events.length;
    if (command.action === 'allocate') {
      const answer = this.allocator.allocate(command.instance, command.request as GpuRequest);
      if (!answer.granted) return { granted: false, denial: answer };
      this.tellGrants([answer], from, answering);
      return { granted: true };
    }
    const answer = this.allocator.allocateGang(command.gang, command.members as readonly GangMember[]);
    if (!Array.isArray(answer)) return { granted: false, denial: answer as GpuDenial };
    this.tellGrants(answer as readonly GpuGrant[], from, answering);
    return { granted: true };
  }

  /**
   * Makes the events of grants the answers, and confirms grants that were there already.
   * @param from position of the first event that came of the command
   */
  private tellGrants(
    grants: readonly GpuGrant[],
    from: number,
    answering: { readonly request: string; readonly waitedMs: number },
  ): void {
    const byId = new Map(grants.map((grant) => [grant.allocation.id, grant]));
    for (let i = from; i < this.events.length; i++) {
      const event = this.events[i]!;
      const grant = event.type === 'allocated' ? byId.get(event.id) : undefined;
      if (!grant) continue;
      byId.delete(event.id);
      const { steps, preempted } = grant;
      this.events[i] = { ...event, ...answering, answers: grants.length, steps, preempted };
    }
    for (const { allocation, steps } of byId.values())
      this.push('confirmed', `confirmed/${answering.request}/${allocation.id}`, 'it holds this already', {
        ...answering,
        answers: grants.length,
        record: allocation,
        steps,
      });
    for (const { allocation } of grants) {
      const refusal = `refused/${allocation.gang ?? allocation.instance}`;
      if (this.state.refused.has(refusal)) this.forget(refusal, 'it was granted since');
    }
  }

  private reserve({ id, owner, request, ttlMs }: Extract<GpuCommand, { action: 'reserve' }>): void {
    const answer = this.allocator.reserve(owner, request as GpuRequest, ttlMs);
    if ('granted' in answer) this.refuse(id, owner, answer);
    else this.answerLast(id);
  }

  private release({ id, allocation }: Extract<GpuCommand, { action: 'release' }>): void {
    const waiting = this.state.waiting.get(`waiting/${allocation}`);
    const record = this.state.ledger.find(allocation);
    // an instance that waits is called so: a gang of that name is not meant
    const gang = waiting?.command.action === 'allocate' ? [] : this.state.ledger.ofGang(allocation);
    const records = record ? [record] : gang;
    if (waiting) {
      this.forget(`waiting/${allocation}`, 'it is not wanted any more', records.length > 0 ? undefined : id);
      this.refuse(waiting.command.id, allocation, deny('instance', 'it is not wanted any more'));
    }
    for (const one of records) {
      this.allocator.release(one.id);
      this.answerLast(id, records.length);
    }
    if (records.length === 0 && !waiting) throw new IguanaError('IGU_GPU_ALLOCATION', { id: allocation });
  }

  private renew({ id, allocation }: Extract<GpuCommand, { action: 'renew' }>): void {
    const record = this.state.ledger.find(allocation);
    if (!record) throw new IguanaError('IGU_GPU_ALLOCATION', { id: allocation });
    const before = this.state.ledger.sequence;
    const renewed = this.allocator.renew(record.id);
    if (this.state.ledger.sequence > before) this.answerLast(id);
    else this.push('confirmed', `confirmed/${id}`, 'it has no lease', { request: id, answers: 1, record: renewed });
  }

  /** The newest event answers a command, as one of so many. */
  private answerLast(request: string, answers = 1): void {
    this.events.push({ ...this.events.pop()!, request, answers });
  }

  private refuse(request: string, who: string, denial: GpuDenial): void {
    const id = `refused/${who}`;
    const oldest = this.state.refused.keys().next();
    if (this.state.refused.size >= gpuSchedulerLimits.maxWaiting && !oldest.done)
      this.forget(oldest.value, 'there are too many');
    this.push('refused', id, denial.what, { request, answers: 1, denial: { ...denial } });
    this.state.refused.delete(id);
    this.state.refused.set(id, this.clock.now());
  }

  private forget(id: string, why: string, request?: string): void {
    this.push('forgotten', id, why, request === undefined ? {} : { request, answers: 1 });
    this.state.waiting.delete(id);
    this.state.refused.delete(id);
  }

  private push(type: GpuEventType, id: string, why: string, more: Partial<GpuEvent>): void {
    const { sequence } = this.state.ledger;
    this.events.push({ ...none, type, sequence, id, at: this.clock.now(), why, record: null, ...more });
  }

  /** MIG instances that were planned, and that a node now has, belong to who waits for them. */
  private adoptPartitions(gpus: readonly Gpu[]): void {
    for (const gpu of gpus) {
      const holders = this.state.ledger.holdersOf(gpu.id);
      const taken = new Set(holders.flatMap(({ holding }) => holding.partition?.id ?? []));
      for (const { record, holding } of holders) {
        if (record.kind !== 'allocation' || holding.partition?.id !== null) continue;
        const { profile, start } = holding.partition;
        const made = gpu.partitions.find(
          (one) => !taken.has(one.id) && one.profile.value === profile && one.placement.value?.start === start,
        );
        if (!made) continue;
        taken.add(made.id);
        this.allocator.partitioned(record.id, new Map([[gpu.id, made.id]]));
      }
    }
  }
}

/** Under which name a command waits or is refused. */
function keyOf(command: GpuCommand): string {
  switch (command.action) {
    case 'allocate':
      return command.instance;
    case 'allocate-gang':
      return command.gang;
    case 'reserve':
      return command.owner;
    default:
      return command.allocation;
  }
}

function described(command: WaitableCommand): Omit<WaitingRequest, 'since' | 'until' | 'what'> {
  if (command.action === 'allocate') {
    const { instance, request } = command;
    const { owner = instance, gpuCount = 1, priority = 0 } = request;
    return { instance, gang: null, owner, gpuCount, priority };
  }
  const { gang, members } = command;
  const priorities = members.map(({ request }) => request.priority ?? 0);
  return {
    instance: members[0]!.instance,
    gang,
    owner: members[0]!.request.owner ?? members[0]!.instance,
    gpuCount: members.reduce((sum, { request }) => sum + (request.gpuCount ?? 1), 0),
    priority: Math.max(...priorities),
  };
}

/** What is wrong with a request, without what its error says around it. */
function wrongIn(error: IguanaError): string {
  return error.code === 'IGU_GPU_REQUEST' ? String(error.details.what) : messageOf(error);
}
