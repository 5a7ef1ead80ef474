import type { Stateful } from '../state.js';
import type { SharedNetwork } from './neural/shared-network.js';

/**
 * A forecaster of one series on a regular grid of steps. The contract suite in `test/contract/forecaster.test.ts` holds for all:
 * `learn` is O(1) or O(log window) and never refits; `learn` of a then b equals `learn` of a+b; `restore(save())` gives the same answers;
 * nothing reads the wall clock; every number out is finite.
 */
export interface Forecaster extends Stateful {
  /** The name users write in YAML and on the command line, kebab-case. */
  readonly name: string;
  /** Takes the value of the next step; NaN means the step is missing. */
  learn(value: number): void;
  /** Point forecasts for steps 1…horizon after the last learnt one, written into `out` (length ≥ horizon) and returned. Before any sample: zeros. */
  forecast(horizon: number, out?: Float64Array): Float64Array;
  /** The point forecast of one step, `forecast(horizon)[horizon − 1]` but for rounding; cheaper than all of them. */
  at(horizon: number): number;
  /** An ensemble scores it after every so many steps (a multiple of 3); default 3. Larger for a model that is dear to ask. */
  readonly scoreEvery?: number;
  /** Steps learnt so far, missing ones included. */
  readonly seen: number;
}

/** What a forecaster is told of its series when it is made. */
export interface ForecasterOptions {
  /** Season lengths in steps, shortest first; empty: none. */
  readonly seasons: readonly number[];
  /** The network over all series; with it the ensemble has a neural member. Default: none. */
  readonly shared?: SharedNetwork;
}
