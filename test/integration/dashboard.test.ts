import { request } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock.js';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { type Dashboard, startDashboard } from '../../src/dashboard/server.js';
import { dashboardLimits } from '../../src/limits.js';
import { makeSeries } from '../../src/records.js';
import { anomalyOf, believableModel } from '../unit/dashboard/believable-model.js';

const END = Date.UTC(2026, 2, 4, 15);
const running: Dashboard[] = [];

async function start(model = believableModel(END), clock = new VirtualClock(END)) {
  const page = await startDashboard({ port: 0, model, clock });
  running.push(page);
  return { page, model, clock };
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((page) => page.stop()));
});

/** One event of a stream of server-sent events after another. */
async function* events(response: Response): AsyncGenerator<{ event: string; data: string }> {
  let rest = '';
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    rest += piece;
    for (let end = rest.indexOf('\n\n'); end >= 0; end = rest.indexOf('\n\n')) {
      const block = rest.slice(0, end);
      rest = rest.slice(end + 2);
      const event = block.match(/^event: (.*)$/m)?.[1];
      if (event) yield { event, data: block.match(/^data: (.*)$/m)?.[1] ?? '' };
    }
  }
}

function get(port: number, path: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    request({ port, path, headers, host: '127.0.0.1' }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        body += piece;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    })
      .on('error', reject)
      .end();
  });
}

