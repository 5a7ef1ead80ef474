import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it } from 'vitest';
import { gpuCommand } from '../../src/cli/gpu.js';
import { VirtualClock } from '../../src/clock.js';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { type Dashboard, startDashboard } from '../../src/dashboard/server.js';
import { type LocalGpus, localGpus } from '../../src/gpu/local-gpus.js';
import { type Gpu, type GpuPartition, known } from '../../src/gpu/types.js';
import { commandHere } from '../support/command-here.js';
import { until } from '../support/kafka.js';
import { gpuOf } from '../unit/gpu/gpu-fixture.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-gpu-server-'));
const main = path.resolve('dist/src/cli/main.js');
const token = 'secret';
const running: ChildProcess[] = [];
let gpus: LocalGpus;
let page: Dashboard;
let url: string;
/** What this machine is called there. */
let here: string;

beforeEach(async () => {
  const t4 = gpuOf('GPU-3', { name: 'Tesla T4', memoryTotalMb: known(15_360), utilization: known(0) });
  gpus = await localGpus({
    nodes: { a: [gpuOf('GPU-1'), gpuOf('GPU-2')], b: [t4], m: [gpuOf('GPU-m')] },
    sharing: (node) => (node === 'm' ? { mode: 'mig', layout: 'dynamic' } : { mode: 'open' }),
  });
  page = await startDashboard({ model: new LiveModel(), port: 0, gpus, token });
  url = page.url;
  here = 'a';
});
afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await page.stop();
  await gpus.stop();
});
afterAll(() => rmSync(folder, { recursive: true }));

const iguana = (...args: string[]) =>
  commandHere(gpuCommand, args, { IGUANA_URL: url, IGUANA_TOKEN: token, IGUANA_NODE: here });

async function json<T>(...args: string[]): Promise<T> {
  const { code, out, err } = await iguana(...args, '--json');
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return JSON.parse(out) as T;
}

/** The command as a process of its own, which runs another one. */
const start = (...args: string[]) => run([main, 'gpu', ...args]);

function run(args: readonly string[]) {
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', IGUANA_URL: url, IGUANA_TOKEN: token, IGUANA_NODE: here },
  });
  running.push(child);
  const told = { out: '', err: '' };
  child.stdout.on('data', (text: Buffer) => (told.out += text.toString()));
  child.stderr.on('data', (text: Buffer) => (told.err += text.toString()));
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string);
  return { child, told, ended };
}

const holders = (): string[] => gpus.records().map(({ id }) => id);

