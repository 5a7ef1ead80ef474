import { IguanaError } from '../errors.js';
import { type FunctionDefinition, keptFunctionSchema } from '../functions/definition.js';
import {
  aliasedRecord,
  deployedRecord,
  type FunctionOrigin,
  type FunctionRecord,
  unaliasedRecord,
  withoutCode,
} from '../functions/function-record.js';
import type { AliasWeights, DeployedFunction, Deployment, FunctionService } from '../functions/function-service.js';
import { routeOf } from '../functions/triggers/http-path.js';
import { TimerSchedule } from '../functions/triggers/timer-schedule.js';
import type { ConnectionOptions } from '../kafka/client.js';
import { keptDefinitions, localDefinitions } from './function-definitions.js';

export interface DeployedFunctionsOptions {
  readonly service: FunctionService;
  /** Where functions are kept, for all processes and restarts. Default: in this process alone. */
  readonly kept?: { readonly connection: ConnectionOptions; readonly topic: string };
  /** Called after each change, its own and others'. */
  readonly onChange: () => void;
  readonly onError: (error: unknown) => void;
}

interface Identified {
  readonly identity: string;
  readonly deployment: Deployment;
}

/** What can be changed of functions. Everything resolves when this process works by it; names that are not there are `IGU_FUNCTION_NOT_FOUND`. */
export interface DeployedFunctions {
  readonly records: ReadonlyMap<string, FunctionRecord>;
  /**
   * Starts the code once before anybody gets it. What is deployed already changes nothing. Errors: `IGU_FUNCTION_CODE`, `IGU_FUNCTION_ROUTE` for a route that
   * another function has, `IGU_USAGE` for triggers that need Kafka without it, `IGU_CONFIG` for a timer that cannot be, `IGU_LIMIT`.
   */
  deploy(deployment: Deployment, origin?: FunctionOrigin): Promise<DeployedFunction>;
  delete(name: string): Promise<void>;
  setAlias(name: string, alias: string, weights: AliasWeights): Promise<void>;
  /** Errors: `IGU_NOT_FOUND` for an alias that is not there. */
  deleteAlias(name: string, alias: string): Promise<void>;
  setPaused(name: string, paused: boolean): Promise<void>;
  setOptimised(name: string, optimised: boolean): Promise<void>;
  /** As the service has them, but those that are paused without the triggers that start them by themselves. */
  active(): DeployedFunction[];
  stop(): Promise<void>;
}

