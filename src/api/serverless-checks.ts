import { z } from 'zod';
import { parseIsoTime } from '../codec/series-csv.js';
import { IguanaError } from '../errors.js';
import { priceTableSchema } from '../functions/billing.js';
import type { CloudEvent } from '../functions/invocation.js';
import { parseCloudEvent } from '../functions/triggers/cloud-events.js';
import type { UsagePeriod } from '../functions/usage-ledger.js';
import type { ConnectionOptions } from '../kafka/client.js';

const text = z.string().min(1);
const aFunction = z.custom<(...given: never[]) => unknown>((value) => typeof value === 'function', 'it is no function');
const anObject = <T extends object>(what: string) =>
  z.custom<T>((value) => typeof value === 'object' && value !== null && !Array.isArray(value), what);
const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'it is neither text nor bytes');

export const connectSchema = z.strictObject({
  brokers: z.array(text).min(1, 'at least one broker, host:port; leave brokers out to run without Kafka').optional(),
  connection: anObject<Omit<ConnectionOptions, 'brokers'>>('it is no object').optional(),
  group: text.optional(),
  deadLetters: text.optional(),
  secret: aFunction.optional(),
  usageKey: z.union([text, bytes]).optional(),
  prices: priceTableSchema.optional(),
  isolation: z.enum(['thread', 'process']).optional(),
  onError: aFunction.optional(),
});

export const listenSchema = z.strictObject({
  host: text.optional(),
  port: z.number().int().min(0).max(65_535).optional(),
  token: text.optional(),
});

/** Where the code of a function is. Its other fields are those of a definition. */
export const codeSchema = z.union(
  [
    text,
    bytes,
    z.custom<URL>((value) => value instanceof URL && value.protocol === 'file:'),
    z.strictObject({ file: text }),
  ],
  'code is needed: its text, its bytes, a file: URL or { file }',
);
export const createSchema = z.looseObject({ code: codeSchema });
export const changesSchema = z.looseObject({ code: codeSchema.optional() });
export const policySchema = anObject<object>('an object with what changes is needed');
export const periodSchema = anObject<object>('a period is { start, end }');
export const variableSchema = text;
export const aliasSchema = z.strictObject({ alias: text, weights: z.record(z.string(), z.number()) });
export const syncSchema = z.looseObject({
  qualifier: z.union([text, z.number()]).optional(),
  signal: z.custom<AbortSignal>((value) => value instanceof AbortSignal, 'it is no AbortSignal').optional(),
});
/** What `syncSchema` takes, without its cost. */
export function isSyncOptions(options: unknown): boolean {
  if (typeof options !== 'object' || options === null) return false;
  const { qualifier, signal } = options as { readonly qualifier?: unknown; readonly signal?: unknown };
  const named = qualifier === undefined || typeof qualifier === 'number' || typeof qualifier === 'string';
  return named && qualifier !== '' && (signal === undefined || signal instanceof AbortSignal);
}
export const asyncSchema = z.looseObject({
  qualifier: z.union([text, z.number()]).optional(),
  callback: aFunction.optional(),
});
export const prewarmSchema = z.strictObject({ instances: z.unknown().optional() });

/**
 * A period as a program says it: Dates, ms since 1970, or texts in ISO 8601 (UTC without a zone).
 * @throws IguanaError `IGU_USAGE` for what is no time, and for a start after the end
 */
export function periodOf({ start, end }: { readonly start?: unknown; readonly end?: unknown }): UsagePeriod {
  const period: { start?: number; end?: number } = {};
  if (start !== undefined) period.start = momentOf('start', start);
  if (end !== undefined) period.end = momentOf('end', end);
  if (period.start !== undefined && period.end !== undefined && period.start > period.end)
    throw new IguanaError('IGU_USAGE', {
      what: `the period ends (${iso(period.end)}) before it starts (${iso(period.start)})`,
    });
  return period;
}

function momentOf(which: string, given: unknown): number {
  const ms =
    given instanceof Date
      ? given.getTime()
      : typeof given === 'string'
        ? /^\d{4}-\d\d/.test(given)
          ? parseIsoTime(given)
          : undefined
        : given;
  if (typeof ms === 'number' && Number.isFinite(ms)) return ms;
  const shown =
    given instanceof Date ? 'an invalid Date' : typeof given === 'object' ? 'an object' : JSON.stringify(given);
  const what = `${which}: a Date, ms since 1970 or a text such as 2026-01-31T12:00:00Z, not ${shown}`;
  throw new IguanaError('IGU_USAGE', { what });
}

const iso = (ms: number): string => (Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms));

/** @throws IguanaError `IGU_USAGE` for what is no CloudEvent */
export function eventOf(given: unknown): CloudEvent {
  try {
    return parseCloudEvent(given);
  } catch (cause) {
    if (!(cause instanceof IguanaError)) throw cause;
    throw new IguanaError('IGU_USAGE', { what: String(cause.details.what) }, { cause });
  }
}

/** @throws IguanaError `IGU_USAGE` */
export function nameOf(ref: unknown): string {
  const name = typeof ref === 'object' && ref !== null && 'name' in ref ? ref.name : ref;
  if (typeof name === 'string' && name !== '') return name;
  throw new IguanaError('IGU_USAGE', {
    what: `a function is given by its name, or as createFunction returned it, not as ${ref === '' ? 'an empty text' : typeof ref}`,
  });
}
