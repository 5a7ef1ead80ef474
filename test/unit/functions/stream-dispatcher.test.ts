import fc from 'fast-check';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import { type StreamTrigger, triggerSchema } from '../../../src/functions/definition.js';
import type { EventRecord } from '../../../src/functions/invocation.js';
import { Slots } from '../../../src/functions/triggers/slots.js';
import {
  type DispatcherOptions,
  type DispatcherPorts,
  type GivenUp,
  StreamDispatcher,
  type StreamRecord,
} from '../../../src/functions/triggers/stream-dispatcher.js';

const triggerOf = (more: object) => triggerSchema.parse({ type: 'stream', topic: 't', ...more }) as StreamTrigger;

function recordOf(offset: number, key: string | null, value: unknown, timestamp = 0): StreamRecord {
  const event: EventRecord = { key, value, headers: {}, offset, timestamp };
  return {
    offset,
    key,
    bytes: 10,
    timestamp,
    decode: () => {
      if (value === 'torn') throw new IguanaError('IGU_RECORD_MALFORMED', { what: 'torn' });
      return event;
    },
  };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));

async function drive(clock: VirtualClock, dispatcher: StreamDispatcher<StreamRecord>): Promise<void> {
  for (let i = 0; i < 5_000 && dispatcher.held > 0; i++) {
    await turn();
    clock.advance(1_000);
  }
}

/** A dispatcher over a function, with all that it was called with and all that came of it. */
function bench(
  trigger: object,
  invoke: (records: readonly EventRecord[], attempt: number) => unknown,
  more: DispatcherOptions = {},
) {
  const clock = new VirtualClock();
  const calls: number[][] = [];
  const done: number[] = [];
  const dead: GivenUp<StreamRecord>[] = [];
  const stalls: unknown[] = [];
  const unfit: string[] = [];
  const ports: DispatcherPorts<StreamRecord> = {
    clock,
    random: () => 0.5,
    async invoke(records, attempt) {
      calls.push(records.map(({ offset }) => offset));
      return { output: await invoke(records, attempt) };
    },
    async deliver(records) {
      done.push(...records.map(({ offset }) => offset));
    },
    async giveUp(letter) {
      dead.push(letter);
    },
    unfit: (_, error) => unfit.push((error as Error).message),
    stalled: (error) => stalls.push(error),
  };
  const { delayMs = 0, ...rest } = trigger as { delayMs?: number };
  const rules = { ...triggerOf(rest), delayMs };
  const dispatcher = new StreamDispatcher<StreamRecord>(rules, ports, more);
  return { clock, calls, done, dead, stalls, unfit, dispatcher };
}

