import { defined } from '../defined.js';
import type { AsyncCall, AsyncCallOptions, AsyncCalls } from '../functions/async-calls.js';
import type { Trigger } from '../functions/definition.js';
import type { FunctionMetrics } from '../functions/function-metrics.js';
import type { FunctionOrigin, FunctionRecord } from '../functions/function-record.js';
import type {
  AliasWeights,
  DeployedFunction,
  Deployment,
  FunctionService,
  InvokeOptions,
} from '../functions/function-service.js';
import type { CloudEvent, FunctionEvent, InvocationResult } from '../functions/invocation.js';
import type { KeepAliveWindows } from '../functions/keep-alive.js';
import { qualified } from '../functions/qualified-name.js';
import type { PeriodBill, UsagePeriod } from '../functions/usage-ledger.js';
import type { DeployedFunctions } from './deployed-functions.js';
import type { Usage } from './local-usage.js';

/** How one trigger of a function stands. */
export interface TriggerStanding {
  readonly type: 'http' | 'timer' | 'stream' | 'queue' | 'event';
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

interface CallStatus {
  readonly invocationId: string;
  readonly function: string;
  /** `waiting`: for a place, or for the next try. */
  readonly state: 'waiting' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly attempts: number;
  readonly output?: unknown;
  readonly error?: string;
}

/** Functions of a process: what the HTTP port, the command line and the library do with them. Names that are not there are `IGU_FUNCTION_NOT_FOUND`. */
export interface RunningFunctions {
  list(): readonly DeployedFunction[];
  /** What is kept of each, by name. */
  readonly records: ReadonlyMap<string, FunctionRecord>;
  /** What its newest version was deployed as. */
  deployment(name: string): Deployment;
  /** Called after each deployment, deletion and change of an alias, also by other processes. Returns what ends that. */
  onChange(listener: () => void): () => void;
  /** Makes a new version the one that is called, in all processes of the group. Errors: `IGU_FUNCTION_CODE`, `IGU_CONFIG`, `IGU_LIMIT`. */
  deploy(deployment: Deployment, origin?: FunctionOrigin): Promise<DeployedFunction>;
  delete(name: string): Promise<void>;
  /** Of `NAME:ALIAS` or `NAME:VERSION` too. */
  invoke(name: string, event: FunctionEvent, options?: InvokeOptions): Promise<InvocationResult>;
  /** A call that is tried until it succeeds (3 times unless it says otherwise), in this process. */
  invokeAsync(name: string, input: unknown, options?: AsyncCallOptions): Promise<{ readonly invocationId: string }>;
  asyncCall(invocationId: string): CallStatus | undefined;
  /** How it ended, as soon as it has. Undefined for an id that is not known. */
  asyncResult(invocationId: string): Promise<CallStatus | undefined>;
  /** False when there is no such call, or it is done. */
  cancelAsyncCall(invocationId: string): boolean;
  /** Gives an event to the functions that it starts. */
  publish(event: CloudEvent): Promise<void>;
  setAlias(name: string, alias: string, weights: AliasWeights): Promise<void>;
  /** Errors: `IGU_NOT_FOUND` for an alias that is not there. */
  deleteAlias(name: string, alias: string): Promise<void>;
  prewarm(name: string, instances: number): Promise<void>;
  setColdStartOptimization(name: string, enabled: boolean): Promise<void>;
  /** Stops and starts again what its stream, queue, timer and event triggers do. */
  pause(name: string): Promise<void>;
  resume(name: string): Promise<void>;
  /** Of this process. */
  metrics(name: string): FunctionMetrics;
  /** Adds a line to its log here: what was wrong with a call's answer. */
  note(name: string, invocationId: string, line: string): void;
  /** Of this process, newest last. */
  logs(name: string): readonly { readonly at: number; readonly invocationId: string; readonly line: string }[];
  /** Of all processes. */
  billing(name: string, period?: UsagePeriod): Promise<PeriodBill>;
  stats(name: string): {
    readonly paused: boolean;
    readonly keepAlive: KeepAliveWindows;
    readonly triggers: readonly TriggerStanding[];
  };
  /** Resolves when triggers listen to what was deployed before. */
  settled(): Promise<void>;
  stop(): Promise<void>;
}

export interface RunningFunctionsParts {
  readonly service: FunctionService;
  readonly deployed: DeployedFunctions;
  readonly calls: AsyncCalls;
  readonly usage: Usage;
  readonly publish: (event: CloudEvent) => Promise<void>;
  /** How a function's trigger stands here, as far as something is known; `nth` of those of its type and source, from 1. */
  readonly standing: (
    name: string,
    trigger: Trigger,
    nth: number,
  ) => Omit<TriggerStanding, 'type' | 'source'> | undefined;
  readonly settled: () => Promise<void>;
  readonly stop: () => Promise<void>;
}

/** One face for the parts that functions are made of. */
export function runningFunctions(parts: RunningFunctionsParts): RunningFunctions {
  const { service, deployed, calls, usage, publish, settled } = parts;
  let stopping: Promise<void> | undefined;
  const invokeQualified: RunningFunctions['invoke'] = async (given, event, how = {}) => {
    const { name, options } = qualified(given, how);
    return service.invoke(name, event, options);
  };
  return {
    list: () => service.list(),
    records: deployed.records,
    deployment: (name) => service.newest(name),
    onChange: (listener) => service.onChange(listener),
    deploy: deployed.deploy,
    delete: deployed.delete,
    invoke: (name, event, options) =>
      name.includes(':') ? invokeQualified(name, event, options) : service.invoke(name, event, options),
    invokeAsync: async (given, input, how = {}) => {
      const { name, options } = qualified(given, how);
      const { id } = calls.invokeAsync(name, { trigger: 'call', input }, options);
      return { invocationId: id };
    },
    asyncCall: (id) => statusOf(calls.status(id)),
    asyncResult: async (id) => statusOf(await calls.result(id)),
    cancelAsyncCall: (id) => calls.cancel(id),
    publish,
    setAlias: deployed.setAlias,
    deleteAlias: deployed.deleteAlias,
    prewarm: (name, instances) => service.prewarm(name, instances),
    setColdStartOptimization: deployed.setOptimised,
    pause: (name) => deployed.setPaused(name, true),
    resume: (name) => deployed.setPaused(name, false),
    metrics: (name) => service.metrics(name),
    note: (name, invocationId, line) => service.note(name, invocationId, line),
    logs: (name) => service.logs(name),
    billing: async (name, period) => {
      service.describe(name);
      return usage.getBilling(name, period);
    },
    stats: (name) => ({
      paused: deployed.records.get(name)?.paused ?? false,
      keepAlive: service.keepAlive(name),
      triggers: triggersOf(service.describe(name), parts.standing),
    }),
    settled,
    stop() {
      stopping ??= parts.stop();
      return stopping;
    },
  };
}

function statusOf(call: AsyncCall | undefined): CallStatus | undefined {
  if (!call) return undefined;
  const { id, function: name, state, attempts, result, error } = call;
  const how = defined({ output: result?.output, error: error?.message });
  return { invocationId: id, function: name, state: state === 'queued' ? 'waiting' : state, attempts, ...how };
}

/** All triggers as the definition has them, with how those stand that something is known of. */
function triggersOf(
  { name, definition }: DeployedFunction,
  standingOf: RunningFunctionsParts['standing'],
): TriggerStanding[] {
  const seen = new Map<string, number>();
  return definition.triggers.map((trigger) => {
    const { type } = trigger;
    const source = sourceOf(trigger);
    const nth = (seen.get(`${type} ${source}`) ?? 0) + 1;
    seen.set(`${type} ${source}`, nth);
    const { lag, oldestAgeMs, verdict, counts } = standingOf(name, trigger, nth) ?? {};
    return { type, source, ...defined({ lag, oldestAgeMs, verdict, counts }) };
  });
}

function sourceOf(trigger: Trigger): string {
  if (trigger.type === 'http') return `${trigger.method} ${trigger.path}`;
  if (trigger.type === 'timer') return trigger.cron;
  return trigger.type === 'event' ? trigger.eventType : trigger.topic;
}