describe('iguana gpu against a running Iguana', () => {
  it('allocates, tells what is enforced, and gives back', async () => {
    const { code, out } = await iguana('allocate', 'train', '--gpus', '2', '--owner', 'team-a', '--priority', '3');
    expect(code).toBe(0);
    expect(out.split('\n')[0]).toBe('train has 2 GPUs of a (exclusive): GPU-1, GPU-2');
    expect(out).toMatch(/allocation +train\/\d+\n +lease +1m, then given back unless `iguana gpu renew` comes/);
    expect(out).toMatch(/not enforced +that nobody else starts a process on them/);
    expect(gpus.find('train')).toMatchObject({ owner: 'team-a', priority: 3, leaseMs: 60_000 });

    const table = (await iguana('allocations')).out;
    expect(table).toMatch(/^train\/\d+ +team-a +a +GPU-1, GPU-2 +exclusive +100 %, 39\.1 GiB +in (59\.\ds|60s|1m)$/m);
    const cluster = (await iguana('list', '--cluster')).out;
    expect(cluster).toMatch(/^GPU-1 .* train$/m);
    expect(cluster).toMatch(/^b: 1 GPU, heard$/m);
    expect(cluster).toMatch(/^GPU-3 +Tesla T4 +- \/ 15\.0 +0 % +ok +-$/m);
    const nodes = await json<{ node: string; gpus: { holders: { instance: string }[] }[] }[]>('list', '--cluster');
    expect(
      nodes.map(({ node, gpus: told }) => [node, told.map(({ holders: by }) => by.map((h) => h.instance))]),
    ).toEqual([
      ['a', [['train'], ['train']]],
      ['b', [[]]],
      ['m', [[]]],
    ]);

    const id = holders()[0]!;
    expect((await iguana('renew', 'train')).out).toBe(`${id} is renewed for 1m\n`);
    expect((await iguana('release', id)).out).toBe(`${id} is released\n`);
    expect(await iguana('release', 'train')).toMatchObject({
      code: 1,
      err: expect.stringMatching(
        /^IGU_GPU_ALLOCATION no GPU allocation or reservation train; list them with `iguana gpu allocations`/,
      ),
    });
  });

  it('gives an environment that a shell takes as one line', async () => {
    const { out } = await iguana('allocate', 'train', '--memory', '1000', '--node', 'a', '--lease', 'none', '--env');
    const id = holders()[0]!;
    const gpu = gpus.records()[0]!.holdings[0]!.gpuId;
    const file = path.join(folder, 'environment');
    writeFileSync(file, out);
    const shell = spawn('sh', ['-c', `eval $(cat '${file}'); echo "$CUDA_VISIBLE_DEVICES $IGUANA_GPU_ALLOCATION"`]);
    let told = '';
    shell.stdout.on('data', (text: Buffer) => (told += text.toString()));
    await once(shell, 'close');
    expect(told).toBe(`${gpu} ${id}\n`);
    expect(gpus.find(id)).toMatchObject({ leaseMs: null });
  });

  it('says why there is nothing: one line, then reason by reason', async () => {
    await gpus.allocate('other', { gpuCount: 2 });
    const { code, out, err } = await iguana('allocate', 'train', '--memory', '30000', '--mode', 'shared');
    expect([code, out]).toEqual([1, '']);
    const lines = err.trim().split('\n');
    expect(lines[0]).toMatch(
      /^IGU_GPU_REFUSED no GPU for train: none of 4 GPUs will do: held 2, m\w+ 1, m\w+ 1; ask for less/,
    );
    expect(lines.slice(1).sort()).toEqual([
      '  held: 2 GPUs, such as GPU-1 of a: it is held by other',
      '  memory: 1 GPU, such as GPU-3 of b: 30000 MiB are asked for, 15360 are free',
      '  mode: 1 GPU, such as GPU-m of m: it is set to mig, not shared',
    ]);
    const answer = await iguana('allocate', 'train', '--model', 'A100', '--exclusive', '--json');
    expect([answer.code, JSON.parse(answer.out)]).toMatchObject([1, { granted: false, reason: 'gpus' }]);
    const explained = (await iguana('explain', 'train', '--memory', '30000')).out;
    expect(explained).toMatch(/^GPU-1 +a +NVIDIA A100-SXM4-40GB +held: it is held by other$/m);
    expect(explained).toMatch(/^GPU-m +m +NVIDIA A100-SXM4-40GB +would do$/m);
    expect(explained).toMatch(/An allocation would get GPU-m of m \(mig\)\.$/m);
    expect(await json('explain', '--model', 'T4')).toMatchObject({ fits: ['GPU-3'], answer: { granted: true } });
    expect(holders()).toHaveLength(1);
  });

  it('reserves for an owner, plans partitions as commands, and shows who waits', async () => {
    const reserved = (await iguana('reserve', 'team-a', '--for', '10m', '--model', 'T4')).out;
    expect(reserved).toMatch(/^reservation\/team-a\/\d+ keeps 1 GPU of b for team-a until 20.*: GPU-3\n$/);
    expect(await iguana('reserve', 'team-b', '--for', '10m', '--model', 'T4')).toMatchObject({ code: 1 });
    const planned = await iguana('allocate', 'slice', '--profile', '3g.20gb');
    expect(planned.out).toMatch(
      /To be made on m first:\n {2}nvidia-smi -i GPU-m -mig 1\n {2}nvidia-smi mig -i GPU-m -cgi 9:\d -C/,
    );
    expect(planned.err).toContain('there is no environment yet');
    expect((await iguana('plan', '--max-moves', '3')).out).toMatch(
      /^No move helps; .*\nslice\/\d+ waits for its partition; on m:\n {2}nvidia-smi -i GPU-m -mig 1\n {2}nvidia-smi mig/,
    );
    expect(await json('plan')).toMatchObject({ moves: [], partitions: [{ node: 'm' }] });
    const later = gpus.allocate('later', { model: 'T4', priority: 2 }, { waitMs: 60_000 });
    const shown = (await iguana('allocations')).out;
    expect(shown).toMatch(/^later +later +1 +2 +\d+ms +(59\.\ds|60s|1m) +none of 4 GPUs will do/m);
    expect(await json('allocations')).toMatchObject({ records: [{}, {}], waiting: [{ instance: 'later' }] });
    expect((await iguana('release', 'later')).code).toBe(0);
    expect((await later).granted).toBe(false);
  });

  it('wrong input is one line with a code and what to do', async () => {
    const wrong = async (...args: string[]): Promise<string> => {
      const { code, out, err } = await iguana(...args);
      expect(out).toBe('');
      return `${code} ${err}`;
    };
    expect(await wrong('allocate', 'x', '--share', '2')).toMatch(
      /^2 IGU_USAGE --share 2: A part .*above 0 to 1, such as 0\.5; see --help/,
    );
    expect(await wrong('allocate', 'x', '--lease', 'x')).toMatch(
      /^2 IGU_USAGE --lease x: A time such as 500ms, 60s, 10m or 2h/,
    );
    expect(await wrong('allocate', 'x', '--wait', '5')).toMatch(/^2 IGU_USAGE --wait 5: A time/);
    expect(await wrong('allocate', 'x', '--gpus', '0')).toMatch(/^2 IGU_USAGE --gpus 0: A whole number from 1/);
    expect(await wrong('allocate', 'x', '--memory', '16g')).toMatch(/^2 IGU_USAGE --memory 16g: MiB above 0/);
    expect(await wrong('allocate', 'x', '--vendor', 'nvida')).toMatch(
      /^2 IGU_USAGE --vendor nvida: Did you mean nvidia\?/,
    );
    expect(await wrong('allocate', 'x', '--min-compute', '8')).toMatch(/^2 IGU_USAGE --min-compute 8: .*such as 8\.0/);
    expect(await wrong('allocate', 'x', '--on-lost', 'go')).toMatch(/^2 IGU_USAGE --on-lost go: One of: stop, keep/);
    expect(await wrong('reserve', 'x')).toMatch(/^2 error: required option '--for <time>'/);
    expect(await wrong('reserve', 'x', '--for', '400h')).toMatch(/^[12] IGU_\w+ .*ttlMs/);
    expect(await wrong('allocate', 'x'.repeat(300))).toMatch(/^[12] IGU_\w+ .*instance/);
    // as of a variable that is not set
    for (const command of [
      ['release', ''],
      ['renew', ''],
      ['allocate', '', '--', 'true'],
    ])
      expect(await wrong(...command)).toMatch(/^2 IGU_USAGE a name is needed, not ""; see --help/);
    expect(await wrong('release', '..')).toMatch(/^2 IGU_USAGE a name is needed, not "\.\."/);
    expect(await wrong('allocate', 'x', '--token', 'other')).toMatch(/^1 IGU_HTTP_TOKEN/);
    expect(await wrong('allocate', 'x', '--node', 'a', '--', '/no/such/program')).toMatch(
      /^127 x has 1 GPU of a .*\nIGU_FILE_MISSING cannot read \/no\/such\/program as a command: it is not found; check the path/,
    );
    expect(await wrong('allocate', 'x', '--', '')).toMatch(
      /^127 x has .*\nIGU_FILE_MISSING .*'' as a command: it is not found/,
    );
    const text = path.join(folder, 'text');
    writeFileSync(text, 'no program');
    expect(await wrong('allocate', 'x', '--', text)).toMatch(/^126 x has .*\nIGU_FILE_MISSING .*: it may not be run/);
    expect(holders()).toEqual([]);
    const without = await startDashboard({ model: new LiveModel(), port: 0 });
    url = without.url;
    for (const command of [
      ['allocations'],
      ['allocate', 'x'],
      ['allocate', 'x', '--', 'true'],
      ['release', 'x'],
      ['renew', 'x'],
      ['reserve', 'x', '--for', '1m'],
      ['explain'],
      ['plan'],
      ['list', '--cluster'],
    ])
      expect(await wrong(...command)).toMatch(
        /^2 IGU_USAGE the Iguana at http:\S+ gives no GPUs \(gpu\.enabled is false\)/,
      );
    await without.stop();
    expect(await wrong('plan')).toMatch(/^1 IGU_SERVER_UNREACHABLE no Iguana answers at http:.*; start one/);
  });
});