describe('dashboard', () => {
  it('serves the page and everything it refers to, with a policy that forbids the rest', async () => {
    const { page } = await start();
    const response = await fetch(page.url);
    const html = await response.text();
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    const referred = [...html.matchAll(/(?:src|href)="(\/[^"]+)"/g)].map((m) => m[1]!);
    expect(referred).toContain('/uplot.css');
    const app = await (await fetch(`${page.url}/app.js`)).text();
    const chart = await (await fetch(`${page.url}/chart.js`)).text();
    const imported = [...`${app}${chart}`.matchAll(/from '(\.[^']+)'/g)].map((m) => new URL(m[1]!, page.url).pathname);
    expect(imported).toContain('/node_modules/uplot/dist/uPlot.esm.js');
    for (const path of new Set([...referred, ...imported])) {
      const file = await fetch(page.url + path);
      expect([path, file.status]).toEqual([path, 200]);
      expect((await file.arrayBuffer()).byteLength).toBeGreaterThan(100);
    }
    expect(`${html}${app}${chart}`).not.toMatch(/https?:\/\/(?!www\.w3\.org)/);
  });

  it('answers JSON on every route that /api lists', async () => {
    const { page, model } = await start();
    const routes = Object.keys((await (await fetch(`${page.url}/api`)).json()) as object);
    expect(routes.length).toBeGreaterThan(10);
    for (const route of routes.filter((r) => r.startsWith('/api'))) {
      const path = route.replace('{id}', model.defaultSeries()!).replace('{policy}', 'shop-web');
      const response = await fetch(page.url + path);
      expect([path, response.status, response.headers.get('content-type')]).toEqual([
        path,
        200,
        'application/json; charset=utf-8',
      ]);
      await response.json();
    }
    const byName = await fetch(`${page.url}/api/series/${encodeURIComponent('load_1m{host="node-1"}')}`);
    expect(await byName.json()).toMatchObject({ name: 'load_1m', entity: 'node-1', generated: false });
  });

  it('tells KEDA the desired instances of a policy', async () => {
    const { page } = await start();
    const url = `${page.url}/api/desired-instances/shop-web`;
    expect(await (await fetch(url)).json()).toMatchObject({ desired: 6, current: 8, entity: 'shop', dryRun: true });
    expect((await fetch(`${url}?entity=other`)).status).toBe(404);
  });

  it('refuses unknown paths, methods, encodings and hosts with a code', async () => {
    const { page } = await start();
    const unknown = await fetch(`${page.url}/nothing`);
    expect(unknown.status).toBe(404);
    expect(await unknown.json()).toMatchObject({ code: 'IGU_HTTP_PATH' });
    for (const method of ['POST', 'PUT', 'DELETE']) {
      const response = await fetch(`${page.url}/api/decisions`, { method });
      expect(response.status).toBe(405);
      expect(response.headers.get('allow')).toBe('GET, HEAD');
      expect(await response.json()).toMatchObject({ code: 'IGU_HTTP_METHOD' });
    }
    expect((await get(page.port, '/%ff', {})).status).toBe(404);
    expect((await get(page.port, '/../server.ts', {})).status).toBe(404);
    expect((await get(page.port, '/__proto__', {})).status).toBe(404);
    const elsewhere = await get(page.port, '/api/series', { host: 'evil.example' });
    expect(elsewhere.status).toBe(421);
    expect(JSON.parse(elsewhere.body)).toMatchObject({ code: 'IGU_HTTP_HOST' });
    const head = await fetch(`${page.url}/api/series`, { method: 'HEAD' });
    expect([head.status, await head.text()]).toEqual([200, '']);
  });

  it('exposes Prometheus metrics', async () => {
    const { page } = await start();
    const text = await (await fetch(`${page.url}/metrics`)).text();
    expect(text).toContain('iguana_pipeline_lag{pipeline="scale"} 18400');
    expect(text).toContain('iguana_pipeline_behind{pipeline="scale"} 1');
    expect(text).toContain('iguana_desired_instances{policy="shop-web",entity="shop"} 6');
    expect(text).toContain('iguana_anomalies_open{severity="warning"} 1');
    expect(text).toMatch(/^process_cpu_seconds_total /m);
  });

  it('is healthy at once and ready when a pipeline reports', async () => {
    const { page, model } = await start(new LiveModel());
    expect((await fetch(`${page.url}/healthz`)).status).toBe(200);
    const early = await fetch(`${page.url}/readyz`);
    expect([early.status, await early.json()]).toEqual([503, { ready: false, reason: 'no pipeline has reported yet' }]);
    model.pipeline({ name: 'forecast', rate: 1, lag: 0, verdict: 'keeping up' });
    expect((await fetch(`${page.url}/readyz`)).status).toBe(200);
  });

  it('streams everything once, then what changed', async () => {
    const { page, model, clock } = await start();
    const stream = events(await fetch(`${page.url}/events`));
    const first = JSON.parse((await stream.next()).value!.data);
    expect(first.chart.id).toBe(model.defaultSeries());
    expect(first.series).toHaveLength(6);
    const series = makeSeries('http_requests', { service: 'shop', generated: 'true' });
    model.sample(series, END + 60_000, 42);
    clock.advance(dashboardLimits.tickMs);
    const second = JSON.parse((await stream.next()).value!.data);
    expect(second.values).toEqual([[series.id, END + 60_000, 42, 0]]);
    expect(second.chart.samples).toEqual([[END + 60_000, 42]]);
    expect(second.decisions).toEqual([]);
  });

  it('leaves ticks out for a page that does not read, then cuts it off', async () => {
    const { page, model, clock } = await start();
    const socket = connect(page.port, '127.0.0.1');
    socket.write('GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n');
    socket.pause();
    const gone = new Promise<void>((resolve) => socket.on('close', () => resolve()));
    socket.on('error', () => undefined);
    const clients = async () =>
      (await (await fetch(`${page.url}/metrics`)).text()).match(/^iguana_page_clients (\d+)$/m)?.[1];
    await expect.poll(clients).toBe('1');
    // Each tick brings new anomalies, about a megabyte: the socket is soon full.
    const open = anomalyOf(makeSeries('filler', {}), END);
    for (let tick = 0; tick < 120; tick++) {
      for (let i = 0; i < 100; i++) model.anomaly({ ...open, id: `${tick}-${i}`, reason: 'x'.repeat(10_000) });
      clock.advance(dashboardLimits.tickMs);
    }
    await expect.poll(clients).toBe('0');
    socket.resume();
    await gone;
  });

  it('accepts no more pages than its bound', async () => {
    const { page } = await start(new LiveModel());
    const open = await Promise.all(
      Array.from({ length: dashboardLimits.maxClients }, () => fetch(`${page.url}/events`)),
    );
    const more = await fetch(`${page.url}/events`);
    expect(more.status).toBe(503);
    expect(await more.json()).toMatchObject({ code: 'IGU_LIMIT' });
    await Promise.all(open.map((r) => r.body!.cancel()));
  });

  it('says which port is taken, and stops with pages open', async () => {
    const { page } = await start();
    await expect(startDashboard({ port: page.port, model: new LiveModel() })).rejects.toMatchObject({
      code: 'IGU_PORT_TAKEN',
      message: expect.stringContaining(String(page.port)),
    });
    await expect(startDashboard({ port: 0, host: '192.0.2.1', model: new LiveModel() })).rejects.toMatchObject({
      code: 'IGU_LISTEN',
    });
    const stream = events(await fetch(`${page.url}/events`));
    await stream.next();
    const before = performance.now();
    await page.stop();
    expect(performance.now() - before).toBeLessThan(1500);
    await expect(fetch(`${page.url}/healthz`)).rejects.toThrow();
  });
});
