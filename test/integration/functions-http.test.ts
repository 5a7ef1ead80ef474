import { afterEach, describe, expect, test } from 'vitest';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { type Dashboard, type DashboardOptions, startDashboard } from '../../src/dashboard/server.js';
import { IguanaError, messageOf } from '../../src/errors.js';
import { type TestFunctions, testFunctions } from '../support/function-api.js';
import { rawConnection, rawExchange } from '../support/raw-http.js';

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

const http = (path: string, more: object = {}) => ({ triggers: [{ type: 'http', path, ...more }] });

const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code;

/** Answers with its event; counts its calls as it goes. */
const ECHO = 'let calls = 0; export const handle = (event) => ({ ...event, calls: ++calls });';

describe('a request', () => {
  test('is given to the function, and the answer is what it returned', async () => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, http('/echo/:id', { method: 'POST' }));
    await functions.define(
      'answers',
      `export const handle = ({ params }) => ({
        bytes: new Uint8Array([1, 2]), nothing: null, text: 'x',
        whole: { statusCode: 418, headers: { 'X-Pot': 'tea', 'set-cookie': ['a=1', 'b=2'] }, body: '<p>short</p>' },
      })[params.kind];`,
      http('/answers/:kind', { method: 'GET' }),
    );
    const response = await fetch(`${page.url}/functions/echo/a%20b?q=1&q=2`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-mine': 'yes' },
      body: '{"a":[1]}',
    });
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    const event = (await response.json()) as { headers: object };
    expect(event).toMatchObject({
      trigger: 'http',
      method: 'POST',
      path: '/echo/a%20b',
      params: { id: 'a b' },
      query: { q: ['1', '2'] },
      headers: { 'x-mine': 'yes' },
      body: { a: [1] },
    });
    expect(event.headers).not.toHaveProperty('connection');

    const bytes = await fetch(`${page.url}/functions/answers/bytes`);
    expect([bytes.headers.get('content-type'), Buffer.from(await bytes.arrayBuffer())]).toEqual([
      'application/octet-stream',
      Buffer.from([1, 2]),
    ]);
    const nothing = await fetch(`${page.url}/functions/answers/nothing`);
    expect([nothing.status, await nothing.text()]).toEqual([204, '']);
    expect(await (await fetch(`${page.url}/functions/answers/text`)).json()).toBe('x');
    const whole = await fetch(`${page.url}/functions/answers/whole`);
    expect([whole.status, whole.headers.get('x-pot'), whole.headers.getSetCookie(), await whole.text()]).toEqual([
      418,
      'tea',
      ['a=1', 'b=2'],
      '<p>short</p>',
    ]);
    // The page that may deploy functions has the same address: a browser must take this for another one.
    expect(whole.headers.get('content-security-policy')).toMatch(/^sandbox (?!.*allow-same-origin)/);
    const head = await fetch(`${page.url}/functions/answers/whole`, { method: 'HEAD' });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([418, '12', '']);
  });

  test('for what is not there, or has other methods, is answered with the code', async () => {
    const { page, functions } = await start();
    await functions.define('f', ECHO, http('/there', { method: 'PUT' }));
    for (const path of ['/functions', '/functions/', '/functions/nowhere', '/functions/there/', '/functions/%ff']) {
      const response = await fetch(page.url + path);
      expect([path, response.status]).toEqual([path, 404]);
      expect(await response.json()).toMatchObject({ code: 'IGU_HTTP_PATH', fix: expect.any(String) });
    }
    const other = await fetch(`${page.url}/functions/there`);
    expect([other.status, other.headers.get('allow'), await codeOf(other)]).toEqual([
      405,
      'PUT, OPTIONS',
      'IGU_HTTP_METHOD',
    ]);
    const options = await fetch(`${page.url}/functions/there`, { method: 'OPTIONS' });
    expect([options.status, options.headers.get('allow')]).toEqual([204, 'PUT, OPTIONS']);
    await functions.delete('f');
    expect((await fetch(`${page.url}/functions/there`, { method: 'PUT' })).status).toBe(404);
  });

  test('meets the same route whichever function was deployed first; the other one is reported', async () => {
    const problems: string[] = [];
    const { page, functions } = await start({ onError: (error) => problems.push(messageOf(error)) });
    await functions.define('zebra', 'export const handle = () => "zebra"', http('/x'));
    expect(await (await fetch(`${page.url}/functions/x`)).json()).toBe('zebra');
    await functions.define('ant', 'export const handle = () => "ant"', http('/x'));
    expect(await (await fetch(`${page.url}/functions/x`)).json()).toBe('ant');
    await functions.define('other', 'export const handle = () => 1');
    // told once, however often functions change
    expect(problems).toEqual([expect.stringMatching(/^IGU_FUNCTION_ROUTE .* \/x of zebra .* ant has it already/)]);
    const listed = (await (await fetch(`${page.url}/api/functions`)).json()) as { name: string }[];
    const zebra = listed.find(({ name }) => name === 'zebra');
    expect(zebra).toMatchObject({ name: 'zebra', notServed: [{ code: 'IGU_FUNCTION_ROUTE' }] });
  });

  test('calls the versions of the alias that the trigger names; without it the newest', async () => {
    const { page, functions } = await start();
    const triggers = [
      { type: 'http', path: '/live', alias: 'live' },
      { type: 'http', path: '/newest' },
    ];
    const version = (n: number) => functions.define('f', `export const handle = () => ${n}`, { triggers });
    await version(1);
    const missing = await fetch(`${page.url}/functions/live`);
    expect([missing.status, await missing.json()]).toMatchObject([404, { code: 'IGU_FUNCTION_NOT_FOUND' }]);
    await functions.setAlias('f', 'live', { 1: 1 });
    await version(2);
    const answers = await Promise.all(
      ['live', 'newest'].map(async (path) => (await fetch(`${page.url}/functions/${path}`)).json()),
    );
    expect(answers).toEqual([1, 2]);
  });

  test('has the status of what went wrong, without what the function said of it', async () => {
    const { page, functions } = await start();
    await functions.define(
      'fails',
      `export async function handle({ query }) {
        if (query.how === 'throw') throw new Error('password is 1234');
        if (query.how === 'answer') return { statusCode: 99 };
        if (query.how === 'split') return { statusCode: 200, headers: { 'x': 'a\\r\\nset-cookie: b' } };
        if (query.how === 'exit') process.exit(3);
        for (;;);
      }`,
      { ...http('/fails'), timeoutMs: 1_000 },
    );
    const asked = async (how: string) => {
      const response = await fetch(`${page.url}/functions/fails?how=${how}`);
      const text = await response.text();
      expect(text).not.toContain('1234');
      return [response.status, JSON.parse(text).code];
    };
    expect(await asked('throw')).toEqual([502, 'IGU_FUNCTION_FAILED']);
    expect(await asked('answer')).toEqual([502, 'IGU_FUNCTION_ANSWER']);
    expect(await asked('split')).toEqual([502, 'IGU_FUNCTION_ANSWER']);
    expect(await asked('exit')).toEqual([502, 'IGU_FUNCTION_CRASHED']);
    expect(await asked('loop')).toEqual([504, 'IGU_FUNCTION_TIMEOUT']);
    const logged = functions.logs('fails').map(({ line }) => line);
    expect(logged).toContainEqual(expect.stringMatching(/password is 1234.*\n.*\n {4}at handle \(fails:2:/));
    const unfit = logged.filter((line) => line.startsWith('error IGU_FUNCTION_ANSWER'));
    expect(unfit).toEqual([
      expect.stringContaining('statusCode is 99'),
      expect.stringContaining('the value of header x has characters'),
    ]);
    await functions.define('fails', 'export const handle = 1;', http('/fails'));
    expect(await asked('code')).toEqual([502, 'IGU_FUNCTION_CODE']);
  });

  test('that comes too many at once is told when to come again', async () => {
    const functions = testFunctions();
    stops.push(() => functions.stop());
    await functions.define('busy', ECHO, http('/busy'));
    const invoke = () =>
      Promise.reject(new IguanaError('IGU_FUNCTION_BUSY', { name: 'busy', limit: 1, waiting: 10_000 }));
    const { page } = await start({ functions: { ...functions, invoke } });
    const response = await fetch(`${page.url}/functions/busy`);
    expect([response.status, response.headers.get('retry-after'), await codeOf(response)]).toEqual([
      429,
      '1',
      'IGU_FUNCTION_BUSY',
    ]);
  });

  test('that finds no instance in its time is told why, and when to come again', async () => {
    const { page, functions } = await start();
    const code = 'await new Promise((resolve) => setTimeout(resolve, 1_000)); export const handle = () => 1;';
    await functions.define('slow', code, { ...http('/slow'), timeoutMs: 100 });
    const response = await fetch(`${page.url}/functions/slow`);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
    expect(await response.text()).toMatch(
      /IGU_FUNCTION_NOT_READY no instance of slow is ready: the first was still starting after (9\d|100) ms; give the call more time/,
    );
    expect(functions.metrics('slow')).toMatchObject({ throttles: 0, failedInvocations: { IGU_FUNCTION_NOT_READY: 1 } });
  });

  test('of a page elsewhere, or for another host, starts nothing', async () => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, http('/echo'));
    const post = (headers: string) =>
      rawExchange(
        page.port,
        `POST /functions/echo HTTP/1.1\r\n${headers}connection: close\r\ncontent-length: 0\r\n\r\n`,
      );
    expect(await post('host: evil.example\r\n')).toMatch(/^HTTP\/1.1 421 .*IGU_HTTP_HOST/s);
    expect(await post('host: localhost\r\norigin: https://evil.example\r\n')).toMatch(/^HTTP\/1.1 403 /);
    expect(await post('host: localhost\r\norigin: null\r\n')).toMatch(/^HTTP\/1.1 403 /);
    expect(await post('host: localhost\r\norigin: http://localhost:3000\r\n')).toMatch(/^HTTP\/1.1 200 .*"calls":1/s);
  });
});

