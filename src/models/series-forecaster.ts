import { sampleLimits } from '../limits.js';
import type { ForecastPoint } from '../records.js';
import type { Stateful, StateReader, StateWriter } from '../state.js';
import { confidence } from './confidence.js';
import { ConformalBounds } from './conformal.js';
import { DueForecasts } from './due-forecasts.js';
import type { Forecaster } from './forecaster.js';
import type { SharedNetwork } from './neural/shared-network.js';
import { createForecaster } from './registry.js';
import { indexOfHorizon, SCORE_EVERY, scoredHorizons } from './scored-horizons.js';
import { SeasonalNaive } from './seasonal-naive.js';

export interface SeriesForecasterOptions {
  /** Name of a model; default `ensemble`. */
  readonly model?: string;
  /** Grid step, ms; default: the median of the first gaps. */
  readonly stepMs?: number;
  /** Seasons, ms; those of 2 to 2,016 steps are used. Default: a day. */
  readonly seasonsMs?: readonly number[];
  /** The network over all series, for the models `neural` and `ensemble`. Default: none. */
  readonly shared?: SharedNetwork;
}

const DAY_MS = 86_400_000;
/** Gaps looked at before the step is settled. */
const GAPS_FOR_STEP = 5;
/** Longest season in steps: a week of five-minute steps; longer ones would cost more memory than they are worth here. */
const MAX_SEASON_STEPS = 2_016;
/** Longest gap filled with missing steps; after a longer one the series is learnt anew. */
const MAX_GAP_STEPS = 2_016;
const ERROR_WEIGHT = 0.05;
/** Forecasts that must have come true at a horizon before its bounds count. */
const ENOUGH_SCORED = 5;
/** Up to so many horizons are asked one by one. */
const FEW_HORIZONS = 8;

/** Numbers kept of a forecast until it comes true: value, seasonal naive's, and the 90 % bounds. */
const PENDING = 4;

/**
 * All that is known of one series: puts samples on a regular grid, learns them in a model, scores its forecasts against seasonal naive as
 * they come true, and gives bounds and confidence. A step's value is the mean of its samples; a step that is over takes no more (late
 * samples are counted and left out); steps without a sample are missing. Cost: about the model's.
 */
export class SeriesForecaster implements Stateful {
  private readonly modelName: string;
  private readonly seasonsMs: readonly number[];
  private readonly shared: SharedNetwork | undefined;
  private step: number;
  private readonly firstTimes: number[] = [];
  private readonly firstValues: number[] = [];
  private model: Forecaster | undefined;
  private naive: SeasonalNaive | undefined;
  private readonly bounds = scoredHorizons.map(() => new ConformalBounds());
  private readonly pending = new DueForecasts(PENDING);
  private readonly errors = new Float64Array(scoredHorizons.length).fill(Number.NaN);
  private readonly naiveErrors = new Float64Array(scoredHorizons.length).fill(Number.NaN);
  /** Number of the grid step being filled, sum and count of its samples. */
  private current = 0;
  private sum = 0;
  private count = 0;
  private lastTime = 0;
  /** Samples that came after their step was over. */
  late = 0;

  constructor(options: SeriesForecasterOptions = {}) {
    this.modelName = options.model ?? 'ensemble';
    this.seasonsMs = options.seasonsMs ?? [DAY_MS];
    this.shared = options.shared;
    this.step = options.stepMs ?? 0;
  }

  /** ms; 0 while it is not known. */
  get stepMs(): number {
    return this.step;
  }

  /** Steps that are over. */
  get steps(): number {
    return this.model?.seen ?? 0;
  }

  /** Time of the newest sample, ms. */
  get newest(): number {
    return this.lastTime;
  }

