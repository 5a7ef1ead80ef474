import type { StateReader, StateWriter } from '../state.js';
import type { Forecaster, ForecasterOptions } from './forecaster.js';

/** AR terms, MA terms. */
const P = 2;
const K = P + 1;
/** Weight of a step a step later: a memory of about 500 steps. */
const FORGETTING = 0.998;
/** Below this many steps the coefficients say nothing yet. */
const WARM_UP = 20;

/**
 * ARIMA(2,1,1): the change of the series is w(t) = φ1 w(t−1) + φ2 w(t−2) + θ e(t−1) + e(t). The coefficients are learnt step by step by
 * recursive extended least squares with forgetting, so nothing is ever refitted. Cost: O(1), 3 × 3 matrix.
 * Source: Box & Jenkins; Ljung & Söderström 1983, section 2.2.
 */
export class Arima implements Forecaster {
  readonly name = 'arima';
  private last = 0;
  private readonly changes = new Float64Array(P);
  private residual = 0;
  private readonly coefficients = new Float64Array(K);
  private readonly covariance = new Float64Array(K * K);
  private readonly gain = new Float64Array(K);
  private scale = 0;
  seen = 0;

  constructor(_options: ForecasterOptions) {
    for (let i = 0; i < K; i++) this.covariance[i * K + i] = 1;
  }

  learn(value: number): void {
    this.seen++;
    if (this.seen === 1) {
      this.last = Number.isFinite(value) ? value : 0;
      return;
    }
    const predicted = this.predicted();
    const change = Number.isFinite(value) ? value - this.last : predicted;
    const error = change - predicted;
    this.scale = Math.max(Math.abs(change), 0.99 * this.scale);
    if (Number.isFinite(value) && this.scale > 0) this.update(change);
    this.last += change;
    this.changes[1] = this.changes[0]!;
    this.changes[0] = change;
    this.residual = error;
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    this.walk(horizon, out);
    return out;
  }

  at(horizon: number): number {
    return this.walk(horizon);
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).f64(this.last).f64(this.residual).f64(this.scale);
    writer.f64s(this.changes).f64s(this.coefficients).f64s(this.covariance);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.last = reader.f64();
    this.residual = reader.f64();
    this.scale = reader.f64();
    this.changes.set(reader.f64s());
    this.coefficients.set(reader.f64s());
    this.covariance.set(reader.f64s());
  }

  /** Goes forward step by step; returns the last level. */
  private walk(horizon: number, out?: Float64Array): number {
    const [phi1, phi2, theta] = this.stable();
    let w1 = this.changes[0]!;
    let w2 = this.changes[1]!;
    let level = this.last;
    for (let h = 1; h <= horizon; h++) {
      const w = phi1 * w1 + phi2 * w2 + (h === 1 ? theta * this.residual : 0);
      w2 = w1;
      w1 = w;
      level += w;
      if (out) out[h - 1] = level;
    }
    return level;
  }

  private predicted(): number {
    const [phi1, phi2, theta] = this.stable();
    return phi1 * this.changes[0]! + phi2 * this.changes[1]! + theta * this.residual;
  }

  /** The coefficients, drawn into the stationary and invertible region; zeros (a random walk) while warming up. */
  private stable(): [number, number, number] {
    if (this.seen < WARM_UP) return [0, 0, 0];
    const theta = Math.max(-0.95, Math.min(0.95, this.coefficients[2]!));
    const phi2 = Math.max(-0.95, Math.min(0.95, this.coefficients[1]!));
    const room = 0.98 - phi2;
    return [Math.max(-room, Math.min(room, this.coefficients[0]!)), phi2, theta];
  }

  /**
   * One step of recursive least squares towards the change that came. All is divided by the scale, so that the covariance has no unit. What
   * corrects the coefficients is their own error, not that of the forecast, which is drawn into the stable region and zero while warming up.
   */
  private update(change: number): void {
    const x = [this.changes[0]! / this.scale, this.changes[1]! / this.scale, this.residual / this.scale];
    let innovation = change / this.scale;
    for (let i = 0; i < K; i++) innovation -= this.coefficients[i]! * x[i]!;
    const p = this.covariance;
    let denominator = FORGETTING;
    for (let i = 0; i < K; i++) {
      let sum = 0;
      for (let j = 0; j < K; j++) sum += p[i * K + j]! * x[j]!;
      this.gain[i] = sum;
      denominator += sum * x[i]!;
    }
    for (let i = 0; i < K; i++) this.coefficients[i]! += (this.gain[i]! / denominator) * innovation;
    for (let i = 0; i < K; i++) {
      for (let j = 0; j < K; j++) {
        const next = (p[i * K + j]! - (this.gain[i]! * this.gain[j]!) / denominator) / FORGETTING;
        p[i * K + j] = i === j ? Math.min(next, 100) : next;
      }
    }
  }
}
