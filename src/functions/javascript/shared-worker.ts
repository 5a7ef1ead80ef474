/** Runs instances of many small JavaScript functions in one thread: modules, variables, logs and environment are each one's own, the heap and the built-in objects are everybody's. */
import { createHook } from 'node:async_hooks';
import { syncBuiltinESMExports } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { type Resident, residentNow } from './call-log.js';
import { described, functionRunner, prepareGlobals } from './function-runner.js';
import type { ToWorker } from './protocol.js';
import { BEGUN, type FromShared, RUNS, type SharedWorkerData, type ToShared } from './shared-protocol.js';

const port = parentPort;
if (!port) throw new Error('shared-worker runs in a worker thread');
const state = new Int32Array((workerData as SharedWorkerData).state);
const runners = new Map<number, (messages: readonly ToWorker[]) => void>();
const post = (message: FromShared, moved?: readonly ArrayBuffer[]): void => port.postMessage(message, moved);

/** The environment of whoever asks; what runs for nobody has none. */
function ownEnvironment(): void {
  const env = (): Resident['env'] => residentNow()?.env ?? {};
  const value = new Proxy<Resident['env']>(
    {},
    {
      get: (_, key) => (typeof key === 'string' ? env()[key] : undefined),
      has: (_, key) => Object.hasOwn(env(), key),
      set: (_, key, given) => {
        if (typeof key === 'string') env()[key] = String(given);
        return true;
      },
      deleteProperty: (_, key) => Reflect.deleteProperty(env(), key),
      defineProperty: (_, key, given) => Reflect.defineProperty(env(), key, given),
      ownKeys: () => Reflect.ownKeys(env()),
      getOwnPropertyDescriptor: (_, key) => Reflect.getOwnPropertyDescriptor(env(), key),
    },
  );
  Object.defineProperty(process, 'env', { value, writable: false, configurable: false });
  syncBuiltinESMExports();
}

/** Nobody leaves anything where another would find it by accident: no new globals, nothing new on what all objects inherit from. */
function closeGlobals(): void {
  // Node puts its own there when this is first used
  fetch('data:,').catch(() => undefined);
  const everybodys = [
    Object,
    Function,
    Array,
    String,
    Number,
    Boolean,
    Symbol,
    BigInt,
    Date,
    RegExp,
    Promise,
    Map,
    Set,
  ];
  for (const { prototype } of [...everybodys, WeakMap, WeakSet, Error, ArrayBuffer, Uint8Array, Buffer])
    Object.preventExtensions(prototype);
  for (const one of [globalThis, console, JSON, Math, Reflect, ...everybodys]) Object.preventExtensions(one);
}

/** One function's error that nothing caught is told as its own; without this it would end the thread. */
function crashed(error: unknown): void {
  post({ crashed: residentNow()?.number ?? 0, error: described(error) });
}

function take({ instance, sequence, message }: Extract<ToShared, { instance: number }>): void {
  if (sequence > 0 && Atomics.compareExchange(state, BEGUN, sequence - 1, sequence) !== sequence - 1) return;
  let runner = runners.get(instance);
  if (!runner) {
    const resident: Resident = { number: instance, env: {} };
    runner = functionRunner((messages, moved) => post([instance, messages], moved), resident);
    runners.set(instance, runner);
  }
  Atomics.store(state, RUNS, instance);
  runner([message]);
  Atomics.store(state, RUNS, 0);
}

prepareGlobals();
ownEnvironment();
closeGlobals();
process.on('uncaughtException', crashed);
process.on('unhandledRejection', crashed);
const outer: number[] = [];
// whoever runs is known to the host also when the thread does not answer
createHook({
  before() {
    outer.push(Atomics.load(state, RUNS));
    Atomics.store(state, RUNS, residentNow()?.number ?? 0);
  },
  after: () => Atomics.store(state, RUNS, outer.pop() ?? 0),
}).enable();
port.on('message', (messages: readonly ToShared[]) => {
  for (const message of messages) {
    if ('instance' in message) take(message);
    else if ('ping' in message) post({ pong: message.ping });
    else runners.delete(message.unload);
  }
});
post({ pong: 0 });
