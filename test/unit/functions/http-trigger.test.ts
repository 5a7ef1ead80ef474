import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { keptFunctionSchema } from '../../../src/functions/definition.js';
import type { DeployedFunction } from '../../../src/functions/function-service.js';
import { HttpRouter, httpAnswer, httpEvent } from '../../../src/functions/triggers/http-trigger.js';

type Trigger = { readonly method?: string; readonly path: string };

function deployed(name: string, ...triggers: readonly Trigger[]): DeployedFunction {
  const definition = keptFunctionSchema.parse({
    name,
    runtime: 'javascript',
    code: { inline: 'x' },
    triggers: triggers.map((trigger) => ({ type: 'http', ...trigger })),
  });
  return { name, version: 1, definition, aliases: {} };
}

function asked(router: HttpRouter, method: string, path: string): unknown {
  const found = router.match(method, path);
  if (!found) return 'nothing';
  return 'allow' in found ? found.allow.join(' ') : `${found.name} ${JSON.stringify(found.params)}`;
}

describe('router', () => {
  test('takes the most special route that has the method', () => {
    const router = new HttpRouter([
      deployed('any', { path: '/*' }),
      deployed('one', { method: 'GET', path: '/orders/:id' }),
      deployed('two', { method: 'POST', path: '/orders/new' }),
      deployed('three', { method: 'GET', path: '/orders/:id/lines/:line' }),
      deployed('four', { method: 'GET', path: '/orders/*' }),
      deployed('five', { path: '/orders' }, { method: 'PUT', path: '/orders' }),
    ]);
    expect(router.problems).toEqual([]);
    expect(asked(router, 'GET', '/orders/7')).toBe('one {"id":"7"}');
    expect(asked(router, 'GET', '/orders/new')).toBe('one {"id":"new"}');
    expect(asked(router, 'POST', '/orders/new')).toBe('two {}');
    expect(asked(router, 'GET', '/orders/7/lines/2')).toBe('three {"id":"7","line":"2"}');
    expect(asked(router, 'GET', '/orders/7/lines')).toBe('four {"*":"7/lines"}');
    expect(asked(router, 'GET', '/orders/')).toBe('four {"*":""}');
    expect(asked(router, 'DELETE', '/orders/7')).toBe('any {"*":"orders/7"}');
    expect(asked(router, 'PUT', '/orders')).toBe('five {}');
    expect(asked(router, 'GET', '/')).toBe('any {"*":""}');
  });

  test('names the methods of a path that has others, HEAD beside GET', () => {
    const router = new HttpRouter([
      deployed('f', { method: 'GET', path: '/a' }, { method: 'PUT', path: '/a' }, { method: 'POST', path: '/:x' }),
    ]);
    expect(asked(router, 'DELETE', '/a')).toBe('GET HEAD POST PUT');
    expect(asked(router, 'HEAD', '/a')).toBe('f {}');
    expect(asked(router, 'HEAD', '/b')).toBe('POST');
    expect(asked(router, 'GET', '/a/b')).toBe('nothing');
    expect(asked(router, 'GET', 'a')).toBe('nothing');
  });

  test('decodes segments after it cut the path, and lets nobody climb', () => {
    const router = new HttpRouter([deployed('f', { path: '/x/:id' }, { path: '/files/*' }, { path: '/caf%C3%A9' })]);
    expect(asked(router, 'GET', '/x/a%2Fb')).toBe('f {"id":"a/b"}');
    expect(asked(router, 'GET', '/caf%c3%a9')).toBe('f {}');
    expect(asked(router, 'GET', '/files/a.b/...')).toBe('f {"*":"a.b/..."}');
    for (const path of ['..', '%2e%2e', 'a/../b', '.', '..%2fetc', 'a%5c..%5cb', '..\\b', '%00', 'a%2', '%ff']) {
      expect([path, asked(router, 'GET', `/files/${path}`)]).toEqual([path, 'nothing']);
    }
  });

  test('gives parameters of any name without touching prototypes', () => {
    const router = new HttpRouter([deployed('f', { path: '/:__proto__/:constructor' })]);
    const found = router.match('GET', '/a/b');
    expect(found && 'params' in found && Object.entries(found.params)).toEqual([
      ['__proto__', 'a'],
      ['constructor', 'b'],
    ]);
  });

  test('reports what is taken or no path, in the same way in whatever order functions come', () => {
    const functions = [
      deployed('b', { method: 'GET', path: '/x/:id' }, { path: '/x/:id' }),
      deployed('a', { method: 'GET', path: '/x/:other' }),
      deployed('c', { path: '/*/y' }, { path: '/:a/:a' }, { path: '/:1' }, { path: '/../x' }),
    ];
    for (const order of [functions, [...functions].reverse()]) {
      const router = new HttpRouter(order);
      expect(router.problems.map(({ details: { method, path, name, what } }) => [method, path, name, what])).toEqual([
        ['GET', '/x/:id', 'b', 'a has it already'],
        ['*', '/*/y', 'c', '* stands for the rest, so nothing can follow it'],
        ['*', '/:a/:a', 'c', 'it has two parameters :a'],
        ['*', '/:1', 'c', ':1 is no name of a parameter'],
        ['*', '/../x', 'c', 'its path cannot be decoded, or has a segment . or ..'],
      ]);
      expect(asked(router, 'GET', '/x/1')).toBe('a {"other":"1"}');
      expect(asked(router, 'PUT', '/x/1')).toBe('b {"id":"1"}');
    }
  });

  test('finds what trying all routes one by one finds', () => {
    const segment = fc.constantFrom('a', 'b', ':p', 'c');
    const pattern = fc
      .tuple(fc.array(segment, { minLength: 1, maxLength: 4 }), fc.boolean())
      .map(
        ([segments, rest]) => `/${segments.map((s, i) => (s === ':p' ? `:p${i}` : s)).join('/')}${rest ? '/*' : ''}`,
      );
    const method = fc.constantFrom('GET', 'POST', '*');
    const routes = fc.uniqueArray(fc.record({ method, path: pattern }), {
      selector: (route) => `${route.method} ${route.path}`,
      maxLength: 20,
    });
    const request = fc.record({
      method: fc.constantFrom('GET', 'POST', 'HEAD', 'PUT'),
      segments: fc.array(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 6 }),
    });
    /** Kinds of segments, left to right, then the method: what sorts first is more special. */
    const rank = (route: Required<Trigger>) =>
      `${route.path
        .slice(1)
        .split('/')
        .map((s) => (s === '*' ? 2 : s.startsWith(':') ? 1 : 0))
        .join('')}${route.method === '*' ? 8 : 7}`;
    fc.assert(
      fc.property(routes, request, (all, { method: wanted, segments }) => {
        const router = new HttpRouter(all.map((route, i) => deployed(`f${String(i).padStart(2, '0')}`, route)));
        const path = `/${segments.join('/')}`;
        const onPath = all.filter((route) =>
          new RegExp(`^${route.path.replaceAll(/:p\d/g, '[^/]+').replace('*', '.*')}$`).test(path),
        );
        const fits = onPath
          .filter((route) => [wanted, '*', wanted === 'HEAD' ? 'GET' : '*'].includes(route.method))
          .sort((a, b) => (rank(a) < rank(b) ? -1 : 1));
        const found = router.match(wanted, path);
        if (onPath.length === 0) expect(found).toBeUndefined();
        else if (fits.length === 0) {
          const methods = new Set<string>(onPath.map((route) => route.method));
          if (methods.has('GET')) methods.add('HEAD');
          expect(found).toEqual({ allow: [...methods].sort() });
        } else {
          const best = fits.filter((route) => rank(route).slice(0, -1) === rank(fits[0]!).slice(0, -1));
          expect(found && 'trigger' in found && best.map((route) => route.path)).toContain(
            found && 'trigger' in found ? found.trigger.path : '',
          );
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe('event of a request', () => {
  const request = { method: 'POST', path: '/orders/7', query: '', headers: {}, body: undefined };

  test('has what belongs to the message and not to the connection', () => {
    const event = httpEvent(
      {
        ...request,
        query: 'a=1&b=x%20y&a=2&a=3&__proto__=p',
        headers: {
          host: 'h',
          connection: 'close, X-Secret',
          'x-secret': 's',
          'transfer-encoding': 'chunked',
          upgrade: 'h2c',
          te: 'trailers',
          expect: '100-continue',
          'proxy-authorization': 'p',
          'set-cookie': ['a', 'b'],
          'x-kept': 'yes',
        },
      },
      { id: '7' },
    );
    expect(event).toMatchObject({
      trigger: 'http',
      method: 'POST',
      path: '/orders/7',
      params: { id: '7' },
      headers: { host: 'h', 'set-cookie': 'a, b', 'x-kept': 'yes' },
      body: null,
    });
    expect('headers' in event && Object.keys(event.headers)).toEqual(['host', 'set-cookie', 'x-kept']);
    expect('query' in event && Object.entries(event.query)).toEqual([
      ['a', ['1', '2', '3']],
      ['b', 'x y'],
      ['__proto__', 'p'],
    ]);
  });

  test('has the body decoded by its content type', () => {
    const body = (type: string, bytes: string | Uint8Array) => {
      const event = httpEvent({ ...request, headers: { 'content-type': type }, body: Buffer.from(bytes) }, {});
      return 'body' in event ? event.body : undefined;
    };
    expect(body('application/json; charset=utf-8', '{"a":1}')).toEqual({ a: 1 });
    expect(body('application/problem+JSON', '[1]')).toEqual([1]);
    expect(body('text/plain', 'hé')).toBe('hé');
    expect(body('application/x-www-form-urlencoded', 'a=1')).toBe('a=1');
    expect(body('image/png', Uint8Array.of(1, 255))).toEqual(Buffer.from([1, 255]));
    expect(body('', 'x')).toEqual(Buffer.from('x'));
    expect(body('application/json', '')).toBeNull();
    expect(() => body('application/json', '{')).toThrow(/^IGU_HTTP_BODY .* it is no JSON/);
    expect(() => body('text/plain', Uint8Array.of(255))).toThrow(/it is no UTF-8/);
  });
});

describe('answer', () => {
  const answer = (output: unknown) => httpAnswer('f', output);
  const json = { 'content-type': 'application/json; charset=utf-8' };

  test('of any value is JSON, of bytes bytes, of nothing 204', () => {
    expect(answer({ a: [1] })).toEqual({ status: 200, headers: json, body: '{"a":[1]}' });
    expect(answer('x')).toEqual({ status: 200, headers: json, body: '"x"' });
    expect(answer(false)).toEqual({ status: 200, headers: json, body: 'false' });
    expect(answer({ body: 1 })).toEqual({ status: 200, headers: json, body: '{"body":1}' });
    expect(answer(null)).toEqual({ status: 204, headers: {}, body: undefined });
    expect(answer(undefined)).toEqual({ status: 204, headers: {}, body: undefined });
    const bytes = { status: 200, headers: { 'content-type': 'application/octet-stream' }, body: Uint8Array.of(1) };
    expect(answer(Uint8Array.of(1))).toEqual(bytes);
    expect(answer(Uint8Array.of(1).buffer)).toEqual(bytes);
  });

  test('with a status is what it says', () => {
    expect(answer({ statusCode: 201, headers: { Location: '/x', 'X-N': 3 }, body: { a: 1 } })).toEqual({
      status: 201,
      headers: { ...json, location: '/x', 'x-n': '3' },
      body: '{"a":1}',
    });
    expect(answer({ statusCode: 404, body: 'no' })).toMatchObject({
      headers: { 'content-type': 'text/plain; charset=utf-8' },
      body: 'no',
    });
    expect(answer({ statusCode: 200, headers: { 'Content-Type': 'text/html' }, body: '<p>' }).headers).toEqual({
      'content-type': 'text/html',
    });
    expect(answer({ statusCode: 304, body: 'x' }).body).toBeUndefined();
    expect(answer({ statusCode: 200, headers: { 'set-cookie': ['a=1', 'b=2'] } }).headers).toEqual({
      'set-cookie': ['a=1', 'b=2'],
    });
  });

  test('cannot change how the message ends or begin another one', () => {
    const headers = {
      'Content-Length': '3',
      'Transfer-Encoding': 'chunked',
      Connection: 'upgrade',
      Upgrade: 'x',
      'Keep-Alive': '1',
      Trailer: 'x',
      'x-a': 'b',
    };
    expect(answer({ statusCode: 200, headers }).headers).toEqual({ 'x-a': 'b' });
    for (const [name, value] of [
      ['x', 'a\r\nset-cookie: b'],
      ['x', 'a\nb'],
      ['x', 'a\0'],
      ['x', 'snow ☃'],
      ['x', {}],
      ['x\r\ny', 'a'],
      ['x y', 'a'],
      ['', 'a'],
      ['x:', 'a'],
      ['x', 'y'.repeat(20_000)],
    ]) {
      expect(() => answer({ statusCode: 200, headers: { [String(name)]: value } })).toThrow(/^IGU_FUNCTION_ANSWER/);
    }
  });

  test.each([[100], [199], [600], [200.5], ['200'], [Number.NaN]])('has no status %s', (statusCode) => {
    expect(() => answer({ statusCode })).toThrow(/^IGU_FUNCTION_ANSWER .*statusCode/);
  });

  test('has a JSON form', () => {
    const circle: Record<string, unknown> = {};
    circle.circle = circle;
    expect(() => answer(circle)).toThrow(/^IGU_FUNCTION_ANSWER/);
    expect(() => answer(10n)).toThrow(/^IGU_FUNCTION_ANSWER/);
    expect(() => answer({ statusCode: 200, body: () => 1 })).toThrow(/^IGU_FUNCTION_ANSWER .*no JSON form/);
    expect(() => answer({ statusCode: 200, headers: [] })).toThrow(/headers is no object/);
  });
});
