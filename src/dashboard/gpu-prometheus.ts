import { Counter, Gauge, type Registry } from 'prom-client';
import type { GpuService } from '../gpu/gpu-service.js';
import { type GpuSample, gpuSamples } from '../gpu/inventory.js';
import { gpuHttpLimits } from '../limits.js';
import { heldByGpu } from './gpu-holders.js';

type Value = readonly [labels: Record<string, string>, value: number];

interface Shown {
  /** After `iguana_gpu_`, with the unit. */
  readonly name: string;
  readonly help: string;
  /** From the sample's unit to that of the name. */
  readonly times?: number;
  readonly per?: number;
}

const MIB = 1_048_576;

/** What a sample of a GPU is called for Prometheus, in its base units. */
export const gpuMetrics: Readonly<Record<string, Shown>> = {
  gpu_health: { name: 'health', help: 'Health of a GPU: 0 ok, 1 degraded, 2 draining, 3 lost.' },
  gpu_stale: { name: 'stale', help: '1 while what is known of a GPU is too old, or its node is silent, else 0.' },
  gpu_utilization: { name: 'utilization_ratio', help: 'Part of the time with work on a GPU.', per: 100 },
  gpu_memory_utilization: {
    name: 'memory_utilization_ratio',
    help: 'Part of the time in which memory of a GPU was read or written.',
    per: 100,
  },
  gpu_memory_usage: { name: 'memory_used_ratio', help: 'Used part of the memory of a GPU.', per: 100 },
  gpu_idle_memory_usage: {
    name: 'idle_memory_used_ratio',
    help: 'Used part of the memory while a GPU does nothing, else 0; high for long means a job that hangs.',
    per: 100,
  },
  gpu_memory_used_mb: { name: 'memory_used_bytes', help: 'Memory of a GPU in use.', times: MIB },
  gpu_memory_total_mb: { name: 'memory_size_bytes', help: 'Memory of a GPU.', times: MIB },
  gpu_temperature_celsius: { name: 'temperature_celsius', help: 'Temperature of a GPU.' },
  gpu_memory_temperature_celsius: { name: 'memory_temperature_celsius', help: 'Temperature of its memory.' },
  gpu_power_watts: { name: 'power_watts', help: 'Power that a GPU draws.' },
  gpu_power_limit_watts: { name: 'power_limit_watts', help: 'Power that a GPU may draw.' },
  gpu_core_clock_mhz: { name: 'core_clock_hertz', help: 'Clock of the cores of a GPU.', times: 1e6 },
  gpu_memory_clock_mhz: { name: 'memory_clock_hertz', help: 'Clock of the memory of a GPU.', times: 1e6 },
  gpu_fan: { name: 'fan_ratio', help: 'Speed of the fan of a GPU, of its highest.', per: 100 },
  gpu_processes: { name: 'processes', help: 'Processes that use a GPU.' },
  gpu_throttled: { name: 'throttle_reasons', help: 'Reasons why a GPU runs slower than it could, power caps aside.' },
  gpu_ecc_uncorrected: { name: 'ecc_uncorrected_errors', help: 'Uncorrected ECC errors since the driver was loaded.' },
  gpu_partition_memory_used_mb: {
    name: 'partition_memory_used_bytes',
    help: 'Memory of a partition of a GPU in use.',
    times: MIB,
  },
  gpu_partition_memory_total_mb: {
    name: 'partition_memory_size_bytes',
    help: 'Memory of a partition of a GPU.',
    times: MIB,
  },
};

/** Values as they are, not set one by one: those of one GPU share their labels, which are written out once. Cost: a tenth of setting them. */
class ReadGauge extends Gauge {
  constructor(
    private readonly shown: { readonly name: string; readonly help: string },
    labelNames: string[],
    registers: Registry[],
    private readonly read: () => readonly Value[],
  ) {
    super({ ...shown, labelNames, registers });
  }

  /** What the registry asks for. */
  async getForPromString() {
    const values = this.read().map(([sharedLabels, value]) => ({ labels: {}, sharedLabels, value }));
    return { ...this.shown, type: 'gauge', aggregator: 'sum', values };
  }
}

const ofGpu = ['gpu', 'vendor', 'model', 'node'];

