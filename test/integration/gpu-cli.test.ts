import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let folder: string;
let nodes: string;
let pods: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-cli-'));
  nodes = path.join(folder, 'nodes.csv');
  pods = path.join(folder, 'pods.csv');
  writeFileSync(nodes, 'sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,8,H100\nn1,32000,131072,2,T4\n');
  writeFileSync(pods, 'name,cpu_milli,memory_mib,num_gpu,gpu_milli\np0,1000,1024,1,400\np1,4000,8192,2,1000\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

function gpu(...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', 'gpu', ...args], {
    encoding: 'utf8',
    timeout: 20_000,
    env: { ...process.env, NO_COLOR: '1' },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

describe('iguana gpu simulate', () => {
  it('tells for each policy how much of the cluster it used', () => {
    const { code, out } = gpu('simulate', '--nodes', nodes, '--pods', pods, '--seeds', '2', '--json');
    expect(code).toBe(0);
    const told = JSON.parse(out);
    expect(told).toMatchObject({ nodes: 2, gpus: 10, seeds: { first: 42, count: 2 } });
    const names = ['fragmentation-gradient', 'best-fit', 'packing', 'spread'];
    expect(told.policies.map(({ policy }: { policy: string }) => policy)).toEqual(names);
    for (const { allocated, arrivedPods, rejectedPods } of told.policies) {
      expect(allocated.map(({ arrived }: { arrived: number }) => arrived)).toEqual([0.5, 0.8, 1, 1.3]);
      expect(allocated[3].mean).toBeGreaterThan(allocated[0].mean);
      expect(allocated[3].mean).toBeLessThanOrEqual(100);
      expect(rejectedPods).toBeLessThan(arrivedPods);
    }
  });

  it('has no deviation of one order of arrival', () => {
    const once = ['simulate', '--nodes', nodes, '--pods', pods, '--policy', 'best-fit', '--seeds', '1'];
    const [policy] = JSON.parse(gpu(...once, '--json').out).policies;
    expect(policy.allocated.map(({ deviation }: { deviation: unknown }) => deviation)).toEqual(Array(4).fill(null));
    expect(gpu(...once).out).toMatch(/^best-fit +\d+\.\d\d ± - /m);
  });

  it('names what is wrong with a file or an option', () => {
    expect(gpu('simulate', '--nodes', pods, '--pods', pods)).toMatchObject({
      code: 1,
      err: expect.stringMatching(/IGU_CSV_ROW .*pods\.csv:1: no column sn, gpu, model/),
    });
    expect(gpu('simulate', '--nodes', nodes, '--pods', folder).err).toMatch(/IGU_FILE_MISSING/);
    expect(gpu('simulate', '--nodes', nodes, '--pods', pods, '--policy', 'best')).toMatchObject({ code: 2 });
  });
});
