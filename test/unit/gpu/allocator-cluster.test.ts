import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { GpuAllocator } from '../../../src/gpu/allocator.js';
import { type GpuRequest, type GpuSharing, judge } from '../../../src/gpu/allocator-rules.js';
import { Ledger } from '../../../src/gpu/ledger.js';
import type { DemandShare } from '../../../src/gpu/placement/demand.js';
import { placementPolicies } from '../../../src/gpu/placement/inflation.js';
import { absent, type Gpu, type GpuPartition, type GpuProcess, known } from '../../../src/gpu/types.js';
import { gpuOf, healthOf } from './gpu-fixture.js';

// What is kept of earlier answers must never show: after any change the allocator answers like one that has just begun, and names for each GPU what the rules say of it.

const requests: readonly GpuRequest[] = [
  {},
  { gpuCount: 2 },
  { gpuCount: 3, model: 'A100' },
  { computeShare: 0.25 },
  { computeShare: 0.6, model: 'T4' },
  { memoryMb: 9_000 },
  { memoryMb: 5_000, gpuCount: 2 },
  { mode: 'time-slicing' },
  { mode: 'mps' },
  { profile: '2g.10gb' },
  { mode: 'mig', memoryMb: 4_000 },
  { exclusive: true, memoryMb: 14_000 },
  { node: 'n1' },
  { minComputeCapability: '8.0' },
];

const sharings: readonly GpuSharing[] = [
  { mode: 'open' },
  { mode: 'open' },
  { mode: 'exclusive' },
  { mode: 'shared' },
  { mode: 'mps', replicas: 3 },
  { mode: 'time-slicing', replicas: 2 },
  { mode: 'mig', layout: 'dynamic' },
  { mode: 'mig', layout: 'static' },
];

const stranger: GpuProcess = { pid: 7, name: known('python3'), memoryMb: known(100), partition: known('other') };
const partition = (id: string, start: number): GpuPartition => ({
  id,
  profile: known('2g.10gb'),
  gpuInstance: known(start),
  computeInstance: known(0),
  placement: known({ start, size: 2 }),
  memoryTotalMb: known(9_856),
  memoryUsedMb: known(0),
});

/** What may become of a GPU from one inventory to the next. */
const changes: readonly Partial<Gpu>[] = [
  {},
  { temperature: known(80), utilization: known(99), power: known(300), seenAt: 5 },
  { memoryUsedMb: known(500) },
  { memoryUsedMb: known(12_000) },
  { memoryReservedMb: known(600) },
  { processes: [stranger] },
  { processes: [{ ...stranger, pid: 8 }, stranger] },
  { processes: null },
  { health: healthOf('degraded') },
  { health: healthOf('draining') },
  { health: healthOf('lost') },
  { stale: true },
  { computeMode: known('Exclusive_Process') },
  { computeMode: known('Prohibited') },
  { partitionMode: known('enabled') },
  { partitionMode: known('enabled'), partitions: [partition('MIG-a', 0), partition('MIG-b', 4)] },
  {
    partitionMode: known('enabled'),
    partitions: [partition('MIG-a', 0)],
    processes: [{ ...stranger, partition: known('MIG-a') }],
  },
  { name: 'Tesla T4', memoryTotalMb: known(15_360), architecture: known('7.5') },
  { memoryTotalMb: absent('lost') },
  { architecture: absent('not-reported') },
];

const demandOf = (gpuCount: number, gpuMilli: number, models?: string[]): DemandShare['demand'] => ({
  cpuMilli: 0,
  memoryMb: 0,
  gpuCount,
  gpuMilli,
  ...(models && { models }),
});
const mixes: readonly (readonly DemandShare[])[] = [
  [
    { demand: { ...demandOf(1, 1), gpuMemoryMb: 12_000 }, share: 0.6 },
    { demand: { ...demandOf(1, 1_000), gpuMemoryMb: 39_500 }, share: 0.2 },
    { demand: demandOf(1, 1_000), share: 0.2 },
  ],
  [{ demand: demandOf(1, 1_000), share: 1 }],
  [
    { demand: demandOf(1, 250), share: 0.5 },
    { demand: demandOf(1, 600, ['Tesla T4']), share: 0.3 },
    { demand: demandOf(2, 1_000), share: 0.2 },
  ],
];

