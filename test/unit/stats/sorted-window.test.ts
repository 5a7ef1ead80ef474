import fc from 'fast-check';
import { medianAbsoluteDeviation, medianSorted } from 'simple-statistics';
import { expect, it } from 'vitest';
import { StateReader, StateWriter } from '../../../src/state.js';
import { SortedWindow } from '../../../src/stats/sorted-window.js';

it('answers as sorting the last values anew would, through every push and over save and restore', () => {
  const numbers = fc.array(fc.integer({ min: -5, max: 5 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(numbers, fc.integer({ min: 1, max: 12 }), (values, capacity) => {
      const window = new SortedWindow(capacity);
      values.forEach((value, i) => {
        window.push(value);
        const kept = values.slice(Math.max(0, i + 1 - capacity), i + 1).sort((a, b) => a - b);
        expect(window.size).toBe(kept.length);
        expect(window.quantile(0)).toBe(kept[0]);
        expect(window.quantile(1)).toBe(kept.at(-1));
        expect(window.quantile(0.5)).toBeCloseTo(medianSorted(kept), 12);
        expect(window.countAtLeast(2)).toBe(kept.filter((v) => v >= 2).length);
        expect(window.medianDistance(medianSorted(kept))).toBeCloseTo(medianAbsoluteDeviation(kept), 12);
      });
      const writer = new StateWriter();
      window.save(writer);
      const back = new SortedWindow(capacity);
      back.restore(new StateReader(writer.finish()));
      for (const q of [0, 0.25, 0.5, 0.9, 1]) expect(back.quantile(q)).toBe(window.quantile(q));
      back.push(1);
      window.push(1);
      expect(back.quantile(0.5)).toBe(window.quantile(0.5));
    }),
  );
});
