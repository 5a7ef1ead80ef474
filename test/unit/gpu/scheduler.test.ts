import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { GpuAllocator } from '../../../src/gpu/allocator.js';
import { readGpuCommand } from '../../../src/gpu/commands.js';
import { GpuAccounts } from '../../../src/gpu/gpu-accounts.js';
import type { Ledger } from '../../../src/gpu/ledger.js';
import { localGpus } from '../../../src/gpu/local-gpus.js';
import {
  applyGpuEvent,
  emptySchedulerState,
  type GpuEvent,
  GpuScheduler,
  isOver,
  type SchedulerState,
} from '../../../src/gpu/scheduler.js';
import { known } from '../../../src/gpu/types.js';
import { gpuSchedulerLimits } from '../../../src/limits.js';
import { decodeGpuEvent, encodeGpuEvent } from '../../../src/operators/gpu-records.js';
import { gpuOf, healthOf } from './gpu-fixture.js';

function schedulerOf(gpus: number, state?: SchedulerState, clock = new VirtualClock(1_000)) {
  const scheduler = new GpuScheduler({ clock, ...(state && { state }) });
  scheduler.setNode(
    'n1',
    Array.from({ length: gpus }, (_, i) => gpuOf(`GPU-${i}`)),
  );
  let n = 0;
  const run = (command: Record<string, unknown>): readonly GpuEvent[] => {
    scheduler.take(readGpuCommand({ id: `c${++n}`, ...command }));
    return scheduler.drain();
  };
  const tick = (ms = 1_000): readonly GpuEvent[] => {
    clock.advance(ms);
    scheduler.tick();
    return scheduler.drain();
  };
  return { scheduler, clock, run, tick };
}

const kinds = (events: readonly GpuEvent[]): string[] => events.map(({ type, id }) => `${type} ${id}`);

