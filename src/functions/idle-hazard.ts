import type { StateReader, StateWriter } from '../state.js';
import type { KeepAlivePolicy, KeepAliveWindows } from './keep-alive.js';

const MINUTE_MS = 60_000;
const DAY_MINUTES = 1_440;
/** Bins are a minute, and from 50 minutes on a fiftieth of their time: up to two weeks. */
const SHARE = 0.02;
const LONGEST_MINUTES = 14 * DAY_MINUTES;
/** What was learnt counts for so much a day of idle time later: half of it in two weeks. */
const DAILY_MEMORY = 0.95;

/** Half of an octave: the neighbours of a time reach from it divided by this to it times this. */
const OCTAVE = Math.SQRT2;

/** Upper ends of the bins, minutes. */
const ENDS: Float64Array = (() => {
  const ends: number[] = [];
  for (let end = 1; end < LONGEST_MINUTES; end += Math.max(1, end * SHARE)) ends.push(end);
  ends.push(LONGEST_MINUTES);
  return Float64Array.from(ends);
})();
const BINS = ENDS.length;

export interface IdleHazardOptions {
  /** Minutes for which an instance may be idle to save one cold start (default 240). More: fewer cold starts, more idle memory. */
  readonly coldStartWorthMinutes?: number;
  /**
   * What is known of a function before its first idle times: as many idle times as this (default 1), with a Pareto tail of the shape that follows. The more
   * of its own there are, the less it counts.
   */
  readonly priorWeight?: number;
  /** Calls expected within a doubling of the idle time, divided by ln 2 (default 0.5). */
  readonly priorShape?: number;
  /** As many idle times as this are thought to go through each bin with the hazard of the octave around it (default 8): bridges bins that few went through. */
  readonly neighbourWeight?: number;
}

/**
 * Keeps an instance while the chance that the next minute brings a call is worth the minute. The chance after so long without a call, the hazard, is the share
 * of idle times that lasted so long and ended then, smoothed over neighbouring bins; what is worth it follows from what a cold start may cost. For idle
 * times that are known this is the policy with the fewest cold starts for its idle time: rules that keep one span (a fixed time, or from a low to a high
 * percentile) are special cases, and keep a function with bursts warm between them.
 * Cost: learning and windows O(bins that the idle time goes through), at most 360. Memory: 6 KB.
 */
export class IdleHazard implements KeepAlivePolicy {
  readonly name = 'idle-hazard';
  /** Idle times that ended in each bin, and minutes spent in it. */
  private readonly ended = new Float64Array(BINS);
  private readonly spent = new Float64Array(BINS);
  private sinceDecay = 0;
  private readonly options: Required<IdleHazardOptions>;
  private known: KeepAliveWindows | undefined;

  constructor(options: IdleHazardOptions = {}) {
    this.options = { coldStartWorthMinutes: 240, priorWeight: 1, priorShape: 0.5, neighbourWeight: 8, ...options };
  }

  learn(idleMs: number): void {
    const minutes = Math.max(0, idleMs) / MINUTE_MS;
    let bin = 0;
    for (let begin = 0; bin < BINS; begin = ENDS[bin++]!) {
      const end = ENDS[bin]!;
      if (minutes < end) {
        this.ended[bin]!++;
        this.spent[bin]! += minutes - begin;
        break;
      }
      this.spent[bin]! += end - begin;
    }
    this.sinceDecay += minutes;
    if (this.sinceDecay >= DAY_MINUTES) this.decay();
    this.known = undefined;
  }

  windows(withinMs = Number.POSITIVE_INFINITY): KeepAliveWindows {
    if (this.known) return this.known;
    const found = this.find(withinMs);
    if (withinMs >= LONGEST_MINUTES * MINUTE_MS) this.known = found;
    return found;
  }

  save(writer: StateWriter): void {
    writer.f64(this.sinceDecay).f64s(this.ended).f64s(this.spent);
  }

