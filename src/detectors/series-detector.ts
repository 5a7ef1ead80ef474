import { type AnomalyRecord, type AnomalyType, hash64, type Series, type Severity } from '../records.js';
import type { Stateful, StateReader, StateWriter } from '../state.js';
import { ConformalRank } from './conformal-rank.js';
import type { Detector } from './detector.js';
import { recommendationFor } from './recommendation.js';
import { createDetector } from './registry.js';

export interface SeriesDetectorOptions {
  /** Which detectors speak. Default z-score, mad, moving-average. */
  readonly methods?: readonly string[];
  /** Score, −log10 p, that opens an episode. Default 4: one sample in ten thousand. */
  readonly openAt?: number;
  /** Score below which a value counts as calm again. Default 1.5. */
  readonly closeAt?: number;
  /** Calm values in a row that resolve an episode. Default 5. */
  readonly calmToResolve?: number;
}

export interface Observation {
  readonly expected: number;
  readonly lower: number;
  readonly upper: number;
  /** −log10 of the combined p-value. */
  readonly score: number;
  /** True on the value that opens an episode. */
  readonly alert: boolean;
  readonly active: boolean;
  /** What to publish: the episode when it opens, grows clearly worse, or ends. */
  readonly event: AnomalyRecord | null;
  readonly severity: Severity | null;
  readonly type: AnomalyType | null;
  readonly episode: string | null;
}

interface Episode {
  id: string;
  openedAt: number;
  value: number;
  expected: number;
  lower: number;
  upper: number;
  score: number;
  published: number;
  calm: number;
  length: number;
  type: AnomalyType;
  detectors: string[];
}

/** Half-width of the band in scales. */
const BAND = 4;
/** An episode this long has become the new normal: detectors learn on, and it resolves as a shift. */
const LONGEST_EPISODE = 120;

/**
 * One series' detectors, calibrated and joined, and its episode: opened when the joint p-value falls below 10^−openAt, resolved after some calm values (hysteresis), published again only when it grows
 * clearly worse. Strictly causal: a value is judged by what came before it. While an episode is open detectors learn on, and score calibration does not learn the episode's own
 * scores. p-values are joined by twice their harmonic mean, valid under dependence. Cost: O(log window) a detector.
 */
export class SeriesDetector implements Stateful {
  private readonly detectors: Detector[];
  private readonly ranks: ConformalRank[];
  private readonly openAt: number;
  private readonly closeAt: number;
  private readonly calmToResolve: number;
  private episode: Episode | undefined;
  private last = Number.NaN;
  private lastTime = 0;

  constructor(
    private readonly series: Series,
    options: SeriesDetectorOptions = {},
  ) {
    this.detectors = (options.methods ?? ['z-score', 'mad', 'moving-average']).map(createDetector);
    this.ranks = this.detectors.map(() => new ConformalRank());
    this.openAt = options.openAt ?? 4;
    this.closeAt = options.closeAt ?? 1.5;
    this.calmToResolve = options.calmToResolve ?? 5;
  }

  /** Time of the newest value, ms. */
  get newest(): number {
    return this.lastTime;
  }

  /** Judges a value, then learns it. A value that is not finite changes nothing. */
  observe(timestamp: number, value: number): Observation {
    const leader = this.detectors[0]!;
    const expected = leader.ready ? leader.expected : value;
    const half = leader.ready ? BAND * leader.scale : 0;
    const lower = expected - half;
    const upper = expected + half;
    if (!Number.isFinite(value)) return this.result({ expected, lower, upper, score: 0, alert: false, event: null });
    let inverse = 0;
    const loud: string[] = [];
    const scores = this.detectors.map((detector, i) => {
      const score = detector.score(value);
      const p = this.ranks[i]!.p(score);
      inverse += 1 / p;
      if (-Math.log10(p) >= this.openAt) loud.push(detector.name);
      return score;
    });
    const joint = Math.min(1, (2 * this.detectors.length) / inverse);
    const score = joint < 1 ? -Math.log10(joint) : 0;
    const before = this.last;
    const wasOpen = this.episode !== undefined;
    const event = this.episode
      ? this.goOn(timestamp, value, score, expected, lower, upper)
      : score >= this.openAt
        ? this.open(timestamp, value, score, expected, lower, upper, before, loud)
        : null;
    this.detectors.forEach((detector, i) => {
      if (!wasOpen && this.episode === undefined) this.ranks[i]!.learn(scores[i]!);
      else if (score < this.openAt) this.ranks[i]!.learn(scores[i]!);
      detector.learn(value);
    });
    this.last = value;
    this.lastTime = Math.max(this.lastTime, timestamp);
    return this.result({ expected, lower, upper, score, alert: !wasOpen && this.episode !== undefined, event });
  }

