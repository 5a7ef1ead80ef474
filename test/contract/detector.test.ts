import {
  interquartileRange,
  mean,
  median,
  medianAbsoluteDeviation,
  quantileSorted,
  standardDeviation,
} from 'simple-statistics';
import { describe, expect, it } from 'vitest';
import { ConformalRank } from '../../src/detectors/conformal-rank.js';
import { Iqr } from '../../src/detectors/iqr.js';
import { Mad } from '../../src/detectors/mad.js';
import { MovingAverage } from '../../src/detectors/moving-average.js';
import { createDetector, detectorNames } from '../../src/detectors/registry.js';
import { SeriesDetector } from '../../src/detectors/series-detector.js';
import { ZScore } from '../../src/detectors/z-score.js';
import { makeSeries } from '../../src/records.js';
import { StateReader, StateWriter } from '../../src/state.js';
import { normals } from '../support/random.js';

const save = (one: { save(w: StateWriter): void }): Buffer => {
  const writer = new StateWriter();
  one.save(writer);
  return writer.finish();
};

describe.each(detectorNames)('%s', (name) => {
  it('scores an outlier above nearly all ordinary values, and is finite from the start', () => {
    const detector = createDetector(name);
    const ordinary: number[] = [];
    expect(detector.score(5)).toBe(0);
    for (const value of normals(600, 1)) {
      const score = detector.score(100 + value);
      expect(Number.isFinite(score) && score >= 0).toBe(true);
      if (detector.ready) ordinary.push(score);
      detector.learn(100 + value);
    }
    const sorted = ordinary.sort((a, b) => a - b);
    // a forest grown from 64 points cannot tell an outlier from the rarest of them
    const rare = quantileSorted(sorted, name === 'isolation-forest' ? 0.95 : 0.99);
    expect(detector.score(115)).toBeGreaterThan(rare);
    expect(detector.score(85)).toBeGreaterThan(rare);
    expect(detector.score(100)).toBeLessThan(rare);
    expect(Number.isFinite(detector.expected) && detector.scale >= 0).toBe(true);
  });

  it('changes nothing by scoring, and restores what it saved', () => {
    const detector = createDetector(name);
    const values = normals(400, 2);
    for (const value of values.slice(0, 300)) detector.learn(value);
    const bytes = save(detector);
    detector.score(17);
    expect(save(detector).equals(bytes)).toBe(true);
    const restored = createDetector(name);
    const reader = new StateReader(bytes);
    restored.restore(reader);
    expect(reader.done).toBe(true);
    for (const value of values.slice(300)) {
      expect(restored.score(value)).toBe(detector.score(value));
      restored.learn(value);
      detector.learn(value);
    }
    expect(save(restored).equals(save(detector))).toBe(true);
  });

  it('takes a constant as ordinary and a change of it as strange', () => {
    const detector = createDetector(name);
    for (let i = 0; i < 200; i++) detector.learn(5);
    expect(detector.score(6)).toBeGreaterThanOrEqual(detector.score(5));
    if (name !== 'isolation-forest') expect(detector.score(6)).toBeGreaterThan(1000);
  });
});

