import type { AlertOptions } from '../../src/api/alert.js';
import type { Cluster } from '../../src/cluster/cluster.js';

/** What `anomaly-handler` answers for one anomaly. */
export interface Command {
  readonly episode: string;
  readonly service: string;
  readonly resolved?: boolean;
  readonly restart?: boolean;
  readonly alert?: Pick<AlertOptions, 'severity' | 'title' | 'message'>;
}

/** The ports through which the world is changed. */
export interface Ports {
  /** By service. */
  readonly clusters: ReadonlyMap<string, Cluster>;
  /** `alert.send` of the library. */
  readonly send: (options: AlertOptions) => unknown;
  /** `alert.resolve` of the library. */
  readonly resolve: (episode: string) => unknown;
  /** Default true: people are told, nothing is restarted. */
  readonly dryRun?: boolean;
}

/** Carries a command out. @returns what was done, or would have been */
export async function carryOut(command: Command, { clusters, send, resolve, dryRun = true }: Ports): Promise<string> {
  const { episode, service, alert } = command;
  if (command.resolved) {
    resolve(episode);
    return `${service}: resolved`;
  }
  const note = dryRun && command.restart ? ' (dry run)' : '';
  if (alert) send({ episode, service, ...alert, message: `${alert.message}${note}` });
  if (!command.restart) return `${service}: told`;
  const cluster = clusters.get(service);
  if (!cluster) return `${service}: told; nobody can restart it here`;
  if (dryRun) return `${service}: would restart ${cluster.instances().length} instances`;
  // one after the other, so that the service stays there
  for (const { id } of cluster.instances()) await cluster.restart(id);
  return `${service}: restarted ${cluster.instances().length} instances`;
}
