import { describe, expect, test } from 'vitest';
import { IdleHazard } from '../../../src/functions/idle-hazard.js';
import { HybridHistogram, keepsAfter } from '../../../src/functions/keep-alive.js';
import { arimaIdleTimes } from '../../../src/operators/idle-forecaster.js';
import { StateReader, StateWriter } from '../../../src/state.js';
import { uniform } from '../../support/random.js';

const MINUTE = 60_000;
const DAY = 1440;

function learnt(minutes: Iterable<number>, options = {}) {
  const hazard = new IdleHazard(options);
  for (const one of minutes) hazard.learn(one * MINUTE);
  return hazard;
}
const keeps = (hazard: IdleHazard, minutes: number) => keepsAfter(hazard.windows(), minutes * MINUTE);
const repeated = (count: number, minutes: number) => Array.from({ length: count }, () => minutes);

describe('idle hazard', () => {
  test('a function that is not known is kept while a call is likely enough by what is known of all', () => {
    // 0.5 / (t + 1) a minute is worth 240 minutes up to t = 119
    const { warm, prewarmMs, tier } = new IdleHazard().windows();
    expect(tier).toBe('hazard');
    expect(prewarmMs).toBe(0);
    expect(warm.length).toBe(1);
    expect(warm[0]!.toMs / MINUTE).toBeGreaterThan(115);
    expect(warm[0]!.toMs / MINUTE).toBeLessThan(125);
  });

  test.each([30.1, 90, DAY, 2 * DAY])('one that comes every %d minutes is kept around that time only', (period) => {
    const hazard = learnt(repeated(20, period));
    expect([0.99, 1, 1.01].map((share) => keeps(hazard, period * share))).toContain(true);
    expect(keeps(hazard, period)).toBe(true);
    expect([0.1, 0.5, 0.9].map((share) => keeps(hazard, period * share))).toEqual([false, false, false]);
  });

  test('of one without memory the rate decides: often enough always, too seldom never', () => {
    const random = uniform(5);
    const exponential = (mean: number) => Array.from({ length: 400 }, () => -Math.log(1 - random()) * mean);
    const often = learnt(exponential(60));
    const seldom = learnt(exponential(2_000));
    expect([0, 10, 60, 150].map((minutes) => keeps(often, minutes))).toEqual([true, true, true, true]);
    expect([30, 60, 150, 600].map((minutes) => keeps(seldom, minutes))).toEqual([false, false, false, false]);
  });

  test('one with bursts is kept in a burst, and not between', () => {
    const random = uniform(6);
    const hazard = learnt(
      Array.from({ length: 600 }, (_, i) => (i % 10 < 9 ? random() * 2 : 1_000 + random() * 2_000)),
    );
    expect([0, 1].map((minutes) => keeps(hazard, minutes))).toEqual([true, true]);
    expect([10, 60, 300, 900].map((minutes) => keeps(hazard, minutes))).toEqual([false, false, false, false]);
  });

  test('what a cold start may cost decides how long', () => {
    const times = [5, 10, 20, 40, 80, 160, 320, 640, 1280];
    const idle = [10, 60, 240, 1000].map((coldStartWorthMinutes) => {
      const { warm } = learnt(times, { coldStartWorthMinutes }).windows();
      return warm.reduce((sum, { fromMs, toMs }) => sum + toMs - fromMs, 0);
    });
    expect([...idle].sort((a, b) => a - b)).toEqual(idle);
    expect(new Set(idle).size).toBe(4);
  });

  test('follows a function whose period changes', () => {
    const hazard = learnt([...repeated(200, 30.5), ...repeated(200, 75)]);
    expect(keeps(hazard, 75)).toBe(true);
    expect(keeps(hazard, 50)).toBe(false);
  });

  test('windows within a time are those of all, as far as they go', () => {
    const random = uniform(8);
    const hazard = learnt(Array.from({ length: 50 }, () => random() ** 4 * 3_000));
    for (let i = 0; i < 100; i++) {
      const minutes = random() * 4_000;
      const partly = hazard.windows(minutes * MINUTE);
      expect(keepsAfter(partly, minutes * MINUTE)).toBe(keeps(hazard, minutes));
      hazard.learn(random() * 100 * MINUTE);
    }
  });

  test('answers the same after it was saved and restored', () => {
    const hazard = learnt([1, 2, 3, 60, 60, 60, 1_440, 30_000]);
    const writer = new StateWriter();
    hazard.save(writer);
    const restored = new IdleHazard();
    restored.restore(new StateReader(writer.finish()));
    expect(restored.windows()).toEqual(hazard.windows());
    restored.learn(60 * MINUTE);
    hazard.learn(60 * MINUTE);
    expect(restored.windows()).toEqual(hazard.windows());
  });

  test('takes any idle time', () => {
    const hazard = learnt([-1, 0, 1e9, 20_160, 0.999]);
    expect(hazard.windows().warm.every(({ fromMs, toMs }) => fromMs < toMs && Number.isFinite(toMs))).toBe(true);
  });
});

describe('the series tier of the hybrid histogram', () => {
  test('follows idle times that swing, where their median does not', () => {
    // every other day at noon and at six: 30 and 18 hours
    const swinging = Array.from({ length: 60 }, (_, i) => (i % 2 === 0 ? 1_800 : 1_080));
    const arima = new HybridHistogram({ series: arimaIdleTimes });
    const median = new HybridHistogram();
    let hits = 0;
    let medianHits = 0;
    for (const [i, minutes] of swinging.entries()) {
      if (i >= 30) {
        expect(arima.windows().tier).toBe('series');
        if (keepsAfter(arima.windows(), minutes * MINUTE)) hits++;
        if (keepsAfter(median.windows(), minutes * MINUTE)) medianHits++;
      }
      for (const one of [arima, median]) one.learn(minutes * MINUTE);
    }
    expect(medianHits).toBeLessThanOrEqual(15);
    expect(hits).toBeGreaterThan(27);
  });

  test('is restored with what it had seen', () => {
    const histogram = new HybridHistogram({ series: arimaIdleTimes });
    for (let i = 0; i < 20; i++) histogram.learn((300 + 10 * i) * MINUTE);
    const writer = new StateWriter();
    histogram.save(writer);
    const restored = new HybridHistogram({ series: arimaIdleTimes });
    restored.restore(new StateReader(writer.finish()));
    expect(restored.windows()).toEqual(histogram.windows());
  });
});
