import { sharedWorkerLimits } from '../../limits.js';
import { SharedThread } from './shared-thread.js';

/** The workers that instances of small JavaScript functions share. */
export class SharedThreads {
  private readonly threads = new Set<SharedThread>();
  closed = false;

  get count(): number {
    return this.threads.size;
  }

  /** Starts the workers that are kept, so that no call waits for that. Cost: about 30 ms each. */
  prepare(): void {
    while (this.open < sharedWorkerLimits.workers && !this.closed) this.start();
  }

  /** The worker with the fewest instances that has room; undefined when there is none and no more are started. */
  place(except?: SharedThread): SharedThread | undefined {
    this.prepare();
    let best: SharedThread | undefined;
    for (const thread of this.threads) {
      if (thread === except || !thread.hasRoom) continue;
      if (!best || thread.lodgers.size < best.lodgers.size) best = thread;
    }
    if (best || this.closed || this.threads.size >= sharedWorkerLimits.maxWorkers) return best;
    return this.start();
  }

  /** An instance has left: workers beyond those that are kept go when nothing lives there. */
  trim(): void {
    for (const thread of this.threads) {
      if (this.open > sharedWorkerLimits.workers && thread.lodgers.size === 0) thread.retire();
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    await Promise.all([...this.threads].map((thread) => thread.stop()));
    this.threads.clear();
  }

  /** Those that take instances: one that is retired only waits for its calls to end. */
  private get open(): number {
    let open = 0;
    for (const { retired } of this.threads) if (!retired) open++;
    return open;
  }

  private start(): SharedThread {
    const thread = new SharedThread((ended) => {
      this.threads.delete(ended);
      if (ended.lodgers.size > 0) this.prepare();
    });
    this.threads.add(thread);
    return thread;
  }
}
