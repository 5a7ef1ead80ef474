import type { GpuAllocator } from './allocator.js';
import type { Allocation, Reservation } from './ledger.js';

/** GPUs that an owner will ask for anew within a time, as a forecast tells it. */
export interface GpuDemandForecast {
  /** From now on, ms. */
  readonly horizonMs: number;
  /** Expected number of GPUs. */
  readonly value: number;
  /** It will not be more than this with a probability of `level`. */
  readonly upper: number;
  /** Above 0.5 and below 1, as 0.9. */
  readonly level: number;
}

/** Whoever forecasts; undefined: nothing can be said. The horizon is the time that a GPU takes to get plus the time until the next look. */
export type GpuForecaster = (owner: string, model: string, horizonMs: number) => GpuDemandForecast | undefined;

export interface PreallocationCosts {
  /** Of a workload that waits for a GPU, an hour, in units of an idle GPU-hour (default 5). Raise it to wait less and keep more idle. */
  readonly waiting?: number;
  /** Idle reserved GPU-hours at most, as a part of the GPU-hours used (default 0.05). */
  readonly idleBudget?: number;
  /** What it takes to get a GPU that was not reserved, ms (default 240,000). */
  readonly leadMs?: number;
  /** Time from one look to the next, ms (default 60,000). */
  readonly reviewMs?: number;
  /** Looks over which skill is judged: older ones count half after so many (default 720). */
  readonly memory?: number;
  /** Part of the on-demand cost that reservations must have saved to be made (default 0.2). */
  readonly margin?: number;
}

export interface PreallocationDecision {
  /** GPUs to keep ready or on their way. */
  readonly target: number;
  readonly why: string;
}

interface Trial {
  readonly until: number;
  readonly target: number;
  readonly asked: number;
}

/**
 * How many GPUs to keep for one owner and model before they are asked for. One more is kept while what it is expected to save in waiting is more than what it costs idle: with
 * demand D over the time it takes to get a GPU, the k-th is kept while
 *
 *     P(D ≥ k) · waiting · lead  >  P(D < k) · (lead + review) · price
 *
 * D is negative binomial with the forecast's mean and a variance from its upper quantile, never less than Poisson. Each decision is tried on paper first, against what then came:
 * nothing is kept while that would not have been cheaper than asking when needed, nor beyond the budget of idle hours, whose
 * price is 1 and rises when the budget is nearly used up.
 * Cost: O(target) a decision.
 * Source: the newsvendor problem; base-stock policy with lead time (Zipkin, Foundations of Inventory Management, chapter 6).
 */
export class PreallocationPolicy {
  private readonly waiting: number;
  private readonly budget: number;
  readonly leadMs: number;
  readonly reviewMs: number;
  private readonly keep: number;
  private readonly margin: number;
  private readonly trials: Trial[] = [];
  private asked = 0;
  /** GPU-milliseconds. */
  private used = 0;
  private idle = 0;
  /** Of asking when needed, and of what was decided, older ones fading. */
  private onDemandCost = 0;
  /** Of an idle GPU-hour: rises while the budget is nearly used up, so that it goes where it saves most. */
  private price = 1;
  private trusted = false;
  private trialCost = 0;

  constructor({
    waiting = 5,
    idleBudget = 0.05,
    leadMs = 240_000,
    reviewMs = 60_000,
    memory = 720,
    margin = 0.2,
  }: PreallocationCosts = {}) {
    const positive = [waiting, leadMs, reviewMs, memory].every((value) => value > 0 && Number.isFinite(value));
    if (!positive || !(idleBudget >= 0) || !(margin >= 0)) throw new RangeError('costs and times are above 0');
    this.waiting = waiting;
    this.budget = idleBudget;
    this.leadMs = leadMs;
    this.reviewMs = reviewMs;
    this.keep = 0.5 ** (1 / memory);
    this.margin = margin;
  }

  /** What happened since the last look: GPUs asked for, and GPU-milliseconds used and kept idle. */
  observe(asked: number, usedMs: number, idleMs: number): void {
    if (![asked, usedMs, idleMs].every((value) => value >= 0 && Number.isFinite(value)))
      throw new RangeError('what happened is counted in numbers from 0');
    this.asked += asked;
    this.used += usedMs;
    this.idle += idleMs;
  }

