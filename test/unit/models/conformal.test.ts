import { describe, expect, it } from 'vitest';
import { ConformalBounds } from '../../../src/models/conformal.js';
import { normals } from '../../support/random.js';

/** Share of errors inside the bounds given before each; `watched` bounds are those that the adaptation is told of. */
function coverage(errors: readonly number[], level: number, from: number): number {
  const bounds = new ConformalBounds();
  let inside = 0;
  errors.forEach((error, i) => {
    const [low, high] = bounds.offsets(level);
    if (i >= from && error >= low && error <= high) inside++;
    const [watchedLow, watchedHigh] = bounds.offsets(0.9);
    bounds.learn(error, 0, watchedLow, watchedHigh);
  });
  return inside / (errors.length - from);
}

describe('conformal bounds on simulated errors', () => {
  it.each([0.8, 0.9, 0.95])('cover %d of normal errors', (level) => {
    expect(Math.abs(coverage(normals(6000, 1), level, 200) - level)).toBeLessThan(0.025);
  });

  it('cover skewed errors by skewed bounds', () => {
    const errors = normals(6000, 2).map((z) => Math.exp(z) - 1);
    expect(Math.abs(coverage(errors, 0.9, 200) - 0.9)).toBeLessThan(0.025);
    const bounds = new ConformalBounds();
    for (const error of errors.slice(0, 500)) bounds.learn(error, 0, -10, 10);
    const [low, high] = bounds.offsets(0.9);
    expect(high).toBeGreaterThan(2 * -low);
  });

  it('hold over time when errors grow threefold and when they keep growing', () => {
    const jump = normals(6000, 3).map((z, i) => (i < 3000 ? z : 3 * z));
    expect(coverage(jump, 0.9, 200)).toBeGreaterThan(0.875);
    const growing = normals(6000, 4).map((z, i) => z * 1.0005 ** i);
    expect(coverage(growing, 0.9, 200)).toBeGreaterThan(0.875);
  });
});
