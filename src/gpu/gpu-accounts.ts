import { countedMilli, type LedgerRecord } from './ledger.js';
import { WHOLE_GPU } from './placement/demand.js';
import type { GpuEvent } from './scheduler.js';

const HOUR_MS = 3_600_000;
/** Ends whose reason is kept: whoever had it asks within the time of a lease. */
const KEPT_ENDS = 1_000;

interface Held {
  readonly kind: LedgerRecord['kind'];
  readonly gpus: number;
}

/** Adds up what events tell: how often, how long, and what was reserved for nothing. Cost: O(GPUs of the record) an event. */
export class GpuAccounts {
  granted = 0;
  refused = 0;
  expired = 0;
  preempted = 0;
  private waitedMs = 0;
  /** Why allocations and reservations ended, the newest last. */
  private readonly ends = new Map<string, string>();
  private readonly held = new Map<string, Held>();
  private readonly gpus = { allocation: 0, reservation: 0 };
  private readonly gpuMs = { allocation: 0, reservation: 0 };
  private at: number | undefined;

  /** Mean over grants, ms; null: there were none. */
  get averageWaitMs(): number | null {
    return this.granted > 0 ? this.waitedMs / this.granted : null;
  }

  /** Why an allocation or reservation ended, half a sentence; undefined: it did not, or too many have since, or nobody told. */
  endOf(id: string): string | undefined {
    return this.ends.get(id);
  }

  /** GPUs that are held now, a share counting as its part. */
  heldBy(kind: LedgerRecord['kind']): number {
    return this.gpus[kind];
  }

  /** GPU-hours until now. */
  hoursOf(kind: LedgerRecord['kind'], now: number): number {
    this.until(now);
    return this.gpuMs[kind] / HOUR_MS;
  }

  /** What is there when counting begins. */
  begin(records: Iterable<LedgerRecord>, now: number): void {
    this.at = now;
    for (const record of records) this.put(record.id, record);
  }

  observe({ type, id, at, record, waitedMs, why }: GpuEvent): void {
    if (type === 'refused') this.refused++;
    if (type === 'confirmed' || type === 'waiting' || type === 'refused' || type === 'forgotten' || type === 'mark')
      return;
    if (type === 'allocated') {
      this.granted++;
      this.waitedMs += waitedMs;
    } else if (type === 'expired') this.expired++;
    else if (type === 'preempted') this.preempted++;
    if (record === null) this.keepEnd(id, endText(type, why));
    this.until(at);
    this.put(id, record);
  }

  /** It is over; why is not known. */
  forget(id: string, now: number): void {
    this.until(now);
    this.put(id, null);
  }

  private keepEnd(id: string, why: string): void {
    this.ends.delete(id);
    this.ends.set(id, why);
    if (this.ends.size > KEPT_ENDS) this.ends.delete(this.ends.keys().next().value!);
  }

  private put(id: string, record: LedgerRecord | null): void {
    const before = this.held.get(id);
    if (before) {
      this.gpus[before.kind] -= before.gpus;
      this.held.delete(id);
    }
    if (!record) return;
    const gpus = countedMilli(record.holdings) / WHOLE_GPU;
    this.held.set(id, { kind: record.kind, gpus });
    this.gpus[record.kind] += gpus;
  }

  /** Clocks of several schedulers may differ: time never goes back. */
  private until(now: number): void {
    if (this.at === undefined) this.at = now;
    const span = now - this.at;
    if (span <= 0) return;
    this.at = now;
    this.gpuMs.allocation += this.gpus.allocation * span;
    this.gpuMs.reservation += this.gpus.reservation * span;
  }
}

function endText(type: GpuEvent['type'], why: string): string {
  if (type === 'preempted') return `another of higher priority took its GPUs (${why})`;
  return type === 'expired' ? `its time was over (${why})` : why;
}
