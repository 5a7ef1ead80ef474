import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fakeNvidiaSmi } from '../support/fake-nvidia-smi.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-list-'));
  fakeNvidiaSmi(folder);
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(PATH: string, args: readonly string[]): Promise<Ran> {
  const options = { timeout: 20_000, env: { ...process.env, NO_COLOR: '1', PATH } };
  return new Promise((resolve, reject) => {
    const child = execFile(process.execPath, args, options, (error, out, err) => {
      if (child.exitCode === null) reject(error);
      else resolve({ code: child.exitCode, out, err });
    });
  });
}

const gpu = (PATH: string, ...args: string[]): Promise<Ran> => run(PATH, ['dist/src/cli/main.js', 'gpu', ...args]);

const tools = (): string => `${folder}:/usr/bin:/bin`;
const withTool = (...args: string[]): Promise<Ran> => gpu(tools(), ...args);

describe('iguana gpu list, watch and top', () => {
  it('is an empty array and one sentence where no tool is installed', async () => {
    const { code, out, err } = await gpu('/nonexistent', 'list', '--json');
    expect([code, JSON.parse(out)]).toEqual([0, []]);
    expect(err.trim().split('\n')).toEqual([expect.stringContaining('no GPU tools are installed')]);
  });

  it('tells a tool that could not answer from none that is installed', async () => {
    const own = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-tools-'));
    const answering = async (script: string, ...args: string[]): Promise<Ran> => {
      writeFileSync(path.join(own, 'nvidia-smi'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      return gpu(`${own}:/usr/bin:/bin`, 'list', ...args);
    };
    try {
      for (const [script, what] of [
        ['echo NVIDIA-SMI has failed; exit 9', 'the driver is not loaded'],
        ['echo broken >&2; exit 1', 'it ended with 1: broken'],
        ['echo hello', 'no answer that can be read: hello'],
      ] as const) {
        const failed = await answering(script, '--json');
        expect([failed.code, JSON.parse(failed.out)]).toEqual([1, []]);
        expect(failed.err).toBe(
          `IGU_GPU_TOOL GPUs may be missing here: nvidia-smi: ${what}; run nvidia-smi by hand and mend what it says; see docs/gpu.md\n`,
        );
      }
      expect(await answering('exit 1')).toMatchObject({ code: 1, out: '' });
      const none = await answering('echo No devices were found; exit 6', '--json');
      expect([none.code, JSON.parse(none.out), none.err]).toEqual([0, [], 'there are no GPUs here\n']);
      expect(await answering('echo No devices were found; exit 6')).toEqual({
        ...{ code: 0, out: 'there are no GPUs here\n', err: '' },
      });
    } finally {
      rmSync(own, { recursive: true });
    }
  }, 30_000);

  it('lists facts, and why one has no value', async () => {
    const listed = withTool('list');
    const { code, out } = await withTool('list', '--json');
    expect(code).toBe(0);
    const gpus = JSON.parse(out);
    expect(gpus).toHaveLength(3);
    expect(gpus[0]).toMatchObject({ utilization: 0, memoryUsedMb: 0, fanPercent: null, processes: [], stale: false });
    expect(gpus[0].absent).toMatchObject({ fanPercent: 'not-supported' });
    expect(gpus[1].processes).toMatchObject([{ pid: 7, name: 'python train.py', memoryMb: 512 }]);
    const { out: table } = await listed;
    expect(table).toMatch(/H100 80GB HBM3 +58\.6 \/ 79\.6 +97 % +88 +690 \/ 700 +1 +draining/);
    expect(table).toContain('the driver asks for gpu reset');
  });

  it('watches as often as it is told', async () => {
    const [watched, top] = await Promise.all([
      withTool('watch', '--json', '--every', '0.2', '--times', '2'),
      withTool('top', '--times', '1'),
    ]);
    const lines = watched.out.trim().split('\n');
    const [found, then] = lines.map((line) => JSON.parse(line));
    expect(lines).toHaveLength(2);
    expect(found.changes.filter(({ kind }: { kind: string }) => kind === 'added')).toHaveLength(3);
    expect(then.changes.filter(({ kind }: { kind: string }) => kind === 'added')).toHaveLength(0);
    expect(top.out).toContain('python train.py');
  });

  it('names what is wrong with an option', async () => {
    const [every, times] = await Promise.all([withTool('top', '--every', 'x'), withTool('watch', '--times', '1.5')]);
    expect([every.code, every.err]).toEqual([2, expect.stringMatching(/^IGU_USAGE --every x: Seconds from 0\.05/)]);
    expect(times.err).toMatch(/IGU_USAGE --times 1\.5: A whole number from 1/);
  });
});
