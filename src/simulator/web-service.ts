/**
 * A generated web service's day: what its metrics are at any minute, as a pure function of seed and time, so that it can be started anywhere and
 * is the same for everybody. Daily and weekly shape, noise, every day a flash crowd and every third day an outage.
 */
import type { Labels } from '../records.js';

export interface GeneratedSample {
  readonly name: string;
  readonly labels: Labels;
  /** ms since 1970. */
  readonly timestamp: number;
  readonly value: number;
}

const DAY_MS = 86_400_000;
const MINUTE_MS = 60_000;
/** Requests a second at the mean of the daily shape. */
const MEAN_RATE = 240;
/** Requests a second one instance serves at full use. */
const CAPACITY = 90;
const INSTANCES = 6;

const LABELS: Labels = { service: 'shop', generated: 'true' };

/** All metrics of the service at a time: requests_per_second, response_time_ms, cpu_usage (%), error_rate (%). */
export function generatedSamples(seed: number, timestamp: number): GeneratedSample[] {
  const minute = Math.floor(timestamp / MINUTE_MS);
  const noise = (what: number): number => normal(seed, minute, what);
  const down = outage(seed, timestamp);
  const rate = Math.max(0, requestRate(seed, timestamp) * (1 + 0.04 * noise(1)) * (down ? 0.15 : 1));
  const use = Math.min(0.98, rate / (CAPACITY * INSTANCES));
  const responseTime = (down ? 900 : 40 + 25 / (1 - use)) * (1 + 0.05 * noise(2));
  const errorRate = Math.max(0, (down ? 35 : 0.4) + (down ? 4 : 0.1) * noise(3));
  const cpu = Math.min(100, Math.max(0, 100 * use + 6 + 2 * noise(4)));
  const sample = (name: string, value: number): GeneratedSample => ({
    name,
    labels: LABELS,
    timestamp,
    value: Number(value.toPrecision(6)),
  });
  return [
    sample('requests_per_second', rate),
    sample('response_time_ms', responseTime),
    sample('cpu_usage', cpu),
    sample('error_rate', errorRate),
  ];
}

/** Requests a second without noise and outage: a daily wave with its peak at 20:00, weaker weekends, and the day's flash crowd. */
function requestRate(seed: number, timestamp: number): number {
  const day = Math.floor(timestamp / DAY_MS);
  const hour = (timestamp % DAY_MS) / 3_600_000;
  const wave = 1 + 0.55 * Math.sin((2 * Math.PI * (hour - 14)) / 24) + 0.15 * Math.sin((4 * Math.PI * (hour - 9)) / 24);
  const weekend = [0, 6].includes((day + 4) % 7) ? 0.8 : 1;
  // the crowd comes within minutes and fades over an hour
  const begins = 9 + 8 * uniform(seed, day, 11);
  const since = hour - begins;
  const crowd = since > 0 && since < 4 ? (1 - Math.exp(-since / 0.05)) * Math.exp(-since / 0.6) : 0;
  return MEAN_RATE * weekend * (wave + 1.4 * crowd);
}

function outage(seed: number, timestamp: number): boolean {
  const day = Math.floor(timestamp / DAY_MS);
  if (day % 3 !== 1) return false;
  const begins = 2 + 4 * uniform(seed, day, 12);
  const hour = (timestamp % DAY_MS) / 3_600_000;
  return hour >= begins && hour < begins + 0.4;
}

/** A number in [0, 1) that depends on nothing but its arguments (integer mixing after Murmur3). */
function uniform(seed: number, index: number, what: number): number {
  let h = (seed ^ Math.imul(index, 0x9e3779b1) ^ Math.imul(what, 0x85ebca6b)) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) >>> 0) / 4_294_967_296;
}

function normal(seed: number, index: number, what: number): number {
  const u = 1 - uniform(seed, index, 2 * what + 100);
  return Math.sqrt(-2 * Math.log(u)) * Math.cos(2 * Math.PI * uniform(seed, index, 2 * what + 101));
}
