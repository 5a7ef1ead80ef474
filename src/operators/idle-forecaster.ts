import type { IdleForecaster } from '../functions/keep-alive.js';
import { Arima } from '../models/arima.js';

/** Idle times before the model's coefficients say more than their median. */
const ENOUGH = 20;

/**
 * The autoregressive model of the hybrid histogram's series tier: ARIMA(2,1,1) over idle times, learnt time by time instead of fitted anew at every call; the
 * median of the newest while there are few. `new HybridHistogram({ series: arimaIdleTimes })`.
 * Cost: O(1) a time.
 */
export function arimaIdleTimes(): IdleForecaster {
  const model = new Arima({ seasons: [] });
  const newest: number[] = [];
  return {
    learn(minutes) {
      model.learn(minutes);
      newest.push(minutes);
      if (newest.length > ENOUGH) newest.shift();
    },
    predict() {
      const sorted = [...newest].sort((a, b) => a - b);
      const median = sorted[Math.floor(sorted.length / 2)]!;
      if (model.seen < ENOUGH) return median;
      const predicted = model.at(1);
      // it may leave the range of what it has seen, where it knows nothing
      return Math.min(sorted.at(-1)!, Math.max(sorted[0]!, predicted));
    },
  };
}
