import type { Stateful } from '../state.js';

/**
 * A detector of one series. Strictly causal: `score` judges a value by what was learnt before it; the caller then calls `learn`.
 * The contract suite in `test/contract/detector.test.ts` holds for all: `learn` is O(1) or O(log window);
 * `restore(save())` gives the same answers; every number out is finite, or 0 while there is too little history.
 */
export interface Detector extends Stateful {
  /** The name users write in YAML and on the command line, kebab-case. */
  readonly name: string;
  /** Non-conformity of a finite value, ≥ 0, larger is stranger, in the detector's own unit (calibrated elsewhere). Changes nothing. */
  score(value: number): number;
  learn(value: number): void;
  /** What the next value should be, and the scale (≥ 0) in which distance from it is measured. */
  readonly expected: number;
  readonly scale: number;
  /** False while there is too little history for `score` to mean anything. */
  readonly ready: boolean;
}
