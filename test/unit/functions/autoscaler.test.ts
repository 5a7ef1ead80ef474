import { describe, expect, test } from 'vitest';
import { Autoscaler } from '../../../src/functions/autoscaler.js';

const options = { targetConcurrency: 2, minInstances: 0, maxInstances: 50 };

/** One sample a second of a load given by time in seconds. */
function run(scaler: Autoscaler, from: number, to: number, load: (second: number) => number, running: number) {
  let instances = running;
  for (let second = from; second < to; second++) {
    scaler.observe(second * 1000, load(second));
    instances = scaler.decide(second * 1000, instances).instances;
  }
  return instances;
}

describe('autoscaler', () => {
  test('follows the mean of the stable window', () => {
    expect(run(new Autoscaler(options, 0), 0, 120, () => 10, 5)).toBe(5);
    expect(run(new Autoscaler(options, 0), 0, 120, (s) => (s % 2 === 0 ? 8 : 4), 3)).toBe(3);
  });

  test('answers a burst in the panic window at once, and stops nothing before the window is over', () => {
    const scaler = new Autoscaler(options, 0);
    expect(run(scaler, 0, 60, () => 2, 1)).toBe(1);
    const burst = run(scaler, 60, 66, () => 40, 1);
    expect(burst).toBeGreaterThanOrEqual(15);
    expect(scaler.decide(65_000, 1).reason).toBe('burst');
    expect(run(scaler, 66, 110, () => 2, burst)).toBe(burst);
    expect(run(scaler, 110, 260, () => 2, burst)).toBe(1);
  });

  test('keeps the last instance until the function was idle for long, then scales to zero', () => {
    const scaler = new Autoscaler(options, 0);
    run(scaler, 0, 10, () => 1, 1);
    expect(run(scaler, 10, 300, () => 0, 1)).toBe(1);
    expect(run(scaler, 300, 311, () => 0, 1)).toBe(0);
    expect(scaler.decide(311_000, 0).reason).toBe('idle');
  });

  test('a forecast raises it, bounds hold it', () => {
    const scaler = new Autoscaler({ ...options, minInstances: 2, maxInstances: 10 }, 0);
    expect(scaler.decide(0, 0)).toMatchObject({ instances: 2, reason: 'bounds' });
    expect(scaler.decide(0, 2, 7)).toMatchObject({ instances: 7, reason: 'forecast' });
    expect(scaler.decide(0, 2, 70)).toMatchObject({ instances: 10, reason: 'bounds' });
  });
});
