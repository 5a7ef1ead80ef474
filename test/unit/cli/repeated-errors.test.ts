import { expect, test } from 'vitest';
import { repeatedErrors } from '../../../src/cli/repeated-errors.js';
import { VirtualClock } from '../../../src/clock.js';

test('what goes wrong over and over is told once in ten seconds, with how often', () => {
  const clock = new VirtualClock();
  const told: string[] = [];
  const tell = repeatedErrors((message) => told.push(message), clock);
  for (let i = 0; i < 5; i++) tell(new Error('a'));
  tell('b');
  clock.advance(9_999);
  tell(new Error('a'));
  clock.advance(1);
  tell(new Error('a'));
  tell(new Error('a'));
  expect(told).toEqual(['a', 'b', 'a (5 more times before)']);
  clock.advance(60_000);
  tell(new Error('a'));
  expect(told.at(-1)).toBe('a (1 more time before)');
  // bounded: of very many the oldest is told anew
  for (let i = 0; i < 200; i++) tell(`error ${i}`);
  tell('error 0');
  expect(told.at(-1)).toBe('error 0');
});
