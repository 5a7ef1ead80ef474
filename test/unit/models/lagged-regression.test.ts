import { describe, expect, it } from 'vitest';
import { continueLagged, fitLagged } from '../../../src/models/lagged-regression.js';

const values = Float64Array.from({ length: 120 }, (_, i) =>
  Number((50 + 8 * Math.sin((i * Math.PI) / 6) + (((i * 37) % 17) - 8) * 0.5 + 0.05 * i).toFixed(3)),
);
const options = { lags: [1, 2, 12], halfLife: 30, penalty: 0.01 };

// NumPy 2.4: the normal equations with weights 2^(−age/30) and the penalty 0.01 · Σ weights · weighted variance, solved directly
const numpy = {
  at90: [5.532439086, 0.050943115, 0.011991463, 0.844085059],
  at120: [5.063648302, 0.075913635, 0.004084153, 0.834161017],
  without60and61: [4.930888455, 0.075757718, 0.009614137, 0.830794317],
  next: [52.2089255, 57.1454032, 61.2729163, 63.7935823, 64.4005216],
};

const close = (got: Float64Array | undefined, expected: number[]): void => {
  expect(got?.length).toBe(expected.length);
  expected.forEach((value, i) => {
    expect(got![i]).toBeCloseTo(value, 6);
  });
};

describe('regression on lags', () => {
  const all = new Uint8Array(120).fill(1);

  it('is weighted ridge regression as NumPy solves it, at every end in one pass', () => {
    const [first, second] = fitLagged(values, all, [90, 120], options);
    close(first, numpy.at90);
    close(second, numpy.at120);
    close(continueLagged(values, 120, 5, options.lags, second!, 0, 1000), numpy.next);
  });

  it('counts no row whose value was filled in', () => {
    const known = all.slice();
    known.fill(0, 60, 62);
    close(fitLagged(values, known, [120], options)[0], numpy.without60and61);
  });

  it('knows nothing of what comes after an end', () => {
    const changed = values.map((value, i) => (i < 90 ? value : 1e6));
    expect(fitLagged(changed, all, [90], options)[0]).toEqual(fitLagged(values, all, [90], options)[0]);
  });

  it('does not overflow over a long history, and has no answer for one too short', () => {
    const long = Float64Array.from({ length: 5000 }, (_, i) => 5 + Math.sin(i / 2) + (i % 7));
    const known = new Uint8Array(5000).fill(1);
    const short = { ...options, halfLife: 2 };
    const [fit] = fitLagged(long, known, [5000], short);
    expect([...fit!].every(Number.isFinite)).toBe(true);
    // what is more than a thousand half-lives ago weighs nothing
    const [tail] = fitLagged(long.slice(2500), known.slice(2500), [2500], short);
    close(fit, [...tail!]);
    expect(fitLagged(values, all, [0, 14, 15], options)[2]).toBeUndefined();
  });
});
