import type { Clock } from '../clock.js';

export type Verdict = 'keeping up' | 'behind' | 'recovering';

export interface PipelineStatus {
  readonly name: string;
  /** Samples a second, over the last seconds. */
  readonly rate: number;
  /** Records of the input not read yet. */
  readonly lag: number;
  readonly verdict: Verdict;
  readonly samples: number;
  readonly outputs: number;
  readonly deadLetters: number;
  readonly series: number;
}

/** Lag in records below which a pipeline keeps up. */
const SMALL_LAG = 1_000;
const WINDOW_MS = 5_000;

/** Counts what a pipeline does and says how it stands. */
export class StatusCounter {
  private samples = 0;
  private outputs = 0;
  private deadLetters = 0;
  private readonly lags = new Map<number, number>();
  private marks: { at: number; samples: number; lag: number }[] = [];

  constructor(
    private readonly name: string,
    private readonly clock: Clock,
    private readonly seriesCount: () => number,
  ) {}

  count(partition: number, samples: number, outputs: number, deadLetters: number, lag: number): void {
    this.samples += samples;
    this.outputs += outputs;
    this.deadLetters += deadLetters;
    this.lags.set(partition, lag);
  }

  forget(partition: number): void {
    this.lags.delete(partition);
  }

  /** Call about once a second: the rate is over the calls of the last five seconds. */
  status(): PipelineStatus {
    const at = this.clock.now();
    let lag = 0;
    for (const one of this.lags.values()) lag += one;
    const oldest = this.marks[0];
    const rate = oldest && at > oldest.at ? ((this.samples - oldest.samples) * 1000) / (at - oldest.at) : 0;
    const verdict = lag <= SMALL_LAG ? 'keeping up' : oldest && lag < oldest.lag ? 'recovering' : 'behind';
    this.marks.push({ at, samples: this.samples, lag });
    this.marks = this.marks.filter((m) => m.at >= at - WINDOW_MS);
    const { name, samples, outputs, deadLetters } = this;
    return { name, rate, lag, verdict, samples, outputs, deadLetters, series: this.seriesCount() };
  }
}
