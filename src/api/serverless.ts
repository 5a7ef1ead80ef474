/**
 * Functions as a program uses them. Over 300 lines because the names are what users know of other platforms, and each needs its sentence.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { invoke, type InvokeOptions as PipelineOptions } from '../../pipelines/invoke.js';
import { LiveModel } from '../dashboard/live-model.js';
import { startDashboard } from '../dashboard/server.js';
import { defined } from '../defined.js';
import { IguanaError } from '../errors.js';
import type { PriceTable } from '../functions/billing.js';
import { functionSchema, type GivenDefinition, type GivenTrigger } from '../functions/definition.js';
import type { FunctionMetrics } from '../functions/function-metrics.js';
import type { AliasWeights, DeployedFunction, Deployment, InvokeOptions } from '../functions/function-service.js';
import type { CloudEvent, InvocationResult } from '../functions/invocation.js';
import type { PeriodBill } from '../functions/usage-ledger.js';
import { assertReachable, type ConnectionOptions } from '../kafka/client.js';
import type { RunningFunctions } from '../operators/running-functions.js';
import { assertOptions } from './option-checks.js';
import {
  aliasSchema,
  asyncSchema,
  changesSchema,
  connectSchema,
  createSchema,
  eventOf,
  isSyncOptions,
  listenSchema,
  nameOf,
  periodOf,
  periodSchema,
  policySchema,
  prewarmSchema,
  syncSchema,
  variableSchema,
} from './serverless-checks.js';

/** A function by its name, or as `createFunction` returned it; to be called also as `NAME:ALIAS` or `NAME:VERSION`. */
export type FunctionRef = string | { readonly name: string };

/** JavaScript as text, WebAssembly as bytes, or a file of either (`.ts` is TypeScript). */
export type FunctionCode = string | Uint8Array | URL | { readonly file: string };

/** What `functions/*.yaml` may say of a function, with its code. */
export type FunctionOptions = Omit<GivenDefinition, 'code'> & { readonly code: FunctionCode };

export interface ServerlessOptions {
  /** Kafka brokers, `host:port`: functions are kept there, shared with all processes, and started by topics. Default: none. */
  readonly brokers?: readonly string[];
  /** TLS, SASL and more of the connection. */
  readonly connection?: Omit<ConnectionOptions, 'brokers'>;
  /** Consumer group prefix (default `iguana`, as `iguana start` has it): processes with the same one share functions and work, others know nothing of them. */
  readonly group?: string;
  /** Topic for records that are given up (default `dead-letters`). */
  readonly deadLetters?: string;
  /** Value of a secret by its name; undefined when there is none. */
  readonly secret?: (name: string) => string | undefined;
  /** Key that usage is signed with; the same one for all processes of a group. */
  readonly usageKey?: string | Uint8Array;
  readonly prices?: PriceTable;
  /** `process` runs all JavaScript in child processes, whatever functions say. */
  readonly isolation?: 'thread' | 'process';
  /** Told of what goes wrong beside a call: a trigger that fails, a broker that is gone. Default: nobody. */
  readonly onError?: (error: unknown) => void;
}

export interface SyncOptions {
  /** ms; at most the function's own. */
  readonly timeout?: number;
  /** Version or alias; default the newest version. */
  readonly qualifier?: string | number;
  readonly signal?: AbortSignal;
}

export interface AsyncOptions {
  /** Of each try, ms. */
  readonly timeout?: number;
  readonly qualifier?: string | number;
  /** Tries, the first included (default 3). */
  readonly attempts?: number;
  /** Called once, when the call has ended. */
  readonly callback?: (call: AsyncInvocation) => void;
}

export interface AsyncInvocation {
  readonly invocationId: string;
  readonly function: string;
  /** `waiting`: for a place, or for the next try. */
  readonly state: 'waiting' | 'running' | 'succeeded' | 'failed' | 'cancelled';
  readonly attempts: number;
  readonly output?: unknown;
  readonly error?: string;
}

export interface ScalingPolicy {
  /** Always ready (default 0: down to none). */
  readonly minInstances?: number;
  readonly maxInstances?: number;
  /** Calls at once that one instance should have, as a share of its concurrency (default 0.7). */
  readonly targetConcurrency?: number;
  /** Unused instances are stopped after this, seconds (default 300). */
  readonly idleSeconds?: number;
  /** Forecasts of the load and timers make instances ready before it (default true). */
  readonly enablePredictiveScaling?: boolean;
}

