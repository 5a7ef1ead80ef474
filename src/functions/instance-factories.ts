import type { Deployment } from './function-service.js';
import { sharedFactory } from './javascript/shared-instance.js';
import { SharedThreads } from './javascript/shared-threads.js';
import { isTypeScript, javascriptOf } from './javascript/typescript.js';
import { WarmWorkers } from './javascript/warm-workers.js';
import type { InstanceFactory } from './pool.js';
import { wasmFactory } from './wasm/wasm-factory.js';
import { WasmThreads } from './wasm/wasm-threads.js';

export interface InstanceFactoriesOptions {
  /** `process` runs all JavaScript in child processes, whatever definitions say. Default: as they say. */
  readonly isolation?: 'thread' | 'process';
  /** JavaScript workers of each kind (memory, isolation) that wait for code (default 4); 0: each is started when it is needed. */
  readonly warmWorkers?: number;
  /** Threads that hold WebAssembly instances (default: as many as processors, at most 4). */
  readonly wasmThreads?: number;
}

/** How instances of all runtimes are started; what they share is made once. */
export interface InstanceFactories {
  of(deployment: Deployment, env: Readonly<Record<string, string>>): InstanceFactory;
  close(): Promise<void>;
}

/** Nothing is started before the first deployment; `close` comes after that of the service. */
export function instanceFactories(options: InstanceFactoriesOptions = {}): InstanceFactories {
  const workers = new WarmWorkers(options.warmWorkers);
  const threads = new WasmThreads(options.wasmThreads);
  const shared = new SharedThreads();
  return {
    of(deployment, env) {
      const { definition } = deployment;
      if (definition.runtime === 'wasm') return wasmFactory(threads, deployment, env);
      const { name, handler, memoryMb } = definition;
      const isolation = options.isolation ?? definition.isolation;
      const text = Buffer.from(deployment.code).toString();
      const javascript = isTypeScript(definition)
        ? javascriptOf(name, text)
        : Promise.resolve({ code: text, map: undefined });
      const ready = javascript.then(({ code, map }) => ({ name, code, handler, env, map }));
      // told to whoever starts an instance
      ready.catch(() => undefined);
      if (isolation === 'shared') return sharedFactory(shared, workers, ready, memoryMb);
      // the first worker starts while the deployment goes on; one that does not is told to whoever needs it
      workers.prepare(memoryMb, isolation, 1).catch(() => undefined);
      return workers.factory(ready, memoryMb, isolation);
    },
    async close() {
      await Promise.all([workers.close(), threads.close(), shared.close()]);
    },
  };
}