test('each record ends once, as often tried as promised; order holds; the safe offset never passes an unfinished one', async () => {
  const record = fc.record({
    key: fc.constantFrom('a', 'b', 'c', 'd', null),
    // calls in which it fails: thrown, or named in the answer; `torn` cannot be read, `other` does not match
    kind: fc.constantFrom('ok', 'ok', 'ok', 'ok', 'thrown', 'named', 'once-thrown', 'once-named', 'torn', 'other'),
  });
  const shape = fc.record({
    order: fc.constantFrom('partition' as const, 'key' as const),
    size: fc.integer({ min: 1, max: 9 }),
    bytes: fc.constantFrom(25, 1_000),
    bisect: fc.constant(true),
    attempts: fc.integer({ min: 1, max: 4 }),
    parallel: fc.integer({ min: 1, max: 4 }),
    maxRecords: fc.constantFrom(5, 1_000),
    retain: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(record, { minLength: 1, maxLength: 70 }),
      shape,
      fc.infiniteStream(fc.boolean()),
      async (specs, shape, coin) => {
        const clock = new VirtualClock();
        const { order, size, bytes, attempts, parallel, maxRecords, retain } = shape;
        const ended = new Map<number, string>();
        const tries = new Map<number, number>();
        const wrong: string[] = [];
        // what is thrown inside a port would count as the function's failure
        const must = (what: string, holds: boolean): void => {
          if (!holds) wrong.push(what);
        };
        const end = (offset: number, how: string): void => {
          must(`${offset} ends once`, !ended.has(offset));
          must(`safe offset ${dispatcher.safeOffset} is not above ${offset}`, dispatcher.safeOffset! <= offset);
          ended.set(offset, how);
        };
        const sameLane = (a: number, b: number): boolean =>
          order === 'partition' || (specs[a]!.key !== null && specs[a]!.key === specs[b]!.key);
        const throws = ({ offset, value }: EventRecord): boolean =>
          value === 'thrown' || (value === 'once-thrown' && (tries.get(offset) ?? 0) < 1);
        const names = ({ offset, value }: EventRecord): boolean =>
          value === 'named' || (value === 'once-named' && (tries.get(offset) ?? 0) < 1);
        let inFlight = 0;
        const dispatcher: StreamDispatcher<StreamRecord> = new StreamDispatcher<StreamRecord>(
          triggerOf({
            order,
            batch: { size, bytes },
            attempts,
            backoffMs: 0,
            filter: { value: ['ok', 'thrown', 'named', 'once-thrown', 'once-named'] },
          }),
          {
            clock,
            random: () => 0.5,
            async invoke(records, attempt) {
              const offsets = records.map(({ offset }) => offset);
              must('calls at once', ++inFlight <= (order === 'key' ? parallel : 1));
              must('batch size', offsets.length <= size && offsets.length > 0);
              must('batch bytes', offsets.length === 1 || offsets.length * 10 <= bytes);
              must(
                'ascending',
                offsets.every((offset, i) => i === 0 || offset > offsets[i - 1]!),
              );
              must('attempt', attempt === 1 + Math.max(...offsets.map((offset) => tries.get(offset) ?? 0)));
              for (const offset of offsets) {
                must(`${offset} is called after its end`, !ended.has(offset));
                for (let earlier = 0; earlier < offset; earlier++) {
                  if (!sameLane(earlier, offset) || specs[earlier]!.kind === 'torn' || specs[earlier]!.kind === 'other')
                    continue;
                  must(`${earlier} before ${offset}`, ended.has(earlier) || offsets.includes(earlier));
                }
              }
              for (let i = coin.next().value ? 2 : 0; i > 0; i--) await turn();
              inFlight--;
              if (records.some(throws)) {
                if (records.length === 1) tries.set(offsets[0]!, (tries.get(offsets[0]!) ?? 0) + 1);
                throw new Error('poison');
              }
              const named = records.filter(names).map(({ offset }) => offset);
              for (const offset of named) tries.set(offset, (tries.get(offset) ?? 0) + 1);
              const failures = { batchItemFailures: named.map((offset) => ({ offset })) };
              return { output: named.length > 0 ? failures : records.map(() => 1) };
            },
            async deliver(records) {
              if (coin.next().value) await turn();
              for (const { offset } of records) end(offset, 'done');
            },
            async giveUp({ record: { offset }, attempts: made, code }) {
              if (coin.next().value) throw new Error('not now');
              must(`${offset} was tried`, made === (tries.get(offset) ?? 0));
              end(offset, code === 'IGU_RECORD_MALFORMED' ? 'torn' : 'dead');
            },
          },
          { slots: new Slots(order === 'key' ? parallel : 1), maxRecords, retain, start: 0 },
        );
        let rest = specs.map(({ key, kind }, i) => recordOf(i, key, kind));
        for (let i = 0; i < 5_000 && (rest.length > 0 || dispatcher.held > 0); i++) {
          rest = rest.slice(dispatcher.offer(rest.slice(0, coin.next().value ? 3 : 50)));
          must('held', dispatcher.held <= maxRecords);
          if (retain) dispatcher.committed(dispatcher.safeOffset!);
          await turn();
          clock.advance(10_000);
        }
        expect(wrong).toEqual([]);
        const expected = (kind: string): string | undefined => {
          if (kind === 'other') return undefined;
          if (kind === 'torn') return 'torn';
          if (kind === 'thrown' || kind === 'named') return 'dead';
          return kind !== 'ok' && attempts === 1 ? 'dead' : 'done';
        };
        expect(specs.map((_, i) => ended.get(i))).toEqual(specs.map(({ kind }) => expected(kind)));
        for (const [i, { kind }] of specs.entries()) {
          if (kind === 'thrown' || kind === 'named') expect(tries.get(i)).toBe(attempts);
        }
        expect(dispatcher.counts.filtered).toBe(specs.filter(({ kind }) => kind === 'other').length);
        expect(dispatcher.safeOffset).toBe(specs.length);
      },
    ),
    { numRuns: 300 },
  );
});

