/** A worker thread that holds WebAssembly instances: takes requests one after the other, answers each with its number. */
import { parentPort, workerData } from 'node:worker_threads';
import { RunningRequest } from '../engines/stop-call.js';
import { prepareModule } from '../module/prepare.js';
import { type CallOutcome, InstanceHost } from './instance-host.js';
import { toPlain } from './plain-errors.js';
import type { Answer, Created, FailedCall, Request, WorkerStart } from './requests.js';

const port = parentPort;
if (!port) throw new Error('runtime-worker runs in a worker thread');
const start = workerData as WorkerStart;
const host = new InstanceHost(start.codeDirectory);
const running = new RunningRequest(start.running);

async function perform(request: Request): Promise<unknown> {
  switch (request.op) {
    case 'prepare':
      return prepareModule(request.bytes, request.options);
    case 'add-module':
      return host.addModule(request.key, request.module);
    case 'remove-module':
      return host.removeModule(request.key);
    case 'compile':
      return host.compile(request.spec);
    case 'create': {
      const { spec } = request;
      const info = await host.create(spec);
      // only the start function is timed here: the owner says for each call whether this thread shall stop it
      host.instance(spec.id).setResourceLimits({ timeout: null });
      return { info, stopper: await host.compile(spec) } satisfies Created;
    }
    case 'call':
      return call(request);
    case 'limits':
      return host.instance(request.id).setResourceLimits(request.limits);
    case 'gas':
      return host.instance(request.id).setGasLimit(request.gas);
    case 'info':
      return host.info(request.id);
    case 'output':
      return host.output(request.id);
    case 'read':
      return host.readMemory(request.id, request.memory, request.offset, request.length);
    case 'write':
      return host.writeMemory(request.id, request.memory, request.offset, request.data);
    case 'snapshot':
      return host.snapshot(request.id);
    case 'restore':
      return host.restore(request.id, request.snapshot);
    case 'destroy':
      return host.destroy(request.id);
  }
}

/** What a call that failed has used is told too: should this thread be lost, nobody else knows. */
function call({ id, name, args, timeoutMs }: Extract<Request, { op: 'call' }>): CallOutcome | FailedCall {
  const instance = host.instance(id);
  try {
    return host.call(id, name, args, timeoutMs);
  } catch (error) {
    return { error: toPlain(error), gasUsed: instance.getGasUsed() };
  }
}

// One at a time: opening an engine waits, and later requests may need what an earlier one makes.
let last: Promise<void> = Promise.resolve();

async function answer(number: number, request: Request): Promise<void> {
  let reply: Answer;
  running.begin(number);
  try {
    reply = { number, ok: true, value: await perform(request) };
  } catch (error) {
    reply = { number, ok: false, error: toPlain(error) };
  }
  running.end(number);
  try {
    port!.postMessage(reply);
  } catch (error) {
    // a result that cannot be cloned, such as a host's reference
    port!.postMessage({ number, ok: false, error: toPlain(error) } satisfies Answer);
  }
}

port.on('message', ({ number, request }: { number: number; request: Request }) => {
  last = last.then(() => answer(number, request));
});
port.postMessage('ready');
