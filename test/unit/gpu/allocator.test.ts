import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { GpuAllocator, type GpuDenial, type GpuGrant } from '../../../src/gpu/allocator.js';
import type { GpuRequest, GpuSharing } from '../../../src/gpu/allocator-rules.js';
import { Ledger, type LedgerEvent, type LedgerRecord } from '../../../src/gpu/ledger.js';
import { migModelOf } from '../../../src/gpu/mig/mig-profiles.js';
import { migTableOf } from '../../../src/gpu/mig/mig-table.js';
import { absent, type Gpu, known } from '../../../src/gpu/types.js';
import { gpuLedgerLimits } from '../../../src/limits.js';
import { gpuOf, healthOf } from './gpu-fixture.js';

function allocatorOf(
  gpus: readonly Gpu[],
  sharing: GpuSharing = { mode: 'open' },
  quotas: Record<string, number> = {},
) {
  const clock = new VirtualClock(1_000);
  const events: LedgerEvent[] = [];
  const allocator = new GpuAllocator({ clock, sharing: () => sharing, quotas, onEvent: (event) => events.push(event) });
  allocator.setNode('n1', gpus);
  return { allocator, clock, events };
}

function granted(answer: GpuGrant | GpuDenial): GpuGrant {
  if (!answer.granted) throw new Error(answer.what);
  return answer;
}

function codes(answer: GpuGrant | GpuDenial): string[] {
  return answer.granted ? [] : answer.gpus.map(({ code }) => code);
}

describe('exclusive', () => {
  test('is what is given when nothing is said', () => {
    const { allocator, events } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    const answer = granted(allocator.allocate('w1', {}));
    expect(answer).toMatchObject({ node: 'n1', mode: 'exclusive', preempted: [] });
    expect(answer.environment).toEqual({ CUDA_VISIBLE_DEVICES: answer.gpuId });
    expect(events.map(({ type }) => type)).toEqual(['allocated']);
    const both = allocator.allocate('w2', { gpuCount: 2 });
    expect(both).toMatchObject({ granted: false, reason: 'gpus' });
    expect(codes(both)).toEqual(['held']);
    granted(allocator.allocate('w3', {}));
    expect(codes(allocator.allocate('w4', { memoryMb: 1_000 }))).toEqual(['held', 'held']);
  });

  test('a refusal tells of the time when it came, whenever it is read', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    const first = granted(allocator.allocate('w1', {}));
    const second = allocator.allocate('w2', { gpuCount: 2 });
    allocator.release(first.allocation.id);
    allocator.setNode('n1', [gpuOf('GPU-1', { stale: true }), gpuOf('GPU-2', { stale: true })]);
    expect(codes(second)).toEqual(['held']);
    expect(JSON.parse(JSON.stringify(second))).toMatchObject({
      what: 'no node has 2 like GPUs that will do (1 will, alone)',
      gpus: [{ gpuId: first.gpuId, what: 'it is held by w1' }],
    });
  });

  test('the same again is the same; another one is refused', () => {
    const { allocator, events } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    const first = granted(allocator.allocate('w1', { priority: 1, model: 'A100' }));
    const again = granted(allocator.allocate('w1', { model: 'A100', priority: 1 }));
    expect(again.allocation).toEqual(first.allocation);
    expect(events).toHaveLength(1);
    expect(allocator.allocate('w1', { gpuCount: 2 })).toMatchObject({ granted: false, reason: 'instance' });
  });

  test('a process that no allocation accounts for is told', () => {
    const process = {
      pid: 42,
      name: absent('not-reported'),
      memoryMb: absent('not-reported'),
      partition: absent('not-reported'),
    };
    const { allocator } = allocatorOf([gpuOf('GPU-1', { processes: [process] })]);
    expect(codes(allocator.allocate('w1', {}))).toEqual(['foreign-process']);
  });

  test('canAllocate changes nothing', () => {
    const { allocator, events } = allocatorOf([gpuOf('GPU-1')]);
    expect(allocator.canAllocate('w1', {}).granted).toBe(true);
    expect(events).toEqual([]);
    expect(allocator.ledger.save()).toEqual({ version: 1, sequence: 0, records: [] });
  });
});

describe('what a GPU must be', () => {
  const refusal = (gpu: Partial<Gpu>, request: GpuRequest): string[] =>
    codes(allocatorOf([gpuOf('GPU-1', gpu)]).allocator.allocate('w', request));

  test.each<[string, Partial<Gpu>, GpuRequest, string[]]>([
    ['vendor', {}, { vendor: 'amd' }, ['vendor']],
    ['model', {}, { model: 'A10' }, ['model']],
    ['model by words', {}, { model: 'a100 40GB' }, []],
    ['node', {}, { node: 'n2' }, ['node']],
    ['capability', { architecture: known('9.0') }, { minComputeCapability: '10.0' }, ['compute-capability']],
    ['capability, as numbers', { architecture: known('10.0') }, { minComputeCapability: '9.0' }, []],
    [
      'capability unknown',
      { architecture: absent('not-reported') },
      { minComputeCapability: '7.0' },
      ['compute-capability-unknown'],
    ],
    ['memory', {}, { memoryMb: 40_001, exclusive: true }, ['memory']],
    [
      'memory unknown is not zero',
      { memoryTotalMb: absent('no-permission') },
      { memoryMb: 1, exclusive: true },
      ['memory-unknown'],
    ],
    ['memory unknown, none asked for', { memoryTotalMb: absent('no-permission') }, {}, []],
    ['a share of unknown memory', { memoryTotalMb: absent('lost') }, { computeShare: 0.5 }, ['memory-unknown']],
    ['memory others use', { memoryUsedMb: known(30_000) }, { memoryMb: 10_001 }, ['memory']],
    ['memory the driver keeps', { memoryReservedMb: known(600) }, { memoryMb: 39_500 }, ['memory']],
    ['draining', { health: healthOf('draining') }, {}, ['health']],
    ['lost', { health: healthOf('lost') }, {}, ['health']],
    ['degraded still works', { health: healthOf('degraded') }, {}, []],
    ['stale', { stale: true }, {}, ['stale']],
    ['prohibited', { computeMode: known('Prohibited') }, {}, ['mode']],
    ['for one process, as a whole', { computeMode: known('Exclusive_Process') }, {}, []],
    ['for one process, in shares', { computeMode: known('Exclusive_Process') }, { computeShare: 0.5 }, ['mode']],
  ])('%s', (_, gpu, request, expected) => {
    expect(refusal(gpu, request)).toEqual(expected);
  });

  test('requests that cannot be meant are errors', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')]);
    for (const request of [
      { gpuCount: 0 },
      { memoryMb: Number.NaN },
      { computeShare: 1.5 },
      { minComputeCapability: '9' },
    ])
      expect(() => allocator.allocate('w', request)).toThrow('IGU_GPU_REQUEST');
  });

  test('nothing installed is told in one sentence', () => {
    const { allocator } = allocatorOf([]);
    expect(allocator.allocate('w', {})).toEqual({
      granted: false,
      reason: 'gpus',
      what: 'there are no GPUs',
      gpus: [],
    });
  });
});

