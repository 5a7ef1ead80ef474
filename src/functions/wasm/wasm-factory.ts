import { IguanaError } from '../../errors.js';
import { functionLimits } from '../../limits.js';
import type { Deployment } from '../function-service.js';
import type { InstanceFactory } from '../pool.js';
import type { GuestCode, GuestOptions } from './protocol.js';
import { type ReadyCode, WasmInstance } from './wasm-instance.js';
import type { WasmThreads } from './wasm-threads.js';

let codes = 0;

/**
 * Starts instances of a WebAssembly function. The module is checked, metered and initialised once, in a thread, from now on: about 100 ms a MB; an instance
 * then takes about 0.2 ms.
 * @param env of the function, secrets included
 * @returns a factory whose `start` throws IguanaError `IGU_FUNCTION_CODE` when the module cannot be called or its initialisation fails
 */
export function wasmFactory(
  threads: WasmThreads,
  { definition, code }: Deployment,
  env: Readonly<Record<string, string>>,
): InstanceFactory {
  const { name, handler, memoryMb, snapshot } = definition;
  const ready = prepare(threads, name, code, { handler, memoryMb, env, snapshot });
  // told to whoever starts an instance
  ready.catch(() => undefined);
  return { start: async () => WasmInstance.start(threads, await ready) };
}

async function prepare(
  threads: WasmThreads,
  name: string,
  bytes: Uint8Array,
  options: GuestOptions,
): Promise<ReadyCode> {
  const codeError = (what: string): IguanaError => new IguanaError('IGU_FUNCTION_CODE', { name, what });
  const ask = (): Promise<GuestCode> =>
    new Promise((resolve, reject) => {
      threads.place().request({
        message: { op: 'prepare', bytes, options },
        owner: {},
        deadline: Date.now() + functionLimits.maxInitMs,
        answered: (answer) => {
          if ('prepared' in answer) resolve(answer.prepared);
          else if ('failure' in answer) reject(codeError(answer.failure.what));
        },
        late: () => reject(codeError(`it was not ready after ${functionLimits.maxInitMs} ms`)),
        crashed: (why) => reject(codeError(why)),
        takenBack: () => {
          if (threads.closed) reject(codeError('the system was closed'));
          else ask().then(resolve, reject);
        },
      });
      threads.watch();
    });
  return { name, number: ++codes, guest: await ask() };
}
