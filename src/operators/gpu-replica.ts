import type { Clock } from '../clock.js';
import { defined } from '../defined.js';
import { GpuAllocator } from '../gpu/allocator.js';
import { GpuAccounts } from '../gpu/gpu-accounts.js';
import type { GpuNode } from '../gpu/gpu-service.js';
import { GpuView } from '../gpu/gpu-view.js';
import {
  applyGpuEvent,
  emptySchedulerState,
  type GpuEvent,
  type SchedulerOptions,
  type SchedulerState,
} from '../gpu/scheduler.js';
import type { Gpu } from '../gpu/types.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { followPartition, type StoredRecord } from '../kafka/partition-reader.js';
import { gpuSchedulerLimits } from '../limits.js';
import { decodeGpuEvent, decodeGpuInventory } from './gpu-records.js';

/** How GPUs are given: the same for all processes of a group. */
export type GpuRules = Pick<SchedulerOptions, 'sharing' | 'quotas' | 'policy'>;

export interface GpuReplicaOptions {
  readonly connection: ConnectionOptions;
  /** Topics. */
  readonly inventory: string;
  readonly allocations: string;
  readonly rules: GpuRules;
  readonly clock: Clock;
  /** Called with a node that was silent for so long that it is forgotten. */
  readonly onForgotten: (node: string) => void;
  readonly onError: (error: unknown) => void;
}

/** What the topics say of GPUs and of who has them, in this process. */
export interface GpuReplica {
  readonly state: SchedulerState;
  readonly nodes: ReadonlyMap<string, GpuNode>;
  readonly view: GpuView;
  /** When a topic was last heard of, ms since 1970: agents tell every few seconds, so long silence means that the broker is gone. */
  readonly heardAt: number;
  /** How often the allocations were found to be deleted and made anew; what was in them is still known here. */
  readonly timesAnew: number;
  /** Resolves when all that was written to the allocations is known here. */
  settled(): Promise<void>;
  /** Called with each event, after it was applied. The returned function ends that. */
  onEvent(listener: (event: GpuEvent) => void): () => void;
  /** Called when a node's GPUs are told of; without GPUs: it is silent, or gone. */
  onNode(listener: (node: string, gpus: readonly Gpu[] | undefined) => void): () => void;
  stop(): Promise<void>;
}

/** Follows inventory and allocations; what was there before is known when it resolves. Memory: all records and GPUs of the cluster. */
export async function gpuReplica(options: GpuReplicaOptions): Promise<GpuReplica> {
  const { connection, inventory, allocations, rules, clock, onForgotten, onError } = options;
  const kafka = kafkaClient(connection);
  const state = emptySchedulerState();
  const allocator = new GpuAllocator({ ...rules, clock, ledger: state.ledger });
  const accounts = new GpuAccounts();
  const nodes = new Map<string, GpuNode>();
  const eventListeners = new Set<(event: GpuEvent) => void>();
  const nodeListeners = new Set<(node: string, gpus: readonly Gpu[] | undefined) => void>();
  /** From then on what comes is news. */
  let live = false;
  let heardAt = clock.now();
  let timesAnew = 0;

  /** What ended it came before, unless that was compacted away since what began it was read here. */
  const end = (key: string): void => {
    state.waiting.delete(key);
    state.refused.delete(key);
    if (allocator.forget(key)) accounts.forget(key, clock.now());
  };
  const takeEvent = ({ key, value }: StoredRecord): void => {
    heardAt = clock.now();
    if (value === null) {
      end(key?.toString() ?? '');
      return;
    }
    try {
      const event = decodeGpuEvent(value);
      applyGpuEvent(state, event, (one) => allocator.apply(one));
      if (!live) return;
      accounts.observe(event);
      for (const listener of eventListeners) listener(event);
    } catch (error) {
      // anybody may write to the topic
      onError(error);
    }
  };
  const set = (node: string, gpus: readonly Gpu[], at: number): void => {
    const silent = clock.now() - at > gpuSchedulerLimits.nodeSilentMs;
    nodes.set(node, { node, gpus, at, silent });
    if (silent) allocator.removeNode(node);
    else allocator.setNode(node, gpus);
    for (const listener of nodeListeners) listener(node, silent ? undefined : gpus);
  };
  const forget = (node: string): void => {
    if (!nodes.delete(node)) return;
    allocator.removeNode(node);
    for (const listener of nodeListeners) listener(node, undefined);
  };
  const takeInventory = ({ key, value }: StoredRecord): void => {
    heardAt = clock.now();
    try {
      if (value === null) {
        forget(key?.toString() ?? '');
        return;
      }
      const { node, timestamp, gpus } = decodeGpuInventory(value);
      // clocks of nodes may differ: what comes now was told now, and nothing later than that
      set(node, gpus, live ? clock.now() : Math.min(timestamp, clock.now()));
    } catch (error) {
      onError(error);
    }
  };
  const look = (): void => {
    const now = clock.now();
    for (const { node, gpus, at, silent } of [...nodes.values()]) {
      if (now - at > gpuSchedulerLimits.forgetNodeMs) {
        forget(node);
        onForgotten(node);
      } else if (!silent && now - at > gpuSchedulerLimits.nodeSilentMs) set(node, gpus, at);
    }
  };

  const events = followPartition(kafka, allocations, 0, takeEvent, (error) => {
    if ((error as { type?: string }).type === 'OFFSET_OUT_OF_RANGE') timesAnew++;
    onError(error);
  });
  const inventories = followPartition(kafka, inventory, 0, takeInventory, onError);
  await Promise.all([events.caughtUp(), inventories.caughtUp()]);
  live = true;
  accounts.begin(state.ledger.all(), clock.now());
  const stopLooking = clock.every(gpuSchedulerLimits.tickMs, look);
  return {
    state,
    nodes,
    view: new GpuView({
      ...{ clock, allocator, nodes, accounts, waiting: () => state.waiting.values() },
      ...defined({ sharing: rules.sharing }),
    }),
    get heardAt() {
      return heardAt;
    },
    get timesAnew() {
      return timesAnew;
    },
    settled: () => events.settled(),
    onEvent(listener) {
      eventListeners.add(listener);
      return () => eventListeners.delete(listener);
    },
    onNode(listener) {
      nodeListeners.add(listener);
      return () => nodeListeners.delete(listener);
    },
    async stop() {
      stopLooking();
      await Promise.all([events.stop(), inventories.stop()]);
    },
  };
}
