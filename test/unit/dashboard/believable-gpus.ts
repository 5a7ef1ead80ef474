import { VirtualClock } from '../../../src/clock.js';
import type { GpuSharing } from '../../../src/gpu/allocator-rules.js';
import type { GpuService } from '../../../src/gpu/gpu-service.js';
import { localGpus } from '../../../src/gpu/local-gpus.js';
import { absent, type Fact, type Gpu, type GpuPartition, type GpuProcess, known } from '../../../src/gpu/types.js';
import { gpuOf } from '../gpu/gpu-fixture.js';

const NOW = Date.UTC(2026, 2, 4, 15);

/** Ids of the GPUs that tests name. */
export const ids = {
  mig: 'GPU-5d0a9c1e-0001-4b1c-9c56-000000000001',
  whole: 'GPU-7e31b2aa-0002-4b1c-9c56-000000000002',
  shared: 'GPU-a1b2c3d4-0003-4b1c-9c56-000000000003',
  lost: 'GPU-c0ffee00-0004-4b1c-9c56-000000000004',
  planned: 'GPU-d4e5f6a7-0005-4b1c-9c56-000000000005',
  partitioned: '46ff74a1-0000-1000-80b3-8ba4ccd25e8b',
  reserved: '11ff74a1-0000-1000-8097-1f4f9a8c3f21',
  intel: '0000:4d:00.0',
} as const;

const modes: Readonly<Record<string, GpuSharing>> = {
  [ids.mig]: { mode: 'mig', layout: 'static' },
  [ids.planned]: { mode: 'mig', layout: 'dynamic' },
  [ids.partitioned]: { mode: 'partition' },
};

function process(pid: number, memoryMb: number): GpuProcess {
  return { pid, name: known('python3'), memoryMb: known(memoryMb), partition: absent('not-reported') };
}

function partition(id: string, profile: string, place: Fact<{ start: number; size: number }>, total: number) {
  const one: GpuPartition = {
    id,
    profile: known(profile),
    gpuInstance: absent('not-reported'),
    computeInstance: absent('not-reported'),
    placement: place,
    memoryTotalMb: known(total),
    memoryUsedMb: known(Math.round(total * 0.6)),
  };
  return one;
}

function h100(id: string, parts: Partial<Gpu> = {}): Gpu {
  return gpuOf(id, {
    name: 'NVIDIA H100 80GB HBM3',
    architecture: known('9.0'),
    partitionMode: known('disabled'),
    memoryTotalMb: known(81_559),
    memoryUsedMb: known(4),
    memoryReservedMb: known(510),
    utilization: known(0),
    memoryUtilization: known(0),
    temperature: known(31),
    power: known(72),
    powerLimit: known(700),
    coreClock: known(1980),
    memoryClock: known(2619),
    fanPercent: absent('not-supported'),
    processes: [],
    seenAt: NOW,
    ...parts,
  });
}

const none = absent('lost');

