import { IguanaError } from '../errors.js';
import { gpuLedgerLimits } from '../limits.js';
import { WHOLE_GPU } from './placement/demand.js';

/** How GPUs are shared; docs/gpu-placement.md tells what each enforces. */
export const sharingModes = ['exclusive', 'shared', 'time-slicing', 'mps', 'mig', 'partition'] as const;
export type SharingMode = (typeof sharingModes)[number];

/** What is held of one GPU. */
export interface GpuHolding {
  readonly node: string;
  readonly gpuId: string;
  readonly mode: SharingMode;
  /** MiB that are counted as taken; null: how much it has is not known, or nothing limits it. */
  readonly memoryMb: number | null;
  /** Thousandths of its compute that are counted as taken. */
  readonly shareMilli: number;
  /** A MIG instance or AMD partition: its id (null: still to be made), profile, and first memory slice where it has one. */
  readonly partition?: { readonly id: string | null; readonly profile: string; readonly start: number | null };
}

/** GPUs that a workload has. */
export interface Allocation {
  readonly kind: 'allocation';
  readonly id: string;
  readonly instance: string;
  readonly owner: string;
  readonly priority: number;
  readonly gang: string | null;
  /** What was asked for, as canonical text: the same request again gets the same answer. */
  readonly request: string;
  readonly holdings: readonly GpuHolding[];
  readonly environment: Readonly<Record<string, string>>;
  /** ms since 1970. */
  readonly since: number;
  /** A heartbeat makes it last so long again, ms; null: until it is released. */
  readonly leaseMs: number | null;
  readonly expiresAt: number | null;
}

/** GPUs kept for an owner. */
export interface Reservation {
  readonly kind: 'reservation';
  readonly id: string;
  readonly owner: string;
  readonly request: string;
  readonly holdings: readonly GpuHolding[];
  readonly since: number;
  readonly expiresAt: number;
}

export type LedgerRecord = Allocation | Reservation;

export type LedgerEventType =
  | 'allocated'
  | 'renewed'
  | 'partitioned'
  | 'released'
  | 'preempted'
  | 'expired'
  | 'reserved'
  | 'used'
  | 'reduced';

/**
 * One change of one record, with all of the record after it (null: it is over). So the last event of each id, in order, is enough to rebuild the ledger: what a compacted topic
 * keyed by id keeps.
 */
export interface LedgerEvent {
  readonly type: LedgerEventType;
  readonly sequence: number;
  readonly id: string;
  /** ms since 1970. */
  readonly at: number;
  /** One sentence. */
  readonly why: string;
  readonly record: LedgerRecord | null;
}

export interface LedgerState {
  readonly version: 1;
  readonly sequence: number;
  readonly records: readonly LedgerRecord[];
}

/** A record that holds something of a GPU. */
export interface GpuHolder {
  readonly record: LedgerRecord;
  readonly holding: GpuHolding;
}

/**
 * Who holds which GPUs: nothing but the events, applied. It decides nothing and reads no clock, so the same events give the same state anywhere.
 * Cost: O(GPUs of the record) an event.
 */
export class Ledger {
  private readonly records = new Map<string, LedgerRecord>();
  private readonly holders = new Map<string, Map<string, GpuHolder[]>>();
  private readonly byInstance = new Map<string, string>();
  private readonly byOwner = new Map<string, Map<string, LedgerRecord>>();
  private last = 0;

  /** Of the newest event. */
  get sequence(): number {
    return this.last;
  }

  get size(): number {
    return this.records.size;
  }

  get(id: string): LedgerRecord | undefined {
    return this.records.get(id);
  }

  all(): IterableIterator<LedgerRecord> {
    return this.records.values();
  }

  /** By id of the record, or name of the instance. */
  find(idOrInstance: string): LedgerRecord | undefined {
    return this.get(idOrInstance) ?? this.allocationOf(idOrInstance);
  }

  allocationOf(instance: string): Allocation | undefined {
    const record = this.records.get(this.byInstance.get(instance) ?? '');
    return record?.kind === 'allocation' ? record : undefined;
  }

