import type { Clock } from '../clock.js';
import { encodeSamplesJson } from '../codec/encode.js';
import { defined } from '../defined.js';
import type { GpuDiscovery } from '../gpu/discovery.js';
import { type GpuChange, type GpuInventory, gpuSamples } from '../gpu/inventory.js';
import { GpuMonitor } from '../gpu/monitor.js';
import type { Sink } from '../kafka/sink.js';
import { gpuSchedulerLimits } from '../limits.js';
import { encodeGpuInventory } from './gpu-records.js';

export interface GpuAgentOptions {
  /** Name of this machine, the same after a restart. */
  readonly node: string;
  readonly discovery: Pick<GpuDiscovery, 'look' | 'inventory'>;
  readonly sink: Pick<Sink, 'write'>;
  /** Topics. */
  readonly inventory: string;
  readonly metrics: string;
  /** Between two looks, ms. */
  readonly everyMs?: number;
  readonly clock: Clock;
  readonly onChange?: (change: GpuChange) => void;
  readonly onError: (error: unknown) => void;
}

export interface GpuAgent {
  /** Resolves when the first look has been taken. */
  readonly looked: Promise<void>;
  /** Undefined before the first look. */
  readonly latest: GpuInventory | undefined;
  stop(): Promise<void>;
}

/**
 * Tells of this machine's GPUs: their inventory when something changes, and every few seconds, and their values as metrics. A machine that never had any tells nothing. Of what cannot be
 * written only the newest is kept.
 */
export function gpuAgent(options: GpuAgentOptions): GpuAgent {
  const { node, discovery, sink, clock, everyMs, onChange, onError } = options;
  const monitor = new GpuMonitor(discovery, clock, { onError, ...defined({ everyMs }) });
  let told = Number.NEGATIVE_INFINITY;
  let measured = Number.NEGATIVE_INFINITY;
  let hadSome = false;
  let latest: GpuInventory | undefined;
  let due: GpuInventory | undefined;
  let telling: Promise<void> | undefined;

  const tell = async (inventory: GpuInventory, all: boolean, values: boolean): Promise<void> => {
    const record = { node, timestamp: inventory.takenAt, gpus: inventory.gpus };
    const samples = values ? gpuSamples(inventory) : [];
    await Promise.all([
      all ? sink.write(options.inventory, [{ key: node, value: encodeGpuInventory(record), partition: 0 }]) : undefined,
      sink.write(
        options.metrics,
        samples.map((sample) => {
          const entity = sample.labels.gpu!;
          return { key: entity, value: encodeSamplesJson([{ ...sample, labels: { ...sample.labels, entity, node } }]) };
        }),
      ),
    ]);
  };
  const work = async (): Promise<void> => {
    for (let inventory = due; inventory; inventory = due) {
      due = undefined;
      const now = clock.now();
      const all = now - told >= gpuSchedulerLimits.inventoryEveryMs;
      const values = now - measured >= gpuSchedulerLimits.metricsEveryMs;
      if (!all && !values) continue;
      // before it is written: a change meanwhile is due again
      if (all) told = now;
      if (values) measured = now;
      try {
        await tell(inventory, all, values);
      } catch (error) {
        if (all) told = Number.NEGATIVE_INFINITY;
        if (values) measured = Number.NEGATIVE_INFINITY;
        throw error;
      }
    }
  };
  const begin = (): void => {
    telling ??= work()
      .catch(onError)
      .finally(() => {
        telling = undefined;
        // what came after the last look at it
        if (due) begin();
      });
  };
  monitor.onLook((inventory, changes) => {
    latest = inventory;
    for (const change of changes) onChange?.(change);
    hadSome ||= inventory.gpus.length > 0;
    if (!hadSome) return;
    if (changes.length > 0) told = Number.NEGATIVE_INFINITY;
    due = inventory;
    begin();
  });
  // a driver that hangs must not hold up whoever starts this
  const looked = monitor.start().then(() => undefined, onError);
  return {
    looked,
    get latest() {
      return latest;
    },
    async stop() {
      await Promise.all([monitor.stop(), looked]);
      await telling;
    },
  };
}
