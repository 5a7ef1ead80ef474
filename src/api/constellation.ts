import { type Clock, wallClock } from '../clock.js';
import type { Instance } from '../cluster/cluster.js';
import { ProcessCluster, type ProcessClusterOptions } from '../cluster/process-cluster.js';
import { defined } from '../defined.js';
import { IguanaError, messageOf } from '../errors.js';
import type { GpuRequest } from '../gpu/allocator-rules.js';
import { releaseIfThere } from '../gpu/gpu-over.js';
import type { GpuService } from '../gpu/gpu-service.js';
import type { Reservation } from '../gpu/ledger.js';
import type { PreallocationCosts } from '../gpu/preallocation.js';
import { gpu, onNode, usedGpus } from './gpu.js';
import { GpuForecast, type GpuReadiness } from './gpu-forecast.js';
import { GpuInstances } from './gpu-instances.js';
import { type GpuNeeds, requestOf } from './gpu-needs.js';
import { costsSchema } from './gpu-options.js';
import { assertOptions } from './option-checks.js';
import { scriptCommand } from './script-command.js';

/** What instances run: a command, or a script (`.js`, `.ts`, `.py` or any program). */
type Program = { readonly command?: string; readonly script?: string; readonly args?: readonly string[] };

type InstanceOptions = Omit<ProcessClusterOptions, 'command' | 'args' | 'environmentOf' | 'onRemoved' | 'idOf'>;

export interface ClusterOptions extends InstanceOptions, Program, GpuNeeds {
  /** Default 1; 0 without a command or script: such a cluster has GPUs reserved only. */
  readonly instances?: number;
  /** Each instance gets GPUs of its own when it starts: one, or what is said with `gpu`, `gpuMemory` and so on. */
  readonly gpuEnabled?: boolean;
  /** Forecasts how many GPUs the cluster will ask for and keeps those ready that are worth it (default false); with costs other than the default ones. */
  readonly predictiveScaling?: boolean | PreallocationCosts;
}

export interface DeployOptions extends Omit<InstanceOptions, 'name'>, Program, GpuNeeds {}

export interface PreallocateOptions {
  /** Default: the one made last. */
  readonly cluster?: string;
  /** So long at most, ms (default 600,000). */
  readonly forMs?: number;
}

/** The instances that a cluster began with, and what can be done with its GPUs. */
export type ClusterHandle = readonly Instance[] & {
  readonly name: string;
  /** As `constellation.preallocateGpus`. */
  preallocateGpus(count: number, options?: Omit<PreallocateOptions, 'cluster'>): Promise<readonly Reservation[]>;
  /** What predictive scaling keeps ready, and why; undefined before its first look. */
  gpuReadiness(): GpuReadiness | undefined;
};

