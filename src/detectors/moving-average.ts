import type { StateReader, StateWriter } from '../state.js';
import type { Detector } from './detector.js';
import { distance } from './z-score.js';

const READY = 10;

/** |x − EWMA| / EWMA of absolute deviations, both with weight `alpha` (default 0.1, a memory of about 20 values). Cost: O(1), no window. Source: Roberts 1959. */
export class MovingAverage implements Detector {
  readonly name = 'moving-average';
  private seen = 0;
  private mean = 0;
  private deviation = 0;

  constructor(private readonly alpha = 0.1) {}

  get ready(): boolean {
    return this.seen >= READY;
  }

  get expected(): number {
    return this.mean;
  }

  get scale(): number {
    return this.deviation;
  }

  score(value: number): number {
    return this.ready ? distance(value, this.mean, this.deviation) : 0;
  }

  learn(value: number): void {
    this.seen++;
    // the first values are averaged evenly, so that the start has no special weight
    const weight = Math.max(this.alpha, 1 / this.seen);
    const difference = value - this.mean;
    this.deviation += weight * (Math.abs(difference) - this.deviation);
    if (this.seen === 1) this.deviation = 0;
    this.mean += weight * difference;
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen).f64(this.mean).f64(this.deviation);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.mean = reader.f64();
    this.deviation = reader.f64();
  }
}
