import type { Cluster } from './cluster.js';

/**
 * The one place through which scaling decisions change the world. A dry run changes nothing, whatever else is configured; decisions of
 * policies without an actuator are left to those who read the topic (or ask `/api/desired-instances`). Of wishes that come while a
 * change is made only the newest is carried out; what failed comes again with the next evaluation.
 */
export class Actuators {
  private readonly wanted = new Map<string, number>();
  private readonly busy = new Set<string>();
  private stopped = false;

  /** `clusters` by policy name. */
  constructor(
    private readonly clusters: ReadonlyMap<string, Cluster>,
    private readonly onError: (error: unknown) => void,
  ) {}

  /** Begins to bring a policy's cluster to a number of instances; false when there is nothing to do it with, or it is a dry run. */
  want(policy: string, count: number, dryRun: boolean): boolean {
    const cluster = this.clusters.get(policy);
    if (dryRun || !cluster || this.stopped) return false;
    if (!this.busy.has(policy) && cluster.instances().length === count) return false;
    this.wanted.set(policy, count);
    if (!this.busy.has(policy)) void this.work(policy, cluster);
    return true;
  }

  /** Stops all instances; nothing is carried out any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.wanted.clear();
    await Promise.all([...this.clusters.values()].map((cluster) => cluster.scaleTo(0)));
  }

  private async work(policy: string, cluster: Cluster): Promise<void> {
    this.busy.add(policy);
    for (let count = this.wanted.get(policy); count !== undefined; count = this.wanted.get(policy)) {
      this.wanted.delete(policy);
      await cluster.scaleTo(count).catch(this.onError);
    }
    this.busy.delete(policy);
  }
}
