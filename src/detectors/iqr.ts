import type { StateReader, StateWriter } from '../state.js';
import { SortedWindow } from '../stats/sorted-window.js';
import type { Detector } from './detector.js';
import { distance } from './z-score.js';

const READY = 10;

/**
 * Distance outside of the quartiles in units of the interquartile range over the last `window` values (default 60); inside of them 0. Tukey's fences are at 1.5 and 3.
 * Cost: O(log window). Source: Tukey 1977.
 */
export class Iqr implements Detector {
  readonly name = 'iqr';
  private readonly values: SortedWindow;

  constructor(window = 60) {
    this.values = new SortedWindow(window);
  }

  get ready(): boolean {
    return this.values.size >= READY;
  }

  get expected(): number {
    return this.values.size === 0 ? 0 : this.values.quantile(0.5);
  }

  get scale(): number {
    return this.values.size === 0 ? 0 : this.values.quantile(0.75) - this.values.quantile(0.25);
  }

  score(value: number): number {
    if (!this.ready) return 0;
    const low = this.values.quantile(0.25);
    const high = this.values.quantile(0.75);
    if (value >= low && value <= high) return 0;
    return distance(value, value < low ? low : high, high - low);
  }

  learn(value: number): void {
    this.values.push(value);
  }

  save(writer: StateWriter): void {
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.values.restore(reader);
  }
}