const NODES = 3;
const GPUS = 4;
const at = { node: fc.nat({ max: NODES - 1 }), gpu: fc.nat({ max: GPUS - 1 }) };
const operation = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('allocate' as const),
      request: fc.constantFrom(...requests),
      priority: fc.nat({ max: 2 }),
      preempt: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), which: fc.nat() }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('reserve' as const), request: fc.constantFrom(...requests) }),
  },
  {
    weight: 6,
    arbitrary: fc.record({ kind: fc.constant('tell' as const), ...at, change: fc.constantFrom(...changes) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('remove' as const), node: at.node }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('move' as const), ...at, to: at.node }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('share' as const), ...at, sharing: fc.constantFrom(...sharings) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('expect' as const), mix: fc.constantFrom(...mixes) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('time' as const), ms: fc.nat({ max: 50_000 }) }) },
);
type Operation = typeof operation extends fc.Arbitrary<infer T> ? T : never;

class Run {
  private readonly clock = new VirtualClock(0);
  private readonly sharing = new Map<string, GpuSharing>();
  private readonly told = new Map<string, Gpu[]>();
  private readonly options;
  private mix = mixes[1]!;
  private readonly allocator: GpuAllocator;
  private count = 0;

  constructor(policy: keyof typeof placementPolicies, first: readonly GpuSharing[]) {
    this.options = {
      clock: this.clock,
      policy,
      sharing: (_: string, { id }: Gpu) => this.sharing.get(id) ?? sharings[0]!,
    };
    this.allocator = new GpuAllocator(this.options);
    this.allocator.expect(this.mix);
    for (let node = 0; node < NODES; node++) {
      const ids = Array.from({ length: GPUS }, (_, g) => `GPU-${node}-${g}`);
      ids.forEach((id, g) => {
        this.sharing.set(id, first[(node * GPUS + g) % first.length] ?? sharings[0]!);
      });
      this.tell(
        node,
        ids.map((id) => gpuOf(id)),
      );
    }
  }

  perform(one: Operation): void {
    switch (one.kind) {
      case 'allocate': {
        const { request, priority, preempt } = one;
        this.allocator.allocate(`w${this.count++}`, { ...request, priority, preempt });
        return;
      }
      case 'release': {
        const records = [...this.allocator.ledger.all()];
        const record = records[one.which % Math.max(1, records.length)];
        if (record) this.allocator.release(record.id);
        return;
      }
      case 'reserve':
        this.allocator.reserve('team', one.request, 60_000);
        return;
      case 'tell': {
        const gpus = this.told.get(`n${one.node}`) ?? [];
        this.tell(
          one.node,
          gpus.map((gpu, g) => (g === one.gpu ? gpuOf(gpu.id, one.change) : { ...gpu })),
        );
        return;
      }
      case 'remove':
        this.allocator.removeNode(`n${one.node}`);
        this.told.delete(`n${one.node}`);
        return;
      case 'move': {
        const gpu = this.told.get(`n${one.node}`)?.[one.gpu];
        if (!gpu || one.to === one.node) return;
        const from = this.told.get(`n${one.node}`)!;
        this.told.set(
          `n${one.node}`,
          from.filter((other) => other !== gpu),
        );
        this.tell(one.to, [...(this.told.get(`n${one.to}`) ?? []), gpu]);
        return;
      }
      case 'share':
        this.sharing.set(`GPU-${one.node}-${one.gpu}`, one.sharing);
        for (const [node, gpus] of this.told) this.allocator.setNode(node, gpus);
        return;
      case 'expect':
        this.mix = one.mix;
        this.allocator.expect(one.mix);
        return;
      case 'time':
        this.clock.advance(one.ms);
        this.allocator.expire();
    }
  }