describe('shared', () => {
  test('memory and share are both kept within the GPU', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')]);
    const first = granted(allocator.allocate('w1', { memoryMb: 10_000, computeShare: 0.5 }));
    expect(first.mode).toBe('shared');
    expect(first.enforcement.notEnforced).toContain('memory');
    granted(allocator.allocate('w2', { memoryMb: 30_000, computeShare: 0.1 }));
    expect(codes(allocator.allocate('w3', { memoryMb: 1, computeShare: 0.1 }))).toEqual(['memory']);
    allocator.release(first.allocation.id);
    expect(codes(allocator.allocate('w3', { memoryMb: 10_000, computeShare: 0.91 }))).toEqual(['share']);
    granted(allocator.allocate('w3', { memoryMb: 10_000, computeShare: 0.9 }));
  });

  test.each([
    ['halves of what the driver leaves', 40_960, 600, 0, [0.5, 0.5]],
    ['halves of an odd number of MiB', 81_559, 550, 0, [0.5, 0.5]],
    ['a third each', 40_960, 617, 0, [1 / 3, 1 / 3, 1 / 3]],
    ['tenths', 23_028, 433, 0, new Array<number>(10).fill(0.1)],
    ['57 and 43 of a hundred', 24_576, 512, 0, [0.57, 0.43]],
    ['all of a GPU that uses some MiB by itself', 81_559, 550, 4, [1]],
  ])('%s fit, and no more', (_, total, reserved, used, shares) => {
    const { allocator } = allocatorOf([
      gpuOf('GPU-1', {
        ...{ memoryTotalMb: known(total), memoryReservedMb: known(reserved), memoryUsedMb: known(used) },
      }),
    ]);
    const held = shares.map((computeShare, i) => {
      const { holdings } = granted(allocator.allocate(`w${i}`, { mode: 'shared', computeShare })).allocation;
      expect(holdings[0]!.memoryMb).toBe(Math.floor((total - reserved) * computeShare + 1e-6) - used);
      return holdings[0]!;
    });
    const sum = (of: 'memoryMb' | 'shareMilli') => held.reduce((all, one) => all + one[of]!, 0);
    expect(sum('memoryMb')).toBeLessThanOrEqual(total - reserved);
    expect(sum('shareMilli')).toBeLessThanOrEqual(1_000);
    expect(codes(allocator.allocate('more', { computeShare: 0.05 }))).toEqual(['memory']);
  });

  test('what others hold is no use of an idle GPU: no part has less for it', () => {
    const used = { memoryUsedMb: known(4) };
    const { allocator } = allocatorOf([gpuOf('GPU-1', used)]);
    granted(allocator.allocate('w1', { memoryMb: 20_010, computeShare: 0.5 }));
    expect(codes(allocator.allocate('w2', { computeShare: 0.5 }))).toEqual(['memory']);
    const full = allocatorOf([gpuOf('GPU-1', used)]).allocator;
    granted(full.allocate('w1', { memoryMb: 39_996, computeShare: 0.5 }));
    expect(codes(full.allocate('w2', { computeShare: 0.0005 }))).toEqual(['memory']);
  });

  test('memory that is asked for is what is given, its part is of what the driver leaves', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1', { memoryTotalMb: known(40_960), memoryReservedMb: known(960) })]);
    const [first] = granted(allocator.allocate('w1', { memoryMb: 20_000 })).allocation.holdings;
    expect(first).toMatchObject({ memoryMb: 20_000, shareMilli: 500 });
    granted(allocator.allocate('w2', { memoryMb: 20_000 }));
    expect(codes(allocator.allocate('w3', { memoryMb: 1 }))).toEqual(['memory']);
    const alone = allocatorOf([gpuOf('GPU-1', { memoryReservedMb: known(960) })]).allocator;
    expect(granted(alone.allocate('w', {})).allocation.holdings[0]!.memoryMb).toBe(39_040);
  });

  test.each([
    ['it is not in MIG mode', {}],
    ['it is not in MIG mode', { partitionMode: known('Disabled') }],
    ['MIG is on, but', { partitionMode: known('Enabled') }],
    ['it is set to open: 1g.5gb would be given where it is set to partition', { vendor: 'amd' as const }],
    ['GPUs of intel have no profiles', { vendor: 'intel' as const }],
  ])('a profile of a GPU that gives none: %s', (what, gpu) => {
    const { allocator } = allocatorOf([gpuOf('GPU-1', gpu)]);
    for (const exclusive of [undefined, true])
      expect(allocator.allocate('w', { profile: '1g.5gb', ...(exclusive && { exclusive }) })).toMatchObject({
        granted: false,
        gpus: [{ code: 'mode', what: expect.stringContaining(what) }],
      });
  });

  test('two shares are on two GPUs', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    const answer = granted(allocator.allocate('w1', { gpuCount: 2, memoryMb: 10_000 }));
    expect(new Set(answer.gpuIds).size).toBe(2);
  });

  test('shares go together, so that whole GPUs stay', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')]);
    const ids = ['a', 'b', 'c', 'd'].map((name) => granted(allocator.allocate(name, { computeShare: 0.25 })).gpuId);
    expect(new Set(ids).size).toBe(1);
    granted(allocator.allocate('whole', { gpuCount: 2 }));
  });
});

describe('memory that is not known, or not limited, is no zero', () => {
  const unknown = gpuOf('GPU-1', { memoryTotalMb: absent('not-supported') });

  test('of a whole GPU, with a reservation before it', () => {
    const { allocator } = allocatorOf([unknown]);
    const reserved = allocator.reserve('team', {}, 1_000);
    expect(reserved).toMatchObject({ holdings: [{ memoryMb: null }] });
    const { allocation } = granted(allocator.allocate('w', { owner: 'team' }));
    expect(allocation.holdings).toMatchObject([{ mode: 'exclusive', memoryMb: null, shareMilli: 1_000 }]);
    expect([...allocator.ledger.all()]).toEqual([allocation]);
  });

  test('a whole GPU that was reserved is used also when its memory is known since', () => {
    const { allocator } = allocatorOf([unknown]);
    allocator.reserve('team', {}, 1_000);
    allocator.setNode('n1', [gpuOf('GPU-1')]);
    expect(granted(allocator.allocate('w', { owner: 'team' })).allocation.holdings[0]!.memoryMb).toBe(40_000);
  });

  test('of turns, MIG instances and partitions', () => {
    const turn = { mode: 'time-slicing', replicas: 2 } as const;
    const { allocator } = allocatorOf([gpuOf('GPU-1')], turn);
    expect(granted(allocator.allocate('w1', { computeShare: 0.5 })).allocation.holdings[0]!.memoryMb).toBeNull();
    expect(granted(allocator.allocate('w2', { memoryMb: 40_000 })).allocation.holdings[0]!.memoryMb).toBe(40_000);
    const b200 = gpuOf('GPU-1', { name: 'NVIDIA B200', partitionMode: known('Enabled') });
    const mig = allocatorOf([b200], { mode: 'mig', layout: 'dynamic' }).allocator;
    expect(granted(mig.allocate('w', { profile: '1g.23gb' })).allocation.holdings[0]!.memoryMb).toBeNull();
    const amd = { ...unknown, vendor: 'amd' as const, partitionMode: known('CPX') };
    const parts = allocatorOf([amd], { mode: 'partition' }).allocator;
    expect(granted(parts.allocate('w', { profile: 'CPX' })).allocation.holdings[0]!.memoryMb).toBeNull();
  });
});

