import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock.js';
import { IguanaError } from '../../../src/errors.js';
import { functionSchema } from '../../../src/functions/definition.js';
import type { DeployedFunction } from '../../../src/functions/function-service.js';
import type { CloudEvent, FunctionEvent, InvocationResult } from '../../../src/functions/invocation.js';
import {
  assertDepth,
  cloudEventJson,
  depthOf,
  parseCloudEvent,
  readCloudEvent,
  resultEvent,
  writeCloudEvent,
} from '../../../src/functions/triggers/cloud-events.js';
import { type EventOptions, eventTriggers, startsTrigger } from '../../../src/functions/triggers/event-trigger.js';
import { eventLimits } from '../../../src/limits.js';

const event = (more: object = {}): CloudEvent => ({
  specversion: '1.0',
  id: 'A1',
  source: '/shop',
  type: 'com.shop.order.created',
  data: { amount: 120, items: [{ sku: 'x' }] },
  ...more,
});
const trigger = (more: object) => ({ type: 'event' as const, eventType: 'com.shop.*', ...more });

describe('event matching', () => {
  test.each([
    ['the exact type', { eventType: 'com.shop.order.created' }, true],
    ['a prefix', { eventType: 'com.shop.*' }, true],
    ['any type', { eventType: '*' }, true],
    ['another type', { eventType: 'com.shop.order' }, false],
    ['a star that is not at the end is itself', { eventType: 'com.*.order.created' }, false],
    ['its source', { source: '/shop' }, true],
    ['another source', { source: '/sho' }, false],
    ['a filter on data', { filter: { 'data.amount': { gt: 100 }, 'data.items.sku': 'x' } }, true],
    ['a filter on an attribute', { filter: { type: { prefix: 'com.shop' } } }, true],
    ['a filter that fails', { filter: { 'data.amount': { lt: 100 } } }, false],
  ])('%s', (_, more, expected) => {
    expect(startsTrigger(trigger(more), event())).toBe(expected);
  });
});

