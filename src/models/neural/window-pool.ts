import { seededRandom } from '../../stats/seeded-random.js';
import { AHEAD, INPUTS, type Window } from './window.js';

/** Windows to learn from: row i of `inputs` (INPUTS numbers) should give row i of `targets` (AHEAD numbers). */
export interface TrainingWindows {
  readonly count: number;
  readonly inputs: Float32Array;
  readonly targets: Float32Array;
  /** 1: not to be learnt from; such a window says whether what was learnt is of use. */
  readonly held: Uint8Array;
}

/** How many times its size the pool looks back: older windows fade out beyond that. */
const MEMORY = 64;

/**
 * A bounded sample of the windows of all series. While it fills it takes everything; later each new window takes the place of a random one
 * with such a probability that all of the last 64 × capacity windows are about equally likely to be in it, so a moment with many series
 * does not push out the rest of the day. Cost: O(INPUTS), 480 bytes a window.
 */
export class WindowPool {
  private readonly inputs: Float32Array;
  private readonly targets: Float32Array;
  private readonly held: Uint8Array;
  /** Uniform in [0, 1). */
  private readonly next: () => number;
  size = 0;
  /** Windows offered since the pool was made. */
  offered = 0;

  constructor(
    readonly capacity: number,
    seed = 1,
  ) {
    this.inputs = new Float32Array(capacity * INPUTS);
    this.targets = new Float32Array(capacity * AHEAD);
    this.held = new Uint8Array(capacity);
    this.next = seededRandom(seed);
  }

  /** Takes a window whose steps ahead came out as `actual(h)`; `held`: to judge by, not to learn from. */
  offer(window: Window, actual: (h: number) => number, held: boolean): void {
    this.offered++;
    let place = this.size;
    if (this.size < this.capacity) this.size++;
    else {
      place = Math.floor(this.next() * Math.min(this.offered, MEMORY * this.capacity));
      if (place >= this.capacity) return;
    }
    this.held[place] = held ? 1 : 0;
    this.inputs.set(window.inputs, place * INPUTS);
    for (let h = 1; h <= AHEAD; h++) this.targets[place * AHEAD + h - 1] = window.target(h, actual(h));
  }

  /** A copy of what is in it. */
  windows(): TrainingWindows {
    return {
      count: this.size,
      inputs: this.inputs.slice(0, this.size * INPUTS),
      targets: this.targets.slice(0, this.size * AHEAD),
      held: this.held.slice(0, this.size),
    };
  }
}
