import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { AbortListener } from '../../../src/functions/abort-listeners.js';

test('those that listen to one signal are told once, in order, save those that ended before', () => {
  const ending = new AbortController();
  const told: string[] = [];
  const [first, second, , fourth] = ['a', 'b', 'c', 'd', 'e'].map(
    (name) => new AbortListener(ending.signal, () => told.push(name)),
  );
  expect(getEventListeners(ending.signal, 'abort')).toHaveLength(1);
  second!.end();
  second!.end();
  fourth!.end();
  first!.end();
  ending.abort();
  expect(told).toEqual(['c', 'e']);
  first!.end();
});

test('one that ends another while it is told is heeded, and none leaves its list broken', () => {
  const ending = new AbortController();
  const told: string[] = [];
  const listeners: AbortListener[] = [];
  const listen = (name: string, action: () => void = () => undefined) =>
    listeners.push(
      new AbortListener(ending.signal, () => {
        told.push(name);
        action();
      }),
    );
  listen('a', () => listeners[1]!.end());
  listen('b');
  listen('c', () => listeners[0]!.end());
  listen('d');
  ending.abort();
  expect(told).toEqual(['a', 'c', 'd']);
});
