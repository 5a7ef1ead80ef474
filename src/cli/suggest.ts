import { InvalidArgumentError } from 'commander';

/** An option parser for a closed set of words that answers a misspelt one with the nearest. */
export function oneOf<T extends string>(words: readonly T[]): (given: string) => T {
  return (given) => {
    const known = words.find((word) => word === given);
    if (known) return known;
    const near = nearest(given, words);
    throw new InvalidArgumentError(`${near ? `Did you mean ${near}? ` : ''}One of: ${words.join(', ')}.`);
  };
}

/** A parser of whole numbers within bounds. */
export function wholeNumber(lowest: number, highest: number): (given: string) => number {
  return (given) => {
    const value = Number(given);
    if (!Number.isInteger(value) || value < lowest || value > highest) {
      throw new InvalidArgumentError(`A whole number from ${lowest} to ${highest} is needed.`);
    }
    return value;
  };
}

/** ms of a time with its unit, such as `500ms`, `60s`, `10m` or `2h`; undefined: it is none. */
export function durationOf(given: string): number | undefined {
  const [, count, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(given) ?? [];
  if (unit === undefined) return undefined;
  return Number(count) * { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[unit as 'ms' | 's' | 'm' | 'h'];
}

/** The word within two edits (or a third of the length) of the given one, if any. */
export function nearest(given: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(given.length / 3)) + 1;
  for (const word of words) {
    const distance = editDistance(given.toLowerCase(), word.toLowerCase());
    if (distance < bestDistance) {
      best = word;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}
