import { expect, test } from 'vitest';
import { parseTrigger } from '../../../src/cli/function-options.js';
import { linesAfter } from '../../../src/cli/function-show.js';
import { costText, timeText, triggerText } from '../../../src/cli/function-text.js';
import { triggerSchema } from '../../../src/functions/definition.js';

test('triggers are shown as they are written', () => {
  for (const text of ['http:POST:/orders/:id', 'queue:jobs', 'stream:orders', 'event:order.*'])
    expect(triggerText(triggerSchema.parse(parseTrigger(text)))).toBe(text);
  expect(triggerText(triggerSchema.parse(parseTrigger('timer:0 * * * *')))).toBe('timer:"0 * * * *"');
});

test('times and costs have the digits that count', () => {
  expect([0, 0.38051, 2.034, 1234, 90_000].map(timeText)).toEqual(['0 ms', '381 µs', '2.03 ms', '1.23 s', '1.50 min']);
  expect([0, 12.345, 0.00000186667].map(costText)).toEqual(['0.00 USD', '12.35 USD', '0.000001867 USD']);
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
