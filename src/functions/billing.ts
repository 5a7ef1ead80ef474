import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';

/** What usage costs, in US dollars; the default is AWS Lambda's first tier on x86 (2025). */
export const priceTableSchema = z.strictObject({
  /** A million requests. */
  millionRequests: z.number().min(0).default(0.2),
  /** A gigabyte (2^30 bytes) of configured memory for a second. */
  gbSecond: z.number().min(0).default(0.0000166667),
  /** A gigabyte-second of initialisation. */
  initGbSecond: z.number().min(0).default(0.0000166667),
  /** A billion units of gas; beside the time, for those who bill by it. */
  billionGas: z.number().min(0).default(0),
});

export type PriceTable = z.infer<typeof priceTableSchema>;

export const defaultPrices: PriceTable = priceTableSchema.parse({});

/** One try of a call, as it is billed. Id and attempt make it count once however often it is written. */
export interface UsageRecord {
  readonly invocationId: string;
  /** 1 for the first try. */
  readonly attempt: number;
  readonly function: string;
  readonly version: number;
  /** Beginning of the call, ms since 1970. */
  readonly startedAt: number;
  /** Rounded up to whole milliseconds. */
  readonly billedMs: number;
  readonly initMs: number;
  /** Configured, not used. */
  readonly memoryMb: number;
  readonly gasUsed: number;
  readonly success: boolean;
  /** HMAC-SHA-256 of the fields above, hexadecimal. */
  readonly signature: string;
}

/** The lines of a signature's input, so that no two records have the same one. */
function signedText(record: Omit<UsageRecord, 'signature'>): string {
  const { invocationId, attempt, function: name, version, startedAt } = record;
  const { billedMs, initMs, memoryMb, gasUsed, success } = record;
  const fields = [invocationId, attempt, name, version, startedAt, billedMs, initMs, memoryMb, gasUsed, success];
  return JSON.stringify(fields);
}

/** Whole milliseconds, rounded up; what is less than a nanosecond above one is the error of adding. */
function wholeMs(ms: number): number {
  return Math.ceil(Math.round(ms * 1e6) / 1e6);
}

/**
 * The signed record of a call.
 * @param call `durationMs` and `initMs` as measured, rounded up to 1 ms here; `attempt` 1 unless it says another
 */
export function usageRecord(
  call: Omit<UsageRecord, 'signature' | 'billedMs' | 'attempt'> & {
    readonly durationMs: number;
    readonly attempt?: number;
  },
  key: string | Uint8Array,
): UsageRecord {
  return new SignedUsage(call, key);
}

/** A signature takes longer than the rest of a short call's accounts: it is made when somebody looks at it, as whoever sends the record elsewhere does. */
class SignedUsage implements UsageRecord {
  readonly invocationId: string;
  readonly attempt: number;
  readonly function: string;
  readonly version: number;
  readonly startedAt: number;
  readonly billedMs: number;
  readonly initMs: number;
  readonly memoryMb: number;
  readonly gasUsed: number;
  readonly success: boolean;
  declare readonly signature: string;
  readonly #key: string | Uint8Array;
  #signature: string | undefined;

  constructor(call: Parameters<typeof usageRecord>[0], key: string | Uint8Array) {
    this.invocationId = call.invocationId;
    this.attempt = call.attempt ?? 1;
    this.function = call.function;
    this.version = call.version;
    this.startedAt = call.startedAt;
    this.billedMs = wholeMs(call.durationMs);
    this.initMs = wholeMs(call.initMs);
    this.memoryMb = call.memoryMb;
    this.gasUsed = call.gasUsed;
    this.success = call.success;
    this.#key = key;
    // of its own, so that a copy and its JSON have it too
    Object.defineProperty(this, 'signature', SignedUsage.signatureProperty);
  }

  private static readonly signatureProperty: PropertyDescriptor & ThisType<SignedUsage> = {
    configurable: true,
    enumerable: true,
    get() {
      this.#signature ??= sign(this, this.#key);
      return this.#signature;
    },
  };
}

function sign(record: Omit<UsageRecord, 'signature'>, key: string | Uint8Array): string {
  return createHmac('sha256', key).update(signedText(record)).digest('hex');
}

/** Whether a record was written by who has the key, and not changed since. */
export function isAuthentic(record: UsageRecord, key: string | Uint8Array): boolean {
  const expected = Buffer.from(sign(record, key), 'hex');
  const given = Buffer.from(record.signature, 'hex');
  return expected.length === given.length && timingSafeEqual(expected, given);
}

export interface Bill {
  readonly invocationCount: number;
  readonly computeTimeMs: number;
  readonly initTimeMs: number;
  readonly gbSeconds: number;
  readonly initGbSeconds: number;
  readonly gasUsed: number;
  readonly estimatedCostUsd: number;
}

const MB_PER_GB = 1_024;
const MS_PER_SECOND = 1_000;

/** What usage comes to. Sums are of whole megabyte-milliseconds, so a million calls add up to the last one; the price is taken of the sum. */
export class UsageSums {
  private count = 0;
  private computeMs = 0;
  private initMs = 0;
  private megabyteMs = 0;
  private initMegabyteMs = 0;
  private gas = 0;

  add(record: Omit<UsageRecord, 'signature'>): void {
    this.count++;
    this.computeMs += record.billedMs;
    this.initMs += record.initMs;
    this.megabyteMs += record.billedMs * record.memoryMb;
    this.initMegabyteMs += record.initMs * record.memoryMb;
    this.gas += record.gasUsed;
  }

  addAll(other: UsageSums): void {
    this.count += other.count;
    this.computeMs += other.computeMs;
    this.initMs += other.initMs;
    this.megabyteMs += other.megabyteMs;
    this.initMegabyteMs += other.initMegabyteMs;
    this.gas += other.gas;
  }

  bill(prices: PriceTable = defaultPrices): Bill {
    const gbSeconds = this.megabyteMs / MB_PER_GB / MS_PER_SECOND;
    const initGbSeconds = this.initMegabyteMs / MB_PER_GB / MS_PER_SECOND;
    return {
      invocationCount: this.count,
      computeTimeMs: this.computeMs,
      initTimeMs: this.initMs,
      gbSeconds,
      initGbSeconds,
      gasUsed: this.gas,
      estimatedCostUsd:
        (this.count / 1e6) * prices.millionRequests +
        gbSeconds * prices.gbSecond +
        initGbSeconds * prices.initGbSecond +
        (this.gas / 1e9) * prices.billionGas,
    };
  }
}

/** What makes a try of a call the one that is billed. */
export function usageIdentity({ invocationId, attempt }: Pick<UsageRecord, 'invocationId' | 'attempt'>): string {
  return `${attempt} ${invocationId}`;
}