describe('a command is answered once', () => {
  test('by its grant, and the same again by a confirmation', () => {
    const { run } = schedulerOf(2);
    const [event, ...others] = run({ action: 'allocate', instance: 'w1' });
    expect(others).toEqual([]);
    expect(event).toMatchObject({ type: 'allocated', request: 'c1', answers: 1, record: { instance: 'w1' } });
    const again = run({ action: 'allocate', instance: 'w1' });
    expect(again).toMatchObject([{ type: 'confirmed', request: 'c2', answers: 1, record: event!.record }]);
  });

  test('a MIG instance that is still to be made is told with its steps each time it is asked for, by another scheduler too', () => {
    const clock = new VirtualClock(1_000);
    const off = gpuOf('GPU-1', { partitionMode: known('Disabled') });
    const schedulerWith = (state: SchedulerState) => {
      const scheduler = new GpuScheduler({ clock, state, sharing: () => ({ mode: 'mig', layout: 'dynamic' }) });
      scheduler.setNode('n1', [off]);
      return (command: Record<string, unknown>): GpuEvent => {
        scheduler.take(readGpuCommand({ id: 'c', ...command }));
        const [event, ...more] = scheduler.drain();
        expect(more).toEqual([]);
        return decodeGpuEvent(encodeGpuEvent(event!));
      };
    };
    const asked = { action: 'allocate', instance: 'w1', request: { profile: '1g.5gb' } };
    const run = schedulerWith(emptySchedulerState());
    const first = run(asked);
    expect(first.steps.map(({ kind }) => kind)).toEqual(['enable', 'create']);
    const followed = emptySchedulerState();
    applyGpuEvent(followed, first);
    for (const ask of [run, schedulerWith(followed)])
      expect(ask(asked)).toMatchObject({ type: 'confirmed', record: first.record, steps: first.steps });
    const gang = { action: 'allocate-gang', gang: 'g', members: [{ instance: 'w1', request: { profile: '1g.5gb' } }] };
    expect(run(gang)).toMatchObject({ type: 'confirmed', steps: first.steps });
  });

  test('by as many grants as a gang has members, or one refusal', () => {
    const { run } = schedulerOf(2);
    const members = (names: string[]) => names.map((instance) => ({ instance, request: {} }));
    const refused = run({ action: 'allocate-gang', gang: 'g', members: members(['a', 'b', 'c']) });
    expect(refused).toMatchObject([{ type: 'refused', id: 'refused/g', request: 'c1', answers: 1 }]);
    const granted = run({ action: 'allocate-gang', gang: 'g', members: members(['a', 'b']) });
    expect(granted.filter(({ request }) => request === 'c2')).toHaveLength(2);
    expect(granted.map(({ answers }) => answers)).toEqual([2, 2, 0]);
    expect(granted.at(-1)).toMatchObject({ type: 'forgotten', id: 'refused/g' });
  });

  test('a gang is released by its name: all members, as one answer', async () => {
    const members = ['a', 'b'].map((instance) => ({ instance, request: {} }));
    const { run, scheduler } = schedulerOf(3);
    run({ action: 'allocate-gang', gang: 'g', members });
    run({ action: 'allocate', instance: 'alone' });
    const released = run({ action: 'release', allocation: 'g' });
    expect(released).toMatchObject([
      { type: 'released', record: null, request: 'c3', answers: 2 },
      { type: 'released', record: null, request: 'c3', answers: 2 },
    ]);
    expect([...scheduler.allocator.ledger.all()]).toMatchObject([{ instance: 'alone' }]);
    expect(run({ action: 'release', allocation: 'g' })).toMatchObject([{ type: 'refused', request: 'c4' }]);
    // an instance of that name goes before
    run({ action: 'allocate-gang', gang: 'alone', members });
    expect(kinds(run({ action: 'release', allocation: 'alone' }))).toEqual(['released alone/3']);
    // also while it waits
    run({ action: 'allocate', instance: 'alone', request: { gpuCount: 3 }, waitMs: 60_000 });
    expect(kinds(run({ action: 'release', allocation: 'alone' }))).toEqual([
      'forgotten waiting/alone',
      'refused refused/alone',
    ]);
    expect(run({ action: 'release', allocation: 'alone' })).toHaveLength(2);

    const service = await localGpus({
      ...{ clock: new VirtualClock(0), nodes: { n: [gpuOf('GPU-1'), gpuOf('GPU-2')] } },
    });
    await service.allocateGang('g', members);
    await service.release('g');
    expect(service.records()).toEqual([]);
    await expect(service.release('g')).rejects.toThrow('IGU_GPU_ALLOCATION');
    await service.allocateGang('g', members);
    const more = service.allocateGang('g', [...members, { instance: 'c', request: {} }], { waitMs: 60_000 });
    expect(service.waiting()).toMatchObject([{ gang: 'g' }]);
    await service.release('g');
    expect(await more).toMatchObject({ granted: false, what: 'it is not wanted any more' });
    expect([service.records(), service.waiting()]).toEqual([[], []]);
    await service.stop();
  });

  test('by what is wrong with it', () => {
    const { run } = schedulerOf(1);
    expect(run({ action: 'release', allocation: 'nobody' })).toMatchObject([
      { type: 'refused', request: 'c1', denial: { reason: 'request' } },
    ]);
    expect(run({ action: 'renew', allocation: 'nobody' })).toMatchObject([{ type: 'refused', request: 'c2' }]);
    expect(() => readGpuCommand({ id: 'x', action: 'allocate', instance: 'w', request: { gpus: 1 } })).toThrow(/gpus/);
    expect(() => readGpuCommand({ id: 'x', action: 'allocate', instance: 'w', request: { computeShare: 2 } })).toThrow(
      /computeShare/,
    );
    expect(() => readGpuCommand({ action: 'allocate', instance: 'w' })).toThrow(/id/);
    expect(() => readGpuCommand(null)).toThrow(/gpu-requests/);
  });

  test('a lease that is renewed lasts; one that is not ends, and its GPU goes to who waits', () => {
    const { run, tick } = schedulerOf(1);
    run({ action: 'allocate', instance: 'w1', request: { leaseMs: 10_000 } });
    expect(kinds(run({ action: 'allocate', instance: 'w2', waitMs: 60_000 }))).toEqual(['waiting waiting/w2']);
    tick(9_000);
    expect(run({ action: 'renew', allocation: 'w1' })).toMatchObject([{ type: 'renewed', answers: 1 }]);
    expect(kinds(tick(9_000))).toEqual([]);
    const events = tick(1_000);
    expect(kinds(events)).toEqual(['expired w1/1', 'allocated w2/4', 'forgotten waiting/w2']);
    expect(events[1]).toMatchObject({ request: 'c2', waitedMs: 19_000 });
  });
});

