import { type Observable, type Subscription, tap } from 'rxjs';
import { type Clock, wallClock } from '../clock.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { type PipelineStatus, StatusCounter } from '../kafka/pipeline-status.js';
import { sink as openSink, type Sink } from '../kafka/sink.js';
import { type AckBatch, type Source, source } from '../kafka/source.js';
import { checkpointState, restoreState, stateTopicOf } from '../kafka/state-store.js';
import { kafkaLimits } from '../limits.js';
import { type Series, SeriesTable } from '../records.js';
import type { Stateful } from '../state.js';
import { SeriesStates } from './series-states.js';
import type { Work } from './work.js';

export interface SeriesPipelineOptions {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix; the pipeline's name is added. */
  readonly group: string;
  readonly input: string;
  /** Write changed state this often, ms. Default 5,000. */
  readonly checkpointEveryMs?: number;
  readonly onError?: (error: unknown) => void;
  /** Default the wall clock. */
  readonly clock?: Clock;
}

export interface RunningPipeline {
  readonly name: string;
  status(): PipelineStatus;
  /** Finishes what is in flight, writes state, commits, leaves the group. */
  stop(): Promise<void>;
}

/** What a chain is built from. */
export interface SeriesPipelineParts<T extends Stateful> {
  readonly batches: Source['batches'];
  readonly table: SeriesTable;
  readonly states: SeriesStates<T>;
  readonly sink: Sink;
}

/**
 * The frame of every pipeline with state by series: source, restored state, the chain that `build` makes, checkpoints, offsets, status.
 * Order of effects for a batch: its outputs are written, then it is acknowledged; offsets and, beside them, the state as of an acknowledged
 * batch are written when due. A crash at any point is made good by reading the input again from the checkpoint: what lies below the
 * committed offset is learnt without writing, what lies above it is written again under the same ids.
 */
export async function seriesPipeline<T extends Stateful>(
  name: string,
  options: SeriesPipelineOptions,
  create: (series: Series) => T,
  build: (parts: SeriesPipelineParts<T>) => Observable<Work>,
  beside?: (parts: SeriesPipelineParts<T>) => Observable<unknown>,
): Promise<RunningPipeline> {
  const kafka = kafkaClient(options.connection);
  const sink = openSink(kafka);
  const table = new SeriesTable();
  const states = new SeriesStates<T>(table, create, (error) => options.onError?.(error));
  const counter = new StatusCounter(name, options.clock ?? wallClock, () => states.size);
  const stateTopic = stateTopicOf(name);
  const checkpointEveryMs = options.checkpointEveryMs ?? kafkaLimits.checkpointEveryMs;
  const lastCheckpoint = new Map<number, number>();
  const acknowledged = new Map<number, bigint>();
  await sink.connect();
  const input = source(kafka, {
    topics: [options.input],
    onError: (error) => options.onError?.(error),
    groupId: `${options.group}-${name}`,
    prepare: (_topic, partition, first, end, heartbeat) =>
      restoreState(kafka, sink, stateTopic, partition, states.of(partition).state, first, end, heartbeat),
    onRevoked: (_topic, partition) => {
      states.forget(partition);
      counter.forget(partition);
      between.delete(partition);
      acknowledged.delete(partition);
    },
  });
  const writing = new Map<number, Promise<void>>();
  const checkpoint = async (partition: number): Promise<void> => {
    const before = writing.get(partition);
    if (before) await before.catch(() => undefined);
    const offset = acknowledged.get(partition);
    const { state } = states.of(partition);
    if (offset === undefined || state.changed === 0) return;
    const written = checkpointState(sink, stateTopic, partition, state, offset).finally(() =>
      writing.delete(partition),
    );
    writing.set(partition, written);
    await written;
  };
  /** Partitions whose state has learnt a batch that is not acknowledged: no checkpoint fits them. */
  const between = new Set<number>();
  const begin = tap<AckBatch>(({ partition }) => between.add(partition));
  const count = tap<Work>(({ input: { partition, lastOffset, highWatermark }, samples, outputs, failed }) => {
    between.delete(partition);
    acknowledged.set(partition, lastOffset + 1n);
    const written = outputs.reduce((sum, o) => sum + o.records.length, 0);
    counter.count(partition, samples, written, failed.length, Number(highWatermark - lastOffset - 1n));
  });
  const saving = async (batch: AckBatch): Promise<void> => {
    const now = Date.now();
    const last = lastCheckpoint.get(batch.partition);
    if (last === undefined) lastCheckpoint.set(batch.partition, now);
    else if (now - last >= checkpointEveryMs && !batch.replay && !writing.has(batch.partition)) {
      lastCheckpoint.set(batch.partition, now);
      await checkpoint(batch.partition);
    }
  };
  const parts = { batches: input.batches.pipe(begin), table, states, sink };
  const subscription: Subscription = build(parts)
    .pipe(count)
    .subscribe({
      next: (work) => void saving(work.input).catch((error) => options.onError?.(error)),
      error: (error) => options.onError?.(error),
    });
  const sideline = beside?.(parts).subscribe({ error: (error: unknown) => options.onError?.(error) });
  return {
    name,
    status: () => counter.status(),
    async stop() {
      sideline?.unsubscribe();
      await input.drain(kafkaLimits.drainMs);
      // what cannot be written now is learnt again at the next start
      const report = (error: unknown): void => options.onError?.(error);
      const settled = states.numbers.filter((one) => !between.has(one));
      await Promise.all(settled.map((one) => checkpoint(one).catch(report)));
      await input.commit().catch(report);
      await input.close();
      subscription.unsubscribe();
      await sink.close();
    },
  };
}
