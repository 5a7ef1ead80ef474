import { expect, test } from 'vitest';
import { linesAfter, linesOfCall, shownId } from '../../../src/cli/function-logs.js';
import { parseTrigger } from '../../../src/cli/function-options.js';
import { costText, standingText, timeText, triggerText } from '../../../src/cli/function-text.js';
import { triggerSchema } from '../../../src/functions/definition.js';

test('triggers are shown as they are written', () => {
  for (const text of ['http:POST:/orders/:id', 'queue:jobs', 'stream:orders', 'event:order.*'])
    expect(triggerText(triggerSchema.parse(parseTrigger(text)))).toBe(text);
  expect(triggerText(triggerSchema.parse(parseTrigger('timer:0 * * * *')))).toBe('timer:"0 * * * *"');
});

test('what was counted of a trigger is told in one line', () => {
  const timer = { type: 'timer', source: '* * * * *' } as const;
  expect(standingText({ ...timer, counts: { runs: 1, failures: 0, missed: 2, overlapped: 3 } })).toBe(
    '1 run, of them 0 failed; left out: 2 missed, 3 overlapped',
  );
  const counts = { done: 5, givenUp: 1, filtered: 4, calls: 7, failedCalls: 2 };
  expect(standingText({ type: 'queue', source: 'q', lag: 3, verdict: 'behind', counts })).toBe(
    '5 done, 1 given up, 4 filtered in 7 calls, of them 2 failed; 3 behind (behind)',
  );
  expect(standingText({ type: 'http', source: 'GET /x' })).toBe('');
});

test('times and costs have the digits that count', () => {
  expect([0, 0.38051, 2.034, 1234, 90_000].map(timeText)).toEqual(['0 ms', '381 µs', '2.03 ms', '1.23 s', '1.50 min']);
  expect([0, 12.345, 0.00000186667].map(costText)).toEqual(['0.00 USD', '12.35 USD', '0.000001867 USD']);
});

test('a call is found by its id as it is shown, or the beginning of it, when no other begins so', () => {
  const ids = [
    '340cb6bd-0b3f-4f7e-9d2a-0c5d1f6a7b8c',
    '340c0000-0b3f-4f7e-9d2a-0c5d1f6a7b8c',
    'timer-f-2026-01-01T00:00:00.000Z-0a1b2c3d',
    'timer-f-2026-01-01T00:01:00.000Z-0a1b2c3d',
    'event-f-0011223344556677',
    'orders/0/17',
  ];
  const lines = ids.map((invocationId, at) => ({ at, invocationId, line: 'info x' }));
  const shown = ids.map((id) => shownId('f', id));
  expect(shown).toEqual([
    ...['340cb6bd', '340c0000', 'timer-2026-01-01T00:00:00.000Z-0a1b2c3d', 'timer-2026-01-01T00:01:00.000Z-0a1b2c3d'],
    ...['event-0011223344556677', 'orders/0/17'],
  ]);
  const found = (given: string) => linesOfCall('f', lines, given).map(({ at }) => at);
  for (const [at, id] of ids.entries()) {
    expect(found(id)).toEqual([at]);
    expect(found(shown[at]!)).toEqual([at]);
    expect(found(shown[at]!.slice(0, -1))).toEqual([at]);
  }
  expect(found('340d')).toEqual([]);
  expect(() => found('340c')).toThrow(/^IGU_USAGE --call 340c: 2 calls begin so, 340cb6bd-.*, 340c0000-/);
  expect(() => found('timer')).toThrow(/2 calls begin so, timer-2026-01-01T00:00:00\.000Z-0a1b2c3d, timer-/);
});

test('following a log shows each line once, also when old ones are gone', () => {
  const line = (n: number) => ({ at: Math.floor(n / 2), invocationId: 'a', line: `info ${n % 2}` });
  const lines = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => line(from + i));
  expect(linesAfter(lines(0, 3), lines(0, 5))).toEqual(lines(3, 5));
  expect(linesAfter(lines(0, 5), lines(2, 7))).toEqual(lines(5, 7));
  expect(linesAfter(lines(0, 3), lines(0, 3))).toEqual([]);
  expect(linesAfter([], lines(0, 2))).toEqual(lines(0, 2));
  expect(linesAfter(lines(0, 2), lines(8, 9))).toEqual(lines(8, 9));
});