export interface ServerlessStats {
  readonly functions: number;
  readonly instances: number;
  readonly idleInstances: number;
  readonly concurrency: number;
  readonly waiting: number;
  readonly totalInvocations: number;
  readonly successfulInvocations: number;
  readonly coldStarts: number;
  readonly throttles: number;
  readonly memoryBytes: number;
}

/** Started at the first use. */
let shared: Promise<RunningFunctions> | undefined;
let servers: { stop(): Promise<void> }[] = [];

function functions(): Promise<RunningFunctions> {
  shared ??= begin({});
  return shared;
}

async function begin(options: ServerlessOptions): Promise<RunningFunctions> {
  const { brokers, connection, group = 'iguana', deadLetters = 'dead-letters', ...rest } = options;
  const kafka = brokers && { connection: { ...connection, brokers }, group, deadLetters };
  if (kafka) await assertReachable(kafka.connection);
  return invoke({ ...rest, ...defined({ kafka }) } satisfies PipelineOptions);
}

/** Member by member: calls are many, and a copy with more in it is dear. */
function callOptions(options: SyncOptions | undefined): InvokeOptions | undefined {
  if (options === undefined) return undefined;
  // by hand where nothing is wrong
  if (!isSyncOptions(options)) assertOptions(syncSchema, 'invokeSync', options);
  const how: { -readonly [K in keyof InvokeOptions]: InvokeOptions[K] } = {};
  if (options.timeout !== undefined) how.timeoutMs = options.timeout;
  if (options.qualifier !== undefined) how.qualifier = options.qualifier;
  if (options.signal !== undefined) how.signal = options.signal;
  return how;
}