describe('an answer in pieces', () => {
  test('is there piece by piece, before the function is done', async () => {
    const { page, functions } = await start();
    await functions.define(
      'slow',
      `let go; const gone = new Promise((resolve) => { go = resolve; });
       export const handle = ({ path }) => path === '/go' ? go() : {
         statusCode: 200, headers: { 'content-type': 'text/plain', 'content-length': 3 },
         body: (async function* () { yield 'first'; await gone; yield 'second'; })(),
       };`,
      {
        triggers: [
          { type: 'http', path: '/slow' },
          { type: 'http', path: '/go' },
        ],
        concurrency: 2,
      },
    );
    const response = await fetch(`${page.url}/functions/slow`);
    expect(response.headers.get('content-length')).toBeNull();
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    expect((await reader.read()).value).toBe('first');
    expect(functions.metrics('slow').concurrency).toBe(1);
    expect((await fetch(`${page.url}/functions/go`)).status).toBe(204);
    expect((await reader.read()).value).toBe('second');
    expect((await reader.read()).done).toBe(true);
  });

  test('whose head is none is refused at once, and holds its place until the function has ended', async () => {
    const { page, functions } = await start();
    await functions.define(
      'bad-head',
      `let go; const gone = new Promise((resolve) => { go = resolve; });
       export const handle = ({ path }) => path === '/go' ? go() : {
         statusCode: 999, body: (async function* () { await gone; yield 'late'; })(),
       };`,
      {
        triggers: [
          { type: 'http', path: '/bad-head' },
          { type: 'http', path: '/go' },
        ],
        concurrency: 2,
      },
    );
    const response = await fetch(`${page.url}/functions/bad-head`);
    expect(response.status).toBe(502);
    expect(await response.json()).toMatchObject({ code: 'IGU_FUNCTION_ANSWER' });
    expect(functions.metrics('bad-head').concurrency).toBe(1);
    expect((await fetch(`${page.url}/functions/go`)).status).toBe(204);
    await expect.poll(() => functions.metrics('bad-head').concurrency).toBe(0);
    expect(functions.metrics('bad-head').failedInvocations).toEqual({ IGU_FUNCTION_ANSWER: 1 });
  });

  test('that fails in the middle does not look whole', async () => {
    const { page, functions } = await start();
    await functions.define(
      'breaks',
      'export const handle = () => (async function* () { yield "a"; throw new Error("b"); })();',
      http('/breaks'),
    );
    const answer = await rawExchange(page.port, 'GET /functions/breaks HTTP/1.1\r\nhost: localhost\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1.1 200 /);
    expect(answer).toMatch(/\r\n1\r\na\r\n$/);
  });

  test('is made no faster than it is read', async () => {
    const { page, functions } = await start();
    await functions.define(
      'endless',
      `let made = 0, ended = false; const piece = new Uint8Array(65536);
       export const handle = ({ path }) => path === '/made' ? { made, ended } : (async function* () {
         try { for (;;) { made++; yield piece; } } finally { ended = true; }
       })();`,
      {
        triggers: [
          { type: 'http', path: '/endless' },
          { type: 'http', path: '/made' },
        ],
        concurrency: 2,
      },
    );
    const { socket } = rawConnection(page.port, 'GET /functions/endless HTTP/1.1\r\nhost: localhost\r\n\r\n');
    socket.pause();
    const made = async () =>
      (await (await fetch(`${page.url}/functions/made`)).json()) as { made: number; ended: boolean };
    let before = -1;
    // What the sockets of both ends hold is some megabytes; when they are full nothing more is made.
    await expect
      .poll(
        async () => {
          const now = (await made()).made;
          const still = now === before && now > 0;
          before = now;
          return still;
        },
        { interval: 100 },
      )
      .toBe(true);
    expect(before).toBeLessThan(500);
    socket.destroy();
    await expect.poll(async () => (await made()).ended).toBe(true);
    expect((await fetch(`${page.url}/functions/endless`, { method: 'HEAD' })).status).toBe(200);
    await expect.poll(() => functions.metrics('endless').failedInvocations).toEqual({ IGU_FUNCTION_CANCELLED: 2 });
    expect((await made()).made).toBeLessThan(1_000);
  });

  test('ends with its client', async () => {
    const { page, functions } = await start();
    await functions.define(
      'endless',
      'export const handle = () => (async function* () { for (;;) yield new Uint8Array(1000); })();',
      http('/endless'),
    );
    const { socket, text } = rawConnection(page.port, 'GET /functions/endless HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await expect.poll(() => text().length).toBeGreaterThan(100_000);
    socket.destroy();
    await expect.poll(() => functions.metrics('endless').concurrency).toBe(0);
    expect(functions.metrics('endless').failedInvocations).toEqual({ IGU_FUNCTION_CANCELLED: 1 });
  });
});

describe('a client', () => {
  test('that goes away ends the call by its signal', async () => {
    const { page, functions } = await start();
    await functions.define(
      'waits',
      `let heard = 0; export const handle = ({ path }, { signal }) => path === '/heard' ? heard :
         new Promise((resolve) => signal.addEventListener('abort', () => { heard++; resolve(); }));`,
      {
        triggers: [
          { type: 'http', path: '/waits' },
          { type: 'http', path: '/heard' },
        ],
        concurrency: 2,
      },
    );
    const { socket } = rawConnection(page.port, 'GET /functions/waits HTTP/1.1\r\nhost: localhost\r\n\r\n');
    await expect.poll(() => functions.metrics('waits').concurrency).toBe(1);
    socket.destroy();
    await expect.poll(async () => (await fetch(`${page.url}/functions/heard`)).json()).toBe(1);
    expect(functions.metrics('waits').failedInvocations).toEqual({ IGU_FUNCTION_CANCELLED: 1 });
  });

  test('that sends too much is stopped at the bound, is told so, and the function never starts', async () => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, http('/echo', { maxBodyBytes: 1_000 }));
    const head = 'POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: text/plain\r\n';
    const said = await rawExchange(page.port, `${head}content-length: 1001\r\n\r\nx`);
    expect(said).toMatch(/^HTTP\/1.1 413 .*IGU_HTTP_TOO_LARGE.* 1000 bytes/s);
    const expecting = await rawExchange(page.port, `${head}content-length: 9999999999\r\nexpect: 100-continue\r\n\r\n`);
    expect(expecting).toMatch(/^HTTP\/1.1 413 /);
    // Without saying how much: goes on sending until it is answered.
    const flood = rawConnection(page.port, `${head}transfer-encoding: chunked\r\n\r\n`);
    const chunk = `200\r\n${'x'.repeat(512)}\r\n`;
    await expect
      .poll(() => {
        for (let i = 0; i < 100; i++) flood.socket.write(chunk);
        return flood.text();
      })
      .toMatch(/^HTTP\/1.1 413 .*IGU_HTTP_TOO_LARGE/s);
    await flood.closed;
    expect(functions.metrics('echo').totalInvocations).toBe(0);
    const most = await fetch(`${page.url}/functions/echo`, { method: 'POST', body: 'x'.repeat(1_000) });
    expect(((await most.json()) as { body: string }).body).toHaveLength(1_000);
    const continued = await rawExchange(
      page.port,
      `${head}content-length: 2\r\nconnection: close\r\nexpect: 100-continue\r\n\r\nhi`,
    );
    expect(continued).toMatch(/^HTTP\/1.1 100 Continue\r\n\r\nHTTP\/1.1 200 .*"body":"hi"/s);
  });

  test('waits its turn when others fill what bodies may take together', async () => {
    const { page, functions } = await start({ limits: { maxBufferedBytes: 100_000 } });
    await functions.define('echo', ECHO, http('/echo', { maxBodyBytes: 1_000_000 }));
    const head = 'POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 90000\r\n\r\n';
    const slow = rawConnection(page.port, head + 'x'.repeat(80_000));
    const more = () => fetch(`${page.url}/functions/echo`, { method: 'POST', body: 'x'.repeat(50_000) });
    await expect.poll(async () => (await more()).status).toBe(503);
    slow.socket.destroy();
    await expect.poll(async () => (await more()).status).toBe(200);
  });

  test('that is slow is cut off, and holds nobody up', async () => {
    const limits = { headersTimeoutMs: 300, requestTimeoutMs: 600, checkEveryMs: 50 };
    const { page, functions } = await start({ limits });
    await functions.define('echo', ECHO, http('/echo'));
    const silent = rawConnection(page.port);
    const headers = rawConnection(page.port, 'GET /functions/echo HTTP/1.1\r\nhost: local');
    const body = rawConnection(
      page.port,
      'POST /functions/echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nabc',
    );
    expect((await fetch(`${page.url}/functions/echo`)).status).toBe(200);
    await Promise.all([silent.closed, headers.closed, body.closed]);
    expect(headers.text()).toMatch(/^HTTP\/1.1 408 .*IGU_HTTP_REQUEST/s);
    expect(body.text()).toMatch(/^HTTP\/1.1 408 /);
    expect(functions.metrics('echo').totalInvocations).toBe(1);
  });

  test('that does nothing gives its place to one that asks', async () => {
    const { page, functions } = await start({ limits: { maxConnections: 20 } });
    await functions.define('echo', ECHO, http('/echo'));
    const idle = Array.from({ length: 100 }, () => rawConnection(page.port));
    const asking = 'GET /functions/echo HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n';
    expect(await rawExchange(page.port, asking)).toMatch(/^HTTP\/1.1 200 /);
    await Promise.all(idle.slice(0, 80).map(({ closed }) => closed));
    const metrics = await (await fetch(`${page.url}/metrics`)).text();
    const open = Number(metrics.match(/^iguana_http_connections (\d+)$/m)?.[1]);
    expect(open).toBeGreaterThan(0);
    expect(open).toBeLessThanOrEqual(20);
    expect(metrics).toMatch(/^iguana_http_connections_ended\{how="closed"\} (8[1-9]|9\d)$/m);
    for (const { socket } of idle) socket.destroy();
  });
});