  check(asked: readonly GpuRequest[]): void {
    const fresh = new GpuAllocator({ ...this.options, ledger: Ledger.restore(this.allocator.ledger.save()) });
    fresh.expect(this.mix);
    for (const [node, gpus] of this.told) fresh.setNode(node, gpus);
    for (const request of asked) {
      const naive = this.judgeAll(request);
      const { fits, gpus } = this.allocator.explain(request);
      expect([...fits].sort()).toEqual(naive.fits);
      expect(gpus.map(({ node, gpuId, code, what }) => `${node} ${gpuId} ${code}: ${what}`).sort()).toEqual(naive.gpus);
      const answer = this.allocator.canAllocate('probe', request);
      expect(answer).toEqual(fresh.canAllocate('probe', request));
      expect(answer.granted).toBe(naive.somewhere);
      if (answer.granted) for (const id of answer.gpuIds) expect(naive.fits).toContain(id);
    }
  }

  /** The rules on each GPU, one by one, as nothing but the ledger and what was told say. */
  private judgeAll(request: GpuRequest): { fits: string[]; gpus: string[]; somewhere: boolean } {
    const fits: string[] = [];
    const gpus: string[] = [];
    const alike = new Map<string, number>();
    for (const [node, list] of this.told)
      for (const gpu of list) {
        const sharing = this.options.sharing(node, gpu);
        const verdict = judge(request, { node, gpu, sharing, holders: this.allocator.ledger.holdersOf(gpu.id) });
        if ('offer' in verdict) {
          fits.push(gpu.id);
          const { vendor, name, architecture, memoryTotalMb } = gpu;
          const key = JSON.stringify([node, vendor, name, architecture.value, memoryTotalMb.value, sharing]);
          alike.set(key, (alike.get(key) ?? 0) + 1);
        } else gpus.push(`${node} ${gpu.id} ${verdict.code}: ${verdict.say()}`);
      }
    const somewhere = [...alike.values()].some((count) => count >= (request.gpuCount ?? 1));
    return { fits: fits.sort(), gpus: gpus.sort(), somewhere };
  }

  private tell(node: number, gpus: Gpu[]): void {
    this.told.set(`n${node}`, gpus);
    this.allocator.setNode(`n${node}`, gpus);
  }
}

describe.each(Object.keys(placementPolicies) as (keyof typeof placementPolicies)[])('%s', (policy) => {
  test('answers from what is kept as one that judges all anew', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...sharings), { minLength: 1, maxLength: 6 }),
        fc.array(fc.tuple(operation, fc.shuffledSubarray([...requests], { maxLength: 3 })), { maxLength: 40 }),
        (first, operations) => {
          const run = new Run(policy, first);
          run.check(requests);
          for (const [one, asked] of operations) {
            run.perform(one);
            run.check(asked);
          }
          run.check(requests);
        },
      ),
      { numRuns: Number(process.env.GPU_PROPERTY_RUNS ?? 25) },
    );
  });
});

test('more shapes of requests than are kept are answered all the same', () => {
  const allocator = new GpuAllocator({ clock: new VirtualClock(0) });
  allocator.setNode('n1', [gpuOf('GPU-1'), gpuOf('GPU-2')]);
  for (let round = 0; round < 3; round++)
    for (let shape = 1; shape <= 120; shape++) {
      const answer = allocator.canAllocate('w', { memoryMb: shape * 400 });
      expect(answer.granted).toBe(shape <= 100);
    }
});

test('a GPU that another node tells of has moved there', () => {
  const allocator = new GpuAllocator({ clock: new VirtualClock(0) });
  allocator.setNode('n1', [gpuOf('GPU-1'), gpuOf('GPU-2')]);
  allocator.setNode('n2', [gpuOf('GPU-2')]);
  expect(allocator.canAllocate('w', { gpuCount: 2 }).granted).toBe(false);
  expect(allocator.canAllocate('w', { node: 'n2' })).toMatchObject({ granted: true, gpuId: 'GPU-2' });
  allocator.setNode('n1', [gpuOf('GPU-1'), gpuOf('GPU-2')]);
  expect(allocator.canAllocate('w', { gpuCount: 2 }).granted).toBe(true);
  expect(allocator.canAllocate('w', { node: 'n2' }).granted).toBe(false);
});
