import type { StateReader, StateWriter } from '../state.js';
import { SortedWindow } from '../stats/sorted-window.js';

/** Scores ranked against: the smallest p-value that rank alone can give is 1 / (window + 1). */
const WINDOW = 240;
const READY = 30;

/**
 * Turns a detector's scores into p-values: the share of recent scores at least as large. Under exchangeable scores P(p ≤ α) ≤ α whatever the detector's unit. Beyond the
 * largest score seen, the tail is continued as exponential in the score's excess over the upper decile, so that a far larger score gets a far smaller p.
 * Cost: O(log window). Source: Vovk et al. 2005; Laxhammar & Falkman 2014 (sliding windows).
 */
export class ConformalRank {
  private readonly scores = new SortedWindow(WINDOW);

  get ready(): boolean {
    return this.scores.size >= READY;
  }

  /** p-value of a score against what was learnt, (0, 1]; 1 while there is too little history. */
  p(score: number): number {
    const n = this.scores.size;
    if (n < READY) return 1;
    const atLeast = this.scores.countAtLeast(score);
    const rank = (atLeast + 1) / (n + 1);
    if (atLeast > 0) return rank;
    const decile = this.scores.quantile(0.9);
    const excess = (this.scores.quantile(1) - decile) / Math.log(0.1 * n);
    if (!(excess > 0)) return rank;
    return Math.max(1e-12, Math.min(rank, 0.1 * Math.exp(-(score - decile) / excess)));
  }

  learn(score: number): void {
    this.scores.push(score);
  }

  save(writer: StateWriter): void {
    this.scores.save(writer);
  }

  restore(reader: StateReader): void {
    this.scores.restore(reader);
  }
}