test('of a refusal the reasons of some GPUs are told', () => {
  const { run } = schedulerOf(200);
  const [refused] = run({ action: 'allocate', instance: 'w1', request: { model: 'H100' } });
  expect(refused?.denial?.what).toBe('none of 200 GPUs will do: model 200');
  expect(refused?.denial?.gpus).toHaveLength(gpuSchedulerLimits.maxToldGpus);
});

describe('a lease', () => {
  test('lasts its time once more where nobody could be heard', () => {
    const { run, tick, scheduler, clock } = schedulerOf(1);
    run({ action: 'allocate', instance: 'w1', request: { leaseMs: 10_000 } });
    run({ action: 'reserve', owner: 'w2', request: {}, ttlMs: 10_000 });
    clock.advance(60_000);
    scheduler.hearAgain();
    expect(kinds(tick(9_000))).toEqual([]);
    expect(run({ action: 'renew', allocation: 'w1' })).toMatchObject([{ type: 'renewed', answers: 1 }]);
    expect(kinds(tick(9_000))).toEqual([]);
    expect(kinds(tick(1_000))).toEqual(['expired w1/1']);
  });

  test('does not end while there are requests to be read, and no reservation does', () => {
    const { run, scheduler, clock } = schedulerOf(2);
    run({ action: 'allocate', instance: 'w1', request: { leaseMs: 10_000 } });
    run({ action: 'reserve', owner: 'w2', request: {}, ttlMs: 10_000 });
    clock.advance(60_000);
    scheduler.tick(false);
    expect(scheduler.drain()).toEqual([]);
    expect(run({ action: 'renew', allocation: 'w1' })).toMatchObject([{ type: 'renewed', answers: 1 }]);
    scheduler.tick();
    expect(kinds(scheduler.drain())).toEqual(['expired reservation/w2/2']);
  });
});

test('a topic that lost all is told again what stands', () => {
  const { run, scheduler } = schedulerOf(2);
  run({ action: 'allocate', instance: 'w1' });
  run({ action: 'reserve', owner: 'w2', request: {}, ttlMs: 10_000 });
  run({ action: 'allocate', instance: 'w3', waitMs: 60_000 });
  scheduler.tellAgain();
  const events = scheduler.drain();
  const anew = emptySchedulerState();
  for (const event of events) {
    expect(event.answers).toBe(0);
    applyGpuEvent(anew, event);
  }
  expect(sorted(anew.ledger)).toEqual(sorted(scheduler.allocator.ledger));
  expect([...anew.waiting.values()]).toEqual(scheduler.waiting);
  expect(anew.ledger.sequence).toBe(scheduler.allocator.ledger.sequence);
});

test('only what a request could see is news of a node', () => {
  const { scheduler } = schedulerOf(1);
  expect(scheduler.setNode('n1', [gpuOf('GPU-0', { temperature: known(60), utilization: known(9) })])).toBe(false);
  expect(scheduler.setNode('n1', [gpuOf('GPU-0', { health: healthOf('lost') })])).toBe(true);
  expect(scheduler.setNode('n1', [gpuOf('GPU-0'), gpuOf('GPU-1')])).toBe(true);
});

