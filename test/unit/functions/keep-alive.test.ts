import { describe, expect, test } from 'vitest';
import { HybridHistogram } from '../../../src/functions/keep-alive.js';
import { StateReader, StateWriter } from '../../../src/state.js';

const MINUTE = 60_000;
const learnt = (minutes: number[]) => {
  const histogram = new HybridHistogram();
  for (const idle of minutes) histogram.learn(idle * MINUTE);
  return histogram;
};
const repeated = (count: number, minutes: number) => Array.from({ length: count }, () => minutes);

describe('hybrid histogram', () => {
  test('keeps for the whole range until it has seen enough', () => {
    expect(learnt(repeated(9, 30)).windows()).toEqual({
      prewarmMs: 0,
      keepAliveMs: 240 * MINUTE,
      warm: [{ fromMs: 0, toMs: 240 * MINUTE }],
      tier: 'standard',
    });
  });

  test('unloads a function that comes every half hour and pre-warms it before', () => {
    const { prewarmMs, keepAliveMs, tier } = learnt(repeated(20, 30.5)).windows();
    expect(tier).toBe('histogram');
    expect(prewarmMs / MINUTE).toBeCloseTo(27, 9);
    expect((prewarmMs + keepAliveMs) / MINUTE).toBeCloseTo(34.1, 9);
  });

  test('keeps a function that is called often', () => {
    const { prewarmMs, keepAliveMs } = learnt([...repeated(95, 0.5), ...repeated(5, 7.2)]).windows();
    expect(prewarmMs).toBe(0);
    expect(keepAliveMs / MINUTE).toBeCloseTo(8.8, 9);
  });

  test('cuts the rare ends off', () => {
    const { prewarmMs, keepAliveMs } = learnt([...repeated(4, 0), ...repeated(192, 60), ...repeated(4, 200)]).windows();
    expect(prewarmMs / MINUTE).toBeCloseTo(54, 9);
    expect((prewarmMs + keepAliveMs) / MINUTE).toBeCloseTo(201 * 1.1, 9);
  });

  test('says nothing of idle times that are spread evenly', () => {
    expect(learnt(Array.from({ length: 480 }, (_, i) => i / 2)).windows().tier).toBe('standard');
  });

  test('predicts idle times beyond its range from the newest', () => {
    const { prewarmMs, keepAliveMs, tier } = learnt(repeated(12, 1440)).windows();
    expect(tier).toBe('series');
    expect(prewarmMs / MINUTE).toBeCloseTo(1440 * 0.85, 9);
    expect((prewarmMs + keepAliveMs) / MINUTE).toBeCloseTo(1440 * 1.15, 9);
  });

  test('answers the same after it was saved and restored', () => {
    for (const minutes of [repeated(20, 30.5), repeated(12, 1440), [1, 2, 3]]) {
      const histogram = learnt(minutes);
      const writer = new StateWriter();
      histogram.save(writer);
      const restored = new HybridHistogram();
      restored.restore(new StateReader(writer.finish()));
      expect(restored.windows()).toEqual(histogram.windows());
    }
  });
});
