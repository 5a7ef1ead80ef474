import { codecLimits } from '../limits.js';
import type { Labels } from '../records.js';
import { ByteTable } from './byte-table.js';
import type { MessageBytes } from './message-bytes.js';

/**
 * Reads the bodies of `metrics` and `metrics-batch` records straight into columns. Both begin a series with its name and labels; those
 * bytes are looked up among the ones seen before, so that no text and no object is made for a known series. Whatever is not plainly right
 * returns false and is left to the Avro library, which then says what is wrong. Cost: about 0.05 µs a sample, and 0.1 µs a series of a
 * batch.
 */
export class AvroScanner {
  readonly names = new ByteTable(codecLimits.maxPrefixes, codecLimits.maxPrefixBytes);
  /** Columns of the last record read; `length` are valid. `series` are numbers of the table, −1 for one that `intern` refused. */
  series = new Int32Array(256);
  timestamps = new Float64Array(256);
  values = new Float64Array(256);
  length = 0;
  private dictionary = new Int32Array(64);
  private at = 0;
  private bad = false;

  /** `intern` gives the number of a series that was not seen before, or −1 to refuse it. */
  constructor(private readonly intern: (name: string, labels: Labels) => number) {}

  /** Reads the body of a `metrics` record. */
  one(message: MessageBytes, start: number): boolean {
    this.at = start;
    this.bad = false;
    this.series[0] = this.name(message);
    this.timestamps[0] = this.long(message);
    if (this.bad || this.at + 8 !== message.end) return false;
    this.values[0] = message.view.getFloat64(this.at, true);
    this.length = 1;
    return true;
  }

  /** Reads the body of a `metrics-batch` record whose columns are equally long and whose series numbers exist. */
  batch(message: MessageBytes, start: number): boolean {
    this.at = start;
    this.bad = false;
    let known = 0;
    for (let block = this.block(message); block > 0 && !this.bad; block = this.block(message)) {
      for (let i = 0; i < block && !this.bad; i++) {
        if (known === this.dictionary.length) {
          const wider = new Int32Array(known * 2);
          wider.set(this.dictionary);
          this.dictionary = wider;
        }
        this.dictionary[known++] = this.name(message);
      }
    }
    let count = 0;
    for (let block = this.block(message); block > 0 && !this.bad; block = this.block(message)) {
      if (count + block > this.values.length) this.widen(count + block);
      for (let i = 0; i < block && !this.bad; i++) {
        const number = this.long(message);
        if (!(number >= 0 && number < known)) return false;
        this.series[count++] = this.dictionary[number]!;
      }
    }
    let times = 0;
    for (let block = this.block(message); block > 0 && !this.bad; block = this.block(message)) {
      if (times + block > count) return false;
      for (let i = 0; i < block && !this.bad; i++) this.timestamps[times++] = this.long(message);
    }
    let values = 0;
    for (let block = this.block(message); block > 0 && !this.bad; block = this.block(message)) {
      if (values + block > count || this.at + 8 * block > message.end) return false;
      for (let i = 0; i < block; i++, this.at += 8) this.values[values++] = message.view.getFloat64(this.at, true);
    }
    if (this.bad || times !== count || values !== count || this.at !== message.end) return false;
    this.length = count;
    return true;
  }

  private widen(needed: number): void {
    const size = Math.max(needed, 2 * this.values.length);
    const series = new Int32Array(size);
    series.set(this.series);
    this.series = series;
    this.timestamps = new Float64Array(size);
    this.values = new Float64Array(size);
  }

  /** Number of items of the next block of an array or map. Every item has a byte or more, so a larger count is a torn record. */
  private block(message: MessageBytes): number {
    let count = this.long(message);
    if (count < 0) {
      count = -count;
      this.long(message);
    }
    if (count > message.end - this.at) this.bad = true;
    return this.bad ? 0 : count;
  }

  private name(message: MessageBytes): number {
    const start = this.at;
    const guess = this.names.guess(message.view, start, message.end);
    if (guess >= 0) {
      this.at = start + this.names.lengthOf(guess);
      return this.names.valueOf(guess);
    }
    this.skipText(message);
    for (let block = this.block(message); block > 0; block = this.block(message)) {
      for (let i = 0; i < 2 * block && !this.bad; i++) this.skipText(message);
    }
    if (this.bad) return -1;
    const end = this.at;
    const known = this.names.find(message.view, start, end);
    if (known >= 0) return this.names.valueOf(known);
    this.at = start;
    const name = this.text(message);
    const labels: Record<string, string> = {};
    for (let block = this.block(message); block > 0; block = this.block(message)) {
      for (let i = 0; i < block; i++) {
        const key = this.text(message);
        Object.defineProperty(labels, key, {
          value: this.text(message),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      }
    }
    const series = this.intern(name, labels);
    if (series >= 0 && end - start <= codecLimits.longestPrefix) this.names.add(message.view, start, end, series);
    return series;
  }

  private skipText(message: MessageBytes): void {
    const length = this.long(message);
    if (length < 0 || length > message.end - this.at) this.bad = true;
    else this.at += length;
  }

  private text(message: MessageBytes): string {
    const length = this.long(message);
    this.at += length;
    return message.text(this.at - length, this.at);
  }

  /** A zigzag varint of at most 53 bits. */
  private long(message: MessageBytes): number {
    const { bytes, end } = message;
    let low = 0;
    let byte = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      if (this.at >= end) return this.torn();
      byte = bytes[this.at++]!;
      low |= (byte & 127) << shift;
      if (byte < 128) return (low >>> 1) ^ -(low & 1);
    }
    let high = 0;
    let scale = 1;
    for (let i = 0; i < 4; i++, scale *= 128) {
      if (this.at >= end) return this.torn();
      byte = bytes[this.at++]!;
      high += (byte & 127) * scale;
      if (byte < 128) {
        const half = high * 134217728 + (low >>> 1);
        if (half > Number.MAX_SAFE_INTEGER) return this.torn();
        return low & 1 ? -half - 1 : half;
      }
    }
    return this.torn();
  }

  private torn(): number {
    this.bad = true;
    return 0;
  }
}
