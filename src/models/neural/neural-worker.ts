/** The training thread: chooses a backend when it starts, then trains what it is sent, one after the other. */
import { parentPort } from 'node:worker_threads';
import { messageOf } from '../../errors.js';
import { chooseBackend } from './backend.js';
import type { FromTrainer, ToTrainer } from './neural-trainer.js';
import { train } from './train.js';

const port = parentPort;
if (!port) throw new Error('this file is the program of a worker thread');
const say = (message: FromTrainer): void => port.postMessage(message);

const backend = chooseBackend();
backend.then(
  (chosen) => say({ kind: 'backend', backend: chosen }),
  (error: unknown) => say({ kind: 'unusable', what: messageOf(error) }),
);

let queue: Promise<void> = backend.then(
  () => undefined,
  () => undefined,
);
port.on('message', ({ id, windows, options }: ToTrainer) => {
  queue = queue.then(async () => {
    try {
      say({ kind: 'trained', id, result: await train(windows, options) });
    } catch (error) {
      say({ kind: 'failed', id, what: messageOf(error) });
    }
  });
});