describe('memory that was asked for before', () => {
  const large = (id: string, name = 'NVIDIA A100-SXM4-80GB'): Gpu =>
    gpuOf(id, { name, memoryTotalMb: known(81_920), memoryReservedMb: known(600) });
  const clusterOf = (last: 'large' | 'small', name?: string) => {
    const { allocator } = allocatorOf([]);
    const nodes: [string, Gpu[]][] = [
      ['small', Array.from({ length: 4 }, (_, i) => gpuOf(`small-${i}`))],
      ['large', [large('large', name)]],
    ];
    for (const [node, gpus] of last === 'large' ? nodes : nodes.reverse()) allocator.setNode(node, gpus);
    return allocator;
  };

  test.each([
    ['large', 'NVIDIA A100-SXM4-80GB'],
    ['small', 'NVIDIA A100-SXM4-80GB'],
    ['large', gpuOf('small').name],
    ['small', gpuOf('small').name],
  ] as const)('keeps the GPU that alone has so much (%s told last, a %s)', (last, name) => {
    const allocator = clusterOf(last, name);
    for (let i = 0; i < 12; i++) {
      const { allocation, gpuId } = granted(allocator.allocate(`w${i}`, { memoryMb: 60_000 }));
      expect(gpuId).toBe('large');
      allocator.release(allocation.id);
    }
    for (let i = 0; i < 4; i++) expect(granted(allocator.allocate(`any${i}`, {})).node).toBe('small');
    expect(granted(allocator.allocate('again', { memoryMb: 60_000 })).gpuId).toBe('large');
  });

  test('is the same MiB on other GPUs, of whole GPUs too', () => {
    const allocator = clusterOf('large');
    const first = granted(allocator.allocate('w', { memoryMb: 60_000, exclusive: true }));
    allocator.release(first.allocation.id);
    expect(granted(allocator.allocate('whole', {})).node).toBe('small');
    expect(allocator.demandMix.map(({ demand }) => demand.gpuMemoryMb)).toContain(60_000);
  });

  test('of equal GPUs the smaller is given', () => {
    for (const order of [true, false]) {
      const { allocator } = allocatorOf([]);
      const nodes: [string, Gpu][] = [
        ['n1', gpuOf('small')],
        ['n2', large('large')],
      ];
      for (const [node, gpu] of order ? nodes : nodes.reverse()) allocator.setNode(node, [gpu]);
      expect(granted(allocator.allocate('w', {})).gpuId).toBe('small');
    }
  });
});

describe('time-slicing and MPS', () => {
  test('a replica of time-slicing is a turn, not a part of memory', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')], { mode: 'time-slicing', replicas: 2 });
    expect(codes(allocator.allocate('w0', {}))).toEqual(['mode']);
    expect(codes(allocator.allocate('w0', { mode: 'time-slicing', computeShare: 0.6 }))).toEqual(['share']);
    granted(allocator.allocate('w1', { mode: 'time-slicing' }));
    granted(allocator.allocate('w2', { memoryMb: 39_000 }));
    expect(codes(allocator.allocate('w3', { memoryMb: 10 }))).toEqual(['clients']);
  });

  test('more than one replica is never of one GPU', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')], { mode: 'time-slicing', replicas: 4 });
    expect(allocator.allocate('w', { gpuCount: 2, mode: 'time-slicing' }).granted).toBe(false);
  });

  test('an MPS client has its part of memory and threads', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')], { mode: 'mps', replicas: 3, pipeDirectory: '/run/mps' });
    expect(codes(allocator.allocate('w0', { memoryMb: 13_334 }))).toEqual(['memory']);
    const answer = granted(allocator.allocate('w1', { memoryMb: 13_333 }));
    expect(answer.environment).toEqual({
      CUDA_VISIBLE_DEVICES: 'GPU-1',
      CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '33',
      CUDA_MPS_PINNED_DEVICE_MEM_LIMIT: '0=13333M',
      CUDA_MPS_PIPE_DIRECTORY: '/run/mps',
    });
    expect(answer.enforcement.enforced[0]).toContain('memory');
  });

  test.each([
    [2, 40_960, 600],
    [3, 40_960, 617],
    [7, 81_559, 551],
    [48, 15_360, 444],
  ])('%i MPS clients have places in what the driver leaves', (replicas, total, reserved) => {
    const gpu = gpuOf('GPU-1', { memoryTotalMb: known(total), memoryReservedMb: known(reserved) });
    const { allocator } = allocatorOf([gpu], { mode: 'mps', replicas });
    for (let i = 0; i < replicas; i++)
      expect(granted(allocator.allocate(`w${i}`, { mode: 'mps' })).allocation.holdings[0]).toMatchObject({
        memoryMb: Math.floor((total - reserved) / replicas),
        shareMilli: Math.floor(1_000 / replicas),
      });
    expect(codes(allocator.allocate('more', { mode: 'mps' }))).toEqual(['clients']);
  });

  test.each([
    ['8.0', 48],
    ['6.1', 16],
  ])('compute capability %s has at most %i MPS clients', (architecture, most) => {
    const { allocator } = allocatorOf([gpuOf('GPU-1', { architecture: known(architecture) })], {
      mode: 'mps',
      replicas: 60,
    });
    for (let i = 0; i < most; i++) granted(allocator.allocate(`w${i}`, { mode: 'mps' }));
    expect(codes(allocator.allocate('more', { mode: 'mps' }))).toEqual(['clients']);
  });

  test('neither is for MIG nor for other vendors, and one excludes the other', () => {
    const on = gpuOf('GPU-1', { partitionMode: known('Enabled') });
    expect(codes(allocatorOf([on], { mode: 'mps', replicas: 2 }).allocator.allocate('w', { mode: 'mps' }))).toEqual([
      'mode',
    ]);
    const amd = gpuOf('GPU-1', { vendor: 'amd' });
    expect(codes(allocatorOf([amd], { mode: 'mps', replicas: 2 }).allocator.allocate('w', { mode: 'mps' }))).toEqual([
      'mode',
    ]);
    let sharing: GpuSharing = { mode: 'mps', replicas: 2 };
    const allocator = new GpuAllocator({ clock: new VirtualClock(), sharing: () => sharing });
    allocator.setNode('n1', [gpuOf('GPU-1')]);
    granted(allocator.allocate('w1', { mode: 'mps' }));
    sharing = { mode: 'time-slicing', replicas: 2 };
    allocator.setNode('n1', [gpuOf('GPU-1')]);
    expect(codes(allocator.allocate('w2', { mode: 'time-slicing' }))).toEqual(['held']);
  });

  test('each GPU of a node has its own setting', () => {
    const settings: Record<string, GpuSharing> = {
      'GPU-1': { mode: 'exclusive' },
      'GPU-2': { mode: 'mps', replicas: 2 },
      'GPU-3': { mode: 'mps', replicas: 5 },
    };
    const allocator = new GpuAllocator({ clock: new VirtualClock(), sharing: (_, { id }) => settings[id]! });
    allocator.setNode(
      'n1',
      Object.keys(settings).map((id) => gpuOf(id)),
    );
    expect(granted(allocator.allocate('whole', {})).gpuId).toBe('GPU-1');
    expect(granted(allocator.allocate('half', { memoryMb: 20_000 })).gpuId).toBe('GPU-2');
    for (let i = 0; i < 5; i++) granted(allocator.allocate(`fifth${i}`, { memoryMb: 8_000 }));
  });
});

