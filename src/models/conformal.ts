import type { StateReader, StateWriter } from '../state.js';
import { SortedWindow } from '../stats/sorted-window.js';

/** Residuals kept a horizon. */
const WINDOW = 120;
/** How fast the miscoverage is corrected, the step size γ of adaptive conformal inference. */
const RATE = 0.02;
/** Level at which coverage is watched. */
const WATCHED = 0.9;
const ENOUGH = 10;
/** Bounds that were too wide are narrowed at most as if twice the misses were asked for. */
const MAX_ALPHA = 2 * (1 - WATCHED);

/**
 * Bounds of one horizon at any level from its last residuals, signed so that skewed errors give skewed bounds. The miscoverage asked for is
 * adapted by what came: α ← α + γ(0.1 − missed), so coverage holds over time also when the series changes. Cost: O(1) to learn, O(window
 * log window) to ask.
 * Source: Gibbs & Candès 2021 (adaptive conformal inference).
 */
export class ConformalBounds {
  private readonly residuals = new SortedWindow(WINDOW);
  private alpha = 1 - WATCHED;
  private covered = WATCHED;
  private seen = 0;

  /** Takes what came and what had been forecast, and whether it lay within the watched bounds given then. */
  learn(actual: number, forecast: number, lower: number, upper: number): void {
    if (this.residuals.size >= ENOUGH) {
      const missed = actual < lower || actual > upper ? 1 : 0;
      this.alpha = Math.min(MAX_ALPHA, Math.max(0, this.alpha + RATE * (1 - WATCHED - missed)));
      this.covered += 0.02 * (1 - missed - this.covered);
    }
    this.residuals.push(actual - forecast);
    this.seen++;
  }

  /** Lower and upper offsets (to add to the forecast) at a level of 0–1. Before enough is known: the widest residuals seen, or zero. */
  offsets(level: number): [number, number] {
    const { residuals } = this;
    if (residuals.size === 0) return [0, 0];
    // the correction learnt at 90 % scales the miss rate of wider bounds in full, of narrower ones by ever less: their residuals are many
    // and need it less
    const share = Math.min(1, (1 - WATCHED) / (1 - level));
    const miss = Math.min(0.98, (1 - level) * (this.alpha / (1 - WATCHED)) ** share);
    let lower = residuals.quantile(miss / 2);
    let upper = residuals.quantile(1 - miss / 2);
    // beyond the sample's own resolution the bounds are widened in proportion
    const resolution = 2 / (residuals.size + 1);
    if (miss < resolution) {
      const widen = 1 + 0.25 * Math.log2(1 + resolution / Math.max(miss, 0.001));
      lower *= widen;
      upper *= widen;
    }
    return [Math.min(lower, 0), Math.max(upper, 0)];
  }

  /** Recent share within the 90 % bounds. */
  get coverage(): number {
    return this.covered;
  }

  get scored(): number {
    return this.seen;
  }

  save(writer: StateWriter): void {
    writer.f64(this.alpha).f64(this.covered).u32(this.seen);
    this.residuals.save(writer);
  }

  restore(reader: StateReader): void {
    this.alpha = reader.f64();
    this.covered = reader.f64();
    this.seen = reader.u32();
    this.residuals.restore(reader);
  }
}
