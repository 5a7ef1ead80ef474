/**
 * When to keep a function's instance and when to start it again before it is called.
 * Source: M. Shahrad et al., Serverless in the Wild (USENIX ATC 2020), section 4.2; sample counts as its public re-implementations have them.
 */
import type { Stateful, StateReader, StateWriter } from '../state.js';

const MINUTE_MS = 60_000;

/** The paper's constants. */
export interface KeepAliveOptions {
  /** Bins of one minute: idle times at or above are out of bounds (default 240: 4 hours). */
  readonly rangeMinutes?: number;
  /** The pre-warming window begins at this percentile of the idle times (default 5). */
  readonly headPercentile?: number;
  /** The keep-alive window ends at this one (default 99). */
  readonly tailPercentile?: number;
  /** Both windows are widened by this share (default 0.1). */
  readonly margin?: number;
  /** Of the bins' counts: below it the histogram says nothing (default 2). */
  readonly minVariation?: number;
  /** Idle times before the histogram is believed (default 10). */
  readonly minSamples?: number;
  /** Share of idle times out of bounds above which the series tier takes over (default 0.5). */
  readonly maxOutOfBounds?: number;
  /** Makes what predicts idle times beyond the range (default: the median of the newest 20). */
  readonly series?: () => IdleForecaster;
}

/** While a function is idle: when an instance of it is kept. Times are since the end of its newest call. */
export interface KeepAliveWindows {
  /** Stop the instance after the call and start it again after so long; 0 keeps it. */
  readonly prewarmMs: number;
  /** From then on it is kept for so long, gaps included. */
  readonly keepAliveMs: number;
  /** The parts of that in which it is kept, ascending. */
  readonly warm: readonly { readonly fromMs: number; readonly toMs: number }[];
  readonly tier: 'histogram' | 'standard' | 'series' | 'hazard';
}

/** Learns when a function is called and says when to keep an instance of it. */
export interface KeepAlivePolicy extends Stateful {
  /** Whose saved state is whose. */
  readonly name: string;
  /** @param idleMs from the end of one call to the next call */
  learn(idleMs: number): void;
  /** @param withinMs what comes later may be left out, which is cheaper (default: nothing) */
  windows(withinMs?: number): KeepAliveWindows;
}

/** Whether an instance is kept after so long without a call. */
export function keepsAfter({ warm }: KeepAliveWindows, idleMs: number): boolean {
  return warm.some(({ fromMs, toMs }) => idleMs >= fromMs && idleMs < toMs);
}

/** Predicts the next idle time from those before; an autoregressive model in the paper. */
export interface IdleForecaster {
  learn(minutes: number): void;
  /** Minutes; called only after the first was learnt. */
  predict(): number;
}

const SERIES_LENGTH = 20;
/** Half width of the series tier's window around its prediction, and how much earlier it pre-warms. */
const SERIES_MARGIN = 0.15;

/**
 * The hybrid histogram of one function: a histogram of its idle times, the standard window while that says nothing, and a prediction from the newest idle
 * times when most are longer than the histogram reaches.
 * Cost: learning is O(1); windows are O(bins). Memory: 2 KB.
 */
export class HybridHistogram implements KeepAlivePolicy {
  readonly name = 'hybrid-histogram';
  private readonly bins: Uint32Array;
  private readonly options: Required<Omit<KeepAliveOptions, 'series'>>;
  private readonly makeSeries: () => IdleForecaster;
  private series: IdleForecaster;
  private total = 0;
  private outOfBounds = 0;
  /** Newest idle times, minutes, oldest first. */
  private newest: number[] = [];

  constructor(options: KeepAliveOptions = {}) {
    this.options = {
      rangeMinutes: 240,
      headPercentile: 5,
      tailPercentile: 99,
      margin: 0.1,
      minVariation: 2,
      minSamples: 10,
      maxOutOfBounds: 0.5,
      ...options,
    };
    this.bins = new Uint32Array(this.options.rangeMinutes);
    this.makeSeries = options.series ?? (() => new MedianIdleTime());
    this.series = this.makeSeries();
  }

  learn(idleMs: number): void {
    const minutes = Math.max(0, idleMs) / MINUTE_MS;
    const bin = Math.floor(minutes);
    if (bin < this.bins.length) {
      this.bins[bin]!++;
      this.total++;
    } else this.outOfBounds++;
    this.series.learn(minutes);
    this.newest.push(minutes);
    if (this.newest.length > SERIES_LENGTH) this.newest.shift();
  }

  windows(): KeepAliveWindows {
    const { minSamples, maxOutOfBounds, minVariation, headPercentile, tailPercentile, margin } = this.options;
    const samples = this.total + this.outOfBounds;
    const standard = oneWindow(0, this.bins.length * MINUTE_MS, 'standard');
    if (samples < minSamples) return standard;
    if (this.outOfBounds / samples > maxOutOfBounds) return this.seriesWindows();
    if (this.total === 0 || this.variation() < minVariation) return standard;
    const head = this.percentile(headPercentile);
    const tail = this.percentile(tailPercentile) + 1;
    return oneWindow(head * (1 - margin) * MINUTE_MS, tail * (1 + margin) * MINUTE_MS, 'histogram');
  }

  private seriesWindows(): KeepAliveWindows {
    const predicted = this.series.predict() * MINUTE_MS;
    return oneWindow(predicted * (1 - SERIES_MARGIN), predicted * (1 + SERIES_MARGIN), 'series');
  }

  /** Coefficient of variation of the bins' counts: near 0 when idle times are spread evenly over all of them. */
  private variation(): number {
    const mean = this.total / this.bins.length;
    let squares = 0;
    for (const count of this.bins) squares += (count - mean) ** 2;
    return Math.sqrt(squares / this.bins.length) / mean;
  }

  /** The bin in which the percentile lies. */
  private percentile(percent: number): number {
    const rank = Math.max(1, Math.ceil((percent / 100) * this.total));
    let seen = 0;
    for (let bin = 0; bin < this.bins.length; bin++) {
      seen += this.bins[bin]!;
      if (seen >= rank) return bin;
    }
    return this.bins.length - 1;
  }

  save(writer: StateWriter): void {
    writer.u32(this.bins.length);
    for (const count of this.bins) writer.u32(count);
    writer.u32(this.outOfBounds);
    writer.u32(this.newest.length);
    for (const minutes of this.newest) writer.f64(minutes);
  }

  restore(reader: StateReader): void {
    this.total = 0;
    const bins = reader.u32();
    for (let bin = 0; bin < bins; bin++) {
      const count = reader.u32();
      if (bin < this.bins.length) {
        this.bins[bin] = count;
        this.total += count;
      }
    }
    this.outOfBounds = reader.u32();
    this.newest = Array.from({ length: reader.u32() }, () => reader.f64());
    this.series = this.makeSeries();
    for (const minutes of this.newest) this.series.learn(minutes);
  }
}

/** The median of the newest idle times: as good as an autoregressive model on few values. */
class MedianIdleTime implements IdleForecaster {
  private readonly newest: number[] = [];

  learn(minutes: number): void {
    this.newest.push(minutes);
    if (this.newest.length > SERIES_LENGTH) this.newest.shift();
  }

  predict(): number {
    const sorted = [...this.newest].sort((a, b) => a - b);
    return sorted[Math.floor(sorted.length / 2)]!;
  }
}

function oneWindow(fromMs: number, toMs: number, tier: KeepAliveWindows['tier']): KeepAliveWindows {
  return { prewarmMs: fromMs, keepAliveMs: toMs - fromMs, warm: [{ fromMs, toMs }], tier };
}
