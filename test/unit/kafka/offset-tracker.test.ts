import fc from 'fast-check';
import { expect, it } from 'vitest';
import { OffsetTracker } from '../../../src/kafka/offset-tracker.js';

it('commits nothing before the first acknowledgement, then what lies below the first gap', () => {
  const tracker = new OffsetTracker();
  const first = tracker.begin(10n, 19n);
  const second = tracker.begin(20n, 29n);
  const third = tracker.begin(35n, 40n);
  expect(tracker.committable).toBeUndefined();
  second();
  expect(tracker.committable).toBeUndefined();
  first();
  expect(tracker.committable).toBe(30n);
  third();
  third();
  expect(tracker.committable).toBe(41n);
  expect(tracker.pending).toBe(0);
});

it('forgets on reset, also what is acknowledged afterwards', () => {
  const tracker = new OffsetTracker();
  const old = tracker.begin(0n, 9n);
  tracker.reset();
  tracker.begin(0n, 4n);
  old();
  expect(tracker.committable).toBeUndefined();
  expect(tracker.pending).toBe(1);
});

it('refuses ranges that overlap', () => {
  const tracker = new OffsetTracker();
  tracker.begin(0n, 9n);
  expect(() => tracker.begin(9n, 12n)).toThrow(RangeError);
});

it('equals the first unacknowledged range, whatever the order', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1, maxLength: 30 }), (order) => {
      const tracker = new OffsetTracker();
      const acks = order.map((_, i) => tracker.begin(BigInt(i * 10), BigInt(i * 10 + 9)));
      const done = new Set<number>();
      for (const i of order.map((_, k) => k).sort((a, b) => order[a]! - order[b]! || a - b)) {
        acks[i]!();
        done.add(i);
        let below = 0;
        while (done.has(below)) below++;
        expect(tracker.committable).toBe(below === 0 ? undefined : BigInt(below * 10));
      }
    }),
  );
});