test('a GPU that another node tells of has moved there, whatever becomes of the first', () => {
  const { scheduler, run } = schedulerOf(1);
  expect(scheduler.setNode('renamed', [gpuOf('GPU-0')])).toBe(true);
  scheduler.removeNode('n1');
  expect(run({ action: 'allocate', instance: 'w1' })).toMatchObject([
    { type: 'allocated', record: { holdings: [{ node: 'renamed', gpuId: 'GPU-0' }] } },
  ]);
});

test('whoever waits when this process stops is told, and one that gives back lets the next one in at once', async () => {
  const clock = new VirtualClock(0);
  const gpus = await localGpus({ clock, nodes: { n1: [gpuOf('GPU-1')] } });
  await gpus.allocate('w1', {});
  const next = gpus.allocate('w2', {}, { waitMs: 60_000 });
  await gpus.release('w1');
  expect(await next).toMatchObject({ granted: true });
  const never = gpus.allocate('w3', {}, { waitMs: 60_000 });
  await Promise.all([expect(never).rejects.toMatchObject({ code: 'IGU_GPU_SCHEDULER' }), gpus.stop()]);
});

describe('waiting', () => {
  test('goes by priority, then by who waited longest', () => {
    const { run, tick, scheduler } = schedulerOf(1);
    run({ action: 'allocate', instance: 'first', request: { leaseMs: null } });
    run({ action: 'allocate', instance: 'early', waitMs: 100_000 });
    tick();
    run({ action: 'allocate', instance: 'late', waitMs: 100_000 });
    run({ action: 'allocate', instance: 'high', request: { priority: 5 }, waitMs: 100_000 });
    expect(scheduler.waiting).toHaveLength(3);
    const got: string[] = [];
    for (let holder = 'first'; got.length < 3; holder = got.at(-1)!) {
      run({ action: 'release', allocation: holder });
      for (const { type, record } of tick())
        if (type === 'allocated' && record?.kind === 'allocation') got.push(record.instance);
    }
    expect(got).toEqual(['high', 'early', 'late']);
  });

  test('ends with a refusal when its time is over, or it is released', () => {
    const { run, tick, scheduler } = schedulerOf(0);
    run({ action: 'allocate', instance: 'w1', waitMs: 5_000 });
    const over = tick(5_000);
    expect(kinds(over)).toEqual(['forgotten waiting/w1', 'refused refused/w1']);
    expect(over[1]).toMatchObject({ request: 'c1', answers: 1 });
    run({ action: 'allocate', instance: 'w2', waitMs: 5_000 });
    const released = run({ action: 'release', allocation: 'w2' });
    expect(released.map(({ request }) => request)).toEqual(['c3', 'c2']);
    expect(scheduler.waiting).toEqual([]);
  });

  test('a refusal is forgotten after a while', () => {
    const { run, tick } = schedulerOf(0);
    run({ action: 'allocate', instance: 'w1' });
    expect(kinds(tick(gpuSchedulerLimits.keepRefusalMs))).toEqual(['forgotten refused/w1']);
  });

  test('GPUs that come are given to who waits', () => {
    const { run, tick, scheduler } = schedulerOf(0);
    run({ action: 'allocate', instance: 'w1', waitMs: 60_000 });
    scheduler.setNode('n2', [gpuOf('GPU-new')]);
    expect(kinds(tick())).toEqual(['allocated w1/1', 'forgotten waiting/w1']);
  });
});

