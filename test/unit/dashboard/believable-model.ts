import { LiveModel } from '../../../src/dashboard/live-model.js';
import { type AnomalyRecord, type ForecastRecord, makeSeries, type Series } from '../../../src/records.js';

const MINUTE = 60_000;

/** Requests a minute of a made-up shop: a daily shape, a little noise that repeats, a spike of twenty minutes. */
export function requestsAt(t: number, spikeAt: number): number {
  const day = (t % (1440 * MINUTE)) / (1440 * MINUTE);
  const base = 900 - 600 * Math.cos(2 * Math.PI * day) + 120 * Math.sin(6 * Math.PI * day);
  const noise = 40 * Math.sin(t / 61_003) + 25 * Math.sin(t / 17_011);
  return Math.max(0, base + noise + (t >= spikeAt && t < spikeAt + 20 * MINUTE ? 900 : 0));
}

/** A model filled as a running system would fill it, ending at `end`. */
export function believableModel(end: number): LiveModel {
  const model = new LiveModel();
  const requests = makeSeries('http_requests', { service: 'shop', generated: 'true' });
  const others = [
    makeSeries('latency_p95_ms', { service: 'shop', generated: 'true' }),
    makeSeries('cpu_usage', { host: 'node-1', core: '0' }),
    makeSeries('cpu_usage', { host: 'node-1', core: '1' }),
    makeSeries('memory_used_bytes', { host: 'node-1' }),
    makeSeries('load_1m', { host: 'node-1' }),
  ];
  const scale = [0.2, 0.0004, 0.0005, 6e6, 0.002];
  const spikeAt = end - 9 * 60 * MINUTE;
  for (let t = end - 2 * 1440 * MINUTE; t <= end; t += MINUTE) {
    model.sample(requests, t, requestsAt(t, spikeAt));
    others.forEach((s, i) => {
      model.sample(s, t, requestsAt(t + i * 7 * MINUTE, spikeAt) * scale[i]!);
    });
    if (t > end - 1440 * MINUTE && t % (15 * MINUTE) === 0) model.forecast(forecastOf(requests, t));
  }
  model.forecast(forecastOf(requests, end));
  const episode = anomalyOf(requests, spikeAt);
  model.anomaly(episode);
  model.anomaly({ ...episode, state: 'resolved', updatedAt: spikeAt + 20 * MINUTE, resolvedAt: spikeAt + 20 * MINUTE });
  model.anomaly({
    ...anomalyOf(others[1]!, end - 12 * MINUTE),
    id: 'cpu',
    severity: 'warning',
    value: 0.97,
    expected: 0.48,
    lower: 0.41,
    upper: 0.58,
    reason: '0.97 is outside 0.41 to 0.58 expected at this hour (zscore, mad)',
    recommendation: 'look at what runs on node-1',
  });
  for (const [ago, current, desired, reactive, predicted] of [
    [300, 6, 7, 6, 7],
    [180, 7, 8, 7, 8],
    [14, 8, 6, 6, 5],
  ] as const) {
    model.decision({
      id: `d${ago}`,
      policy: 'shop-web',
      entity: 'shop',
      timestamp: end - ago * MINUTE,
      current,
      desired,
      reactive,
      predicted,
      horizonMs: 10 * MINUTE,
      quantile: 0.9,
      confidence: 0.42,
      reason:
        desired > current
          ? `p90 of http_requests in 10 min needs ${predicted} at 200 an instance`
          : `demand of the last 5 min needs ${reactive} at 200 an instance`,
      dryRun: true,
    });
  }
  model.pipeline({ name: 'forecast', rate: 312, lag: 0, verdict: 'keeping up' });
  model.pipeline({ name: 'detect', rate: 298, lag: 1240, verdict: 'recovering' });
  model.pipeline({ name: 'scale', rate: 1.2, lag: 18_400, verdict: 'behind' });
  model.info({ version: '0.1.0', broker: '127.0.0.1:9092 (embedded)', backend: 'wasm', dataDir: 'in memory' });
  return model;
}

export function forecastOf(series: Series, madeAt: number): ForecastRecord {
  const points = [1, 5, 10, 15, 30, 45, 60].map((minutes) => {
    const timestamp = madeAt + minutes * MINUTE;
    // The made-up forecaster knows the day's shape, not the spike, and is a little high.
    const value = requestsAt(timestamp, Number.POSITIVE_INFINITY) * 1.03 + 10;
    const half = 60 + 2.5 * minutes;
    return {
      horizonMs: minutes * MINUTE,
      timestamp,
      value,
      intervals: [
        { level: 80, lower: value - half * 0.65, upper: value + half * 0.65 },
        { level: 95, lower: value - half, upper: value + half },
      ],
      confidence: 0.42,
    };
  });
  const { canonical, name, labels, entity } = series;
  return {
    id: `${canonical}@${madeAt}`,
    series: canonical,
    name,
    labels,
    entity,
    model: 'ensemble',
    madeAt,
    stepMs: MINUTE,
    points,
  };
}

export function anomalyOf(series: Series, openedAt: number): AnomalyRecord {
  const { canonical, name, labels, entity } = series;
  return {
    id: `a@${openedAt}`,
    state: 'open',
    series: canonical,
    name,
    labels,
    entity,
    type: 'statistical',
    severity: 'critical',
    detectors: ['zscore', 'mad'],
    openedAt,
    updatedAt: openedAt,
    resolvedAt: null,
    value: 2010,
    expected: 1110,
    lower: 1000,
    upper: 1220,
    score: 6.2,
    confidence: 0.99,
    reason: '2010 is outside 1000 to 1220 expected at this hour (zscore, mad)',
    recommendation: 'check for a surge of traffic; scaling will follow it',
  };
}