  restore(reader: StateReader): void {
    this.sinceDecay = reader.f64();
    for (const into of [this.ended, this.spent]) {
      const saved = reader.f64s();
      // an older release may have had other bins: what it learnt is learnt anew
      if (saved.length === BINS) into.set(saved);
    }
    this.known = undefined;
  }

  private decay(): void {
    const memory = DAILY_MEMORY ** (this.sinceDecay / DAY_MINUTES);
    this.sinceDecay = 0;
    for (let bin = 0; bin < BINS; bin++) {
      this.ended[bin]! *= memory;
      this.spent[bin]! *= memory;
    }
  }

  private find(withinMs: number): KeepAliveWindows {
    const { coldStartWorthMinutes, priorWeight, priorShape, neighbourWeight } = this.options;
    const warm: { fromMs: number; toMs: number }[] = [];
    // sums over the octave around a bin, which moves along with it
    let first = 0;
    let next = 0;
    let octaveEnded = 0;
    let octaveSpent = 0;
    for (let bin = 0, begin = 0; bin < BINS && begin * MINUTE_MS <= withinMs; begin = ENDS[bin++]!) {
      const end = ENDS[bin]!;
      for (; next < BINS && (next <= bin || ENDS[next]! <= end * OCTAVE); next++) {
        octaveEnded += this.ended[next]!;
        octaveSpent += this.spent[next]!;
      }
      for (; ENDS[first]! < end / OCTAVE; first++) {
        octaveEnded -= this.ended[first]!;
        octaveSpent -= this.spent[first]!;
      }
      // of the idle times that are known beforehand so many last so long, and go on with a hazard of shape / time
      const left = priorWeight * (begin + 1) ** -priorShape;
      const priorSpent = left * (ENDS[next - 1]! - (first === 0 ? 0 : ENDS[first - 1]!));
      const around = (octaveEnded + (priorSpent * priorShape) / (begin + 1)) / (octaveSpent + priorSpent);
      const [ended, spent] = [this.smooth(this.ended, bin), this.smooth(this.spent, bin)];
      const blend = (weight: number): number => {
        const width = weight * (end - begin);
        return (ended + width * around) / (spent + width);
      };
      const worth = 1 / coldStartWorthMinutes;
      let keep = blend(neighbourWeight) >= worth;
      // where the bin and its neighbours do not agree it matters how alike the neighbours are
      if (spent > 0 && keep !== ended / spent >= worth) {
        keep = blend(neighbourWeight * (1 - this.concentration(first, next, octaveEnded)) ** 2) >= worth;
      }
      if (!keep) continue;
      const before = warm.at(-1);
      if (before && before.toMs === begin * MINUTE_MS) before.toMs = end * MINUTE_MS;
      else warm.push({ fromMs: begin * MINUTE_MS, toMs: end * MINUTE_MS });
    }
    const prewarmMs = warm[0]?.fromMs ?? 0;
    return { prewarmMs, keepAliveMs: (warm.at(-1)?.toMs ?? 0) - prewarmMs, warm, tier: 'hazard' };
  }

  /** 0 when idle times of an octave are spread over it, towards 1 the more of them end in the same three bins. */
  private concentration(first: number, next: number, all: number): number {
    let most = 0;
    for (let bin = first; bin < next; bin++) {
      most = Math.max(most, (this.ended[bin - 1] ?? 0) + this.ended[bin]! + (this.ended[bin + 1] ?? 0));
    }
    // one alone is alike to itself, and says nothing
    return all > 0 ? Math.min(1, Math.max(0, most - 1) / all) : 0;
  }

  /** A function that comes now and then a little earlier or later has its neighbours' share. */
  private smooth(of: Float64Array, bin: number): number {
    const before = bin === 0 ? of[0]! : of[bin - 1]!;
    const after = bin === BINS - 1 ? of[bin]! : of[bin + 1]!;
    return 0.25 * before + 0.5 * of[bin]! + 0.25 * after;
  }
}
