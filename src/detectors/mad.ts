import type { StateReader, StateWriter } from '../state.js';
import { SortedWindow } from '../stats/sorted-window.js';
import type { Detector } from './detector.js';
import { distance } from './z-score.js';

const READY = 10;
/** Makes the median absolute deviation of a normal distribution its standard deviation: 1 / Φ⁻¹(3/4). */
const NORMAL = 1.4826;

/** |x − median| / (1.4826 · MAD) over the last `window` values (default 60): half of them may be outliers. Cost: O(window) for a score. Source: Hampel 1974. */
export class Mad implements Detector {
  readonly name = 'mad';
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
    return NORMAL * this.values.medianDistance(this.expected);
  }

  score(value: number): number {
    return this.ready ? distance(value, this.expected, this.scale) : 0;
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
