import { IguanaError } from '../errors.js';
import { SeriesForecaster } from '../models/series-forecaster.js';

export interface PredictorOptions {
  readonly metricName: string;
  /** Default `ensemble`; see `modelNames`. */
  readonly model?: string;
  /**
   * Samples of history that the model should see, default 60. `train` asks for as many, at most 60: models are of use from there on and get
   * better.
   */
  readonly trainingWindow?: number;
  /** `predict` says `trusted: false` below this confidence, 0–1. Default 0. */
  readonly confidenceThreshold?: number;
}

export interface Prediction {
  readonly value: number;
  /** 0 (no better than seasonal naive) to 1. */
  readonly confidence: number;
  /** Bounds at 95 %. */
  readonly lowerBound: number;
  readonly upperBound: number;
  /** Whether the confidence reaches the threshold. */
  readonly trusted: boolean;
}

export interface PredictorStats {
  readonly samples: number;
  readonly steps: number;
  readonly stepMs: number;
  /** Recent mean absolute error one step ahead, and seasonal naive's; NaN before the first score. */
  readonly error: number;
  readonly naiveError: number;
  readonly coverage: number;
}

/** Forecasts one series that a program feeds itself. */
export class Predictor {
  private readonly forecaster: SeriesForecaster;
  private samples = 0;
  private destroyed = false;

  constructor(private readonly options: PredictorOptions) {
    this.forecaster = new SeriesForecaster(options.model ? { model: options.model } : {});
  }

  /** Takes a sample; `timestamp` in ms, default now. It is learnt at once. Errors: `IGU_VALUE_NOT_FINITE`. */
  addSample(value: number, timestamp = Date.now()): void {
    this.assertAlive();
    if (!Number.isFinite(value))
      throw new IguanaError('IGU_VALUE_NOT_FINITE', { series: this.options.metricName, value });
    this.samples++;
    this.forecaster.learn(timestamp, value);
  }

  /**
   * Makes sure there is enough history to predict from; models learn with every sample, so nothing heavy is left to do here.
   * Errors: `IGU_HISTORY_SHORT` with how many samples are there and needed.
   */
  async train(): Promise<void> {
    this.assertAlive();
    const need = Math.min(this.options.trainingWindow ?? 60, 60);
    if (this.samples < need)
      throw new IguanaError('IGU_HISTORY_SHORT', { what: this.options.metricName, have: this.samples, need });
  }

  /** The value a number of seconds after the newest sample. Errors: `IGU_HISTORY_SHORT` before the first step is over. */
  predict(secondsAhead: number): Prediction {
    this.assertAlive();
    const step = this.forecaster.stepMs;
    const steps = step > 0 ? Math.max(1, Math.round((secondsAhead * 1000) / step)) : 1;
    const [point] = this.forecaster.forecast([steps], [95]);
    if (!point)
      throw new IguanaError('IGU_HISTORY_SHORT', { what: this.options.metricName, have: this.samples, need: 7 });
    const { lower, upper } = point.intervals[0]!;
    const { confidence, value } = point;
    return {
      value,
      confidence,
      lowerBound: lower,
      upperBound: upper,
      trusted: confidence >= (this.options.confidenceThreshold ?? 0),
    };
  }

  /** Whether the next 15 steps lead up or down by more than the bounds' half-width at one step, or neither. */
  trend(): 'up' | 'down' | 'stable' {
    const points = this.forecaster.forecast([1, 15], [80]);
    const [near, far] = points;
    if (!near || !far) return 'stable';
    const half = (near.intervals[0]!.upper - near.intervals[0]!.lower) / 2;
    const change = far.value - near.value;
    return change > half ? 'up' : change < -half ? 'down' : 'stable';
  }

  stats(): PredictorStats {
    const { error, naiveError, coverage } = this.forecaster.accuracy()[0]!;
    return {
      samples: this.samples,
      steps: this.forecaster.steps,
      stepMs: this.forecaster.stepMs,
      error,
      naiveError,
      coverage,
    };
  }

  /** Ends its use; later calls throw. */
  destroy(): void {
    this.destroyed = true;
  }

  private assertAlive(): void {
    if (this.destroyed)
      throw new IguanaError('IGU_USAGE', { what: `the predictor of ${this.options.metricName} was destroyed` });
  }
}

export const predictive = {
  /** A predictor for one metric. Errors: `IGU_NOT_FOUND` for an unknown model, at the first samples. */
  create: (options: PredictorOptions): Predictor => new Predictor(options),
};
