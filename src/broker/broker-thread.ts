import { Worker } from 'node:worker_threads';
import { type ErrorCode, IguanaError } from '../errors.js';
import { workerUrl } from '../worker-url.js';
import type { BrokerOptions, RunningBroker } from './broker.js';

type FromWorker =
  | { readonly kind: 'started'; readonly host: string; readonly port: number }
  | { readonly kind: 'stopped' }
  | {
      readonly kind: 'failed';
      readonly message: string;
      readonly code?: ErrorCode;
      readonly details?: Record<string, string | number>;
    };

/** Starts the broker in its own worker thread, so that neither side waits for the other's work. Errors: as `startBroker`. */
export async function startBrokerThread(options: BrokerOptions = {}): Promise<RunningBroker> {
  const worker = new Worker(workerUrl(import.meta.url, './broker-worker.js'), { workerData: options });
  const answer = await new Promise<FromWorker>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  if (answer.kind === 'failed') {
    throw answer.code ? new IguanaError(answer.code, answer.details) : new Error(answer.message);
  }
  if (answer.kind !== 'started') throw new Error('the broker stopped before it started');
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  return {
    host: answer.host,
    port: answer.port,
    async stop() {
      worker.postMessage('stop');
      await ended;
    },
  };
}
