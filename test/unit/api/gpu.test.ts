import { afterEach, describe, expect, it, vi } from 'vitest';
import { usedGpus } from '../../../src/api/gpu.js';
import { VirtualClock } from '../../../src/clock.js';
import type { IguanaError } from '../../../src/errors.js';
import { absent, known } from '../../../src/gpu/types.js';
import { GpuRefusedError, gpu } from '../../../src/index.js';
import { gpuOf } from '../gpu/gpu-fixture.js';

const busy = gpuOf('GPU-1', {
  memoryUsedMb: known(1_024),
  utilization: known(0),
  temperature: absent('no-permission'),
  power: known(61.5),
  processes: [{ pid: 7, name: known('python'), memoryMb: absent('not-supported'), partition: absent('not-supported') }],
});
const nodes = {
  here: [busy, gpuOf('GPU-2')],
  there: [gpuOf('GPU-3', { name: 'Tesla T4', memoryTotalMb: known(15_000) })],
};

afterEach(() => gpu.close());

describe('gpu', () => {
  it('finds GPUs with facts in known units, and says why one is missing', async () => {
    await gpu.configure({ nodes });
    const [first, , third] = await gpu.discover();
    expect(first).toMatchObject({
      id: 'GPU-1',
      node: 'here',
      memoryTotal: 40_000,
      memoryUsed: 1_024,
      memoryFree: null,
      utilization: 0,
      temperature: null,
      power: 61.5,
      absent: { temperature: 'no-permission', memoryFree: 'not-reported' },
    });
    expect(Object.keys(first!.absent)).not.toContain('utilization');
    expect([third!.node, third!.name]).toEqual(['there', 'Tesla T4']);
    expect(await gpu.processes('GPU-1')).toEqual([
      {
        pid: 7,
        name: 'python',
        memory: null,
        partition: null,
        absent: { memory: 'not-supported', partition: 'not-supported' },
      },
    ]);
    expect(await gpu.getUtilization('GPU-1')).toMatchObject({ utilization: 0, memoryUsed: 1_024 });
    await expect(gpu.getUtilization('GPU-9')).rejects.toThrow(/IGU_NOT_FOUND no GPU named GPU-9; gpu\.discover/);
  });

  it('allocates, says what it would, and takes back by id, name or grant', async () => {
    await gpu.configure({ nodes, quotas: { small: 1 } });
    expect(await gpu.stats()).toMatchObject({ granted: 0, averageWaitMs: null });
    const whole = await gpu.allocate('ml-worker-1', { node: 'here' });
    expect(whole).toMatchObject({ gpuId: 'GPU-2', gpuIds: ['GPU-2'], mode: 'exclusive' });
    expect(whole.environment).toEqual({ CUDA_VISIBLE_DEVICES: 'GPU-2' });
    expect((await gpu.allocate('ml-worker-1', { node: 'here' })).allocation.id).toBe(whole.allocation.id);
    expect((await gpu.canAllocate('other', { memoryMb: 38_000 })).granted).toBe(true);
    expect(await gpu.canAllocate('other', { model: 'A100' })).toMatchObject({ granted: false, reason: 'gpus' });
    expect(await gpu.explain({ memoryMb: 20_000 })).toMatchObject({
      fits: ['GPU-1'],
      gpus: [{ code: 'held' }, { code: 'memory' }],
    });
    expect(await gpu.stats()).toMatchObject({ gpus: 3, nodes: 2, allocations: 1, granted: 1, role: 'local' });
    expect((await gpu.renew(whole)).id).toBe(whole.allocation.id);
    await gpu.deallocate(whole);
    await expect(gpu.deallocate('ml-worker-1')).rejects.toThrow(/IGU_GPU_ALLOCATION/);
    const half = await gpu.allocate('half', { computeShare: 0.5, memoryMb: 1_000, owner: 'small' });
    expect(half.mode).toBe('shared');
    await expect(gpu.allocate('more', { owner: 'small', model: 'A100' })).rejects.toThrow(
      /IGU_GPU_REFUSED no GPU for more: .*small/,
    );
    await gpu.deallocate('half');
    expect(await gpu.allocations()).toEqual([]);
    expect((await gpu.plan()).moves).toEqual([]);
  });

  it('refuses with the reasons in the message, and all of them beside it', async () => {
    await gpu.configure({ nodes });
    const error = await gpu.allocate('big', { memoryMb: 90_000, model: 'A100' }).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(GpuRefusedError);
    const { code, message, denial } = error as GpuRefusedError;
    expect(code).toBe('IGU_GPU_REFUSED');
    expect(message).toMatch(
      /none of 3 GPUs will do: memory 2, model 1 \(memory: GPU-1 of here: 90000 MiB are asked for/,
    );
    expect(denial.gpus.map((one) => [one.gpuId, one.code])).toEqual([
      ['GPU-1', 'memory'],
      ['GPU-2', 'memory'],
      ['GPU-3', 'model'],
    ]);
    await expect(gpu.allocate('wrong', { computeShare: 2 })).rejects.toThrow(
      /IGU_GPU_REQUEST .*wrong cannot be: computeShare/,
    );
    await expect(
      gpu.allocateGang('ring', [
        { instance: 'r0', request: { model: 'A100' } },
        { instance: 'r1', request: { model: 'A100' } },
      ]),
    ).rejects.toThrow(/IGU_GPU_REFUSED no GPU for ring/);
    expect(await gpu.allocations()).toEqual([]);
  });

  it('keeps reservations for their owner, and waits for room', async () => {
    await gpu.configure({ nodes: { here: [gpuOf('GPU-1')] } });
    const kept = await gpu.reserve('team-a', { forMs: 60_000 });
    expect(kept.holdings.map(({ gpuId }) => gpuId)).toEqual(['GPU-1']);
    await expect(gpu.reserve('team-b')).rejects.toThrow(GpuRefusedError);
    const mine = await gpu.allocate('a', { owner: 'team-a' });
    expect(mine.gpuId).toBe('GPU-1');
    const later = gpu.allocate('b', { waitMs: 60_000 });
    expect(await gpu.waiting()).toMatchObject([{ instance: 'b', gpuCount: 1 }]);
    await gpu.deallocate('a');
    expect((await later).gpuId).toBe('GPU-1');
  });

  it('is configured before it is used, once, and begins anew after close', async () => {
    await gpu.configure({ nodes, sharing: { mode: 'mps', replicas: 4 } });
    await expect(gpu.configure({ nodes })).rejects.toThrow(/IGU_USAGE/);
    const { environment } = await gpu.allocate('client', { computeShare: 0.25 });
    expect(environment).toMatchObject({ CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '25' });
    await gpu.close();
    await expect(gpu.configure({ nodes, sharing: { mode: 'mps', replicas: 0 } })).rejects.toThrow(
      /IGU_CONFIG sharing\.0\.replicas: /,
    );
    await gpu.configure({
      nodes,
      sharing: [
        { node: 'th*', mode: 'exclusive' },
        { mode: 'time-slicing', replicas: 2 },
      ],
    });
    expect((await gpu.explain({ computeShare: 0.5 })).gpus.map(({ gpuId, code }) => [gpuId, code])).toEqual([
      ['GPU-3', 'mode'],
    ]);
    await gpu.close();
    await gpu.configure({ nodes: {} });
    expect(await gpu.discover()).toEqual([]);
    await expect(gpu.allocate('none')).rejects.toThrow(/IGU_GPU_REFUSED no GPU for none: there are no GPUs/);
  });

  it('renews what it allocated while the process runs, and tells what is lost all the same', async () => {
    const clock = new VirtualClock(1_000_000);
    await gpu.configure({ nodes: { here: [gpuOf('GPU-1'), gpuOf('GPU-2')] }, clock });
    const pass = async (seconds: number): Promise<void> => {
      for (let second = 0; second < seconds; second++) {
        clock.advance(1_000);
        for (let turns = 0; turns < 20; turns++) await Promise.resolve();
      }
    };
    const lost: string[] = [];
    const first = await gpu.allocate('first', { leaseMs: 30_000, onLost: (why) => lost.push(why) });
    await gpu.allocate('second', { leaseMs: 30_000, keep: false });
    await pass(45);
    expect((await gpu.allocations()).map((record) => record.id)).toEqual([first.allocation.id]);
    await gpu.allocate('urgent', { gpuCount: 2, priority: 5, preempt: true });
    await pass(11);
    expect(lost).toEqual([
      expect.stringMatching(/^IGU_GPU_ALLOCATION .* first\/\d+: another of higher priority took its GPUs \(urgent /),
    ]);
  });

  it('does not tell that what is given back is lost, when a heartbeat is due meanwhile', async () => {
    const clock = new VirtualClock(1_000);
    await gpu.configure({ nodes, clock });
    const lost: string[] = [];
    await gpu.allocate('worker', { onLost: (why) => lost.push(why) });
    const { service } = await usedGpus();
    const release = service.release.bind(service);
    // as over topics, where others know it before its answer is here
    vi.spyOn(service, 'release').mockImplementation(async (id) => {
      await release(id);
      clock.advance(25_000);
      await new Promise((resolve) => setImmediate(resolve));
    });
    await gpu.deallocate('worker');
    const onLost = (why: string): number => lost.push(why);
    await gpu.allocateGang('ring', [{ instance: 'r0' }, { instance: 'r1' }], { onLost });
    // an instance of that name that waits is meant before the gang
    const waits = expect(gpu.allocate('ring', { gpuCount: 2, waitMs: 60_000 })).rejects.toThrow(/not wanted any more/);
    await gpu.deallocate('ring');
    await waits;
    expect(await gpu.allocations()).toHaveLength(2);
    await gpu.deallocate('ring');
    expect(await gpu.allocations()).toEqual([]);
    expect(lost).toEqual([]);
  });

  it('refuses options that cannot be before it begins, and takes none for a misspelt one', async () => {
    const wrong = async (options: object): Promise<string> =>
      gpu.configure({ nodes, ...options } as never).then(
        () => 'accepted',
        (error: IguanaError) => `${error.code} ${error.message}`,
      );
    expect(await wrong({ policy: 'bestfit' })).toMatch(/^IGU_CONFIG .*gpu\.configure: policy: .*"best-fit"/);
    expect(await wrong({ quota: { a: 1 } })).toMatch(/^IGU_CONFIG .*gpu\.configure: .*"quota"/);
    expect(await wrong({ quotas: { a: -1 } })).toMatch(/^IGU_CONFIG .*quotas\.a: /);
    expect(await wrong({ everyMs: -5 })).toMatch(/^IGU_CONFIG .*everyMs: /);
    expect(await wrong({ nodes: { a: [null] } })).toMatch(/^IGU_CONFIG .*nodes\.a\.0: it is no GPU/);
    for (const [options, what] of [
      [{ brokers: [] }, /brokers/],
      [{ brokers: ['127.0.0.1:1'], agnet: false }, /"agnet"/],
      [{ brokers: ['127.0.0.1:1'], preallocate: [{ owner: 'a', model: 'b', leadMs: 0 }] }, /preallocate\.0\.leadMs/],
      [undefined, /gpu\.connect/],
    ] as const)
      await expect(gpu.connect(options as never)).rejects.toMatchObject({
        code: 'IGU_CONFIG',
        message: expect.stringMatching(what),
      });
    await gpu.configure({ nodes, policy: 'best-fit', quotas: { a: 0.5 }, everyMs: 1_000 });
    expect((await gpu.allocate('x')).granted).toBe(true);
  });

  it('says that no broker answers', async () => {
    await expect(gpu.connect({ brokers: ['127.0.0.1:1'] })).rejects.toMatchObject({ code: 'IGU_BROKER_UNREACHABLE' });
    await gpu.configure({ nodes });
  }, 20_000);

  it('gives a gang whose members say nothing but their names', async () => {
    await gpu.configure({ nodes });
    const grants = await gpu.allocateGang('g', [{ instance: 'a' }, { instance: 'b', request: { model: 'A100' } }]);
    expect(grants.map(({ allocation, gpuIds }) => [allocation.instance, gpuIds.length])).toEqual([
      ['a', 1],
      ['b', 1],
    ]);
  });

  it('has a code for every call that cannot be meant', async () => {
    await gpu.configure({ nodes });
    const calls: readonly [() => Promise<unknown>, string][] = [
      [() => gpu.deallocate(undefined as never), 'IGU_GPU_REQUEST'],
      [() => gpu.deallocate({} as never), 'IGU_GPU_REQUEST'],
      [() => gpu.renew(null as never), 'IGU_GPU_REQUEST'],
      [() => gpu.allocate('evil\u001b[31m'), 'IGU_GPU_REQUEST'],
      [() => gpu.allocate('x', { owner: 'a\nb' }), 'IGU_GPU_REQUEST'],
      [() => gpu.allocate('x', null as never), 'IGU_GPU_REQUEST'],
      [() => gpu.allocate('x', 7 as never), 'IGU_GPU_REQUEST'],
      [() => gpu.allocate('x', { keep: 'no' } as never), 'IGU_CONFIG'],
      [() => gpu.allocate('x', { onLost: 'tell' } as never), 'IGU_CONFIG'],
      [() => gpu.reserve('x', null as never), 'IGU_GPU_REQUEST'],
      [() => gpu.canAllocate('x', null as never), 'IGU_GPU_REQUEST'],
      [() => gpu.explain(null as never), 'IGU_GPU_REQUEST'],
      [() => gpu.allocateGang('g', { members: [] } as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', undefined as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', [null] as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', [{ instance: 'a', gpuCount: 2 }] as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', [{}] as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', [{ instance: 7 }] as never), 'IGU_GPU_REQUEST'],
      [() => gpu.allocateGang('g', [{ instance: 'a' }], { model: 'T4' } as never), 'IGU_CONFIG'],
      [() => gpu.allocateGang('g', [{ instance: 'a' }], null as never), 'IGU_GPU_REQUEST'],
    ];
    for (const [call, code] of calls) await expect(call(), String(call)).rejects.toMatchObject({ code });
    expect(await gpu.allocations()).toEqual([]);
  });

  it('names what cannot be meant as the program said it', async () => {
    await gpu.configure({ nodes });
    await expect(gpu.allocate('')).rejects.toThrow(/IGU_GPU_REQUEST .*a name of 1 to 256 characters/);
    await expect(gpu.allocate('a\u0007')).rejects.toThrow(/"a\\u0007" cannot be: its name: it has a control character/);
    await expect(gpu.allocate('..')).rejects.toThrow(/cannot be: its name: \. and \.\. cannot be in an address/);
    await expect(gpu.allocate('x', { waitMs: -1 })).rejects.toThrow(/IGU_GPU_REQUEST .*waitMs: 0 to \d+ ms/);
    await expect(gpu.reserve('x', { forMs: Number.NaN })).rejects.toThrow(/IGU_GPU_REQUEST .*forMs: .*not NaN/);
    await expect(gpu.allocateGang('g', [], { waitMs: Number.POSITIVE_INFINITY })).rejects.toThrow(/waitMs/);
    expect((await gpu.reserve('x', { forMs: 1_000.5 })).kind).toBe('reservation');
  });
});
