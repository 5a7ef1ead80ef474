import type { ErrorCode } from '../errors.js';
import { codecLimits } from '../limits.js';

export interface DeadLetter {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, string>;
}

/**
 * A record that could not be read or handled, as it came, with headers that say why and where it was. What would not fit into a message
 * with them (packed in the producer's batch it did) is cut; `iguana-cut` then says how many bytes the value had.
 */
export function deadLetter(
  source: {
    readonly topic: string;
    readonly partition: number;
    readonly offset: string;
    readonly key: Buffer | null;
    readonly value: Buffer | null;
  },
  code: ErrorCode,
  reason: string,
): DeadLetter {
  const { maxDeadLetterBytes, maxDeadLetterKeyBytes, maxReasonLength } = codecLimits;
  const { key, value } = source;
  return {
    key: key?.subarray(0, maxDeadLetterKeyBytes) ?? null,
    value: value?.subarray(0, maxDeadLetterBytes) ?? null,
    headers: {
      ...(value && value.length > maxDeadLetterBytes ? { 'iguana-cut': String(value.length) } : {}),
      'iguana-code': code,
      'iguana-reason': reason.slice(0, maxReasonLength),
      'iguana-topic': source.topic,
      'iguana-partition': String(source.partition),
      'iguana-offset': source.offset,
    },
  };
}