/** Three nodes as their agents would tell of them, the last one silent. */
function nodes(): Readonly<Record<string, readonly Gpu[]>> {
  const instances = [
    partition('MIG-3g', '3g.40gb', known({ start: 0, size: 4 }), 40_448),
    partition('MIG-2g', '2g.20gb', known({ start: 4, size: 2 }), 20_096),
    partition('MIG-1g', '1g.10gb', known({ start: 6, size: 1 }), 9_984),
  ];
  const mi300x = (id: string, parts: Partial<Gpu>) =>
    gpuOf(id, {
      vendor: 'amd',
      name: 'AMD Instinct MI300X',
      architecture: known('gfx942'),
      partitionMode: known('SPX'),
      memoryTotalMb: known(196_592),
      memoryUsedMb: known(285),
      utilization: known(0),
      temperature: known(41),
      power: known(139),
      powerLimit: known(750),
      processes: [],
      seenAt: NOW,
      ...parts,
    });
  return {
    'node-1': [
      h100(ids.mig, {
        partitionMode: known('enabled'),
        partitions: instances,
        utilization: absent('not-supported'),
        memoryUsedMb: known(42_300),
        temperature: known(58),
        power: known(412),
      }),
      h100(ids.whole, {
        utilization: known(97),
        memoryUsedMb: known(76_210),
        temperature: known(71),
        power: known(688),
        processes: [process(4711, 76_000)],
        health: {
          state: 'degraded',
          causes: [
            {
              code: 'thermal-slowdown',
              state: 'degraded',
              what: 'it is throttled by temperature',
              action: 'check the cooling',
              since: NOW - 90_000,
            },
          ],
        },
      }),
      h100(ids.shared, {
        utilization: known(64),
        memoryUsedMb: known(61_000),
        temperature: known(55),
        power: known(402),
        processes: [process(5001, 20_000), process(5002, 21_000), process(999, 19_500)],
      }),
      h100(ids.planned, { partitionMode: known('enabled'), utilization: absent('not-supported') }),
      h100(ids.lost, {
        ...{ memoryUsedMb: none, utilization: none, memoryUtilization: none, temperature: none, power: none },
        ...{ coreClock: none, memoryClock: none, processes: null, stale: true, seenAt: NOW - 600_000 },
        health: {
          state: 'lost',
          causes: [
            {
              code: 'xid-79',
              state: 'lost',
              what: 'it has fallen off the bus (Xid 79)',
              action: 'drain the node and reboot it',
              since: NOW - 600_000,
            },
          ],
        },
      }),
    ],
    'node-2': [
      mi300x(ids.partitioned, {
        partitionMode: known('CPX'),
        partitions: Array.from({ length: 8 }, (_, i) =>
          partition(`${ids.partitioned}/${i}`, 'CPX', absent('not-reported'), 24_574),
        ),
        utilization: known(38),
        memoryUsedMb: known(51_000),
        temperature: known(52),
        power: known(420),
        processes: null,
      }),
      mi300x(ids.reserved, {}),
    ],
    'node-3': [
      gpuOf(ids.intel, {
        vendor: 'intel',
        name: 'Intel Data Center GPU Max 1100',
        architecture: absent('not-reported'),
        memoryTotalMb: known(49_152),
        memoryUsedMb: known(1_200),
        utilization: absent('no-permission'),
        temperature: known(38),
        power: known(112),
        processes: null,
        seenAt: NOW,
      }),
    ],
  };
}

/** GPUs of three makers with tenants of each kind, and requests that wait. */
export async function believableGpus(): Promise<{ gpus: GpuService; clock: VirtualClock }> {
  const clock = new VirtualClock(NOW);
  const busy = nodes();
  // Nothing runs on them before it is given to somebody.
  const idle = Object.entries(busy).map(([node, all]) => [
    node,
    all.map((gpu) => (gpu.health.state === 'lost' ? gpu : { ...gpu, memoryUsedMb: known(4), processes: [] })),
  ]);
  const service = await localGpus({
    clock,
    nodes: Object.fromEntries(idle),
    sharing: (_, { id }) => modes[id] ?? { mode: 'open' },
  });
  const grant = async (instance: string, request: Parameters<GpuService['allocate']>[1]): Promise<void> => {
    const answer = await service.allocate(instance, request);
    if (!answer.granted) throw new Error(`${instance}: ${answer.what}; ${JSON.stringify(answer.gpus)}`);
  };
  await grant('notebook-ana', { profile: '3g.40gb', owner: 'research' });
  await grant('embedder', { profile: '1g.10gb', mode: 'mig', owner: 'search' });
  await grant('summaries', { profile: '4g.40gb', mode: 'mig', owner: 'mail' });
  await grant('train-llm', { vendor: 'nvidia', owner: 'training' });
  await grant('chat-0', { memoryMb: 20_000, computeShare: 0.25, owner: 'chat', vendor: 'nvidia', mode: 'shared' });
  await grant('speech-1', { memoryMb: 21_000, computeShare: 0.3, owner: 'speech', vendor: 'nvidia', mode: 'shared' });
  await grant('worker-a', { mode: 'partition', owner: 'batch' });
  await grant('worker-b', { mode: 'partition', owner: 'batch' });
  await service.reserve('training', { vendor: 'amd' }, 3_600_000);
  const waitMs = 1_800_000;
  void service.allocate('evaluate', { owner: 'research', priority: 5, vendor: 'nvidia' }, { waitMs });
  const member = (instance: string) => ({ instance, request: { vendor: 'amd', owner: 'training-2' } as const });
  void service.allocateGang('pretrain', [member('pretrain-0'), member('pretrain-1')], { waitMs });
  const gpus: GpuService = {
    ...service,
    get role() {
      return service.role;
    },
    nodes: () =>
      service.nodes().map((one) => {
        const seen = { ...one, gpus: busy[one.node]! };
        return one.node === 'node-3' ? { ...seen, silent: true, at: NOW - 190_000 } : seen;
      }),
  };
  return { gpus, clock };
}
