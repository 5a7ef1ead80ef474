import { z } from 'zod';
import { parseIsoTime } from '../codec/series-csv.js';
import { IguanaError } from '../errors.js';
import { priceTableSchema } from '../functions/billing.js';
import { assertPeriod } from '../functions/given-numbers.js';
import type { CloudEvent } from '../functions/invocation.js';
import { parseCloudEvent } from '../functions/triggers/cloud-events.js';
import type { UsagePeriod } from '../functions/usage-ledger.js';
import type { ConnectionOptions } from '../kafka/client.js';
import { aFunction, anObject, aText } from './option-checks.js';

const bytes = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'it is neither text nor bytes');

export const connectSchema = z.strictObject({
  brokers: z.array(aText).min(1, 'at least one broker, host:port; leave brokers out to run without Kafka').optional(),
  connection: anObject<Omit<ConnectionOptions, 'brokers'>>('it is no object').optional(),
  group: aText.optional(),
  deadLetters: aText.optional(),
  secret: aFunction.optional(),
  usageKey: z.union([aText, bytes]).optional(),
  prices: priceTableSchema.optional(),
  isolation: z.enum(['thread', 'process']).optional(),
  onError: aFunction.optional(),
});

export const listenSchema = z.strictObject({
  host: aText.optional(),
  port: z.number().int().min(0).max(65_535).optional(),
  token: aText.optional(),
});

/** Where the code of a function is. Its other fields are those of a definition. */
export const codeSchema = z.union(
  [
    aText,
    bytes,
    z.custom<URL>((value) => value instanceof URL && value.protocol === 'file:'),
    z.strictObject({ file: aText }),
  ],
  'code is needed: its text, its bytes, a file: URL or { file }',
);
export const createSchema = z.looseObject({ code: codeSchema });
export const changesSchema = z.looseObject({ code: codeSchema.optional() });
export const policySchema = anObject<object>('an object with what changes is needed');
export const periodSchema = anObject<object>('a period is { start, end }');
export const variableSchema = aText;
export const aliasSchema = z.strictObject({ alias: aText, weights: z.record(z.string(), z.number()) });
export const syncSchema = z.looseObject({
  qualifier: z.union([aText, z.number()]).optional(),
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
  qualifier: z.union([aText, z.number()]).optional(),
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
  assertPeriod(period);
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