describe('iguana gpu allocate -- COMMAND', () => {
  it('runs it on the GPUs, passes its status on and gives them back', async () => {
    const script = 'echo "$CUDA_VISIBLE_DEVICES of $IGUANA_GPU_ALLOCATION"; exit 7';
    const { told, ended } = run([main, 'gpu', 'allocate', 'train', '--node', 'a', '--', 'sh', '-c', script]);
    expect(await ended).toBe(7);
    expect(told.out).toMatch(/^GPU-[12] of train\/\d+\n$/);
    expect(told.err).toMatch(/^train has 1 GPU of a \(exclusive\): GPU-[12]\n$/);
    expect(holders()).toEqual([]);
  });

  it('gets GPUs of this machine only, and says what to do where those are not known', async () => {
    const file = path.join(folder, 'elsewhere');
    here = 'b';
    const { told, ended } = start('allocate', 'train', '--', 'sh', '-c', 'echo "$CUDA_VISIBLE_DEVICES"');
    expect([await ended, told.out]).toEqual([0, 'GPU-3\n']);
    expect((await iguana('allocate', 'shell', '--env')).out).toMatch(/^export CUDA_VISIBLE_DEVICES='GPU-3';\n/);
    await gpus.release('shell');
    for (const what of [['--', 'touch', file], ['--env']]) {
      const other = await iguana('allocate', 'train', '--node', 'a', ...what);
      expect([other.code, other.out]).toEqual([2, '']);
      expect(other.err).toMatch(
        /^IGU_CONFIG --node a: what is started here, on b, cannot use GPUs of a; run this on a, .*set IGUANA_NODE=a$/,
      );
      here = 'elsewhere';
      const unknown = await iguana('allocate', 'train', ...what);
      expect([unknown.code, unknown.out]).toEqual([2, '']);
      expect(unknown.err).toMatch(
        /^IGU_CONFIG node of this machine: the Iguana at http:\S+ knows no GPUs of elsewhere, .* but those of a, b, m; start an Iguana/,
      );
      here = 'b';
    }
    // by default it is called as the machine is
    here = '';
    expect((await iguana('allocate', 'train', '--', 'true')).err).toContain(`knows no GPUs of ${os.hostname()},`);
    // without a command it is for whoever asks
    expect((await iguana('allocate', 'train', '--node', 'a')).code).toBe(0);
    expect([holders().length, existsSync(file)]).toEqual([1, false]);
  }, 30_000);

  it('renews the lease while it runs, and passes signals on', async () => {
    const file = path.join(folder, 'ready');
    const script = `trap 'echo asked; exit 3' TERM; echo x > '${file}'; while :; do sleep 0.05; done`;
    const { child, told, ended } = start('allocate', 'train', '--lease', '1500ms', '--', 'sh', '-c', script);
    await until('its start', () => existsSync(file));
    const first = gpus.find('train')!.expiresAt!;
    await until('two heartbeats', () => (gpus.find('train')?.expiresAt ?? 0) >= first + 900);
    child.kill('SIGTERM');
    expect(await ended).toBe(3);
    expect(told.out).toBe('asked\n');
    expect(holders()).toEqual([]);
  }, 30_000);

  it('stops it when the lease is lost, or lets it go on', async () => {
    const go = path.join(folder, 'go');
    const waits = `while [ ! -e '${go}' ]; do sleep 0.05; done; exit 5`;
    const stopped = start('allocate', 'stopped', '--lease', '600ms', '--', 'sleep', '60');
    const kept = start('allocate', 'kept', '--lease', '600ms', '--on-lost', 'keep', '--', 'sh', '-c', waits);
    await until('both', () => holders().length === 2);
    await gpus.release('stopped');
    await gpus.release('kept');
    expect(await stopped.ended).toBe(143);
    expect(stopped.told.err).toMatch(
      /the GPUs of stopped are lost: IGU_GPU_ALLOCATION .* stopped\/\d+: it was released; .*; sleep is stopped/,
    );
    await until('the other one', () => /are lost: .*; sh goes on, others may be given them/.test(kept.told.err));
    writeFileSync(go, '');
    expect(await kept.ended).toBe(5);
    expect(stopped.told.err + kept.told.err).not.toContain('could not be given back');
  }, 30_000);

  it('says that another of higher priority took the GPUs', async () => {
    const { told, ended } = start('allocate', 'train', '--gpus', '2', '--lease', '900ms', '--', 'sleep', '60');
    await until('its GPUs', () => holders().length === 1);
    await until('its start', () => told.err.includes('train has 2 GPUs'));
    await gpus.allocate('urgent', { node: 'a', gpuCount: 2, priority: 9, preempt: true });
    expect(await ended).toBe(143);
    expect(told.err).toMatch(
      /the GPUs of train are lost: .* train\/\d+: another of higher priority took its GPUs \(urgent has priority 9\); .*; sleep is stopped/,
    );
    expect((await iguana('release', 'train')).err).toMatch(
      /^IGU_GPU_ALLOCATION no GPU allocation or reservation train;/,
    );
  }, 30_000);

  it('waits for room, and takes that back when it is asked to stop', async () => {
    here = 'b';
    await gpus.allocate('other', { model: 'T4' });
    const args = ['--model', 'T4', '--wait', '5m', '--', 'sh', '-c', 'echo ran'];
    const first = start('allocate', 'first', ...args);
    const second = start('allocate', 'second', ...args);
    await until('both', () => gpus.waiting().length === 2, 15_000);
    second.child.kill('SIGINT');
    expect(await second.ended).toBe(130);
    await until('that it waits no more', () => gpus.waiting().length === 1);
    await gpus.release('other');
    expect(await first.ended).toBe(0);
    expect(first.told.out).toBe('ran\n');
    expect(holders()).toEqual([]);
  }, 30_000);

  it('waits on when the Iguana that it asked is started again', async () => {
    here = 'b';
    await gpus.allocate('other', { model: 'T4' });
    const { told, ended } = start('allocate', 'first', '--model', 'T4', '--wait', '5m', '--', 'sh', '-c', 'echo ran');
    await until('its wait', () => gpus.waiting().length === 1, 15_000);
    await page.stop();
    await until('that it knows', () => told.err.includes('it is asked again until the wait is over'));
    const port = Number(new URL(url).port);
    page = await startDashboard({ model: new LiveModel(), port, gpus, token });
    await until('its wait again', () => gpus.waiting().length === 1);
    await gpus.release('other');
    expect([await ended, told.out]).toEqual([0, 'ran\n']);
    expect(holders()).toEqual([]);
  }, 30_000);

  it('says that the name has GPUs already, and renews at once what has lasted a while', async () => {
    await gpus.allocate('train', { node: 'a', leaseMs: 2_000 });
    const { expiresAt } = gpus.find('train')!;
    await until('a part of its lease', () => Date.now() > expiresAt! - 1_700);
    const waits = ['sh', '-c', `while [ "$(wc -c < '${folder}/more')" -lt 1 ]; do sleep 0.05; done`];
    writeFileSync(path.join(folder, 'more'), '');
    const { told, ended } = start('allocate', 'train', '--node', 'a', '--lease', '2s', '--', ...waits);
    await until('a heartbeat', () => (gpus.find('train')?.expiresAt ?? 0) > expiresAt!);
    writeFileSync(path.join(folder, 'more'), 'x');
    expect(await ended).toBe(0);
    expect(told.err).toMatch(/^train has train\/\d+ already: the first command of this name that ends gives it back\n/);
  }, 30_000);

  it('starts nothing on a partition that is not there', async () => {
    here = 'm';
    const file = path.join(folder, 'ran');
    const { code, err } = await iguana('allocate', 'slice', '--profile', '3g.20gb', '--', 'touch', file);
    expect([code, existsSync(file)]).toEqual([1, false]);
    expect(err).toMatch(
      /nvidia-smi -i GPU-m -mig 1\n.*\nIGU_GPU_REFUSED no GPU for slice: its partition is still to be made on m/,
    );
    expect(holders()).toEqual([]);
  });
});

