import type { Deployment } from './function-service.js';
import { WarmWorkers } from './javascript/warm-workers.js';
import type { InstanceFactory } from './pool.js';

export interface InstanceFactoriesOptions {
  /** `process` runs all JavaScript in child processes, whatever definitions say. Default: as they say. */
  readonly isolation?: 'thread' | 'process';
}

/** How instances of all runtimes are started; what they share is made once. */
export interface InstanceFactories {
  of(deployment: Deployment, env: Readonly<Record<string, string>>): InstanceFactory;
  close(): Promise<void>;
}

export function instanceFactories(options: InstanceFactoriesOptions = {}): InstanceFactories {
  const workers = new WarmWorkers();
  return {
    of({ definition, code }, env) {
      const { name, handler, memoryMb, isolation } = definition;
      const text = Buffer.from(code).toString();
      return workers.factory({ name, handler, env, code: text }, memoryMb, options.isolation ?? isolation);
    },
    close: () => workers.close(),
  };
}
