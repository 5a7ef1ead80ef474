import type { AppendError } from './log.js';
import type { BatchHeader } from './record-batch.js';

interface AppendedBatch {
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly baseOffset: number;
}

interface Producer {
  epoch: number;
  batches: AppendedBatch[];
  lastAppendMs: number;
}

/** Batches remembered a producer, as many as a client may have in flight. */
const REMEMBERED_BATCHES = 5;
const SEQUENCES = 2 ** 31;

export type SequenceVerdict =
  | { readonly kind: 'append' }
  | { readonly kind: 'duplicate'; readonly baseOffset: number }
  | { readonly kind: 'error'; readonly error: AppendError };

/**
 * What one partition knows of idempotent producers: epoch and the last five batches each (KIP-98, KAFKA-5494). Only the producer id decides whether a
 * batch is idempotent: kafkajs sends id −1 with epoch and sequence 0. A producer nothing is known of may go on with any sequence.
 */
export class ProducerState {
  private readonly producers = new Map<bigint, Producer>();

  check(header: BatchHeader): SequenceVerdict {
    if (header.producerId < 0n) return { kind: 'append' };
    const known = this.producers.get(header.producerId);
    if (!known) return { kind: 'append' };
    if (header.producerEpoch < known.epoch) return { kind: 'error', error: 'INVALID_PRODUCER_EPOCH' };
    if (header.producerEpoch > known.epoch) {
      return header.baseSequence === 0 ? { kind: 'append' } : { kind: 'error', error: 'OUT_OF_ORDER_SEQUENCE_NUMBER' };
    }
    const last = known.batches.at(-1);
    if (!last) return { kind: 'append' };
    const lastSequence = lastSequenceOf(header);
    const again = known.batches.find((b) => b.firstSequence === header.baseSequence && b.lastSequence === lastSequence);
    if (again) return { kind: 'duplicate', baseOffset: again.baseOffset };
    if (header.baseSequence === (last.lastSequence + 1) % SEQUENCES) return { kind: 'append' };
    return { kind: 'error', error: 'OUT_OF_ORDER_SEQUENCE_NUMBER' };
  }

  /** Notes an appended batch; control batches only raise the epoch. */
  note(header: BatchHeader, nowMs: number): void {
    if (header.producerId < 0n) return;
    let producer = this.producers.get(header.producerId);
    if (!producer || producer.epoch < header.producerEpoch) {
      producer = { epoch: header.producerEpoch, batches: [], lastAppendMs: nowMs };
      this.producers.set(header.producerId, producer);
    }
    producer.lastAppendMs = nowMs;
    if (header.control) return;
    producer.batches.push({
      firstSequence: header.baseSequence,
      lastSequence: lastSequenceOf(header),
      baseOffset: header.baseOffset,
    });
    if (producer.batches.length > REMEMBERED_BATCHES) producer.batches.shift();
  }

  /** Forgets producers silent since `beforeMs`, save those that `keep` names. */
  expire(beforeMs: number, keep: (producerId: bigint) => boolean): void {
    for (const [id, producer] of this.producers)
      if (producer.lastAppendMs < beforeMs && !keep(id)) this.producers.delete(id);
  }

  get size(): number {
    return this.producers.size;
  }
}

function lastSequenceOf(header: BatchHeader): number {
  return (header.baseSequence + header.lastOffsetDelta) % SEQUENCES;
}
