/**
 * How many instances a function needs for its load, as Knative's pod autoscaler decides it: a stable window that follows the mean, and a panic window that
 * follows a burst at once and lets nothing be stopped while it lasts.
 * Source: Knative Serving, autoscaling concepts (stable window 60 s, panic window a tenth of it, panic threshold 200 %).
 */

export interface AutoscalerOptions {
  /** Calls at once that one instance should have. */
  readonly targetConcurrency: number;
  readonly minInstances: number;
  readonly maxInstances: number;
  /** Default 60,000 ms. */
  readonly stableWindowMs?: number;
  /** Default 6,000 ms. */
  readonly panicWindowMs?: number;
  /** Load in the panic window against what is there, above which it is a burst (default 2). */
  readonly panicThreshold?: number;
  /** Time without load after which the last instance goes (default 300,000 ms). */
  readonly idleMs?: number;
}

export interface ScaleDecision {
  readonly instances: number;
  readonly reason: 'load' | 'burst' | 'forecast' | 'idle' | 'bounds';
  /** Mean calls at once over the windows. */
  readonly stable: number;
  readonly panic: number;
}

interface Sample {
  readonly at: number;
  readonly concurrency: number;
}

/** One function's. Cost: O(samples in the stable window) a decision. */
export class Autoscaler {
  private samples: Sample[] = [];
  private options: Required<AutoscalerOptions>;
  private panicUntil = Number.NEGATIVE_INFINITY;
  private panicInstances = 0;
  private lastLoad: number;

  /** @param now ms; a function without load is idle from then on */
  constructor(options: AutoscalerOptions, now: number) {
    this.options = withDefaults(options);
    this.lastLoad = now;
  }

  configure(options: AutoscalerOptions): void {
    this.options = withDefaults(options);
  }

  /**
   * @param at ms, not before the last sample's
   * @param concurrency calls that run or wait, and records that wait divided by the batch size
   */
  observe(at: number, concurrency: number): void {
    this.samples.push({ at, concurrency });
    if (concurrency > 0) this.lastLoad = at;
    const oldest = at - this.options.stableWindowMs;
    let drop = 0;
    while (this.samples[drop]!.at <= oldest) drop++;
    if (drop > 0) this.samples.splice(0, drop);
  }

  /**
   * @param running instances there are
   * @param floor instances that a forecast asks for (default 0)
   */
  decide(now: number, running: number, floor = 0): ScaleDecision {
    const { targetConcurrency, minInstances, maxInstances, idleMs, stableWindowMs, panicWindowMs, panicThreshold } =
      this.options;
    const stable = this.mean(now - stableWindowMs);
    const panic = this.mean(now - panicWindowMs);
    const wanted = (load: number) => Math.ceil(load / targetConcurrency - 1e-9);
    let reason: ScaleDecision['reason'] = 'load';
    let instances = wanted(stable);
    if (wanted(panic) >= panicThreshold * Math.max(1, running)) {
      if (now >= this.panicUntil) this.panicInstances = 0;
      this.panicUntil = now + stableWindowMs;
    }
    if (now < this.panicUntil) {
      this.panicInstances = Math.max(this.panicInstances, wanted(panic), running);
      if (this.panicInstances > instances) {
        instances = this.panicInstances;
        reason = 'burst';
      }
    }
    if (floor > instances) {
      instances = floor;
      reason = 'forecast';
    }
    if (instances === 0 && now - this.lastLoad < idleMs) instances = Math.min(1, running);
    else if (instances === 0) reason = 'idle';
    const bounded = Math.min(maxInstances, Math.max(minInstances, instances));
    return { instances: bounded, reason: bounded === instances ? reason : 'bounds', stable, panic };
  }

  private mean(since: number): number {
    let sum = 0;
    let count = 0;
    for (let i = this.samples.length - 1; i >= 0 && this.samples[i]!.at > since; i--) {
      sum += this.samples[i]!.concurrency;
      count++;
    }
    return count === 0 ? 0 : sum / count;
  }
}

function withDefaults(options: AutoscalerOptions): Required<AutoscalerOptions> {
  return { stableWindowMs: 60_000, panicWindowMs: 6_000, panicThreshold: 2, idleMs: 300_000, ...options };
}
