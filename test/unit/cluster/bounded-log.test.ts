import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { BoundedLog } from '../../../src/cluster/bounded-log.js';
import { ProcessCluster } from '../../../src/cluster/process-cluster.js';
import { until } from '../../support/kafka.js';

let folder: string | undefined;
afterEach(() => {
  if (folder) rmSync(folder, { recursive: true, force: true });
});

it('keeps the newest output in two files of bounded size, and goes on where it was', () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-log-'));
  const log = new BoundedLog(folder, 'web/0', 10);
  for (const text of ['aaaa', 'bbbb', 'cccc', 'dddd', 'eeee']) log.write(Buffer.from(text));
  log.write(Buffer.from('0123456789abc'));
  log.close();
  expect(readdirSync(folder).sort()).toEqual(['web_0.log', 'web_0.log.1']);
  expect(readFileSync(path.join(folder, 'web_0.log'), 'utf8')).toBe('0123456789');
  expect(readFileSync(path.join(folder, 'web_0.log.1'), 'utf8')).toBe('eeee');
  const again = new BoundedLog(folder, 'web/0', 12);
  again.write(Buffer.from('zz'));
  again.close();
  expect(readFileSync(path.join(folder, 'web_0.log'), 'utf8')).toBe('0123456789zz');
});

it('takes what instances print, over restarts', async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-log-'));
  const one = new ProcessCluster({
    name: 'web',
    command: process.execPath,
    args: ['-e', "console.log('up'); console.error('late'); setInterval(() => {}, 1000)"],
    logDir: folder,
  });
  const file = path.join(folder, 'web-0.log');
  const lines = (): number => readFileSync(file, 'utf8').split('\n').length - 1;
  await one.scaleTo(1);
  await until('both lines', () => lines() === 2);
  await one.restart('web-0');
  await until('both lines again', () => lines() === 4);
  await one.scaleTo(0);
  const unwritable = new ProcessCluster({ name: 'web', command: process.execPath, logDir: path.join(file, 'inside') });
  await expect(unwritable.scaleTo(1)).rejects.toThrow(/IGU_ACTUATOR/);
});

it('leaves no process behind when the stop comes while an instance is being started again', async () => {
  const pids = new Set<number>();
  const one = new ProcessCluster({ name: 'short', command: process.execPath, args: ['-e', ''], backOffMs: 1 });
  for (let round = 0; round < 5; round++) {
    await one.scaleTo(1);
    await until('a restart', () => {
      for (const { pid } of one.instances()) if (pid !== null) pids.add(pid);
      return one.instances()[0]!.restarts > 0;
    });
    for (const { pid } of one.instances()) if (pid !== null) pids.add(pid);
    await one.scaleTo(0);
    expect(one.instances()).toEqual([]);
  }
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow();
});
