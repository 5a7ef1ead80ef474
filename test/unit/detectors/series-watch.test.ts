import { describe, expect, it } from 'vitest';
import { matchesRule, ruleSchema } from '../../../src/detectors/rule.js';
import { SeriesWatch } from '../../../src/detectors/series-watch.js';
import { type AnomalyRecord, makeSeries } from '../../../src/records.js';
import { StateReader, StateWriter } from '../../../src/state.js';
import { normals } from '../../support/random.js';

const series = makeSeries('queue_length', { service: 'checkout' });

function watch(
  rules: Record<string, unknown>[],
  one = new SeriesWatch(series, { rules: rules.map((r) => ruleSchema.parse(r)) }),
) {
  const published: AnomalyRecord[] = [];
  const feed = (values: readonly number[], from: number, stepMs = 1_000): void =>
    values.forEach((value, i) => {
      one.observe(from + i * stepMs, value, from + i * stepMs, (record) => published.push(record));
    });
  return { one, published, feed };
}

describe('rules', () => {
  it('open when a bound is passed for its time, say why, and resolve when it holds again', () => {
    const { published, feed } = watch([
      { name: 'long-queue', pattern: 'queue_*', above: 100, forSeconds: 3, severity: 'critical' },
    ]);
    feed([50, 150, 150, 50, 120, 130, 140, 160, 150, 90], 1_000_000);
    expect(published.map((a) => [a.state, a.type, a.openedAt, a.value])).toEqual([
      ['open', 'threshold', 1_007_000, 160],
      ['resolved', 'threshold', 1_007_000, 160],
    ]);
    expect(published[0]).toMatchObject({
      severity: 'critical',
      expected: 100,
      upper: 100,
      reason: 'rule long-queue: above 100',
      detectors: ['rule:long-queue'],
    });
    expect(published[1]!.id).toBe(published[0]!.id);
  });

  it('know a change that is too fast', () => {
    const { published, feed } = watch([{ name: 'drop', pattern: 'queue_length', fallsFasterThan: 10 }]);
    feed([100, 95, 90, 50, 50], 0 + 1_000_000);
    expect(published.map((a) => [a.state, a.type])).toEqual([
      ['open', 'rate-change'],
      ['resolved', 'rate-change'],
    ]);
    expect(published[0]!.reason).toBe('rule drop: 40 a second, the limit is 10 down');
  });

  it('are only about the metrics they name, and need a bound', () => {
    expect(matchesRule('queue_*', 'queue_length')).toBe(true);
    expect(matchesRule('queue', 'queue_length')).toBe(false);
    expect(matchesRule('a.b*', 'aXb')).toBe(false);
    expect(ruleSchema.safeParse({ name: 'x', pattern: '*' }).success).toBe(false);
    const { published, feed } = watch([{ name: 'other', pattern: 'cpu*', above: 0 }]);
    feed([5, 5], 1_000_000);
    expect(published).toEqual([]);
  });

  it('keep their episode over save and restore, also beside rules that have changed', () => {
    const rules = [{ name: 'a', pattern: '*', above: 10 }];
    const first = watch(rules);
    first.feed([5, 20], 1_000_000);
    const writer = new StateWriter();
    first.one.save(writer);
    const restored = new SeriesWatch(series, {
      rules: [{ name: 'new', pattern: '*', above: 1_000 }, ...rules].map((r) => ruleSchema.parse(r)),
    });
    restored.restore(new StateReader(writer.finish()));
    const second = watch([], restored);
    second.feed([5], 1_002_000);
    expect(second.published.map((a) => [a.state, a.id])).toEqual([['resolved', first.published[0]!.id]]);
  });
});

describe('what comes badly', () => {
  it('a counter that is reset is no anomaly, a jump of its increase is', () => {
    const counter = makeSeries('requests_total', { service: 'checkout' });
    const { published, feed } = watch([], new SeriesWatch(counter));
    let total = 0;
    const values = normals(400, 11).map((noise, i) => {
      if (i === 250) total = 0;
      total += 100 + noise;
      return total;
    });
    feed(values, 1_000_000);
    expect(published).toEqual([]);
    feed([total + 1_000], 1_000_000 + 400_000);
    expect(published.map((a) => [a.state, Math.round(a.value)])).toEqual([['open', 1_000]]);
  });

  it('late, repeated and non-finite samples change nothing', () => {
    const { one, published, feed } = watch([{ name: 'a', pattern: '*', above: 10 }]);
    feed([5, 6], 1_000_000);
    const state = (): Buffer => {
      const writer = new StateWriter();
      one.save(writer);
      return writer.finish();
    };
    const before = state();
    one.observe(1_001_000, 99, 1_001_000, (record) => published.push(record));
    one.observe(1_000_500, 99, 1_001_000, (record) => published.push(record));
    expect(published).toEqual([]);
    expect(state().equals(before)).toBe(true);
  });

  it('a series that stops is missing once, and there again when it comes', () => {
    const { one, published, feed } = watch([]);
    feed(normals(60, 12), 1_000_000, 5_000);
    const last = 1_000_000 + 59 * 5_000;
    expect(one.checkSilence(last + 45_000)).toBeNull();
    const missing = one.checkSilence(last + 60_000);
    expect(missing).toMatchObject({ state: 'open', type: 'missing', openedAt: last, value: 60, expected: 5 });
    expect(one.checkSilence(last + 70_000)).toBeNull();
    feed([0], last + 90_000);
    expect(published.map((a) => [a.state, a.id])).toEqual([['resolved', missing!.id]]);
    expect(published[0]!.resolvedAt).toBe(last + 90_000);
  });

  it('a history that arrives in one go is not missing afterwards', () => {
    const { one, published } = watch([]);
    normals(500, 13).forEach((value, i) => {
      one.observe(i * 60_000, value, 1_000_000, (record) => published.push(record));
    });
    expect(one.checkSilence(2_000_000)).toBeNull();
  });
});