/** Keeps a service in step with the definitions that there are: those of a topic, or of this process. */
export async function deployedFunctions(options: DeployedFunctionsOptions): Promise<DeployedFunctions> {
  const { service, kept, onChange, onError } = options;
  /** What each version was deployed as: the same object for as long as it is the same, so that it goes on undisturbed. */
  const deployments = new Map<string, Map<number, Identified>>();
  /** What was started once for being deployed here: what that has prepared is used. */
  let verified: Identified | undefined;
  const isServed = (name: string, { newest }: FunctionRecord): boolean =>
    service.list().some((one) => one.name === name && one.version === newest);
  /** Has the service serve what the record says. @throws IguanaError `IGU_FUNCTION_CODE` when a secret is not there */
  const serve = async (name: string, record: FunctionRecord): Promise<void> => {
    const versions = new Map<number, Deployment>();
    for (const [number, { deployment }] of deployments.get(name) ?? []) versions.set(number, deployment);
    const put = service.put(name, { versions, newest: record.newest, aliases: record.aliases });
    // without waiting: all but its instances is there when `put` returns, or nothing is
    if (isServed(name, record)) service.setColdStartOptimization(name, record.optimised);
    await put;
  };
  const onRecord = (name: string, record: FunctionRecord | undefined, codeOf: (sha256: string) => Uint8Array): void => {
    if (record) {
      const before = deployments.get(name);
      const identified = new Map<number, Identified>();
      for (const [key, { definition, code }] of Object.entries(record.versions)) {
        const number = Number(key);
        const identity = identityOf(number, { definition, code });
        const known = [before?.get(number), verified].find((one) => one?.identity === identity);
        // what an older release wrote lacks what came since
        const made = () => ({ definition: keptFunctionSchema.parse(definition), code: codeOf(code.sha256) });
        identified.set(number, known ?? { identity, deployment: made() });
      }
      deployments.set(name, identified);
      serve(name, record).catch(onError);
    } else if (deployments.delete(name)) service.delete(name).catch(onError);
    onChange();
  };
  const definitions = kept ? await keptDefinitions({ ...kept, onRecord, onError }) : localDefinitions(onRecord);
  const { records } = definitions;
  const change = (name: string, decide: (before: FunctionRecord) => FunctionRecord | undefined): Promise<void> =>
    definitions.change(name, (before) => {
      if (!before) throw new IguanaError('IGU_FUNCTION_NOT_FOUND', { name });
      return { record: decide(before) };
    });
  return {
    records,
    async deploy(given, origin) {
      const deployment = { definition: withoutCode(given.definition), code: given.code };
      const { name, triggers } = deployment.definition;
      for (const trigger of triggers) if (trigger.type === 'timer') new TimerSchedule(trigger.cron, trigger.timezone);
      if (!kept && triggers.some(({ type }) => type === 'stream' || type === 'queue'))
        throw new IguanaError('IGU_USAGE', { what: 'stream and queue triggers need Kafka: connect with brokers' });
      const known = records.get(name);
      const next = deployedRecord(known, deployment, 0, origin);
      if (known && next === known) {
        // it could not be served when this process was told of it, as when a secret was missing
        if (!isServed(name, known)) {
          await serve(name, known);
          onChange();
        }
        return service.describe(name);
      }
      assertRoutes(records, deployment.definition);
      if (next.newest !== known?.newest) {
        await service.verify(deployment);
        verified = { identity: identityOf(next.newest, next.versions[next.newest]!), deployment };
      }
      await definitions.change(name, (before) => {
        // what other processes have done meanwhile is known here: no two of them give one route to two functions
        assertRoutes(records, deployment.definition);
        return { record: deployedRecord(before, deployment, Date.now(), origin), code: deployment.code };
      });
      return service.describe(name);
    },
    delete: (name) => change(name, () => undefined),
    setAlias: (name, alias, weights) => change(name, (before) => aliasedRecord(before, alias, weights)),
    deleteAlias: (name, alias) => change(name, (before) => unaliasedRecord(before, alias)),
    setPaused: (name, paused) => change(name, (before) => (before.paused === paused ? before : { ...before, paused })),
    setOptimised: (name, optimised) =>
      change(name, (before) => (before.optimised === optimised ? before : { ...before, optimised })),
    active: () =>
      service.list().map((one) => {
        if (!records.get(one.name)?.paused) return one;
        const triggers = one.definition.triggers.filter(({ type }) => type === 'http');
        return { ...one, definition: { ...one.definition, triggers } };
      }),
    stop: () => definitions.stop(),
  };
}

/** What makes a version the same as another. */
function identityOf(
  number: number,
  { definition, code }: Pick<FunctionRecord['versions'][number], 'definition' | 'code'>,
): string {
  return `${number} ${code.sha256} ${JSON.stringify(definition)}`;
}

/**
 * Who has a route keeps it, until it is deployed without it or deleted.
 * @throws IguanaError `IGU_FUNCTION_ROUTE`
 */
export function assertRoutes(
  records: ReadonlyMap<string, FunctionRecord>,
  { name, triggers }: FunctionDefinition,
): void {
  const own = routesOf(records.get(name));
  const others = [...records.values()].filter((record) => record.name !== name);
  for (const trigger of triggers) {
    if (trigger.type !== 'http') continue;
    const route = routeOf(trigger);
    if (route === undefined || own.has(route)) continue;
    const owner = others.find((record) => routesOf(record).has(route));
    if (!owner) continue;
    const { method, path } = trigger;
    throw new IguanaError('IGU_FUNCTION_ROUTE', { method, path, name, what: `${owner.name} has it already` });
  }
}

function routesOf(record: FunctionRecord | undefined): ReadonlySet<string | undefined> {
  const triggers = record?.versions[record.newest]?.definition.triggers ?? [];
  return new Set(triggers.map((trigger) => (trigger.type === 'http' ? routeOf(trigger) : undefined)));
}
