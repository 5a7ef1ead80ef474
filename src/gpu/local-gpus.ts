import os from 'node:os';
import { type Clock, wallClock } from '../clock.js';
import { gpuSchedulerLimits } from '../limits.js';
import { GpuDiscovery } from './discovery.js';
import { GpuAccounts } from './gpu-accounts.js';
import { commandedService, GpuAnswers } from './gpu-answers.js';
import type { GpuNode, GpuService } from './gpu-service.js';
import { GpuView } from './gpu-view.js';
import type { GpuInventory } from './inventory.js';
import { GpuMonitor, type MonitorOptions } from './monitor.js';
import { emptySchedulerState, GpuScheduler, type SchedulerOptions } from './scheduler.js';
import { ToolRunner } from './tools/run-tool.js';
import type { Gpu } from './types.js';

export type LocalGpusOptions = Pick<SchedulerOptions, 'sharing' | 'quotas' | 'policy'> &
  MonitorOptions & {
    /** Default the wall clock. */
    readonly clock?: Clock;
    /** Name of this machine (default its host name). */
    readonly node?: string;
    /** Whoever tells of GPUs; default the tools of this machine. */
    readonly discovery?: Pick<GpuDiscovery, 'look' | 'inventory'>;
    /** GPUs by node, instead of looking: they stay as they are. */
    readonly nodes?: Readonly<Record<string, readonly Gpu[]>>;
  };

export interface LocalGpus extends GpuService {
  /** The newest look at this machine; undefined where nodes were given. */
  inventory(): GpuInventory | undefined;
}

/** Gives the GPUs of this machine to whoever asks this process; all of it is forgotten when it ends. The first look has been taken when it resolves. */
export async function localGpus(options: LocalGpusOptions = {}): Promise<LocalGpus> {
  const { clock = wallClock, node = os.hostname(), sharing, quotas, policy, everyMs, fullEveryMs } = options;
  const state = emptySchedulerState();
  const accounts = new GpuAccounts();
  accounts.begin([], clock.now());
  const answers = new GpuAnswers();
  const nodes = new Map<string, GpuNode>();
  const scheduler = new GpuScheduler({
    clock,
    state,
    ...(sharing && { sharing }),
    ...(quotas && { quotas }),
    ...(policy && { policy }),
  });
  const tell = (): void => {
    scheduler.tick();
    for (const event of scheduler.drain()) {
      accounts.observe(event);
      answers.take(event);
    }
  };
  const take = (name: string, gpus: readonly Gpu[]): void => {
    nodes.set(name, { node: name, gpus, at: clock.now(), silent: false });
    scheduler.setNode(name, gpus);
    tell();
  };
  const monitor = options.nodes
    ? undefined
    : new GpuMonitor(options.discovery ?? new GpuDiscovery(new ToolRunner().run, clock), clock, {
        ...(everyMs !== undefined && { everyMs }),
        ...(fullEveryMs !== undefined && { fullEveryMs }),
      });
  monitor?.onLook(({ gpus }) => take(node, gpus));
  for (const [name, gpus] of Object.entries(options.nodes ?? {})) take(name, gpus);
  try {
    await monitor?.start();
  } catch (error) {
    await monitor?.stop();
    throw error;
  }
  const stopTicking = clock.every(gpuSchedulerLimits.tickMs, tell);
  const view = new GpuView({
    ...{ clock, allocator: scheduler.allocator, nodes, accounts, waiting: () => state.waiting.values() },
    ...(sharing && { sharing }),
  });
  const service = commandedService({
    view,
    ask: (command) =>
      new Promise((resolve, reject) => {
        answers.expect(command.id, resolve, reject);
        scheduler.take(command);
        tell();
      }),
    role: () => 'local',
    preallocation: () => [],
    async stop() {
      stopTicking();
      answers.end();
      await monitor?.stop();
    },
  });
  return Object.assign(service, { inventory: () => monitor?.inventory });
}