  /** Part of the on-demand cost that the decisions so far would have saved; below 0: they would have cost more. */
  get skill(): number {
    return this.onDemandCost > 0 ? 1 - this.trialCost / this.onDemandCost : 0;
  }

  /** Idle reserved GPU-time as a part of what was used. */
  get idleShare(): number {
    return this.used > 0 ? this.idle / this.used : 0;
  }

  decide(now: number, forecast: GpuDemandForecast | undefined): PreallocationDecision {
    this.judge(now);
    if (!forecast) return { target: 0, why: 'there is no forecast' };
    const short = this.idleShare > NEARLY * this.budget;
    this.price = short ? this.price * (1 + PRICE_STEP) : Math.max(1, this.price * (1 - PRICE_STEP));
    const wanted = this.wanted(forecast);
    this.trials.push({ until: now + this.leadMs + this.reviewMs, target: wanted, asked: this.asked });
    if (wanted === 0) return { target: 0, why: 'none is worth its idle time' };
    this.trusted = this.skill > (this.trusted ? this.margin * STAY : this.margin);
    if (!this.trusted)
      return { target: 0, why: `its forecasts would have saved ${percent(this.skill)}: asked for when needed` };
    const allowed = Math.floor((this.budget * this.used - this.idle) / this.reviewMs);
    if (allowed < wanted)
      return {
        target: Math.max(0, allowed),
        why: `${wanted} are worth it, the idle budget allows ${Math.max(0, allowed)}`,
      };
    return { target: wanted, why: `${forecast.value.toFixed(1)} are expected, at most ${forecast.upper.toFixed(1)}` };
  }

  /** Compares what was decided with what came. */
  private judge(now: number): void {
    const { leadMs, reviewMs, waiting } = this;
    while (this.trials.length > 0 && this.trials[0]!.until <= now) {
      const { target, asked } = this.trials.shift()!;
      const came = this.asked - asked;
      const wait = waiting * leadMs;
      const unused = Math.max(0, target - came) * (leadMs + reviewMs);
      this.onDemandCost = this.onDemandCost * this.keep + wait * came;
      this.trialCost = this.trialCost * this.keep + wait * Math.max(0, came - target) + unused;
    }
  }

  private wanted({ value, upper, level, horizonMs }: GpuDemandForecast): number {
    const { leadMs, reviewMs, waiting } = this;
    const span = (leadMs + reviewMs) / horizonMs;
    const mean = value * span;
    if (!(mean > 0) || !Number.isFinite(upper) || !(level > 0.5 && level < 1)) return 0;
    const deviation = Math.max(0, upper - value) / normalQuantile(level);
    const atLeast = exceedance(mean, Math.max(mean, deviation * deviation * span));
    const idle = this.price * (leadMs + reviewMs);
    const critical = idle / (waiting * leadMs + idle);
    let target = 0;
    while (target < MAX_TARGET && atLeast(target + 1) > critical) target++;
    return target;
  }
}

/** What began is kept up while it saves this part of the margin: to stop and begin again costs both. */
const STAY = 0.25;

/** From this part of the budget on its price rises, by so much a look; it falls again below. */
const NEARLY = 0.95;
const PRICE_STEP = 0.002;

/** GPUs kept for one owner and model at most. */
const MAX_TARGET = 10_000;

/** P(D ≥ k) for k ascending, D negative binomial with this mean and variance (Poisson when they are equal). */
function exceedance(mean: number, variance: number): (k: number) => number {
  const size = variance > mean * (1 + 1e-9) ? (mean * mean) / (variance - mean) : Number.POSITIVE_INFINITY;
  const p = Number.isFinite(size) ? size / (size + mean) : 1;
  let log = Number.isFinite(size) ? size * Math.log(p) : -mean;
  let below = Math.exp(log);
  let at = 0;
  return (k) => {
    while (at < k - 1) {
      at++;
      log += Number.isFinite(size) ? Math.log(((size + at - 1) / at) * (1 - p)) : Math.log(mean / at);
      below += Math.exp(log);
    }
    return Math.max(0, 1 - below);
  };
}

