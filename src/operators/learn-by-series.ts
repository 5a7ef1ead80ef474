import { catchError, concatMap, EMPTY, map, type OperatorFunction, of } from 'rxjs';
import { SampleDecoder, type SampleDecoderOptions } from '../codec/sample-decoder.js';
import type { OutRecord } from '../kafka/sink.js';
import type { AckBatch } from '../kafka/source.js';
import type { Series, SeriesTable } from '../records.js';
import type { Stateful } from '../state.js';
import type { SeriesStates } from './series-states.js';
import type { Work } from './work.js';

/** Learns one sample of one series; what it wants written goes through `emit`, to the chain's output topic unless another is named. */
export type LearnSample<T extends Stateful> = (
  state: T,
  series: Series,
  timestamp: number,
  value: number,
  emit: (record: OutRecord, to?: string) => void,
  /** State is being rebuilt from input whose outputs are written already. */
  replay: boolean,
) => void;

/**
 * Decodes a batch and lets every sample be learnt by the state of its series, in one synchronous step: the decoder's columns are used
 * before the next batch overwrites them.
 * While state is being rebuilt (`replay`) nothing is emitted. Cost: the decoder's and the learner's, plus two array look-ups a sample.
 */
export function learnBySeries<T extends Stateful>(
  table: SeriesTable,
  states: SeriesStates<T>,
  topic: string,
  learn: LearnSample<T>,
  options: SampleDecoderOptions = {},
): OperatorFunction<AckBatch, Work> {
  const decoder = new SampleDecoder(table, options);
  const learnBatch = (input: AckBatch): Work => {
    const { batch, failed } = decoder.decode(input.topic, input.partition, input.messages);
    const partition = states.of(input.partition);
    const outputs = new Map<string, OutRecord[]>([[topic, []]]);
    const emit = (record: OutRecord, to = topic): void => {
      if (input.replay) return;
      const records = outputs.get(to);
      if (records) records.push(record);
      else outputs.set(to, [record]);
    };
    const skipping = partition.state.mustSkip(input.firstOffset);
    for (let i = 0; i < batch.length; i++) {
      const index = batch.seriesIndex[i]!;
      const slot = partition.slotOf(index);
      if (skipping && partition.state.knows(slot, input.firstOffset)) continue;
      learn(partition.state.change(slot), table.get(index), batch.timestamps[i]!, batch.values[i]!, emit, input.replay);
    }
    const written = [...outputs].map(([to, records]) => ({ topic: to, records }));
    return { input, failed: input.replay ? [] : failed, outputs: written, samples: batch.length };
  };
  return concatMap((input) =>
    of(input).pipe(
      map(learnBatch),
      catchError((error: unknown) => {
        input.fail(error);
        return EMPTY;
      }),
    ),
  );
}
