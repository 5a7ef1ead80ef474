import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ProcessCluster } from '../../src/cluster/process-cluster.js';
import { constellation, GpuRefusedError, gpu } from '../../src/index.js';
import { until } from '../support/kafka.js';
import { gpuOf } from '../unit/gpu/gpu-fixture.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-deploy-'));
const printed: string[] = [];
const onOutput = (id: string, text: string): void => {
  for (const line of text.trim().split('\n')) printed.push(`${id}: ${line}`);
};
const tell =
  "console.log('sees', process.env.CUDA_VISIBLE_DEVICES, process.argv[2] ?? '-'); setInterval(() => {}, 1000);\n";
const made: string[] = [];

function write(name: string, text: string): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  return file;
}

beforeEach(async () => {
  printed.length = 0;
  await gpu.configure({ nodes: { here: [gpuOf('GPU-1'), gpuOf('GPU-2'), gpuOf('GPU-3')] } });
});
afterEach(async () => {
  for (const name of made.splice(0)) await constellation.destroy(name).catch(() => undefined);
  await gpu.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

const holders = async (): Promise<string[]> =>
  (await gpu.allocations())
    .map((r) => `${r.kind === 'allocation' ? r.instance : `for ${r.owner}`} ${r.holdings.length}`)
    .sort();

describe('constellation.deploy', () => {
  it('starts a script on GPUs of its own, keeps them over restarts, and gives them back', async () => {
    made.push('ml-worker-1');
    const script = write('worker.js', tell);
    const options = { script, args: ['--fast'], gpu: 2, graceMs: 2_000, onOutput };
    const deployed = await constellation.deploy('ml-worker-1', options);
    expect(deployed).toMatchObject({ id: 'ml-worker-1', state: 'running' });
    expect(deployed.gpuIds).toHaveLength(2);
    const line = `ml-worker-1: sees ${deployed.gpuIds.join(',')} --fast`;
    await until('what it sees', () => printed.includes(line));
    await constellation.restartInstance('ml-worker-1');
    await until('the same again', () => printed.filter((one) => one === line).length === 2);
    process.kill(constellation.list('ml-worker-1')[0]!.pid!, 'SIGKILL');
    await until('and after a crash', () => printed.filter((one) => one === line).length === 3);
    expect(await holders()).toEqual(['ml-worker-1 2']);
    await expect(constellation.deploy('ml-worker-1', options)).rejects.toThrow(/IGU_USAGE there is a cluster named/);
    await constellation.destroy('ml-worker-1');
    expect(await holders()).toEqual([]);
  }, 20_000);

  it('starts scripts by their ending', async () => {
    made.push('ts', 'sh', 'plain');
    const typed =
      "enum Word { Sees = 'typed sees' }\nconst shown: string | undefined = process.env.CUDA_VISIBLE_DEVICES;\nconsole.log(Word.Sees, shown); setInterval(() => {}, 1000);\n";
    await constellation.deploy('ts', { script: write('worker.ts', typed), gpuShare: 0.5, graceMs: 2_000, onOutput });
    const program = write('worker.sh', '#!/bin/sh\necho "shell sees $CUDA_VISIBLE_DEVICES"\nexec sleep 60\n');
    await expect(constellation.deploy('sh', { script: program })).rejects.toThrow(
      /IGU_FILE_MISSING .*worker\.sh as a program/,
    );
    chmodSync(program, 0o755);
    await constellation.deploy('sh', { script: program, gpu: true, graceMs: 2_000, onOutput });
    await constellation.deploy('plain', {
      script: write('plain.mjs', tell),
      env: { CUDA_VISIBLE_DEVICES: '' },
      onOutput,
    });
    await until(
      'all',
      () =>
        ['ts: typed sees GPU-', 'sh: shell sees GPU-', 'plain: sees  -'].every((start) =>
          printed.some((line) => line.startsWith(start)),
        ),
      20_000,
    );
    expect(await holders()).toEqual(['sh 1', 'ts 1']);
    await expect(constellation.deploy('none', { script: path.join(folder, 'none.js') })).rejects.toThrow(
      /IGU_FILE_MISSING/,
    );
    await expect(constellation.deploy('none', {})).rejects.toThrow(/IGU_USAGE there is nothing to run for none/);
  }, 30_000);

  it('starts nothing without room, and nothing is left of it', async () => {
    const script = write('worker.js', tell);
    const refused = constellation.deploy('big', { script, gpu: true, gpuMemory: 90_000, onOutput });
    await expect(refused).rejects.toThrow(GpuRefusedError);
    await expect(constellation.deploy('wrong', { script, gpuShare: 2 })).rejects.toThrow(/IGU_GPU_REQUEST/);
    await expect(constellation.deploy('gone', { command: '/no/such', gpu: true })).rejects.toThrow(/IGU_ACTUATOR/);
    expect(() => constellation.list('big')).toThrow(/IGU_NOT_FOUND/);
    expect([await holders(), printed]).toEqual([[], []]);
  });

  it('takes no option that is misspelt for none, so that nothing starts without a GPU of its own', async () => {
    const script = write('worker.js', tell);
    await expect(constellation.deploy('w6', { script, gpuMem: 100 } as never)).rejects.toThrow(
      /IGU_CONFIG option gpuMem: there is no such option; options are .*gpuMemory/,
    );
    await expect(
      constellation.createCluster({ name: 'w7', script, gpuEnabled: true, gpus: 2 } as never),
    ).rejects.toThrow(/IGU_CONFIG option gpus/);
    await expect(constellation.createCluster({ name: 'w8', script, gpuMemory: 100 })).rejects.toThrow(
      /IGU_USAGE w8 asks for GPUs without gpuEnabled/,
    );
    await expect(constellation.deploy('w10', undefined as never)).rejects.toThrow(/IGU_CONFIG options: an object/);
    await expect(constellation.preallocateGpus(1, { forms: 5 } as never)).rejects.toThrow(/IGU_CONFIG option forms/);
    const predictiveScaling = { leadMs: -1 };
    await expect(constellation.createCluster({ name: 'w9', gpuEnabled: true, predictiveScaling })).rejects.toThrow(
      /IGU_CONFIG predictiveScaling: leadMs/,
    );
    expect([await holders(), printed]).toEqual([[], []]);
  });

  it('waits for room, and waits no more when it is destroyed', async () => {
    made.push('patient');
    const script = write('worker.js', tell);
    const options = { script, gpu: true, waitMs: 60_000, graceMs: 2_000, onOutput };
    await gpu.allocate('all', { gpuCount: 3 });
    const outcome = constellation.deploy('impatient', options).catch((error: unknown) => error);
    await until('its wait', async () => (await gpu.waiting()).length === 1);
    await constellation.destroy('impatient');
    expect(await outcome).toBeInstanceOf(GpuRefusedError);
    expect([await gpu.waiting(), await holders()]).toEqual([[], ['all 3']]);
    const deployed = constellation.deploy('patient', options);
    await until('its wait', async () => (await gpu.waiting()).length === 1);
    await gpu.deallocate('all');
    expect((await deployed).gpuIds).toHaveLength(1);
  }, 20_000);

  it('starts again on other GPUs when a workload of higher priority took its own', async () => {
    made.push('low');
    const script = write('worker.js', tell);
    await gpu.allocate('others', { gpuCount: 2 });
    const { gpuId: last } = (await gpu.explain({})).fits.map((gpuId) => ({ gpuId }))[0]!;
    await constellation.deploy('low', { script, gpu: true, leaseMs: 600, backOffMs: 50, graceMs: 2_000, onOutput });
    await until('its start', () => printed.includes(`low: sees ${last} -`));
    await gpu.allocate('urgent', { priority: 9, preempt: true, model: 'A100', node: 'here' });
    await until('the loss', () => printed.some((line) => line.includes('its GPUs are lost: IGU_GPU_ALLOCATION')));
    await gpu.deallocate('urgent');
    await until('its second start', () => printed.filter((line) => line === `low: sees ${last} -`).length === 2);
  }, 20_000);
});

describe('a cluster with GPUs', () => {
  it('gives each instance its own, none beyond what there is, and takes them back', async () => {
    made.push('ml-training');
    const script = write('worker.js', tell);
    const cluster = await constellation.createCluster({
      name: 'ml-training',
      gpuEnabled: true,
      script,
      instances: 2,
      graceMs: 2_000,
      onOutput,
    });
    expect(cluster.map(({ id }) => id)).toEqual(['ml-training-0', 'ml-training-1']);
    expect(await holders()).toEqual(['ml-training-0 1', 'ml-training-1 1']);
    const [kept] = await cluster.preallocateGpus(1, { forMs: 60_000 });
    expect(kept).toMatchObject({ owner: 'ml-training' });
    await expect(gpu.allocate('stranger')).rejects.toThrow(/no GPU for stranger: none of 3 GPUs will do: held 3/);
    await constellation.scaleUp({ cluster: 'ml-training' });
    expect(await holders()).toEqual(['ml-training-0 1', 'ml-training-1 1', 'ml-training-2 1']);
    const seen = () => new Set(printed.map((line) => /sees (\S+)/.exec(line)?.[1]));
    await until('three GPUs', () => seen().size === 3);
    await expect(constellation.scaleUp({ cluster: 'ml-training' })).rejects.toThrow(
      /IGU_GPU_REFUSED no GPU for ml-training-3/,
    );
    await expect(constellation.preallocateGpus(1)).rejects.toThrow(/IGU_GPU_REFUSED/);
    await constellation.scaleDown({ cluster: 'ml-training', instances: 2 });
    expect(await holders()).toEqual(['ml-training-0 1']);
  }, 20_000);

  it('can be without a command, for what is deployed in its name', async () => {
    made.push('pool', 'job');
    const pool = await constellation.createCluster({ name: 'pool', gpuEnabled: true, predictiveScaling: true });
    expect([pool.length, pool.name, pool.gpuReadiness()]).toEqual([0, 'pool', undefined]);
    expect(await constellation.preallocateGpus(2, { cluster: 'pool' })).toHaveLength(2);
    await gpu.allocate('other');
    const { gpuIds } = await constellation.deploy('job', { script: write('worker.js', tell), gpu: 1, owner: 'pool' });
    expect(gpuIds).toHaveLength(1);
    expect(await holders()).toEqual(['for pool 1', 'job 1', 'other 1']);
    await expect(constellation.scaleUp({ cluster: 'pool' })).rejects.toThrow(/IGU_USAGE cluster pool has no command/);
    await expect(constellation.createCluster({ name: 'x', predictiveScaling: true })).rejects.toThrow(
      /IGU_USAGE .*gpuEnabled/,
    );
    await expect(constellation.createCluster({ name: 'x', instances: 1 })).rejects.toThrow(
      /IGU_USAGE there is nothing to run in x/,
    );
    await expect(pool.preallocateGpus(0)).rejects.toThrow(/IGU_USAGE 0 GPUs cannot be kept/);
    await expect(pool.preallocateGpus(2)).rejects.toThrow(/IGU_GPU_REFUSED/);
    expect(await holders()).toEqual(['for pool 1', 'job 1', 'other 1']);
    await constellation.destroy('pool');
    expect(await holders()).toEqual(['job 1', 'other 1']);
  });
});

describe('environment of one instance', () => {
  it('is asked for before each start; who is stopped meanwhile does not start', async () => {
    const asked: ((value: Record<string, string>) => void)[] = [];
    const removed: string[] = [];
    const cluster = new ProcessCluster({
      name: 'own',
      command: process.execPath,
      args: ['-e', "console.log('own is', process.env.OWN); setInterval(() => {}, 1000)"],
      env: { OWN: 'of all' },
      ...{ backOffMs: 20, graceMs: 2_000, onOutput },
      environmentOf: () => new Promise((resolve) => asked.push(resolve)),
      onRemoved: async (id) => void removed.push(id),
    });
    const started = cluster.scaleTo(1);
    await until('the question', () => asked.length === 1);
    asked[0]!({ OWN: 'first' });
    await started;
    await until('its output', () => printed.includes('own-0: own is first'));
    process.kill(cluster.instances()[0]!.pid!, 'SIGKILL');
    await until('the next question', () => asked.length === 2);
    const restarted = cluster.restart('own-0');
    await until('one more', () => asked.length === 3);
    asked[2]!({ OWN: 'third' });
    await restarted;
    asked[1]!({ OWN: 'second' });
    await until('its output', () => printed.includes('own-0: own is third'));
    process.kill(cluster.instances()[0]!.pid!, 'SIGKILL');
    await until('the last question', () => asked.length === 4);
    await cluster.scaleTo(0);
    asked[3]!({ OWN: 'fourth' });
    await new Promise((resolve) => setImmediate(resolve));
    expect([cluster.instances(), removed]).toEqual([[], ['own-0']]);
    expect(printed.filter((line) => /second|fourth/.test(line))).toEqual([]);
  }, 20_000);

  it('may be refused: then it does not start, and a later start is tried again', async () => {
    let answers = 0;
    const cluster = new ProcessCluster({
      name: 'refused',
      command: process.execPath,
      args: ['-e', "console.log('runs'); setInterval(() => {}, 1000)"],
      ...{ backOffMs: 20, graceMs: 2_000, onOutput },
      environmentOf: async () => {
        if (++answers === 1 || answers === 3) throw new Error('none is free');
        return {};
      },
    });
    await expect(cluster.scaleTo(1)).rejects.toThrow('none is free');
    expect(cluster.instances()).toEqual([]);
    await cluster.scaleTo(1);
    await expect(cluster.restart('refused-0')).rejects.toThrow('none is free');
    await until('its second start', () => cluster.instances()[0]!.pid !== null);
    expect(answers).toBe(4);
    await cluster.scaleTo(0);
  }, 20_000);
});
