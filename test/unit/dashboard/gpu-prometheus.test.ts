import { Registry } from 'prom-client';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { gpuMetrics, gpuPrometheus } from '../../../src/dashboard/gpu-prometheus.js';
import { gpuSamples } from '../../../src/gpu/inventory.js';
import { localGpus } from '../../../src/gpu/local-gpus.js';
import { type Gpu, known } from '../../../src/gpu/types.js';
import { gpuHttpLimits } from '../../../src/limits.js';
import { gpuOf } from '../gpu/gpu-fixture.js';
import { believableGpus, ids } from './believable-gpus.js';

interface Line {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The text format as its specification has it: each metric with HELP and TYPE before its values. */
function parse(text: string): { lines: Line[]; types: Map<string, string> } {
  const types = new Map<string, string>();
  const helped = new Set<string>();
  const lines: Line[] = [];
  for (const line of text.split('\n').filter(Boolean)) {
    const comment = line.match(/^# (HELP|TYPE) (\S+) (.+)$/);
    if (comment) {
      if (comment[1] === 'HELP') helped.add(comment[2]!);
      else types.set(comment[2]!, comment[3]!);
      continue;
    }
    const [, name, labels = '', value] = line.match(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/)!;
    expect(helped.has(name!) && types.has(name!), `${name} has HELP and TYPE`).toBe(true);
    const pairs = [...labels.matchAll(/([a-z]+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, of]) => [key, of] as const);
    lines.push({ name: name!, labels: Object.fromEntries(pairs), value: Number(value) });
  }
  return { lines, types };
}

async function scrape(gpus: Parameters<typeof gpuPrometheus>[1]) {
  const registry = new Registry();
  gpuPrometheus(registry, gpus);
  const parsed = parse(await registry.metrics());
  const value = (name: string, labels: Record<string, string> = {}) =>
    parsed.lines.find(
      (line) => line.name === name && Object.entries(labels).every(([key, of]) => line.labels[key] === of),
    )?.value;
  return { ...parsed, value, registry };
}

test('values of each GPU in base units, with who it is', async () => {
  const { gpus } = await believableGpus();
  const { value, lines } = await scrape(gpus);
  const gpu = { gpu: ids.whole };
  expect(
    lines.find(({ name, labels }) => name === 'iguana_gpu_power_watts' && labels.gpu === ids.whole)!.labels,
  ).toEqual({
    gpu: ids.whole,
    vendor: 'nvidia',
    model: 'NVIDIA H100 80GB HBM3',
    node: 'node-1',
  });
  expect(value('iguana_gpu_utilization_ratio', gpu)).toBe(0.97);
  expect(value('iguana_gpu_memory_size_bytes', gpu)).toBe(81_559 * 1024 * 1024);
  expect(value('iguana_gpu_memory_used_bytes', gpu)).toBe(76_210 * 1024 * 1024);
  expect(value('iguana_gpu_core_clock_hertz', gpu)).toBe(1.98e9);
  expect(value('iguana_gpu_health', gpu)).toBe(1);
  expect(value('iguana_gpu_held_ratio', gpu)).toBe(1);
  expect(value('iguana_gpu_held_ratio', { gpu: ids.shared })).toBeCloseTo(0.55, 10);
  expect(value('iguana_gpu_reserved_ratio', { gpu: ids.reserved })).toBe(1);
  expect(value('iguana_gpu_held_ratio', { gpu: ids.reserved })).toBe(0);
  expect(value('iguana_gpu_partition_memory_used_bytes', { partition: 'MIG-2g', profile: '2g.20gb' })).toBe(
    Math.round(20_096 * 0.6) * 1024 * 1024,
  );
});

test('what is not known is left out, never zero', async () => {
  const { gpus } = await believableGpus();
  const { value, lines } = await scrape(gpus);
  expect(value('iguana_gpu_utilization_ratio', { gpu: ids.mig })).toBeUndefined();
  expect(value('iguana_gpu_fan_ratio')).toBeUndefined();
  const ofLost = lines.filter(({ labels }) => labels.gpu === ids.lost).map(({ name, value: of }) => [name, of]);
  expect(ofLost).toEqual([
    ['iguana_gpu_health', 3],
    ['iguana_gpu_stale', 1],
    ['iguana_gpu_held_ratio', 0],
    ['iguana_gpu_reserved_ratio', 0],
  ]);
  // Of a silent node its last words are no values of now.
  expect(value('iguana_gpu_stale', { gpu: ids.intel })).toBe(1);
  expect(value('iguana_gpu_temperature_celsius', { gpu: ids.intel })).toBeUndefined();
});

test('the whole in counts, and what happened in counters', async () => {
  const { gpus, clock } = await believableGpus();
  await gpus.allocate('too-big', { memoryMb: 900_000 });
  clock.advance(3_600_000);
  const { value, types } = await scrape(gpus);
  const stats = gpus.stats();
  expect(value('iguana_gpu_devices', { health: 'ok' })).toBe(6);
  expect(value('iguana_gpu_devices', { health: 'lost' })).toBe(1);
  expect(value('iguana_gpu_nodes', { state: 'silent' })).toBe(1);
  expect(value('iguana_gpu_allocations')).toBe(stats.allocations);
  expect(value('iguana_gpu_grants_total')).toBe(stats.granted);
  expect(stats.granted).toBeGreaterThanOrEqual(8);
  expect(value('iguana_gpu_refusals_total')).toBe(stats.refused);
  expect(value('iguana_gpu_expirations_total')).toBe(stats.expired);
  expect(value('iguana_gpu_idle_reserved_seconds_total')).toBeCloseTo(stats.idleReservedHours * 3600, 6);
  expect(stats.idleReservedHours).toBeGreaterThan(0);
  expect(value('iguana_gpu_acting')).toBe(1);
  expect(types.get('iguana_gpu_grants_total')).toBe('counter');
  expect(types.get('iguana_gpu_held_ratio')).toBe('gauge');
});

test('the wait of grants is a counter that divides by grants', async () => {
  const clock = new VirtualClock(0);
  const gpus = await localGpus({ clock, nodes: { n: [gpuOf('GPU-1')] } });
  await gpus.allocate('a', { leaseMs: null });
  const b = gpus.allocate('b', {}, { waitMs: 60_000 });
  clock.advance(10_000);
  expect((await scrape(gpus)).value('iguana_gpu_waiting_requests')).toBe(1);
  await gpus.release('a');
  clock.advance(1_000);
  await b;
  const { value } = await scrape(gpus);
  expect([value('iguana_gpu_wait_seconds_total'), value('iguana_gpu_grants_total')]).toEqual([10, 2]);
  expect(value('iguana_gpu_waiting_requests')).toBe(0);
});

test('every sample that there can be of a GPU has a name for Prometheus, and no name is of none', () => {
  const facts = Object.entries(gpuOf('GPU-1')).map(([key, value]) => [
    key,
    value !== null && typeof value === 'object' && 'absent' in value ? known(7) : value,
  ]);
  const all: Gpu = {
    ...Object.fromEntries(facts),
    memoryTotalMb: known(100),
    processes: [],
    signals: { ...gpuOf('GPU-1').signals, throttleReasons: known([]), eccUncorrectedVolatile: known(0) },
    partitions: [
      {
        ...{ id: 'p', profile: known('x'), gpuInstance: known(0), computeInstance: known(0) },
        ...{ placement: known({ start: 0, size: 1 }), memoryTotalMb: known(1), memoryUsedMb: known(1) },
      },
    ],
  };
  const samples = gpuSamples({ gpus: [all], takenAt: 0 });
  expect([...new Set(samples.map(({ name }) => name))].sort()).toEqual(Object.keys(gpuMetrics).sort());
});

test('of a large cluster a bounded number of GPUs is told one by one, and all are counted', async () => {
  const most = gpuHttpLimits.maxMetricGpus;
  const many = Array.from({ length: most + 5 }, (_, i) => gpuOf(`GPU-${i}`));
  const { lines, value, registry } = await scrape(await localGpus({ clock: new VirtualClock(0), nodes: { n: many } }));
  expect(lines.filter(({ name }) => name === 'iguana_gpu_health')).toHaveLength(most);
  expect(value('iguana_gpu_devices_not_told')).toBe(5);
  expect(value('iguana_gpu_devices', { health: 'ok' })).toBe(most + 5);
  // Asked again, nothing is told twice.
  expect(parse(await registry.metrics()).lines).toHaveLength(lines.length);
});
