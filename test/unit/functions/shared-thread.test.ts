import { afterEach, expect, test, vi } from 'vitest';
import type { JavaScriptInstance } from '../../../src/functions/javascript/javascript-instance.js';
import { type Conduct, SharedThread } from '../../../src/functions/javascript/shared-thread.js';
import { SharedThreads } from '../../../src/functions/javascript/shared-threads.js';

const threads: SharedThread[] = [];
afterEach(() => Promise.all(threads.splice(0).map((thread) => thread.stop())));

function started(onEnd: () => void = () => undefined): SharedThread {
  const thread = new SharedThread(onEnd);
  threads.push(thread);
  return thread;
}

async function lodger(thread: SharedThread, code: string): Promise<[JavaScriptInstance, Conduct]> {
  const conduct: Conduct = { alone: false };
  const instance = thread.lodge(conduct, 64);
  await thread.ready;
  await instance.load({ name: 'f', code, handler: 'handle', env: {} });
  return [instance, conduct];
}

const ECHO = 'export const handle = ({ input }) => input;';

function call(instance: JavaScriptInstance, input: unknown, deadline = Date.now() + 10_000) {
  const context = { function: 'f', version: 1, invocationId: 'i', attempt: 1, deadline };
  return instance.invoke({ trigger: 'call', input }, context);
}

test('a late call that was answered before it could be ended changes nothing for those who live there', async () => {
  const thread = started();
  const waits = "export const handle = () => new Promise((resolve) => process.once('go', () => resolve('answered')));";
  const [waiting, ofWaiting] = await lodger(thread, waits);
  const computes = "export const handle = ({ input }) => { while (Date.now() < input); process.emit('go'); };";
  const [computing] = await lodger(thread, computes);
  const deadline = Date.now() + 80;
  const late = call(waiting, undefined, deadline);
  // the thread is asked whether it answers while this runs, and answers when all is done
  await call(computing, deadline + 40);
  expect((await late).output).toBe('answered');
  expect((await call(computing, 0)).output).toBeUndefined();
  expect(ofWaiting.alone).toBe(false);
  expect(thread).toMatchObject({ retired: false, ended: false });
});

test('a retired one ends also when the last of its calls could not be sent', async () => {
  const onEnd = vi.fn();
  const thread = started(onEnd);
  const [instance] = await lodger(thread, ECHO);
  // the second of a turn is sent at its end
  const calls = [() => 1, () => 2].map((input) => call(instance, input).catch((error) => error));
  thread.retire();
  expect(thread.ended).toBe(false);
  expect(await Promise.all(calls)).toMatchObject([{ code: 'IGU_FUNCTION_FAILED' }, { code: 'IGU_FUNCTION_FAILED' }]);
  await vi.waitFor(() => expect(onEnd).toHaveBeenCalledOnce());
});

test('workers that are kept are those that take instances: one that is retired is none of them', async () => {
  const all = new SharedThreads();
  const retired = all.place()!;
  retired.lodge({ alone: false }, 64);
  // its code is under way: it does not end
  retired.retire();
  all.prepare();
  expect(all.count).toBe(3);
  all.trim();
  expect(all.count).toBe(3);
  await all.close();
  expect(all.count).toBe(0);
});
