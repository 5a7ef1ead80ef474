import type { FunctionApi } from './function-api.js';

/** What the page shows of a function. */
export interface ShownFunction {
  readonly name: string;
  readonly version: number;
  readonly runtime: 'javascript' | 'wasm';
  readonly paused: boolean;
  /** What starts it, shortly. */
  readonly triggers: readonly string[];
  readonly instances: number;
  readonly idleInstances: number;
  readonly concurrency: number;
  readonly waiting: number;
  /** Calls a second over the last ten seconds. */
  readonly rate: number;
  /** Cold starts by calls since the process started, 0 to 1; null before the first call. */
  readonly coldShare: number | null;
  /** Failed calls by calls, 0 to 1; null before the first. */
  readonly failedShare: number | null;
  /** ms; null before the first call. */
  readonly p99Ms: number | null;
  /** Records that its stream and queue triggers have not handled yet; null without such a trigger. */
  readonly lag: number | null;
  /** Since the first of the month in UTC, US dollars; null while it is not known. */
  readonly costUsd: number | null;
}

const RATE_OVER_MS = 10_000;
/** Costs are asked for less often: they are a sum over all records. */
const COST_EVERY_MS = 10_000;

interface Past {
  /** Times and calls until then, oldest first. */
  readonly totals: { at: number; calls: number }[];
  costAt: number;
  costUsd: number | null;
}

/** Makes the page's rows; remembers of each function what a rate is made of. Cost: O(functions) a call. */
export class FunctionRows {
  private past = new Map<string, Past>();

  constructor(private readonly functions: FunctionApi) {}

  /** @param now ms since 1970 */
  read(now: number): ShownFunction[] {
    const kept = new Map<string, Past>();
    const rows = this.functions.list().map(({ name, version, definition }): ShownFunction => {
      const metrics = this.functions.metrics(name);
      const { paused, triggers } = this.functions.stats(name);
      const past = this.past.get(name) ?? { totals: [], costAt: Number.NEGATIVE_INFINITY, costUsd: null };
      kept.set(name, past);
      const calls = metrics.totalInvocations;
      const lags = triggers.flatMap(({ lag }) => (lag === undefined ? [] : [lag]));
      this.price(name, past, now);
      return {
        name,
        version,
        runtime: definition.runtime,
        paused,
        triggers: triggers.map(({ type, source }) => `${type} ${source}`),
        instances: metrics.instances,
        idleInstances: metrics.idleInstances,
        concurrency: metrics.concurrency,
        waiting: metrics.waiting,
        rate: rateOf(past, now, calls),
        coldShare: calls === 0 ? null : metrics.coldStarts / calls,
        failedShare: calls === 0 ? null : 1 - metrics.successfulInvocations / calls,
        p99Ms: calls === 0 ? null : metrics.p99DurationMs,
        lag: lags.length === 0 ? null : lags.reduce((sum, lag) => sum + lag, 0),
        costUsd: past.costUsd,
      };
    });
    this.past = kept;
    return rows;
  }

  /** Asks; a later row has the answer. */
  private price(name: string, past: Past, now: number): void {
    if (now - past.costAt < COST_EVERY_MS) return;
    past.costAt = now;
    const date = new Date(now);
    const start = Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
    Promise.resolve()
      .then(() => this.functions.billing(name, { start }))
      .then(
        ({ estimatedCostUsd }) => {
          past.costUsd = estimatedCostUsd;
        },
        () => {
          // Deleted meanwhile, or the records cannot be read now: the row says that the cost is not known.
          past.costUsd = null;
        },
      );
  }
}

function rateOf({ totals }: Past, now: number, calls: number): number {
  totals.push({ at: now, calls });
  while (totals.length > 2 && now - totals[1]!.at >= RATE_OVER_MS) totals.shift();
  const [oldest] = totals;
  return now > oldest!.at ? ((calls - oldest!.calls) * 1000) / (now - oldest!.at) : 0;
}
