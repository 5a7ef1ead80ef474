import type { Clock } from '../clock.js';
import { gpuMonitorLimits } from '../limits.js';
import type { GpuDiscovery } from './discovery.js';
import { changesBetween, type GpuChange, type GpuInventory } from './inventory.js';

export interface MonitorOptions {
  /** Between two looks, ms; default 1,000. */
  readonly everyMs?: number;
  /** Between two complete looks (identity, partitions), ms; default 60,000. */
  readonly fullEveryMs?: number;
  /** Takes what a look or a listener failed with, save of the first look (default: it is thrown to nobody, which ends the process). */
  readonly onError?: (error: unknown) => void;
}

type Listener = (inventory: GpuInventory, changes: readonly GpuChange[]) => void;

/**
 * Looks at the GPUs again and again: one look at a time, and given up before the next is due, so that a tool that hangs holds up neither the GPUs of other makers nor the news that
 * its own are stale. Own cost beside the tools: under 1 ms a GPU and look.
 */
export class GpuMonitor {
  private readonly everyMs: number;
  private readonly fullEveryMs: number;
  private readonly onError: (error: unknown) => void;
  private readonly listeners = new Set<Listener>();
  private last: GpuInventory | undefined;
  private lastFull = Number.NEGATIVE_INFINITY;
  private looking: Promise<void> | undefined;
  private stopTimer: (() => void) | undefined;
  private passedOver = 0;

  constructor(
    private readonly discovery: Pick<GpuDiscovery, 'look' | 'inventory'>,
    private readonly clock: Clock,
    options: MonitorOptions = {},
  ) {
    this.everyMs = options.everyMs ?? gpuMonitorLimits.everyMs;
    this.fullEveryMs = options.fullEveryMs ?? gpuMonitorLimits.fullEveryMs;
    this.onError =
      options.onError ??
      ((error) => {
        throw error;
      });
  }

  /** The newest inventory; before the first look an empty one. */
  get inventory(): GpuInventory {
    return this.last ?? this.discovery.inventory();
  }

  /** Looks that did not begin because one was under way. */
  get skipped(): number {
    return this.passedOver;
  }

  /** Is called after every look, with what has changed. The returned function ends that. */
  onLook(listener: Listener): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Begins; the first inventory is given when it is there, complete. */
  async start(): Promise<GpuInventory> {
    this.stopTimer ??= this.clock.every(this.everyMs, () => void this.look().catch(this.onError));
    await this.look();
    return this.inventory;
  }

  /** Ends; a look under way is waited for. */
  async stop(): Promise<void> {
    this.stopTimer?.();
    this.stopTimer = undefined;
    await this.looking;
  }

  private look(): Promise<void> {
    if (this.looking) {
      this.passedOver++;
      return this.looking;
    }
    const now = this.clock.now();
    const full = now - this.lastFull >= this.fullEveryMs;
    if (full) this.lastFull = now;
    // the first one is waited for: a driver that nobody used yet needs seconds
    this.looking = this.discovery
      .look(full, this.last ? 0.9 * this.everyMs : undefined)
      .finally(() => {
        this.looking = undefined;
      })
      .then((inventory) => {
        const changes = changesBetween(this.last, inventory);
        this.last = inventory;
        for (const listener of this.listeners) listener(inventory, changes);
      });
    return this.looking;
  }
}
