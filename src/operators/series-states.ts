import { IguanaError, messageOf } from '../errors.js';
import { PartitionState, type StateCodec } from '../kafka/partition-state.js';
import type { Series, SeriesTable } from '../records.js';
import type { Stateful } from '../state.js';

/** The state of all series of one input partition, found by the series' number in the process-wide table. */
export interface SeriesPartition<T> {
  readonly state: PartitionState<T>;
  slotOf(seriesIndex: number): number;
}

/** Keyed state by input partition. A partition that is revoked takes its state along. */
export class SeriesStates<T extends Stateful> {
  private readonly partitions = new Map<number, SeriesPartition<T>>();
  private readonly byCanonical = new Map<string, Series>();

  constructor(
    private readonly table: SeriesTable,
    private readonly create: (series: Series) => T,
    private readonly onIncompatible: (error: IguanaError) => void,
  ) {}

  of(partition: number): SeriesPartition<T> {
    let known = this.partitions.get(partition);
    if (!known) {
      known = this.make();
      this.partitions.set(partition, known);
    }
    return known;
  }

  get numbers(): number[] {
    return [...this.partitions.keys()];
  }

  get size(): number {
    let size = 0;
    for (const { state } of this.partitions.values()) size += state.size;
    return size;
  }

  /** Calls `visit` for the state of every series that has come since the start. */
  each(visit: (state: T) => void): void {
    for (const { state } of this.partitions.values()) state.eachLive(visit);
  }

  forget(partition: number): void {
    this.partitions.delete(partition);
  }

  private make(): SeriesPartition<T> {
    const make = (key: string): T => {
      const series = this.byCanonical.get(key);
      if (!series) throw new Error(`state of ${key} is asked for before its series is known`);
      return this.create(series);
    };
    const codec: StateCodec<T> = {
      create: make,
      save: (state, writer) => state.save(writer),
      restore: (key, reader) => {
        const state = make(key);
        try {
          state.restore(reader);
          return state;
        } catch (error) {
          // saved by another version or with other settings: learnt anew from here on
          this.onIncompatible(
            new IguanaError('IGU_STATE_INCOMPATIBLE', { what: key, why: messageOf(error) }, { cause: error }),
          );
          return make(key);
        }
      },
    };
    const state = new PartitionState<T>(codec);
    const slots: number[] = [];
    return {
      state,
      slotOf: (index) => {
        const known = slots[index];
        if (known !== undefined) return known;
        const series = this.table.get(index);
        this.byCanonical.set(series.canonical, series);
        const slot = state.slotOf(series.canonical);
        slots[index] = slot;
        return slot;
      },
    };
  }
}
