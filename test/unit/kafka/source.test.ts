import type { EachBatchPayload, Kafka } from 'kafkajs';
import { expect, it, vi } from 'vitest';
import { type AckBatch, type SourceOptions, source } from '../../../src/kafka/source.js';

/** A consumer that delivers what a test says, and remembers what it was asked. */
function fakeKafka() {
  const listeners = new Map<string, (event: { payload: unknown }) => void>();
  let eachBatch: ((payload: EachBatchPayload) => Promise<void>) | undefined;
  const asked = { runs: 0, seeks: [] as string[], commits: [] as string[], commitError: undefined as unknown };
  const consumer = {
    events: { GROUP_JOIN: 'join', CRASH: 'crash' },
    on: (name: string, listener: (event: { payload: unknown }) => void) => listeners.set(name, listener),
    connect: async () => undefined,
    subscribe: async () => undefined,
    run: async (config: { eachBatch: (payload: EachBatchPayload) => Promise<void> }) => {
      asked.runs++;
      eachBatch = config.eachBatch;
    },
    seek: ({ offset }: { offset: string }) => asked.seeks.push(offset),
    pause: () => undefined,
    commitOffsets: async (offsets: { offset: string }[]) => {
      if (asked.commitError) throw asked.commitError;
      asked.commits.push(...offsets.map((one) => one.offset));
    },
    disconnect: async () => undefined,
  };
  const join = (): void => listeners.get('join')!({ payload: { memberAssignment: { metrics: [0] } } });
  const crash = (error: Error): void => listeners.get('crash')!({ payload: { error, restart: false } });
  const deliver = async (from: number, to: number): Promise<void> => {
    const messages = Array.from({ length: to - from }, (_, i) => ({ offset: String(from + i) }));
    await eachBatch!({
      batch: { topic: 'metrics', partition: 0, highWatermark: '100', messages },
      resolveOffset: () => undefined,
      heartbeat: async () => undefined,
      isRunning: () => true,
      isStale: () => false,
    } as unknown as EachBatchPayload);
  };
  return { kafka: { consumer: () => consumer } as unknown as Kafka, asked, join, crash, deliver };
}

/** A source whose state of partition 0 reaches to offset 2, and the batches it gave: offsets, and whether they are a replay. */
async function sourceFrom(options: Partial<SourceOptions> = {}, take = (batch: AckBatch): void => batch.ack()) {
  const fake = fakeKafka();
  const errors: unknown[] = [];
  const seen: [number, number, boolean][] = [];
  const one = source(fake.kafka, {
    topics: ['metrics'],
    groupId: 'g',
    prepare: async () => ({ position: 2n, cuts: [] }),
    onError: (error) => errors.push(error),
    ...options,
  });
  one.batches.subscribe((batch) => {
    seen.push([Number(batch.firstOffset), Number(batch.lastOffset), batch.replay]);
    take(batch);
  });
  await vi.waitFor(() => expect(fake.asked.runs).toBe(1));
  fake.join();
  return { ...fake, one, errors, seen };
}

it('learns what lies between a restored state and the committed offset, and leaves nothing out when the group changes meanwhile', async () => {
  const { asked, join, deliver, seen, one } = await sourceFrom();
  await deliver(10, 15);
  expect(asked.seeks).toEqual(['2']);
  await deliver(2, 6);
  // the same partition is assigned again, and the client fetches from the committed offset
  join();
  await deliver(10, 15);
  expect(asked.seeks).toEqual(['2', '6']);
  await deliver(6, 15);
  expect(seen).toEqual([
    [2, 5, true],
    [6, 9, true],
    [10, 14, false],
  ]);
  await one.close();
});

it('begins a batch that failed again from the checkpoint, writes no output twice, and says what happened', async () => {
  let broken = true;
  const { asked, deliver, seen, errors, one } = await sourceFrom({}, (batch) => {
    if (batch.firstOffset === 15n && broken) batch.fail(new TypeError('a bug'));
    else batch.ack();
  });
  await deliver(10, 15);
  await deliver(2, 15);
  const failed = await deliver(15, 20).catch((error: unknown) => error);
  // kafkajs would end the consumer for good at a TypeError
  expect(failed).toMatchObject({ name: 'Error', message: 'a bug' });
  expect(errors.map(String)).toEqual(['Error: a bug']);
  broken = false;
  await deliver(15, 20);
  expect(asked.seeks).toEqual(['2', '2']);
  await deliver(2, 20);
  expect(seen).toEqual([
    [2, 9, true],
    [10, 14, false],
    [15, 19, false],
    [2, 14, true],
    [15, 19, false],
  ]);
  await one.close();
});

it('runs again after the client gave up, and tells of it', async () => {
  const { asked, crash, errors, one } = await sourceFrom();
  crash(new Error('The coordinator is not aware of this member'));
  await vi.waitFor(() => expect(asked.runs).toBe(2), 5_000);
  expect(errors).toHaveLength(1);
  await one.close();
  crash(new Error('too late'));
  expect(errors).toHaveLength(1);
});

it('goes on when a commit is refused: the next one makes it good', async () => {
  const { asked, deliver, one } = await sourceFrom({
    commitEveryMs: 0,
    prepare: async () => ({ position: 0n, cuts: [] }),
  });
  asked.commitError = Object.assign(new Error('rebalance'), { retriable: false });
  await deliver(0, 5);
  expect(asked.commits).toEqual([]);
  asked.commitError = undefined;
  await deliver(5, 10);
  await vi.waitFor(() => expect(asked.commits).toContain('10'));
  await one.close();
});