/** For 0.5 to 1, to 5e-4. Source: Abramowitz and Stegun, 26.2.23. */
function normalQuantile(p: number): number {
  const t = Math.sqrt(-2 * Math.log(1 - p));
  return t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
}

function percent(part: number): string {
  return `${(100 * part).toFixed(0)} %`;
}

export interface PreallocationReport extends PreallocationDecision {
  readonly owner: string;
  readonly model: string;
  readonly reserved: number;
  readonly givenBack: number;
  /** That the cluster has no room for. */
  readonly missing: number;
}

/** Whose GPUs are kept, and what idle and waiting cost. */
export interface PreallocationRule extends PreallocationCosts {
  readonly owner: string;
  /** As the owner's requests name it. */
  readonly model: string;
}

/**
 * Keeps reservations of single GPUs for one owner and model as the policy says. Call `review` at least every `reviewMs`: it makes those that are missing, prolongs those that are still
 * wanted and gives back the others; a process that dies takes nothing with it, since reservations end by themselves.
 */
export class Preallocation {
  private readonly policy: PreallocationPolicy;
  /** The last look. */
  private at: number | undefined;
  /** GPUs asked for since then, of allocations that were told of. */
  private asked = 0;
  /** Allocations that are counted. */
  private seen = new Set<string>();
  /** Reservations that it made at the last look. */
  private readonly made = new Set<string>();
  private last: PreallocationReport | undefined;

  constructor(
    private readonly allocator: GpuAllocator,
    private readonly forecast: GpuForecaster,
    private readonly rule: PreallocationRule,
  ) {
    this.policy = new PreallocationPolicy(rule);
  }

  /** Of the last look; undefined before the first. */
  get report(): PreallocationReport | undefined {
    return this.last;
  }

  /** Tells of an allocation when it is made: one that ends before the next look was asked for all the same. */
  allocated({ id, owner, request, holdings }: Allocation): void {
    // the first look counts what it finds
    if (this.at === undefined || owner !== this.rule.owner || this.seen.has(id)) return;
    if (!asksFor(request, this.rule.model)) return;
    this.seen.add(id);
    this.asked += holdings.length;
  }

  /** A look, when one is due. A clock that was set back has measured nothing. */
  review(now: number): void {
    const { policy, made, seen, at = now } = this;
    if (this.at !== undefined && Math.abs(now - at) < policy.reviewMs) return;
    const { owner, model } = this.rule;
    const mine: Reservation[] = [];
    let held = 0;
    let { asked } = this;
    this.asked = 0;
    const there = new Set<string>();
    for (const record of this.allocator.ledger.ofOwner(owner)) {
      if (!asksFor(record.request, model)) continue;
      if (record.kind === 'reservation') {
        // others are somebody's who knows why
        if (made.has(record.id)) mine.push(record);
        continue;
      }
      held += record.holdings.length;
      there.add(record.id);
      if (!seen.has(record.id)) asked += record.holdings.length;
    }
    this.seen = there;
    const span = Math.max(0, now - at);
    this.at = now;
    policy.observe(asked, held * span, mine.length * span);
    const decision = policy.decide(now, this.forecast(owner, model, policy.leadMs + policy.reviewMs));
    // Prolonged by a new one in the place of the old: a reservation lasts two looks.
    for (const { id } of mine) this.allocator.release(id, mine.length > decision.target ? decision.why : 'prolonged');
    made.clear();
    while (made.size < decision.target) {
      const answer = this.allocator.reserve(owner, { model, gpuCount: 1 }, 2 * policy.reviewMs);
      if ('granted' in answer) break;
      made.add(answer.id);
    }
    const reserved = made.size;
    const givenBack = Math.max(0, mine.length - reserved);
    this.last = { ...decision, owner, model, reserved, givenBack, missing: decision.target - reserved };
  }
}

function asksFor(request: string, model: string): boolean {
  const asked: unknown = JSON.parse(request);
  return typeof asked === 'object' && asked !== null && 'model' in asked && asked.model === model;
}
