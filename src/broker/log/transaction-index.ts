interface Aborted {
  readonly producerId: bigint;
  readonly firstOffset: number;
  readonly lastOffset: number;
}

/** Which transactions of one partition are open, and which were aborted where. */
export class TransactionIndex {
  private readonly open = new Map<bigint, number>();
  private aborted: Aborted[] = [];

  begin(producerId: bigint, firstOffset: number): void {
    if (!this.open.has(producerId)) this.open.set(producerId, firstOffset);
  }

  end(producerId: bigint, markerOffset: number, commit: boolean): void {
    const firstOffset = this.open.get(producerId);
    if (firstOffset === undefined) return;
    this.open.delete(producerId);
    if (!commit) this.aborted.push({ producerId, firstOffset, lastOffset: markerOffset });
  }

  isOpen(producerId: bigint): boolean {
    return this.open.has(producerId);
  }

  /** First offset of the oldest open transaction, or `endOffset`. */
  lastStableOffset(endOffset: number): number {
    let stable = endOffset;
    for (const first of this.open.values()) stable = Math.min(stable, first);
    return stable;
  }

  /** Aborted transactions that reach into [from, to). Cost: a search, then one step a later transaction; the list is in the order of its markers. */
  abortedBetween(from: number, to: number): { producerId: bigint; firstOffset: bigint }[] {
    let low = 0;
    let high = this.aborted.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.aborted[middle]!.lastOffset < from) low = middle + 1;
      else high = middle;
    }
    return this.aborted
      .slice(low)
      .filter((a) => a.firstOffset < to)
      .sort((a, b) => a.firstOffset - b.firstOffset)
      .map((a) => ({ producerId: a.producerId, firstOffset: BigInt(a.firstOffset) }));
  }

  isAborted(producerId: bigint, offset: number): boolean {
    return this.aborted.some((a) => a.producerId === producerId && a.firstOffset <= offset && offset <= a.lastOffset);
  }

  forgetBefore(offset: number): void {
    this.aborted = this.aborted.filter((a) => a.lastOffset >= offset);
  }
}
