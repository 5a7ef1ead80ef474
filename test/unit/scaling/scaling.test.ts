import { describe, expect, it } from 'vitest';
import type { ForecastRecord } from '../../../src/records.js';
import { defaultBehaviour, desiredForRatio, ScalingLimiter } from '../../../src/scaling/hpa.js';
import { Planner } from '../../../src/scaling/planner.js';
import { policySchema } from '../../../src/scaling/policy.js';
import { generatedSamples } from '../../../src/simulator/web-service.js';
import { StateReader, StateWriter } from '../../../src/state.js';

describe('the reactive rule, as the Kubernetes documentation describes it', () => {
  it('doubles for a doubled metric, halves for a halved one, and tolerates a tenth', () => {
    expect(desiredForRatio(3, 200, 100)).toBe(6);
    expect(desiredForRatio(4, 50, 100)).toBe(2);
    expect(desiredForRatio(3, 109, 100)).toBe(3);
    expect(desiredForRatio(3, 91, 100)).toBe(3);
    expect(desiredForRatio(3, 111, 100)).toBe(4);
    expect(desiredForRatio(10, 120, 100)).toBe(12);
  });

  it('grows by 4 or 100 % in 15 s, whichever is more', () => {
    const limiter = new ScalingLimiter();
    expect(limiter.limit(1, 100, 0)).toBe(5);
    limiter.changed(1, 5, 0);
    expect(limiter.limit(5, 100, 5_000)).toBe(5);
    expect(limiter.limit(5, 100, 16_000)).toBe(10);
    limiter.changed(5, 10, 16_000);
    expect(limiter.limit(10, 100, 32_000)).toBe(20);
  });

  it('shrinks only to the largest wish of the last 300 s', () => {
    const limiter = new ScalingLimiter();
    expect(limiter.limit(10, 10, 0)).toBe(10);
    expect(limiter.limit(10, 2, 60_000)).toBe(10);
    expect(limiter.limit(10, 6, 200_000)).toBe(10);
    expect(limiter.limit(10, 2, 301_000)).toBe(6);
    expect(limiter.limit(6, 2, 600_000)).toBe(2);
  });

  it('can be kept from shrinking, and slowed down', () => {
    const still = new ScalingLimiter({
      ...defaultBehaviour,
      scaleDown: { stabilizationWindowSeconds: 0, selectPolicy: 'disabled', policies: [] },
    });
    expect(still.limit(10, 1, 0)).toBe(10);
    const slow = new ScalingLimiter({
      ...defaultBehaviour,
      scaleDown: {
        stabilizationWindowSeconds: 0,
        selectPolicy: 'min',
        policies: [
          { type: 'percent', value: 10, periodSeconds: 60 },
          { type: 'instances', value: 4, periodSeconds: 60 },
        ],
      },
    });
    expect(slow.limit(80, 1, 0)).toBe(76);
  });
});

describe('planner', () => {
  const policy = policySchema.parse({
    name: 'p',
    entity: 'shop',
    metric: 'rps',
    targetPerInstance: 50,
    min: 1,
    max: 10,
    initial: 2,
    startupSeconds: 300,
  });
  const forecast = (upper: number, confidence: number, madeAt = 0): ForecastRecord => ({
    id: 'f',
    series: 's',
    name: 'rps',
    labels: {},
    entity: 'shop',
    model: 'ensemble',
    madeAt,
    stepMs: 60_000,
    points: [60_000, 300_000, 900_000].map((horizonMs) => ({
      horizonMs,
      timestamp: madeAt + horizonMs,
      value: upper / 2,
      intervals: [{ level: 80, lower: 0, upper: horizonMs === 300_000 ? upper : 1 }],
      confidence,
    })),
  });

  it('follows demand, with the reason in words', () => {
    const planner = new Planner(policy);
    expect(planner.decide(0, 100)).toBeNull();
    const decision = planner.decide(60_000, 200);
    expect(decision).toMatchObject({ current: 2, desired: 4, reactive: 4, predicted: null, dryRun: true });
    expect(decision!.reason).toBe('demand is 200, 100 each, over the target of 50: 4 are needed');
  });

  it('lets a trusted forecast raise the floor at the start-up horizon, and an untrusted one not', () => {
    const trusting = new Planner(policy);
    trusting.forecast(forecast(290, 0.5));
    expect(trusting.decide(1000, 100)).toMatchObject({
      current: 2,
      desired: 6,
      reactive: 2,
      predicted: 6,
      horizonMs: 300_000,
      quantile: 0.9,
    });
    const doubting = new Planner(policy);
    doubting.forecast(forecast(290, 0.05));
    expect(doubting.decide(1000, 100)).toBeNull();
    const late = new Planner(policy);
    late.forecast(forecast(290, 0.5));
    expect(late.decide(900_000, 100)).toBeNull();
  });

  it('never lets a low forecast take instances away, and keeps within its bounds', () => {
    const planner = new Planner(policy);
    planner.forecast(forecast(1, 0.9));
    expect(planner.decide(1000, 400)).toMatchObject({ desired: 6, reactive: 8 });
    expect(planner.decide(20_000, 5000)).toMatchObject({ desired: 10 });
  });

  it('restores what it saved', () => {
    const planner = new Planner(policy);
    planner.forecast(forecast(290, 0.5));
    planner.decide(1000, 100);
    const writer = new StateWriter();
    planner.save(writer);
    const restored = new Planner(policy);
    restored.restore(new StateReader(writer.finish()));
    expect(restored.instances).toBe(6);
    expect(restored.decide(2000, 500)).toEqual(planner.decide(2000, 500));
  });
});

describe('generated service', () => {
  const at = (day: number, hour: number, seed = 7) => generatedSamples(seed, (day * 24 + hour) * 3_600_000);

  it('is a function of seed and time, labelled as generated', () => {
    expect(at(100, 12)).toEqual(at(100, 12));
    expect(at(100, 12)).not.toEqual(at(100, 12, 8));
    for (const sample of at(100, 12)) expect(sample.labels).toEqual({ service: 'shop', generated: 'true' });
  });

  it('is busier in the evening than at night, and has an outage every third day', () => {
    const rate = (day: number, hour: number): number => at(day, hour)[0]!.value;
    for (let day = 100; day < 110; day++) expect(rate(day, 20)).toBeGreaterThan(rate(day, 6));
    const errors = (day: number): number =>
      Math.max(...Array.from({ length: 24 * 60 }, (_, m) => at(day, m / 60)[3]!.value));
    expect([99, 100, 101].map((day) => errors(day) > 20)).toEqual([false, true, false]);
  });
});
