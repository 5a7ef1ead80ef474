import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it, vi } from 'vitest';
import { constellation, gpu } from '../../src/index.js';
import { fakeNvidiaSmi } from '../support/fake-nvidia-smi.js';
import { kafkaUnderTest, uniqueName, until } from '../support/kafka.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-library-'));
const tools = `${folder}:/usr/bin:/bin`;

/** Programs that begin while the tests run, and what each printed when it had ended. */
let programs: Promise<readonly string[]>;
const program = `import { gpu } from ${JSON.stringify(path.resolve('dist/src/index.js'))};
const ids = (await gpu.discover()).map(({ id }) => id);
const refused = await gpu.allocate('big', { gpuCount: 9, waitMs: 300 }).catch(({ code }) => code);
if (ids.length > 0) await gpu.allocate('first');
console.log(ids.length, refused);`;

async function ended(PATH: string): Promise<string> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { env: { ...process.env, PATH } });
  let told = '';
  child.stdout.on('data', (text: Buffer) => (told += text.toString()));
  child.stderr.on('data', (text: Buffer) => (told += text.toString()));
  const [code] = await once(child, 'close');
  return `${code} ${told}`;
}

beforeAll(() => {
  fakeNvidiaSmi(folder);
  programs = Promise.all([ended(tools), ended('/nonexistent')]);
});
afterEach(async () => {
  await gpu.close();
  vi.unstubAllEnvs();
});
afterAll(() => rmSync(folder, { recursive: true }));

it('finds the GPUs of this machine by its tools, and gives those that are free and well', async () => {
  vi.stubEnv('PATH', tools);
  const found = await gpu.discover();
  expect(found).toHaveLength(3);
  expect(found[0]).toMatchObject({ node: os.hostname(), vendor: 'nvidia', utilization: 0, fanPercent: null });
  expect(found[0]!.absent).toMatchObject({ fanPercent: 'not-supported' });
  const { id } = found[1]!;
  expect(await gpu.processes(id)).toMatchObject([{ pid: 7, name: 'python train.py', memory: 512 }]);
  expect(found[1]!.health.state).toBe('draining');
  const grant = await gpu.allocate('worker');
  expect(grant.gpuId).not.toBe(id);
  expect(grant.environment).toEqual({ CUDA_VISIBLE_DEVICES: grant.gpuId });
  expect((await gpu.explain({})).gpus.find(({ gpuId }) => gpuId === id)).toMatchObject({ code: 'health' });
});

it('takes part in a cluster: GPUs of all nodes, processes on those of its own', async () => {
  vi.stubEnv('PATH', tools);
  const broker = await kafkaUnderTest();
  const name = uniqueName('library');
  const errors: unknown[] = [];
  const lines: string[] = [];
  try {
    await gpu.connect({
      brokers: [broker.brokers],
      group: name,
      node: name,
      everyMs: 200,
      topics: { metrics: `${name}-metrics`, forecasts: `${name}-forecasts`, deadLetters: `${name}-dead` },
      onError: (error) => errors.push(error),
    });
    const own = (await gpu.discover()).filter(({ node }) => node === name);
    expect(own).toHaveLength(3);
    const script = path.join(folder, 'worker.mjs');
    writeFileSync(script, 'console.log(process.env.CUDA_VISIBLE_DEVICES); setInterval(() => {}, 1000);\n');
    await expect(constellation.deploy('elsewhere', { script, gpu: true, node: 'other' })).rejects.toThrow(
      /IGU_GPU_REQUEST .*elsewhere cannot be: node: its process runs here/,
    );
    const { gpuIds } = await constellation.deploy(name, {
      ...{ script, gpu: true, leaseMs: 3_000, graceMs: 2_000 },
      onOutput: (_, text) => lines.push(text.trim()),
    });
    await until('its output', () => lines.includes(gpuIds[0]!));
    expect(await gpu.stats()).toMatchObject({ role: 'acting' });
    const [record] = (await gpu.allocations()).filter(({ owner }) => owner === name);
    await until('a heartbeat', async () => {
      const [now] = (await gpu.allocations()).filter(({ owner }) => owner === name);
      return now!.expiresAt! > record!.expiresAt!;
    });
    await constellation.destroy(name);
    expect((await gpu.allocations()).filter(({ owner }) => owner === name)).toEqual([]);
    expect(errors).toEqual([]);
  } finally {
    await gpu.close();
    await broker.stop();
  }
}, 60_000);

it('does not keep a program from ending, and without tools there is nothing', async () => {
  expect(await programs).toEqual(['0 3 IGU_GPU_REFUSED\n', '0 0 IGU_GPU_REFUSED\n']);
}, 20_000);