describe('MIG', () => {
  const mig = (
    parts: readonly [id: string, profile: string, start: number, memoryMb: number][],
    extra: Partial<Gpu> = {},
  ) =>
    gpuOf('GPU-1', {
      partitionMode: known('Enabled'),
      partitions: parts.map(([id, profile, start, memoryMb]) => ({
        id,
        profile: known(profile),
        gpuInstance: absent('not-reported'),
        computeInstance: absent('not-reported'),
        placement: known({ start, size: 1 }),
        memoryTotalMb: known(memoryMb),
        memoryUsedMb: absent('not-reported'),
      })),
      ...extra,
    });

  test('static: the smallest instance that will do', () => {
    const gpu = mig([
      ['MIG-3', '3g.20gb', 0, 19_968],
      ['MIG-1', '1g.5gb', 4, 4_864],
      ['MIG-2', '2g.10gb', 5, 9_856],
    ]);
    const { allocator } = allocatorOf([gpu], { mode: 'mig', layout: 'static' });
    const answer = granted(allocator.allocate('w1', { memoryMb: 9_000 }));
    expect(answer.environment).toEqual({ CUDA_VISIBLE_DEVICES: 'MIG-2' });
    expect(answer.enforcement.notEnforced).toEqual([]);
    expect(granted(allocator.allocate('w2', { computeShare: 0.4 })).environment).toEqual({
      CUDA_VISIBLE_DEVICES: 'MIG-3',
    });
    expect(codes(allocator.allocate('w3', { profile: '2g.10gb' }))).toEqual(['no-partition']);
    expect(codes(allocator.allocate('w4', { gpuCount: 2, mode: 'mig' }))).toEqual(['mode']);
  });

  test.each([
    ['in MIG-1', known('MIG-1'), 'no free partition of 2 will do; no allocation accounts for process 4242 in MIG-1'],
    [
      'in one that is not told',
      absent('not-reported'),
      'no free partition of 2 will do; in which of them process 4242 runs is not told',
    ],
    ['in one that is held', known('MIG-3'), 'no free partition of 2 will do'],
  ])('static: a process that no allocation accounts for is named: %s', (_, partition, what) => {
    const process = { pid: 4_242, name: known('x'), memoryMb: known(1), partition };
    const parts: [string, string, number, number][] = [
      ['MIG-3', '3g.20gb', 0, 19_968],
      ['MIG-1', '1g.5gb', 4, 4_864],
    ];
    const { allocator } = allocatorOf([mig(parts)], { mode: 'mig', layout: 'static' });
    granted(allocator.allocate('w1', { profile: '3g.20gb' }));
    allocator.setNode('n1', [mig(parts, { processes: [process] })]);
    const profile = partition.value === 'MIG-3' ? '3g.20gb' : '1g.5gb';
    expect(allocator.allocate('w2', { profile })).toMatchObject({ gpus: [{ code: 'no-partition', what }] });
    allocator.setNode('n1', [mig(parts, { processes: null })]);
    expect(allocator.allocate('w2', { profile })).toMatchObject({
      gpus: [{ what: expect.stringContaining('whether processes use those that nobody holds is not known') }],
    });
  });

  test('static: an instance whose UUID is not known is not given', () => {
    const gpu = mig([['GPU-1/3/0', '1g.5gb', 4, 4_864]]);
    const { allocator } = allocatorOf([gpu], { mode: 'mig', layout: 'static' });
    expect(codes(allocator.allocate('w1', { memoryMb: 1_000 }))).toEqual(['no-partition']);
  });

  test('dynamic: planned, made, told', () => {
    const { allocator, events } = allocatorOf([mig([])], { mode: 'mig', layout: 'dynamic' });
    const answer = granted(allocator.allocate('w1', { memoryMb: 15_000 }));
    expect(answer.environment).toEqual({});
    expect(answer.steps).toMatchObject([{ kind: 'create', gpu: 'GPU-1', profile: '3g.20gb' }]);
    const made = allocator.partitioned(answer.allocation.id, new Map([['GPU-1', 'MIG-new']]));
    expect(made.environment).toEqual({ CUDA_VISIBLE_DEVICES: 'MIG-new' });
    expect(events.map(({ type }) => type)).toEqual(['allocated', 'partitioned']);
  });

  test('dynamic: an instance is told by its name also while its node is away', () => {
    const { allocator } = allocatorOf([mig([])], { mode: 'mig', layout: 'dynamic' });
    const { allocation } = granted(allocator.allocate('w1', { profile: '1g.5gb' }));
    allocator.removeNode('n1');
    const made = allocator.partitioned(allocation.id, new Map([['GPU-1', 'MIG-new']]));
    expect(made.environment).toEqual({ CUDA_VISIBLE_DEVICES: 'MIG-new' });
  });

  test('dynamic: MIG is switched on an idle GPU only, and what runs in an instance stays', () => {
    const off = gpuOf('GPU-1', { partitionMode: known('Disabled') });
    const first = granted(
      allocatorOf([off], { mode: 'mig', layout: 'dynamic' }).allocator.allocate('w', { profile: '1g.5gb' }),
    );
    expect(first.steps.map(({ kind }) => kind)).toEqual(['enable', 'create']);
    const unknown = gpuOf('GPU-1', { partitionMode: known('Disabled'), processes: null });
    expect(
      allocatorOf([unknown], { mode: 'mig', layout: 'dynamic' }).allocator.allocate('w', { profile: '1g.5gb' }),
    ).toMatchObject({
      gpus: [{ code: 'plan', what: expect.stringMatching(/^it is not known whether it is idle.*idle GPU only$/) }],
    });
    const running = { pid: 1, name: known('x'), memoryMb: known(1), partition: absent('not-supported') };
    const used = gpuOf('GPU-1', { partitionMode: known('Disabled'), processes: [running] });
    expect(
      allocatorOf([used], { mode: 'mig', layout: 'dynamic' }).allocator.allocate('w', { profile: '1g.5gb' }),
    ).toMatchObject({
      gpus: [{ code: 'plan', what: 'it is in use: MIG can be switched on an idle GPU only' }],
    });
    const process = { pid: 1, name: known('x'), memoryMb: known(1), partition: known('MIG-4') };
    const busy = mig([['MIG-4', '4g.20gb', 0, 19_968]], { processes: [process] });
    const { allocator } = allocatorOf([busy], { mode: 'mig', layout: 'dynamic' });
    expect(codes(allocator.allocate('w1', { profile: '7g.40gb' }))).toEqual(['no-partition']);
    expect(granted(allocator.allocate('w2', { profile: '3g.20gb' })).steps).toMatchObject([
      { kind: 'create', start: 4 },
    ]);
  });

  test('dynamic: as long as the GPU says that MIG is off, whoever is told steps is told to switch it on', () => {
    const off = gpuOf('GPU-1', { partitionMode: known('Disabled') });
    const { allocator } = allocatorOf([off], { mode: 'mig', layout: 'dynamic' });
    const both = ['w1', 'w2'].map((who) => granted(allocator.allocate(who, { profile: '3g.20gb' })));
    const kinds = (record: LedgerRecord) => allocator.stepsFor(record).map(({ kind }) => kind);
    for (const { steps } of both) expect(steps.map(({ kind }) => kind)).toEqual(['enable', 'create']);
    for (const { allocation } of both) expect(kinds(allocation)).toEqual(['enable', 'create']);
    expect(new Set(both.map(({ allocation }) => allocation.holdings[0]!.partition!.start)).size).toBe(2);
    allocator.release(both[0]!.allocation.id);
    expect(kinds(both[1]!.allocation)).toEqual(['enable', 'create']);
    const third = granted(allocator.allocate('w3', { profile: '3g.20gb' }));
    expect(third.steps.map(({ kind }) => kind)).toEqual(['enable', 'create']);
    for (const processes of [null, [{ pid: 1, name: known('x'), memoryMb: known(1), partition: known('x') }]]) {
      allocator.setNode('n1', [{ ...off, processes }]);
      expect(kinds(third.allocation)).toEqual(['enable', 'create']);
      expect(granted(allocator.allocate('w3', { profile: '3g.20gb' })).steps).toEqual(third.steps);
    }
    // MIG is on since: the last one needs its instance only
    const { profile, start } = both[1]!.allocation.holdings[0]!.partition!;
    allocator.setNode('n1', [mig([['MIG-2', profile, start!, 19_968]])]);
    expect(kinds(third.allocation)).toEqual(['create']);
  });

  test('dynamic: memory of profiles that nobody published must be told', () => {
    const b200 = gpuOf('GPU-1', { name: 'NVIDIA B200', partitionMode: known('Enabled') });
    const silent = allocatorOf([b200], { mode: 'mig', layout: 'dynamic' }).allocator;
    expect(codes(silent.allocate('w', { memoryMb: 10_000 }))).toEqual(['memory-unknown']);
    const told = allocatorOf([b200], { mode: 'mig', layout: 'dynamic', memoryMb: { '1g.23gb': 16_000 } }).allocator;
    expect(granted(told.allocate('w', { memoryMb: 10_000 })).allocation.holdings[0]).toMatchObject({
      memoryMb: 16_000,
    });
  });

  test('AMD partitions are given by their id', () => {
    const gpu = {
      ...mig([
        ['p0', 'CPX', 0, 24_000],
        ['p1', 'CPX', 1, 24_000],
      ]),
      vendor: 'amd' as const,
      partitionMode: known('CPX'),
    };
    const { allocator } = allocatorOf([gpu], { mode: 'partition' });
    expect(granted(allocator.allocate('w1', { memoryMb: 20_000 })).environment).toEqual({ ROCR_VISIBLE_DEVICES: 'p0' });
    expect(granted(allocator.allocate('w2', { profile: 'CPX' })).environment).toEqual({ ROCR_VISIBLE_DEVICES: 'p1' });
    expect(codes(allocator.allocate('w3', { profile: 'CPX' }))).toEqual(['no-partition']);
  });

  test('a partition that its tool lists as a GPU of its own is given as a partition', () => {
    const parts = [0, 1].map((i) =>
      gpuOf(`uuid-${i}`, {
        ...{ vendor: 'amd', name: 'AMD Instinct MI300X', index: known(i), partitionMode: known('CPX') },
        memoryTotalMb: known(24_000),
      }),
    );
    const { allocator } = allocatorOf(parts, { mode: 'partition' });
    expect(codes(allocator.allocate('w0', { profile: 'SPX' }))).toEqual(['no-partition', 'no-partition']);
    const answers = ['w1', 'w2'].map((who) => granted(allocator.allocate(who, { profile: 'CPX', memoryMb: 20_000 })));
    expect(answers.map(({ environment }) => environment.ROCR_VISIBLE_DEVICES).sort()).toEqual(['0', '1']);
    expect(answers[0]).toMatchObject({ mode: 'partition', allocation: { holdings: [{ shareMilli: 1_000 }] } });
    expect(codes(allocator.allocate('w3', { profile: 'CPX' }))).toEqual(['no-partition', 'no-partition']);
  });
});

