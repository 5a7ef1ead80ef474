import type { ColdStartCause } from './invocation.js';

/** Buckets grow by this, so that a quantile is right to 2.5 per cent. */
const GROWTH = 1.05;
/** 1 µs. */
const SMALLEST_MS = 0.001;
/** Up to three hours. */
const BUCKETS = Math.ceil(Math.log(1e7 / SMALLEST_MS) / Math.log(GROWTH));

/** Durations in buckets of equal ratio. Memory: 4 KB. */
export class DurationHistogram {
  private readonly buckets = new Uint32Array(BUCKETS);
  count = 0;
  sumMs = 0;

  add(ms: number): void {
    const bucket = Math.floor(Math.log(Math.max(ms, SMALLEST_MS) / SMALLEST_MS) / Math.log(GROWTH));
    this.buckets[Math.min(BUCKETS - 1, bucket)]!++;
    this.count++;
    this.sumMs += ms;
  }

  /** @param q 0 to 1. NaN without durations. */
  quantile(q: number): number {
    const rank = Math.max(1, Math.ceil(q * this.count));
    let seen = 0;
    for (const [bucket, count] of this.buckets.entries()) {
      seen += count;
      if (seen >= rank && count > 0) return SMALLEST_MS * GROWTH ** (bucket + 0.5);
    }
    return Number.NaN;
  }

  /** How many were at most so long, for each bound; right to 5 per cent of the bound. @param boundsMs ascending */
  atMost(boundsMs: readonly number[]): number[] {
    let bucket = 0;
    let seen = 0;
    return boundsMs.map((bound) => {
      while (bucket < BUCKETS && SMALLEST_MS * GROWTH ** (bucket + 0.5) <= bound) seen += this.buckets[bucket++]!;
      return seen;
    });
  }

  get averageMs(): number {
    return this.count === 0 ? 0 : this.sumMs / this.count;
  }
}

/** Bounds of the duration histogram, ms. */
const BOUNDS_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

export interface FunctionMetrics {
  readonly totalInvocations: number;
  readonly successfulInvocations: number;
  /** Code of the error → calls. */
  readonly failedInvocations: Readonly<Record<string, number>>;
  /** Of all calls that ran, failures, time-outs and crashes too: those that are billed. */
  readonly averageDurationMs: number;
  readonly p50DurationMs: number;
  readonly p99DurationMs: number;
  readonly durations: {
    readonly sumMs: number;
    readonly count: number;
    /** Bound in ms → calls that took at most so long. */
    readonly atMost: readonly (readonly [boundMs: number, calls: number])[];
  };
  readonly coldStarts: number;
  readonly averageColdStartMs: number;
  readonly coldStartsByCause: Readonly<Partial<Record<ColdStartCause, number>>>;
  /** Calls refused because too many waited. */
  readonly throttles: number;
  readonly concurrency: number;
  readonly waiting: number;
  readonly instances: number;
  readonly idleInstances: number;
  readonly memoryBytes: number;
  /** Of the same calls as the bill's. */
  readonly gasUsed: number;
}

/** What is counted of one function, all its versions together. */
export class FunctionCounters {
  private successful = 0;
  private readonly failed = new Map<string, number>();
  private readonly durations = new DurationHistogram();
  private readonly colds = new Map<ColdStartCause, number>();
  private coldMs = 0;
  private gas = 0;

  succeeded(durationMs: number, gasUsed: number): void {
    this.successful++;
    this.ran(durationMs, gasUsed);
  }

  failedWith(code: string): void {
    this.failed.set(code, (this.failed.get(code) ?? 0) + 1);
  }

  /** A call that is billed has ended, well or not. */
  ran(durationMs: number, gasUsed: number): void {
    this.durations.add(durationMs);
    this.gas += gasUsed;
  }

  coldStart(cause: ColdStartCause, ms: number): void {
    this.colds.set(cause, (this.colds.get(cause) ?? 0) + 1);
    this.coldMs += ms;
  }

  read(): Omit<FunctionMetrics, 'concurrency' | 'waiting' | 'instances' | 'idleInstances' | 'memoryBytes'> {
    const failures = [...this.failed.values()].reduce((sum, count) => sum + count, 0);
    const coldStarts = [...this.colds.values()].reduce((sum, count) => sum + count, 0);
    const none = this.durations.count === 0;
    return {
      totalInvocations: this.successful + failures,
      successfulInvocations: this.successful,
      failedInvocations: Object.fromEntries(this.failed),
      averageDurationMs: this.durations.averageMs,
      p50DurationMs: none ? 0 : this.durations.quantile(0.5),
      p99DurationMs: none ? 0 : this.durations.quantile(0.99),
      durations: {
        sumMs: this.durations.sumMs,
        count: this.durations.count,
        atMost: this.durations.atMost(BOUNDS_MS).map((calls, i) => [BOUNDS_MS[i]!, calls] as const),
      },
      coldStarts,
      averageColdStartMs: coldStarts === 0 ? 0 : this.coldMs / coldStarts,
      coldStartsByCause: Object.fromEntries(this.colds),
      throttles: this.failed.get('IGU_FUNCTION_BUSY') ?? 0,
      gasUsed: this.gas,
    };
  }
}
