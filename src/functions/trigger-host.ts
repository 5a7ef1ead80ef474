import type { DeployedFunction } from './function-service.js';

/** Something that starts functions: an HTTP router, a clock, a set of consumers. */
export interface TriggerHost {
  /**
   * Brings what it listens to in step with what is deployed: called with all functions after each change, one call at a time. A trigger that
   * cannot be brought about is reported through the host's own `onError` and does not keep others from working.
   */
  apply(functions: readonly DeployedFunction[]): Promise<void>;
  stop(): Promise<void>;
}