  /**
   * Takes a sample; returns true when it ended a step, so that a new forecast is possible. Values that are not finite, or too large to
   * reckon with, are left out.
   */
  learn(timestamp: number, value: number): boolean {
    if (!(Math.abs(value) <= sampleLimits.maxMagnitude)) return false;
    if (this.step === 0) return this.findStep(timestamp, value);
    if (!this.model) this.begin();
    const number = Math.floor(timestamp / this.step);
    if (this.count === 0 && this.steps === 0) this.current = number;
    if (number < this.current) {
      this.late++;
      return false;
    }
    let ended = false;
    if (number > this.current) {
      ended = true;
      if (number - this.current > MAX_GAP_STEPS) {
        this.begin();
      } else {
        this.endStep(this.count > 0 ? this.sum / this.count : Number.NaN);
        for (let missing = this.current + 1; missing < number; missing++) this.endStep(Number.NaN);
      }
      this.current = number;
      this.sum = 0;
      this.count = 0;
    }
    this.sum += value;
    this.count++;
    if (timestamp > this.lastTime) this.lastTime = timestamp;
    return ended;
  }

  /** Ends the step being filled: for a history that is complete. */
  finish(): void {
    if (this.step === 0 && this.firstTimes.length > 0) this.settleStep();
    if (this.count === 0 || !this.model) return;
    this.endStep(this.sum / this.count);
    this.current++;
    this.sum = 0;
    this.count = 0;
  }

  /**
   * Forecasts at horizons in steps (ascending, counted from the last step that is over) with bounds at levels in per cent.
   * Empty before the first step is over.
   */
  forecast(horizons: readonly number[], levels: readonly number[]): ForecastPoint[] {
    const model = this.model;
    if (!model || model.seen === 0) return [];
    const all = horizons.length > FEW_HORIZONS ? model.forecast(horizons.at(-1)!) : undefined;
    const madeAt = this.current * this.step;
    return horizons.map((h) => {
      const k = indexOfHorizon(h);
      const known = this.knownHorizon(k);
      const bounds = this.bounds[known]!;
      const widen = Math.max(1, Math.sqrt(h / scoredHorizons[known]!));
      const value = all ? all[h - 1]! : model.at(h);
      return {
        horizonMs: h * this.step,
        timestamp: madeAt + (h - 1) * this.step,
        value,
        intervals: levels.map((level) => {
          const [lower, upper] = bounds.offsets(level / 100);
          return { level, lower: value + widen * lower, upper: value + widen * upper };
        }),
        confidence: confidence(this.errors[k]!, this.naiveErrors[k]!, bounds.coverage, this.bounds[k]!.scored),
      };
    });
  }

  /** Whether enough forecasts came true for bounds to mean something. */
  get ready(): boolean {
    return this.bounds[0]!.scored >= ENOUGH_SCORED;
  }

  /** Recent mean absolute error at each scored horizon, beside seasonal naive's, and the coverage of the 90 % bounds. NaN before the first score. */
  accuracy(): { horizonSteps: number; error: number; naiveError: number; coverage: number; scored: number }[] {
    return scoredHorizons.map((horizonSteps, k) => ({
      horizonSteps,
      error: this.errors[k]!,
      naiveError: this.naiveErrors[k]!,
      coverage: this.bounds[k]!.coverage,
      scored: this.bounds[k]!.scored,
    }));
  }

  save(writer: StateWriter): void {
    writer.f64(this.step).f64s(this.firstTimes).f64s(this.firstValues);
    writer
      .f64(this.current)
      .f64(this.sum)
      .u32(this.count)
      .f64(this.lastTime)
      .u32(this.late)
      .bool(this.model !== undefined);
    if (!this.model || !this.naive) return;
    this.model.save(writer);
    this.naive.save(writer);
    writer.f64s(this.errors).f64s(this.naiveErrors);
    for (const bounds of this.bounds) bounds.save(writer);
    this.pending.save(writer);
  }

