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

/** What was judged of a value. The detector uses one object again and again: read it before the next value. */
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
 * clearly worse. Strictly causal: a value is judged by what came before it. Detectors and their calibration learn anomalous values too: what happens again and
 * again is soon no anomaly (on NAB that leaves a quarter of the false alarms at four fifths of the hits). p-values are joined by twice their harmonic mean, valid under dependence. Cost: O(log window) a detector.
 */
export class SeriesDetector implements Stateful {
  private readonly detectors: Detector[];
  private readonly ranks: ConformalRank[];
  private readonly openAt: number;
  private readonly closeAt: number;
  private readonly calmToResolve: number;
  private readonly scores: Float64Array;
  private readonly judged: { -readonly [K in keyof Observation]: Observation[K] } = {
    expected: 0,
    lower: 0,
    upper: 0,
    score: 0,
    alert: false,
    active: false,
    event: null,
    severity: null,
    type: null,
    episode: null,
  };
  private episode: Episode | undefined;
  private last = Number.NaN;
  private lastTime = 0;

  constructor(
    private readonly series: Series,
    options: SeriesDetectorOptions = {},
  ) {
    this.detectors = (options.methods ?? ['z-score', 'mad', 'moving-average']).map(createDetector);
    this.ranks = this.detectors.map(() => new ConformalRank());
    this.scores = new Float64Array(this.detectors.length);
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
    const { judged, detectors, ranks, scores } = this;
    const leader = detectors[0]!;
    const expected = leader.ready ? leader.expected : value;
    const half = leader.ready ? BAND * leader.scale : 0;
    judged.expected = expected;
    judged.lower = expected - half;
    judged.upper = expected + half;
    judged.score = 0;
    judged.alert = false;
    judged.event = null;
    if (!Number.isFinite(value)) return judged;
    let inverse = 0;
    for (let i = 0; i < detectors.length; i++) {
      const score = detectors[i]!.score(value);
      scores[i] = score;
      inverse += 1 / ranks[i]!.p(score);
    }
    const joint = (2 * detectors.length) / inverse;
    judged.score = joint < 1 ? -Math.log10(joint) : 0;
    const wasOpen = this.episode !== undefined;
    if (wasOpen) judged.event = this.goOn(timestamp, value);
    else if (judged.score >= this.openAt) {
      judged.event = this.open(timestamp, value);
      judged.alert = true;
    }
    for (let i = 0; i < detectors.length; i++) {
      ranks[i]!.learn(scores[i]!);
      detectors[i]!.learn(value);
    }
    this.last = value;
    if (timestamp > this.lastTime) this.lastTime = timestamp;
    this.describeEpisode();
    return judged;
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
    this.describeEpisode();
  }

  private open(timestamp: number, value: number): AnomalyRecord {
    const { expected, lower, upper, score } = this.judged;
    const before = this.last;
    const jump = Number.isFinite(before) && Math.abs(value - before) > 0.8 * Math.abs(value - expected);
    const loud = this.detectors.filter((_, i) => -Math.log10(this.ranks[i]!.p(this.scores[i]!)) >= this.openAt);
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
      detectors: (loud.length > 0 ? loud : this.detectors).map((detector) => detector.name),
    };
    return this.record(this.episode, 'open', timestamp);
  }

  private goOn(timestamp: number, value: number): AnomalyRecord | null {
    const { expected, lower, upper, score } = this.judged;
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

  private describeEpisode(): void {
    const { judged, episode } = this;
    judged.active = episode !== undefined;
    judged.severity = episode ? severityOf(episode.score) : null;
    judged.type = episode?.type ?? null;
    judged.episode = episode?.id ?? null;
  }
}

function severityOf(score: number): Severity {
  return score >= 8 ? 'critical' : score >= 5 ? 'warning' : 'info';
}

function onceIn(score: number): string {
  return score >= 9 ? 'a thousand million' : Math.round(10 ** score).toLocaleString('en');
}
