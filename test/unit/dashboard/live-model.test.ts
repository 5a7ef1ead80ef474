import { describe, expect, it } from 'vitest';
import { LiveModel } from '../../../src/dashboard/live-model.js';
import { SeriesHistory } from '../../../src/dashboard/series-history.js';
import { dashboardLimits } from '../../../src/limits.js';
import { makeSeries } from '../../../src/records.js';
import { anomalyOf, believableModel, forecastOf } from './believable-model.js';

const MINUTE = 60_000;
const END = Date.UTC(2026, 2, 4, 15);

describe('SeriesHistory', () => {
  it('keeps the newest samples in order across growth and wrap-around', () => {
    const history = new SeriesHistory(100);
    for (let i = 0; i < 257; i++) expect(history.push(i, i * 10)).toBe(true);
    expect(history.length).toBe(100);
    expect(history.since()).toEqual(Array.from({ length: 100 }, (_, k) => [157 + k, (157 + k) * 10]));
    expect(history.since(254)).toEqual([
      [255, 2550],
      [256, 2560],
    ]);
    expect(history.tail(3)).toEqual([2540, 2550, 2560]);
  });

  it('replaces at the same time and refuses what is earlier', () => {
    const history = new SeriesHistory(10);
    history.push(5, 1);
    expect(history.push(5, 2)).toBe(true);
    expect(history.push(4, 9)).toBe(false);
    expect(history.since()).toEqual([[5, 2]]);
  });
});

describe('LiveModel', () => {
  it('opens on the requests of the generated service, whatever came first', () => {
    const model = new LiveModel();
    expect(model.defaultSeries()).toBeUndefined();
    const cpu = makeSeries('cpu', { host: 'a' });
    model.sample(cpu, 1, 1);
    expect(model.defaultSeries()).toBe(cpu.id);
    model.sample(makeSeries('latency', { service: 's', generated: 'true' }), 1, 1);
    const requests = makeSeries('http_requests', { service: 's', generated: 'true' });
    model.sample(requests, 1, 1);
    expect(model.defaultSeries()).toBe(requests.id);
    expect(model.series(requests.canonical)?.generated).toBe(true);
    expect(model.series(cpu.id)?.generated).toBe(false);
  });

  it('answers what came after a version, and nothing more', () => {
    const model = believableModel(END);
    const id = model.defaultSeries()!;
    const all = model.changesAfter(0, id);
    expect(all.series).toHaveLength(6);
    expect(all.chart?.samples).toHaveLength(2 * 1440 + 1);
    expect(all.decisions).toHaveLength(3);
    expect(all.anomalies.map((a) => a.state)).toEqual(['resolved', 'open']);
    const last = all.chart!.samples.at(-1)![0];
    const none = model.changesAfter(all.version, id, last);
    expect([
      none.series,
      none.values,
      none.decisions,
      none.anomalies,
      none.chart?.samples,
      none.chart?.forecasts,
    ]).toEqual([[], [], [], [], [], []]);
    const cpu = makeSeries('cpu_usage', { host: 'node-1', core: '1' });
    model.sample(cpu, END + MINUTE, 0.5);
    const one = model.changesAfter(all.version, cpu.id, END);
    expect(one.series).toEqual([]);
    expect(one.values).toEqual([[cpu.id, END + MINUTE, 0.5, 0]]);
    const fresh = makeSeries('new', {});
    model.sample(fresh, END, 1);
    expect(model.changesAfter(one.version).series.map((s) => s.id)).toEqual([fresh.id]);
    expect(one.chart?.samples).toEqual([[END + MINUTE, 0.5]]);
  });

  it('thins old forecasts to ones a quarter of the horizon apart and always keeps the newest', () => {
    const model = new LiveModel();
    const series = makeSeries('x', {});
    for (let m = 0; m <= 600; m++) model.forecast(forecastOf(series, m * MINUTE));
    const made = model.series('x')!.forecasts.map((f) => f.madeAt / MINUTE);
    expect(made.at(-1)).toBe(600);
    expect(made.length).toBeLessThanOrEqual(dashboardLimits.maxForecasts);
    for (let i = 1; i < made.length - 1; i++) expect(made[i]! - made[i - 1]!).toBeGreaterThanOrEqual(15);
    model.forecast(forecastOf(series, 100 * MINUTE));
    expect(model.series('x')!.forecasts.at(-1)!.madeAt).toBe(600 * MINUTE);
  });

  it('keeps every collection within its bound and counts what is not shown', () => {
    const model = new LiveModel();
    for (let i = 0; i < dashboardLimits.maxSeries + 7; i++) {
      model.sample(makeSeries('m', { n: String(i) }), 1, i);
      model.sample(makeSeries('m', { n: String(i) }), 2, i);
    }
    expect(model.seriesList()).toHaveLength(dashboardLimits.maxSeries);
    expect(model.notShown).toBe(7);
    const series = makeSeries('m', { n: '0' });
    for (let i = 0; i < dashboardLimits.maxAnomalies + 20; i++) {
      const open = anomalyOf(series, i);
      model.anomaly(i === 0 ? open : { ...open, state: 'resolved', resolvedAt: i + 1 });
    }
    expect(model.anomalies()).toHaveLength(dashboardLimits.maxAnomalies);
    // The oldest is still open and outlives resolved ones.
    expect(model.anomalies().at(-1)).toMatchObject({ openedAt: 0, state: 'open' });
    expect(model.series(series.id)?.openAnomalies).toBe(1);
  });

  it('keeps the reason an episode was opened for when it ends', () => {
    const model = new LiveModel();
    const open = anomalyOf(makeSeries('m', {}), 5);
    model.anomaly({ ...open, reason: 'far above' });
    model.anomaly({ ...open, state: 'resolved', resolvedAt: open.openedAt + 1, reason: 'calm again' });
    model.anomaly({ ...open, state: 'resolved', resolvedAt: open.openedAt + 1, reason: 'calm again' });
    expect(model.anomalies().map((a) => a.reason)).toEqual(['far above; calm again']);
  });

  it('answers the newest desired instances of each entity of a policy', () => {
    const model = believableModel(END);
    expect(model.desiredInstances('shop-web')).toEqual([
      expect.objectContaining({ entity: 'shop', current: 8, desired: 6, dryRun: true }),
    ]);
    expect(model.desiredInstances('other')).toEqual([]);
  });
});
