import { expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { gpuRows } from '../../../src/dashboard/gpu-rows.js';
import { LiveModel } from '../../../src/dashboard/live-model.js';
import type { GpuService } from '../../../src/gpu/gpu-service.js';
import { localGpus } from '../../../src/gpu/local-gpus.js';
import { type Gpu, known } from '../../../src/gpu/types.js';
import { gpuHttpLimits } from '../../../src/limits.js';
import { gpuOf, healthOf } from '../gpu/gpu-fixture.js';
import { believableGpus, ids } from './believable-gpus.js';

async function rowOf(id: string) {
  const { gpus } = await believableGpus();
  const row = gpuRows(gpus)
    .nodes.flatMap((node) => node.gpus)
    .find((gpu) => gpu.id === id);
  return row!;
}

test('MIG instances lie in their slots, with who has them', async () => {
  const { slices } = await rowOf(ids.mig);
  // Slots by NVIDIA's MIG user guide: 3g.40gb takes 3 of 7 compute and 4 of 8 memory slices.
  expect(slices).toMatchObject({ memorySlots: 8, computeSlots: 7, notDrawn: 0 });
  const told = slices!.slices.map(({ profile, start, size, compute, tenant, owner, state }) => [
    ...[profile, start, size, compute, tenant, owner, state],
  ]);
  expect(told).toEqual([
    ['3g.40gb', 0, 4, 3, 'notebook-ana', 'research', 'held'],
    ['2g.20gb', 4, 2, 2, null, null, 'free'],
    ['1g.10gb', 6, 1, 1, 'embedder', 'search', 'held'],
  ]);
});

test('an instance that is still to be made is shown in its place', async () => {
  const { slices, tenants } = await rowOf(ids.planned);
  expect(slices!.slices).toEqual([
    {
      id: null,
      profile: '4g.40gb',
      start: 0,
      size: 4,
      compute: 4,
      tenant: 'summaries',
      owner: 'mail',
      state: 'planned',
    },
  ]);
  expect(tenants).toMatchObject([{ name: 'summaries', mode: 'mig', reserved: false }]);
});

test('several compute instances of one GPU instance are one slice, of who has any of them', async () => {
  const place = known({ start: 0, size: 4 });
  const part = (id: string) => ({
    ...{ id, profile: known('1c.3g.40gb'), placement: place, gpuInstance: known(1), computeInstance: known(0) },
    ...{ memoryTotalMb: known(40_448), memoryUsedMb: known(10) },
  });
  const gpu = gpuOf('GPU-1', {
    name: 'NVIDIA H100 80GB HBM3',
    partitionMode: known('enabled'),
    partitions: [part('MIG-a'), part('MIG-b')],
  });
  const gpus = await localGpus({
    ...{ clock: new VirtualClock(0), nodes: { n: [gpu] }, sharing: () => ({ mode: 'mig', layout: 'static' }) },
  });
  const slice = { profile: '3g.40gb', start: 0, size: 4, compute: 3 };
  expect(gpuRows(gpus).nodes[0]!.gpus[0]!.slices!.slices).toMatchObject([{ ...slice, state: 'free' }]);
  await gpus.allocate('a', { profile: '1c.3g.40gb' });
  expect(gpuRows(gpus).nodes[0]!.gpus[0]!.slices!.slices).toMatchObject([{ ...slice, tenant: 'a', state: 'held' }]);
});

test('compute partitions of AMD are alike and have no slots of compute', async () => {
  const { slices } = await rowOf(ids.partitioned);
  expect([slices!.memorySlots, slices!.computeSlots]).toEqual([8, null]);
  expect(slices!.slices.map(({ tenant }) => tenant)).toEqual(['worker-a', 'worker-b', ...Array(6).fill(null)]);
});

test('tenants take the larger of their parts of memory and compute; what nobody accounts for is told', async () => {
  const { tenants, foreignMb, processes } = await rowOf(ids.shared);
  expect(tenants.map(({ name, part, memoryMb }) => [name, part, memoryMb])).toEqual([
    ['chat-0', 0.25, 20_000],
    ['speech-1', 0.3, 21_000],
  ]);
  expect([foreignMb, processes]).toEqual([61_000 - 41_000, 3]);
  expect(await rowOf(ids.whole)).toMatchObject({
    tenants: [{ name: 'train-llm', part: 1, mode: 'exclusive' }],
    foreignMb: 0,
    health: 'degraded',
    causes: ['it is throttled by temperature; check the cooling'],
  });
  expect(await rowOf(ids.reserved)).toMatchObject({
    tenants: [{ name: 'training', reserved: true, part: 1 }],
    foreignMb: 0,
  });
});

test('a tenant whose memory is not known has none to be shown', async () => {
  const process = { pid: 1, name: known('x'), memoryMb: known(9), partition: known('none') };
  const busy = gpuOf('GPU-1', { memoryUsedMb: known(900), processes: [process] });
  const gpus = await localGpus({
    ...{ clock: new VirtualClock(0), nodes: { n: [busy] }, sharing: () => ({ mode: 'time-slicing', replicas: 4 }) },
  });
  await gpus.allocate('turn', { mode: 'time-slicing' });
  expect(gpuRows(gpus).nodes[0]!.gpus[0]).toMatchObject({
    tenants: [{ name: 'turn', memoryMb: null, part: 0.25 }],
    foreignMb: null,
  });
});

test('what is not known has its reason and is no zero', async () => {
  expect(await rowOf(ids.lost)).toMatchObject({
    health: 'lost',
    stale: true,
    utilization: null,
    temperature: null,
    processes: null,
    foreignMb: null,
    absent: { utilization: 'lost', memoryUsedMb: 'lost', temperature: 'lost', power: 'lost' },
  });
  expect(await rowOf(ids.intel)).toMatchObject({ utilization: null, absent: { utilization: 'no-permission' } });
});

test('silent nodes and requests that wait are told', async () => {
  const { gpus } = await believableGpus();
  const shown = gpuRows(gpus);
  expect(shown.nodes.map(({ node, silent }) => [node, silent])).toEqual([
    ['node-1', false],
    ['node-2', false],
    ['node-3', true],
  ]);
  expect(shown.waiting.map(({ instance, gang, priority }) => [instance, gang, priority])).toEqual([
    ['evaluate', null, 5],
    ['pretrain-0', 'pretrain', 0],
  ]);
  expect(shown).toMatchObject({
    notShown: 0,
    moreWaiting: 0,
    role: 'local',
    totals: { nodes: 3, gpus: 8, reserved: 1 },
  });
});

test('of too many, nodes with trouble come first, then those in use; the others are counted', async () => {
  const half = gpuHttpLimits.maxShownGpus / 2;
  const of = (name: string, parts: Partial<Gpu> = {}) =>
    Array.from({ length: half }, (_, i) => gpuOf(`${name}-${i}`, i === 0 ? parts : {}));
  const nodes = { a: of('a'), b: of('b'), c: of('c', { health: healthOf('degraded') }), d: of('d') };
  const gpus = await localGpus({ clock: new VirtualClock(0), nodes });
  await gpus.allocate('x', { node: 'd' });
  const shown = gpuRows(gpus);
  expect(shown.nodes.map(({ node, gpus: of, more }) => [node, of.length, more])).toEqual([
    ['c', half, 0],
    ['d', half, 0],
  ]);
  expect([shown.notShown, shown.totals.gpus]).toEqual([2 * half, 4 * half]);

  const large = { one: [...of('a'), ...of('b'), ...of('c')] };
  const [node] = gpuRows(await localGpus({ clock: new VirtualClock(0), nodes: large })).nodes;
  expect([node!.gpus.length, node!.more]).toEqual([2 * half, half]);
});

test('tenants, waits and bytes of one change are bounded', async () => {
  const many = Array.from({ length: gpuHttpLimits.maxShownGpus }, (_, i) => gpuOf(`GPU-${i}`));
  const local = await localGpus({ clock: new VirtualClock(0), nodes: { n: many } });
  for (let i = 0; i < 20; i++) await local.allocate(`t${i}`, { memoryMb: 1_000, computeShare: 0.01 });
  for (let i = 0; i < 60; i++) void local.allocate(`w${i}`, { memoryMb: 99_000, priority: i }, { waitMs: 1_000 });
  const shown = gpuRows(local);
  const busiest = shown.nodes[0]!.gpus.find(({ tenants }) => tenants.length > 0)!;
  expect([busiest.tenants.length, busiest.moreTenants]).toEqual([gpuHttpLimits.maxShownTenants, 4]);
  expect([shown.waiting.length, shown.moreWaiting, shown.waiting[0]!.priority]).toEqual([50, 10, 59]);
  expect(JSON.stringify(shown).length).toBeLessThan(128 * 1024);
});

test('a page is sent GPUs when they changed, and only then', async () => {
  const { gpus } = await believableGpus();
  const model = new LiveModel();
  expect(model.changesAfter(0)).not.toHaveProperty('gpus');
  model.gpus(gpuRows(gpus));
  const { version, gpus: first } = model.changesAfter(0);
  expect(first).toEqual(gpuRows(gpus));
  model.gpus(gpuRows(gpus));
  expect(model.changesAfter(version)).not.toHaveProperty('gpus');
  await gpus.release('embedder');
  model.gpus(gpuRows(gpus));
  const second = model.changesAfter(version).gpus;
  expect(second!.nodes[0]!.gpus.find(({ id }) => id === ids.mig)!.tenants).toHaveLength(1);
  // Who opens the page now gets it too.
  expect(model.changesAfter(0).gpus).toBe(second);
});

test('GPUs that have the same address on two nodes are told apart', async () => {
  const card = gpuOf('0000:4d:00.0', { vendor: 'intel', name: 'Intel Max 1100' });
  const holding = { gpuId: card.id, node: 'b', mode: 'exclusive', memoryMb: 40_000, shareMilli: 1000 } as const;
  const local = await localGpus({ clock: new VirtualClock(0), nodes: { a: [card] } });
  const gpus: GpuService = {
    ...local,
    role: 'local',
    nodes: () => ['a', 'b'].map((node) => ({ node, at: 0, silent: false, gpus: [card] })),
    records: () => [
      {
        ...{ kind: 'reservation', id: 'r', owner: 'o', request: '{}', since: 0, expiresAt: 1 },
        holdings: [holding],
      },
    ],
  };
  expect(gpuRows(gpus).nodes.map(({ gpus: [one] }) => one!.tenants.length)).toEqual([0, 1]);
});
