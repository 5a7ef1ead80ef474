import { IguanaError } from '../errors.js';

/** @throws IguanaError `IGU_USAGE` for what is no time that a call can have: a text, NaN, infinity, 0 and below */
export function assertTimeLimit(ms: unknown): void {
  if (typeof ms === 'number' && Number.isFinite(ms) && ms > 0) return;
  throw new IguanaError('IGU_USAGE', { what: `the time limit of a call is a number of ms above 0, not ${shown(ms)}` });
}

/** @param highest default: any @throws IguanaError `IGU_USAGE` for all but whole numbers within the bounds */
export function assertWholeNumber(what: string, given: unknown, lowest: number, highest = Number.MAX_SAFE_INTEGER) {
  if (typeof given === 'number' && Number.isInteger(given) && given >= lowest && given <= highest) return;
  const to = highest === Number.MAX_SAFE_INTEGER ? '' : ` to ${highest}`;
  throw new IguanaError('IGU_USAGE', { what: `${what}: a whole number from ${lowest}${to}, not ${shown(given)}` });
}

/** @param period ms since 1970 @throws IguanaError `IGU_USAGE` for one that ends before it starts */
export function assertPeriod({
  start,
  end,
}: {
  readonly start?: number | undefined;
  readonly end?: number | undefined;
}) {
  if (start === undefined || end === undefined || start <= end) return;
  throw new IguanaError('IGU_USAGE', { what: `the period ends (${iso(end)}) before it starts (${iso(start)})` });
}

/** Beyond what a Date can be: the number. */
const iso = (ms: number): string => (Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : String(ms));

function shown(given: unknown): string {
  if (typeof given === 'string') return JSON.stringify(given.slice(0, 40));
  return typeof given === 'object' && given !== null ? 'an object' : String(given);
}
