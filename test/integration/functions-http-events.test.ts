import { afterEach, expect, test } from 'vitest';
import { LiveModel } from '../../src/dashboard/live-model.js';
import { startDashboard } from '../../src/dashboard/server.js';
import type { CloudEvent } from '../../src/functions/invocation.js';
import { testFunctions } from '../support/function-api.js';

const stops: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

async function start() {
  const functions = testFunctions();
  stops.push(() => functions.stop());
  const published: CloudEvent[] = [];
  const publish = async (event: CloudEvent) => void published.push(event);
  const page = await startDashboard({ port: 0, model: new LiveModel(), functions: { ...functions, publish } });
  stops.push(() => page.stop());
  const post = (headers: Record<string, string>, body: string) =>
    fetch(`${page.url}/api/events`, { method: 'POST', headers, body });
  return { page, post, published };
}

const event = { specversion: '1.0', id: '1', source: '/shop', type: 'order.created', data: { amount: 5 } };
const structured = { 'content-type': 'application/cloudevents+json' };

test('events come in over HTTP in all three modes', async () => {
  const { post, published } = await start();
  const one = await post(structured, JSON.stringify(event));
  expect([one.status, await one.json()]).toEqual([202, { accepted: 1 }]);
  const binary = {
    'ce-specversion': '1.0',
    'ce-id': '2',
    'ce-source': '/shop',
    'ce-type': 'order.created',
    'ce-subject': 'K%C3%A4se',
    'content-type': 'application/json',
  };
  expect((await post(binary, '{"amount":6}')).status).toBe(202);
  const batch = [event, { ...event, id: '3' }].map((each) => ({ ...each, time: '2026-05-01T00:00:00Z' }));
  const many = await post({ 'content-type': 'application/cloudevents-batch+json' }, JSON.stringify(batch));
  expect(await many.json()).toEqual({ accepted: 2 });
  expect(published).toEqual([
    event,
    { ...event, id: '2', subject: 'Käse', datacontenttype: 'application/json', data: { amount: 6 } },
    ...batch,
  ]);
});

test('what is no event, or was handed on too often, is refused by code, a batch as a whole', async () => {
  const { page, post, published } = await start();
  for (const [headers, body, code] of [
    [structured, '{', 'IGU_RECORD_MALFORMED'],
    [{ 'content-type': 'application/json' }, JSON.stringify(event), 'IGU_RECORD_MALFORMED'],
    [structured, JSON.stringify({ ...event, iguanadepth: 17 }), 'IGU_FUNCTION_EVENT_DEPTH'],
    [{ 'content-type': 'application/cloudevents-batch+json' }, JSON.stringify([event, {}]), 'IGU_RECORD_MALFORMED'],
    [{ 'content-type': 'application/cloudevents-batch+json' }, '{}', 'IGU_RECORD_MALFORMED'],
  ] as const) {
    const response = await post(headers, body);
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([400, code]);
  }
  expect((await fetch(`${page.url}/api/events`)).status).toBe(405);
  const foreign = await post({ ...structured, origin: 'http://evil.example' }, JSON.stringify(event));
  expect(foreign.status).toBe(403);
  expect(published).toEqual([]);
});
