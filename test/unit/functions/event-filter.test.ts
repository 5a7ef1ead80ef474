import { expect, test } from 'vitest';
import { matches } from '../../../src/functions/event-filter.js';

const event = {
  type: 'order',
  data: { total: 40, state: 'paid', items: [{ sku: 'a' }, { sku: 'b' }], none: [], note: null },
};

test.each([
  [{ type: 'order' }, true],
  [{ type: 'refund' }, false],
  [{ type: ['refund', 'order'] }, true],
  [{ 'data.total': { gte: 40, lt: 41 } }, true],
  [{ 'data.total': { gt: 40 } }, false],
  [{ 'data.total': { lte: 39 } }, false],
  [{ 'data.state': { prefix: 'pa' } }, true],
  [{ 'data.total': { prefix: '4' } }, false],
  [{ 'data.state': { gt: 1 } }, false],
  [{ 'data.items.sku': 'b' }, true],
  [{ 'data.items.1.sku': 'b' }, true],
  [{ 'data.items.0.sku': 'b' }, false],
  [{ 'data.missing': { exists: false } }, true],
  [{ 'data.note': { exists: true } }, true],
  [{ 'data.note': null }, true],
  [{ 'data.state': { not: 'paid' } }, false],
  [{ 'data.state': { not: ['new', 'open'] } }, true],
  [{ type: 'order', 'data.state': 'open' }, false],
  [{ 'data.constructor.name': 'Object' }, false],
  [{ __proto__x: { exists: false } }, true],
  [{ 'data.none.sku': { exists: false } }, true],
  [{ 'data.none.sku': { not: 'a' } }, true],
  [{ 'data.none.sku': 'a' }, false],
] as const)('%j is %s', (condition, expected) => {
  expect(matches(condition, event)).toBe(expected);
});

test('a value that is no object meets only what asks for nothing', () => {
  for (const value of [undefined, null, 7, 'text', []]) {
    expect(matches({ a: 1 }, value)).toBe(false);
    expect(matches({}, value)).toBe(true);
  }
});
