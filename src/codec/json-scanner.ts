import { codecLimits } from '../limits.js';
import { ByteTable } from './byte-table.js';
import type { MessageBytes } from './message-bytes.js';

const QUOTE = 34;
const COMMA = 44;
const MINUS = 45;
const POINT = 46;
const BRACE = 125;
const SPACE = 32;
const TIME_KEY = [...Buffer.from('"timestamp":')];
const VALUE_KEY = [...Buffer.from('"value":')];
const POWERS = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));

/**
 * Reads JSON samples without building objects. The bytes of a sample up to its time (the prefix) are the same in every sample of a series, so they
 * are looked up among the prefixes seen before, and only the two numbers are parsed. A prefix is remembered after JSON.parse has read it, so whatever
 * is found here is what JSON.parse would say. All else (other order of keys, an unknown prefix) returns −1 and is left to JSON.parse.
 * Cost: about 0.15 µs a sample.
 */
export class JsonScanner {
  readonly prefixes = new ByteTable(codecLimits.maxPrefixes, codecLimits.maxPrefixBytes);
  /** What the last successful `scan` read. */
  timestamp = 0;
  value = 0;
  series = 0;
  /** Where the prefix of the last scan that failed ended; 0: it has none. */
  private unknownUntil = 0;

  /** Reads one sample object that begins at `start`. Returns the position behind its closing brace, or −1. */
  scan(message: MessageBytes, start: number): number {
    const { bytes, view, end } = message;
    this.unknownUntil = 0;
    let entry = this.prefixes.guess(view, start, end);
    let at = entry < 0 ? prefixEnd(bytes, start, end) : start + this.prefixes.lengthOf(entry);
    if (entry < 0) {
      if (at < 0) return -1;
      entry = this.prefixes.find(view, start, at);
      if (entry < 0) {
        this.unknownUntil = at;
        return -1;
      }
    }
    at = this.integer(bytes, skipSpace(bytes, at));
    if (at < 0 || bytes[at] !== COMMA) return -1;
    at = skipSpace(bytes, at + 1);
    if (!isAt(bytes, at, VALUE_KEY)) return -1;
    at = this.decimal(message, skipSpace(bytes, at + VALUE_KEY.length));
    if (at < 0) return -1;
    at = skipSpace(bytes, at);
    if (bytes[at] !== BRACE || at >= end) return -1;
    this.series = this.prefixes.valueOf(entry);
    return at + 1;
  }

  /** The unknown prefix that the last scan from `start` met, as text; undefined: it met none. */
  unknownPrefix(message: MessageBytes, start: number): string | undefined {
    return this.unknownUntil > start ? message.text(start, this.unknownUntil) : undefined;
  }

  /** From now on the prefix that the last scan met means `series`. To be called only when JSON.parse reads the prefix as that series. */
  remember(message: MessageBytes, start: number, series: number): void {
    if (this.unknownUntil > start) this.prefixes.add(message.view, start, this.unknownUntil, series);
  }

  private integer(bytes: Uint8Array, from: number): number {
    let at = from;
    let high = 0;
    let low = 0;
    let digit = bytes[at]! - 48;
    for (const stop = from + 9; at < stop && digit >= 0 && digit <= 9; digit = bytes[++at]! - 48)
      high = (high * 10 + digit) | 0;
    const middle = at;
    for (; digit >= 0 && digit <= 9 && at - middle < 7; digit = bytes[++at]! - 48) low = (low * 10 + digit) | 0;
    const digits = at - from;
    if (digits === 0 || digits > 15 || (digits > 1 && bytes[from] === 48)) return -1;
    this.timestamp = high * POWERS[at - middle]! + low;
    return at;
  }

