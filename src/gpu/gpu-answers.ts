import { randomUUID } from 'node:crypto';
import { IguanaError } from '../errors.js';
import { type GpuDenial, type GpuGrant, grantOf } from './allocator.js';
import type { GpuCommand } from './commands.js';
import { ownGpuCommand } from './commands.js';
import type { GpuService } from './gpu-service.js';
import type { GpuView } from './gpu-view.js';
import type { Allocation, Reservation } from './ledger.js';
import type { GpuEvent } from './scheduler.js';

/** Gathers the events that answer commands. */
export class GpuAnswers {
  private readonly pending = new Map<
    string,
    {
      readonly events: GpuEvent[];
      readonly done: (events: readonly GpuEvent[]) => void;
      readonly failed: (error: unknown) => void;
    }
  >();

  /**
   * One of both is called, once.
   * @param done with all events that answer it
   */
  expect(request: string, done: (events: readonly GpuEvent[]) => void, failed: (error: unknown) => void): void {
    this.pending.set(request, { events: [], done, failed });
  }

  /** This process ends: no answer is waited for any more. */
  end(): void {
    const asked = [...this.pending.values()];
    this.pending.clear();
    for (const { failed } of asked) failed(new IguanaError('IGU_GPU_SCHEDULER', { what: 'this process ends' }));
  }

  forget(request: string): void {
    this.pending.delete(request);
  }

  take(event: GpuEvent): void {
    const asked = event.request === null || event.answers === 0 ? undefined : this.pending.get(event.request);
    if (!asked) return;
    asked.events.push(event);
    if (asked.events.length < event.answers) return;
    this.pending.delete(event.request!);
    asked.done(asked.events);
  }
}

export interface CommandedService {
  readonly view: GpuView;
  /** Has a command carried out. Resolves with the events that answer it; `waitMs` is how long that may take beside. */
  readonly ask: (command: GpuCommand, waitMs: number) => Promise<readonly GpuEvent[]>;
  readonly role: () => GpuService['role'];
  readonly preallocation: GpuService['preallocation'];
  readonly stop: () => Promise<void>;
}

/** The service over whatever carries commands out. */
export function commandedService({ view, ask, role, preallocation, stop }: CommandedService): GpuService {
  const send = async (
    who: string,
    given: Readonly<Record<string, unknown>>,
    waitMs = 0,
  ): Promise<readonly GpuEvent[]> => ask(ownGpuCommand(who, { ...given, id: randomUUID() }), waitMs);
  const only = (events: readonly GpuEvent[], allocation: string): GpuEvent => {
    const event = events[0]!;
    if (event.type === 'refused') {
      const why = view.endOf(allocation);
      throw new IguanaError('IGU_GPU_ALLOCATION', { id: why === undefined ? allocation : `${allocation}: ${why}` });
    }
    return event;
  };
  return {
    nodes: () => view.nodes(),
    records: () => view.records(),
    waiting: () => view.waiting(),
    find: (idOrInstance) => view.find(idOrInstance),
    async allocate(instance, request, { waitMs = 0 } = {}) {
      const [event] = await send(instance, { action: 'allocate', instance, request, waitMs }, waitMs);
      return grantOrDenial(event!, instance);
    },
    async allocateGang(gang, members, { waitMs = 0 } = {}) {
      const events = await send(gang, { action: 'allocate-gang', gang, members, waitMs }, waitMs);
      const answers = events.map((event) => grantOrDenial(event, gang));
      const denied = answers.find((answer): answer is GpuDenial => !answer.granted);
      if (denied) return denied;
      const grants = answers as GpuGrant[];
      return members.map(({ instance }) => grants.find(({ allocation }) => allocation.instance === instance)!);
    },
    async reserve(owner, request, ttlMs) {
      const [event] = await send(owner, { action: 'reserve', owner, request, ttlMs });
      if (event!.type === 'refused') return denialOf(event!, owner);
      return event!.record as Reservation;
    },
    async release(allocation) {
      only(await send(allocation, { action: 'release', allocation }), allocation);
    },
    async renew(allocation) {
      return only(await send(allocation, { action: 'renew', allocation }), allocation).record as Allocation;
    },
    canAllocate: (instance, request) => view.canAllocate(instance, request),
    explain: (request) => view.explain(request),
    plan: (maxMoves) => view.plan(maxMoves),
    stats: () => view.stats(),
    preallocation,
    get role() {
      return role();
    },
    stop,
  };
}

function grantOrDenial(event: GpuEvent, who: string): GpuGrant | GpuDenial {
  if (event.type === 'refused') return denialOf(event, who);
  return grantOf(event.record as Allocation, event.steps, event.preempted);
}

/** @throws IguanaError `IGU_GPU_REQUEST` when the request cannot be meant */
function denialOf({ denial, why }: GpuEvent, instance: string): GpuDenial {
  if (denial?.reason === 'request') throw new IguanaError('IGU_GPU_REQUEST', { instance, what: why });
  return denial ?? { granted: false, reason: 'gpus', what: why, gpus: [] };
}
