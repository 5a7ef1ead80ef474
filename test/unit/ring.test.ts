import fc from 'fast-check';
import { expect, it } from 'vitest';
import { StateReader, StateWriter } from '../../src/state.js';
import { Ring } from '../../src/stats/ring.js';

it('keeps its numbers in order through every push, the same as sorting them anew', () => {
  const numbers = fc.array(fc.integer({ min: -5, max: 5 }), { maxLength: 60 });
  fc.assert(
    fc.property(numbers, fc.integer({ min: 1, max: 12 }), fc.nat(60), (values, capacity, askFrom) => {
      const ring = new Ring(capacity);
      values.forEach((value, i) => {
        const before = values.slice(Math.max(0, i - capacity), i);
        expect(ring.push(value)).toBe(i >= capacity ? before[0] : Number.NaN);
        const kept = values.slice(Math.max(0, i + 1 - capacity), i + 1);
        if (i >= askFrom) expect([...ring.sorted()]).toEqual(kept.sort((a, b) => a - b));
      });
      const writer = new StateWriter();
      ring.save(writer);
      const back = new Ring(capacity);
      back.sorted();
      back.restore(new StateReader(writer.finish()));
      expect([...back.sorted()]).toEqual([...ring.sorted()]);
    }),
  );
});