  /** Allocations of a gang. Cost: O(records). */
  ofGang(gang: string): Allocation[] {
    return [...this.records.values()].filter(
      (one): one is Allocation => one.kind === 'allocation' && one.gang === gang,
    );
  }

  /** Records of an owner, in no order. */
  ofOwner(owner: string): Iterable<LedgerRecord> {
    return this.byOwner.get(owner)?.values() ?? [];
  }

  /** Holders of a GPU, in no order. */
  holdersOf(gpuId: string): GpuHolder[] {
    const byRecord = this.holders.get(gpuId);
    return byRecord ? [...byRecord.values()].flat() : [];
  }

  /** The event that comes next, not applied. */
  next(type: LedgerEventType, id: string, at: number, why: string, record: LedgerRecord | null): LedgerEvent {
    return { type, sequence: this.last + 1, id, at, why, record };
  }

  /** False: an event that was applied already (topics may deliver twice); nothing changes then. */
  apply(event: LedgerEvent): boolean {
    if (event.sequence <= this.last) return false;
    this.last = event.sequence;
    this.put(event.id, event.record ?? undefined);
    return true;
  }

  /** A compacted topic says that it is over, and has no longer the event that ended it. */
  forget(id: string): void {
    this.put(id, undefined);
  }

  /** Takes back events that were applied last and told to nobody. */
  rollBack(sequence: number, before: ReadonlyMap<string, LedgerRecord | undefined>): void {
    this.last = sequence;
    for (const [id, record] of before) this.put(id, record);
  }

  save(): LedgerState {
    return { version: 1, sequence: this.last, records: [...this.records.values()] };
  }

  /** @throws IguanaError `IGU_GPU_LEDGER` when it is not what `save` gave */
  static restore(state: LedgerState): Ledger {
    if (state.version !== 1 || !Number.isSafeInteger(state.sequence) || !Array.isArray(state.records))
      throw unreadable('it is not of version 1');
    if (state.records.length > gpuLedgerLimits.maxRecords)
      throw unreadable(`${state.records.length} records are more than ${gpuLedgerLimits.maxRecords}`);
    const ledger = new Ledger();
    for (const record of state.records) {
      const known = typeof record?.id === 'string' && ['allocation', 'reservation'].includes(record.kind);
      if (!known || !Array.isArray(record.holdings)) throw unreadable('a record has no id, kind or holdings');
      if (ledger.records.has(record.id)) throw unreadable(`${record.id} is there twice`);
      ledger.put(record.id, record);
    }
    ledger.last = state.sequence;
    return ledger;
  }

  private put(id: string, record: LedgerRecord | undefined): void {
    const before = this.records.get(id);
    if (before) {
      for (const { gpuId } of before.holdings) {
        const holders = this.holders.get(gpuId);
        holders?.delete(id);
        if (holders?.size === 0) this.holders.delete(gpuId);
      }
      if (before.kind === 'allocation' && this.byInstance.get(before.instance) === id)
        this.byInstance.delete(before.instance);
      this.records.delete(id);
      const own = this.byOwner.get(before.owner);
      own?.delete(id);
      if (own?.size === 0) this.byOwner.delete(before.owner);
    }
    if (!record) return;
    this.records.set(id, record);
    const own = this.byOwner.get(record.owner);
    if (own) own.set(id, record);
    else this.byOwner.set(record.owner, new Map([[id, record]]));
    if (record.kind === 'allocation') this.byInstance.set(record.instance, id);
    for (const holding of record.holdings) {
      let holders = this.holders.get(holding.gpuId);
      if (!holders) {
        holders = new Map();
        this.holders.set(holding.gpuId, holders);
      }
      const list = holders.get(id);
      if (list) list.push({ record, holding });
      else holders.set(id, [{ record, holding }]);
    }
  }
}

/** Thousandths of GPUs as quotas count them: a place for time-slicing or MPS as its part. */
export function countedMilli(holdings: readonly GpuHolding[]): number {
  return holdings.reduce((sum, { mode, shareMilli }) => sum + (mode === 'exclusive' ? WHOLE_GPU : shareMilli), 0);
}

function unreadable(what: string): IguanaError {
  return new IguanaError('IGU_GPU_LEDGER', { what });
}