test('a MIG instance that was planned is known when its node has it', () => {
  const clock = new VirtualClock(0);
  const scheduler = new GpuScheduler({ clock, sharing: () => ({ mode: 'mig', layout: 'dynamic' }) });
  const gpu = gpuOf('GPU-1', { partitionMode: known('enabled') });
  scheduler.setNode('n1', [gpu]);
  scheduler.take(readGpuCommand({ id: 'c', action: 'allocate', instance: 'w', request: { profile: '3g.20gb' } }));
  const [event] = scheduler.drain();
  expect(event?.steps.some(({ kind }) => kind === 'create')).toBe(true);
  const { start } = event!.record!.holdings[0]!.partition!;
  const none = known(0);
  scheduler.setNode('n1', [
    {
      ...gpu,
      partitions: [
        {
          id: 'MIG-7',
          profile: known('3g.20gb'),
          gpuInstance: none,
          computeInstance: none,
          placement: known({ start: start!, size: 4 }),
          memoryTotalMb: known(19_968),
          memoryUsedMb: none,
        },
      ],
    },
  ]);
  expect(scheduler.drain()).toMatchObject([
    { type: 'partitioned', record: { environment: { CUDA_VISIBLE_DEVICES: 'MIG-7' } } },
  ]);
});

/** A topic that keeps the newest record of each key, and loses those that are over. */
class CompactedTopic {
  private readonly kept = new Map<string, GpuEvent>();

  write(events: readonly GpuEvent[]): void {
    for (const event of events) {
      this.kept.delete(event.id);
      if (!isOver(event)) this.kept.set(event.id, event);
    }
    const last = events.at(-1);
    if (!last) return;
    this.kept.delete('sequence');
    this.kept.set('sequence', { ...last, type: 'mark', id: 'sequence' });
  }

  read(): SchedulerState {
    const state = emptySchedulerState();
    for (const event of this.kept.values()) applyGpuEvent(state, event);
    return state;
  }
}

test('whatever happens, nothing is given twice, nothing is lost, and the topic rebuilds it', () => {
  const names = ['a', 'b', 'c', 'd', 'e'];
  const step = fc.oneof(
    fc.record({
      do: fc.constant('allocate' as const),
      who: fc.constantFrom(...names),
      gpus: fc.integer({ min: 1, max: 3 }),
      share: fc.option(fc.constantFrom(0.25, 0.5, 1), { nil: undefined }),
      wait: fc.constantFrom(0, 5_000),
      priority: fc.integer({ min: 0, max: 2 }),
      preempt: fc.boolean(),
    }),
    fc.record({ do: fc.constant('release' as const), who: fc.constantFrom(...names) }),
    fc.record({ do: fc.constant('renew' as const), who: fc.constantFrom(...names) }),
    fc.record({
      do: fc.constant('reserve' as const),
      who: fc.constantFrom(...names),
      gpus: fc.integer({ min: 1, max: 2 }),
    }),
    fc.record({ do: fc.constant('time' as const), ms: fc.constantFrom(500, 3_000, 20_000) }),
    fc.record({ do: fc.constant('crash' as const), torn: fc.boolean() }),
    fc.record({ do: fc.constant('sick' as const), gpu: fc.integer({ min: 0, max: 3 }), well: fc.boolean() }),
    fc.record({ do: fc.constant('node' as const), gone: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const clock = new VirtualClock(1_000);
      const topic = new CompactedTopic();
      const follower = emptySchedulerState();
      const sick = new Set<number>();
      let there = true;
      const nodes = (scheduler: GpuScheduler): void => {
        const gpus = Array.from({ length: 4 }, (_, i) =>
          gpuOf(`GPU-${i}`, { health: healthOf(sick.has(i) ? 'draining' : 'ok') }),
        );
        if (there) scheduler.setNode('n1', gpus);
        else scheduler.removeNode('n1');
        scheduler.setNode('n2', [gpuOf('GPU-8'), gpuOf('GPU-9')]);
      };
      let scheduler = new GpuScheduler({ clock });
      nodes(scheduler);
      const unanswered = new Map<string, string>();
      const publish = (): void => {
        const events = scheduler.drain();
        topic.write(events);
        for (const event of events) {
          applyGpuEvent(follower, event);
          if (event.request === null || event.answers === 0) continue;
          expect(unanswered.delete(event.request), `${event.request} is answered twice`).toBe(true);
        }
      };
      steps.forEach((one, i) => {
        const id = `c${i}`;
        const take = (command: Record<string, unknown>): void => {
          unanswered.set(id, one.do);
          scheduler.take(readGpuCommand({ id, ...command }));
        };
        switch (one.do) {
          case 'allocate':
            take({
              action: 'allocate',
              instance: one.who,
              request: {
                ...(one.share === undefined ? { gpuCount: one.gpus } : { computeShare: one.share, exclusive: false }),
                ...{ priority: one.priority, preempt: one.preempt, leaseMs: 10_000 },
              },
              waitMs: one.wait,
            });
            break;
          case 'release':
          case 'renew':
            take({ action: one.do, allocation: one.who });
            break;
          case 'reserve':
            take({ action: 'reserve', owner: one.who, request: { gpuCount: one.gpus }, ttlMs: 4_000 });
            break;
          case 'time':
            clock.advance(one.ms);
            break;
          case 'sick':
            if (one.well) sick.delete(one.gpu);
            else sick.add(one.gpu);
            nodes(scheduler);
            break;
          case 'node':
            there = !one.gone;
            nodes(scheduler);
            break;
          case 'crash': {
            // what was decided and not written is as if it had never been: the command comes again
            if (!one.torn) publish();
            else
              for (const { request, answers } of scheduler.drain())
                if (answers > 0 && request) unanswered.delete(request);
            const state = topic.read();
            scheduler = new GpuScheduler({ clock, state });
            nodes(scheduler);
            break;
          }
        }
        scheduler.tick();
        publish();
        expect(overAllocated(follower.ledger)).toEqual([]);
        const rebuilt = topic.read();
        expect(sorted(rebuilt.ledger)).toEqual(sorted(follower.ledger));
        expect(sorted(rebuilt.ledger)).toEqual(sorted(scheduler.allocator.ledger));
        expect([...rebuilt.waiting.keys()].sort()).toEqual([...follower.waiting.keys()].sort());
        expect([...rebuilt.waiting.keys()].sort()).toEqual(
          scheduler.waiting.map(({ instance }) => `waiting/${instance}`).sort(),
        );
        // only what waits has no answer yet
        for (const [id, what] of unanswered) {
          expect(what).toBe('allocate');
          expect(
            scheduler.waiting.some(({ command }) => command.id === id),
            `${id} is lost`,
          ).toBe(true);
        }
      });
    }),
    { numRuns: 150 },
  );
});

