import type { Bill } from '../functions/billing.js';
import type { FunctionDefinition } from '../functions/definition.js';
import type { FunctionMetrics } from '../functions/function-metrics.js';
import type { AliasWeights, DeployedFunction, Deployment, InvokeOptions } from '../functions/function-service.js';
import type { CloudEvent, FunctionEvent, InvocationResult } from '../functions/invocation.js';
import type { KeepAliveWindows } from '../functions/keep-alive.js';

/** How one trigger of a function stands. */
export interface TriggerStatus {
  readonly type: FunctionDefinition['triggers'][number]['type'];
  /** Its topic, cron expression, event type, or method and path. */
  readonly source: string;
  /** Records not handled yet (stream, queue). */
  readonly lag?: number;
  /** Age of the oldest of them, ms. */
  readonly oldestAgeMs?: number;
  readonly verdict?: string;
  /** What was counted in this process: records or runs by what became of them, and calls. */
  readonly counts?: Readonly<Record<string, number>>;
}

/** How a function stands beside its metrics. */
export interface FunctionStats {
  readonly paused: boolean;
  readonly keepAlive: KeepAliveWindows;
  readonly triggers: readonly TriggerStatus[];
}

/** A call that is answered before it is done. */
export interface AsyncCallStatus {
  readonly invocationId: string;
  readonly function: string;
  readonly state: 'waiting' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly attempts: number;
  readonly output?: unknown;
  readonly error?: string;
}

/** ms since 1970; `start` is included, `end` is not. Default: all that is known. */
export interface BillingPeriod {
  readonly start?: number;
  readonly end?: number;
}

/**
 * What the HTTP port needs of functions: for its JSON API, its page, its metrics and the requests that start functions. `pipelines/invoke` gives it (by
 * its shape: it lies on a floor below and does not import this). Every method that takes a name throws or rejects with `IGU_FUNCTION_NOT_FOUND`.
 */
export interface FunctionApi {
  list(): readonly DeployedFunction[];
  /** Called after each deployment and deletion, also by other processes. Returns what ends that. */
  onChange(listener: () => void): () => void;
  /** The definition is checked; resolves when the new version is the one that is called here. */
  deploy(deployment: Deployment): Promise<DeployedFunction>;
  delete(name: string): Promise<void>;
  invoke(name: string, event: FunctionEvent, options?: InvokeOptions): Promise<InvocationResult>;
  /** Without it asynchronous calls are refused. */
  invokeAsync?(name: string, input: unknown, options?: InvokeOptions): Promise<{ readonly invocationId: string }>;
  asyncCall?(invocationId: string): AsyncCallStatus | undefined;
  /** False when there is no such call, or it is done. */
  cancelAsyncCall?(invocationId: string): boolean | Promise<boolean>;
  /** Gives an event to the functions that it starts. Without it none are taken. Errors: `IGU_FUNCTION_BUSY`, `IGU_FUNCTION_EVENT_DEPTH`. */
  publish?(event: CloudEvent): Promise<void>;
  setAlias(name: string, alias: string, weights: AliasWeights): Promise<void>;
  /** Errors: `IGU_NOT_FOUND`. */
  deleteAlias(name: string, alias: string): Promise<void>;
  prewarm(name: string, instances: number): Promise<void>;
  /** Stops and starts again what its stream, queue, timer and event triggers do. */
  pause(name: string): void | Promise<void>;
  resume(name: string): void | Promise<void>;
  metrics(name: string): FunctionMetrics;
  /** Adds a line to its log: what was wrong with a call's answer. */
  note?(name: string, invocationId: string, line: string): void;
  /** Newest last; `at` in ms since 1970. */
  logs(name: string): readonly { readonly at: number; readonly invocationId: string; readonly line: string }[];
  billing(name: string, period?: BillingPeriod): Bill | Promise<Bill>;
  stats(name: string): FunctionStats;
}
