/** Runs examples/functions as they are deployed: definitions and code from their files, in a FunctionService. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type Command, carryOut } from '../../examples/functions/carry-out.js';
import type { AlertOptions } from '../../src/api/alert.js';
import { wallClock } from '../../src/clock.js';
import { ProcessCluster } from '../../src/cluster/process-cluster.js';
import { functionSchema } from '../../src/functions/definition.js';
import { FunctionService } from '../../src/functions/function-service.js';
import { instanceFactories } from '../../src/functions/instance-factories.js';

const folder = fileURLToPath(new URL('../../examples/functions/', import.meta.url));
const factories = instanceFactories({ warmWorkers: 1, wasmThreads: 1 });
const service = new FunctionService({ clock: wallClock, factory: (deployment, env) => factories.of(deployment, env) });

beforeAll(async () => {
  for (const name of ['order-processor', 'anomaly-handler', 'text-processor']) {
    const definition = functionSchema.parse(parse(readFileSync(join(folder, `${name}.yaml`), 'utf8')));
    await service.deploy({ definition, code: readFileSync(join(folder, (definition.code as { file: string }).file)) });
  }
});
afterAll(async () => {
  await service.close();
  await factories.close();
});

describe('order-processor', () => {
  const http = async (method: string, body: unknown, id?: string) => {
    const path = id === undefined ? '/orders' : `/orders/${id}`;
    const params: Record<string, string> = id === undefined ? {} : { id };
    const event = { trigger: 'http', method, path, params, query: {}, headers: {}, body } as const;
    return (await service.invoke('order-processor', event)).output;
  };

  it('takes orders once, refuses what is none, and sums the hour up', async () => {
    const tea = { id: 'o-1', items: [{ sku: 'tea', quantity: 2, price: 4.5 }] };
    expect(await http('POST', tea)).toEqual({
      statusCode: 201,
      headers: { location: '/functions/orders/o-1' },
      body: { id: 'o-1', total: 13.9, shipping: 4.9, currency: 'EUR' },
    });
    expect(await http('POST', tea)).toMatchObject({ statusCode: 200, body: { total: 13.9 } });
    expect(await http('POST', { id: 'o-2', items: [{ sku: 'pot', quantity: 1, price: 60 }] })).toMatchObject({
      statusCode: 201,
      body: { total: 60, shipping: 0 },
    });
    expect(await http('POST', { id: 'o-3', items: [{ sku: 'tea', quantity: 0.5, price: 1 }] })).toMatchObject({
      statusCode: 422,
      body: { error: 'item 1 needs a whole quantity and a price' },
    });
    expect(await http('GET', null, 'o-2')).toMatchObject({ id: 'o-2' });
    expect(await http('GET', null, 'o-9')).toMatchObject({ statusCode: 404 });
    const scheduledTime = '2026-03-01T12:00:00.000Z';
    const { output } = await service.invoke('order-processor', { trigger: 'timer', scheduledTime });
    expect(output).toEqual({ hour: scheduledTime, orders: 2, total: 73.9, currency: 'EUR' });
  });
});

describe('anomaly-handler', () => {
  const anomaly = (id: string, severity: string, state: string, at: number) => ({
    key: 'checkout',
    value: { id, state, name: 'latency_ms', severity, entity: 'checkout', labels: { service: 'checkout' } },
    headers: {},
    offset: at,
    timestamp: at * 60_000,
  });

  it('restarts a service by the ports that do it, once in ten minutes, and only told so when it is no dry run', async () => {
    const records = [
      anomaly('a', 'critical', 'open', 100),
      anomaly('b', 'critical', 'open', 105),
      anomaly('c', 'warning', 'open', 120),
      anomaly('a', 'critical', 'resolved', 121),
    ];
    const event = { trigger: 'stream', topic: 'anomalies', partition: 0, records } as const;
    const { output, logs } = await service.invoke('anomaly-handler', event);
    const commands = output as Command[];
    expect(commands.map(({ restart, resolved }) => restart ?? (resolved && 'resolved'))).toEqual([
      true,
      false,
      false,
      'resolved',
    ]);
    expect(logs[0]).toBe('warn checkout latency_ms critical restart');

    const checkout = new ProcessCluster({
      name: 'checkout',
      command: process.execPath,
      args: ['-e', 'setInterval(() => {}, 1000)'],
    });
    try {
      await checkout.scaleTo(1);
      const pid = () => checkout.instances()[0]?.pid;
      await expect.poll(pid).toEqual(expect.any(Number));
      const before = pid();
      const sent: AlertOptions[] = [];
      const resolved: string[] = [];
      const ports = {
        clusters: new Map([['checkout', checkout]]),
        send: (options: AlertOptions) => sent.push(options),
        resolve: (episode: string) => resolved.push(episode),
      };
      const told: string[] = [];
      for (const command of commands) told.push(await carryOut(command, ports));
      expect(told).toEqual([
        'checkout: would restart 1 instances',
        'checkout: told',
        'checkout: told',
        'checkout: resolved',
      ]);
      expect(pid()).toBe(before);
      expect(sent.map(({ episode, severity }) => `${episode} ${severity}`)).toEqual([
        'a critical',
        'b critical',
        'c warning',
      ]);
      expect(sent[0]?.message).toBe('it is restarted (dry run)');
      expect(resolved).toEqual(['a']);
      expect(await carryOut(commands[0]!, { ...ports, dryRun: false })).toBe('checkout: restarted 1 instances');
      await expect.poll(() => typeof pid() === 'number' && pid() !== before, { timeout: 20_000 }).toBe(true);
    } finally {
      await checkout.scaleTo(0);
    }
  }, 60_000);
});

describe('text-processor', () => {
  const post = (body: unknown) =>
    service.invoke('text-processor', {
      trigger: 'http',
      method: 'POST',
      path: '/keywords',
      params: {},
      query: {},
      headers: {},
      body,
    });

  it('tells the words that matter, from a snapshot, and keeps nothing of a text for the next', async () => {
    const text =
      'The stream feeds the stream.\n"Streams" are not the river: a river is one stream and its banks — Größe, Größe!';
    const first = await post(text);
    expect(first.output).toEqual({
      words: 21,
      top: [
        ['stream', 3],
        ['river', 2],
        ['größe', 2],
        ['feeds', 1],
        ['streams', 1],
        ['banks', 1],
        ['\u2014', 1],
      ],
    });
    expect(first.gasUsed).toBeGreaterThan(1_000);
    expect((await post('river')).output).toEqual({ words: 1, top: [['river', 1]] });
    const again = await post(text);
    expect(again.output).toEqual(first.output);
    await expect(post(null)).rejects.toMatchObject({ code: 'IGU_FUNCTION_FAILED', message: /it needs a text/ });
  });
});
