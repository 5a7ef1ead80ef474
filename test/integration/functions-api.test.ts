import { afterEach, expect, test } from 'vitest';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { type Dashboard, type DashboardOptions, startDashboard } from '../../src/dashboard/server.js';
import { type TestFunctions, testFunctions } from '../support/function-api.js';
import { rawExchange } from '../support/raw-http.js';

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function start(options: Partial<DashboardOptions> = {}): Promise<{ page: Dashboard; functions: TestFunctions }> {
  const functions = testFunctions();
  stops.push(() => functions.stop());
  const page = await startDashboard({ port: 0, model: new LiveModel(), functions, ...options });
  stops.push(() => page.stop());
  return { page, functions };
}

/** A request to the API; the body goes as JSON. Gives status and answer. */
async function ask(
  page: Dashboard,
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
) {
  const response = await fetch(`${page.url}/api/functions${path}`, {
    method,
    headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return [response.status, await response.json()] as const;
}

const DOUBLE = 'export const handle = ({ input }) => { console.log("got", input); return input * 2; };';
const deployment = (code: string, more: object = {}) => ({
  definition: { name: 'double', runtime: 'javascript', memoryMb: 32, ...more },
  code: Buffer.from(code).toString('base64'),
});

test('a function is deployed, looked at, called, measured, billed and deleted', async () => {
  const { page } = await start();
  const [created, shown] = await ask(page, 'POST', '', deployment(DOUBLE, { env: { A: 'b' } }));
  expect([created, shown]).toEqual([
    201,
    expect.objectContaining({ name: 'double', version: 1, aliases: {}, notServed: [] }),
  ]);
  expect(shown).not.toHaveProperty('definition.code');
  expect(await ask(page, 'GET', '')).toEqual([200, [shown]]);
  expect(await ask(page, 'GET', '/double')).toMatchObject([200, { definition: { code: { inline: DOUBLE } } }]);

  const [status, result] = await ask(page, 'POST', '/double/invoke', { input: 21 });
  expect([status, result]).toMatchObject([200, { output: 42, cold: 'first-call', logs: ['info got 21'] }]);
  expect(await ask(page, 'GET', '/double/metrics')).toMatchObject([200, { totalInvocations: 1, instances: 1 }]);
  expect(await ask(page, 'GET', '/double/logs')).toMatchObject([200, [{ line: 'info got 21' }]]);
  expect(await ask(page, 'GET', '/double/billing')).toMatchObject([200, { invocationCount: 1 }]);
  expect(await ask(page, 'GET', '/double/billing?end=2020-01-01T00:00:00Z')).toMatchObject([
    200,
    { invocationCount: 0 },
  ]);
  expect(await ask(page, 'GET', '/double/billing?start=0&end=9999999999999')).toMatchObject([
    200,
    { invocationCount: 1 },
  ]);
  expect(await ask(page, 'GET', '/double/billing?start=2026-02-01T00:00:00Z&end=2026-01-01T00:00:00Z')).toMatchObject([
    400,
    { code: 'IGU_USAGE' },
  ]);
  expect(await ask(page, 'GET', '/double/stats')).toMatchObject([200, { paused: false, triggers: [] }]);
  expect(await ask(page, 'POST', '/double/pause')).toEqual([200, { paused: true }]);
  expect(await ask(page, 'GET', '/double/stats')).toMatchObject([200, { paused: true }]);
  expect(await ask(page, 'GET', '')).toMatchObject([200, [{ name: 'double', paused: true }]]);
  expect(await ask(page, 'POST', '/double/resume')).toEqual([200, { paused: false }]);
  expect(await ask(page, 'POST', '/double/prewarm', { instances: 2 })).toEqual([200, { instances: 2 }]);

  expect(await ask(page, 'PUT', '/double/aliases/live', { weights: { 1: 1 } })).toMatchObject([200, { alias: 'live' }]);
  expect(await ask(page, 'POST', '', deployment(DOUBLE.replace('* 2', '* 3')))).toMatchObject([201, { version: 2 }]);
  const called = async (qualifier?: string | number) =>
    ((await ask(page, 'POST', '/double/invoke', { input: 1, qualifier }))[1] as { output: unknown }).output;
  expect([await called(), await called('live'), await called(1)]).toEqual([3, 2, 2]);
  // as errors write it, escaped or not
  for (const name of ['double:live', 'double%3Alive', 'double:1'])
    expect(await ask(page, 'POST', `/${name}/invoke`, { input: 1 })).toMatchObject([200, { output: 2 }]);
  expect(await ask(page, 'POST', '/double:live/invoke', { input: 1, qualifier: 2 })).toMatchObject([
    400,
    { code: 'IGU_USAGE', message: expect.stringMatching(/double:live is called with another qualifier, 2/) },
  ]);
  expect(await ask(page, 'DELETE', '/double/aliases/live')).toEqual([200, { function: 'double', deleted: 'live' }]);
  expect(await ask(page, 'DELETE', '/double/aliases/live')).toMatchObject([
    404,
    { code: 'IGU_NOT_FOUND', message: expect.stringMatching(/no alias of double named live; it has none/) },
  ]);
  for (const name of ['double:live', 'double:1'])
    expect(await ask(page, 'POST', `/${name}/invoke`, { input: 1 })).toMatchObject([
      404,
      { code: 'IGU_FUNCTION_NOT_FOUND', message: expect.stringContaining(`no function ${name}`) },
    ]);

  expect(await ask(page, 'DELETE', '/double')).toEqual([200, { deleted: 'double' }]);
  expect(await ask(page, 'GET', '/double')).toMatchObject([404, { code: 'IGU_FUNCTION_NOT_FOUND' }]);
  expect(await ask(page, 'GET', '')).toEqual([200, []]);
});

test('a call has the error of the function, with what it said, and its time limit', async () => {
  const { page, functions } = await start();
  await functions.define(
    'bad',
    'export const handle = ({ input }) => { if (input) throw new Error("no 7"); for (;;); };',
  );
  expect(await ask(page, 'POST', '/bad/invoke', { input: 1 })).toMatchObject([
    502,
    { code: 'IGU_FUNCTION_FAILED', message: expect.stringContaining('no 7'), fix: expect.any(String) },
  ]);
  const [status, late] = await ask(page, 'POST', '/bad/invoke', { input: 0, timeoutMs: 50 });
  expect([status, late]).toMatchObject([504, { code: 'IGU_FUNCTION_TIMEOUT', invocationId: expect.any(String) }]);
  expect(functions.logs('bad').at(-1)?.invocationId).toBe((late as { invocationId: string }).invocationId);
  expect(await ask(page, 'POST', '/bad/invoke', { input: 1, async: true })).toMatchObject([400, { code: 'IGU_USAGE' }]);
});

test('asynchronous calls are answered with their id, looked up and cancelled', async () => {
  const functions = testFunctions();
  stops.push(() => functions.stop());
  await functions.define('later', DOUBLE);
  await functions.define('other', DOUBLE);
  const calls = new Map<string, unknown>();
  const ended = new Set<string>();
  const { page } = await start({
    functions: {
      ...functions,
      invokeAsync: async (name, input) => {
        calls.set('id-1', { name, input });
        return { invocationId: 'id-1' };
      },
      asyncCall: (invocationId) =>
        calls.has(invocationId)
          ? { invocationId, function: 'later', state: ended.has(invocationId) ? 'failed' : 'running', attempts: 1 }
          : undefined,
      cancelAsyncCall: (invocationId) => !ended.has(invocationId) && calls.delete(invocationId),
    },
  });
  expect(await ask(page, 'POST', '/later/invoke', { input: 5, async: true })).toEqual([202, { invocationId: 'id-1' }]);
  expect(calls.get('id-1')).toEqual({ name: 'later', input: 5 });
  expect(await ask(page, 'GET', '/later/calls/id-1')).toMatchObject([200, { state: 'running' }]);
  for (const method of ['GET', 'DELETE'])
    expect(await ask(page, method, '/other/calls/id-1')).toMatchObject([404, { code: 'IGU_NOT_FOUND' }]);
  ended.add('id-1');
  expect(await ask(page, 'DELETE', '/later/calls/id-1')).toMatchObject([
    409,
    {
      message: expect.stringMatching(/^IGU_FUNCTION_CALL_ENDED call id-1 of later has failed already; nothing is left/),
    },
  ]);
  ended.clear();
  expect(await ask(page, 'DELETE', '/later/calls/id-1')).toEqual([200, { cancelled: 'id-1' }]);
  expect(await ask(page, 'GET', '/later/calls/id-1')).toMatchObject([404, { code: 'IGU_NOT_FOUND' }]);
});

test('what is said wrongly is refused with its place, and changes nothing', async () => {
  const { page, functions } = await start();
  await functions.define('f', DOUBLE);
  const refused = async (method: string, path: string, body: unknown, what: RegExp) => {
    const [status, answer] = await ask(page, method, path, body);
    expect([path, status, answer]).toMatchObject([
      path,
      400,
      { code: 'IGU_HTTP_BODY', message: expect.stringMatching(what) },
    ]);
  };
  await refused('POST', '', { definition: {}, code: 'a b' }, /code: base64/);
  await refused('POST', '', { definition: { name: 'Bad Name', runtime: 'javascript' }, code: '' }, /name: lower-case/);
  await refused('POST', '', { ...deployment(DOUBLE), extra: 1 }, /extra/);
  await refused(
    'POST',
    '',
    { definition: { name: 'g', runtime: 'javascript', code: { file: '/etc/passwd' } } },
    /code is missing/,
  );
  await refused('POST', '', deployment(DOUBLE, { __proto__: null, memory: 5 }), /memory/);
  await refused('POST', '/f/invoke', { input: 1, timeoutMs: -1 }, /timeoutMs/);
  await refused('POST', '/f/prewarm', { instances: 1_000_000 }, /instances/);
  await refused('PUT', '/f/aliases/live', { weights: { one: 1 } }, /weights/);
  expect(await ask(page, 'PUT', '/f/aliases/3', { weights: { 1: 1 } })).toMatchObject([
    400,
    { code: 'IGU_USAGE', message: expect.stringMatching(/^IGU_USAGE alias "3": a lower-case letter first/) },
  ]);
  expect(await ask(page, 'PUT', '/f/aliases/live', { weights: { 9: 1 } })).toMatchObject([400, { code: 'IGU_USAGE' }]);
  expect(await ask(page, 'GET', '/f/billing?start=yesterday')).toMatchObject([400, { code: 'IGU_HTTP_BODY' }]);
  expect(await ask(page, 'POST', '/f/nothing')).toMatchObject([405, { code: 'IGU_HTTP_METHOD' }]);
  expect(await ask(page, 'GET', '/f/nothing')).toMatchObject([404, { code: 'IGU_HTTP_PATH' }]);
  expect(await ask(page, 'POST', '/f/metrics')).toMatchObject([405, { code: 'IGU_HTTP_METHOD' }]);
  const text = await fetch(`${page.url}/api/functions/f/invoke`, { method: 'POST', body: '{"input":1}' });
  expect([text.status, await text.json()]).toMatchObject([
    400,
    { message: expect.stringContaining('application/json') },
  ]);
  const broken = await fetch(`${page.url}/api/functions/f/invoke`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"input":',
  });
  expect(broken.status).toBe(400);
  const [large] = await ask(page, 'POST', '/f/prewarm', { instances: 1, more: 'x'.repeat(100_000) });
  expect(large).toBe(413);
  expect(functions.list()).toHaveLength(1);
  expect(functions.metrics('f')).toMatchObject({ totalInvocations: 0, instances: 0 });
});

test('pages elsewhere, other names for this machine, and other machines without the token change nothing', async () => {
  const { page, functions } = await start({ host: '0.0.0.0' });
  await functions.define('f', DOUBLE);
  const post = (headers: string) =>
    rawExchange(
      page.port,
      `POST /api/functions/f/pause HTTP/1.1\r\n${headers}connection: close\r\ncontent-length: 0\r\n\r\n`,
    );
  expect(await post('host: localhost\r\norigin: https://evil.example\r\n')).toMatch(
    /^HTTP\/1.1 403 .*IGU_HTTP_ORIGIN/s,
  );
  // A function's answer is shown in a sandbox, whose origin is null.
  expect(await post('host: localhost\r\norigin: null\r\n')).toMatch(/^HTTP\/1.1 403 /);
  expect(await post('host: localhost\r\nsec-fetch-site: cross-site\r\n')).toMatch(/^HTTP\/1.1 403 /);
  expect(await post('host: evil.example\r\norigin: http://evil.example\r\n')).toMatch(/^HTTP\/1.1 421 /);
  expect(functions.paused.size).toBe(0);
  expect(await post('host: localhost\r\norigin: http://localhost\r\n')).toMatch(/^HTTP\/1.1 200 /);
  expect([...functions.paused]).toEqual(['f']);
});

test('with a token only who has it is answered', async () => {
  const { page, functions } = await start({ token: 'secret-token' });
  await functions.define('f', DOUBLE);
  const with_ = (authorization: string) => ask(page, 'GET', '', undefined, { authorization });
  expect(await ask(page, 'GET', '')).toMatchObject([
    401,
    {
      message: expect.stringMatching(
        /^IGU_HTTP_TOKEN requests of [^ ]*127\.0\.0\.1 need the token; send `authorization: /,
      ),
    },
  ]);
  expect((await with_('Bearer secret-tokem'))[0]).toBe(401);
  expect((await with_('secret-token'))[0]).toBe(401);
  expect((await with_('Bearer secret-token'))[0]).toBe(200);
});

test('without functions nothing is served in their place', async () => {
  const page = await startDashboard({ port: 0, model: new LiveModel() });
  stops.push(() => page.stop());
  expect(await ask(page, 'GET', '')).toMatchObject([404, { code: 'IGU_HTTP_PATH' }]);
  expect((await fetch(`${page.url}/functions/x`)).status).toBe(404);
});
