/** Where time comes from: the wall in production, a virtual one in tests and simulations. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls `action` once after `ms`; the returned function cancels it. */
  after(ms: number, action: () => void): () => void;
  /** Calls `action` every `ms`; the returned function stops it. */
  every(ms: number, action: () => void): () => void;
}

export const wallClock: Clock = {
  now: () => Date.now(),
  after(ms, action) {
    const timer = setTimeout(action, ms);
    return () => clearTimeout(timer);
  },
  every(ms, action) {
    const timer = setInterval(action, ms);
    return () => clearInterval(timer);
  },
};

interface Timer {
  at: number;
  sequence: number;
  period: number | undefined;
  action: () => void;
}

/** A clock that stands still until `advance` moves it; timers fire in order of their due time, then of their creation. */
export class VirtualClock implements Clock {
  private timers: Timer[] = [];
  private sequence = 0;

  constructor(private time = 0) {}

  now(): number {
    return this.time;
  }

  after(ms: number, action: () => void): () => void {
    return this.add(ms, undefined, action);
  }

  every(ms: number, action: () => void): () => void {
    return this.add(ms, Math.max(1, ms), action);
  }

  /** Moves time forward by `ms`, firing what falls due on the way. */
  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const next = this.timers.filter((t) => t.at <= end).sort((a, b) => a.at - b.at || a.sequence - b.sequence)[0];
      if (!next) break;
      this.time = Math.max(this.time, next.at);
      if (next.period === undefined) this.timers.splice(this.timers.indexOf(next), 1);
      else next.at += next.period;
      next.action();
    }
    this.time = end;
  }

  private add(ms: number, period: number | undefined, action: () => void): () => void {
    const timer: Timer = { at: this.time + Math.max(0, ms), sequence: this.sequence++, period, action };
    this.timers.push(timer);
    return () => {
      const i = this.timers.indexOf(timer);
      if (i >= 0) this.timers.splice(i, 1);
    };
  }
}
