import { afterEach, expect, test, vi } from 'vitest';
import { MessageBatch } from '../../../src/functions/message-batch.js';

const turn = () => new Promise((resolve) => setImmediate(resolve));

function batch() {
  const posted: (readonly number[])[] = [];
  return {
    posted,
    messages: new MessageBatch<number>(
      (messages) => {
        if (messages.includes(13)) throw new Error('unlucky');
        posted.push(messages);
      },
      (message) => posted.push([-message]),
    ),
  };
}

afterEach(() => {
  vi.restoreAllMocks();
});

test('one message a turn goes at once; of several the first does and the others go together', async () => {
  const { messages, posted } = batch();
  messages.send(1);
  expect(posted).toEqual([[1]]);
  await turn();
  messages.send(2);
  messages.send(3);
  messages.send(4);
  expect(posted).toEqual([[1], [2]]);
  await turn();
  expect(posted).toEqual([[1], [2], [3, 4]]);
});

test('after a turn with several all of a turn go together, until turns have had one for a while', async () => {
  vi.spyOn(performance, 'now').mockReturnValue(0);
  const { messages, posted } = batch();
  messages.send(1);
  messages.send(2);
  await turn();
  messages.send(3);
  messages.send(4);
  expect(posted).toEqual([[1], [2]]);
  await turn();
  expect(posted).toEqual([[1], [2], [3, 4]]);
  let turns = 0;
  for (let atOnce = false; !atOnce; turns++) {
    messages.send(5);
    atOnce = posted.at(-1)?.[0] === 5 && posted.length === 4 + turns;
    await turn();
  }
  expect(turns).toBe(17);
});

test('what waits does not wait for the end of a long turn', async () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(0);
  const { messages, posted } = batch();
  messages.send(1);
  messages.send(2);
  messages.send(3);
  now.mockReturnValue(0.6);
  messages.send(4);
  expect(posted).toEqual([[1], [2, 3, 4]]);
  messages.flush();
  await turn();
  expect(posted).toHaveLength(2);
});

test('one that cannot be sent is told of, and those beside it are sent', async () => {
  const { messages, posted } = batch();
  messages.send(1);
  for (const message of [2, 13, 4]) messages.send(message);
  await turn();
  expect(posted).toEqual([[1], [2], [-13], [4]]);
});