  restore(reader: StateReader): void {
    this.step = reader.f64();
    this.firstTimes.splice(0, this.firstTimes.length, ...reader.f64s());
    this.firstValues.splice(0, this.firstValues.length, ...reader.f64s());
    this.current = reader.f64();
    this.sum = reader.f64();
    this.count = reader.u32();
    this.lastTime = reader.f64();
    this.late = reader.u32();
    if (!reader.bool()) return;
    this.begin();
    this.model?.restore(reader);
    this.naive?.restore(reader);
    this.errors.set(reader.f64s());
    this.naiveErrors.set(reader.f64s());
    for (const bounds of this.bounds) bounds.restore(reader);
    this.pending.restore(reader);
  }

  /** The longest horizon up to k whose bounds are known; those beyond it are widened by the square root of time, as a random walk's. */
  private knownHorizon(k: number): number {
    let known = k;
    while (known > 0 && this.bounds[known]!.scored < ENOUGH_SCORED) known--;
    return known;
  }

  private findStep(timestamp: number, value: number): boolean {
    this.firstTimes.push(timestamp);
    this.firstValues.push(value);
    if (this.firstTimes.length <= GAPS_FOR_STEP) return false;
    return this.settleStep();
  }

  /** The step is the median gap; what was kept until now is learnt on that grid. */
  private settleStep(): boolean {
    const gaps = this.firstTimes.slice(1).map((t, i) => t - this.firstTimes[i]!);
    const positive = gaps.filter((gap) => gap > 0).sort((a, b) => a - b);
    this.step = roundStep(positive[positive.length >> 1] ?? 1000);
    const times = this.firstTimes.splice(0);
    const values = this.firstValues.splice(0);
    const order = times.map((_, i) => i).sort((a, b) => times[a]! - times[b]! || a - b);
    let ended = false;
    for (const i of order) ended = this.learn(times[i]!, values[i]!) || ended;
    return ended;
  }

  private begin(): void {
    const seasons = [...new Set(this.seasonsMs.map((ms) => Math.round(ms / this.step)))]
      .filter((steps) => steps >= 2 && steps <= MAX_SEASON_STEPS)
      .sort((a, b) => a - b);
    this.model = createForecaster(this.modelName, { seasons, ...(this.shared ? { shared: this.shared } : {}) });
    this.naive = new SeasonalNaive({ seasons });
    this.errors.fill(Number.NaN);
    this.naiveErrors.fill(Number.NaN);
    this.pending.clear();
  }

  private endStep(value: number): void {
    const model = this.model!;
    const naive = this.naive!;
    const step = model.seen;
    for (let k = 0; k < scoredHorizons.length; k++) {
      const at = this.pending.due(step, k);
      if (at < 0) continue;
      const pending = this.pending.of(k);
      if (Number.isFinite(value)) {
        this.bounds[k]!.learn(value, pending[at]!, pending[at + 2]!, pending[at + 3]!);
        this.errors[k] = smoothed(this.errors[k]!, Math.abs(value - pending[at]!));
        this.naiveErrors[k] = smoothed(this.naiveErrors[k]!, Math.abs(value - pending[at + 1]!));
      }
      pending[at] = Number.NaN;
    }
    model.learn(value);
    naive.learn(value);
    if (model.seen % SCORE_EVERY !== 0) return;
    for (let k = 0; k < scoredHorizons.length; k++) {
      const h = scoredHorizons[k]!;
      const pending = this.pending.of(k);
      const at = this.pending.place(step, k);
      const forecast = model.at(h);
      const [lower, upper] = this.bounds[k]!.offsets(0.9);
      pending[at] = forecast;
      pending[at + 1] = naive.at(h);
      pending[at + 2] = forecast + lower;
      pending[at + 3] = forecast + upper;
    }
  }
}

function smoothed(average: number, next: number): number {
  return Number.isNaN(average) ? next : average + ERROR_WEIGHT * (next - average);
}

/** Timers jitter: a step within 5 % of a whole second, minute or hour is meant to be it. */
function roundStep(ms: number): number {
  for (const unit of [3_600_000, 60_000, 1000, 100]) {
    const whole = Math.round(ms / unit) * unit;
    if (whole > 0 && Math.abs(whole - ms) <= 0.05 * ms) return whole;
  }
  return Math.max(1, Math.round(ms));
}
