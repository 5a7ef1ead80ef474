import { IguanaError } from '../errors.js';
import type { StateReader, StateWriter } from '../state.js';
import { DueForecasts } from './due-forecasts.js';
import type { Forecaster } from './forecaster.js';
import { indexOfHorizon, SCORE_EVERY, scoredHorizons } from './scored-horizons.js';

/** Weight of the newest error in a member's average. */
const ERROR_WEIGHT = 0.05;

/**
 * The weighted mean of its members, weights ∝ 1 / (recent mean absolute error)² at the horizon in question, so that a different member may
 * lead at each horizon.
 * Cost: members' cost, and every third step a forecast of each at each scored horizon.
 */
export class Ensemble implements Forecaster {
  readonly name = 'ensemble';
  /** A row of members' forecasts for each step to come. */
  private readonly waiting: DueForecasts;
  /** Average absolute error of each member at each scored horizon; NaN before the first. */
  private readonly errors: Float64Array[];
  /** Weights by horizon, undefined when an error has changed since. */
  private readonly cached: (Float64Array | undefined)[] = [];
  seen = 0;

  constructor(private readonly members: readonly Forecaster[]) {
    this.waiting = new DueForecasts(members.length);
    this.errors = scoredHorizons.map(() => new Float64Array(members.length).fill(Number.NaN));
  }

  learn(value: number): void {
    const step = this.seen++;
    const { members } = this;
    for (let k = 0; k < scoredHorizons.length; k++) {
      const row = this.waiting.due(step, k);
      if (row < 0) continue;
      const waiting = this.waiting.of(k);
      if (Number.isFinite(value)) this.score(k, value, waiting, row);
      waiting[row] = Number.NaN;
    }
    for (const member of members) member.learn(value);
    if (this.seen % SCORE_EVERY !== 0) return;
    for (let k = 0; k < scoredHorizons.length; k++) {
      const h = scoredHorizons[k]!;
      const waiting = this.waiting.of(k);
      const row = this.waiting.place(step, k);
      for (let m = 0; m < members.length; m++) {
        const member = members[m]!;
        const due = member.scoreEvery === undefined || this.seen % member.scoreEvery === 0;
        waiting[row + m] = due ? member.at(h) : Number.NaN;
      }
    }
  }

  at(horizon: number): number {
    const weights = this.weightsAt(indexOfHorizon(horizon));
    let sum = 0;
    for (let m = 0; m < weights.length; m++) sum += weights[m]! * this.members[m]!.at(horizon);
    return sum;
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    const forecasts = this.members.map((member) => member.forecast(horizon));
    for (let k = 0; k < scoredHorizons.length; k++) {
      const from = k === 0 ? 1 : scoredHorizons[k - 1]! + 1;
      const to = k === scoredHorizons.length - 1 ? horizon : Math.min(horizon, scoredHorizons[k]!);
      const weights = this.weightsAt(k);
      for (let h = from; h <= to; h++) {
        let sum = 0;
        for (let m = 0; m < forecasts.length; m++) sum += weights[m]! * forecasts[m]![h - 1]!;
        out[h - 1] = sum;
      }
    }
    return out;
  }

  /** Weights of the members at a horizon, in their order, sum 1. */
  weights(horizon: number): { name: string; weight: number }[] {
    const weights = this.weightsAt(indexOfHorizon(horizon));
    return this.members.map((member, m) => ({ name: member.name, weight: weights[m]! }));
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).text(this.memberNames());
    for (const member of this.members) member.save(writer);
    for (const errors of this.errors) writer.f64s(errors);
    this.waiting.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    const saved = reader.text();
    if (saved !== this.memberNames()) {
      throw new IguanaError('IGU_STATE_INCOMPATIBLE', { what: 'the ensemble', why: `it had the members ${saved}` });
    }
    for (const member of this.members) member.restore(reader);
    this.cached.length = 0;
    for (const errors of this.errors) errors.set(reader.f64s());
    this.waiting.restore(reader);
  }

  private memberNames(): string {
    return this.members.map((member) => member.name).join(' ');
  }

  private score(k: number, value: number, waiting: Float64Array, row: number): void {
    const errors = this.errors[k]!;
    for (let m = 0; m < errors.length; m++) {
      const error = Math.abs(value - waiting[row + m]!);
      if (Number.isNaN(error)) continue;
      errors[m] = Number.isNaN(errors[m]!) ? error : errors[m]! + ERROR_WEIGHT * (error - errors[m]!);
    }
    this.cached[k] = undefined;
  }

  private weightsAt(k: number): Float64Array {
    const known = this.cached[k];
    if (known) return known;
    const errors = this.errors[k]!;
    const weights = new Float64Array(errors.length);
    let sum = 0;
    let worst = 0;
    for (const error of errors) if (error > worst) worst = error;
    for (let m = 0; m < errors.length; m++) {
      // a member not scored yet counts as the worst one
      const error = Number.isNaN(errors[m]!) ? worst : errors[m]!;
      // a perfect member does not silence the others for ever: errors count from a thousandth of the worst one on
      const floor = Math.max(worst / 1000, Number.MIN_VALUE);
      const weight = worst === 0 ? 1 : (floor / Math.max(error, floor)) ** 2;
      weights[m] = weight;
      sum += weight;
    }
    for (let m = 0; m < weights.length; m++) weights[m]! /= sum;
    this.cached[k] = weights;
    return weights;
  }
}
