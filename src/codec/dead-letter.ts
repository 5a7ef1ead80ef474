import type { ErrorCode } from '../errors.js';

export interface DeadLetter {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: Record<string, string>;
}

/** A record that could not be read or handled, as it came, with headers that say why and where it was. */
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
  return {
    key: source.key,
    value: source.value,
    headers: {
      'iguana-code': code,
      'iguana-reason': reason,
      'iguana-topic': source.topic,
      'iguana-partition': String(source.partition),
      'iguana-offset': source.offset,
    },
  };
}