describe('CloudEvents', () => {
  // the example of the specification's Kafka protocol binding 1.0.2, section 3.2.5 and 3.3.3
  test('in both modes of the Kafka binding', () => {
    const expected = {
      specversion: '1.0',
      type: 'com.example.someevent',
      source: '/mycontext/subcontext',
      id: '1234-1234-1234',
      time: '2018-04-05T03:56:24Z',
      datacontenttype: 'application/json',
      data: { a: [1] },
    };
    const { data, datacontenttype, ...attributes } = expected;
    const headers = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce_${name}`, value]));
    const binary = { ...headers, 'content-type': 'application/json' };
    expect(readCloudEvent(binary, Buffer.from('{"a":[1]}'), 'kafka')).toEqual(expected);
    const structured = { 'content-type': 'application/cloudevents+json; charset=UTF-8' };
    expect(readCloudEvent(structured, Buffer.from(JSON.stringify(expected)), 'kafka')).toEqual(expected);
    const http = Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, value]));
    const escaped = { ...http, 'ce-subject': 'Euro%20%E2%82%AC', 'content-type': 'text/plain; charset=utf-8' };
    expect(readCloudEvent(escaped, Buffer.from('hi'), 'http')).toMatchObject({ subject: 'Euro €', data: 'hi' });
    expect(datacontenttype).toBe('application/json');
    expect(data).toEqual({ a: [1] });
  });

  test.each([
    ['no object', []],
    ['no version', { id: '1', source: 's', type: 't' }],
    ['another version', { ...event(), specversion: '0.3' }],
    ['an empty id', { ...event(), id: '' }],
    ['no source', { ...event(), source: null }],
    ['a number as type', { ...event(), type: 3 }],
    ['a capital in a name', { ...event(), traceParent: 'x' }],
    ['an object as attribute', { ...event(), ext: {} }],
    ['a fraction as attribute', { ...event(), ext: 1.5 }],
    ['a time without date', { ...event(), time: '12:00' }],
    ['data twice', { ...event(), data_base64: 'AA==' }],
    [
      'too many attributes',
      { ...event(), ...Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`x${i}`, '1'])) },
    ],
  ])('with %s are refused by code', (_, value) => {
    expect(() => parseCloudEvent(value)).toThrow(/^IGU_RECORD_MALFORMED/);
  });

  test('bytes that are no event, no JSON, no UTF-8 are refused by code', () => {
    const structured = { 'content-type': 'application/cloudevents+json' };
    for (const [headers, body] of [
      [{}, '{}'],
      [structured, '{'],
      [structured, Buffer.from([0xff])],
      [{ ce_specversion: '1.0', ce_id: '1', ce_source: 's', ce_type: 't', 'content-type': 'application/json' }, '{'],
    ] as const) {
      expect(() => readCloudEvent(headers, Buffer.from(body), 'kafka')).toThrow(/^IGU_RECORD_MALFORMED/);
    }
  });

  test('come back as they were, in both modes', () => {
    const name = fc
      .stringMatching(/^[a-z]{3,9}$/)
      .filter((one) => !['data', 'time', 'subject', 'dataschema'].includes(one));
    const text = fc.string({ minLength: 1, unit: 'grapheme' });
    const json = fc.jsonValue().map((value) => JSON.parse(JSON.stringify(value)) as unknown);
    const data = fc.oneof(
      fc.record({ data: json, datacontenttype: fc.constantFrom('application/json', 'application/x+json') }),
      fc.record({ data: text, datacontenttype: fc.constant('text/plain') }),
      fc.record({
        data: fc.uint8Array({ minLength: 1 }),
        datacontenttype: fc.constantFrom('application/octet-stream', 'image/png'),
      }),
      fc.constant({}),
    );
    fc.assert(
      fc.property(text, text, text, fc.dictionary(name, text), data, (id, source, type, extensions, body) => {
        const made = parseCloudEvent({ specversion: '1.0', id, source, type, ...extensions, ...body });
        for (const mode of ['structured', 'binary'] as const) {
          const { headers, value } = writeCloudEvent(made, mode);
          const read = readCloudEvent(headers, value, 'kafka');
          expect(JSON.parse(cloudEventJson(read))).toEqual(JSON.parse(cloudEventJson(made)));
        }
      }),
      { numRuns: 300 },
    );
  });

  test('that a function makes are one deeper than what it was started by, whatever it says', () => {
    const cause = event({ iguanadepth: 3 });
    const plain = resultEvent('f', { ok: true }, 'id', cause);
    expect(plain).toMatchObject({
      type: 'iguana.function.result',
      source: '/functions/f',
      id: 'id',
      data: { ok: true },
    });
    expect(depthOf(plain)).toBe(4);
    const own = resultEvent('f', { specversion: '1.0', type: 'again', iguanadepth: 0 }, 'id', cause);
    expect(own).toMatchObject({ type: 'again', source: '/functions/f', id: 'id', iguanadepth: 4 });
    expect(depthOf(resultEvent('f', 1, 'id', undefined))).toBe(1);
    expect(depthOf(event({ iguanadepth: '5' }))).toBe(5);
    expect(depthOf(event({ iguanadepth: -1 }))).toBe(0);
    expect(() => assertDepth(event({ iguanadepth: eventLimits.maxDepth }))).not.toThrow();
    expect(() => assertDepth(event({ iguanadepth: eventLimits.maxDepth + 1 }))).toThrow(/^IGU_FUNCTION_EVENT_DEPTH/);
  });
});

describe('event triggers', () => {
  const settle = async () => {
    for (let i = 0; i < 30; i++) await Promise.resolve();
  };
  const deployed = (name: string, more: object): DeployedFunction => {
    const triggers = [trigger(more), { type: 'http', path: '/x' }];
    const definition = functionSchema.parse({ name, runtime: 'javascript', code: { inline: 'x' }, triggers });
    return { name, version: 1, definition, aliases: {} };
  };
  function host(answer: (name: string, event: CloudEvent) => unknown, more: Partial<EventOptions> = {}) {
    const calls: { name: string; id: string | undefined; attempt: number | undefined }[] = [];
    const clock = new VirtualClock();
    const service: EventOptions['service'] = {
      async invoke(name, input: FunctionEvent, options = {}) {
        calls.push({ name, id: options.invocationId, attempt: options.attempt });
        if (input.trigger !== 'event') throw new Error('another trigger');
        const output = answer(name, input.event);
        const rest = {
          durationMs: 1,
          initMs: 0,
          cold: false,
          memoryUsedMb: 1,
          logs: [],
          logsTruncated: false,
        } as const;
        return { invocationId: options.invocationId ?? '', output, ...rest } satisfies InvocationResult;
      },
    };
    return { calls, clock, triggers: eventTriggers({ service, clock, random: () => 1, ...more }) };
  }

  test('start every function that an event matches, once, and deliver what they return', async () => {
    const outcomes: unknown[] = [];
    const { triggers, calls } = host((name) => `${name}!`, { deliver: async (outcome) => void outcomes.push(outcome) });
    const twice = deployed('both', {});
    await triggers.apply([
      deployed('orders', { eventType: 'com.shop.order.*' }),
      deployed('refunds', { eventType: 'com.shop.refund.*' }),
      {
        ...twice,
        definition: { ...twice.definition, triggers: [twice.definition.triggers[0]!, twice.definition.triggers[0]!] },
      },
    ]);
    expect(await triggers.dispatch(event())).toEqual({ started: ['orders', 'both'], failed: [], repeated: false });
    expect(calls.map(({ name }) => name)).toEqual(['orders', 'both']);
    expect(outcomes).toMatchObject([{ result: { output: 'orders!' } }, { result: { output: 'both!' } }]);
    expect(await triggers.dispatch(event())).toEqual({ started: [], failed: [], repeated: true });
    expect((await triggers.dispatch(event({ source: '/other' }))).started.length).toBe(2);
    expect(new Set(calls.map(({ id }) => id)).size).toBe(4);
  });

  test('a function that fails is tried again, and keeps no other from the event', async () => {
    const errors: unknown[] = [];
    const { triggers, calls, clock } = host(
      (name) => {
        if (name === 'bad') throw new IguanaError('IGU_FUNCTION_FAILED', { name, what: 'no' });
        return 1;
      },
      { onError: (error) => errors.push(error) },
    );
    await triggers.apply([deployed('bad', {}), deployed('good', {})]);
    const dispatched = triggers.dispatch(event());
    for (let i = 0; i < 3; i++) {
      await settle();
      clock.advance(10_000);
    }
    expect(await dispatched).toEqual({ started: ['bad', 'good'], failed: ['bad'], repeated: false });
    expect(calls.filter(({ name }) => name === 'bad').map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(errors.length).toBe(1);
  });

  test('an event that starts itself ends at the bound', async () => {
    const refused: unknown[] = [];
    const { triggers, calls } = host((name, cause) => {
      const next = resultEvent(name, { specversion: '1.0', type: 'com.shop.again' }, `${cause.id}+`, cause);
      try {
        triggers.publish(next);
      } catch (error) {
        refused.push(error);
      }
      return null;
    });
    await triggers.apply([deployed('circle', {})]);
    triggers.publish(event());
    for (let i = 0; i < 50; i++) await settle();
    expect(calls.length).toBe(eventLimits.maxDepth + 1);
    expect(refused).toMatchObject([{ code: 'IGU_FUNCTION_EVENT_DEPTH' }]);
    await triggers.stop();
  });

  test('one that is broken off by the end of the process has not failed', async () => {
    const outcomes: unknown[] = [];
    const { triggers } = host(() => 1, {
      deliver: async (outcome) => void outcomes.push(outcome),
      service: {
        invoke: (name, _, { signal } = {}) =>
          new Promise((_, reject) => {
            signal?.addEventListener('abort', () => reject(new IguanaError('IGU_FUNCTION_CANCELLED', { name })));
          }),
      },
    });
    await triggers.apply([deployed('slow', {})]);
    const dispatched = triggers.dispatch(event());
    await triggers.stop();
    await expect(dispatched).rejects.toThrow(/^IGU_FUNCTION_CANCELLED/);
    expect(outcomes).toEqual([]);
  });

  test('what is published is bounded in memory too', async () => {
    const { triggers } = host(() => 1);
    const data = 'x'.repeat(20_000_000);
    let n = 0;
    const publish = () => {
      for (;;) triggers.publish(event({ id: String(n++), data }));
    };
    expect(publish).toThrow(/^IGU_FUNCTION_BUSY/);
    expect(n).toBe(eventLimits.maxAtOnce + Math.floor(eventLimits.maxWaitingBytes / 20_000_000) + 1);
    await triggers.stop();
  });

  test('publishing is bounded', async () => {
    const { triggers } = host(() => 1);
    await triggers.apply([]);
    let n = 0;
    const publish = () => {
      for (;;) triggers.publish(event({ id: String(n++) }));
    };
    expect(publish).toThrow(/^IGU_FUNCTION_BUSY/);
    expect(n).toBe(eventLimits.maxWaiting + eventLimits.maxAtOnce + 1);
    await triggers.stop();
  });

  test('one that comes again while it is handled is waited for, and fails with it', async () => {
    const ends: ((error?: Error) => void)[] = [];
    const { triggers, calls } = host(() => 1, {
      deliver: () =>
        new Promise((resolve, reject) => {
          ends.push((error) => (error ? reject(error) : resolve()));
        }),
    });
    await triggers.apply([deployed('slow', {}), deployed('quick', {})]);
    const states: string[] = [];
    const told = (name: string, dispatched: Promise<unknown>) =>
      dispatched.then(
        () => states.push(`${name} handled`),
        () => states.push(`${name} failed`),
      );
    const first = told('first', triggers.dispatch(event()));
    await settle();
    const second = told('second', triggers.dispatch(event()));
    ends[1]!(new Error('no broker'));
    await settle();
    // the other function is under way still
    expect([states, calls.length]).toEqual([[], 2]);
    ends[0]!();
    await Promise.all([first, second]);
    expect(states).toEqual(['first failed', 'second failed']);
    const third = triggers.dispatch(event());
    await settle();
    for (const end of ends) end();
    expect(await third).toEqual({ started: ['slow', 'quick'], failed: [], repeated: false });
  });
});
