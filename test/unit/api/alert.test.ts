import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import { Webhook } from '../../../src/api/webhook.js';
import { VirtualClock } from '../../../src/clock.js';
import { type Alert, alert, anomaly } from '../../../src/index.js';
import { alertLimits } from '../../../src/limits.js';

const servers: Server[] = [];

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** Answers the n-th request with the n-th status (the last one for all further); `null` never answers. */
async function receiver(statuses: readonly (number | null)[], headers: Record<string, string> = {}) {
  const got: { headers: IncomingHttpHeaders; body: Record<string, unknown> }[] = [];
  const server = createServer((request, response) => {
    let text = '';
    request.on('data', (part: Buffer) => {
      text += part.toString();
    });
    request.on('end', () => {
      const status = statuses[Math.min(got.length, statuses.length - 1)]!;
      got.push({ headers: request.headers, body: JSON.parse(text) as Record<string, unknown> });
      if (status !== null) response.writeHead(status, headers).end('thank you');
    });
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?token=secret`, got };
}

it('tells an episode once, and once that it has ended; a sink that throws keeps nothing from the others', () => {
  const told: Alert[] = [];
  const critical: Alert[] = [];
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const lines: string[] = [];
  const ends = [
    alert.onAlert(() => {
      throw new Error('broken');
    }),
    alert.onAlert((one) => told.push(one)),
    alert.onAlert((one) => critical.push(one), { severity: 'critical' }),
    alert.toConsole({ write: (line) => lines.push(line) }),
  ];
  const one = {
    episode: 'e1',
    severity: 'warning',
    title: 'slow',
    message: 'above 500\u001b[2J',
    timestamp: 0,
  } as const;
  expect(alert.send(one)).toBe(true);
  expect(alert.send(one)).toBe(false);
  expect(alert.getOpen().map((a) => a.episode)).toEqual(['e1']);
  expect(alert.resolve('e1', 1000)).toBe(true);
  expect(alert.resolve('e1')).toBe(false);
  expect(alert.send(one)).toBe(true);
  alert.resolve('e1', 2000);
  expect(told.map((a) => [a.state, a.timestamp])).toEqual([
    ['firing', 0],
    ['resolved', 1000],
    ['firing', 0],
    ['resolved', 2000],
  ]);
  expect(critical).toEqual([]);
  expect(lines.slice(0, 2)).toEqual([
    '1970-01-01T00:00:00.000Z warning slow (above 500 [2J)\n',
    '1970-01-01T00:00:01.000Z resolved slow (above 500 [2J)\n',
  ]);
  expect(alert.stats()).toMatchObject({ sent: 2, repeated: 1, resolved: 2, open: 0, sinkErrors: 4 });
  expect(warning).toHaveBeenCalledTimes(4);
  warning.mockRestore();
  for (const end of ends) end();
});

it('alerts for anomalies from a severity on, and for their end', () => {
  const detector = anomaly.createDetector({ metric: 'queue_length', method: 'threshold', service: 'shop' });
  anomaly.createRule({ name: 'long', pattern: 'queue_length', threshold: 100, severity: 'warning' });
  anomaly.createRule({ name: 'a little long', pattern: 'queue_length', threshold: 50, severity: 'info' });
  const told: Alert[] = [];
  const ends = [alert.onAlert((one) => told.push(one)), alert.forAnomalies({ severity: 'warning' })];
  for (const value of [10, 120, 130, 20]) anomaly.detect(detector, value, 5000);
  for (const end of ends) end();
  anomaly.detect(detector, 500, 6000);
  expect(told.map((a) => [a.state, a.severity, a.service])).toEqual([
    ['firing', 'warning', 'shop'],
    ['resolved', 'warning', 'shop'],
  ]);
  expect(told[0]).toMatchObject({ title: 'queue_length is 120, expected 10', timestamp: 5000 });
  expect(told[0]!.message).toContain('rule long: 120 is above 100');
});

it('posts alerts in order, again while the receiver has trouble, under the same key', async () => {
  const { url, got } = await receiver([503, 429, 204]);
  const hook = alert.toWebhook({ url, pauseMs: 1, headers: { authorization: 'Bearer x' }, severity: 'warning' });
  alert.send({
    episode: 'e2',
    severity: 'critical',
    title: 'down',
    message: 'no answer',
    service: 'shop',
    timestamp: 7,
  });
  alert.send({ episode: 'e3', severity: 'info', title: 'mild', message: 'left out' });
  alert.resolve('e2', 8);
  await hook.close();
  alert.resolve('e3');
  expect(got.map((one) => [one.headers['idempotency-key'], one.body.state])).toEqual([
    ['e2-firing', 'firing'],
    ['e2-firing', 'firing'],
    ['e2-firing', 'firing'],
    ['e2-resolved', 'resolved'],
  ]);
  expect(got[0]!.headers).toMatchObject({ 'content-type': 'application/json', authorization: 'Bearer x' });
  expect(got[0]!.body).toEqual({
    episode: 'e2',
    state: 'firing',
    severity: 'critical',
    title: 'down',
    message: 'no answer',
    service: 'shop',
    timestamp: 7,
  });
  expect(hook.stats()).toEqual({ delivered: 2, retried: 2, givenUp: 0, overflowed: 0, waiting: 0 });
});

it('gives up at once what will not pass, and after its attempts what does not; says so without the secret path', async () => {
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const refusing = await receiver([400, 302, 200]);
  const hook = new Webhook({ url: refusing.url, pauseMs: 1 });
  for (const key of ['a', 'b', 'c']) hook.post(key, { key });
  await hook.close();
  expect(refusing.got.length).toBe(3);
  expect(hook.stats()).toMatchObject({ delivered: 1, retried: 0, givenUp: 2 });
  const gone = await receiver([200]);
  await new Promise((resolve) => servers.pop()!.close(resolve));
  const nobody = new Webhook({ url: gone.url, pauseMs: 1, attempts: 3 });
  nobody.post('d', {});
  await nobody.close();
  expect(nobody.stats()).toMatchObject({ delivered: 0, retried: 2, givenUp: 1 });
  const texts = warning.mock.calls.map(([text]) => String(text));
  expect(texts).toHaveLength(3);
  expect(texts[2]).toMatch(/^webhook http:\/\/127\.0\.0\.1:\d+: d given up after 3 attempts: .*ECONNREFUSED/);
  warning.mockRestore();
});

it('waits as long as the receiver asks, and growing pauses otherwise', async () => {
  const clock = new VirtualClock();
  const pauses: number[] = [];
  const after = clock.after.bind(clock);
  clock.after = (ms, action) => {
    pauses.push(ms);
    queueMicrotask(action);
    return after(ms, () => {});
  };
  const asking = await receiver([429, 429, 200], { 'retry-after': '7' });
  const patient = new Webhook({ url: asking.url, clock });
  patient.post('a', {});
  await expect.poll(() => patient.stats().delivered).toBe(1);
  const silent = await receiver([500, 500, 500, 200]);
  const growing = new Webhook({ url: silent.url, clock });
  growing.post('a', {});
  await expect.poll(() => growing.stats().delivered).toBe(1);
  expect(pauses).toEqual([7000, 7000, 1000, 2000, 4000]);
});

it('loses the oldest of too many, times out, and ends after its grace', async () => {
  const warning = vi.spyOn(process, 'emitWarning').mockImplementation(() => {});
  const { url, got } = await receiver([null, 200]);
  const hook = new Webhook({ url, timeoutMs: 1000, attempts: 1 });
  for (let i = 0; i < alertLimits.maxWaiting + 2; i++) hook.post(String(i), { i });
  expect(hook.stats()).toMatchObject({ waiting: alertLimits.maxWaiting, overflowed: 2 });
  await hook.close(30_000);
  expect(got.slice(0, 2).map((one) => one.body.i)).toEqual([0, 3]);
  expect(hook.stats()).toMatchObject({ delivered: alertLimits.maxWaiting - 1, givenUp: 1, waiting: 0 });
  const deaf = await receiver([null]);
  const held = new Webhook({ url: deaf.url });
  held.post('a', {});
  held.post('b', {});
  await expect.poll(() => deaf.got.length).toBe(1);
  await held.close(1);
  held.post('c', {});
  expect(held.stats()).toEqual({ delivered: 0, retried: 0, givenUp: 2, overflowed: 0, waiting: 0 });
  warning.mockRestore();
  expect(() => new Webhook({ url: 'file:///etc/hosts' })).toThrow(/IGU_USAGE a webhook needs an http or https URL/);
});
