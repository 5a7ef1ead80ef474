const FIRST_CAPACITY = 64;

/** The newest samples of one series in time order: a ring that doubles from 64 up to `max`, then forgets the oldest. */
export class SeriesHistory {
  private times = new Float64Array(FIRST_CAPACITY);
  private values = new Float64Array(FIRST_CAPACITY);
  private start = 0;
  private count = 0;

  constructor(private readonly max: number) {}

  get length(): number {
    return this.count;
  }

  get last(): { timestamp: number; value: number } | undefined {
    if (this.count === 0) return undefined;
    const i = this.index(this.count - 1);
    return { timestamp: this.times[i]!, value: this.values[i]! };
  }

  /** Takes a sample; an equal time replaces the newest value, an earlier one is refused (`false`): the picture only moves on. */
  push(timestamp: number, value: number): boolean {
    const last = this.last;
    if (last && timestamp < last.timestamp) return false;
    if (last && timestamp === last.timestamp) {
      this.values[this.index(this.count - 1)] = value;
      return true;
    }
    if (this.count === this.times.length && this.count < this.max) this.grow();
    if (this.count === this.times.length) this.start = (this.start + 1) % this.times.length;
    else this.count++;
    const i = this.index(this.count - 1);
    this.times[i] = timestamp;
    this.values[i] = value;
    return true;
  }

  /** `[timestamp, value]` of each sample later than `after`, oldest first. */
  since(after = Number.NEGATIVE_INFINITY): [number, number][] {
    let first = this.count;
    while (first > 0 && this.times[this.index(first - 1)]! > after) first--;
    const out: [number, number][] = [];
    for (let k = first; k < this.count; k++) out.push([this.times[this.index(k)]!, this.values[this.index(k)]!]);
    return out;
  }

  /** The last `n` values, oldest first: the small line beside a name. */
  tail(n: number): number[] {
    const out: number[] = [];
    for (let k = Math.max(0, this.count - n); k < this.count; k++) out.push(this.values[this.index(k)]!);
    return out;
  }

  private index(k: number): number {
    return (this.start + k) % this.times.length;
  }

  private grow(): void {
    const size = Math.min(this.max, this.times.length * 2);
    const times = new Float64Array(size);
    const values = new Float64Array(size);
    for (let k = 0; k < this.count; k++) {
      times[k] = this.times[this.index(k)]!;
      values[k] = this.values[this.index(k)]!;
    }
    this.times = times;
    this.values = values;
    this.start = 0;
  }
}
