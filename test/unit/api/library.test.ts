import { expect, it } from 'vitest';
import { anomaly, constellation, predictive } from '../../../src/index.js';
import { normals } from '../../support/random.js';

it('predicts seconds ahead with bounds, says how it does, and refuses use after destroy', async () => {
  const predictor = predictive.create({
    metricName: 'cpu_usage',
    model: 'ensemble',
    trainingWindow: 3600,
    confidenceThreshold: 0.8,
  });
  await expect(predictor.train()).rejects.toThrow(/IGU_HISTORY_SHORT cpu_usage has 0 samples, 60 are needed/);
  expect(() => predictor.predict(10)).toThrow(/IGU_HISTORY_SHORT/);
  expect(() => predictor.addSample(Number.NaN)).toThrow(/IGU_VALUE_NOT_FINITE/);
  const noise = normals(300, 1);
  noise.forEach((n, i) => {
    predictor.addSample(10 + 0.5 * i + n, 1_700_000_000_000 + 1000 * i);
  });
  await predictor.train();
  const p = predictor.predict(30);
  expect(p.value).toBeGreaterThan(160);
  expect(p.value).toBeLessThan(180);
  expect(p.lowerBound).toBeLessThanOrEqual(p.value);
  expect(p.upperBound).toBeGreaterThanOrEqual(p.value);
  expect(p.upperBound - p.lowerBound).toBeGreaterThan(0);
  expect(p.trusted).toBe(p.confidence >= 0.8);
  expect(predictor.trend()).toBe('up');
  expect(predictor.stats()).toMatchObject({ samples: 300, stepMs: 1000 });
  predictor.destroy();
  expect(() => predictor.predict(1)).toThrow(/destroyed/);
});

it('detects by statistics and by rules, tells once an episode, and resolves', () => {
  const detector = anomaly.createDetector({
    metric: 'response_time',
    method: 'zscore',
    sensitivity: 4,
    service: 'shop',
  });
  anomaly.createRule({ name: 'high_latency', pattern: 'response_*', threshold: 500, severity: 'critical' });
  const told: string[] = [];
  const unsubscribe = anomaly.onDetect((a) => told.push(a.reason));
  const before = anomaly.stats();
  normals(300, 2).forEach((n, i) => {
    expect(anomaly.detect(detector, 100 + n, 1000 * i)).toBe(false);
  });
  expect(anomaly.detect(detector, 600, 300_000)).toBe(true);
  expect(anomaly.detect(detector, 610, 301_000)).toBe(true);
  const active = anomaly.getActive();
  expect(active.length).toBe(2);
  expect(active.map((a) => a.severity)).toEqual(['critical', 'critical']);
  expect(active[0]).toMatchObject({ metricName: 'response_time', serviceName: 'shop', detectedValue: 600 });
  expect(active[0]!.expectedValue).toBeCloseTo(100, 0);
  expect(told.length).toBe(2);
  expect(told[1]).toContain('rule high_latency');
  expect(anomaly.resolve(active[1]!.id)).toBe(true);
  expect(anomaly.resolve(active[1]!.id)).toBe(false);
  expect(anomaly.stats().detected - before.detected).toBe(2);
  unsubscribe();
  expect(() => anomaly.detect({ metric: 'x', id: 'none' }, 1)).toThrow(/IGU_NOT_FOUND/);
});

it('makes one cluster of a name, also when it is asked for twice at the same time', async () => {
  const options = { name: 'twice', command: process.execPath, args: ['-e', 'setInterval(() => {}, 1000)'] };
  const outcomes = await Promise.allSettled([
    constellation.createCluster(options),
    constellation.createCluster(options),
  ]);
  expect(outcomes.map((o) => o.status)).toEqual(['fulfilled', 'rejected']);
  await constellation.destroy('twice');
  await expect(constellation.createCluster({ ...options, command: '/no/such/command' })).rejects.toThrow(
    /IGU_ACTUATOR/,
  );
  // the name is free again
  expect(await constellation.createCluster(options)).toHaveLength(1);
  await constellation.destroy('twice');
});
