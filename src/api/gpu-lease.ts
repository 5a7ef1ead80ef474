import { type Clock, wallClock } from '../clock.js';
import { messageOf } from '../errors.js';

export interface LeaseOptions {
  /** A heartbeat makes it last so long again, ms; null: it lasts without. */
  readonly leaseMs: number | null;
  /** When it ends without a heartbeat, ms since 1970: one that has lasted a while already is renewed at once. Default: it begins now. */
  readonly expiresAt?: number | null;
  /** The heartbeat. */
  readonly renew: () => Promise<unknown>;
  /** Whether an error of the heartbeat says that the lease is over; others are tried again while it may last. */
  readonly isOver: (error: unknown) => boolean;
  /** Called once, when it is over; no heartbeat follows. */
  readonly onLost: (why: string) => void;
  readonly clock?: Clock;
}

/** Heartbeats in the time of a lease. */
const BEATS = 3;
/** Looks whether one is due, between two heartbeats; also how often one that failed is tried again. */
const LOOKS = 4;
/** A lease of which less than this part is left has begun before. */
const FRESH = 0.9;

/**
 * Renews a lease every third of it, and after a heartbeat that failed four times as often. It counts as lost when the one who gave it says so, or when no heartbeat got through for as
 * long as it lasts: then it may have been given to another already.
 * @returns ends the heartbeats
 */
export function keepLease({
  leaseMs,
  expiresAt = null,
  renew,
  isOver,
  onLost,
  clock = wallClock,
}: LeaseOptions): () => void {
  if (leaseMs === null) return () => undefined;
  const begun = clock.now();
  let renewed = begun;
  let due = begun + leaseMs / BEATS;
  let why = 'no heartbeat got through';
  let beating = false;
  let ended = false;
  const lose = (): void => {
    if (ended) return;
    end();
    onLost(why);
  };
  const beat = async (now: number): Promise<void> => {
    beating = true;
    try {
      await renew();
      renewed = now;
      due = now + leaseMs / BEATS;
    } catch (error) {
      why = messageOf(error);
      if (isOver(error)) lose();
    } finally {
      beating = false;
    }
  };
  const stop = clock.every(leaseMs / BEATS / LOOKS, () => {
    const now = clock.now();
    if (now - renewed >= leaseMs) lose();
    else if (!beating && now >= due) void beat(now);
  });
  const end = (): void => {
    ended = true;
    stop();
  };
  if (expiresAt !== null && expiresAt - begun < FRESH * leaseMs) void beat(begun);
  return end;
}
