/**
 * Knows, for one partition, the offset below which everything is acknowledged, whatever order the acknowledgements come in.
 * Cost: O(batches in flight) memory, O(1) for acknowledgements in order.
 */
export class OffsetTracker {
  private readonly inFlight: { readonly first: bigint; readonly next: bigint; done: boolean }[] = [];
  private acknowledged: bigint | undefined;

  /** Notes that offsets first…last are being worked on; ranges begin in ascending order. The returned function acknowledges them (once). */
  begin(first: bigint, last: bigint): () => void {
    const tail = this.inFlight.at(-1);
    if (last < first || (tail && first < tail.next))
      throw new RangeError(`offsets ${first}…${last} do not follow ${tail?.next}`);
    const entry = { first, next: last + 1n, done: false };
    this.inFlight.push(entry);
    return () => {
      entry.done = true;
      while (this.inFlight[0]?.done) this.acknowledged = this.inFlight.shift()?.next;
    };
  }

  /** The offset to commit: all below it is acknowledged. `undefined` before the first acknowledgement. */
  get committable(): bigint | undefined {
    return this.acknowledged;
  }

  get pending(): number {
    return this.inFlight.length;
  }

  /** Forgets what is in flight and what was acknowledged: after a rebalance or a seek. */
  reset(): void {
    this.inFlight.length = 0;
    this.acknowledged = undefined;
  }
}