function sorted(ledger: Ledger): unknown {
  return [...ledger.all()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** GPUs of which more is held than there is. */
function overAllocated(ledger: Ledger): string[] {
  const held = new Map<string, { exclusive: number; share: number }>();
  for (const { holdings } of ledger.all())
    for (const { gpuId, mode, shareMilli } of holdings) {
      const one = held.get(gpuId) ?? { exclusive: 0, share: 0 };
      if (mode === 'exclusive') one.exclusive++;
      else one.share += shareMilli;
      held.set(gpuId, one);
    }
  return [...held]
    .filter(([, { exclusive, share }]) => exclusive > 1 || (exclusive === 1 && share > 0) || share > 1_000)
    .map(([id]) => id);
}

test('what happened is added up', async () => {
  const clock = new VirtualClock(0);
  const gpus = await localGpus({ clock, nodes: { n1: [gpuOf('GPU-1'), gpuOf('GPU-2')] } });
  const grant = await gpus.allocate('w1', { leaseMs: null });
  expect(grant).toMatchObject({ granted: true, node: 'n1', environment: { CUDA_VISIBLE_DEVICES: expect.any(String) } });
  expect(await gpus.reserve('w2', {}, 3_600_000)).toMatchObject({ kind: 'reservation' });
  expect(await gpus.allocate('w3', {})).toMatchObject({ granted: false, reason: 'gpus' });
  clock.advance(1_800_000);
  expect(gpus.stats()).toMatchObject({
    ...{ nodes: 1, gpus: 2, healthy: 2, allocations: 1, reservations: 1, held: 1, reserved: 1, granted: 1, refused: 1 },
    ...{ idleReservedHours: 0.5, usedHours: 0.5 },
  });
  expect(await gpus.allocate('w2', { leaseMs: null })).toMatchObject({ granted: true });
  expect(gpus.stats()).toMatchObject({ reserved: 0, held: 2 });
  await gpus.release('w1');
  await expect(gpus.release('w1')).rejects.toMatchObject({ code: 'IGU_GPU_ALLOCATION' });
  await expect(gpus.allocate('w4', { computeShare: 7 })).rejects.toMatchObject({ code: 'IGU_GPU_REQUEST' });
  expect(gpus.records().map(({ owner }) => owner)).toEqual(['w2']);
  await gpus.stop();
});

test('a plan moves a share beside another and frees a GPU', async () => {
  const clock = new VirtualClock(0);
  const gpus = await localGpus({ clock, nodes: { n1: [gpuOf('GPU-1')], n2: [gpuOf('GPU-2')] }, policy: 'spread' });
  const places = [];
  for (const who of ['a', 'b']) {
    const answer = await gpus.allocate(who, { computeShare: 0.5, leaseMs: null });
    if (answer.granted) places.push(answer.gpuId);
  }
  expect(new Set(places).size).toBe(2);
  const plan = gpus.plan();
  expect(plan.moves).toHaveLength(1);
  expect(plan.moves[0]!.from.gpuIds).not.toEqual(plan.moves[0]!.to.gpuIds);
  expect(plan.unusableAfter).toBeLessThan(plan.unusableBefore);
  await gpus.stop();
});

test('a plan makes partitions as the grant said, what is in the way included', async () => {
  const clock = new VirtualClock(0);
  const none = known(0);
  const idle = {
    ...{ id: 'MIG-idle', profile: known('7g.40gb'), gpuInstance: none, computeInstance: none },
    ...{ placement: known({ start: 0, size: 8 }), memoryTotalMb: known(39_936), memoryUsedMb: none },
  };
  const gpus = await localGpus({
    ...{ clock, sharing: () => ({ mode: 'mig', layout: 'dynamic' }) },
    nodes: { n1: [gpuOf('GPU-1', { partitionMode: known('enabled'), partitions: [idle] })] },
  });
  const grant = await gpus.allocate('w', { profile: '3g.20gb', leaseMs: null });
  if (!grant.granted) throw new Error(grant.what);
  expect(grant.steps.map(({ kind }) => kind)).toEqual(['destroy', 'create']);
  expect(gpus.plan().partitions).toEqual([{ allocation: grant.allocation.id, node: 'n1', steps: grant.steps }]);
  await gpus.stop();
});

test('who follows knows the demand that was seen, as who decides does', () => {
  const { run, scheduler } = schedulerOf(4);
  const follower = emptySchedulerState();
  const allocator = new GpuAllocator({ clock: new VirtualClock(0), ledger: follower.ledger });
  allocator.setNode(
    'n1',
    Array.from({ length: 4 }, (_, i) => gpuOf(`GPU-${i}`)),
  );
  for (const instance of ['a', 'b', 'c'])
    for (const event of run({ action: 'allocate', instance, request: { computeShare: 0.25 } }))
      applyGpuEvent(follower, event, (one) => allocator.apply(one));
  expect(allocator.demandMix).toEqual(scheduler.allocator.demandMix);
  expect(allocator.demandMix[0]).toMatchObject({ demand: { gpuMilli: 250 }, share: 0.75 });
});

test('accounts count from what is there when they begin', () => {
  const accounts = new GpuAccounts();
  const { run } = schedulerOf(2);
  const [event] = run({ action: 'allocate', instance: 'w1' });
  accounts.begin([event!.record!], 0);
  expect(accounts.hoursOf('allocation', 7_200_000)).toBe(2);
  expect(accounts.heldBy('allocation')).toBe(1);
});