test('Intel GPUs are shown by position, and not at all when that is not known', () => {
  const gpu = gpuOf('0000:03:00.0', { vendor: 'intel', index: known(2) });
  expect(granted(allocatorOf([gpu]).allocator.allocate('w', {})).environment).toEqual({ ZE_AFFINITY_MASK: '2' });
  expect(granted(allocatorOf([gpuOf('x', { vendor: 'intel' })]).allocator.allocate('w', {})).environment).toEqual({});
});

describe('owners', () => {
  test('a quota counts shares and reservations', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')], undefined, { team: 1.5 });
    granted(allocator.allocate('w1', { owner: 'team' }));
    granted(allocator.allocate('w2', { owner: 'team', computeShare: 0.25 }));
    expect(allocator.reserve('team', { computeShare: 0.5 }, 1_000)).toMatchObject({ granted: false, reason: 'quota' });
    expect(allocator.reserve('team', { computeShare: 0.25 }, 1_000)).toMatchObject({ kind: 'reservation' });
    expect(allocator.allocate('w3', { owner: 'team', computeShare: 0.3 })).toMatchObject({ reason: 'quota' });
    expect(allocator.usageOf('team')).toBe(1.5);
    granted(allocator.allocate('w4', { owner: 'other' }));
  });

  test('a reservation is used by its owner, in parts, and given back when it is over', () => {
    const { allocator, clock, events } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    allocator.reserve('team', { gpuCount: 2 }, 10_000);
    expect(codes(allocator.allocate('stranger', {}))).toEqual(['held', 'held']);
    granted(allocator.allocate('w1', { owner: 'team' }));
    expect(codes(allocator.allocate('stranger', {}))).toEqual(['held', 'held']);
    clock.advance(10_000);
    expect(allocator.expire()).toBe(1);
    granted(allocator.allocate('stranger', {}));
    expect(events.map(({ type }) => type)).toEqual(['reserved', 'reduced', 'allocated', 'expired', 'allocated']);
  });

  test('a share that was reserved is used bit by bit', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')], undefined, { team: 0.5 });
    allocator.reserve('team', { computeShare: 0.5 }, 10_000);
    granted(allocator.allocate('w1', { owner: 'team', computeShare: 0.2 }));
    expect(allocator.usageOf('team')).toBe(0.5);
    expect(codes(allocator.allocate('stranger', { computeShare: 0.6 }))).toEqual(['memory']);
    granted(allocator.allocate('w2', { owner: 'team', computeShare: 0.3 }));
    expect([...allocator.ledger.all()].map(({ kind }) => kind)).toEqual(['allocation', 'allocation']);
    expect(allocator.usageOf('team')).toBe(0.5);
  });

  test('a reservation stays usable when the idle GPU uses less than it did', () => {
    const shared = { mode: 'shared' as const, owner: 'team' };
    for (const shares of [[1], [0.5, 0.5]]) {
      const { allocator } = allocatorOf([gpuOf('GPU-1', { memoryUsedMb: known(3) })]);
      expect(allocator.reserve('team', { ...shared, computeShare: 1 }, 1_000)).toMatchObject({
        holdings: [{ memoryMb: 39_997 }],
      });
      allocator.setNode('n1', [gpuOf('GPU-1', { memoryUsedMb: known(1) })]);
      const given = shares.map((computeShare, i) => granted(allocator.allocate(`w${i}`, { ...shared, computeShare })));
      const sum = given.reduce((all, { allocation }) => all + allocation.holdings[0]!.memoryMb!, 0);
      expect(sum).toBeLessThanOrEqual(40_000);
      expect([...allocator.ledger.all()].map(({ kind }) => kind)).toEqual(shares.map(() => 'allocation'));
    }
  });

  test('reservations count for the bound of records too', () => {
    const holdings = [{ node: 'n1', gpuId: 'GPU-9', mode: 'shared' as const, memoryMb: 0, shareMilli: 0 }];
    const records = Array.from({ length: gpuLedgerLimits.maxRecords }, (_, i) => ({
      kind: 'reservation' as const,
      id: `reservation/other/${i}`,
      owner: 'other',
      request: '{}',
      holdings,
      since: 0,
      expiresAt: 1,
    }));
    const ledger = Ledger.restore({ version: 1, sequence: records.length, records });
    const allocator = new GpuAllocator({ clock: new VirtualClock(), ledger });
    allocator.setNode('n1', [gpuOf('GPU-1')]);
    expect(allocator.reserve('team', {}, 1_000)).toMatchObject({ granted: false, reason: 'records' });
    expect(allocator.allocate('w', {})).toMatchObject({ granted: false, reason: 'records' });
  });

  test('what has no lease any more is not handed out once more', () => {
    const { allocator, clock, events } = allocatorOf([gpuOf('GPU-1')]);
    const first = granted(allocator.allocate('w', { leaseMs: 5_000 })).allocation;
    clock.advance(5_000);
    const second = granted(allocator.allocate('w', { leaseMs: 5_000 })).allocation;
    expect(second.id).not.toBe(first.id);
    expect(second.expiresAt).toBe(clock.now() + 5_000);
    expect(allocator.expire()).toBe(0);
    expect(events.map(({ type, id }) => [type, id])).toEqual([
      ['allocated', first.id],
      ['expired', first.id],
      ['allocated', second.id],
    ]);
  });

  test('GPUs of a crashed owner come back, those with a heartbeat stay', () => {
    const { allocator, clock } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')]);
    const alive = granted(allocator.allocate('alive', { leaseMs: 5_000 })).allocation;
    const crashed = granted(allocator.allocate('crashed', { leaseMs: 5_000 })).allocation;
    granted(allocator.allocate('for-ever', { leaseMs: null }));
    for (let i = 0; i < 10; i++) {
      clock.advance(1_000);
      allocator.renew(alive.id);
      allocator.expire();
    }
    expect([...allocator.ledger.all()].map((record) => (record.kind === 'allocation' ? record.instance : ''))).toEqual(
      expect.arrayContaining(['alive', 'for-ever']),
    );
    expect(allocator.ledger.get(crashed.id)).toBeUndefined();
    expect(() => allocator.renew(crashed.id)).toThrow('IGU_GPU_ALLOCATION');
    expect(() => allocator.release(crashed.id)).toThrow('IGU_GPU_ALLOCATION');
  });
});