/** What `deploy` started. */
export interface Deployed extends Instance {
  /** What it was given, and how its process names it; none without GPUs. */
  readonly gpuIds: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

interface Entry {
  readonly cluster: ProcessCluster;
  readonly runs: boolean;
  readonly gpus: GpuInstances | undefined;
  /** Of each instance. */
  readonly request: GpuRequest | undefined;
  readonly readiness: { newest: GpuReadiness | undefined };
  /** By `preallocateGpus`, and who keeps them; some may have ended since the last. */
  reserved: readonly { readonly id: string; readonly service: GpuService }[];
  endForecast: () => Promise<void>;
}

/** Clusters of this process by name; calls without a name mean the one made last. */
const clusters = new Map<string, Entry>();

function entryOf(name?: string): Entry {
  const found = name === undefined ? [...clusters.values()].at(-1) : clusters.get(name);
  if (!found)
    throw new IguanaError('IGU_NOT_FOUND', {
      what: 'cluster',
      name: name ?? 'at all',
      fix: 'make it with createCluster',
    });
  return found;
}

const clusterOf = (name?: string): ProcessCluster => entryOf(name).cluster;

/** A cluster that can be scaled. */
function runningOf(name?: string): ProcessCluster {
  const { cluster, runs } = entryOf(name);
  if (!runs) throw new IguanaError('IGU_USAGE', { what: `cluster ${cluster.name} has no command or script to run` });
  return cluster;
}

export const constellation = {
  /**
   * Runs `instances` (default 1) copies of a command as supervised processes, with `gpuEnabled` each on GPUs of its own.
   * Errors: `IGU_USAGE` for a name in use, `IGU_ACTUATOR`, `IGU_GPU_REFUSED` when there are no GPUs for one.
   */
  async createCluster(options: ClusterOptions): Promise<ClusterHandle> {
    assertKnown(clusterOptions, options);
    const { gpuEnabled = false, predictiveScaling = false, command, script, instances } = options;
    if (command === undefined && script === undefined && (instances ?? 0) > 0)
      throw new IguanaError('IGU_USAGE', {
        what: `there is nothing to run in ${options.name}: give a command or a script`,
      });
    if (predictiveScaling && !gpuEnabled)
      throw new IguanaError('IGU_USAGE', {
        what: 'predictiveScaling forecasts the demand for GPUs: say gpuEnabled too',
      });
    // its instances would see every GPU
    if (!gpuEnabled && requestOf(options) !== undefined)
      throw new IguanaError('IGU_USAGE', { what: `${options.name} asks for GPUs without gpuEnabled: say it too` });
    if (typeof predictiveScaling !== 'boolean') assertOptions(costsSchema, 'predictiveScaling', predictiveScaling);
    const request = gpuEnabled ? requestOf({ ...options, gpu: options.gpu ?? true }) : undefined;
    const entry = add(options, request && { owner: options.name, ...request });
    const { name, clock = wallClock } = options;
    const { cluster } = entry;
    try {
      if (predictiveScaling) await beginForecast(entry, clock, predictiveScaling === true ? {} : predictiveScaling);
      await cluster.scaleTo(options.instances ?? (entry.runs ? 1 : 0));
    } catch (error) {
      // those that did start would be nobody's
      await end(entry);
      throw error;
    }
    const preallocateGpus: ClusterHandle['preallocateGpus'] = (count, more = {}) =>
      constellation.preallocateGpus(count, { ...more, cluster: name });
    const gpuReadiness: ClusterHandle['gpuReadiness'] = () => entry.readiness.newest;
    return Object.defineProperties([...cluster.instances()], {
      name: { value: name },
      preallocateGpus: { value: preallocateGpus },
      gpuReadiness: { value: gpuReadiness },
    }) as Instance[] & Pick<ClusterHandle, 'name' | 'preallocateGpus' | 'gpuReadiness'>;
  },
  /**
   * Runs one supervised process of this name; with `gpu` on GPUs that are its own while it runs, also over restarts, and given back by `destroy`. When they are lost it is started
   * again on others. With `owner: 'ml-training'` it uses what is reserved for that cluster.
   * Errors: as `createCluster`, `IGU_FILE_MISSING`.
   *
   *     await constellation.deploy('ml-worker-1', { script: 'train.py', gpu: true, gpuMemory: 16_384 });
   */
  async deploy(name: string, options: DeployOptions): Promise<Deployed> {
    assertKnown(deployOptions, options);
    if (options.command === undefined && options.script === undefined)
      throw new IguanaError('IGU_USAGE', { what: `there is nothing to run for ${name}: give a script or a command` });
    const entry = add({ ...options, name }, requestOf(options), (slot) => (slot === 0 ? name : `${name}-${slot}`));
    const { cluster, gpus } = entry;
    try {
      await cluster.scaleTo(1);
    } catch (error) {
      await end(entry);
      throw error;
    }
    const { gpuIds = [], environment = {} } = gpus?.grantOf(name) ?? {};
    return { ...cluster.instances()[0]!, gpuIds, environment };
  },
  /** Adds instances (default 1). */
  async scaleUp({ cluster, instances = 1 }: { cluster?: string; instances?: number } = {}): Promise<void> {
    await runningOf(cluster).scaleBy(instances);
  },
  /** Takes instances away (default 1), at most all. */
  async scaleDown({ cluster, instances = 1 }: { cluster?: string; instances?: number } = {}): Promise<void> {
    await runningOf(cluster).scaleBy(-instances);
  },
  /** Errors: `IGU_NOT_FOUND`. */
  async restartInstance(id: string): Promise<void> {
    const owner = [...clusters.values()].find(({ cluster }) => cluster.instances().some((i) => i.id === id));
    if (!owner) throw new IguanaError('IGU_NOT_FOUND', { what: 'instance', name: id, fix: 'see constellation.list()' });
    await owner.cluster.restart(id);
  },
  /** Restarts the instances of a cluster one after the other. */
  async restartService(name: string): Promise<void> {
    const cluster = clusterOf(name);
    for (const { id } of cluster.instances()) await cluster.restart(id);
  },
  list: (cluster?: string): readonly Instance[] => clusterOf(cluster).instances(),
  /**
   * Keeps GPUs for instances that a cluster will start, all or none: for so many GPUs as many instances as have them.
   * Errors: `IGU_USAGE` for a cluster without GPUs, `IGU_GPU_REFUSED`.
   */
  async preallocateGpus(count: number, options: PreallocateOptions = {}): Promise<readonly Reservation[]> {
    assertKnown(preallocateOptions, options);
    const { cluster, forMs = 600_000 } = options;
    const entry = entryOf(cluster);
    const { name } = entry.cluster;
    if (!entry.request)
      throw new IguanaError('IGU_USAGE', { what: `cluster ${name} has no GPUs: make it with gpuEnabled: true` });
    if (!Number.isSafeInteger(count) || count < 1)
      throw new IguanaError('IGU_USAGE', { what: `${count} GPUs cannot be kept: a whole number from 1 is needed` });
    const { owner = name, ...asked } = entry.request;
    const used = await usedGpus();
    const request = onNode(used, name, asked);
    const made: Reservation[] = [];
    try {
      for (let gpus = 0; gpus < count; gpus += request.gpuCount ?? 1)
        made.push(await gpu.reserve(owner, { ...request, forMs }));
    } catch (error) {
      for (const { id } of made) await gpu.deallocate(id);
      throw error;
    }
    const { service } = used;
    const still = entry.reserved.filter((one) => one.service.find(one.id) !== undefined);
    entry.reserved = [...still, ...made.map(({ id }) => ({ id, service }))];
    return made;
  },
  /** Stops all instances of a cluster, or what was deployed, and gives its GPUs back, also those that `preallocateGpus` keeps. */
  async destroy(name: string): Promise<void> {
    await end(entryOf(name));
  },
};

/** One that is misspelt would be passed over, and a process that means a GPU start without one of its own. */
const deployOptions: Readonly<Record<keyof DeployOptions, true>> = {
  ...{ command: true, script: true, args: true, env: true, basePort: true, graceMs: true, backOffMs: true },
  ...{ logDir: true, onOutput: true, clock: true, gpu: true, gpuMemory: true, gpuShare: true, waitMs: true },
  ...{ exclusive: true, minComputeCapability: true, model: true, vendor: true, mode: true, profile: true },
  ...{ node: true, owner: true, priority: true, preempt: true, leaseMs: true },
};
const clusterOptions: Readonly<Record<keyof ClusterOptions, true>> = {
  ...deployOptions,
  ...{ name: true, instances: true, gpuEnabled: true, predictiveScaling: true },
};
const preallocateOptions: Readonly<Record<keyof PreallocateOptions, true>> = { cluster: true, forMs: true };

/** @throws IguanaError `IGU_CONFIG` */
function assertKnown(known: Readonly<Record<string, true>>, options: object): void {
  if (typeof options !== 'object' || options === null)
    throw new IguanaError('IGU_CONFIG', { where: 'options', what: 'an object is needed', fix: 'see docs/library.md' });
  const unknown = Object.keys(options).find((one) => !Object.hasOwn(known, one));
  if (unknown === undefined) return;
  const fix = `options are ${Object.keys(known).join(', ')}`;
  throw new IguanaError('IGU_CONFIG', { where: `option ${unknown}`, what: 'there is no such option', fix });
}

function add(
  options: InstanceOptions & Program & GpuNeeds,
  request: GpuRequest | undefined,
  idOf?: (slot: number) => string,
): Entry {
  const { name, script, command, args = [], env, basePort, graceMs, backOffMs, logDir, onOutput, clock } = options;
  if (clusters.has(name)) throw new IguanaError('IGU_USAGE', { what: `there is a cluster named ${name}` });
  const program = script === undefined ? { command: command ?? '', args } : scriptCommand(script, args);
  const gpus =
    request &&
    new GpuInstances({
      request,
      waitMs: options.waitMs ?? 0,
      onLost: (id, why) => {
        onOutput?.(id, `its GPUs are lost: ${why}; it is started again on others`);
        cluster.restart(id).catch((error: unknown) => {
          // it is tried again and again; an instance that is gone needs no GPUs
          onOutput?.(id, messageOf(error));
        });
      },
      ...defined({ clock }),
    });
  const cluster = new ProcessCluster({
    name,
    ...program,
    ...defined({ env, basePort, graceMs, backOffMs, logDir, onOutput, clock, idOf }),
    ...(gpus && {
      environmentOf: (id: string) => gpus.prepare(claimed(name, id)),
      onRemoved: (id: string) => gpus.release(id),
    }),
  });
  const runs = program.command !== '';
  const entry: Entry = {
    ...{ cluster, runs, gpus, request, readiness: { newest: undefined }, reserved: [] },
    endForecast: async () => {},
  };
  clusters.set(name, entry);
  return entry;
}

/** An instance has its GPUs by its name, so that two of a name would share them. */
function claimed(name: string, id: string): string {
  const other = [...clusters.values()].find((entry) => entry.cluster.name !== name && entry.gpus?.grantOf(id));
  if (other) throw new IguanaError('IGU_USAGE', { what: `${other.cluster.name} has an instance ${id} already` });
  return id;
}

async function end(entry: Entry): Promise<void> {
  const { cluster, gpus } = entry;
  try {
    // what waits for GPUs would be waited for
    await gpus?.giveUp();
    await cluster.scaleTo(0);
  } finally {
    if (clusters.get(cluster.name) === entry) clusters.delete(cluster.name);
    await entry.endForecast();
    for (const { id, service } of entry.reserved) await releaseIfThere(service, id);
  }
}

async function beginForecast(entry: Entry, clock: Clock, costs: PreallocationCosts): Promise<void> {
  const used = await usedGpus();
  const { owner, ...request } = entry.request!;
  const forecast = new GpuForecast(used.service, owner!, onNode(used, owner!, request), clock.now(), costs);
  let looking: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    try {
      entry.readiness.newest = await forecast.review(clock.now());
    } catch (error) {
      // a reservation that ended meanwhile, or no scheduler for a while: the next look sees what is there
      const why = messageOf(error);
      entry.readiness.newest = { target: 0, reserved: 0, missing: 0, why };
    } finally {
      looking = undefined;
    }
  };
  const stop = clock.every(forecast.reviewMs, () => {
    looking ??= look();
  });
  entry.endForecast = async () => {
    stop();
    await looking;
    await forecast.end();
  };
}
