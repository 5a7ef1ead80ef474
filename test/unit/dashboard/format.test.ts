import { expect, test } from 'vitest';

const script: string = '../../../src/dashboard/public/format.js';
const { dollars, milliseconds, share } = await import(script);

test('figures of functions are short and lose nothing that matters', () => {
  expect([null, 0.0421, 0.5, 12.34, 1_500].map(milliseconds)).toEqual(['–', '42.1 µs', '500 µs', '12.3 ms', '1.5 s']);
  expect([null, 0, 0.0001, 0.0123, 1].map(share)).toEqual(['–', '0 %', '< 0.1 %', '1.23 %', '100 %']);
  expect([null, 0, 0.00000186667, 0.0049, 1.234].map(dollars)).toEqual([
    '–',
    '$0.00',
    '$0.0000019',
    '$0.0049',
    '$1.23',
  ]);
});
