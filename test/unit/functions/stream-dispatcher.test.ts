import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { type StreamTrigger, triggerSchema } from '../../../src/functions/definition.js';
import type { EventRecord } from '../../../src/functions/invocation.js';
import { StreamDispatcher, type StreamRecord } from '../../../src/functions/triggers/stream-dispatcher.js';

const triggerOf = (more: object) => triggerSchema.parse({ type: 'stream', topic: 't', ...more }) as StreamTrigger;

function recordOf(offset: number, key: string | null, value: unknown): StreamRecord {
  const event: EventRecord = { key, value, headers: {}, offset, timestamp: 0 };
  return { offset, key, bytes: 10, timestamp: 0, decode: () => event };
}

async function drive(clock: VirtualClock, dispatcher: StreamDispatcher): Promise<void> {
  for (let i = 0; i < 2_000 && dispatcher.held > 0; i++) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1_000);
  }
}

test('each record ends once; order holds; the safe offset never passes an unfinished one; a poisoned one ends alone', async () => {
  const record = fc.record({
    key: fc.constantFrom('a', 'b', 'c', null),
    kind: fc.constantFrom('ok', 'ok', 'ok', 'bad', 'named', 'other'),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { minLength: 1, maxLength: 60 }),
      fc.constantFrom('partition', 'key'),
      fc.integer({ min: 1, max: 9 }),
      async (specs, order, size) => {
        const clock = new VirtualClock();
        const ended: number[] = [];
        const dead: number[] = [];
        // what is thrown inside a port would count as the function's failure
        const wrong: string[] = [];
        const must = (what: string, holds: boolean): void => {
          if (!holds) wrong.push(what);
        };
        let inFlight = 0;
        const keys = new Set<string>();
        const dispatcher: StreamDispatcher = new StreamDispatcher(
          triggerOf({ order, batch: { size }, attempts: 2, parallel: 3, filter: { value: ['ok', 'bad', 'named'] } }),
          {
            clock,
            random: () => 0.5,
            async invoke(records) {
              must('batches at once', ++inFlight <= (order === 'key' ? 3 : 1));
              const own = [...new Set(records.flatMap(({ key }) => key ?? []))];
              if (order === 'key') for (const key of own) must('one batch a key', !keys.has(key));
              for (const key of own) keys.add(key);
              must(
                'order in a batch',
                records.every(({ offset }, i) => i === 0 || offset > records[i - 1]!.offset),
              );
              await new Promise((resolve) => setImmediate(resolve));
              for (const key of own) keys.delete(key);
              inFlight--;
              if (records.some(({ value }) => value === 'bad')) throw new Error('poison');
              const named = records.filter(({ value }) => value === 'named').map(({ offset }) => ({ offset }));
              return named.length > 0 ? { batchItemFailures: named } : records.map(() => 1);
            },
            async deliver(records) {
              for (const { offset } of records) {
                must('safe offset', dispatcher.safeOffset! <= offset);
                ended.push(offset);
              }
            },
            async giveUp({ record: { offset }, attempts }) {
              must('attempts', attempts === 2);
              must('safe offset', dispatcher.safeOffset! <= offset);
              dead.push(offset);
            },
          },
        );
        await dispatcher.push(specs.map(({ key, kind }, i) => recordOf(i, key, kind)));
        await drive(clock, dispatcher);
        const of = (...kinds: string[]) => specs.flatMap(({ kind }, i) => (kinds.includes(kind) ? [i] : []));
        expect(wrong).toEqual([]);
        expect(ended.toSorted((a, b) => a - b)).toEqual(of('ok'));
        expect(dead.toSorted((a, b) => a - b)).toEqual(of('bad', 'named'));
        expect(dispatcher.counts).toMatchObject({ done: of('ok').length, filtered: of('other').length });
        expect(dispatcher.safeOffset).toBe(specs.length);
        if (order === 'partition') expect(ended).toEqual(of('ok'));
      },
    ),
    { numRuns: 150 },
  );
});

test('a batch waits for its window, a pause stops new ones, and a full house holds the sender back', async () => {
  const clock = new VirtualClock();
  const sizes: number[] = [];
  const ports = {
    clock,
    invoke: async (records: readonly EventRecord[]) => sizes.push(records.length),
    deliver: async () => undefined,
    giveUp: async () => undefined,
  };
  const dispatcher = new StreamDispatcher(triggerOf({ batch: { size: 3, windowMs: 50 } }), ports, 4);
  await dispatcher.push([recordOf(0, null, 1), recordOf(1, null, 1)]);
  expect(sizes).toEqual([]);
  clock.advance(50);
  expect(sizes).toEqual([2]);
  await drive(clock, dispatcher);
  dispatcher.pause();
  let through = false;
  const pushed = dispatcher.push([2, 3, 4, 5].map((i) => recordOf(i, null, 1))).then(() => {
    through = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  expect({ through, sizes, safe: dispatcher.safeOffset }).toEqual({ through: false, sizes: [2], safe: 2 });
  dispatcher.resume();
  await pushed;
  await drive(clock, dispatcher);
  expect({ sizes, safe: dispatcher.safeOffset }).toEqual({ sizes: [2, 3, 1], safe: 6 });
});