  /** A JSON number, rounded as JSON.parse does. */
  private decimal(message: MessageBytes, from: number): number {
    const { bytes } = message;
    let at = from;
    const negative = bytes[at] === MINUS;
    if (negative) at++;
    const first = at;
    // digits in two integers below 10^9, both exact
    let high = 0;
    let low = 0;
    let count = 0;
    let point = -1;
    for (; ; at++) {
      const digit = bytes[at]! - 48;
      if (digit >= 0 && digit <= 9) {
        if (count < 9) high = (high * 10 + digit) | 0;
        else if (count < 18) low = (low * 10 + digit) | 0;
        count++;
      } else if (bytes[at] === POINT && point < 0) point = at;
      else break;
    }
    const whole = (point < 0 ? at : point) - first;
    const fraction = point < 0 ? 0 : at - point - 1;
    if (whole === 0 || (whole > 1 && bytes[first] === 48) || (point >= 0 && fraction === 0)) return -1;
    let exponent = -fraction;
    const next = bytes[at];
    if (next === 101 || next === 69) {
      const sign = bytes[++at];
      if (sign === MINUS || sign === 43) at++;
      const begin = at;
      let power = 0;
      for (let digit = bytes[at]! - 48; digit >= 0 && digit <= 9; digit = bytes[++at]! - 48)
        power = Math.min(999, power * 10 + digit);
      if (at === begin) return -1;
      exponent += sign === MINUS ? -power : power;
    }
    const value = count <= 18 ? scaled(high, low, count, exponent) : Number.NaN;
    // not sure of the last bit: the engine's own reading
    this.value = Number.isNaN(value) ? Number(message.text(from, at)) : negative ? -value : value;
    return at;
  }
}

/**
 * (high followed by low) · 10^exponent, correctly rounded, or NaN when that cannot be told here. Up to 15 digits and 10^22 one division or product of
 * exact numbers is rounded once. Up to 18 digits and 10^−22: quotient q of the leading part, and the exact rest divided again; q plus that correction
 * is right unless it lies within the correction's own error of the middle between two doubles, which is tested.
 */
function scaled(high: number, low: number, count: number, exponent: number): number {
  const shift = count > 9 ? POWERS[count - 9]! : 1;
  if (exponent < -22 || exponent > 22) return high === 0 && low === 0 ? 0 : Number.NaN;
  if (count <= 15) {
    const mantissa = high * shift + low;
    return exponent < 0 ? mantissa / POWERS[-exponent]! : mantissa * POWERS[exponent]!;
  }
  if (exponent > 0) return Number.NaN;
  // high · shift + low as an unevaluated sum of two doubles: the product is split exactly
  const top = high * shift;
  const topError = productError(high, shift, top);
  const sum = top + low;
  const rest = low - (sum - top) + topError;
  const power = POWERS[-exponent]!;
  const q = sum / power;
  const back = q * power;
  const correction = (sum - back - productError(q, power, back) + rest) / power;
  const value = q + correction;
  const missed = q - value + correction;
  const doubt = Math.abs(correction) * 1e-12 + Math.abs(value) * 1e-28;
  return value + (missed + doubt) === value && value + (missed - doubt) === value ? value : Number.NaN;
}

/** a·b − fl(a·b), exactly (Dekker's product with Veltkamp's split). */
function productError(a: number, b: number, product: number): number {
  const aBig = 134217729 * a;
  const aHigh = aBig - (aBig - a);
  const aLow = a - aHigh;
  const bBig = 134217729 * b;
  const bHigh = bBig - (bBig - b);
  const bLow = b - bHigh;
  return aLow * bLow - (product - aHigh * bHigh - aLow * bHigh - aHigh * bLow);
}

/** Position behind the first `"timestamp":` of the object, or −1. */
function prefixEnd(bytes: Uint8Array, start: number, end: number): number {
  const limit = Math.min(end, start + codecLimits.longestPrefix) - TIME_KEY.length;
  for (let at = start; at <= limit; at++) {
    if (bytes[at] === QUOTE && bytes[at + 1] === 116 && isAt(bytes, at, TIME_KEY)) return at + TIME_KEY.length;
  }
  return -1;
}

function isAt(bytes: Uint8Array, at: number, token: readonly number[]): boolean {
  for (let i = 0; i < token.length; i++) if (bytes[at + i] !== token[i]) return false;
  return true;
}

function skipSpace(bytes: Uint8Array, from: number): number {
  let at = from;
  while (bytes[at] === SPACE) at++;
  return at;
}