/** Adds the metrics of GPUs to a registry; they are read when scraped, once for all. What is not known is left out. */
export function gpuPrometheus(registry: Registry, gpus: GpuService): void {
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[], read: () => readonly Value[]) =>
    new ReadGauge({ name: `iguana_gpu_${name}`, help }, labelNames, registers, read);
  const counter = (name: string, help: string, read: () => number) =>
    new Counter({
      name: `iguana_gpu_${name}`,
      help,
      registers,
      collect() {
        this.reset();
        this.inc(read());
      },
    });

  let current: Snapshot | undefined;
  // All are collected in one turn of the event loop.
  const now = (): Snapshot => {
    if (!current) {
      current = snapshotOf(gpus);
      setImmediate(() => {
        current = undefined;
      });
    }
    return current;
  };

  for (const [sample, { name, help }] of Object.entries(gpuMetrics)) {
    const labels = sample.startsWith('gpu_partition_') ? [...ofGpu, 'partition', 'profile'] : ofGpu;
    gauge(name, help, labels, () => now().samples.get(sample) ?? []);
  }
  gauge('held_ratio', 'Part of a GPU that allocations hold.', ofGpu, () => now().held);
  gauge('reserved_ratio', 'Part of a GPU that is reserved.', ofGpu, () => now().reserved);
  gauge('devices', 'GPUs known, by health.', ['health'], () => now().byHealth);
  gauge('devices_not_told', 'GPUs left out of the metrics of single GPUs by their bound.', [], () => [
    [{}, now().notTold],
  ]);
  gauge('nodes', 'Nodes with GPUs, by whether their agent is heard.', ['state'], () => now().nodes);
  gauge('allocations', 'Allocations of GPUs.', [], () => [[{}, now().stats.allocations]]);
  gauge('reservations', 'Reservations of GPUs.', [], () => [[{}, now().stats.reservations]]);
  gauge('waiting_requests', 'Requests for GPUs that wait for room.', [], () => [[{}, now().stats.waiting]]);
  gauge('held_devices', 'GPUs that are held, a share counting as its part.', [], () => [[{}, now().stats.held]]);
  gauge('reserved_devices', 'GPUs that are reserved, a share counting as its part.', [], () => [
    [{}, now().stats.reserved],
  ]);
  gauge('acting', '1 while this process decides about GPUs, 0 while another one does.', [], () => [
    [{}, gpus.role === 'standing-by' ? 0 : 1],
  ]);
  gauge('preallocated_devices', 'GPUs kept ready from forecasts, by owner and model.', ['owner', 'model'], () =>
    now().preallocation.map(({ owner, model, reserved }): Value => [{ owner, model }, reserved]),
  );
  gauge('preallocation_target_devices', 'GPUs that are to be ready by forecasts.', ['owner', 'model'], () =>
    now().preallocation.map(({ owner, model, target }): Value => [{ owner, model }, target]),
  );
  counter('grants_total', 'Requests for GPUs that were granted.', () => now().stats.granted);
  counter('refusals_total', 'Requests for GPUs that were refused.', () => now().stats.refused);
  counter(
    'expirations_total',
    'Allocations and reservations that ended for want of a heartbeat, or at their time.',
    () => now().stats.expired,
  );
  counter('preemptions_total', 'Allocations that had to go for others.', () => now().stats.preempted);
  counter('wait_seconds_total', 'Time that granted requests waited; by grants, the mean wait.', () => {
    const { averageWaitMs, granted } = now().stats;
    return ((averageWaitMs ?? 0) * granted) / 1000;
  });
  counter(
    'idle_reserved_seconds_total',
    'GPU-seconds that were reserved and not used.',
    () => now().stats.idleReservedHours * 3600,
  );
  counter('used_seconds_total', 'GPU-seconds that allocations held.', () => now().stats.usedHours * 3600);
}

interface Snapshot {
  readonly samples: ReadonlyMap<string, readonly Value[]>;
  readonly held: readonly Value[];
  readonly reserved: readonly Value[];
  readonly byHealth: readonly Value[];
  readonly nodes: readonly Value[];
  readonly notTold: number;
  readonly stats: ReturnType<GpuService['stats']>;
  readonly preallocation: ReturnType<GpuService['preallocation']>;
}

function snapshotOf(gpus: GpuService): Snapshot {
  const samples = new Map<string, Value[]>();
  const withNode = new Map<GpuSample['labels'], Value[0]>();
  const held: Value[] = [];
  const reserved: Value[] = [];
  const health = { ok: 0, degraded: 0, draining: 0, lost: 0 };
  const heard = { heard: 0, silent: 0 };
  const holders = heldByGpu(gpus.records());
  let room: number = gpuHttpLimits.maxMetricGpus;
  let notTold = 0;
  for (const { node, at, silent, gpus: all } of gpus.nodes()) {
    heard[silent ? 'silent' : 'heard']++;
    for (const gpu of all) health[gpu.health.state]++;
    const told = all.slice(0, room);
    room -= told.length;
    notTold += all.length - told.length;
    // What a silent node said last is no value of now.
    const seen = silent ? told.map((gpu) => ({ ...gpu, stale: true })) : told;
    for (const { name, labels, value } of gpuSamples({ gpus: seen, takenAt: at })) {
      const { times = 1, per = 1 } = gpuMetrics[name] ?? {};
      const others = samples.get(name);
      const full = withNode.get(labels) ?? { ...labels, node };
      withNode.set(labels, full);
      const one: Value = [full, (value * times) / per];
      if (others) others.push(one);
      else samples.set(name, [one]);
    }
    for (const { id, vendor, name } of told) {
      const labels = { gpu: id, vendor, model: name, node };
      const parts = { allocation: 0, reservation: 0 };
      for (const { kind, mode, shareMilli } of holders(node, id))
        parts[kind] += mode === 'exclusive' ? 1 : shareMilli / 1000;
      held.push([labels, parts.allocation]);
      reserved.push([labels, parts.reservation]);
    }
  }
  return {
    ...{ samples, held, reserved, notTold },
    byHealth: Object.entries(health).map(([state, n]): Value => [{ health: state }, n]),
    nodes: Object.entries(heard).map(([state, n]): Value => [{ state }, n]),
    stats: gpus.stats(),
    preallocation: gpus.preallocation().slice(0, gpuHttpLimits.maxMetricGpus),
  };
}
