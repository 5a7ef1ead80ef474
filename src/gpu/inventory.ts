import type { Gpu, GpuVendor, HealthState } from './types.js';

/** How it stands with a maker's tool. */
export interface GpuToolState {
  readonly vendor: GpuVendor;
  readonly command: string;
  /** `waiting`: it has not answered yet, or is left alone for a while after it failed. */
  readonly state: 'ok' | 'missing' | 'failed' | 'no-driver' | 'waiting';
  readonly what: string;
  /** ms since 1970 when it last answered; null: never. */
  readonly answeredAt: number | null;
  /** ms that the last answer took. */
  readonly tookMs: number | null;
}

/** The GPUs of one machine at one time. */
export interface GpuInventory {
  /** In order of vendor and id. */
  readonly gpus: readonly Gpu[];
  readonly tools: readonly GpuToolState[];
  /** ms since 1970. */
  readonly takenAt: number;
  /** What there is, one sentence. */
  readonly summary: string;
  /** What in answers could not be understood. */
  readonly problems: readonly string[];
}

/** What has changed from one inventory to the next. */
export interface GpuChange {
  readonly kind: 'added' | 'removed' | 'health' | 'partitions' | 'stale' | 'fresh';
  readonly gpu: Gpu;
  readonly before: HealthState | undefined;
  /** One line. */
  readonly what: string;
}

/** Pure. `removed` is told of a GPU that is not kept any more; one that is missing is a change of `health`. */
export function changesBetween(before: GpuInventory | undefined, after: GpuInventory): readonly GpuChange[] {
  const changes: GpuChange[] = [];
  const old = new Map((before?.gpus ?? []).map((gpu) => [gpu.id, gpu]));
  for (const gpu of after.gpus) {
    const was = old.get(gpu.id);
    old.delete(gpu.id);
    const tell = (kind: GpuChange['kind'], what: string): void => {
      changes.push({ kind, gpu, before: was?.health.state, what: `${gpu.name} ${gpu.id}: ${what}` });
    };
    if (!was) tell('added', 'found');
    const codes = (one: Gpu): string => one.health.causes.map(({ code, state }) => `${code}:${state}`).join();
    if (was ? codes(was) !== codes(gpu) : gpu.health.state !== 'ok') {
      const { state, causes } = gpu.health;
      tell('health', `${state}${causes[0] ? `: ${causes.map(({ what }) => what).join('; ')}` : ''}`);
    }
    if (!was) continue;
    const layout = (one: Gpu): string => one.partitions.map(({ id }) => id).join();
    if (layout(was) !== layout(gpu)) tell('partitions', `${gpu.partitions.length} partitions`);
    if (was.stale !== gpu.stale) tell(gpu.stale ? 'stale' : 'fresh', gpu.stale ? 'no new data' : 'data again');
  }
  for (const gpu of old.values())
    changes.push({ kind: 'removed', gpu, before: gpu.health.state, what: `${gpu.name} ${gpu.id}: not kept any more` });
  return changes;
}

/** One value of a metric. */
export interface GpuSample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** ms since 1970. */
  readonly timestamp: number;
  readonly value: number;
}

const grades: Readonly<Record<HealthState, number>> = { ok: 0, degraded: 1, draining: 2, lost: 3 };

/**
 * An inventory as samples. Unknown values are left out, never zero; of a GPU whose data is stale only `gpu_health` and `gpu_stale` are told. Labels: `gpu` (id), `vendor`, `model`; of
 * partitions also `partition` and `profile`.
 *
 * `gpu_utilization`, `gpu_memory_utilization`, `gpu_memory_usage` (used of total), `gpu_fan` in %; `gpu_memory_used_mb`, `gpu_memory_total_mb`, `gpu_partition_memory_used_mb`,
 * `gpu_partition_memory_total_mb` in MiB; `gpu_temperature_celsius`, `gpu_memory_temperature_celsius`; `gpu_power_watts`, `gpu_power_limit_watts`; `gpu_core_clock_mhz`,
 * `gpu_memory_clock_mhz`; `gpu_processes`, `gpu_throttled` (reasons but power caps; 0: none), `gpu_ecc_uncorrected`; `gpu_health` (0 ok, 1 degraded, 2 draining, 3 lost),
 * `gpu_stale` (0, 1); `gpu_idle_memory_usage`: `gpu_memory_usage` while utilisation is 0 %, else 0: high for long means a job that hangs.
 */
export function gpuSamples(inventory: Pick<GpuInventory, 'gpus' | 'takenAt'>): readonly GpuSample[] {
  const samples: GpuSample[] = [];
  for (const gpu of inventory.gpus) {
    const labels = { gpu: gpu.id, vendor: gpu.vendor, model: gpu.name };
    const add = (
      name: string,
      value: number | null | undefined,
      more?: Record<string, string>,
      at = gpu.seenAt,
    ): void => {
      if (typeof value === 'number' && Number.isFinite(value))
        samples.push({ name, labels: more ? { ...labels, ...more } : labels, timestamp: at, value });
    };
    add('gpu_health', grades[gpu.health.state], undefined, inventory.takenAt);
    add('gpu_stale', gpu.stale ? 1 : 0, undefined, inventory.takenAt);
    if (gpu.stale) continue;
    const used = gpu.memoryUsedMb.value;
    const total = gpu.memoryTotalMb.value;
    const usage = used !== null && total !== null && total > 0 ? (100 * used) / total : null;
    const busy = gpu.utilization.value;
    add('gpu_utilization', busy);
    add('gpu_memory_utilization', gpu.memoryUtilization.value);
    add('gpu_memory_usage', usage);
    add('gpu_idle_memory_usage', usage === null || busy === null ? null : busy === 0 ? usage : 0);
    add('gpu_memory_used_mb', used);
    add('gpu_memory_total_mb', total);
    add('gpu_temperature_celsius', gpu.temperature.value);
    add('gpu_memory_temperature_celsius', gpu.memoryTemperature.value);
    add('gpu_power_watts', gpu.power.value);
    add('gpu_power_limit_watts', gpu.powerLimit.value);
    add('gpu_core_clock_mhz', gpu.coreClock.value);
    add('gpu_memory_clock_mhz', gpu.memoryClock.value);
    add('gpu_fan', gpu.fanPercent.value);
    add('gpu_processes', gpu.processes?.length);
    add('gpu_throttled', gpu.signals.throttleReasons.value?.filter((reason) => !/power-cap|^ppt$/.test(reason)).length);
    add('gpu_ecc_uncorrected', gpu.signals.eccUncorrectedVolatile.value);
    for (const { id, profile, memoryUsedMb, memoryTotalMb } of gpu.partitions) {
      const part = { partition: id, ...(profile.value !== null && { profile: profile.value }) };
      add('gpu_partition_memory_used_mb', memoryUsedMb.value, part);
      add('gpu_partition_memory_total_mb', memoryTotalMb.value, part);
    }
  }
  return samples;
}
