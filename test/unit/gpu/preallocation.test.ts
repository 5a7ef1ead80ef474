import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { GpuAllocator } from '../../../src/gpu/allocator.js';
import type { Reservation } from '../../../src/gpu/ledger.js';
import { Preallocation, PreallocationPolicy } from '../../../src/gpu/preallocation.js';
import { seededRandom } from '../../../src/stats/seeded-random.js';
import { gpuOf } from './gpu-fixture.js';

const MINUTE = 60_000;
const horizonMs = 5 * MINUTE;

/** Looks each minute at demand that comes as `came` says; what the policy would keep in the end. */
function looked(minutes: number, came: (minute: number) => number, expected: (minute: number) => number, upper = 2) {
  const policy = new PreallocationPolicy();
  let decision = policy.decide(0, undefined);
  let kept = 0;
  for (let minute = 1; minute <= minutes; minute++) {
    policy.observe(came(minute), 600 * MINUTE, decision.target * MINUTE);
    const value = expected(minute);
    decision = policy.decide(minute * MINUTE, { horizonMs, value, upper: value * upper, level: 0.9 });
    kept += decision.target;
  }
  return { policy, decision, kept };
}

describe('how many to keep', () => {
  test('as many as come for certain, none where none come', () => {
    const steady = looked(
      60,
      () => 2,
      () => 10,
      1.2,
    );
    expect(steady.decision.target).toBeGreaterThanOrEqual(9);
    expect(
      looked(
        60,
        () => 0,
        () => 0,
      ).kept,
    ).toBe(0);
  });

  test('the k-th is kept while its expected waiting is dearer than its idle time', () => {
    // Poisson demand of mean 3, no budget in the way: k is kept while P(D >= k) > (lead + review) / (5 lead + lead + review).
    const policy = new PreallocationPolicy({ idleBudget: 1_000, margin: 0 });
    policy.observe(0, 1e12, 0);
    for (let minute = 0; minute <= 30; minute++) {
      policy.observe(minute % 5 === 0 ? 3 : 0, 0, 0);
      policy.decide(minute * MINUTE, { horizonMs, value: 3, upper: 3, level: 0.9 });
    }
    const { target } = policy.decide(31 * MINUTE, { horizonMs, value: 3, upper: 3, level: 0.9 });
    const atLeast = (k: number): number => {
      let p = Math.exp(-3);
      let below = 0;
      for (let d = 0; d < k; d++) {
        below += p;
        p *= 3 / (d + 1);
      }
      return 1 - below;
    };
    const critical = 5 / (5 * 4 + 5);
    expect(atLeast(target)).toBeGreaterThan(critical);
    expect(atLeast(target + 1)).toBeLessThanOrEqual(critical);
  });

  test('a forecast without skill is not followed, and followed again when it has some', () => {
    const wrong = looked(
      600,
      () => 0.01,
      () => 10,
    );
    expect(wrong.kept).toBe(0);
    expect(wrong.policy.skill).toBeLessThan(0);
    expect(wrong.decision.why).toContain('asked for when needed');
    const { policy } = wrong;
    let target = 0;
    for (let minute = 601; minute < 4_000; minute++) {
      policy.observe(2, 60 * MINUTE, 0);
      ({ target } = policy.decide(minute * MINUTE, { horizonMs, value: 10, upper: 12, level: 0.9 }));
    }
    expect(target).toBeGreaterThan(0);
  });

  test('idle time stays within its budget and costs nothing that waiting does not save, whatever comes', () => {
    fc.assert(
      fc.property(fc.nat(), fc.constantFrom(0, 0.05, 0.5, 3), fc.constantFrom(0.1, 1, 10), (seed, rate, bias) => {
        const random = seededRandom(seed);
        const policy = new PreallocationPolicy();
        let used = 0;
        let idle = 0;
        let target = 0;
        for (let minute = 1; minute < 300; minute++) {
          const came = random() < rate / 3 ? Math.floor(random() * 6) : 0;
          used += came * 20 * MINUTE;
          idle += target * MINUTE;
          policy.observe(came, came * 20 * MINUTE, target * MINUTE);
          expect(idle).toBeLessThanOrEqual(0.05 * used + 1e-6);
          const value = rate * 5 * bias;
          ({ target } = policy.decide(minute * MINUTE, { horizonMs, value, upper: 2 * value, level: 0.9 }));
          if (policy.skill <= 0.05) expect(target).toBe(0);
        }
      }),
      { numRuns: 60 },
    );
  });

  test('numbers that are none are refused', () => {
    expect(() => new PreallocationPolicy({ waiting: 0 })).toThrow(RangeError);
    expect(() => new PreallocationPolicy().observe(Number.NaN, 0, 0)).toThrow(RangeError);
    const policy = new PreallocationPolicy();
    expect(policy.decide(0, { horizonMs, value: Number.NaN, upper: 1, level: 0.9 }).target).toBe(0);
  });
});

