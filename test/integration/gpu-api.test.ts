import { readFile } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { afterEach, expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock.js';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { type Dashboard, type DashboardOptions, startDashboard } from '../../src/dashboard/server.js';
import { localGpus } from '../../src/gpu/local-gpus.js';
import type { Gpu } from '../../src/gpu/types.js';
import { dashboardLimits, gpuHttpLimits, gpuSchedulerLimits, httpLimits } from '../../src/limits.js';
import { gpuOf, healthOf } from '../unit/gpu/gpu-fixture.js';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const twoNodes = { 'node-1': [gpuOf('GPU-1'), gpuOf('GPU-2')], 'node-2': [gpuOf('GPU-3')] };

async function start(nodes: Record<string, Gpu[]> = twoNodes, options: Partial<DashboardOptions> = {}) {
  const clock = new VirtualClock(1_000_000);
  const gpus = await localGpus({ clock, nodes });
  stops.push(() => gpus.stop());
  const page = await startDashboard({ port: 0, model: new LiveModel(), clock, gpus, ...options });
  stops.push(() => page.stop());
  return { page, gpus, clock };
}

/** A request to the API; the body goes as JSON. Gives status and answer. */
async function ask(page: Dashboard, method: string, path: string, body?: unknown, headers = {}) {
  const response = await fetch(`${page.url}/api/gpu${path}`, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return [response.status, await response.json()] as const;
}

test('GPUs are allocated, looked at, renewed and given back', async () => {
  const { page, clock } = await start();
  const [status, grant] = await ask(page, 'POST', '/allocations', { instance: 'train/1', owner: 'team', gpuCount: 2 });
  expect(status).toBe(201);
  expect(grant).toMatchObject({
    granted: true,
    node: 'node-1',
    gpuIds: ['GPU-1', 'GPU-2'],
    mode: 'exclusive',
    environment: { CUDA_VISIBLE_DEVICES: 'GPU-1,GPU-2' },
    allocation: { instance: 'train/1', owner: 'team', leaseMs: 60_000 },
  });
  const { id } = (grant as { allocation: { id: string } }).allocation;
  // Asked again, the same is told again.
  expect(await ask(page, 'POST', '/allocations', { instance: 'train/1', owner: 'team', gpuCount: 2 })).toMatchObject([
    201,
    { allocation: { id } },
  ]);
  const one = encodeURIComponent('train/1');
  expect(await ask(page, 'GET', `/allocations/${one}`)).toMatchObject([200, { id }]);
  expect(await ask(page, 'GET', `/allocations/${id}`)).toMatchObject([200, { instance: 'train/1' }]);
  expect(await ask(page, 'GET', '/allocations')).toMatchObject([200, [{ id }]]);

  const [, nodes] = await ask(page, 'GET', '/nodes');
  expect(nodes).toMatchObject([
    {
      node: 'node-1',
      silent: false,
      at: 1_000_000,
      gpus: [
        {
          id: 'GPU-1',
          memoryTotalMb: 40_000,
          utilization: null,
          absent: { utilization: 'not-reported' },
          holders: [
            {
              allocation: id,
              instance: 'train/1',
              owner: 'team',
              kind: 'allocation',
              mode: 'exclusive',
              partition: null,
            },
          ],
        },
        { id: 'GPU-2', holders: [{ allocation: id, memoryMb: 40_000, shareMilli: 1_000 }] },
      ],
    },
    { node: 'node-2', gpus: [{ id: 'GPU-3', holders: [] }] },
  ]);
  expect(await ask(page, 'GET', '/nodes?node=node-2')).toEqual([200, (nodes as unknown[]).slice(1)]);

  clock.advance(30_000);
  expect(await ask(page, 'POST', `/allocations/${one}/renew`)).toMatchObject([200, { id, expiresAt: 1_090_000 }]);
  expect(await ask(page, 'GET', '/stats')).toMatchObject([
    200,
    { role: 'local', nodes: 2, gpus: 3, healthy: 3, allocations: 1, held: 2, granted: 1, refused: 0 },
  ]);
  expect(await ask(page, 'GET', '/preallocation')).toEqual([200, []]);
  expect(await ask(page, 'GET', '/plan?maxMoves=2')).toMatchObject([200, { moves: [], partitions: [] }]);
  expect(await ask(page, 'DELETE', `/allocations/${one}`)).toEqual([200, { released: id }]);
  expect(await ask(page, 'DELETE', `/allocations/${one}`)).toMatchObject([404, { code: 'IGU_GPU_ALLOCATION' }]);
  expect(await ask(page, 'GET', '/allocations')).toEqual([200, []]);
});

test('what does not fit is refused with the reason of each GPU', async () => {
  const { page } = await start();
  const [status, answer] = await ask(page, 'POST', '/allocations', { instance: 'big', memoryMb: 50_000 });
  expect(status).toBe(409);
  expect(answer).toMatchObject({
    code: 'IGU_GPU_REFUSED',
    message: expect.stringMatching(/^IGU_GPU_REFUSED no GPU for big: .*memory 3/),
    fix: expect.stringContaining('iguana gpu explain'),
    denial: { granted: false, reason: 'gpus', gpusLeftOut: 0 },
  });
  expect((answer as { denial: { gpus: unknown[] } }).denial.gpus).toHaveLength(3);
  expect((answer as { denial: { gpus: unknown[] } }).denial.gpus).toContainEqual({
    node: 'node-1',
    gpuId: 'GPU-1',
    code: 'memory',
    what: '50000 MiB are asked for, 40000 are free',
  });
  expect((answer as { message: string }).message).not.toContain('\n');

  const [, explained] = await ask(page, 'POST', '/explain', { node: 'node-2' });
  expect(explained).toMatchObject({
    fits: ['GPU-3'],
    gpus: [
      { gpuId: 'GPU-1', code: 'node' },
      { gpuId: 'GPU-2', code: 'node' },
    ],
    answer: { granted: true, gpuIds: ['GPU-3'] },
  });
  expect(await ask(page, 'GET', '/allocations')).toEqual([200, []]);
});

test('a refusal tells of a bounded number of GPUs and counts the others', async () => {
  const many = Array.from({ length: 60 }, (_, i) => gpuOf(`GPU-${i}`, { health: healthOf('lost') }));
  const { page } = await start({ 'node-1': many });
  const most = gpuHttpLimits.maxRefusals;
  const [, explained] = await ask(page, 'POST', '/explain', {});
  const { answer, gpus } = explained as { answer: { gpus: unknown[]; gpusLeftOut: number }; gpus: unknown[] };
  expect([answer.gpus.length, answer.gpusLeftOut, gpus.length]).toEqual([most, 10, 60]);
  const [, { denial }] = (await ask(page, 'POST', '/allocations', { instance: 'a' })) as [
    number,
    { denial: typeof answer },
  ];
  // A scheduler tells of no more than it writes.
  expect([denial.gpus.length, denial.gpusLeftOut]).toEqual([most, Math.min(60, gpuSchedulerLimits.maxToldGpus) - most]);
});

test('nodes of a large cluster are all told, each once', async () => {
  const names = Array.from({ length: 40 }, (_, n) => `node-${String(n).padStart(2, '0')}`);
  const nodes = names.map((node) => [node, Array.from({ length: 8 }, (_, i) => gpuOf(`GPU-${node}-${i}`))] as const);
  const { page } = await start(Object.fromEntries(nodes));
  const [, told] = (await ask(page, 'GET', '/nodes')) as [number, { node: string; gpus: { id: string }[] }[]];
  expect(told.map(({ node, gpus }) => [node, gpus.map(({ id }) => id)])).toEqual(
    nodes.map(([node, gpus]) => [node, gpus.map(({ id }) => id)]),
  );
});

test('a gang gets all or nothing, and a reservation keeps GPUs for its owner', async () => {
  const { page } = await start();
  const members = (n: number) => Array.from({ length: n }, (_, i) => ({ instance: `m${i}`, request: {} }));
  expect(await ask(page, 'POST', '/allocations', { gang: 'g', members: members(4) })).toMatchObject([
    409,
    { code: 'IGU_GPU_REFUSED', denial: { granted: false } },
  ]);
  expect(await ask(page, 'GET', '/stats')).toMatchObject([200, { allocations: 0, refused: 1 }]);
  const [status, grants] = await ask(page, 'POST', '/allocations', { gang: 'g', members: members(2) });
  expect([status, grants]).toMatchObject([201, [{ allocation: { gang: 'g', instance: 'm0' } }, { granted: true }]]);

  const [reserved, reservation] = await ask(page, 'POST', '/reservations', { owner: 'team', ttlMs: 60_000 });
  expect([reserved, reservation]).toMatchObject([201, { kind: 'reservation', owner: 'team', expiresAt: 1_060_000 }]);
  expect(await ask(page, 'POST', '/reservations', { owner: 'team', ttlMs: 60_000 })).toMatchObject([
    409,
    { code: 'IGU_GPU_REFUSED' },
  ]);
  const { id, holdings } = reservation as { id: string; holdings: { node: string; gpuId: string }[] };
  const kept = holdings[0]!.gpuId;
  const [, nodes] = (await ask(page, 'GET', '/nodes')) as [number, { gpus: { id: string }[] }[]];
  expect(nodes.flatMap((node) => node.gpus).find((gpu) => gpu.id === kept)).toMatchObject({
    holders: [{ allocation: id, instance: null, owner: 'team', kind: 'reservation' }],
  });
  expect(await ask(page, 'POST', '/allocations', { instance: 'x' })).toMatchObject([409, {}]);
  expect(await ask(page, 'POST', '/allocations', { instance: 'x', owner: 'team' })).toMatchObject([
    201,
    { gpuIds: [kept] },
  ]);
});

test('who waits gets what is given back, and waits no more when it goes away', async () => {
  const { page, gpus, clock } = await start({ 'node-1': [gpuOf('GPU-1')] });
  await ask(page, 'POST', '/allocations', { instance: 'first', leaseMs: null });
  const second = ask(page, 'POST', '/allocations', { instance: 'second', waitMs: 600_000 });
  await expect
    .poll(async () => (await ask(page, 'GET', '/waiting'))[1])
    .toMatchObject([
      { instance: 'second', gang: null, gpuCount: 1, until: 1_600_000, what: expect.stringContaining('held 1') },
    ]);
  await ask(page, 'DELETE', '/allocations/first');
  clock.advance(gpuSchedulerLimits.tickMs);
  expect(await second).toMatchObject([201, { gpuIds: ['GPU-1'] }]);

  const going = new AbortController();
  const third = fetch(`${page.url}/api/gpu/allocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ instance: 'third', waitMs: 600_000 }),
    signal: going.signal,
  });
  await expect.poll(() => gpus.waiting().map(({ instance }) => instance)).toEqual(['third']);
  going.abort();
  await expect(third).rejects.toThrow();
  await expect.poll(() => gpus.waiting()).toEqual([]);

  const gang = { gang: 'g', members: [{ instance: 'm0' }], waitMs: 600_000 };
  const fourth = ask(page, 'POST', '/allocations', gang);
  await expect.poll(() => gpus.waiting()).toHaveLength(1);
  expect(await ask(page, 'DELETE', '/allocations/g')).toEqual([200, { released: 'g' }]);
  expect(await fourth).toMatchObject([409, { denial: { reason: 'instance' } }]);
  expect(gpus.find('second')).toBeDefined();
});

test('a gang is given back by its name, and not because a client went away that asked for more', async () => {
  const { page, gpus } = await start();
  const members = ['m0', 'm1'].map((instance) => ({ instance, request: {} }));
  expect(await ask(page, 'POST', '/allocations', { gang: 'g', members })).toMatchObject([201, [{}, {}]]);
  const going = new AbortController();
  const more = [...members, ...['m2', 'm3'].map((instance) => ({ instance, request: {} }))];
  const asked = fetch(`${page.url}/api/gpu/allocations`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ gang: 'g', members: more, waitMs: 600_000 }),
    signal: going.signal,
  });
  await expect.poll(() => gpus.waiting()).toHaveLength(1);
  going.abort();
  await expect(asked).rejects.toThrow();
  // whatever the end of that connection does has been done when a later one is answered
  expect(await ask(page, 'GET', '/waiting')).toMatchObject([200, [{ gang: 'g' }]]);
  expect(await ask(page, 'GET', '/stats')).toMatchObject([200, { allocations: 2 }]);
  expect(await ask(page, 'DELETE', '/allocations/g')).toEqual([200, { released: 'g' }]);
  expect([gpus.records(), gpus.waiting()]).toEqual([[], []]);
  expect(await ask(page, 'DELETE', '/allocations/g')).toMatchObject([404, { code: 'IGU_GPU_ALLOCATION' }]);
});

test('what is wrong in a request is told by its field', async () => {
  const { page, gpus } = await start();
  const cases: [path: string, body: unknown, code: string, says: string][] = [
    ['/allocations', { instance: 'a', gpuCount: 0 }, 'IGU_GPU_REQUEST', 'gpuCount'],
    ['/allocations', { instance: 'a', gpus: 2 }, 'IGU_GPU_REQUEST', 'gpus'],
    ['/allocations', { instance: 'a', computeShare: 1.5 }, 'IGU_GPU_REQUEST', 'computeShare'],
    ['/allocations', { instance: 'a', minComputeCapability: 'new' }, 'IGU_GPU_REQUEST', 'minComputeCapability'],
    ['/allocations', { instance: 'a', mode: 'greedy' }, 'IGU_GPU_REQUEST', 'mode'],
    ['/allocations', { gpuCount: 1 }, 'IGU_HTTP_BODY', 'instance'],
    ['/allocations', { instance: '' }, 'IGU_HTTP_BODY', 'instance'],
    ['/allocations', { instance: 'a', waitMs: -1 }, 'IGU_HTTP_BODY', 'waitMs'],
    ['/allocations', { instance: 'a', waitMs: 1.5 }, 'IGU_HTTP_BODY', 'waitMs'],
    ['/allocations', [], 'IGU_HTTP_BODY', ''],
    ['/allocations', { gang: 'g', members: [] }, 'IGU_HTTP_BODY', 'members'],
    ['/allocations', { gang: 'g', members: [{ instance: 'm', gpuCount: 1 }] }, 'IGU_HTTP_BODY', 'gpuCount'],
    [
      '/allocations',
      { gang: 'g', members: [{ instance: 'm', request: { gpuCount: -1 } }] },
      'IGU_GPU_REQUEST',
      'gpuCount',
    ],
    ['/reservations', { owner: 'a' }, 'IGU_HTTP_BODY', 'ttlMs'],
    ['/reservations', { owner: 'a', ttlMs: 1.5 }, 'IGU_HTTP_BODY', 'ttlMs'],
    ['/reservations', { owner: 'a', ttlMs: 1000, memoryMb: '4 GB' }, 'IGU_GPU_REQUEST', 'memoryMb'],
    ['/explain', { vendor: 'acme' }, 'IGU_GPU_REQUEST', 'vendor'],
  ];
  for (const [path, body, code, says] of cases) {
    const [status, answer] = await ask(page, 'POST', path, body);
    expect([path, body, status, answer]).toMatchObject([
      path,
      body,
      400,
      { code, message: expect.stringContaining(says) },
    ]);
  }
  expect(await ask(page, 'GET', '/plan?maxMoves=many')).toMatchObject([400, { code: 'IGU_CONFIG' }]);
  expect(await ask(page, 'GET', '/nodes?node=node-9')).toMatchObject([404, { code: 'IGU_NOT_FOUND' }]);
  expect(gpus.records()).toEqual([]);
  expect(gpus.stats().refused).toBe(0);
});

test('bodies that are no JSON or too large, methods and paths that are not there', async () => {
  const { page } = await start();
  const post = (body: string, type: string) =>
    fetch(`${page.url}/api/gpu/allocations`, { method: 'POST', body, headers: { 'content-type': type } });
  const broken = await post('{"instance":', 'application/json');
  expect([broken.status, await broken.json()]).toMatchObject([400, { code: 'IGU_HTTP_BODY' }]);
  const form = await post('instance=a', 'application/x-www-form-urlencoded');
  expect([form.status, await form.json()]).toMatchObject([400, { code: 'IGU_HTTP_BODY' }]);
  const large = await post(JSON.stringify({ instance: 'a'.repeat(httpLimits.maxApiBytes) }), 'application/json');
  expect([large.status, await large.json()]).toMatchObject([
    413,
    { code: 'IGU_HTTP_TOO_LARGE', fix: expect.stringMatching(/^send less; of an HTTP trigger/) },
  ]);

  const allowed: [method: string, path: string, allow: string][] = [
    ['POST', '/nodes', 'GET, HEAD'],
    ['PUT', '/allocations', 'GET, HEAD, POST'],
    ['GET', '/reservations', 'POST'],
    ['POST', '/allocations/a', 'GET, HEAD, DELETE'],
    ['GET', '/allocations/a/renew', 'POST'],
    ['DELETE', '/stats', 'GET, HEAD'],
    ['GET', '/explain', 'POST'],
  ];
  for (const [method, path, allow] of allowed) {
    const response = await fetch(`${page.url}/api/gpu${path}`, { method });
    expect([method, path, response.status, response.headers.get('allow')]).toEqual([method, path, 405, allow]);
    expect(await response.json()).toMatchObject({ code: 'IGU_HTTP_METHOD' });
  }
  for (const path of ['', '/', '/nothing', '/stats/more', '/allocations/', '/__proto__']) {
    expect([path, ...(await ask(page, 'GET', path))]).toMatchObject([path, 404, { code: 'IGU_HTTP_PATH' }]);
  }
  for (const [method, path] of [
    ['GET', '/allocations/nobody'],
    ['DELETE', '/allocations/nobody'],
    ['POST', '/allocations/nobody/renew'],
  ] as const) {
    expect(await ask(page, method, path)).toMatchObject([404, { code: 'IGU_GPU_ALLOCATION' }]);
  }
  const head = await fetch(`${page.url}/api/gpu/stats`, { method: 'HEAD' });
  expect([head.status, await head.text()]).toEqual([200, '']);
});

test('every name that is accepted can be renewed, looked at and given back by its address; others are refused', async () => {
  const { page, gpus } = await start();
  const names = [
    'a b',
    'Übung',
    'a/b',
    '/a',
    'a/',
    'x/renew',
    'renew',
    '100 %',
    'a%2Fb',
    '…',
    '猫',
    '👩‍🔬',
    'a?b#c',
    "'a'",
    '-',
    '...',
  ];
  for (const instance of names) {
    const at = `/allocations/${encodeURIComponent(instance)}`;
    expect(await ask(page, 'POST', '/allocations', { instance }), instance).toMatchObject([201, {}]);
    const { id } = gpus.find(instance)!;
    expect(await ask(page, 'POST', `${at}/renew`), instance).toMatchObject([200, { id }]);
    expect(await ask(page, 'POST', `/allocations/${encodeURIComponent(id)}/renew`)).toMatchObject([200, { id }]);
    expect(await ask(page, 'GET', at), instance).toMatchObject([200, { id, instance }]);
    expect(await ask(page, 'DELETE', at), instance).toEqual([200, { released: id }]);
  }
  const members = [{ instance: 'a' }];
  for (const name of ['evil\u001b[31m', 'a\nb', 'a\tb', '\u007f', '\u009b31m', '\u2028', '\ud800', '.', '..', '']) {
    for (const [path, body] of [
      ['/allocations', { instance: name }],
      ['/allocations', { instance: 'a', owner: name }],
      ['/allocations', { gang: name, members }],
      ['/allocations', { gang: 'g', members: [{ instance: name }] }],
      ['/reservations', { owner: name, ttlMs: 1_000 }],
      ['/explain', { instance: name }],
    ] as const) {
      const [status, error] = await ask(page, 'POST', path, body);
      const { code, message } = error as { code: string; message: string };
      expect([status, code], JSON.stringify(body)).toEqual([
        400,
        expect.stringMatching(/^IGU_(GPU_REQUEST|HTTP_BODY)$/),
      ]);
      expect(message).not.toMatch(/[\p{Cc}\p{Cs}]/u);
    }
    const { message } = (await gpus.allocate(name, {}).catch((caught: Error) => caught)) as Error;
    expect(message).toMatch(/^IGU_GPU_REQUEST/);
    expect(message).not.toMatch(/[\p{Cc}\p{Cs}]/u);
  }
  expect(gpus.records()).toEqual([]);
});

test('only who has the token may ask, and no page elsewhere', async () => {
  const { page } = await start(twoNodes, { token: 'secret' });
  for (const headers of [{}, { authorization: 'Bearer wrong' }, { authorization: 'secret' }]) {
    expect(await ask(page, 'GET', '/nodes', undefined, headers)).toMatchObject([401, { code: 'IGU_HTTP_TOKEN' }]);
    expect(await ask(page, 'POST', '/allocations', { instance: 'a' }, headers)).toMatchObject([401, {}]);
  }
  const headers = { authorization: 'Bearer secret' };
  expect(await ask(page, 'POST', '/allocations', { instance: 'a' }, headers)).toMatchObject([201, {}]);
  const elsewhere = { ...headers, origin: 'http://127.0.0.1:1' };
  expect(await ask(page, 'DELETE', '/allocations/a', undefined, elsewhere)).toMatchObject([
    403,
    { code: 'IGU_HTTP_ORIGIN' },
  ]);
  const foreign = await new Promise<number | undefined>((resolve, reject) => {
    const asked = { port: page.port, path: '/api/gpu/nodes', headers: { ...headers, host: 'evil.example' } };
    httpRequest({ ...asked, host: '127.0.0.1' }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
  expect(foreign).toBe(421);
});

test('GET /api lists the routes where there are GPUs, and nothing is there without', async () => {
  const { page } = await start();
  const listed = Object.keys((await (await fetch(`${page.url}/api`)).json()) as object);
  const ours = listed.filter((route) => route.startsWith('/api/gpu/'));
  expect(ours).toEqual(expect.arrayContaining(['/api/gpu/nodes', '/api/gpu/allocations/{idOrInstance}/renew']));
  const guide = await readFile(new URL('../../docs/gpu-api.md', import.meta.url), 'utf8');
  for (const route of ours) expect(guide).toMatch(new RegExp(`(GET|POST) ${route.replace(/[{}]/g, '\\$&')}\``));
  const without = await startDashboard({ port: 0, model: new LiveModel() });
  stops.push(() => without.stop());
  expect(Object.keys((await (await fetch(`${without.url}/api`)).json()) as object).join()).not.toContain('gpu');
  expect(await ask(without, 'GET', '/nodes')).toMatchObject([404, { code: 'IGU_HTTP_PATH' }]);
  expect(await (await fetch(`${without.url}/metrics`)).text()).not.toContain('iguana_gpu');
});

test('an open page is told of GPUs at once, and again when something changes', async () => {
  const { page, clock } = await start();
  const response = await fetch(`${page.url}/events`);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const next = async () => {
    let end = text.indexOf('\n\n');
    while (end < 0 || !text.slice(0, end).includes('event: change')) {
      if (end >= 0) text = text.slice(end + 2);
      else text += (await reader.read()).value ?? '';
      end = text.indexOf('\n\n');
    }
    const data = text.slice(0, end).match(/^data: (.*)$/m)![1]!;
    text = text.slice(end + 2);
    return JSON.parse(data) as { gpus?: { nodes: { node: string; gpus: { tenants: unknown[] }[] }[] } };
  };
  expect((await next()).gpus?.nodes.map(({ node }) => node)).toEqual(['node-1', 'node-2']);
  clock.advance(dashboardLimits.tickMs);
  expect(await next()).not.toHaveProperty('gpus');
  await ask(page, 'POST', '/allocations', { instance: 'a', node: 'node-2' });
  clock.advance(2 * dashboardLimits.tickMs);
  let change = await next();
  while (!change.gpus) change = await next();
  expect(change.gpus.nodes[1]!.gpus[0]!.tenants).toMatchObject([{ name: 'a', part: 1 }]);
  await reader.cancel();
});

test('Prometheus is told of each GPU and of all of them', async () => {
  const { page } = await start();
  await ask(page, 'POST', '/allocations', { instance: 'a', memoryMb: 10_000, owner: 'o' });
  await ask(page, 'POST', '/allocations', { instance: 'b', gpuCount: 9 });
  const text = await (await fetch(`${page.url}/metrics`)).text();
  expect(text).toMatch(
    /^iguana_gpu_memory_size_bytes\{gpu="GPU-1",vendor="nvidia",model="NVIDIA A100-SXM4-40GB",node="node-1"\} 41943040000$/m,
  );
  expect(text).toMatch(/^iguana_gpu_held_ratio\{gpu="GPU-\d",.*\} 0\.25$/m);
  expect(text).toMatch(/^iguana_gpu_grants_total 1$/m);
  expect(text).toMatch(/^iguana_gpu_refusals_total 1$/m);
});
