import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-list-'));
  const fixtures = path.resolve('test/fixtures/gpu');
  const script = `#!/bin/sh
case "$1" in
  --help-query-gpu) exec cat ${fixtures}/nvidia-help.txt;;
  --query-gpu=*) exec cat ${fixtures}/nvidia-query.csv;;
  --query-compute-apps=*) echo "gpu_uuid, pid, used_gpu_memory [MiB], process_name"
    echo "GPU-1a2b3c4d-0002-4000-8000-00000000000b, 7, 512 MiB, python train.py";;
esac
`;
  writeFileSync(path.join(folder, 'nvidia-smi'), script);
  chmodSync(path.join(folder, 'nvidia-smi'), 0o755);
});
afterAll(() => rmSync(folder, { recursive: true }));

function gpu(PATH: string, ...args: string[]): { code: number | null; out: string; err: string } {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', 'gpu', ...args], {
    encoding: 'utf8',
    timeout: 20_000,
    env: { ...process.env, NO_COLOR: '1', PATH },
  });
  return { code: run.status, out: run.stdout, err: run.stderr };
}

const withTool = (...args: string[]): ReturnType<typeof gpu> => gpu(`${folder}:/usr/bin:/bin`, ...args);

describe('iguana gpu list, watch and top', () => {
  it('is an empty array and one sentence where no tool is installed', () => {
    const { code, out, err } = gpu('/nonexistent', 'list', '--json');
    expect([code, JSON.parse(out)]).toEqual([0, []]);
    expect(err.trim().split('\n')).toEqual([expect.stringContaining('no GPU tools are installed')]);
  });

  it('lists facts, and why one has no value', () => {
    const { code, out } = withTool('list', '--json');
    expect(code).toBe(0);
    const gpus = JSON.parse(out);
    expect(gpus).toHaveLength(3);
    expect(gpus[0]).toMatchObject({ utilization: 0, memoryUsedMb: 0, fanPercent: null, processes: [], stale: false });
    expect(gpus[0].absent).toMatchObject({ fanPercent: 'not-supported' });
    expect(gpus[1].processes).toMatchObject([{ pid: 7, name: 'python train.py', memoryMb: 512 }]);
    const table = withTool('list').out;
    expect(table).toMatch(/H100 80GB HBM3 +58\.6 \/ 79\.6 +97 % +88 +690 \/ 700 +1 +draining/);
    expect(table).toContain('the driver asks for gpu reset');
  });

  it('watches as often as it is told', () => {
    const lines = withTool('watch', '--json', '--every', '0.2', '--times', '2').out.trim().split('\n');
    const [found, then] = lines.map((line) => JSON.parse(line));
    expect(lines).toHaveLength(2);
    expect(found.changes.filter(({ kind }: { kind: string }) => kind === 'added')).toHaveLength(3);
    expect(then.changes.filter(({ kind }: { kind: string }) => kind === 'added')).toHaveLength(0);
    expect(withTool('top', '--times', '1').out).toContain('python train.py');
    expect(withTool('top', '--every', 'x').code).toBe(2);
  });
});