describe('references', () => {
  const values = [...normals(500, 3)].map((v) => 1e6 + v);
  const window = values.slice(-60);
  const learn = <D extends { learn(v: number): void }>(detector: D): D => {
    for (const value of values) detector.learn(value);
    return detector;
  };

  it('z-score uses the mean and the population standard deviation of the window', () => {
    const detector = learn(new ZScore());
    expect(detector.score(1e6 + 3)).toBeCloseTo(Math.abs(1e6 + 3 - mean(window)) / standardDeviation(window), 6);
  });

  it('mad uses the median and the median absolute deviation of the window', () => {
    const detector = learn(new Mad());
    expect(detector.expected).toBeCloseTo(median(window), 9);
    expect(detector.scale).toBeCloseTo(1.4826 * medianAbsoluteDeviation(window), 9);
    const odd = new Mad(61);
    for (const value of values) odd.learn(value);
    expect(odd.scale).toBeCloseTo(1.4826 * medianAbsoluteDeviation(values.slice(-61)), 9);
  });

  it('moving average is the exponentially weighted mean and mean absolute deviation, written out', () => {
    const detector = learn(new MovingAverage(0.2));
    let weighted = 0;
    let deviation = 0;
    values.forEach((value, i) => {
      const weight = Math.max(0.2, 1 / (i + 1));
      const off = i === 0 ? 0 : Math.abs(value - weighted);
      deviation = i === 0 ? 0 : (1 - weight) * deviation + weight * off;
      weighted = (1 - weight) * weighted + weight * value;
    });
    expect(detector.expected).toBeCloseTo(weighted, 6);
    expect(detector.scale).toBeCloseTo(deviation, 6);
    expect(detector.score(1e6 + 5)).toBeCloseTo(Math.abs(1e6 + 5 - weighted) / deviation, 4);
  });

  it('iqr measures from the quartiles', () => {
    const detector = learn(new Iqr());
    // simple-statistics takes another definition of quartiles, at most one order statistic away
    expect(Math.abs(detector.scale - interquartileRange(window))).toBeLessThan(0.1);
    expect(detector.score(median(window))).toBe(0);
  });

  it('conformal p-values of ordinary scores are at most as often small as they say', () => {
    const rank = new ConformalRank();
    const ps: number[] = [];
    for (const value of normals(20_000, 4)) {
      const score = Math.abs(value);
      if (rank.ready) ps.push(rank.p(score));
      rank.learn(score);
    }
    for (const alpha of [0.5, 0.1, 0.05, 0.01]) {
      const share = ps.filter((p) => p <= alpha).length / ps.length;
      expect(share).toBeGreaterThan(0.8 * alpha);
      expect(share).toBeLessThan(1.2 * alpha);
    }
    expect(rank.p(100)).toBeLessThan(1e-9);
  });
});

describe('episodes', () => {
  const series = makeSeries('response_time_ms', { service: 'shop' });
  const run = (values: readonly number[], detector = new SeriesDetector(series), from = 0) =>
    values.map((value, i) => ({ ...detector.observe((from + i) * 1000, value) }));
  const quiet = [...normals(400, 5)].map((v) => 100 + v);

  it('opens once, names type, severity, reason and recommendation, and resolves after calm', () => {
    const bump = [140, 141, 139, 142];
    const seen = run([...quiet.slice(0, 300), ...bump, ...quiet.slice(300)]);
    const events = seen.flatMap((o) => (o.event ? [o.event] : []));
    expect(seen.filter((o) => o.alert).length).toBe(1);
    expect(seen.findIndex((o) => o.alert)).toBe(300);
    const [opened] = events;
    expect(opened).toMatchObject({
      state: 'open',
      type: 'rate-change',
      severity: 'critical',
      entity: 'shop',
      openedAt: 300_000,
      value: 140,
    });
    expect(opened!.expected).toBeGreaterThan(98);
    expect(opened!.expected).toBeLessThan(102);
    expect(opened!.recommendation).toContain('slow dependency');
    const last = events.at(-1)!;
    expect(last).toMatchObject({ state: 'resolved', id: opened!.id });
    expect(last.resolvedAt).toBeGreaterThan(303_000);
    expect(seen.at(-1)!.active).toBe(false);
  });

  it('is quiet on noise: fewer than one alert in 5,000 values', () => {
    const alerts = run([...normals(20_000, 6)]).filter((o) => o.alert).length;
    expect(alerts).toBeLessThanOrEqual(4);
  });

  it('ends an episode that has become the new normal', () => {
    const seen = run([...quiet, ...[...normals(400, 7)].map((v) => 150 + v)]);
    expect(seen.at(-1)!.active).toBe(false);
    expect(seen.filter((o) => o.alert).length).toBeLessThanOrEqual(2);
  });

  it('goes on in the middle of an episode after save and restore, and ignores what is not a number', () => {
    const values = [...quiet, 140, 141, Number.NaN, ...quiet];
    const whole = run(values);
    const first = new SeriesDetector(series);
    run(values.slice(0, 402), first);
    const restored = new SeriesDetector(series);
    restored.restore(new StateReader(save(first)));
    expect(run(values.slice(402), restored, 402)).toEqual(whole.slice(402));
  });
});
