import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import type { StreamTrigger } from '../../../src/functions/definition.js';
import { triggerSchema } from '../../../src/functions/definition.js';
import type { FunctionEvent, InvocationResult } from '../../../src/functions/invocation.js';
import { Slots } from '../../../src/functions/triggers/slots.js';
import type { TopicRecord, TransactionalWriter } from '../../../src/kafka/transactional-writer.js';
import { TopicPartition } from '../../../src/operators/topic-trigger-partition.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A partition's part of a broker: what is committed, and the writer that may commit. */
class Ledger {
  offset = 0;
  readonly written: TopicRecord[] = [];
  private epoch = 0;

  constructor(private readonly fate: () => 'done' | 'refused' | 'done, but the answer is lost') {}

  writer(): TransactionalWriter {
    let own = -1;
    return {
      fence: async () => {
        own = ++this.epoch;
      },
      commit: async (records, { offset }) => {
        await turn();
        if (own !== this.epoch) throw new Error('fenced');
        const fate = this.fate();
        if (fate === 'refused') throw new Error(fate);
        this.written.push(...records);
        this.offset = offset;
        if (fate !== 'done') throw new Error(fate);
      },
      close: async () => undefined,
    };
  }
}

test('calls say which setting ends them and which versions they are for', async () => {
  const rules = { batch: { size: 1, bytes: 1, windowMs: 0 }, order: 'key', bisect: false, attempts: 1 } as const;
  const waits = { maxAgeSeconds: 60, backoffMs: 0, maxBackoffMs: 0 };
  const called: unknown[] = [];
  const partition = new TopicPartition({
    trigger: {
      ...{ kind: 'queue', name: 'f', topic: 'jobs', from: 'earliest', rules: { ...rules, ...waits }, parallel: 1 },
      ...{ shared: true, exactlyOnce: false, deadLetters: false, to: {}, timeoutMs: 500, alias: 'live' },
    },
    ...{ groupId: 'g', partition: 0, start: 0, slots: new Slots(1), clock: new VirtualClock() },
    service: {
      async invoke(name, _event, options = {}) {
        const { timeoutMs, timeoutOf, qualifier } = options;
        called.push({ name, timeoutMs, timeoutOf, qualifier });
        throw new Error('no');
      },
    },
    sink: { write: async () => undefined },
    onError: () => undefined,
  });
  partition.offer([{ key: null, value: Buffer.from('1'), offset: '0', timestamp: '0' }]);
  await partition.drain();
  expect(called).toEqual([
    { name: 'f', timeoutMs: 500, timeoutOf: 'visibilityMs of its trigger on jobs', qualifier: 'live' },
  ]);
  expect(partition.dispatcher.counts).toMatchObject({ dead: 1, failedCalls: 1 });
  partition.close();
});

test('exactly once: whatever is refused, lost on the way or taken over by another, each record is answered or given up in one commit', async () => {
  const record = fc.record({
    key: fc.constantFrom('a', 'b', 'c', null),
    kind: fc.constantFrom('ok', 'ok', 'ok', 'bad', 'named'),
  });
  const random = fc.infiniteStream(fc.integer({ min: 0, max: 9 }));
  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { minLength: 1, maxLength: 50 }),
      fc.constantFrom('partition' as const, 'key' as const),
      fc.boolean(),
      fc.integer({ min: 1, max: 6 }),
      random,
      async (specs, order, list, size, dice) => {
        const roll = (): number => dice.next().value as number;
        const clock = new VirtualClock();
        const ledger = new Ledger(() => (['refused', 'done, but the answer is lost'] as const)[roll()] ?? 'done');
        const rules = triggerSchema.parse({
          type: 'stream',
          topic: 'in',
          order,
          batch: { size },
          attempts: 2,
          backoffMs: 0,
        }) as StreamTrigger;
        const service = {
          async invoke(_name: string, event: FunctionEvent): Promise<InvocationResult> {
            const { records } = event as Extract<FunctionEvent, { trigger: 'stream' | 'queue' }>;
            for (let i = roll() % 3; i > 0; i--) await turn();
            if (records.some(({ value }) => value === 'bad')) throw new Error('bad');
            const named = records.filter(({ value }) => value === 'named').map(({ offset }) => ({ offset }));
            const ids = records.map(({ offset }) => offset);
            // one answer for each record, or one for all of them, which no commit may split
            const output =
              named.length > 0 ? { batchItemFailures: named } : list ? ids.map((id) => ({ ids: [id] })) : { ids };
            return {
              invocationId: 'i',
              output,
              durationMs: 1,
              initMs: 0,
              cold: false,
              memoryUsedMb: 1,
              logs: [],
              logsTruncated: false,
            };
          },
        };
        const messages = specs.map(({ key, kind }, i) => ({
          key: key === null ? null : Buffer.from(key),
          value: Buffer.from(kind),
          offset: String(i),
          timestamp: '0',
        }));
        let lost = false;
        const open = async (): Promise<TopicPartition> => {
          lost = false;
          const writer = ledger.writer();
          await writer.fence();
          return new TopicPartition({
            trigger: {
              kind: 'stream',
              name: 'f',
              topic: 'in',
              from: 'earliest',
              rules,
              parallel: 3,
              shared: false,
              exactlyOnce: true,
              deadLetters: 'dead',
              to: { output: 'out' },
            },
            groupId: 'g',
            partition: 0,
            start: ledger.offset,
            slots: new Slots(order === 'key' ? 3 : 1),
            service,
            sink: { write: async () => undefined },
            clock,
            transactions: {
              writer,
              position: async () => ledger.offset,
              lost: () => {
                lost = true;
              },
            },
            onError: () => undefined,
          });
        };
        let partition = await open();
        for (let i = 0; i < 3_000 && ledger.offset < specs.length; i++) {
          if (lost || roll() === 0) {
            // a crash, or another process takes over and this one does not know yet
            const before = partition;
            partition = await open();
            if (roll() > 4) before.close();
            else void turn().then(() => before.close());
          }
          partition.offer(messages.slice(partition.nextOffset, partition.nextOffset + 1 + roll()));
          for (let j = roll(); j > 0; j--) await turn();
          clock.advance(10_000);
        }
        partition.close();
        const answered: number[] = [];
        const dead: number[] = [];
        for (const {
          topic,
          record: { value, headers },
        } of ledger.written) {
          if (topic === 'out') answered.push(...(JSON.parse(String(value)) as { ids: number[] }).ids);
          else dead.push(Number(headers?.['iguana-offset']));
        }
        const of = (...kinds: string[]) => specs.flatMap(({ kind }, i) => (kinds.includes(kind) ? [i] : []));
        expect(dead.toSorted((a, b) => a - b)).toEqual(of('bad', 'named'));
        // what a function names as failed ends the batch without an answer for the others
        expect(new Set(answered).size).toBe(answered.length);
        if (of('named').length === 0) expect(answered.toSorted((a, b) => a - b)).toEqual(of('ok'));
        if (order === 'partition') expect(answered).toEqual(answered.toSorted((a, b) => a - b));
      },
    ),
    { numRuns: 300 },
  );
});
