import { describe, expect, it } from 'vitest';
import { calendarSeasons, toGrid } from '../../../src/models/grid.js';

const grid = (rows: readonly (readonly [number, number])[]) =>
  toGrid(
    Float64Array.from(rows, ([time]) => time),
    Float64Array.from(rows, ([, value]) => value),
  );

describe('grid', () => {
  it('sorts, averages what falls into one step and leaves missing steps open', () => {
    const { stepMs, lastMs, values } = grid([
      [60_000, 2],
      [0, 1],
      [180_000, 4],
      [190_000, 6],
      [360_000, 7],
      [420_000, Number.NaN],
      [240_000, 9],
    ]);
    expect(stepMs).toBe(60_000);
    expect(lastMs).toBe(360_000);
    expect([...values]).toEqual([1, 2, Number.NaN, 5, 9, Number.NaN, 7]);
  });

  it('begins anew after a gap of more than 2,016 steps, and is empty for nothing', () => {
    const rows = Array.from({ length: 10 }, (_, i) => [i * 1000 + (i > 6 ? 3_000_000 : 0), i] as const);
    expect([...grid(rows).values]).toEqual([7, 8, 9]);
    expect(grid([]).values.length).toBe(0);
    expect([...grid([[5000, 3]]).values]).toEqual([3]);
  });
});

it('the calendar suggests hours, days and weeks that are whole numbers of steps', () => {
  expect(calendarSeasons(60_000)).toEqual([60, 1440, 10_080]);
  expect(calendarSeasons(3_600_000)).toEqual([24, 168]);
  expect(calendarSeasons(86_400_000)).toEqual([7]);
  expect(calendarSeasons(7 * 60_000)).toEqual([1440]);
});