/** Functions of this process, or with `connect` of a group of processes: deployed, called, started by triggers, scaled, measured and billed. */
export const serverless = {
  /**
   * Says how functions run here; before anything else is called. With `brokers` they are kept on Kafka and started by its topics.
   * Errors: `IGU_USAGE` afterwards, `IGU_CONFIG` for an option that cannot be, `IGU_BROKER_UNREACHABLE`.
   */
  async connect(options: ServerlessOptions): Promise<void> {
    assertOptions(connectSchema, 'serverless.connect', options);
    if (shared) throw new IguanaError('IGU_USAGE', { what: 'functions run already: connect before, or close them' });
    const beginning = begin(options);
    shared = beginning;
    try {
      await beginning;
    } catch (error) {
      shared = undefined;
      throw error;
    }
  },
  /**
   * Deploys a function; one of this name gets a new version, and one that is the same stays as it is.
   * Errors: `IGU_CONFIG` for a wrong definition, `IGU_FUNCTION_CODE` for code that cannot be started, `IGU_FILE_MISSING`.
   *
   *     const orders = await serverless.createFunction({
   *       name: 'orders', runtime: 'javascript', code: 'export const handle = ({ input }) => input.id;',
   *     });
   *     (await serverless.invokeSync(orders, { id: 7 })).output // 7
   */
  async createFunction(options: FunctionOptions): Promise<DeployedFunction> {
    assertOptions(createSchema, 'createFunction', options);
    return (await functions()).deploy(await deploymentOf(options));
  },
  /** Deploys a new version: the newest one with these changes. Errors: as `createFunction`, `IGU_FUNCTION_NOT_FOUND`. */
  async deployFunction(ref: FunctionRef, changes: Partial<Omit<FunctionOptions, 'name'>>): Promise<DeployedFunction> {
    assertOptions(changesSchema, 'deployFunction', changes);
    const running = await functions();
    const { definition, code } = running.deployment(nameOf(ref));
    const { code: given, ...rest } = changes;
    if (given !== undefined) return running.deploy(await deploymentOf({ ...definition, ...rest, code: given }));
    return running.deploy({ definition: checked({ ...definition, ...rest }), code });
  },
  /** Ends its triggers, its instances when their calls are done, and its versions, in all processes. */
  async deleteFunction(ref: FunctionRef): Promise<void> {
    await (await functions()).delete(nameOf(ref));
  },
  /** What is deployed. */
  async list(): Promise<readonly DeployedFunction[]> {
    return (await functions()).list();
  },

  /** Calls a function and waits. Errors: `IGU_FUNCTION_…` with what happened. */
  async invokeSync(ref: FunctionRef, input?: unknown, options?: SyncOptions): Promise<InvocationResult> {
    const how = callOptions(options);
    return (await functions()).invoke(nameOf(ref), { trigger: 'call', input }, how);
  },
  /** Calls a function and does not wait: it is tried until it succeeds, and its outcome kept for an hour. Errors: `IGU_FUNCTION_BUSY`. */
  async invokeAsync(
    ref: FunctionRef,
    input?: unknown,
    options: AsyncOptions = {},
  ): Promise<{ readonly invocationId: string }> {
    assertOptions(asyncSchema, 'invokeAsync', options);
    const { timeout, callback, ...rest } = options;
    const running = await functions();
    const told = callback && ((call: { readonly id: string }) => callback(running.asyncCall(call.id)!));
    return running.invokeAsync(nameOf(ref), input, { ...rest, ...defined({ timeoutMs: timeout, callback: told }) });
  },
  /** How a call of `invokeAsync` stands; undefined for one that is not known, or not any more. */
  async getInvocation(invocationId: string): Promise<AsyncInvocation | undefined> {
    return (await functions()).asyncCall(invocationId);
  },
  /** The same when it has ended. */
  async waitForInvocation(invocationId: string): Promise<AsyncInvocation | undefined> {
    return (await functions()).asyncResult(invocationId);
  },
  /** Ends a call; false when it has ended, or is not known. */
  async cancelInvocation(invocationId: string): Promise<boolean> {
    return (await functions()).cancelAsyncCall(invocationId);
  },
  /** Gives a CloudEvent to the functions whose event triggers it meets. Errors: `IGU_USAGE` for what is none. */
  async publishEvent(event: CloudEvent): Promise<void> {
    const checked = eventOf(event);
    await (await functions()).publish(checked);
  },

  /** Has so many instances (default 1, at most 1,000) ready, and keeps them for the function's idle time. Resolves when they are. */
  async prewarmFunction(ref: FunctionRef, options: { readonly instances?: number } = {}): Promise<void> {
    assertOptions(prewarmSchema, 'prewarmFunction', options);
    const { instances = 1 } = options;
    await (await functions()).prewarm(nameOf(ref), instances);
  },
  /** Keeps and starts instances by when the function was called so far, in place of a fixed idle time. */
  async enableColdStartOptimization(ref: FunctionRef, enabled = true): Promise<void> {
    await (await functions()).setColdStartOptimization(nameOf(ref), enabled);
  },
  /** Of this process. */
  async getFunctionMetrics(ref: FunctionRef): Promise<FunctionMetrics> {
    return (await functions()).metrics(nameOf(ref));
  },
  /**
   * Usage and cost in all processes.
   * @param period Dates, ms since 1970 or ISO 8601; default all that is kept, 62 days; widened to whole minutes
   * Errors: `IGU_USAGE` for what is no time.
   */
  async getBilling(
    ref: FunctionRef,
    period: { readonly start?: Date | number | string; readonly end?: Date | number | string } = {},
  ): Promise<PeriodBill> {
    assertOptions(periodSchema, 'getBilling', period);
    const asked = periodOf(period);
    return (await functions()).billing(nameOf(ref), asked);
  },
  /** Newest last, of this process. */
  async getLogs(ref: FunctionRef): Promise<ReturnType<RunningFunctions['logs']>> {
    return (await functions()).logs(nameOf(ref));
  },

  /** @param memoryMb of 2^20 bytes. Each of these makes a new version with the same code. */
  async setMemory(ref: FunctionRef, memoryMb: number): Promise<DeployedFunction> {
    return serverless.deployFunction(ref, { memoryMb });
  },
  /** @param timeoutMs longest time of a call */
  async setTimeout(ref: FunctionRef, timeoutMs: number): Promise<DeployedFunction> {
    return serverless.deployFunction(ref, { timeoutMs });
  },
  /** @param concurrency calls at once in one instance @param maxConcurrency in all of this process (default: as it is) */
  async setConcurrency(ref: FunctionRef, concurrency: number, maxConcurrency?: number): Promise<DeployedFunction> {
    return serverless.deployFunction(ref, { concurrency, ...defined({ maxConcurrency }) });
  },
  /** @param value undefined takes the variable away */
  async setEnvVar(ref: FunctionRef, variable: string, value: string | undefined): Promise<DeployedFunction> {
    assertOptions(variableSchema, 'setEnvVar: variable', variable);
    const { [variable]: _, ...env } = (await functions()).deployment(nameOf(ref)).definition.env;
    return serverless.deployFunction(ref, { env: value === undefined ? env : { ...env, [variable]: value } });
  },
  /** HTTP triggers are served after `listen`; stream and queue triggers need `connect` with brokers. */
  async addTrigger(ref: FunctionRef, trigger: GivenTrigger): Promise<DeployedFunction> {
    const { triggers } = (await functions()).deployment(nameOf(ref)).definition;
    return serverless.deployFunction(ref, { triggers: [...triggers, trigger] });
  },
  async setScalingPolicy(ref: FunctionRef, policy: ScalingPolicy): Promise<DeployedFunction> {
    assertOptions(policySchema, 'setScalingPolicy', policy);
    const { scaling } = (await functions()).deployment(nameOf(ref)).definition;
    return serverless.deployFunction(ref, { scaling: { ...scaling, ...defined(policy) } });
  },
  /** Says which versions an alias calls: shares by version that add up to 1. */
  async setAlias(ref: FunctionRef, alias: string, weights: AliasWeights): Promise<void> {
    assertOptions(aliasSchema, 'setAlias', { alias, weights });
    await (await functions()).setAlias(nameOf(ref), alias, weights);
  },
  /** Its versions are let go, unless another alias names them. Errors: `IGU_NOT_FOUND` for one that is not there. */
  async deleteAlias(ref: FunctionRef, alias: string): Promise<void> {
    await (await functions()).deleteAlias(nameOf(ref), alias);
  },
  /** Stops what its stream, queue, timer and event triggers do; calls and HTTP go on. */
  async pause(ref: FunctionRef): Promise<void> {
    await (await functions()).pause(nameOf(ref));
  },
  async resume(ref: FunctionRef): Promise<void> {
    await (await functions()).resume(nameOf(ref));
  },

  /**
   * Serves HTTP triggers under `/functions`, the API under `/api/functions`, and metrics.
   * @param port default 4480; 0 takes any free one @param token that the API asks for; without one only this machine is answered there
   * Errors: `IGU_CONFIG` for an option that cannot be, `IGU_PORT_TAKEN`.
   */
  async listen(
    options: { readonly host?: string; readonly port?: number; readonly token?: string } = {},
  ): Promise<{ readonly url: string; readonly port: number; stop(): Promise<void> }> {
    assertOptions(listenSchema, 'listen', options);
    const server = await startDashboard({ ...options, model: new LiveModel(), functions: await functions() });
    servers.push(server);
    return server;
  },
  /** All functions of this process together. */
  async stats(): Promise<ServerlessStats> {
    const running = await functions();
    const all = running.list().map(({ name }) => running.metrics(name));
    const sum = (of: (metrics: FunctionMetrics) => number) => all.reduce((total, metrics) => total + of(metrics), 0);
    return {
      functions: all.length,
      instances: sum(({ instances }) => instances),
      idleInstances: sum(({ idleInstances }) => idleInstances),
      concurrency: sum(({ concurrency }) => concurrency),
      waiting: sum(({ waiting }) => waiting),
      totalInvocations: sum(({ totalInvocations }) => totalInvocations),
      successfulInvocations: sum(({ successfulInvocations }) => successfulInvocations),
      coldStarts: sum(({ coldStarts }) => coldStarts),
      throttles: sum(({ throttles }) => throttles),
      memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    };
  },
  /** Ends all instances, triggers and servers; what is kept on Kafka stays there. The next call begins anew. */
  async close(): Promise<void> {
    const closing = shared;
    const serving = servers;
    shared = undefined;
    servers = [];
    await Promise.all(serving.map((server) => server.stop()));
    await (await closing)?.stop();
  },
};

async function deploymentOf({ code, ...given }: FunctionOptions): Promise<Deployment> {
  if (code instanceof URL || (typeof code === 'object' && 'file' in code)) {
    const file = code instanceof URL ? fileURLToPath(code) : code.file;
    let bytes: Buffer;
    try {
      bytes = await readFile(file);
    } catch (cause) {
      throw new IguanaError('IGU_FILE_MISSING', { path: file }, { cause });
    }
    return { definition: checked({ ...given, code: { file: path.basename(file) } }), code: bytes };
  }
  const bytes = typeof code === 'string' ? Buffer.from(code) : code;
  // what is kept of code is kept beside the definition
  const file = given.runtime === 'wasm' ? 'inline.wasm' : 'inline.js';
  return { definition: checked({ ...given, code: { file } }), code: bytes };
}

function checked(given: GivenDefinition) {
  const { success, data, error } = functionSchema.safeParse(given);
  if (success) return data;
  const { path: at, message } = error.issues[0]!;
  const where = `function ${typeof given.name === 'string' ? given.name : ''}`.trim();
  const what = at.length > 0 ? `${at.join('.')}: ${message}` : message;
  throw new IguanaError('IGU_CONFIG', { where, what, fix: 'see docs/functions.md for what it may be' });
}
