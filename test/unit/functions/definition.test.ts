import { describe, expect, test } from 'vitest';
import { functionSchema } from '../../../src/functions/definition.js';

const smallest = { name: 'resize', runtime: 'javascript', code: { inline: 'export const handle = () => 1' } };

function problems(definition: object): string[] {
  const result = functionSchema.safeParse(definition);
  return result.success ? [] : result.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
}

describe('definition', () => {
  test('needs a name, a runtime and code; the rest has defaults', () => {
    expect(functionSchema.parse(smallest)).toMatchObject({
      handler: 'handle',
      memoryMb: 256,
      timeoutMs: 30_000,
      concurrency: 1,
      triggers: [],
      scaling: { minInstances: 0, maxInstances: 100, idleSeconds: 300 },
    });
    expect(
      functionSchema.parse({ ...smallest, triggers: [{ type: 'stream', topic: 'orders' }] }).triggers,
    ).toMatchObject([
      { from: 'latest', batch: { size: 100, windowMs: 0 }, order: 'partition', attempts: 3, bisect: true },
    ]);
  });

  test.each([
    [{ name: 'Resize!' }, /^name: lower-case/],
    [{ runtime: 'cobol' }, /^runtime: /],
    [{ memoryMb: 1 }, /^memoryMb: /],
    [{ timeout: 5 }, /Unrecognized key: "timeout"/],
    [{ scaling: { minInstances: 5, maxInstances: 2 } }, /^scaling.minInstances: is 5, above maxInstances \(2\)/],
    [{ triggers: [{ type: 'stream', topic: 'a', exactlyOnce: true }] }, /^triggers.0.exactlyOnce: needs output/],
    [{ output: 'a', triggers: [{ type: 'stream', topic: 'a' }] }, /^output: .*would start itself/],
    [{ triggers: [{ type: 'http', path: 'orders' }] }, /^triggers.0.path: a path that begins with \//],
    [{ triggers: [{ type: 'http', path: '/a/../x' }] }, /^triggers.0.path: can never be served: .* segment . or ../],
    [
      { triggers: [{ type: 'http', path: '/%zz' }] },
      /^triggers.0.path: can never be served: its path cannot be decoded/,
    ],
    [{ triggers: [{ type: 'http', path: '/*/x' }] }, /^triggers.0.path: can never be served: .* nothing can follow/],
    [
      {
        triggers: [
          { type: 'http', path: '/x/:id' },
          { type: 'http', path: '/x/:id', method: 'GET' },
          { type: 'http', path: '/x/:name' },
        ],
      },
      /^triggers.2.path: has the route of triggers.0$/,
    ],
    [
      { triggers: [{ type: 'stream', topic: 'a', from: 'yesterday' }] },
      /^triggers.0.from: latest, earliest, or a time in ms since 1970$/,
    ],
    [
      { triggers: [{ type: 'queue', topic: 'a', deadLetters: true }] },
      /^triggers.0.deadLetters: a topic name .*, or false$/,
    ],
    [{ env: { 'A B': '1' } }, /^env/],
  ])('%j is refused with its place', (change, expected) => {
    expect(problems({ ...smallest, ...change }).join('\n')).toMatch(expected);
  });

  const stream = (path: string) => ({ type: 'stream', topic: 'orders', filter: { [path]: { exists: false } } });
  const event = (path: string) => ({ type: 'event', eventType: 'order', filter: { [path]: 1 } });

  test.each([
    [stream('vlaue.total'), 'vlaue.total: a path in a record is key, value, value.NAME or headers.NAME'],
    [stream('total'), 'total: a path in a record is'],
    [stream('valuetotal'), 'valuetotal: a path in a record is'],
    [stream('Value.total'), 'Value.total: a path in a record is'],
    [stream('key.id'), 'key.id: there is nothing in a key'],
    [stream('headers.a.b'), 'headers.a.b: there is nothing in a header'],
    [event('date.amount'), 'date.amount: a path in an event is data.NAME, data, or an attribute'],
    [event('Data.amount'), 'Data.amount: a path in an event is'],
    [event('eventType'), 'eventType: a path in an event is'],
    [event('data_amount'), 'data_amount: a path in an event is'],
  ])('a filter that could never match is refused: %j', (trigger, expected) => {
    expect(problems({ ...smallest, triggers: [trigger] })).toEqual([
      expect.stringContaining(`triggers.0.filter.${expected}`),
    ]);
  });

  test('a filter may look at all of a record and of an event', () => {
    const triggers = [
      ...['value', 'value.total', 'value.lines.0.sku', 'key', 'headers', 'headers.content-type'].map(stream),
      ...['data', 'data.amount', 'data.lines.sku', 'subject', 'partitionkey', 'myextension2'].map(event),
    ];
    expect(problems({ ...smallest, triggers })).toEqual([]);
  });
});