test('a record named as failed holds its followers of the same key, and nobody else', async () => {
  const failing = new Set([1]);
  const { calls, done, clock, dispatcher } = bench({ order: 'key', backoffMs: 0 }, (records) => {
    const named = records.filter(({ offset }) => failing.has(offset)).map(({ offset }) => ({ offset }));
    failing.clear();
    return { batchItemFailures: named };
  });
  dispatcher.offer([recordOf(0, 'a', 1), recordOf(1, 'a', 1), recordOf(2, 'b', 1), recordOf(3, 'a', 1)]);
  await drive(clock, dispatcher);
  expect(calls).toEqual([
    [0, 1, 2, 3],
    [1, 3],
  ]);
  expect(done).toEqual([0, 2, 1, 3]);
});

test('a key that waits for its next try takes no slot from others', async () => {
  const { calls, dead, clock, dispatcher } = bench(
    { order: 'key', batch: { size: 1 }, attempts: 3, backoffMs: 60_000, maxBackoffMs: 60_000 },
    (records) => {
      if (records[0]!.key === 'bad') throw new Error('no');
    },
    { slots: new Slots(1) },
  );
  dispatcher.offer([recordOf(0, 'bad', 1), recordOf(1, 'bad', 1), recordOf(2, 'good', 1), recordOf(3, 'good', 1)]);
  for (let i = 0; i < 10; i++) await turn();
  expect(calls).toEqual([[0], [2], [3]]);
  expect(dispatcher.safeOffset).toBe(0);
  for (let i = 0; i < 20 && dispatcher.held > 0; i++) {
    clock.advance(60_000);
    for (let j = 0; j < 5; j++) await turn();
  }
  expect(dead.map(({ record, attempts }) => [record.offset, attempts])).toEqual([
    [0, 3],
    [1, 3],
  ]);
});

test('halving finds one poisoned record of a hundred in few calls; the others are called again only while it is among them', async () => {
  const { calls, done, dead, clock, dispatcher } = bench({ attempts: 1 }, (records) => {
    if (records.some(({ value }) => value === 'bad')) throw new Error('poison');
  });
  dispatcher.offer(Array.from({ length: 100 }, (_, i) => recordOf(i, null, i === 37 ? 'bad' : 'ok')));
  await drive(clock, dispatcher);
  expect(dead.map(({ record }) => record.offset)).toEqual([37]);
  expect(done).toHaveLength(99);
  expect(calls.length).toBeLessThanOrEqual(15);
});

test('throttling, code that does not load and a neighbour that crashed use up no tries and split nothing', async () => {
  const errors = [
    'IGU_FUNCTION_BUSY',
    'IGU_FUNCTION_CODE',
    'IGU_FUNCTION_INTERRUPTED',
    'IGU_FUNCTION_NOT_FOUND',
    'IGU_FUNCTION_NOT_READY',
  ] as const;
  let n = 0;
  const { calls, done, dead, stalls, clock, dispatcher } = bench({ attempts: 1 }, () => {
    const code = errors[n++];
    if (code) throw new IguanaError(code, { name: 'f', what: 'test' });
  });
  dispatcher.offer([recordOf(0, null, 1), recordOf(1, null, 1)]);
  await drive(clock, dispatcher);
  expect({ calls: calls.length, done, dead, stalls: stalls.length }).toEqual({
    calls: 6,
    done: [0, 1],
    dead: [],
    stalls: 5,
  });
});

test('a list of failures that names what was not given is a failure of the call', async () => {
  const { dead, done, unfit, clock, dispatcher } = bench({ attempts: 1 }, (records) => ({
    batchItemFailures: records.some(({ offset }) => offset === 2) ? [{ offset: 77 }] : [],
  }));
  dispatcher.offer([0, 1, 2, 3].map((i) => recordOf(i, null, 1)));
  await drive(clock, dispatcher);
  expect(done).toEqual([0, 1, 3]);
  expect(dead.map(({ record, code, reason }) => [record.offset, code, reason.includes('77')])).toEqual([
    [2, 'IGU_FUNCTION_FAILED', true],
  ]);
  // in the call of all four, and in the smaller ones that the record was in
  expect(unfit).toHaveLength(3);
  for (const line of unfit) expect(line).toContain('names offset 77, which it was not given');
});

