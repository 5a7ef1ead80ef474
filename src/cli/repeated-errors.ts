import { type Clock, wallClock } from '../clock.js';
import { messageOf } from '../errors.js';

/** An error is told at most this often, ms. */
const AGAIN_AFTER_MS = 10_000;
/** Different errors that are remembered; beyond them the oldest is told anew. */
const REMEMBERED = 100;

/**
 * Tells what goes wrong, and what goes wrong over and over once in ten seconds with how often it did: a function that fails on every record must not keep
 * anybody from reading the rest.
 */
export function repeatedErrors(
  tell: (message: string, error: unknown) => void,
  clock: Clock = wallClock,
): (error: unknown) => void {
  const told = new Map<string, { readonly at: number; more: number }>();
  return (error) => {
    const message = messageOf(error);
    const now = clock.now();
    const before = told.get(message);
    if (before && now - before.at < AGAIN_AFTER_MS) {
      before.more++;
      return;
    }
    told.delete(message);
    for (const oldest of told.keys()) {
      if (told.size < REMEMBERED) break;
      told.delete(oldest);
    }
    told.set(message, { at: now, more: 0 });
    const more = before?.more ?? 0;
    tell(more > 0 ? `${message} (${more} more ${more === 1 ? 'time' : 'times'} before)` : message, error);
  };
}
