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
 * batch is idempotent: kafkajs sends id −1 with epoch and sequence 0.
 */
export class ProducerState {
  private readonly producers = new Map<bigint, Producer>();

  check(header: BatchHeader): SequenceVerdict {
    if (header.producerId < 0n) return { kind: 'append' };
    const known = this.producers.get(header.producerId);
    if (!known) return { kind: 'append' };
    if (header.producerEpoch < known.epoch) return { kind: 'error', error: 'INVALID_PRODUCER_EPOCH' };
    const last = header.producerEpoch === known.epoch ? known.batches.at(-1) : undefined;
    if (!last) {
      return header.producerEpoch === known.epoch || header.baseSequence === 0
        ? { kind: 'append' }
        : { kind: 'error', error: 'OUT_OF_ORDER_SEQUENCE_NUMBER' };
    }
    const lastSequence = lastSequenceOf(header);
    const again = known.batches.find((b) => b.firstSequence === header.baseSequence && b.lastSequence === lastSequence);
    if (again) return { kind: 'duplicate', baseOffset: again.baseOffset };
    if (header.baseSequence === (last.lastSequence + 1) % SEQUENCES) return { kind: 'append' };
    return { kind: 'error', error: 'OUT_OF_ORDER_SEQUENCE_NUMBER' };
  }

  /** Notes an appended batch; control batches only raise the epoch. */
  note(header: BatchHeader): void {
    if (header.producerId < 0n) return;
    let producer = this.producers.get(header.producerId);
    if (!producer || producer.epoch !== header.producerEpoch) {
      producer = { epoch: header.producerEpoch, batches: [] };
      this.producers.set(header.producerId, producer);
    }
    if (header.control) return;
    producer.batches.push({
      firstSequence: header.baseSequence,
      lastSequence: lastSequenceOf(header),
      baseOffset: header.baseOffset,
    });
    if (producer.batches.length > REMEMBERED_BATCHES) producer.batches.shift();
  }

  epochOf(producerId: bigint): number | undefined {
    return this.producers.get(producerId)?.epoch;
  }
}

function lastSequenceOf(header: BatchHeader): number {
  return (header.baseSequence + header.lastOffsetDelta) % SEQUENCES;
}