describe('partitions that are still to be made', () => {
  const instance = (id: string, profile: string, gpuInstance: number, start: number, size: number): GpuPartition => ({
    ...{ id, profile: known(profile), gpuInstance: known(gpuInstance), computeInstance: known(0) },
    ...{ placement: known({ start, size }), memoryTotalMb: known(19_968), memoryUsedMb: known(0) },
  });

  it('are told as commands for the node, waited for, and then used', async () => {
    here = 'm';
    const enabled = { partitionMode: known('enabled') };
    let found: Gpu = gpuOf('GPU-m', { ...enabled, partitions: [instance('MIG-old', '7g.40gb', 0, 0, 8)] });
    const inventory = () => ({ gpus: [found], tools: [], takenAt: Date.now(), summary: '', problems: [] });
    const own = await localGpus({
      ...{ node: 'm', everyMs: 50, discovery: { look: async () => inventory(), inventory } },
      sharing: () => ({ mode: 'mig', layout: 'dynamic' }),
    });
    const served = await startDashboard({ model: new LiveModel(), port: 0, gpus: own, token });
    try {
      url = served.url;
      const command = ['sh', '-c', 'echo "$CUDA_VISIBLE_DEVICES"'];
      const asked = ['--profile', '3g.20gb', '--wait', '1m', '--lease', '1500ms'];
      const { told, ended } = start('allocate', 'slice', ...asked, '--', ...command);
      const { start: at } = (await until('the allocation', () => own.find('slice'))).holdings[0]!.partition!;
      await until('the commands', () => told.err.includes('-cgi'));
      expect(told.err.split('\n').slice(1, 4)).toEqual([
        'nvidia-smi mig -i GPU-m -dci -gi 0  # MIG-old',
        'nvidia-smi mig -i GPU-m -dgi -gi 0',
        `nvidia-smi mig -i GPU-m -cgi 9:${at} -C  # 3g.20gb at ${at}`,
      ]);
      expect(told.out).toBe('');
      found = gpuOf('GPU-m', { ...enabled, partitions: [instance('MIG-new', '3g.20gb', 2, at!, 4)] });
      expect(await ended).toBe(0);
      expect(told.out).toBe('MIG-new\n');
    } finally {
      await served.stop();
      await own.stop();
    }
  }, 30_000);
});

it('says of a lease whose time has passed that it is due', async () => {
  const clock = new VirtualClock(1_000);
  const own = await localGpus({ clock, nodes: { a: [gpuOf('GPU-1')] } });
  const served = await startDashboard({ model: new LiveModel(), port: 0, gpus: own, token });
  url = served.url;
  await own.allocate('train', {});
  expect((await iguana('allocations')).out).toMatch(/^train\/1 .* due$/m);
  await served.stop();
  await own.stop();
});

it('says so when what answers is no Iguana', async () => {
  const server: Server = createServer((_, response) => response.end('<html>'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect(await iguana('allocations')).toMatchObject({
    code: 1,
    err: expect.stringMatching(/^IGU_SERVER_UNREACHABLE .*something else/),
  });
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
