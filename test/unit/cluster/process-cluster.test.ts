import { afterEach, expect, it } from 'vitest';
import { constellation } from '../../../src/api/constellation.js';
import { ProcessCluster } from '../../../src/cluster/process-cluster.js';
import { until } from '../../support/kafka.js';

const made: ProcessCluster[] = [];
afterEach(async () => {
  await Promise.all(made.splice(0).map((one) => one.scaleTo(0)));
});

function cluster(
  script: string,
  options: { backOffMs?: number; graceMs?: number; basePort?: number } = {},
): { one: ProcessCluster; output: string[] } {
  const output: string[] = [];
  const one = new ProcessCluster({
    name: 'web',
    command: process.execPath,
    args: ['-e', script],
    onOutput: (id, text) => output.push(`${id}:${text.trim()}`),
    ...options,
  });
  made.push(one);
  return { one, output };
}

const STAY = 'console.log(process.env.PORT); setInterval(() => {}, 1000)';

it('runs as many copies as asked for, each with a port of its own, and stops them', async () => {
  const { one, output } = cluster(STAY, { basePort: 9100 });
  await one.scaleTo(3);
  await until('three ports', () => output.length === 3);
  expect(output.sort()).toEqual(['web-0:9100', 'web-1:9101', 'web-2:9102']);
  const pids = one.instances().map((i) => i.pid);
  await one.scaleTo(1);
  expect(one.instances()).toMatchObject([{ id: 'web-0', state: 'running', pid: pids[0], port: 9100 }]);
  expect(() => process.kill(pids[1]!, 0)).toThrow();
  await expect(one.scaleTo(-1)).rejects.toThrow(/IGU_ACTUATOR/);
});

it('starts an instance again that ended by itself, and one that is restarted', async () => {
  const { one } = cluster(STAY, { backOffMs: 10 });
  await one.scaleTo(1);
  const first = one.instances()[0]!.pid!;
  process.kill(first, 'SIGKILL');
  const second = await until('another process', () => {
    const [now] = one.instances();
    return now?.state === 'running' && now.pid !== first && now;
  });
  expect(second.restarts).toBe(1);
  await one.restart('web-0');
  expect(one.instances()[0]!.pid).not.toBe(second.pid);
  await expect(one.restart('web-9')).rejects.toThrow(/IGU_NOT_FOUND .*web-9/);
});

it('kills what does not stop when asked, and names a command that is not there', async () => {
  const { one, output } = cluster("process.on('SIGTERM', () => {}); console.log('up'); setInterval(() => {}, 1000)", {
    graceMs: 100,
  });
  await one.scaleTo(1);
  await until('it is up', () => output.length === 1);
  await one.scaleTo(0);
  expect(one.instances()).toEqual([]);
  const missing = new ProcessCluster({ name: 'none', command: '/no/such/command' });
  await expect(missing.scaleTo(1)).rejects.toThrow(/IGU_ACTUATOR actuator none failed/);
  const impossible = new ProcessCluster({ name: 'none', command: process.execPath, args: ['\0'] });
  await expect(impossible.scaleTo(1)).rejects.toThrow(/IGU_ACTUATOR actuator none failed/);
});

it('waits for all to end, also when what one had cannot be given back', async () => {
  const { one } = cluster(STAY);
  const failing = new ProcessCluster({
    ...{ name: 'two', command: process.execPath, args: ['-e', STAY] },
    onRemoved: async (id) => {
      if (id === 'two-0') throw new Error('nobody takes it');
      await one.scaleTo(1);
    },
  });
  await failing.scaleTo(2);
  await expect(failing.scaleTo(0)).rejects.toThrow('nobody takes it');
  expect([failing.instances(), one.instances().length]).toEqual([[], 1]);
});

it('is driven by the library', async () => {
  await constellation.createCluster({ name: 'lib', command: process.execPath, args: ['-e', STAY] });
  await Promise.all([constellation.scaleUp(), constellation.scaleUp()]);
  const before = constellation.list('lib').map((i) => i.pid);
  expect(before.length).toBe(3);
  await constellation.restartInstance('lib-1');
  expect(constellation.list()[1]!.pid).not.toBe(before[1]);
  await constellation.scaleDown({ cluster: 'lib' });
  expect(constellation.list('lib').length).toBe(2);
  await constellation.destroy('lib');
  expect(() => constellation.list('lib')).toThrow(/IGU_NOT_FOUND/);
});
