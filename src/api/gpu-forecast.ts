import type { GpuRequest } from '../gpu/allocator-rules.js';
import { releaseIfThere } from '../gpu/gpu-over.js';
import type { GpuService } from '../gpu/gpu-service.js';
import type { Reservation } from '../gpu/ledger.js';
import {
  type GpuDemandForecast,
  type PreallocationCosts,
  type PreallocationDecision,
  PreallocationPolicy,
} from '../gpu/preallocation.js';
import { SeriesForecaster } from '../models/series-forecaster.js';

/** How it stands with what is kept ready. */
export interface GpuReadiness extends PreallocationDecision {
  /** GPUs that are kept. */
  readonly reserved: number;
  /** GPUs that there is no room for. */
  readonly missing: number;
}

/** A reservation lasts so many looks: whoever made it may die. */
const TTL_LOOKS = 3;
/** It is made anew when less than this is left of it, looks. */
const RENEW_LOOKS = 1.5;
const LEVEL = 90;

/**
 * Forecasts how many GPUs one owner will ask for, and keeps those ready that are worth their idle time. Demand is counted from the ledger, a look a step; reservations are of one
 * instance's GPUs each, so that an instance finds them together.
 * Cost: O(records of the ledger) and one forecast of the ensemble a look.
 */
export class GpuForecast {
  readonly reviewMs: number;
  private readonly policy: PreallocationPolicy;
  private readonly forecaster: SeriesForecaster;
  private readonly horizons: readonly number[];
  private seen = new Set<string>();
  /** Ids of what was reserved here: an owner may have other reservations. */
  private made = new Set<string>();
  private lastAt: number;
  /** Start of the step that the last look ended: looks come late and early, steps do not. */
  private step: number;

  /**
   * @param request what one instance asks for
   */
  constructor(
    private readonly service: GpuService,
    private readonly owner: string,
    private readonly request: GpuRequest,
    now: number,
    costs: PreallocationCosts = {},
  ) {
    this.policy = new PreallocationPolicy(costs);
    const { leadMs, reviewMs } = this.policy;
    this.reviewMs = reviewMs;
    this.forecaster = new SeriesForecaster({ stepMs: reviewMs });
    this.horizons = Array.from({ length: Math.max(1, Math.ceil((leadMs + reviewMs) / reviewMs)) }, (_, i) => i + 1);
    this.lastAt = now;
    this.step = Math.floor(now / reviewMs) * reviewMs;
    // what is held already was asked for before
    this.count();
  }

  /** One look: counts what was asked for since the last one, decides, and brings reservations to that. Call it every `reviewMs`. */
  async review(now: number): Promise<GpuReadiness> {
    const { asked, held, kept } = this.count();
    const span = Math.max(0, now - this.lastAt);
    this.lastAt = now;
    this.policy.observe(asked, held * span, gpusOf(kept) * span);
    this.forecaster.learn(this.step, asked);
    this.forecaster.finish();
    this.step += this.reviewMs;
    const decision = this.policy.decide(now, this.forecast());
    const reserved = await this.bringTo(decision.target, kept, now);
    return { ...decision, reserved, missing: Math.max(0, decision.target - reserved) };
  }

  private count(): { asked: number; held: number; kept: Reservation[] } {
    let asked = 0;
    let held = 0;
    const kept: Reservation[] = [];
    const there = new Set<string>();
    for (const record of this.service.records()) {
      if (record.owner !== this.owner) continue;
      if (record.kind === 'reservation') {
        if (this.made.has(record.id)) kept.push(record);
        continue;
      }
      held += record.holdings.length;
      there.add(record.id);
      if (!this.seen.has(record.id)) asked += record.holdings.length;
    }
    this.seen = there;
    // those that were used or have ended are none any more
    this.made = new Set(kept.map(({ id }) => id));
    return { asked, held, kept };
  }

  private forecast(): GpuDemandForecast | undefined {
    if (!this.forecaster.ready) return undefined;
    const points = this.forecaster.forecast(this.horizons, [LEVEL]);
    if (points.length === 0) return undefined;
    let value = 0;
    let above = 0;
    for (const point of points) {
      const expected = Math.max(0, point.value);
      value += expected;
      // steps err each for itself
      above += (Math.max(expected, point.intervals[0]!.upper) - expected) ** 2;
    }
    const horizonMs = points.length * this.reviewMs;
    // an interval of 90 % has 95 % below its upper bound
    return { horizonMs, value, upper: value + Math.sqrt(above), level: (1 + LEVEL / 100) / 2 };
  }

  private async bringTo(target: number, kept: readonly Reservation[], now: number): Promise<number> {
    const unit = this.request.gpuCount ?? 1;
    const wanted = Math.ceil(target / unit);
    // what lasts longest stays
    const order = [...kept].sort((a, b) => b.expiresAt - a.expiresAt);
    let units = 0;
    for (const { id, expiresAt } of order) {
      if (units < wanted && expiresAt - now >= RENEW_LOOKS * this.reviewMs) units++;
      else {
        await releaseIfThere(this.service, id);
        this.made.delete(id);
      }
    }
    while (units < wanted) {
      const answer = await this.service.reserve(this.owner, this.request, TTL_LOOKS * this.reviewMs);
      if ('granted' in answer) break;
      this.made.add(answer.id);
      units++;
    }
    return units * unit;
  }

  /** Gives back what is kept. */
  async end(): Promise<void> {
    await this.bringTo(0, this.count().kept, this.lastAt);
  }
}

function gpusOf(reservations: readonly Reservation[]): number {
  return reservations.reduce((sum, { holdings }) => sum + holdings.length, 0);
}