test('reservations are made before they are asked for, used by their owner, and given back', () => {
  const clock = new VirtualClock(0);
  const allocator = new GpuAllocator({ clock });
  allocator.setNode(
    'n1',
    Array.from({ length: 8 }, (_, i) => gpuOf(`GPU-${i}`)),
  );
  for (let i = 0; i < 2; i++) allocator.allocate(`long-${i}`, { owner: 'team', model: 'A100', leaseMs: null });
  let value = 4;
  const forecast = () => (value > 0 ? { horizonMs, value, upper: value + 1, level: 0.9 } : undefined);
  const preallocation = new Preallocation(allocator, forecast, {
    ...{ owner: 'team', model: 'A100', idleBudget: 1, reviewMs: MINUTE, leadMs: 4 * MINUTE },
  });
  const reservations = () => [...allocator.ledger.all()].filter(({ kind }) => kind === 'reservation');
  const review = () => {
    clock.advance(MINUTE);
    allocator.expire();
    preallocation.review(clock.now());
    return preallocation.report!;
  };
  for (let i = 0; i < 30; i++) {
    const instance = `w${i}`;
    const answer = allocator.allocate(instance, { owner: 'team', model: 'A100', leaseMs: null });
    review();
    if (answer.granted) allocator.release(answer.allocation.id);
  }
  const kept = reservations().length;
  expect(kept).toBeGreaterThan(0);
  const stranger = { owner: 'other', gpuCount: 8 - 2 - kept + 1 };
  expect(allocator.canAllocate('stranger', stranger).granted).toBe(false);
  expect(allocator.allocate('next', { owner: 'team', model: 'A100' }).granted).toBe(true);
  expect(reservations()).toHaveLength(kept - 1);
  // what somebody else keeps for the same owner is none of its own
  const theirs = allocator.reserve('team', { model: 'A100' }, 10 * MINUTE);
  value = 0;
  expect(review()).toMatchObject({ target: 0, reserved: 0, why: 'there is no forecast' });
  expect(reservations()).toEqual([theirs]);
  allocator.release((theirs as Reservation).id);
  value = 4;
  review();
  expect(reservations().length).toBeGreaterThan(0);
  clock.advance(2 * MINUTE);
  allocator.expire();
  expect(reservations()).toEqual([]);
});

test('what comes and goes between two looks was asked for all the same', () => {
  const clock = new VirtualClock(0);
  const allocator = new GpuAllocator({
    clock,
    onEvent: ({ type, record }) => {
      if (type === 'allocated' && record?.kind === 'allocation') preallocation.allocated(record);
    },
  });
  allocator.setNode(
    'n1',
    Array.from({ length: 8 }, (_, i) => gpuOf(`GPU-${i}`)),
  );
  const forecast = () => ({ horizonMs, value: 4, upper: 5, level: 0.9 });
  const preallocation = new Preallocation(allocator, forecast, {
    ...{ owner: 'team', model: 'A100', idleBudget: 1, reviewMs: MINUTE, leadMs: 4 * MINUTE },
  });
  allocator.allocate('long', { owner: 'team', gpuCount: 4, model: 'A100', leaseMs: null });
  let reserved = 0;
  for (let i = 0; i < 30; i++) {
    const answer = allocator.allocate(`w${i}`, { owner: 'team', model: 'A100', leaseMs: null });
    if (answer.granted) allocator.release(answer.allocation.id);
    clock.advance(MINUTE);
    allocator.expire();
    preallocation.review(clock.now());
    reserved = preallocation.report!.reserved;
  }
  expect(reserved).toBeGreaterThan(0);
});

test('a clock that is set back does not end the reviews', () => {
  const allocator = new GpuAllocator({ clock: new VirtualClock(0) });
  allocator.setNode('n1', [gpuOf('GPU-1')]);
  const preallocation = new Preallocation(allocator, () => undefined, { owner: 'team', model: 'A100' });
  allocator.allocate('w', { owner: 'team', model: 'A100' });
  preallocation.review(100_000);
  const first = preallocation.report;
  preallocation.review(4_000);
  expect(preallocation.report).not.toBe(first);
  expect(preallocation.report).toMatchObject({ owner: 'team', target: 0 });
});
