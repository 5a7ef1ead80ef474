import { describe, expect, it } from 'vitest';
import { batchModelNames, forecastHistory } from '../../../src/models/batch-forecast.js';
import { normals } from '../../support/random.js';

const week = (i: number): number =>
  200 + 60 * Math.sin((2 * Math.PI * i) / 24) + 25 * Math.sin((2 * Math.PI * i) / 168) + (i % 168 < 48 ? -40 : 0);
const history = (length: number, noise: number, seed: number): Float64Array => {
  const random = normals(length, seed);
  return Float64Array.from({ length }, (_, i) => week(i) + noise * random[i]!);
};

describe('forecast of a history', () => {
  it('continues a day within a week exactly, whether told the seasons, finding them or by the calendar', () => {
    const values = history(900, 0, 1);
    for (const options of [{ seasons: [24, 168] }, {}, { calendar: [24, 168] }]) {
      forecastHistory(values, 48, options).forEach(({ value }, h) => {
        expect(Math.abs(value - week(900 + h))).toBeLessThan(1);
      });
    }
  });

  it('is close to the noise itself, far closer than seasonal naive', () => {
    let error = 0;
    let naive = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const values = history(948, 10, seed);
      const points = forecastHistory(values.slice(0, 900), 48, { seasons: [24, 168] });
      points.forEach(({ value }, h) => {
        error += Math.abs(values[900 + h]! - value) / 480;
        naive += Math.abs(values[900 + h]! - values[900 + h - 168]!) / 480;
      });
    }
    // the mean absolute value of the noise is 8.0, that of a difference of two 11.3
    expect(error).toBeLessThan(9.5);
    expect(naive).toBeGreaterThan(10.5);
  });

  it('holds what its bounds promise', () => {
    const inside = [0, 0, 0];
    const levels = [50, 80, 95];
    for (let seed = 1; seed <= 40; seed++) {
      const values = history(648, 15, 100 + seed);
      const points = forecastHistory(values.slice(0, 600), 48, { seasons: [24, 168], levels });
      points.forEach(({ intervals, confidence }, h) => {
        intervals.forEach(({ lower, upper }, n) => {
          if (values[600 + h]! >= lower && values[600 + h]! <= upper) inside[n]!++;
        });
        expect(confidence).toBeGreaterThanOrEqual(0);
        expect(confidence).toBeLessThanOrEqual(1);
      });
    }
    levels.forEach((level, n) => {
      expect(Math.abs((100 * inside[n]!) / (40 * 48) - level)).toBeLessThan(4);
    });
  });

  it('bridges gaps, and keeps what was never negative so', () => {
    const values = history(900, 5, 3);
    values.fill(Number.NaN, 300, 330);
    values[899] = Number.NaN;
    forecastHistory(values, 48, { seasons: [24, 168] }).forEach(({ value }, h) => {
      expect(Math.abs(value - week(900 + h))).toBeLessThan(25);
    });
    const counts = Float64Array.from({ length: 300 }, (_, i) => Math.max(0, 12 - 0.04 * i + 5 * Math.sin(i / 4)));
    for (const { value } of forecastHistory(counts, 200)) expect(value).toBeGreaterThanOrEqual(0);
  });

  it('has no confidence where nothing beats the season before, and less the further it looks than it could try', () => {
    const walk = normals(400, 9);
    for (let i = 1; i < walk.length; i++) walk[i]! += walk[i - 1]!;
    const far = forecastHistory(history(900, 10, 4), 600, { seasons: [24, 168] });
    expect(far.length).toBe(600);
    expect(far[100]!.confidence).toBeGreaterThan(0.1);
    expect(far[599]!.confidence).toBeLessThan(far[100]!.confidence);
    expect(far[599]!.intervals[0]!.upper - far[599]!.value).toBeGreaterThan(
      far[100]!.intervals[0]!.upper - far[100]!.value,
    );
    for (const { confidence } of forecastHistory(Float64Array.from(walk), 10, { seasons: [] }))
      expect(confidence).toBeLessThan(0.3);
  });

  it.each(batchModelNames)('%s gives finite numbers for any length, constants, gaps and sizes', (model) => {
    for (const length of [1, 2, 10, 31, 60, 100, 400]) {
      for (const shape of [
        () => 5,
        () => 0,
        (i: number) => i,
        (i: number) => 1e300 * Math.cos(i),
        (i: number) => (i % 3 ? -i : Number.NaN),
      ]) {
        const points = forecastHistory(
          Float64Array.from({ length }, (_, i) => shape(i)),
          30,
          { model, seasons: [12] },
        );
        const numbers = points.flatMap((p) => [
          p.value,
          p.confidence,
          ...p.intervals.flatMap((i) => [i.lower, i.upper]),
        ]);
        expect(numbers.every(Number.isFinite)).toBe(true);
      }
    }
    expect(forecastHistory(new Float64Array(0), 5, { model })).toEqual([]);
  });

  it('refuses a model that does not exist', () => {
    expect(() => forecastHistory(history(100, 1, 1), 5, { model: 'oracle' })).toThrow(/IGU_NOT_FOUND/);
  });
});
