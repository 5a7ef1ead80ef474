import { functionLimits } from '../../limits.js';
import type { InstanceFactory } from '../pool.js';
import { type JavaScriptCode, JavaScriptInstance } from './javascript-instance.js';

type Isolation = 'thread' | 'process';

/**
 * Workers that have started and wait for code: a function's first call waits for its code to load, not for a thread. Kept by memory and isolation, since
 * both are fixed when a worker starts.
 */
export class WarmWorkers {
  private readonly waiting = new Map<string, Promise<JavaScriptInstance>[]>();
  private closed = false;

  /** @param size workers of each kind that wait (default 4) */
  constructor(private readonly size: number = functionLimits.warmWorkers) {}

  /** Starts workers ahead. Resolves when they wait. */
  async prepare(memoryMb: number, isolation: Isolation): Promise<void> {
    const shelf = this.shelf(memoryMb, isolation);
    while (shelf.length < this.size && !this.closed) shelf.push(this.start(memoryMb, isolation));
    await Promise.all(shelf);
  }

  /** How a function's instances are started from them. */
  factory(code: JavaScriptCode, memoryMb: number, isolation: Isolation): InstanceFactory {
    return {
      start: async () => {
        const instance = await this.take(memoryMb, isolation);
        try {
          await instance.load(code);
        } catch (error) {
          await instance.close();
          throw error;
        }
        return instance;
      },
    };
  }

  async close(): Promise<void> {
    this.closed = true;
    const all = [...this.waiting.values()].flat();
    this.waiting.clear();
    await Promise.all(all.map(async (worker) => (await worker.catch(() => undefined))?.close()));
  }

  private async take(memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance> {
    const shelf = this.shelf(memoryMb, isolation);
    const waiting = shelf.shift();
    if (this.size > 0 && !this.closed) {
      // Not at once: the call that takes one has the processor first.
      setImmediate(() => {
        this.prepare(memoryMb, isolation).catch(() => undefined);
      });
    }
    const instance = await (waiting ?? this.start(memoryMb, isolation));
    return instance.usable ? instance : this.start(memoryMb, isolation);
  }

  private shelf(memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance>[] {
    const key = `${isolation}/${memoryMb}`;
    let shelf = this.waiting.get(key);
    if (!shelf) {
      shelf = [];
      this.waiting.set(key, shelf);
    }
    return shelf;
  }

  /** One that cannot be started is not kept for others to fail with. */
  private start(memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance> {
    const started = JavaScriptInstance.start(memoryMb, isolation);
    started.catch(() => {
      const shelf = this.shelf(memoryMb, isolation);
      const at = shelf.indexOf(started);
      if (at >= 0) shelf.splice(at, 1);
    });
    return started;
  }
}
