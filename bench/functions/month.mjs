/** A month of calls that is the same whoever makes it: call i is a function of i. */
import { random32 } from './population.mjs';

export const MONTH_START = Date.UTC(2026, 4, 1);
export const MONTH_MS = 31 * 86_400_000;
export const functions = [
  { name: 'orders', memoryMb: 256, meanMs: 12 },
  { name: 'thumbnails', memoryMb: 512, meanMs: 200 },
  { name: 'reports', memoryMb: 2_048, meanMs: 9_000 },
  { name: 'route', memoryMb: 128, meanMs: 0.4, gas: 2_000_000 },
];

/** Call i of so many: of which function, when, how long, how often it was tried. */
export function callAt(i, count) {
  const random = random32(i * 2_654_435_761 + 1);
  for (let warm = 0; warm < 3; warm++) random();
  const chosen = functions[Math.floor(random() ** 2 * functions.length)];
  return {
    i,
    ...chosen,
    startedAt: MONTH_START + Math.floor(((i + random()) / count) * MONTH_MS),
    // fractions of a millisecond matter: they are rounded up
    durationMs: -Math.log(1 - random()) * chosen.meanMs,
    initMs: random() < 0.01 ? 3 + random() * 80 : 0,
    gasUsed: chosen.gas ? Math.floor(random() * chosen.gas) : 0,
    tries: random() < 0.02 ? 2 : 1,
  };
}

/** The tries of a call, as `usageRecord` takes them: all but the last failed. */
export function triesOf({ i, name, memoryMb, startedAt, durationMs, initMs, gasUsed, tries }) {
  return Array.from({ length: tries }, (_, n) => ({
    invocationId: `call-${i}`,
    attempt: n + 1,
    function: name,
    version: 1,
    startedAt,
    durationMs: durationMs * (n + 1),
    initMs: n === 0 ? initMs : 0,
    memoryMb,
    gasUsed,
    success: n + 1 === tries,
  }));
}
