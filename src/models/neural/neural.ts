import type { StateReader, StateWriter } from '../../state.js';
import { Ring } from '../../stats/ring.js';
import type { Forecaster, ForecasterOptions } from '../forecaster.js';
import { SharedNetwork } from './shared-network.js';
import { AHEAD, LAGS, Window } from './window.js';

/** A window to learn from is taken every so many steps: neighbours say nearly the same. */
const OFFER_EVERY = 8;

/**
 * Of every 240 steps, those from 0 are learnt from, those from 168 are held out; between them lie as many as a window looks ahead, so that no
 * held-out step is ever learnt: neighbouring windows are so alike that a network could know them by heart.
 */
const BLOCK = 240;
const LEARN_BEFORE = 144;
const HOLD_FROM = LEARN_BEFORE + AHEAD;
const HOLD_BEFORE = BLOCK - AHEAD;
/** Horizons up to here are asked together. */
const USUAL = 60;

/** Used by one call at a time, so one serves all series. */
const window = new Window();

/**
 * What the network of all series says of this one: ŷ(t+h) = seasonal naive(t+h) + scale · network(window)(h). Before the network is
 * trained, seasonal naive (`trained` is false).
 * Inputs are the last 48 steps and the coming 24 one season before, for the shortest and the longest season. Horizons beyond 24 steps take
 * the forecast as history.
 * Cost: learn O(1), and every eighth step O(window) to offer what it saw for training; forecast 6,144 multiplications for each 24 steps;
 * memory 8 bytes a step of the longest season.
 */
export class Neural implements Forecaster {
  readonly name = 'neural';
  readonly scoreEvery = 12;
  private readonly shared: SharedNetwork;
  private readonly seasons: readonly number[];
  private readonly values: Ring;
  private usual:
    | { readonly seen: number; readonly version: number; readonly values: Float64Array<ArrayBuffer> }
    | undefined;
  seen = 0;

  /** Without a network given it is the only series of its own. */
  constructor(options: ForecasterOptions) {
    this.shared = options.shared ?? new SharedNetwork();
    this.seasons = options.seasons;
    this.values = new Ring(Math.max(LAGS, options.seasons.at(-1) ?? 1) + AHEAD);
  }

  /** False: there is no network yet, forecasts are seasonal naive. */
  get trained(): boolean {
    return this.shared.network !== undefined;
  }

  learn(value: number): void {
    this.seen++;
    const { values } = this;
    if (Number.isFinite(value)) values.push(value);
    else if (values.size > 0) {
      const season = this.seasons.at(-1);
      values.push(values.at(season !== undefined && season <= values.size ? season - 1 : 0));
    }
    if (this.seen % OFFER_EVERY === 0 && values.size >= LAGS + AHEAD) this.offer();
  }

  forecast(horizon: number, out = new Float64Array(horizon)): Float64Array {
    const { values, seasons } = this;
    if (values.size === 0) return out.fill(0, 0, horizon);
    const { network } = this.shared;
    const at = (position: number): number => (position > 0 ? out[position - 1]! : values.at(-position));
    for (let origin = 0; origin < horizon; origin += AHEAD) {
      window.look(at, origin, values.size + origin, seasons);
      const said = network?.run(window.inputs);
      const last = Math.min(AHEAD, horizon - origin);
      for (let h = 1; h <= last; h++) out[origin + h - 1] = window.value(h, said ? said[h - 1]! : 0);
    }
    return out;
  }

  at(horizon: number): number {
    if (horizon > USUAL) return this.forecast(horizon)[horizon - 1]!;
    // several horizons are asked after a step: the first question answers them all
    if (this.usual?.seen !== this.seen || this.usual.version !== this.shared.version) {
      const values = this.usual?.values ?? new Float64Array(USUAL);
      this.forecast(USUAL, values);
      this.usual = { seen: this.seen, version: this.shared.version, values };
    }
    return this.usual.values[horizon - 1]!;
  }

  save(writer: StateWriter): void {
    writer.u32(this.seen);
    this.values.save(writer);
  }

  restore(reader: StateReader): void {
    this.seen = reader.u32();
    this.values.restore(reader);
    this.usual = undefined;
  }

  /** What was seen 24 steps ago, with what came since. */
  private offer(): void {
    const { values } = this;
    const place = this.seen % BLOCK;
    const held = place >= HOLD_FROM && place < HOLD_BEFORE;
    if (place >= LEARN_BEFORE && !held) return;
    window.look((position) => values.at(-position), -AHEAD, values.size - AHEAD, this.seasons);
    this.shared.pool.offer(window, (h) => values.at(AHEAD - h), held);
  }
}
