import type { StateReader, StateWriter } from '../state.js';
import type { Forecaster, ForecasterOptions } from './forecaster.js';
import { powersOf } from './powers.js';

export interface SmoothingParameters {
  /** Weight of the newest value in the level, 0–1. Default 0.3. */
  readonly alpha?: number;
  /** Weight of the newest change in the trend, 0–1. Default 0.05. */
  readonly beta?: number;
  /** Weight of the newest value in its season's index, 0–1. Default 0.15. */
  readonly gamma?: number;
  /** Damping of the trend a step, 0–1; 1: none. Default 0.95. */
  readonly phi?: number;
}

/**
 * Holt-Winters, additive season, damped trend:
 * l ← α(y − s) + (1−α)(l + φb), b ← β(l − l′) + (1−β)φb, s ← γ(y − l′ − φb′) + (1−γ)s; ŷ(h) = l + (φ + … + φ^h) b + s.
 * The first season gives the first indices. Cost: O(1), one season of memory. Source: Gardner 1985; Hyndman & Athanasopoulos, chapter 8.
 */
export class ExponentialSmoothing implements Forecaster {
  readonly name = 'exponential-smoothing';
  private readonly alpha: number;
  private readonly beta: number;
  private readonly gamma: number;
  private readonly phi: number;
  private readonly powers: Float64Array;
  private readonly season: number;
  private readonly indices: Float64Array;
  private level = 0;
  private trend = 0;
  private firstSeasonSum = 0;
  seen = 0;

  constructor(options: ForecasterOptions & SmoothingParameters) {
    this.alpha = options.alpha ?? 0.3;
    this.beta = options.beta ?? 0.05;
    this.gamma = options.gamma ?? 0.15;
    this.phi = options.phi ?? 0.95;
    this.powers = powersOf(this.phi);
    this.season = options.seasons.at(-1) ?? 1;
    this.indices = new Float64Array(this.season);
  }

  learn(value: number): void {
    const slot = this.seen % this.season;
    const y = Number.isFinite(value) ? value : this.seen === 0 ? 0 : this.at(1);
    this.seen++;
    if (this.season > 1 && this.seen <= this.season) {
      // the first season is kept as it is; at its end it becomes a level and indices
      this.indices[slot] = y;
      this.firstSeasonSum += y;
      this.level = y;
      if (this.seen === this.season) {
        this.level = this.firstSeasonSum / this.season;
        for (let i = 0; i < this.season; i++) this.indices[i]! -= this.level;
      }
      return;
    }
    if (this.seen === 1) {
      this.level = y;
      return;
    }
    const index = this.season > 1 ? this.indices[slot]! : 0;
    const expected = this.level + this.phi * this.trend;
    const level = this.alpha * (y - index) + (1 - this.alpha) * expected;
    this.trend = this.beta * (level - this.level) + (1 - this.beta) * this.phi * this.trend;
    if (this.season > 1) this.indices[slot] = this.gamma * (y - expected) + (1 - this.gamma) * index;
    this.level = level;
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    let damped = 0;
    let power = 1;
    const seasonal = this.season > 1 && this.seen >= this.season;
    for (let h = 1; h <= horizon; h++) {
      power *= this.phi;
      damped += power;
      out[h - 1] = this.level + damped * this.trend + (seasonal ? this.indices[(this.seen + h - 1) % this.season]! : 0);
    }
    return out;
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).f64(this.level).f64(this.trend).f64(this.firstSeasonSum).f64s(this.indices);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.level = reader.f64();
    this.trend = reader.f64();
    this.firstSeasonSum = reader.f64();
    this.indices.set(reader.f64s());
  }

  at(horizon: number): number {
    const { phi } = this;
    const damped = phi === 1 ? horizon : (phi * (1 - (this.powers[horizon] ?? phi ** horizon))) / (1 - phi);
    const seasonal = this.season > 1 && this.seen >= this.season;
    return this.level + damped * this.trend + (seasonal ? this.indices[(this.seen + horizon - 1) % this.season]! : 0);
  }
}
