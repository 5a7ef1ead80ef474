import { Cron } from 'croner';
import { IguanaError, messageOf } from '../../errors.js';

/** Windows that are looked at from their end grow by this until they hold enough runs. */
const WINDOW_GROWTH = 8;
const FIRST_WINDOW_MS = 60_000;

/**
 * When a timer is due: cron with five fields, or six with seconds first, in a time zone. A change to summer time that leaves a time out runs it right
 * after; a time that comes twice runs once; timers with a wildcard or step in their hours or minutes go by elapsed time and take the hour that comes twice
 * twice.
 * Cost: 50 to 100 µs a run that is looked for.
 */
export class TimerSchedule {
  private readonly cron: Cron;

  /** @throws IguanaError `IGU_CONFIG` for a pattern or a zone that cannot be read, or a pattern that never comes */
  constructor(pattern: string, timezone: string) {
    try {
      assertZone(timezone);
      this.cron = new Cron(pattern, { timezone, mode: '5-or-6-parts', fixedTimeRule: 'no-wildcard', paused: true });
      if (this.cron.nextRun(new Date(0)) === null) throw new Error('it never comes');
    } catch (cause) {
      const where = `timer ${JSON.stringify(pattern)} (${timezone})`;
      const fix = 'write minute hour day month weekday, seconds first if there are six, and an IANA time zone';
      // the library names its own parts first
      throw new IguanaError('IGU_CONFIG', { where, what: messageOf(cause).replace(/^Cron\w+: /, ''), fix }, { cause });
    }
  }

  /** The first time after this one, ms since 1970; undefined when there is none. */
  next(after: number): number | undefined {
    return this.cron.nextRun(new Date(after))?.getTime();
  }

  /** Times after `after`, up to and with `until`, oldest first; the newest `most` of them. Cost: O(most), however long the span. */
  between(after: number, until: number, most: number): number[] {
    for (let window = FIRST_WINDOW_MS; ; window *= WINDOW_GROWTH) {
      const from = Math.max(after, until - window);
      const times: number[] = [];
      for (let at = this.next(from); at !== undefined && at <= until; at = this.next(at)) times.push(at);
      if (times.length >= most || from <= after) return times.slice(-most);
    }
  }
}

/** @throws Error in words of ours: the library's says the same three times */
function assertZone(timezone: string): void {
  try {
    new Intl.DateTimeFormat('en', { timeZone: timezone });
  } catch (cause) {
    throw new Error(`there is no time zone ${JSON.stringify(timezone)}`, { cause });
  }
}
