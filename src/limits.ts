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
