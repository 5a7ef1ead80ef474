import { availableParallelism } from 'node:os';
import { IguanaError } from '../../errors.js';
import { functionLimits } from '../../limits.js';
import type { InstanceFactory } from '../pool.js';
import { type JavaScriptCode, JavaScriptInstance } from './javascript-instance.js';

type Isolation = 'thread' | 'process';

/**
 * Workers that have started and wait for code: a function's first call waits for its code to load, not for a thread. Kept by memory and isolation, since
 * both are fixed when a worker starts; at most `functionLimits.maxWarmWorkers` of all kinds, the kind that was asked for longest ago gives way.
 */
export class WarmWorkers {
  /** The kind that was asked for last comes last. */
  private readonly shelves = new Map<string, Promise<JavaScriptInstance>[]>();
  /** Instances that load code: they have the processors first. */
  private loading = 0;
  private starting = 0;
  /** Starts that wait for their turn: those that a call waits for, and those ahead. */
  private readonly urgent: (() => void)[] = [];
  private readonly ahead: (() => void)[] = [];
  private readonly wanted = new Map<string, readonly [number, Isolation]>();
  private closed = false;

  /** @param size workers of each kind that wait (default 4) */
  constructor(private readonly size: number = functionLimits.warmWorkers) {}

  /** Workers that wait or are being started. */
  get count(): number {
    return [...this.shelves.values()].reduce((sum, shelf) => sum + shelf.length, 0);
  }

  /** Starts workers ahead. Resolves when they wait. */
  async prepare(memoryMb: number, isolation: Isolation, workers: number = this.size): Promise<void> {
    const shelf = this.shelf(memoryMb, isolation);
    while (shelf.length < Math.min(workers, this.size) && !this.closed && this.makeRoom(shelf))
      shelf.push(this.start(memoryMb, isolation, false));
    await Promise.all(shelf);
  }

  /**
   * How a function's instances are started from them.
   * @param code text of a module, or what gives it in the end
   */
  factory(code: JavaScriptCode | Promise<JavaScriptCode>, memoryMb: number, isolation: Isolation): InstanceFactory {
    return { start: async () => this.loaded(await code, memoryMb, isolation) };
  }

  async close(): Promise<void> {
    this.closed = true;
    const all = [...this.shelves.values()].flat();
    this.shelves.clear();
    await Promise.all(all.map(async (worker) => (await worker.catch(() => undefined))?.close()));
  }

  private async loaded(code: JavaScriptCode, memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance> {
    this.loading++;
    try {
      const instance = await this.take(memoryMb, isolation);
      try {
        await instance.load(code);
      } catch (error) {
        await instance.close();
        throw error;
      }
      return instance;
    } finally {
      this.loading--;
      this.wanted.set(`${isolation}/${memoryMb}`, [memoryMb, isolation]);
      if (this.loading === 0) this.refill();
    }
  }

  private async take(memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance> {
    const instance = await (this.shelf(memoryMb, isolation).shift() ?? this.start(memoryMb, isolation, true));
    return instance.usable ? instance : this.start(memoryMb, isolation, true);
  }

  /** Not at once: the call that waited for an instance has the processor first. */
  private refill(): void {
    setTimeout(() => {
      if (this.loading > 0) return;
      for (const [memoryMb, isolation] of this.wanted.values()) {
        // one that does not start is told to whoever needs it
        this.prepare(memoryMb, isolation).catch(() => undefined);
      }
      this.wanted.clear();
    }, functionLimits.refillAfterMs).unref();
  }

  private shelf(memoryMb: number, isolation: Isolation): Promise<JavaScriptInstance>[] {
    const key = `${isolation}/${memoryMb}`;
    const shelf = this.shelves.get(key) ?? [];
    this.shelves.delete(key);
    this.shelves.set(key, shelf);
    return shelf;
  }

  /** Ends a worker of another kind when there are too many. */
  private makeRoom(except: Promise<JavaScriptInstance>[]): boolean {
    if (this.count < functionLimits.maxWarmWorkers) return true;
    for (const [key, shelf] of this.shelves) {
      if (shelf === except) continue;
      const oldest = shelf.shift();
      if (shelf.length === 0) this.shelves.delete(key);
      if (!oldest) continue;
      oldest.then((worker) => worker.close()).catch(() => undefined);
      return true;
    }
    return false;
  }

  /** One that cannot be started is not kept for others to fail with. @param urgent a call waits for it */
  private start(memoryMb: number, isolation: Isolation, urgent: boolean): Promise<JavaScriptInstance> {
    const started = this.inTurn(urgent, () => JavaScriptInstance.start(memoryMb, isolation));
    started.catch(() => {
      const shelf = this.shelf(memoryMb, isolation);
      const at = shelf.indexOf(started);
      if (at >= 0) shelf.splice(at, 1);
    });
    return started;
  }

  /** A hundred that start at once are all ready at the end, and later than one after the other: a few at once, and the first calls run while others start. */
  private async inTurn(urgent: boolean, start: () => Promise<JavaScriptInstance>): Promise<JavaScriptInstance> {
    if (this.starting >= Math.max(functionLimits.startsAtOnce, availableParallelism())) {
      await new Promise<void>((resolve) => {
        (urgent ? this.urgent : this.ahead).push(resolve);
      });
    } else this.starting++;
    try {
      if (this.closed)
        throw new IguanaError('IGU_FUNCTION_CRASHED', { name: 'a function', what: 'the system was closed' });
      return await start();
    } finally {
      // its place goes to the next
      const next = this.urgent.shift() ?? this.ahead.shift();
      if (next) next();
      else this.starting--;
    }
  }
}
