import { sampleLimits } from '../limits.js';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** A longer gap begins the history anew: what was before says little, and filling it would cost memory. */
const MAX_GAP_STEPS = 2_016;

export interface Grid {
  readonly stepMs: number;
  /** ms of the last step. */
  readonly lastMs: number;
  /** One a step; NaN where a step is missing. */
  readonly values: Float64Array;
}

/**
 * Puts samples in any order on a regular grid of the median gap between different times. A step's value is the mean of its samples; values
 * that are not finite, or too large to reckon with, are left out.
 * The grid begins after the last gap longer than 2,016 steps. Cost: O(n log n).
 */
export function toGrid(timestamps: Float64Array, values: Float64Array): Grid {
  const stepMs = medianGap(timestamps);
  const order = [...timestamps.keys()]
    .filter((i) => Math.abs(values[i]!) <= sampleLimits.maxMagnitude)
    .sort((a, b) => timestamps[a]! - timestamps[b]!);
  let steps: number[] = [];
  let sum = 0;
  let count = 0;
  let current = Number.NaN;
  for (const i of order) {
    const step = Math.floor(timestamps[i]! / stepMs);
    if (step !== current) {
      if (step - current > MAX_GAP_STEPS) steps = [];
      else for (let missing = current + 1; missing < step; missing++) steps.push(Number.NaN);
      steps.push(Number.NaN);
      current = step;
      sum = 0;
      count = 0;
    }
    sum += values[i]!;
    count++;
    steps[steps.length - 1] = sum / count;
  }
  return { stepMs, lastMs: (Number.isNaN(current) ? 0 : current) * stepMs, values: Float64Array.from(steps) };
}

/** The hour (of steps of at most five minutes), day (of steps of at most six hours) and week, in steps, where they are whole numbers of them. */
export function calendarSeasons(stepMs: number): number[] {
  const seasons: [number, number][] = [
    [HOUR_MS, HOUR_MS / 12],
    [DAY_MS, DAY_MS / 4],
    [7 * DAY_MS, DAY_MS],
  ];
  return seasons
    .filter(([length, longestStep]) => stepMs <= longestStep && length % stepMs === 0)
    .map(([length]) => length / stepMs);
}

/** Median gap between different times, ms; a second for fewer than two. */
function medianGap(timestamps: Float64Array): number {
  const sorted = Float64Array.from(timestamps).sort();
  const gaps: number[] = [];
  for (let i = 1; i < sorted.length; i++) if (sorted[i]! > sorted[i - 1]!) gaps.push(sorted[i]! - sorted[i - 1]!);
  gaps.sort((a, b) => a - b);
  return gaps[gaps.length >> 1] ?? 1000;
}
