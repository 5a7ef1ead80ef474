/**
 * Every bound of the system with its unit and reason. Reaching one is counted and reported by whoever holds it.
 * One `export const` object per area; add to your own area.
 */

/** What a single input sample may look like. */
export const sampleLimits = {
  /** Oldest accepted event time, ms before the reader's clock: 10 years; older is almost surely seconds read as ms. */
  maxAgeMs: 10 * 365 * 86_400_000,
  /** Furthest accepted event time ahead of the reader's clock, ms: one hour covers clock skew and time-zone slips. */
  maxAheadMs: 3_600_000,
  /** Longest metric name, characters. */
  maxNameLength: 512,
  /** Most labels of one series. */
  maxLabels: 64,
  /** Most samples in one Kafka message. */
  maxSamplesPerMessage: 100_000,
} as const;

/** What one process keeps in memory. */
export const seriesLimits = {
  /** Most series one process holds state for; further ones are counted and dropped. */
  maxSeries: 1_000_000,
} as const;

/** What the live page keeps in memory and sends. All of it is a view: nothing is lost for the pipelines when a bound is reached. */
export const dashboardLimits = {
  /** Most series shown; further ones are counted as `notShown`. 2,000 full histories are about 130 MB. */
  maxSeries: 2_000,
  /** Samples kept of one series: nearly three days at one a minute. Rings grow to it on demand. */
  maxHistory: 4_096,
  /** Forecasts kept of one series: the newest, and older ones to draw against what came. */
  maxForecasts: 48,
  /** Anomaly episodes kept; the oldest resolved one goes first. */
  maxAnomalies: 500,
  /** Decisions kept. */
  maxDecisions: 500,
  /** Pipelines and desired-instances rows kept. */
  maxPipelines: 64,
  maxDesired: 1_000,
  /** Pages open at the same time; a further one is answered 503. */
  maxClients: 64,
  /** A page is sent what changed this often, ms. */
  tickMs: 1_000,
  /** Bytes that may wait in a page's socket; above it ticks are left out and made up for in one later. */
  maxPendingBytes: 1_048_576,
  /** A page whose socket stayed full this long is cut off, ms; the browser connects again by itself. */
  slowClientMs: 30_000,
  /** Longest time `stop` waits for open answers, ms. */
  stopMs: 500,
} as const;