describe('gangs and priorities', () => {
  test('all members or none, across nodes', () => {
    const { allocator, events } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    allocator.setNode('n2', [gpuOf('GPU-3'), gpuOf('GPU-4')]);
    const member = (i: number, gpuCount: number) => ({ instance: `m${i}`, request: { gpuCount } });
    const denied = allocator.allocateGang('g', [member(1, 1), member(2, 2), member(3, 2)]);
    expect(denied).toMatchObject({ granted: false, what: expect.stringContaining('of gang g') });
    expect(events).toEqual([]);
    expect(allocator.ledger.size).toBe(0);
    const grants = allocator.allocateGang('g', [member(1, 1), member(2, 1), member(3, 2)]);
    expect(Array.isArray(grants) && grants.map(({ allocation }) => allocation.instance)).toEqual(['m1', 'm2', 'm3']);
    expect(events.map(({ record }) => record?.kind === 'allocation' && record.gang)).toEqual(['g', 'g', 'g']);
  });

  test('a refusal does not say that a member holds what it was never given', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')]);
    const stranger = granted(allocator.allocate('stranger', {}));
    granted(allocator.allocate('sharer', { computeShare: 0.1 }));
    const own = allocator.allocateGang('g', [{ instance: 'r0', request: {} }]);
    expect('granted' in own).toBe(false);
    const denied = allocator.allocateGang('g', [
      { instance: 'r0', request: {} },
      { instance: 'r1', request: { computeShare: 0.9 } },
      { instance: 'r2', request: { exclusive: true, computeShare: 0.5 } },
    ]) as GpuDenial;
    allocator.release(stranger.allocation.id);
    expect(denied).toMatchObject({ granted: false, what: expect.stringContaining('gang g') });
    const words = denied.gpus.map(({ what }) => what).sort();
    expect(words).toEqual([
      'it is held by r0',
      'it is held by sharer and needed by another member of gang g',
      'it is held by stranger',
    ]);
    const alone = allocatorOf([gpuOf('GPU-1')]).allocator;
    const two = ['r1', 'r2'].map((instance) => ({ instance, request: {} }));
    expect(alone.allocateGang('g', two)).toMatchObject({
      gpus: [{ what: 'it is needed by another member of gang g' }],
    });
    expect(() => alone.allocateGang('g', [two[0]!, { instance: 'bad', request: { gpuCount: -1 } }])).toThrow();
    granted(alone.allocate('r1', {}));
    expect(alone.allocate('w', {})).toMatchObject({ gpus: [{ what: 'it is held by r1' }] });
  });

  test('the least is lost, and nothing when it would not help', () => {
    const { allocator, clock, events } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')]);
    granted(allocator.allocate('old', { priority: 1 }));
    clock.advance(1_000);
    granted(allocator.allocate('young', { priority: 1 }));
    granted(allocator.allocate('important', { priority: 5 }));
    expect(allocator.allocate('polite', { priority: 3 }).granted).toBe(false);
    const answer = granted(allocator.allocate('urgent', { priority: 3, preempt: true }));
    expect(answer.preempted).toEqual([expect.stringContaining('young/')]);
    expect(events.slice(-2).map(({ type }) => type)).toEqual(['preempted', 'allocated']);
    const before = allocator.ledger.save();
    expect(allocator.allocate('greedy', { priority: 4, gpuCount: 3, preempt: true }).granted).toBe(false);
    expect(allocator.ledger.save()).toEqual(before);
  });

  test('of a gang all go or none, and none goes for another of its own', () => {
    const { allocator } = allocatorOf(['1', '2', '3'].map((i) => gpuOf(`GPU-${i}`)));
    const member = (instance: string, priority: number, preempt = false) => ({
      instance,
      request: { priority, preempt },
    });
    const gang = allocator.allocateGang('g', [member('m1', 1), member('m2', 1)]);
    if ('granted' in gang) throw new Error(gang.what);
    const alone = granted(allocator.allocate('alone', { priority: 1 }));
    // two would be lost of the gang, one otherwise
    expect(granted(allocator.allocate('u1', { priority: 2, preempt: true })).preempted).toEqual([alone.allocation.id]);
    const { preempted } = granted(allocator.allocate('u2', { priority: 2, preempt: true }));
    expect([...preempted].sort()).toEqual(gang.map(({ allocation }) => allocation.id).sort());
    granted(allocator.allocate('free again', { priority: 2 }));
    // one of a gang that is as important keeps all of it
    const mixed = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]).allocator;
    mixed.allocateGang('g', [member('m1', 1), member('m2', 5)]);
    expect(mixed.allocate('urgent', { priority: 3, preempt: true }).granted).toBe(false);
    const own = allocatorOf([gpuOf('GPU-1')]).allocator;
    expect(own.allocateGang('g', [member('low', 0), member('high', 1, true)])).toMatchObject({ granted: false });
    expect(own.ledger.size).toBe(0);
  });

  test('an instance is in a gang once', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1'), gpuOf('GPU-2')]);
    const twice = { instance: 'm', request: {} };
    expect(() => allocator.allocateGang('g', [twice, twice])).toThrow('IGU_GPU_REQUEST');
  });

  test('whoever goes makes room on GPUs that are alike', () => {
    const small = { name: 'Tesla T4', memoryTotalMb: known(15_360) };
    const { allocator } = allocatorOf([
      gpuOf('GPU-1', small),
      gpuOf('GPU-2'),
      gpuOf('GPU-3'),
      gpuOf('GPU-4', { ...small, health: healthOf('lost') }),
    ]);
    granted(allocator.allocate('cheap', { model: 'T4' }));
    const dear = granted(allocator.allocate('dear', { model: 'A100', gpuCount: 2, priority: 1 })).allocation;
    const answer = granted(allocator.allocate('urgent', { gpuCount: 2, priority: 2, preempt: true }));
    expect(answer.preempted).toEqual([dear.id]);
  });

  test('only those sharers go that must', () => {
    const { allocator } = allocatorOf([gpuOf('GPU-1')]);
    granted(allocator.allocate('small', { computeShare: 0.25 }));
    granted(allocator.allocate('large', { computeShare: 0.75 }));
    const answer = granted(allocator.allocate('urgent', { computeShare: 0.7, priority: 1, preempt: true }));
    expect(answer.preempted).toEqual([expect.stringContaining('large/')]);
  });
});

