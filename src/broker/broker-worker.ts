/** The embedded broker in a worker thread of its own: starts with the options it is given, stops when told. */
import { parentPort, workerData } from 'node:worker_threads';
import { IguanaError } from '../errors.js';
import { type BrokerOptions, type RunningBroker, startBroker } from './broker.js';

const port = parentPort;
if (!port) throw new Error('broker-worker runs in a worker thread');

try {
  const broker: RunningBroker = await startBroker(workerData as BrokerOptions);
  port.on('message', async () => {
    await broker.stop();
    port.postMessage({ kind: 'stopped' });
    port.close();
  });
  port.postMessage({ kind: 'started', host: broker.host, port: broker.port });
} catch (error) {
  const coded = error instanceof IguanaError ? { code: error.code, details: error.details } : {};
  port.postMessage({ kind: 'failed', message: error instanceof Error ? error.message : String(error), ...coded });
  port.close();
}
