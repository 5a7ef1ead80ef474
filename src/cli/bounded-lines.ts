import { type Clock, wallClock } from '../clock.js';

/** Lines a person can follow in a second. */
const LINES_PER_SECOND = 6;
const WINDOW_MS = 1_000;

/**
 * Lets the first lines of each second through and counts the rest, so that a burst (a history that is read at once, an incident in many
 * series) does not push what matters off the screen. When the burst is over, `summary` says how many were left out.
 */
export function boundedLines(
  print: (line: string) => void,
  summary: (left: number) => void,
  clock: Clock = wallClock,
): { print(line: string): void; stop(): void } {
  let inWindow = 0;
  let left = 0;
  const stop = clock.every(WINDOW_MS, () => {
    const calm = inWindow <= LINES_PER_SECOND;
    inWindow = 0;
    if (!calm || left === 0) return;
    summary(left);
    left = 0;
  });
  return {
    print(line) {
      if (++inWindow <= LINES_PER_SECOND) print(line);
      else left++;
    },
    stop,
  };
}
