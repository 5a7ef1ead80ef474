import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import { callWithRetries } from '../../../src/functions/retries.js';

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));
const crash = () => Promise.reject(new IguanaError('IGU_FUNCTION_CRASHED', { name: 'f', what: 'test' }));

test('a wait between two tries ends with the signal, also when that ended before the wait began', async () => {
  const clock = new VirtualClock();
  const ending = new AbortController();
  const { signal } = ending;
  const options = { name: 'f', clock, attempts: 5, signal } as const;
  const waiting = callWithRetries(crash, options);
  const ended = callWithRetries(crash, { ...options, onWait: () => ending.abort() });
  for (const one of [waiting, ended])
    expect(await one).toMatchObject({ error: { code: 'IGU_FUNCTION_CANCELLED' }, attempts: 1 });
});

test('calls that wait with one signal share a listener, and waits that are over leave nothing on the clock', async () => {
  const clock = new VirtualClock();
  const ending = new AbortController();
  const { signal } = ending;
  let tries = 0;
  const call = () => {
    tries++;
    return crash();
  };
  const calls = Array.from({ length: 20 }, () =>
    callWithRetries(call, { name: 'f', clock, attempts: 3, signal, random: () => 1 }),
  );
  await settled();
  expect(tries).toBe(20);
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  clock.advance(1_000);
  await settled();
  expect(tries).toBe(40);
  ending.abort();
  for (const one of calls) expect(await one).toMatchObject({ error: { code: 'IGU_FUNCTION_CANCELLED' }, attempts: 2 });
  clock.advance(100_000);
  await settled();
  expect(tries).toBe(40);
});
