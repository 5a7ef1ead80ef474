// The score of the Numenta Anomaly Benchmark (nab/sweeper.py, nab/runner.py and config/profiles.json of the benchmark), for one threshold over all files.

/** Weights of a hit, a false alarm and a miss. */
export const profiles = {
  standard: { hit: 1, falseAlarm: 0.11, miss: 1 },
  reward_low_FP_rate: { hit: 1, falseAlarm: 0.22, miss: 1 },
  reward_low_FN_rate: { hit: 1, falseAlarm: 0.11, miss: 2 },
};

const sigmoid = (y) => 2 / (1 + Math.exp(5 * y)) - 1;

/** Rows at the beginning of a file that do not count. */
export const probationOf = (rows) => Math.min(Math.floor(0.15 * rows), 750);

/**
 * `files`: {scores, windows: [[first, last] row]}. Returns {score, threshold, hits, falseRows}: normalised (100 perfect, 0 no detection at all) at the given threshold, or at the best
 * of all when none is given.
 */
export function nabScore(files, profile, threshold) {
  const { hit, falseAlarm, miss } = profiles[profile];
  // what each row is worth as a detection: in a window (by its number) or outside
  const rows = [];
  let windowCount = 0;
  for (const { scores, windows } of files) {
    const first = windowCount;
    windowCount += windows.length;
    for (let i = probationOf(scores.length); i < scores.length; i++) {
      const inside = windows.findIndex(([l, r]) => i >= l && i <= r);
      if (inside >= 0) {
        const [l, r] = windows[inside];
        const y = -(r - i + 1) / (r - l + 1);
        rows.push({ score: scores[i], window: first + inside, value: (hit * sigmoid(y)) / sigmoid(-1) });
        continue;
      }
      const before = windows.filter(([, r]) => r < i).at(-1);
      const y = before ? (i - before[1]) / (before[1] - before[0]) : Number.POSITIVE_INFINITY;
      rows.push({ score: scores[i], window: -1, value: falseAlarm * (y > 3 ? -1 : sigmoid(y)) });
    }
  }
  rows.sort((a, b) => b.score - a.score);
  const best = new Float64Array(windowCount).fill(-miss);
  let raw = -miss * windowCount;
  let hits = 0;
  let falseRows = 0;
  const normalised = (value) => (100 * (value + miss * windowCount)) / ((hit + miss) * windowCount);
  let top = { score: normalised(raw), threshold: Number.POSITIVE_INFINITY, hits: 0, falseRows: 0 };
  for (let n = 0; n < rows.length; ) {
    const at = rows[n].score;
    if (threshold !== undefined && at < threshold) break;
    for (; n < rows.length && rows[n].score === at; n++) {
      const { window, value } = rows[n];
      if (window < 0) {
        raw += value;
        falseRows++;
      } else if (value > best[window]) {
        if (best[window] === -miss) hits++;
        raw += value - best[window];
        best[window] = value;
      }
    }
    const score = normalised(raw);
    if (threshold !== undefined || score > top.score) top = { score, threshold: at, hits, falseRows };
  }
  return top;
}