describe('smuggling', () => {
  const line = 'POST /functions/echo HTTP/1.1\r\nhost: localhost\r\n';
  const smuggled = 'GET /functions/echo/smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n';
  test.each<[string, string]>([
    ['both lengths', `${line}content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    [
      'both, the other way',
      `${line}transfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n5c\r\n${smuggled}\r\n0\r\n\r\n`,
    ],
    ['two lengths', `${line}content-length: 0\r\ncontent-length: ${smuggled.length}\r\n\r\n${smuggled}`],
    ['a list of lengths', `${line}content-length: 0, ${smuggled.length}\r\n\r\n${smuggled}`],
    ['a signed length', `${line}content-length: +${smuggled.length}\r\n\r\n${smuggled}`],
    ['a coding that is none', `${line}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['chunked not last', `${line}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a space before the colon', `${line}transfer-encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['a folded header', `${line}x: y\r\n transfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n${smuggled}`],
    ['a bare carriage return', `${line}x: y\rtransfer-encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`],
    ['bare line feeds', `${line.replaceAll('\r', '')}content-length: 0\n\n${smuggled}`],
    ['a chunk size that is none', `${line}transfer-encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n${smuggled}`],
    ['a chunk that is longer', `${line}transfer-encoding: chunked\r\n\r\n2\r\nabcde\r\n0\r\n\r\n${smuggled}`],
    ['two hosts', `GET /functions/echo HTTP/1.1\r\nhost: localhost\r\nhost: other\r\n\r\n`],
    ['no host', 'GET /functions/echo HTTP/1.1\r\n\r\n'],
    ['a name that is none', `${line}x(y): z\r\ncontent-length: 0\r\n\r\n`],
    ['zero in a value', `${line}x: a\0b\r\ncontent-length: 0\r\n\r\n`],
    ['a version that is none', 'GET /functions/echo HTTP/9.9\r\nhost: localhost\r\n\r\n'],
  ])('by %s is refused, and the connection closed', async (_, sent) => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, { triggers: [http('/echo').triggers[0], http('/echo/*').triggers[0]] });
    const answer = await rawExchange(page.port, sent);
    expect(answer).not.toContain('smuggled');
    expect(answer.match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 400']);
    expect(functions.metrics('echo').totalInvocations).toBe(0);
  });

  test('of headers past the bound is refused', async () => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, http('/echo'));
    const answer = await rawExchange(page.port, `${line}x: ${'y'.repeat(20_000)}\r\ncontent-length: 0\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1.1 431 .*IGU_HTTP_REQUEST/s);
  });

  test('leaves what belongs together together: requests one after the other on a connection', async () => {
    const { page, functions } = await start();
    await functions.define('echo', ECHO, { triggers: [http('/echo').triggers[0], http('/echo/*').triggers[0]] });
    const two = `${line}content-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\nx-late: z\r\n\r\n`;
    const answer = await rawExchange(
      page.port,
      `${two}${smuggled.replace('\r\n\r\n', '\r\nconnection: close\r\n\r\n')}`,
    );
    const bodies = [...answer.matchAll(/\{.*\}/g)].map(([text]) => JSON.parse(text));
    expect(bodies.map(({ body, path }) => [body, path])).toEqual([
      ['abc', '/echo'],
      [null, '/echo/smuggled'],
    ]);
    expect(bodies[0].headers).not.toHaveProperty('x-late');
  });
});

describe('the metrics', () => {
  test('tell calls by outcome, durations, cold starts, instances and how triggers stand', async () => {
    const { page, functions } = await start();
    await functions.define(
      'counted',
      'export const handle = ({ query }) => { if (query.no) throw new Error("no"); };',
      http('/counted'),
    );
    for (const query of ['', '', '?no=1']) await fetch(`${page.url}/functions/counted${query}`);
    functions.triggers.set('counted', [
      {
        ...{ type: 'stream', source: 'orders', lag: 7, oldestAgeMs: 1_500, verdict: 'behind' },
        counts: { done: 11, givenUp: 2, filtered: 3, calls: 9, failedCalls: 4 },
      },
      { type: 'timer', source: '* * * * *', counts: { runs: 5, failures: 1, missed: 2, overlapped: 3 } },
      { type: 'http', source: '* /counted' },
    ]);
    const text = await (await fetch(`${page.url}/metrics`)).text();
    for (const line of [
      '# TYPE iguana_function_invocations_total counter',
      'iguana_function_invocations_total{function="counted",outcome="success"} 2',
      'iguana_function_invocations_total{function="counted",outcome="IGU_FUNCTION_FAILED"} 1',
      '# TYPE iguana_function_duration_seconds histogram',
      'iguana_function_duration_seconds_bucket{function="counted",le="60"} 3',
      'iguana_function_duration_seconds_bucket{function="counted",le="+Inf"} 3',
      'iguana_function_duration_seconds_count{function="counted"} 3',
      'iguana_function_cold_starts_total{function="counted",cause="first-call"} 1',
      'iguana_function_throttles_total{function="counted"} 0',
      'iguana_function_instances{function="counted",state="idle"} 1',
      'iguana_function_instances{function="counted",state="busy"} 0',
      'iguana_function_concurrency{function="counted"} 0',
      'iguana_function_trigger_lag{function="counted",trigger="stream",source="orders"} 7',
      'iguana_function_trigger_oldest_age_seconds{function="counted",trigger="stream",source="orders"} 1.5',
      'iguana_function_trigger_behind{function="counted",trigger="stream",source="orders"} 1',
      '# TYPE iguana_function_trigger_records_total counter',
      'iguana_function_trigger_records_total{function="counted",trigger="stream",source="orders",outcome="done"} 11',
      'iguana_function_trigger_records_total{function="counted",trigger="stream",source="orders",outcome="given_up"} 2',
      'iguana_function_trigger_records_total{function="counted",trigger="stream",source="orders",outcome="filtered"} 3',
      'iguana_function_trigger_calls_total{function="counted",trigger="stream",source="orders",outcome="success"} 5',
      'iguana_function_trigger_calls_total{function="counted",trigger="stream",source="orders",outcome="failure"} 4',
      'iguana_function_timer_runs_total{function="counted",trigger="timer",source="* * * * *",outcome="started"} 5',
      'iguana_function_timer_runs_total{function="counted",trigger="timer",source="* * * * *",outcome="failed"} 1',
      'iguana_function_timer_runs_total{function="counted",trigger="timer",source="* * * * *",outcome="missed"} 2',
      'iguana_function_timer_runs_total{function="counted",trigger="timer",source="* * * * *",outcome="overlapped"} 3',
    ]) {
      expect(text.split('\n')).toContain(line);
    }
    expect(text).not.toMatch(/trigger_lag\{.*trigger="http"/);
    const buckets = [...text.matchAll(/duration_seconds_bucket\{function="counted",le="[^"]+"\} (\d+)/g)];
    const counts = buckets.map(([, count]) => Number(count));
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    expect(counts.length).toBeGreaterThan(10);
  });

  test('are a row of the page', async () => {
    const { page, functions } = await start();
    await functions.define('shown', ECHO, http('/shown'));
    await fetch(`${page.url}/functions/shown`);
    const reader = (await fetch(`${page.url}/events`)).body!.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    while (!/"name":"shown".*"coldShare":1/.test(text)) text += (await reader.read()).value;
    expect(text).toMatch(/"p99Ms":[\d.]+/);
    await reader.cancel();
  });
});
