/** How many calls may be under way at once, shared by all partitions of a trigger; whoever waits longest is served first. */
export class Slots {
  private used = 0;
  private readonly waiting = new Set<() => void>();

  constructor(private readonly limit: number) {}

  /** Whether one was free and is now taken. */
  take(): boolean {
    if (this.used >= this.limit) return false;
    this.used++;
    return true;
  }

  /** Calls `serve` once when one is free. */
  wait(serve: () => void): void {
    this.waiting.add(serve);
  }

  forget(serve: () => void): void {
    this.waiting.delete(serve);
  }

  free(): void {
    this.used--;
    for (const serve of this.waiting) {
      if (this.used >= this.limit) return;
      this.waiting.delete(serve);
      serve();
    }
  }
}
