import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Checkpoint, PartitionState, type StateCodec } from '../../../src/kafka/partition-state.js';
import { cut } from '../../../src/kafka/source.js';
import { kafkaLimits } from '../../../src/limits.js';

/** State that tells exactly which offsets it has learnt, and complains about one learnt twice. */
interface Learnt {
  offsets: number[];
}
const codec: StateCodec<Learnt> = {
  create: () => ({ offsets: [] }),
  save: ({ offsets }, writer) => writer.f64s(offsets),
  restore: (_, reader) => ({ offsets: [...reader.f64s()] }),
};

interface Message {
  readonly offset: string;
  readonly key: string;
}

/** Learns a run of messages the way the operators do: batch by batch, skipping what a series knows. */
function learn(state: PartitionState<Learnt>, batch: readonly Message[]): void {
  const first = BigInt(batch[0]!.offset);
  const skipping = state.mustSkip(first);
  for (const { offset, key } of batch) {
    const slot = state.slotOf(key);
    if (skipping && state.knows(slot, first)) continue;
    state.change(slot).offsets.push(Number(offset));
  }
}

/** The state topic, compacted: the last record of a key. */
function store(topic: Map<string, Buffer>, { chunks, marker }: Checkpoint, upTo = Number.POSITIVE_INFINITY): void {
  [...chunks, marker].slice(0, upTo).forEach(({ key, value }) => {
    topic.delete(key);
    topic.set(key, value);
  });
}

function restored(topic: ReadonlyMap<string, Buffer>): PartitionState<Learnt> {
  const state = new PartitionState(codec);
  for (const [key, value] of topic) state.load(key, value);
  return state;
}

it('writes only chunks with a changed series, and gives the same state back', () => {
  const state = new PartitionState(codec);
  const many = 3 * kafkaLimits.seriesPerChunk;
  learn(
    state,
    Array.from({ length: many }, (_, i) => ({ offset: String(i), key: `s${i}` })),
  );
  const topic = new Map<string, Buffer>();
  const all = state.checkpoint(BigInt(many));
  expect(all.chunks).toHaveLength(3);
  store(topic, all);
  learn(state, [{ offset: String(many), key: 's0' }]);
  const one = state.checkpoint(BigInt(many + 1));
  expect(one.chunks.map((c) => c.key)).toEqual(['chunk-0']);
  store(topic, one);
  const back = restored(topic);
  expect(back.startPoint).toEqual({ position: BigInt(many + 1), cuts: [] });
  expect(back.size).toBe(many);
  expect(back.peek(back.slotOf('s0')).offsets).toEqual([0, many]);
  expect(back.peek(back.slotOf(`s${many - 1}`)).offsets).toEqual([many - 1]);
});

it('writes chunks again after a checkpoint that failed', () => {
  const state = new PartitionState(codec);
  learn(state, [{ offset: '0', key: 'a' }]);
  state.checkpoint(1n).failed();
  expect(state.checkpoint(1n).chunks).toHaveLength(1);
  expect(state.checkpoint(1n).chunks).toHaveLength(0);
});

it('keeps what it learnt from a log that has gone, and learns the new one from its beginning', () => {
  const old = new PartitionState(codec);
  learn(old, [{ offset: '500', key: 'a' }]);
  const topic = new Map<string, Buffer>();
  store(topic, old.checkpoint(501n));
  const state = restored(topic);
  state.beginAnew(0n);
  expect(state.startPoint).toEqual({ position: 0n, cuts: [] });
  store(topic, state.checkpoint(0n));
  for (const one of [state, restored(topic)]) {
    learn(one, [{ offset: '0', key: 'a' }]);
    expect(one.peek(one.slotOf('a')).offsets).toEqual([500, 0]);
  }
});

it('has no start point before anything was saved', () => {
  expect(new PartitionState(codec).startPoint).toBeUndefined();
});

it('learns every message exactly once, wherever a crash cuts a checkpoint off', () => {
  const messages = fc.array(fc.integer({ min: 0, max: 60 }), { minLength: 1, maxLength: 200 });
  const batchSize = fc.integer({ min: 1, max: 40 });
  fc.assert(
    fc.property(
      messages,
      batchSize,
      batchSize,
      fc.integer({ min: 0, max: 8 }),
      fc.nat(),
      (keys, before, after, torn, at) => {
        const input = keys.map((k, i): Message => ({ offset: String(i), key: `s${k}` }));
        const topic = new Map<string, Buffer>();
        const state = new PartitionState(codec);
        // what a pipeline does before it learns anything
        store(topic, state.checkpoint(0n));
        const batches: Message[][] = [];
        for (let i = 0; i < input.length; i += before) batches.push(input.slice(i, i + before));
        const crash = at % batches.length;
        batches.slice(0, crash + 1).forEach((batch, i) => {
          learn(state, batch);
          const checkpoint = state.checkpoint(BigInt(batch.at(-1)!.offset) + 1n);
          if (i < crash && i % 2 === 0) store(topic, checkpoint);
          else if (i === crash) store(topic, checkpoint, torn);
          else checkpoint.failed();
        });
        const second = restored(topic);
        const { position, cuts } = second.startPoint!;
        for (let i = 0; i < input.length; i += after) {
          for (const batch of cut(input.slice(i, i + after), position, cuts)) learn(second, batch);
        }
        for (const key of new Set(input.map((m) => m.key)))
          expect(second.peek(second.slotOf(key)).offsets).toEqual(
            input.filter((m) => m.key === key).map((m) => Number(m.offset)),
          );
      },
    ),
    { numRuns: 300 },
  );
});

it('cuts a batch at borders and leaves out what is known, and nothing else', () => {
  const batch = [3, 4, 7, 8, 9].map((o) => ({ offset: String(o) }));
  const offsets = (parts: readonly (readonly { offset: string }[])[]): string[][] =>
    parts.map((p) => p.map((m) => m.offset));
  expect(cut(batch, 0n, [])).toEqual([batch]);
  expect(cut(batch, 0n, [])[0]).toBe(batch);
  expect(offsets(cut(batch, 5n, []))).toEqual([['7', '8', '9']]);
  expect(offsets(cut(batch, 5n, [8n, 20n]))).toEqual([['7'], ['8', '9']]);
  expect(offsets(cut(batch, 0n, [4n, 5n, 7n]))).toEqual([['3'], ['4'], ['7', '8', '9']]);
  expect(cut(batch, 10n, [])).toEqual([]);
});
