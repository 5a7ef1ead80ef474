/**
 * All functions of one process: what is deployed, and every call of it. Over 300 lines because a call touches all of it once: version, pool, counters,
 * usage, logs.
 */
import { randomUUID } from 'node:crypto';
import type { Clock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { functionLimits } from '../limits.js';
import { StateReader, StateWriter } from '../state.js';
import { Autoscaler, type ScaleDecision } from './autoscaler.js';
import { type UsageRecord, usageRecord } from './billing.js';
import { aliasName, type FunctionDefinition } from './definition.js';
import { type FailureDetails, takeLogs } from './failed-logs.js';
import { FunctionCounters, type FunctionMetrics } from './function-metrics.js';
import { assertTimeLimit, assertWholeNumber } from './given-numbers.js';
import { IdleHazard } from './idle-hazard.js';
import type { AnswerSink, FunctionEvent, InvocationContext, InvocationResult } from './invocation.js';
import { type KeepAlivePolicy, type KeepAliveWindows, keepsAfter } from './keep-alive.js';
import { FunctionPool, type InstanceFactory, InstanceRoom } from './pool.js';

/** A definition with its code read. */
export interface Deployment {
  readonly definition: FunctionDefinition;
  readonly code: Uint8Array;
}

export interface DeployedFunction {
  readonly name: string;
  /** Newest version; counted from 1. */
  readonly version: number;
  readonly definition: FunctionDefinition;
  readonly aliases: Readonly<Record<string, AliasWeights>>;
}

/** Version → share of the calls; shares add up to 1. */
export type AliasWeights = Readonly<Record<number, number>>;

/** Everything that is deployed of one function. */
export interface FunctionVersions {
  readonly versions: ReadonlyMap<number, Deployment>;
  readonly newest: number;
  readonly aliases: Readonly<Record<string, AliasWeights>>;
}

/** @throws IguanaError `IGU_USAGE` when the alias looks like a version, a version is not there, or the shares do not add up to 1 */
export function assertAlias(name: string, alias: string, weights: AliasWeights, versions: readonly number[]): void {
  const refuse = (what: string) => new IguanaError('IGU_USAGE', { what });
  const named = aliasName.safeParse(alias);
  if (!named.success) throw refuse(`alias ${JSON.stringify(alias)}: ${named.error.issues[0]!.message}`);
  const shares = Object.values(weights);
  const sum = shares.reduce((total, share) => total + share, 0);
  if (!shares.every((share) => share >= 0))
    throw refuse(`shares of alias ${alias}: ${shares.join(', ')}; none is below 0`);
  if (Math.abs(sum - 1) > 1e-9) throw refuse(`shares of alias ${alias} add up to ${sum}, not 1`);
  for (const version of Object.keys(weights)) {
    if (!versions.includes(Number(version)))
      throw refuse(`${name} has no version ${version}; it has ${versions.join(', ')}`);
  }
}

/** The aliases without one of them. @throws IguanaError `IGU_NOT_FOUND` */
export function aliasesWithout(
  name: string,
  alias: string,
  aliases: FunctionVersions['aliases'],
): FunctionVersions['aliases'] {
  const { [alias]: _removed, ...rest } = aliases;
  if (Object.hasOwn(aliases, alias)) return rest;
  const known = Object.keys(rest);
  const fix = known.length > 0 ? `it has ${known.join(', ')}` : 'it has none';
  throw new IguanaError('IGU_NOT_FOUND', { what: `alias of ${name}`, name: alias, fix });
}

/** Versions that can be called: the newest and those of aliases. */
export function namedVersions(newest: number, aliases: FunctionVersions['aliases']): number[] {
  return [...new Set([newest, ...Object.values(aliases).flatMap((weights) => Object.keys(weights).map(Number))])];
}

export interface ServiceOptions {
  readonly clock: Clock;
  /** How instances of a deployment are started. */
  readonly factory: (deployment: Deployment, env: Readonly<Record<string, string>>) => InstanceFactory;
  /** The value of a secret; undefined when there is none of that name. */
  readonly secret?: (name: string) => string | undefined;
  /** Called once for every call that ran, with its record; its signature is made when it is first read. */
  readonly onUsage?: (record: UsageRecord) => void;
  /** Key of the signatures. */
  readonly usageKey?: string | Uint8Array;
  /** What learns when each function is called, for those with `enableColdStartOptimization` (default `IdleHazard`). */
  readonly keepAlive?: () => KeepAlivePolicy;
  /** Of all functions together (default 1,000). */
  readonly maxInstances?: number;
  /** Between 0 and 1; chooses the version of an alias (default Math.random). */
  readonly random?: () => number;
}

export interface InvokeOptions {
  /** Version or alias; default the newest version. */
  readonly qualifier?: string | number;
  /** Of its run, ms; default and at most the function's own. It waits for an instance at most as long before. */
  readonly timeoutMs?: number;
  /** What `timeoutMs` is a setting of, for the error of a call that it ends. */
  readonly timeoutOf?: string;
  readonly attempt?: number;
  /** Default a new one. The same id is billed once. */
  readonly invocationId?: string;
  readonly signal?: AbortSignal;
  /** Takes an answer that comes piece by piece; without it a function cannot give one. */
  readonly answer?: AnswerSink;
}

interface Version {
  readonly number: number;
  readonly deployment: Deployment;
  readonly pool: FunctionPool;
  readonly scaler: Autoscaler;
  /** A call of it began since the last tick. */
  called: boolean;
}

interface LogLine {
  /** ms since 1970. */
  readonly at: number;
  readonly invocationId: string;
  readonly line: string;
}

/** Calls at once of a function that was called, but was not seen to run. */
const UNSEEN_LOAD = 1e-3;

interface Entry {
  /** As it is told to whoever asks. */
  described: DeployedFunction;
  versions: Map<number, Version>;
  newest: Version;
  aliases: Map<string, AliasWeights>;
  readonly counters: FunctionCounters;
  readonly keepAlive: KeepAlivePolicy;
  readonly logs: LogLine[];
  /** End of the newest call that no timer made; undefined before the first. */
  idleSince: number | undefined;
  /** Calls under way that no timer made. */
  running: number;
  /** Instances that a forecast or `prewarm` asks for, and until when. */
  floors: { readonly instances: number; readonly until: number }[];
  optimised: boolean;
}

export class FunctionService {
  private readonly entries = new Map<string, Entry>();
  private readonly listeners = new Set<() => void>();
  private readonly ending = new Set<Promise<unknown>>();
  private readonly room: InstanceRoom;
  private readonly prepared = new WeakMap<Deployment, InstanceFactory>();

  constructor(private readonly options: ServiceOptions) {
    this.room = new InstanceRoom(options.maxInstances);
  }

  /** Makes a new version the one that is called. The one before lives on while an alias names it, else until its calls are done. */
  async deploy(deployment: Deployment): Promise<DeployedFunction> {
    const { name } = deployment.definition;
    const before = this.entries.get(name);
    const newest = (before?.newest.number ?? 0) + 1;
    const aliases = Object.fromEntries(before?.aliases ?? []);
    const versions = deploymentsOf(before);
    await this.put(name, { versions: versions.set(newest, deployment), newest, aliases });
    return this.describe(name);
  }

  /**
   * Has exactly these versions of a function, less those that neither `newest` nor an alias names. A version that is there with the same `Deployment`
   * object goes on undisturbed. All of it is so when this returns; the promise resolves when the calls of versions that go are done and the fewest
   * instances wanted are up. @throws IguanaError `IGU_FUNCTION_CODE` when a secret is not there: nothing has changed then
   */
  async put(name: string, { versions, newest, aliases }: FunctionVersions): Promise<void> {
    const before = this.entries.get(name);
    const there = new Map<number, Version>();
    const named = namedVersions(newest, aliases);
    for (const number of named) {
      const deployment = versions.get(number)!;
      const known = before?.versions.get(number);
      // a version in the place of another has its load
      const replaced = number === newest && before && !named.includes(before.newest.number) ? before.newest : undefined;
      const made =
        known?.deployment === deployment ? known : this.version(deployment, number, before, replaced?.scaler);
      there.set(number, made);
    }
    const gone = [...(before?.versions ?? [])].flatMap(([number, one]) =>
      there.get(number) === one ? [] : [one.pool],
    );
    const entry = before ?? this.newEntry(name, there.get(newest)!);
    entry.versions = there;
    entry.newest = there.get(newest)!;
    entry.aliases = new Map(Object.entries(aliases));
    entry.described = described(name, entry);
    this.entries.set(name, entry);
    this.changed();
    const ready = [...there.values()].map(({ pool, deployment: { definition } }) =>
      pool.atLeast(definition.scaling.minInstances),
    );
    await Promise.all([this.end(gone), ...ready]);
  }

  /** Calls the listener after each deployment, deletion and change of an alias. Returns what ends that. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** @throws IguanaError `IGU_USAGE` when a version is not there or the shares do not add up to 1 */
  async setAlias(name: string, alias: string, weights: AliasWeights): Promise<void> {
    const entry = this.entry(name);
    assertAlias(name, alias, weights, [...entry.versions.keys()]);
    const aliases = { ...Object.fromEntries(entry.aliases), [alias]: weights };
    await this.put(name, { versions: deploymentsOf(entry), newest: entry.newest.number, aliases });
  }

  /** Its versions are let go, unless another alias names them. @throws IguanaError `IGU_NOT_FOUND` */
  async deleteAlias(name: string, alias: string): Promise<void> {
    const entry = this.entry(name);
    const aliases = aliasesWithout(name, alias, Object.fromEntries(entry.aliases));
    await this.put(name, { versions: deploymentsOf(entry), newest: entry.newest.number, aliases });
  }

  /**
   * Starts and stops one instance, so that what cannot be started is known before anybody calls it. What that has prepared is used when the same object is
   * deployed.
   * @throws IguanaError `IGU_FUNCTION_CODE`
   */
  async verify(deployment: Deployment): Promise<void> {
    const factory = this.options.factory(deployment, this.environment(deployment.definition));
    const instance = await factory.start();
    await instance.close();
    this.prepared.set(deployment, factory);
  }

  /** What the newest version was deployed as. @throws IguanaError `IGU_FUNCTION_NOT_FOUND` */
  newest(name: string): Deployment {
    return this.entry(name).newest.deployment;
  }

  /** @throws IguanaError `IGU_FUNCTION_NOT_FOUND` */
  async delete(name: string): Promise<void> {
    const entry = this.entry(name);
    this.entries.delete(name);
    this.changed();
    await this.end([...entry.versions.values()].map(({ pool }) => pool));
  }

  list(): DeployedFunction[] {
    return [...this.entries.values()].map((entry) => entry.described);
  }

  /** @throws IguanaError `IGU_FUNCTION_NOT_FOUND` */
  describe(name: string): DeployedFunction {
    return this.entry(name).described;
  }

  /** @throws IguanaError `IGU_FUNCTION_…`; `IGU_USAGE` for a time limit that is no number above 0: nothing has run then */
  async invoke(name: string, event: FunctionEvent, options: InvokeOptions = {}): Promise<InvocationResult> {
    const entry = this.entry(name);
    if (options.timeoutMs !== undefined) assertTimeLimit(options.timeoutMs);
    const version = this.choose(name, entry, options.qualifier);
    const { number, pool } = version;
    const { definition } = version.deployment;
    const { clock } = this.options;
    const startedAt = clock.now();
    const invocationId = options.invocationId ?? randomUUID();
    const timeoutMs = Math.min(options.timeoutMs ?? definition.timeoutMs, definition.timeoutMs);
    const context = {
      function: name,
      version: number,
      invocationId,
      attempt: options.attempt ?? 1,
      deadline: startedAt + timeoutMs,
    };
    version.called = true;
    // when timers come is known: their calls say nothing of the others
    const foreseen = event.trigger === 'timer';
    if (!foreseen && entry.running++ === 0 && entry.idleSince !== undefined)
      entry.keepAlive.learn(startedAt - entry.idleSince);
    let begunAt: number | undefined;
    let begunInitMs = 0;
    try {
      const { reply, cold, initMs } = await pool.run(event, context, options.signal, options.answer, (start) => {
        begunAt = performance.now();
        begunInitMs = start.initMs;
        // a call that has waited has all of its time, else instances would be ended for what was queued too long
        context.deadline = clock.now() + timeoutMs;
        if (start.cold) entry.counters.coldStart(start.cold, start.initMs);
      });
      const { output, durationMs, memoryUsedMb, gasUsed, logs, logsTruncated } = reply;
      entry.counters.succeeded(durationMs, gasUsed ?? 0);
      if (logs.length > 0) this.log(entry, invocationId, logs);
      this.bill(definition, context, startedAt, durationMs, initMs, gasUsed ?? 0, true);
      // Member by member: a copy of the reply with more in it takes longer than the rest of this method.
      if (gasUsed === undefined)
        return { invocationId, output, durationMs, initMs, cold, memoryUsedMb, logs, logsTruncated };
      return { invocationId, output, durationMs, initMs, cold, memoryUsedMb, gasUsed, logs, logsTruncated };
    } catch (thrown) {
      const error = options.timeoutOf === undefined ? thrown : timedOut(thrown, options, definition.timeoutMs);
      const code = error instanceof IguanaError ? error.code : 'IGU_FUNCTION_FAILED';
      entry.counters.failedWith(code);
      const cause: FailureDetails | undefined =
        error instanceof Error ? (error.cause as FailureDetails | undefined) : undefined;
      // it goes on in its instance, and so does its log
      if (code === 'IGU_FUNCTION_CANCELLED' && begunAt !== undefined)
        takeLogs(context, (lines) => this.log(entry, invocationId, lines));
      this.log(entry, invocationId, [...(cause?.logs ?? []), `error ${messageOf(error)}${thrownAt(cause)}`]);
      // what never ran is not billed, nor what another call's end interrupted; what failed or was stopped is, for the time it took
      if (begunAt !== undefined && code !== 'IGU_FUNCTION_INTERRUPTED') {
        const durationMs = cause?.durationMs ?? performance.now() - begunAt;
        const gasUsed = cause?.gasUsed ?? 0;
        entry.counters.ran(durationMs, gasUsed);
        this.bill(definition, context, startedAt, durationMs, begunInitMs, gasUsed, false);
      }
      throw error;
    } finally {
      if (!foreseen && --entry.running === 0) entry.idleSince = clock.now();
    }
  }

  /**
   * Has so many instances ready and keeps them for the function's idle time. Resolves when they are.
   * @param instances 0 to 1,000; at most as many as the function may have
   */
  async prewarm(name: string, instances: number): Promise<void> {
    const entry = this.entry(name);
    assertWholeNumber('instances to have ready', instances, 0, functionLimits.maxInstances);
    const { pool, deployment } = entry.newest;
    const { idleSeconds } = deployment.definition.scaling;
    this.raiseFloor(entry, instances, this.options.clock.now() + idleSeconds * 1000);
    await pool.atLeast(instances);
  }

  /** A forecast of calls at once: from now until then so many instances are wanted. */
  expectLoad(name: string, concurrency: number, until: number): void {
    const entry = this.entry(name);
    const { concurrency: each, scaling } = entry.newest.deployment.definition;
    if (!scaling.enablePredictiveScaling) return;
    this.raiseFloor(entry, Math.ceil(concurrency / (each * scaling.targetConcurrency)), until);
  }

  /** Keeps and starts instances by when the function was called so far, in place of its fixed idle time. */
  enableColdStartOptimization(name: string): void {
    this.setColdStartOptimization(name, true);
  }

  /** The same, or its end. */
  setColdStartOptimization(name: string, enabled: boolean): void {
    this.entry(name).optimised = enabled;
  }

  /** When the function's instances are stopped and started again, as far as its calls so far tell. */
  keepAlive(name: string): KeepAliveWindows {
    return this.entry(name).keepAlive.windows();
  }

  /** What has been learnt of when the function is called, for `restoreHistory` after a restart. @throws IguanaError `IGU_FUNCTION_NOT_FOUND` */
  history(name: string): Buffer {
    const { keepAlive, idleSince } = this.entry(name);
    const writer = new StateWriter().text(keepAlive.name).f64(idleSince ?? Number.NaN);
    keepAlive.save(writer);
    return writer.finish();
  }

  /**
   * Begins with what was learnt before; of another policy nothing is taken.
   * @throws IguanaError `IGU_FUNCTION_NOT_FOUND`, `IGU_STATE_INCOMPATIBLE`
   */
  restoreHistory(name: string, saved: Uint8Array): void {
    const entry = this.entry(name);
    const reader = new StateReader(Buffer.from(saved));
    if (reader.text() !== entry.keepAlive.name) return;
    const idleSince = reader.f64();
    entry.keepAlive.restore(reader);
    if (Number.isFinite(idleSince)) entry.idleSince ??= idleSince;
  }

  /** Observes loads and scales every version of every function; returns what was decided for the newest. To be called every second or two. */
  async tick(): Promise<Map<string, ScaleDecision>> {
    const now = this.options.clock.now();
    const decisions = new Map<string, ScaleDecision>();
    const work: Promise<void>[] = [];
    for (const [name, entry] of this.entries) {
      for (const version of entry.versions.values()) {
        const { pool, scaler, deployment } = version;
        const { running, waiting, instances, starting } = pool.state;
        // calls that came and went between two ticks were some load
        scaler.observe(now, Math.max(running + waiting, version.called ? UNSEEN_LOAD : 0));
        version.called = false;
        // forecasts and history are those of the function: the newest version answers for it, others have their own load
        const newest = version === entry.newest;
        const usual = scalerOptions(deployment.definition);
        scaler.configure(newest && entry.optimised ? { ...usual, idleMs: 0 } : usual);
        const decision = scaler.decide(now, instances + starting, newest ? this.floor(entry, now) : 0);
        if (newest) decisions.set(name, decision);
        work.push(pool.scaleTo(decision.instances));
      }
    }
    // A start that fails is told to the calls that wait for it; here nobody waits.
    await Promise.allSettled(work);
    return decisions;
  }

  /** @throws IguanaError `IGU_FUNCTION_NOT_FOUND` */
  metrics(name: string): FunctionMetrics {
    const entry = this.entry(name);
    const states = [...entry.versions.values()].map(({ pool }) => pool.state);
    const sum = (of: (state: (typeof states)[number]) => number) =>
      states.reduce((total, state) => total + of(state), 0);
    return {
      ...entry.counters.read(),
      concurrency: sum(({ running }) => running),
      waiting: sum(({ waiting }) => waiting),
      instances: sum(({ instances }) => instances),
      idleInstances: sum(({ idle }) => idle),
      memoryBytes: sum(({ memoryBytes }) => memoryBytes),
    };
  }

  /** Adds a line to the function's log: of a call's answer that was found wrong when the call had ended. Of one that is not there nothing is kept. */
  note(name: string, invocationId: string, line: string): void {
    const entry = this.entries.get(name);
    if (entry) this.log(entry, invocationId, [line]);
  }

  /** Newest last. */
  logs(name: string): readonly LogLine[] {
    return this.entry(name).logs;
  }

  /** @param graceMs calls that run longer are ended (default: none are) */
  async close(graceMs?: number): Promise<void> {
    const pools = [...this.entries.values()].flatMap(({ versions }) => [...versions.values()].map(({ pool }) => pool));
    this.entries.clear();
    await Promise.all([this.end(pools, graceMs), ...this.ending]);
  }

  /** Waits for the calls of pools that nothing leads to any more, and stops their instances. */
  private async end(pools: readonly FunctionPool[], graceMs?: number): Promise<void> {
    const ended = Promise.all(pools.map((pool) => pool.close(graceMs)));
    this.ending.add(ended);
    await ended.finally(() => this.ending.delete(ended));
  }

  private newEntry(name: string, newest: Version): Entry {
    return {
      described: described(name, { newest, aliases: new Map() }),
      versions: new Map(),
      newest,
      aliases: new Map(),
      counters: new FunctionCounters(),
      keepAlive: this.options.keepAlive?.() ?? new IdleHazard(),
      logs: [],
      idleSince: undefined,
      running: 0,
      floors: [],
      optimised: false,
    };
  }

  private changed(): void {
    for (const listener of this.listeners) listener();
  }

  private entry(name: string): Entry {
    const entry = this.entries.get(name);
    if (!entry) throw new IguanaError('IGU_FUNCTION_NOT_FOUND', { name });
    return entry;
  }

  private choose(name: string, entry: Entry, qualifier: string | number | undefined): Version {
    if (qualifier === undefined) return entry.newest;
    const weights = entry.aliases.get(String(qualifier));
    if (!weights) {
      const version = entry.versions.get(Number(qualifier));
      if (version) return version;
      throw new IguanaError('IGU_FUNCTION_NOT_FOUND', { name: `${name}:${qualifier}` });
    }
    let left = (this.options.random ?? Math.random)();
    let chosen = entry.newest;
    for (const [number, share] of Object.entries(weights)) {
      chosen = entry.versions.get(Number(number))!;
      left -= share;
      if (left < 0) break;
    }
    return chosen;
  }

  private environment(definition: FunctionDefinition): Record<string, string> {
    const env: Record<string, string> = { ...definition.env };
    for (const [variable, secret] of Object.entries(definition.secrets)) {
      const value = this.options.secret?.(secret);
      if (value === undefined) {
        const what = `secret ${secret} (for ${variable}) is not there`;
        const fix =
          'put it into the secrets file, or into the environment, and deploy again: docs/functions.md, Secrets';
        throw new IguanaError('IGU_FUNCTION_CODE', { name: definition.name, what, fix });
      }
      env[variable] = value;
    }
    return env;
  }

  /**
   * @param before what there is of the function
   * @param scaler of the version that it replaces
   */
  private version(deployment: Deployment, number: number, before: Entry | undefined, scaler?: Autoscaler): Version {
    const { definition } = deployment;
    const factory = this.prepared.get(deployment) ?? this.options.factory(deployment, this.environment(definition));
    const { name, concurrency, maxConcurrency, scaling } = definition;
    const firstCause = before ? 'new-version' : 'first-call';
    const options = { name, concurrency, maxConcurrency, maxInstances: scaling.maxInstances, firstCause } as const;
    return {
      number,
      deployment,
      pool: new FunctionPool(options, factory, this.options.clock, this.room),
      scaler: scaler ?? new Autoscaler(scalerOptions(definition), this.options.clock.now()),
      called: false,
    };
  }

  /** Instances that forecasts, `prewarm` and its history ask for. */
  private floor(entry: Entry, now: number): number {
    const foreseen = entry.floors.map(({ instances, until }) => (now < until ? instances : 0));
    return Math.max(0, ...foreseen, entry.optimised ? this.wantedByHistory(entry, now) : 0);
  }

  /** Instances for a function whose calls come as they came: one inside its keep-alive window, none outside. */
  private wantedByHistory(entry: Entry, now: number): number {
    if (entry.running > 0) return 1;
    if (entry.idleSince === undefined) return 0;
    return keepsAfter(entry.keepAlive.windows(), now - entry.idleSince) ? 1 : 0;
  }

  private raiseFloor(entry: Entry, instances: number, until: number): void {
    const now = this.options.clock.now();
    // those that the new one does not cover hold beside it: each is higher and shorter, or lower and longer
    const others = entry.floors.filter((one) => one.until > now && (one.instances > instances || one.until > until));
    if (!others.some((one) => one.instances >= instances && one.until >= until)) others.push({ instances, until });
    entry.floors = others;
  }

  private log(entry: Entry, invocationId: string, lines: readonly string[]): void {
    const at = this.options.clock.now();
    for (const line of lines) entry.logs.push({ at, invocationId, line });
    const excess = entry.logs.length - functionLimits.maxKeptLogLines;
    if (excess > 0) entry.logs.splice(0, excess);
  }

  private bill(
    { memoryMb }: FunctionDefinition,
    { invocationId, attempt, function: name, version }: InvocationContext,
    startedAt: number,
    durationMs: number,
    initMs: number,
    gasUsed: number,
    success: boolean,
  ): void {
    const { onUsage, usageKey = '' } = this.options;
    if (!onUsage) return;
    const call = {
      invocationId,
      attempt,
      function: name,
      version,
      startedAt,
      durationMs,
      initMs,
      memoryMb,
      gasUsed,
      success,
    };
    onUsage(usageRecord(call, usageKey));
  }
}

/** What to do about a call that was ended by a limit which is none of the function's own. */
function timedOut(error: unknown, { timeoutMs = 0, timeoutOf }: InvokeOptions, ownMs: number): unknown {
  if (!(error instanceof IguanaError) || error.code !== 'IGU_FUNCTION_TIMEOUT' || timeoutMs > ownMs) return error;
  const limits = timeoutMs === ownMs ? `${timeoutOf} and its timeout` : timeoutOf;
  const fix = `raise ${limits}, or make it do less in one call`;
  return new IguanaError('IGU_FUNCTION_TIMEOUT', { ...error.details, fix }, { cause: error.cause });
}

function deploymentsOf(entry: Entry | undefined): Map<number, Deployment> {
  return new Map([...(entry?.versions ?? [])].map(([number, { deployment }]) => [number, deployment]));
}

function described(name: string, { newest, aliases }: Pick<Entry, 'newest' | 'aliases'>): DeployedFunction {
  const { number: version, deployment } = newest;
  return { name, version, definition: deployment.definition, aliases: Object.fromEntries(aliases) };
}

/** The lines of a stack, for the log alone: who called is told the message. */
function thrownAt({ stack, logs }: FailureDetails = {}): string {
  return logs && stack?.includes('\n    at ') ? `\n${stack.slice(0, functionLimits.maxLogLine)}` : '';
}

function scalerOptions({ concurrency, scaling }: FunctionDefinition) {
  const { targetConcurrency, minInstances, maxInstances, idleSeconds } = scaling;
  return {
    ...{ targetConcurrency: concurrency * targetConcurrency, minInstances, maxInstances, idleMs: idleSeconds * 1000 },
    // a load that has gone is forgotten when the function is idle
    stableWindowMs: Math.min(60_000, Math.max(6_000, idleSeconds * 1000)),
  };
}
