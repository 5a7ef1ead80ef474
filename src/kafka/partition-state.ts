/**
 * The keyed state of one input partition and its form in a state topic. Series get slots in the order they appear; slots are packed
 * `seriesPerChunk` to a record, and only chunks with a changed series are written again. Each chunk carries the input offset below which
 * its series have learnt everything, so that a crash between two records of one checkpoint loses nothing: on replay a series skips what it
 * knows already. A last record, the marker, says below which offset all chunks are complete: replay begins there.
 */
import { kafkaLimits } from '../limits.js';
import { StateReader, StateWriter } from '../state.js';

/** How the state of one key is made, saved and restored. */
export interface StateCodec<T> {
  create(key: string): T;
  save(state: T, writer: StateWriter): void;
  restore(key: string, reader: StateReader): T;
}

const MARKER = 'marker';
const FORMAT = 1;

export interface StateRecord {
  readonly key: string;
  readonly value: Buffer;
}

export interface Checkpoint {
  readonly chunks: readonly StateRecord[];
  readonly marker: StateRecord;
  failed(): void;
}

const NOTHING = new Uint8Array(0);

export class PartitionState<T> {
  private readonly slots = new Map<string, number>();
  private readonly keys: string[] = [];
  private readonly live: (T | undefined)[] = [];
  /** Restored bytes of a series that no sample has asked for yet. */
  private readonly saved: (Uint8Array | undefined)[] = [];
  private readonly chunkAsOf: number[] = [];
  private readonly changedChunks = new Set<number>();
  private lastChanged = -1;
  /** Input below this offset is contained in all of the state. `undefined` before the first checkpoint. */
  private position: number | undefined;
  /** The newest offset any chunk contains: at or above it nothing has to be skipped. */
  private newest = 0;

  constructor(private readonly codec: StateCodec<T>) {}

  get size(): number {
    return this.keys.length;
  }

  /** The number of a key's state, made when it is new. */
  slotOf(key: string): number {
    const known = this.slots.get(key);
    if (known !== undefined) return known;
    const slot = this.keys.length;
    this.keys.push(key);
    this.live.push(this.codec.create(key));
    this.saved.push(undefined);
    this.slots.set(key, slot);
    return slot;
  }

  keyOf(slot: number): string {
    return this.keys[slot] ?? '';
  }

  /** The state to be changed now: its chunk goes into the next checkpoint. */
  change(slot: number): T {
    const chunk = (slot / kafkaLimits.seriesPerChunk) | 0;
    if (chunk !== this.lastChanged) {
      this.lastChanged = chunk;
      this.changedChunks.add(chunk);
    }
    return this.live[slot] ?? this.materialise(slot);
  }

  /** Calls `visit` for every state in use; what it changes is saved with the series' next sample. */
  eachLive(visit: (state: T) => void): void {
    for (const state of this.live) if (state !== undefined) visit(state);
  }

  /** The state to be looked at. */
  peek(slot: number): T {
    return this.live[slot] ?? this.materialise(slot);
  }

  /** True when a batch beginning at `offset` may contain what some series have learnt already. */
  mustSkip(offset: bigint): boolean {
    return Number(offset) < this.newest;
  }

  /** True when the series in `slot` has learnt the batch at `offset` before the restart. */
  knows(slot: number, offset: bigint): boolean {
    return Number(offset) < (this.chunkAsOf[(slot / kafkaLimits.seriesPerChunk) | 0] ?? 0);
  }

  /** Where a replay begins and must not straddle. `undefined` without a marker: nothing was ever saved. */
  get startPoint(): { position: bigint; cuts: bigint[] } | undefined {
    const { position } = this;
    if (position === undefined) return undefined;
    const cuts = [...new Set(this.chunkAsOf.filter((o) => o > position))].sort((a, b) => a - b);
    return { position: BigInt(position), cuts: cuts.map(BigInt) };
  }

  get changed(): number {
    return this.changedChunks.size;
  }

  /** What is learnt stays, but the log it was learnt from has gone: nothing of the one that begins at `offset` is known, all has to be saved. */
  beginAnew(offset: bigint): void {
    this.position = Number(offset);
    this.newest = Number(offset);
    for (let chunk = 0; chunk < this.chunkAsOf.length; chunk++) {
      this.chunkAsOf[chunk] = Number(offset);
      this.changedChunks.add(chunk);
    }
  }

  /**
   * The records of a checkpoint at `offset` (all below it is learnt): `chunks` to be written first, then `marker`. Copies the state: what is
   * learnt afterwards is not in them. When they cannot be written, `failed` puts them back into the next checkpoint.
   */
  checkpoint(offset: bigint): Checkpoint {
    const chunks: StateRecord[] = [];
    const numbers = [...this.changedChunks];
    for (const chunk of this.changedChunks) {
      const writer = new StateWriter().u32(FORMAT).f64(Number(offset));
      const from = chunk * kafkaLimits.seriesPerChunk;
      const to = Math.min(from + kafkaLimits.seriesPerChunk, this.keys.length);
      writer.u32(to - from);
      for (let slot = from; slot < to; slot++) {
        const key = this.keys[slot];
        const bytes = this.saved[slot];
        writer.text(key ?? '');
        if (key === undefined) writer.bytes(NOTHING);
        else if (bytes) writer.bytes(bytes);
        else writer.nested((w) => this.codec.save(this.peek(slot), w));
      }
      this.chunkAsOf[chunk] = Number(offset);
      chunks.push({ key: `chunk-${chunk}`, value: writer.finish() });
    }
    this.changedChunks.clear();
    this.lastChanged = -1;
    this.position = Number(offset);
    this.newest = Math.max(this.newest, Number(offset));
    return {
      chunks,
      marker: { key: MARKER, value: new StateWriter().u32(FORMAT).f64(Number(offset)).finish() },
      failed: () => {
        for (const chunk of numbers) this.changedChunks.add(chunk);
      },
    };
  }

  /** Takes one record of the state topic, oldest first; a newer record of a key replaces the older. */
  load(key: string, value: Buffer): void {
    const reader = new StateReader(value);
    if (reader.u32() !== FORMAT) return;
    const offset = reader.f64();
    if (key === MARKER) {
      this.position = offset;
      this.newest = Math.max(this.newest, offset);
      return;
    }
    const chunk = Number(key.slice(key.indexOf('-') + 1));
    if (!Number.isInteger(chunk)) return;
    this.chunkAsOf[chunk] = offset;
    this.newest = Math.max(this.newest, offset);
    const count = reader.u32();
    for (let i = 0; i < count; i++) {
      const slot = chunk * kafkaLimits.seriesPerChunk + i;
      const name = reader.text();
      if (name === '') {
        // a series that was lost with a chunk that a crash cut off; it got another slot when it was learnt again
        reader.bytes();
        continue;
      }
      // a copy: the record's buffer is part of a whole fetched batch
      this.saved[slot] = Uint8Array.from(reader.bytes());
      this.live[slot] = undefined;
      this.keys[slot] = name;
      this.slots.set(name, slot);
    }
  }

  private materialise(slot: number): T {
    const bytes = this.saved[slot];
    const key = this.keyOf(slot);
    const state = bytes ? this.codec.restore(key, new StateReader(bytes)) : this.codec.create(key);
    this.saved[slot] = undefined;
    this.live[slot] = state;
    return state;
  }
}