  save(writer: StateWriter): void {
    for (const detector of this.detectors) detector.save(writer);
    for (const rank of this.ranks) rank.save(writer);
    writer
      .f64(this.last)
      .f64(this.lastTime)
      .text(this.episode ? JSON.stringify(this.episode) : '');
  }

  restore(reader: StateReader): void {
    for (const detector of this.detectors) detector.restore(reader);
    for (const rank of this.ranks) rank.restore(reader);
    this.last = reader.f64();
    this.lastTime = reader.f64();
    const episode = reader.text();
    this.episode = episode === '' ? undefined : (JSON.parse(episode) as Episode);
  }

  private open(
    timestamp: number,
    value: number,
    score: number,
    expected: number,
    lower: number,
    upper: number,
    before: number,
    loud: string[],
  ): AnomalyRecord {
    const jump = Number.isFinite(before) && Math.abs(value - before) > 0.8 * Math.abs(value - expected);
    this.episode = {
      id: hash64(`${this.series.id}/${timestamp}`),
      openedAt: timestamp,
      value,
      expected,
      lower,
      upper,
      score,
      published: score,
      calm: 0,
      length: 1,
      type: jump ? 'rate-change' : 'statistical',
      detectors: loud.length > 0 ? loud : this.detectors.map((d) => d.name),
    };
    return this.record(this.episode, 'open', timestamp);
  }

  private goOn(
    timestamp: number,
    value: number,
    score: number,
    expected: number,
    lower: number,
    upper: number,
  ): AnomalyRecord | null {
    const episode = this.episode!;
    episode.length++;
    episode.calm = score < this.closeAt ? episode.calm + 1 : 0;
    if (score > episode.score) Object.assign(episode, { score, value, expected, lower, upper });
    if (episode.calm >= this.calmToResolve || episode.length > LONGEST_EPISODE) {
      this.episode = undefined;
      return this.record(episode, 'resolved', timestamp);
    }
    if (episode.score < episode.published + 2) return null;
    episode.published = episode.score;
    return this.record(episode, 'update', timestamp);
  }

  private record(e: Episode, state: AnomalyRecord['state'], timestamp: number): AnomalyRecord {
    const { id, name, labels, entity } = this.series;
    const direction = e.value > e.expected ? 'above' : 'below';
    const reason =
      state === 'resolved'
        ? e.length > LONGEST_EPISODE
          ? 'it has become the new normal'
          : `${this.calmToResolve} values in a row as expected`
        : `a value this far ${direction} what came before is seen once in ${onceIn(e.score)}`;
    return {
      id: e.id,
      state,
      series: id,
      name,
      labels,
      entity,
      type: e.type,
      severity: severityOf(e.score),
      detectors: e.detectors,
      openedAt: e.openedAt,
      updatedAt: timestamp,
      resolvedAt: state === 'resolved' ? timestamp : null,
      value: e.value,
      expected: e.expected,
      lower: e.lower,
      upper: e.upper,
      score: e.score,
      confidence: 1 - 10 ** -e.score,
      reason,
      recommendation: state === 'resolved' ? '' : recommendationFor(name, direction),
    };
  }

  private result(part: Pick<Observation, 'expected' | 'lower' | 'upper' | 'score' | 'alert' | 'event'>): Observation {
    const episode = this.episode;
    return {
      ...part,
      active: episode !== undefined,
      severity: episode ? severityOf(episode.score) : null,
      type: episode?.type ?? null,
      episode: episode?.id ?? null,
    };
  }
}

function severityOf(score: number): Severity {
  return score >= 8 ? 'critical' : score >= 5 ? 'warning' : 'info';
}

function onceIn(score: number): string {
  return score >= 9 ? 'a thousand million' : Math.round(10 ** score).toLocaleString('en');
}