/** Operations of the property test, in random order. */
type Operation =
  | { readonly kind: 'allocate'; readonly instance: number; readonly request: GpuRequest }
  | { readonly kind: 'release' | 'renew'; readonly which: number }
  | { readonly kind: 'reserve'; readonly owner: number; readonly request: GpuRequest; readonly ttlMs: number }
  | { readonly kind: 'gang'; readonly instances: readonly number[]; readonly request: GpuRequest }
  | { readonly kind: 'time'; readonly ms: number }
  | { readonly kind: 'health'; readonly gpu: number; readonly ok: boolean }
  | { readonly kind: 'node'; readonly node: number; readonly there: boolean }
  | { readonly kind: 'crash'; readonly by: 'save' | 'replay' | 'compacted' };

const settings: readonly GpuSharing[] = [
  { mode: 'open' },
  { mode: 'open' },
  { mode: 'exclusive' },
  { mode: 'mps', replicas: 3 },
  { mode: 'time-slicing', replicas: 2 },
  { mode: 'mig', layout: 'dynamic' },
];
const request: fc.Arbitrary<GpuRequest> = fc.oneof(
  fc.record({ gpuCount: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    memoryMb: fc.constantFrom(4_000, 10_000, 25_000),
    priority: fc.integer({ min: 0, max: 2 }),
    preempt: fc.boolean(),
  }),
  fc.record({ computeShare: fc.constantFrom(0.1, 0.5, 1) }),
  fc.record({ mode: fc.constantFrom('mps' as const, 'time-slicing' as const, 'mig' as const, 'shared' as const) }),
  fc.record({ profile: fc.constantFrom('1g.5gb', '2g.10gb', '3g.20gb', '7g.40gb') }),
  fc.record({
    priority: fc.integer({ min: 0, max: 2 }),
    preempt: fc.boolean(),
    gpuCount: fc.integer({ min: 1, max: 2 }),
  }),
);
const index = fc.nat({ max: 11 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('allocate' as const), instance: index, request }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom('release' as const, 'renew' as const), which: fc.nat() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('reserve' as const),
      owner: index,
      request,
      ttlMs: fc.integer({ min: 1, max: 50_000 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('gang' as const),
      instances: fc.uniqueArray(index, { minLength: 1, maxLength: 4 }),
      request,
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.integer({ min: 0, max: 40_000 }) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('health' as const), gpu: fc.nat({ max: 11 }), ok: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('node' as const), node: fc.nat({ max: 1 }), there: fc.boolean() }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('crash' as const),
      by: fc.constantFrom('save' as const, 'replay' as const, 'compacted' as const),
    }),
  },
);

describe('whatever happens', () => {
  test('never too much is given, nothing is lost, and the events rebuild the ledger', () => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (operations) => {
        const run = new ModelRun();
        for (const one of operations) {
          run.perform(one);
          run.check();
        }
      }),
      { numRuns: Number(process.env.GPU_PROPERTY_RUNS ?? 150) },
    );
  });
});

const MEMORY = 40_960;
/** Of it, what the driver keeps. */
const RESERVED = 617;

