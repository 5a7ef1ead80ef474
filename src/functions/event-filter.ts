import type { Condition, ConditionTest, ConditionValue } from './definition.js';

/**
 * Whether a value meets a condition: every path must pass its test. A path is names joined by dots; a number indexes a list, and where a list stands on
 * the way without an index, one of its members is enough.
 * Cost: O(paths). Never throws: what is not there is `undefined`, which only `exists: false` and `not` accept.
 */
export function matches(condition: Condition, value: unknown): boolean {
  for (const [path, test] of Object.entries(condition)) {
    if (!anyAt(value, path.split('.'), 0, (found) => passes(test, found))) return false;
  }
  return true;
}

function anyAt(value: unknown, path: readonly string[], at: number, accept: (found: unknown) => boolean): boolean {
  if (at === path.length) return Array.isArray(value) ? value.some(accept) || accept(value) : accept(value);
  const name = path[at]!;
  if (Array.isArray(value)) {
    // in an empty list nothing is there
    if (value.length === 0) return anyAt(undefined, path, at + 1, accept);
    if (/^\d+$/.test(name)) return anyAt(value[Number(name)], path, at + 1, accept);
    return value.some((member) => anyAt(member, path, at, accept));
  }
  const own = typeof value === 'object' && value !== null && Object.hasOwn(value, name);
  return anyAt(own ? (value as Record<string, unknown>)[name] : undefined, path, at + 1, accept);
}

function passes(test: ConditionTest, found: unknown): boolean {
  if (isList(test)) return test.some((one) => one === found);
  if (typeof test !== 'object' || test === null) return test === found;
  const { exists, prefix, gt, gte, lt, lte, not } = test;
  if (exists !== undefined && (found !== undefined) !== exists) return false;
  if (prefix !== undefined && !(typeof found === 'string' && found.startsWith(prefix))) return false;
  const number = (bound: number | undefined, holds: (n: number, bound: number) => boolean) =>
    bound === undefined || (typeof found === 'number' && holds(found, bound));
  if (!number(gt, (n, b) => n > b) || !number(gte, (n, b) => n >= b)) return false;
  if (!number(lt, (n, b) => n < b) || !number(lte, (n, b) => n <= b)) return false;
  return not === undefined || !(isList(not) ? not.some((one) => one === found) : not === found);
}

function isList(test: unknown): test is readonly ConditionValue[] {
  return Array.isArray(test);
}
