import { usageLimits } from '../limits.js';
import { type Bill, defaultPrices, type PriceTable, type UsageRecord, UsageSums, usageIdentity } from './billing.js';
import { IdentitySet } from './identity-set.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;

/** ms since 1970; `start` is included, `end` is not. Default: all that is known. */
export interface UsagePeriod {
  readonly start?: number;
  readonly end?: number;
}

/** The bill of a period that is whole minutes, or hours where it is older than two days: the asked one, widened to them. */
export interface PeriodBill extends Bill {
  readonly start: number;
  readonly end: number;
}

interface Account {
  readonly hours: Map<number, UsageSums>;
  readonly minutes: Map<number, UsageSums>;
}

/**
 * Usage of all functions by the time their calls began, each try of a call once: by the minute for two days, by the hour for as long as usage is kept.
 * Cost: O(1) a record, O(hours and minutes of the function) a bill. Memory: 150 bytes an hour or minute with calls, 24 to 48 bytes a record.
 */
export class UsageLedger {
  private readonly accounts = new Map<string, Account>();
  private readonly seen = new IdentitySet(usageLimits.maxIdentities);
  private newest = 0;
  private hours = 0;
  private prunedAt = 0;

  /** @param now ms since 1970 (default: the newest record's time): what a process with a wrong clock says is later makes nothing old */
  constructor(private readonly now: () => number = () => Number.POSITIVE_INFINITY) {}

  /** False when it was counted before. */
  add(record: Omit<UsageRecord, 'signature'>): boolean {
    if (!this.seen.add(usageIdentity(record))) return false;
    let account = this.accounts.get(record.function);
    if (!account) {
      account = { hours: new Map(), minutes: new Map() };
      this.accounts.set(record.function, account);
    }
    const { startedAt } = record;
    this.newest = Math.max(this.newest, startedAt);
    const hour = Math.floor(startedAt / HOUR_MS);
    if (!account.hours.has(hour)) this.hours++;
    sumsOf(account.hours, hour).add(record);
    if (startedAt >= this.minutesSince()) sumsOf(account.minutes, Math.floor(startedAt / MINUTE_MS)).add(record);
    if (this.present - this.prunedAt >= HOUR_MS || this.hours > usageLimits.maxHours) this.prune();
    return true;
  }

  /** Names of functions with usage. */
  get names(): string[] {
    return [...this.accounts.keys()];
  }

  /** @param period default all that is kept; one without calls costs nothing */
  bill(name: string, period: UsagePeriod = {}, prices: PriceTable = defaultPrices): PeriodBill {
    const sums = new UsageSums();
    const { start = 0, end = this.newest + 1 } = period;
    const account = this.accounts.get(name);
    let from = floorTo(start, MINUTE_MS);
    let to = Math.max(from, ceilTo(end, MINUTE_MS));
    const byMinute = this.minutesSince();
    if (from < byMinute) from = floorTo(from, HOUR_MS);
    if (to < byMinute) to = ceilTo(to, HOUR_MS);
    for (const [hour, of] of account?.hours ?? []) {
      const begin = hour * HOUR_MS;
      if (begin >= from && begin + HOUR_MS <= to) sums.addAll(of);
    }
    for (const [minute, of] of account?.minutes ?? []) {
      const begin = minute * MINUTE_MS;
      const hour = floorTo(begin, HOUR_MS);
      const inWholeHour = hour >= from && hour + HOUR_MS <= to;
      if (!inWholeHour && begin >= from && begin < to) sums.addAll(of);
    }
    return { ...sums.bill(prices), start: from, end: to };
  }

  private get present(): number {
    return Math.min(this.newest, this.now());
  }

  /** Whole hours from here on have their minutes. */
  private minutesSince(): number {
    return ceilTo(Math.max(0, this.present - usageLimits.minutesMs), HOUR_MS);
  }

  private prune(): void {
    this.prunedAt = this.present;
    const minutesSince = this.minutesSince() / MINUTE_MS;
    let hoursSince = Math.floor((this.present - usageLimits.retentionMs) / HOUR_MS);
    if (this.hours > usageLimits.maxHours) {
      const all = [...this.accounts.values()].flatMap(({ hours }) => [...hours.keys()]).sort((a, b) => a - b);
      // a tenth more than must go, so that it is not done again at once
      hoursSince = Math.max(hoursSince, all[all.length - Math.floor(usageLimits.maxHours * 0.9)]!);
    }
    this.hours = 0;
    for (const [name, { hours, minutes }] of this.accounts) {
      for (const minute of minutes.keys()) if (minute < minutesSince) minutes.delete(minute);
      for (const hour of hours.keys()) if (hour < hoursSince) hours.delete(hour);
      if (hours.size === 0) this.accounts.delete(name);
      this.hours += hours.size;
    }
  }
}

function sumsOf(by: Map<number, UsageSums>, at: number): UsageSums {
  let sums = by.get(at);
  if (!sums) {
    sums = new UsageSums();
    by.set(at, sums);
  }
  return sums;
}

function floorTo(at: number, unit: number): number {
  return Math.floor(at / unit) * unit;
}

function ceilTo(at: number, unit: number): number {
  return Math.ceil(at / unit) * unit;
}
