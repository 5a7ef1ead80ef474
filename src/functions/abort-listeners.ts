/** All that hear of one signal, in the order in which they asked. */
interface Listeners {
  first: AbortListener | undefined;
  last: AbortListener | undefined;
}

const known = new WeakMap<AbortSignal, Listeners>();

/**
 * Hears of a signal's end until `end`. Calls share signals (those of connections), and an event listener for each call takes longer than most of what is
 * done for a short one: here a signal has one event listener, and who wants to hear of it is in a list. Cost: O(1), one object.
 */
export class AbortListener {
  private readonly all: Listeners;
  private before: AbortListener | undefined;
  private after: AbortListener | undefined;
  private listed = true;

  /** @param action called once when the signal aborts; never when it has already */
  constructor(
    signal: AbortSignal,
    private readonly action: () => void,
  ) {
    this.all = known.get(signal) ?? listeners(signal);
    this.before = this.all.last;
    if (this.before) this.before.after = this;
    else this.all.first = this;
    this.all.last = this;
  }

  end(): void {
    if (!this.listed) return;
    this.listed = false;
    const { all, before, after } = this;
    if (before) before.after = after;
    else all.first = after;
    if (after) after.before = before;
    else all.last = before;
    this.before = undefined;
    this.after = undefined;
  }

  /** What an action takes out of the list hears no more. */
  static tell(all: Listeners): void {
    for (let one = all.first; one; one = all.first) {
      one.end();
      one.action();
    }
  }
}

function listeners(signal: AbortSignal): Listeners {
  const all: Listeners = { first: undefined, last: undefined };
  known.set(signal, all);
  signal.addEventListener('abort', () => AbortListener.tell(all), { once: true });
  return all;
}
