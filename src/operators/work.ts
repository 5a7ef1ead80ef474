import { catchError, defer, EMPTY, mergeMap, type OperatorFunction } from 'rxjs';
import type { DecodeFailure } from '../codec/sample-decoder.js';
import type { OutRecord } from '../kafka/sink.js';
import type { AckBatch } from '../kafka/source.js';

/** One input batch on its way through a chain, with what the steps made of it. */
export interface Work {
  readonly input: AckBatch;
  readonly failed: readonly DecodeFailure[];
  readonly outputs: readonly { readonly topic: string; readonly records: readonly OutRecord[] }[];
  readonly samples: number;
}

/**
 * One asynchronous step over batches. As many run at a time as partitions are in flight, one each, so order within a partition is kept. A
 * step that fails gives its batch back to Kafka (nothing is committed, it comes again) and the chain goes on.
 */
export function step<I extends { readonly input: AckBatch }, O>(
  action: (work: I) => Promise<O> | O,
): OperatorFunction<I, O> {
  return mergeMap((work) =>
    defer(async () => action(work)).pipe(
      catchError((error: unknown) => {
        work.input.fail(error);
        return EMPTY;
      }),
    ),
  );
}
