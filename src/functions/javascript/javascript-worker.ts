/**
 * Runs one JavaScript function, in a worker thread or (as the program of a child process) with messages over IPC. Starts empty, so that it can wait for any
 * function's code; once it has loaded one it keeps to it.
 */
import { parentPort } from 'node:worker_threads';
import { described, functionRunner, prepareGlobals } from './function-runner.js';
import type { FromWorker, ToWorker } from './protocol.js';

prepareGlobals();
const post: (messages: readonly FromWorker[], moved?: readonly ArrayBuffer[]) => void = parentPort
  ? (messages, moved) => parentPort!.postMessage(messages, moved)
  : (messages) => process.send?.(messages);
const receive: (messages: readonly ToWorker[]) => void = functionRunner(post);
if (parentPort) parentPort.on('message', receive);
else {
  process.on('message', receive);
  // the host of a thread is told by Node
  process.on('uncaughtExceptionMonitor', (error) => {
    if (process.listenerCount('uncaughtException') === 0) post([{ type: 'crashed', error: described(error) }]);
  });
}
post([{ type: 'started' }]);