test('old records are not tried again', async () => {
  const { calls, dead, clock, dispatcher } = bench({ attempts: 10, maxAgeSeconds: 60, bisect: false }, () => {
    throw new Error('no');
  });
  clock.advance(100_000);
  dispatcher.offer([recordOf(0, null, 1, 30_000), recordOf(1, null, 1, 99_000)]);
  await turn();
  await turn();
  expect(dead.map(({ record, attempts }) => [record.offset, attempts])).toEqual([[0, 1]]);
  await drive(clock, dispatcher);
  expect(dead.map(({ record }) => record.offset)).toEqual([0, 1]);
  expect(calls[0]).toEqual([0, 1]);
});

test('a batch waits for its window, a pause stops new ones, and a full house takes no more', async () => {
  const { clock, calls, dispatcher } = bench({ batch: { size: 3, windowMs: 50 } }, () => undefined, { maxRecords: 4 });
  expect(dispatcher.offer([recordOf(0, null, 1), recordOf(1, null, 1)])).toBe(2);
  expect(calls).toEqual([]);
  clock.advance(50);
  expect(calls).toEqual([[0, 1]]);
  await drive(clock, dispatcher);
  dispatcher.pause();
  expect(dispatcher.offer([2, 3, 4, 5, 6].map((i) => recordOf(i, null, 1)))).toBe(4);
  let room = false;
  const waiting = dispatcher.room().then(() => {
    room = true;
  });
  await turn();
  expect({ room, calls, safe: dispatcher.safeOffset, next: dispatcher.nextOffset }).toEqual({
    room: false,
    calls: [[0, 1]],
    safe: 2,
    next: 6,
  });
  dispatcher.resume();
  await waiting;
  await drive(clock, dispatcher);
  expect({ calls, safe: dispatcher.safeOffset }).toEqual({ calls: [[0, 1], [2, 3, 4], [5]], safe: 6 });
});

test('a delayed record waits until its time, a sender whose clock is ahead or not', async () => {
  const { clock, calls, dispatcher } = bench({ order: 'key', batch: { size: 1 }, delayMs: 1_000 }, () => undefined, {
    slots: new Slots(10),
  });
  clock.advance(10_000);
  dispatcher.offer([recordOf(0, 'a', 1, 9_500), recordOf(1, 'b', 1, 10_000), recordOf(2, 'c', 1, 99_000)]);
  expect(calls).toEqual([]);
  clock.advance(500);
  expect(calls).toEqual([[0]]);
  clock.advance(499);
  expect(calls).toEqual([[0]]);
  clock.advance(1);
  expect(calls).toEqual([[0], [1], [2]]);
});

test('closing takes no more answers and tells the call', async () => {
  const clock = new VirtualClock();
  let told = false;
  const done: number[] = [];
  const dispatcher = new StreamDispatcher<StreamRecord>(triggerOf({}), {
    clock,
    invoke: (_records, _attempt, signal) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => {
          told = true;
          resolve({ output: undefined });
        });
      }),
    deliver: async (records) => void done.push(records.length),
    giveUp: async () => undefined,
  });
  dispatcher.offer([recordOf(0, null, 1)]);
  dispatcher.close();
  await dispatcher.idle();
  expect({ told, done, safe: dispatcher.safeOffset }).toEqual({ told: true, done: [], safe: 0 });
  expect(dispatcher.offer([recordOf(1, null, 1)])).toBe(0);
});

test('many records of many keys behind one that waits cost the same each', async () => {
  const cost = async (records: number): Promise<number> => {
    let first: (() => void) | undefined;
    const { clock, dispatcher } = bench(
      { order: 'key', batch: { size: 100 } },
      (batch) => (batch[0]!.offset === 0 ? new Promise<void>((resolve) => (first = resolve)) : undefined),
      { slots: new Slots(4), maxRecords: 1_000_000 },
    );
    const began = performance.now();
    dispatcher.offer([recordOf(0, 'slow', 1)]);
    dispatcher.offer(Array.from({ length: records }, (_, i) => recordOf(i + 1, `k${i % 1_000}`, 1)));
    while (dispatcher.counts.done < records) await turn();
    first?.();
    await drive(clock, dispatcher);
    expect(dispatcher.safeOffset).toBe(records + 1);
    return (performance.now() - began) / records;
  };
  await cost(10_000);
  const few = await cost(10_000);
  const many = await cost(100_000);
  expect(many).toBeLessThan(few * 4);
});
