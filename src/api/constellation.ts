import type { Instance } from '../cluster/cluster.js';
import { ProcessCluster, type ProcessClusterOptions } from '../cluster/process-cluster.js';
import { IguanaError } from '../errors.js';

/** Clusters of this process by name; calls without a name mean the one made last. */
const clusters = new Map<string, ProcessCluster>();

function clusterOf(name?: string): ProcessCluster {
  const found = name === undefined ? [...clusters.values()].at(-1) : clusters.get(name);
  if (!found)
    throw new IguanaError('IGU_NOT_FOUND', {
      what: 'cluster',
      name: name ?? 'at all',
      fix: 'make it with createCluster',
    });
  return found;
}

export const constellation = {
  /** Runs `instances` (default 1) copies of a command as supervised processes. Errors: `IGU_USAGE` for a name in use, `IGU_ACTUATOR`. */
  async createCluster(options: ProcessClusterOptions & { readonly instances?: number }): Promise<readonly Instance[]> {
    if (clusters.has(options.name))
      throw new IguanaError('IGU_USAGE', { what: `there is a cluster named ${options.name}` });
    const cluster = new ProcessCluster(options);
    clusters.set(options.name, cluster);
    try {
      await cluster.scaleTo(options.instances ?? 1);
    } catch (error) {
      // those that did start would be nobody's
      await cluster.scaleTo(0);
      clusters.delete(options.name);
      throw error;
    }
    return cluster.instances();
  },
  /** Adds instances (default 1). */
  async scaleUp({ cluster, instances = 1 }: { cluster?: string; instances?: number } = {}): Promise<void> {
    await clusterOf(cluster).scaleBy(instances);
  },
  /** Takes instances away (default 1), at most all. */
  async scaleDown({ cluster, instances = 1 }: { cluster?: string; instances?: number } = {}): Promise<void> {
    await clusterOf(cluster).scaleBy(-instances);
  },
  /** Errors: `IGU_NOT_FOUND`. */
  async restartInstance(id: string): Promise<void> {
    const owner = [...clusters.values()].find((c) => c.instances().some((i) => i.id === id));
    if (!owner) throw new IguanaError('IGU_NOT_FOUND', { what: 'instance', name: id, fix: 'see constellation.list()' });
    await owner.restart(id);
  },
  /** Restarts the instances of a cluster one after the other. */
  async restartService(name: string): Promise<void> {
    const cluster = clusterOf(name);
    for (const { id } of cluster.instances()) await cluster.restart(id);
  },
  list: (cluster?: string): readonly Instance[] => clusterOf(cluster).instances(),
  /** Stops all instances of a cluster. */
  async destroy(name: string): Promise<void> {
    await clusterOf(name).scaleTo(0);
    clusters.delete(name);
  },
};
