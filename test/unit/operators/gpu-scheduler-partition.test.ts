import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import type { GpuNode } from '../../../src/gpu/gpu-service.js';
import { applyGpuEvent, emptySchedulerState, type GpuEvent } from '../../../src/gpu/scheduler.js';
import type { Gpu } from '../../../src/gpu/types.js';
import type { ReceivedMessage } from '../../../src/kafka/partition-consumer.js';
import type { GroupOffset, TopicRecord } from '../../../src/kafka/transactional-writer.js';
import { gpuSchedulerLimits } from '../../../src/limits.js';
import { decodeGpuEvent } from '../../../src/operators/gpu-records.js';
import type { GpuReplica } from '../../../src/operators/gpu-replica.js';
import { GpuSchedulerPartition } from '../../../src/operators/gpu-scheduler-partition.js';
import { gpuOf } from '../gpu/gpu-fixture.js';

interface Commit {
  readonly records: readonly TopicRecord[];
  readonly offset: GroupOffset;
}

/** The scheduler that acts, over topics that are arrays. `begin` makes the next one, from what was committed. */
function schedulerOver(gpus: readonly Gpu[], clock = new VirtualClock(1_000_000)) {
  const state = emptySchedulerState();
  const listeners = new Set<(node: string, gpus: readonly Gpu[] | undefined) => void>();
  const replica = {
    state,
    nodes: new Map<string, GpuNode>([['n1', { node: 'n1', gpus, at: clock.now(), silent: false }]]),
    heardAt: clock.now(),
    timesAnew: 0,
    onNode(listener: (node: string, gpus: readonly Gpu[] | undefined) => void) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  const commits: Commit[] = [];
  const events: GpuEvent[] = [];
  const seen = { lost: 0, ended: 0, errors: [] as unknown[] };
  const broker = { gone: undefined as Promise<void> | undefined, fails: false };
  let end = 0;
  let offset = 0;
  const begin = (): GpuSchedulerPartition =>
    new GpuSchedulerPartition({
      ...{ groupId: 'g', requests: 'requests', allocations: 'allocations', deadLetters: 'dead', rules: {} },
      writer: {
        fence: async () => undefined,
        close: async () => undefined,
        async commit(records, to) {
          await broker.gone;
          if (broker.fails) throw new Error('fenced');
          commits.push({ records, offset: to });
          for (const { topic, record } of records) {
            if (topic !== 'allocations' || record.value === null) continue;
            const event = decodeGpuEvent(record.value as Buffer);
            events.push(event);
            applyGpuEvent(state, event);
          }
        },
      },
      start: offset,
      end: () => end,
      replica: replica as unknown as GpuReplica,
      preallocate: [],
      forecast: () => undefined,
      clock,
      lost: () => seen.lost++,
      ended: () => seen.ended++,
      onError: (error) => seen.errors.push(error),
    });
  const request = (value: object | string): ReceivedMessage => ({
    ...{ key: Buffer.from('k'), timestamp: '0', headers: {} },
    value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
    offset: String(offset++),
  });
  return {
    ...{ clock, replica, commits, events, seen, broker, begin, request },
    knowEnd(to: number) {
      end = to;
    },
    /** Whatever was begun is done; an agent has told. */
    async pass(ms: number, heard = true) {
      for (let left = ms; left > 0; left -= 1_000) {
        if (heard) replica.heardAt = clock.now();
        clock.advance(Math.min(left, 1_000));
        await settled();
      }
    },
    news: (node: string, told: readonly Gpu[] | undefined) => {
      for (const listener of listeners) listener(node, told);
    },
  };
}

/** All that can go on has gone on: nothing here waits for anything outside. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
}

const types = (events: readonly GpuEvent[]): string[] =>
  events.flatMap(({ type, id }) => (type === 'mark' ? [] : [`${type} ${id}`]));

describe('leases end when no heartbeat was sent, and not when none could be read', () => {
  const lease = { action: 'allocate', id: 'c1', instance: 'w1', request: { leaseMs: 10_000 } };
  const renew = (id: string) => ({ action: 'renew', id, allocation: 'w1' });

  test('one that nobody prolongs', async () => {
    const one = schedulerOver([gpuOf('GPU-1')]);
    const scheduler = one.begin();
    scheduler.offer([one.request(lease)]);
    await one.pass(9_000);
    expect(types(one.events)).toEqual(['allocated w1/1']);
    await one.pass(2_000);
    expect(types(one.events)).toEqual(['allocated w1/1', 'expired w1/1']);
    scheduler.close();
  });

  test('while nobody acted', async () => {
    const one = schedulerOver([gpuOf('GPU-1')]);
    const first = one.begin();
    first.offer([one.request(lease)]);
    await one.pass(1_000);
    first.close();
    one.clock.advance(60_000);
    one.replica.heardAt = one.clock.now();
    const next = one.begin();
    await one.pass(9_000);
    expect(types(one.events)).toEqual(['allocated w1/1']);
    next.offer([one.request(renew('c2'))]);
    await one.pass(9_000);
    expect(types(one.events)).toEqual(['allocated w1/1', 'renewed w1/1']);
    next.close();
  });

  test('while there are requests that were not read yet', async () => {
    const one = schedulerOver([gpuOf('GPU-1')]);
    const scheduler = one.begin();
    scheduler.offer([one.request(lease)]);
    one.knowEnd(2);
    await one.pass(60_000);
    scheduler.offer([one.request(renew('c2'))]);
    await one.pass(9_000);
    expect(types(one.events)).toEqual(['allocated w1/1', 'renewed w1/1']);
    await one.pass(2_000);
    expect(types(one.events).at(-1)).toBe('expired w1/1');
    scheduler.close();
  });

  test('while the broker was gone', async () => {
    const one = schedulerOver([gpuOf('GPU-1')]);
    const scheduler = one.begin();
    scheduler.offer([one.request({ ...lease, request: { leaseMs: 60_000 } })]);
    await one.pass(1_000);
    await one.pass(90_000, false);
    expect(types(one.events)).toEqual(['allocated w1/1']);
    await one.pass(20_000);
    scheduler.offer([one.request(renew('c2'))]);
    await one.pass(59_000);
    expect(types(one.events)).toEqual(['allocated w1/1', 'renewed w1/1']);
    await one.pass(2_000);
    expect(types(one.events).at(-1)).toBe('expired w1/1');
    scheduler.close();
  });
});

test('allocations that were deleted and made anew get all that stands once more, once', async () => {
  const one = schedulerOver([gpuOf('GPU-1'), gpuOf('GPU-2')]);
  const scheduler = one.begin();
  scheduler.offer([one.request({ action: 'allocate', id: 'c1', instance: 'w1', request: { leaseMs: null } })]);
  await one.pass(1_000);
  one.replica.timesAnew = 1;
  await one.pass(3_000);
  expect(types(one.events)).toEqual(['allocated w1/1', 'renewed w1/1']);
  expect(one.events.filter(({ type }) => type === 'mark').at(-1)?.sequence).toBe(2);
  scheduler.close();
});

test('what is decided is written with how far the requests were read, refusals with what was no request', async () => {
  const one = schedulerOver([gpuOf('GPU-1')]);
  const scheduler = one.begin();
  const messages = [
    one.request({ action: 'allocate', id: 'c1', instance: 'w1' }),
    one.request('nonsense'),
    one.request({ action: 'allocate', id: 'c2', instance: 'w2' }),
  ];
  expect(scheduler.offer(messages)).toBe(3);
  await settled();
  expect(one.commits.map(({ offset }) => offset.offset)).toEqual([3]);
  expect(types(one.events)).toEqual(['allocated w1/1', 'refused refused/w2']);
  expect(one.commits[0]!.records.filter(({ topic }) => topic === 'dead')).toHaveLength(1);
  expect(one.seen.errors).toMatchObject([{ code: 'IGU_RECORD_MALFORMED' }]);
  // what is over leaves nothing in the compacted topic
  scheduler.offer([one.request({ action: 'release', id: 'c3', allocation: 'w1' })]);
  await settled();
  const keys = one.commits[1]!.records.map(({ record }) => [record.key, record.value !== null]);
  expect(keys).toContainEqual(['w1/1', false]);
  scheduler.close();
});

test('it takes no more than it has room for, and asks for more when there is some', async () => {
  const one = schedulerOver([gpuOf('GPU-1')]);
  let back = (): void => undefined;
  one.broker.gone = new Promise((resolve) => {
    back = resolve;
  });
  const scheduler = one.begin();
  const messages = Array.from({ length: 5 * gpuSchedulerLimits.maxBatch }, (_, i) =>
    one.request({ action: 'allocate', id: `c${i}`, instance: `w${i}` }),
  );
  let taken = scheduler.offer(messages);
  await settled();
  taken += scheduler.offer(messages.slice(taken));
  expect(taken).toBe(messages.length);
  expect(scheduler.offer([one.request({})])).toBe(0);
  let room = false;
  void scheduler.room().then(() => {
    room = true;
  });
  await settled();
  expect(room).toBe(false);
  back();
  await settled();
  expect(room).toBe(true);
  expect(one.commits.map(({ offset }) => offset.offset)).toEqual([1, 2, 3, 4, 5].map((i) => i * 256));
  expect(one.events.filter(({ answers }) => answers > 0)).toHaveLength(messages.length);
  scheduler.close();
});

test('one that can write no more ends, and who waits for room is let go', async () => {
  const one = schedulerOver([gpuOf('GPU-1')]);
  const scheduler = one.begin();
  await settled();
  one.broker.fails = true;
  scheduler.offer([one.request({ action: 'allocate', id: 'c1', instance: 'w1' })]);
  await settled();
  expect(one.seen).toMatchObject({ lost: 1, ended: 1 });
  await scheduler.room();
  // the next one begins with what the topic has
  one.broker.fails = false;
  const next = one.begin();
  expect(types(one.events)).toEqual([]);
  next.offer([one.request({ action: 'allocate', id: 'c1', instance: 'w1' })]);
  await settled();
  expect(types(one.events)).toEqual(['allocated w1/1']);
  next.close();
});

test('a node that says what it said before is no reason to look at anything', async () => {
  const one = schedulerOver([]);
  const scheduler = one.begin();
  scheduler.offer([one.request({ action: 'allocate', id: 'c1', instance: 'w1', waitMs: 60_000 })]);
  await settled();
  expect(types(one.events)).toEqual(['waiting waiting/w1']);
  one.news('n1', [gpuOf('GPU-1')]);
  await settled();
  expect(types(one.events).slice(1)).toEqual(['allocated w1/1', 'forgotten waiting/w1']);
  one.news('n1', undefined);
  scheduler.offer([one.request({ action: 'allocate', id: 'c2', instance: 'w2' })]);
  await settled();
  expect(types(one.events).at(-1)).toBe('refused refused/w2');
  scheduler.close();
});