/** Their order says nothing. */
function recordsOf(ledger: Ledger): LedgerRecord[] {
  return [...ledger.all()].sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** The allocator beside the simplest thing that could be right. */
class ModelRun {
  private readonly clock = new VirtualClock(0);
  private readonly events: LedgerEvent[] = [];
  /** Instance → when its lease is over. */
  private readonly live = new Map<string, { id: string; expiresAt: number; gpuIds: readonly string[] }>();
  private readonly healthy = new Map<string, boolean>();
  private readonly there = [true, true];
  private allocator = this.make(new Ledger());

  perform(one: Operation): void {
    switch (one.kind) {
      case 'allocate': {
        const instance = `w${one.instance}`;
        const before = this.live.get(instance);
        const foreseen = this.allocator.canAllocate(instance, one.request);
        const answer = this.allocator.allocate(instance, one.request);
        expect(foreseen).toEqual(answer);
        if (before) {
          if (answer.granted) expect(answer.allocation.id).toBe(before.id);
        } else if (answer.granted) this.take(answer);
        else this.expectNoRoom(one.request, answer);
        return;
      }
      case 'gang': {
        const instances = one.instances.map((i) => `w${i}`).filter((instance) => !this.live.has(instance));
        const before = [this.allocator.ledger.sequence, recordsOf(this.allocator.ledger)];
        const answer = this.allocator.allocateGang(
          'g',
          instances.map((instance) => ({ instance, request: one.request })),
        );
        if ('granted' in answer)
          expect([this.allocator.ledger.sequence, recordsOf(this.allocator.ledger)]).toEqual(before);
        else for (const grant of answer) this.take(grant);
        return;
      }
      case 'release':
      case 'renew': {
        const [instance, known] = [...this.live][one.which % Math.max(1, this.live.size)] ?? [];
        if (!known || instance === undefined) return;
        if (one.kind === 'release') {
          this.allocator.release(known.id);
          this.live.delete(instance);
        } else {
          this.allocator.renew(known.id);
          known.expiresAt = this.clock.now() + 60_000;
        }
        return;
      }
      case 'reserve': {
        const answer = this.allocator.reserve(`w${one.owner}`, one.request, one.ttlMs);
        if ('granted' in answer) this.expectNoRoom(one.request, answer);
        return;
      }
      case 'time':
        this.clock.advance(one.ms);
        this.allocator.expire();
        for (const [instance, { expiresAt }] of this.live)
          if (expiresAt <= this.clock.now()) this.live.delete(instance);
        return;
      case 'health':
        this.healthy.set(`GPU-${one.gpu}`, one.ok);
        this.tell(this.allocator);
        return;
      case 'node':
        this.there[one.node] = one.there;
        this.tell(this.allocator);
        return;
      case 'crash': {
        const state = this.allocator.ledger.save();
        this.allocator = this.make(
          one.by === 'save' ? Ledger.restore(JSON.parse(JSON.stringify(state))) : this.replay(one.by),
        );
        return;
      }
    }
  }

  check(): void {
    const { ledger } = this.allocator;
    const instances = [...ledger.all()].flatMap((record) => (record.kind === 'allocation' ? [record.instance] : []));
    expect(instances.sort()).toEqual([...this.live.keys()].sort());
    expect(recordsOf(this.replay('replay'))).toEqual(recordsOf(ledger));
    expect(recordsOf(this.replay('compacted'))).toEqual(recordsOf(ledger));
    for (let g = 0; g < 12; g++) this.checkGpu(`GPU-${g}`, settings[g % settings.length]!, ledger);
  }

  private checkGpu(id: string, sharing: GpuSharing, ledger: Ledger): void {
    const holdings = [...ledger.all()].flatMap((record) => record.holdings.filter(({ gpuId }) => gpuId === id));
    const total = (of: 'memoryMb' | 'shareMilli') => holdings.reduce((sum, holding) => sum + (holding[of] ?? 0), 0);
    expect(total('shareMilli')).toBeLessThanOrEqual(1_000);
    expect(total('memoryMb')).toBeLessThanOrEqual(MEMORY - RESERVED);
    if (holdings.some(({ mode }) => mode === 'exclusive')) expect(holdings).toHaveLength(1);
    if ('replicas' in sharing) expect(holdings.length).toBeLessThanOrEqual(sharing.replicas);
    if (sharing.mode !== 'mig') return;
    const table = migTableOf(migModelOf('NVIDIA A100-SXM4-40GB')!);
    const positions = holdings.map(({ partition }) => table.positionOf(partition!.profile, partition!.start!));
    expect(table.layoutOf(positions)).toBeGreaterThanOrEqual(0);
  }

  private take(grant: GpuGrant): void {
    for (const id of grant.gpuIds) {
      const at = Number(id.slice(4));
      expect(this.healthy.get(id) ?? true).toBe(true);
      expect(this.there[at < 6 ? 0 : 1]).toBe(true);
    }
    for (const id of grant.preempted)
      for (const [instance, known] of this.live) if (known.id === id) this.live.delete(instance);
    this.live.set(grant.allocation.instance, {
      id: grant.allocation.id,
      expiresAt: this.clock.now() + 60_000,
      gpuIds: grant.gpuIds,
    });
  }

  /** A refusal of whole GPUs is true: no node has so many that are free. */
  private expectNoRoom(asked: GpuRequest, { gpus }: GpuDenial): void {
    expect(new Set(gpus.map(({ gpuId }) => gpuId)).size).toBe(gpus.length);
    if (asked.memoryMb !== undefined || asked.computeShare !== undefined || asked.profile !== undefined || asked.mode)
      return;
    const held = new Set(
      [...this.allocator.ledger.all()].flatMap(({ holdings }) => holdings.map(({ gpuId }) => gpuId)),
    );
    for (const node of [0, 1]) {
      if (!this.there[node]) continue;
      // Alike are those with one setting.
      for (const modes of ['open', 'exclusive']) {
        const free = Array.from({ length: 6 }, (_, i) => node * 6 + i).filter(
          (g) =>
            settings[g % settings.length]!.mode === modes &&
            !held.has(`GPU-${g}`) &&
            (this.healthy.get(`GPU-${g}`) ?? true),
        );
        expect(free.length).toBeLessThan(asked.gpuCount ?? 1);
      }
    }
  }

  private replay(by: 'replay' | 'compacted'): Ledger {
    const last = new Map(this.events.map((event) => [event.id, event.sequence]));
    const ledger = new Ledger();
    for (const event of this.events) {
      if (by === 'compacted' && last.get(event.id) !== event.sequence) continue;
      expect(ledger.apply(event)).toBe(true);
      expect(ledger.apply(event)).toBe(false);
    }
    return ledger;
  }

  private make(ledger: Ledger): GpuAllocator {
    const allocator = new GpuAllocator({
      clock: this.clock,
      ledger,
      sharing: (_, { id }) => settings[Number(id.slice(4)) % settings.length]!,
      onEvent: (event) => this.events.push(event),
    });
    this.tell(allocator);
    return allocator;
  }

  private tell(allocator: GpuAllocator): void {
    this.there.forEach((there, node) => {
      if (!there) {
        allocator.removeNode(`n${node}`);
        return;
      }
      const gpus = Array.from({ length: 6 }, (_, i) => {
        const id = `GPU-${node * 6 + i}`;
        return gpuOf(id, {
          health: healthOf((this.healthy.get(id) ?? true) ? 'ok' : 'draining'),
          memoryTotalMb: known(MEMORY),
          memoryReservedMb: known(RESERVED),
        });
      });
      allocator.setNode(`n${node}`, gpus);
    });
  }
}
