/**
 * Which function a request is for, what it is given, and what is answered. Knows no server: paths, headers and bytes in, the same out. Over 300 lines because
 * the three share one idea of which names and paths are let through.
 */
import { IguanaError } from '../../errors.js';
import { httpAnswerLimits } from '../../limits.js';
import type { HttpTrigger } from '../definition.js';
import type { DeployedFunction } from '../function-service.js';
import type { FunctionEvent } from '../invocation.js';
import { isPlain, segmentsOf, stepsOf } from './http-path.js';

export interface HttpMatch {
  /** Of the function. */
  readonly name: string;
  readonly trigger: HttpTrigger;
  readonly params: Readonly<Record<string, string>>;
}

/** The path is served, but not with this method. */
export interface OtherMethods {
  /** For the `Allow` header. */
  readonly allow: readonly string[];
}

interface Route {
  readonly name: string;
  readonly trigger: HttpTrigger;
  /** Names of the parameters, from left to right; `*` is the rest. */
  readonly names: readonly string[];
}

interface Node {
  readonly literals: Map<string, Node>;
  parameter: Node | undefined;
  /** Method → what ends here, and what takes all that follows. */
  readonly here: Map<string, Route>;
  readonly rest: Map<string, Route>;
}

const newNode = (): Node => ({ literals: new Map(), parameter: undefined, here: new Map(), rest: new Map() });

/**
 * The HTTP triggers of all functions. From left to right a literal segment goes before `:name`, and that before `*`; of what ends at the same place the exact
 * method goes before `*`. A more general route answers when no more special one has the method.
 * Cost: O(segments) without parameters; never more than one visit of each node.
 */
export class HttpRouter {
  private readonly root = newNode();
  /** Path as it is written → method → what is there: what the search would find first, for paths that are nothing but literal segments. */
  private readonly literal = new Map<string, Map<string, HttpMatch>>();
  /** Triggers that are not served, as `IGU_FUNCTION_ROUTE`: taken by a function whose name sorts before, or no path. */
  readonly problems: IguanaError[] = [];

  constructor(functions: readonly DeployedFunction[]) {
    for (const { name, definition } of [...functions].sort((a, b) => (a.name < b.name ? -1 : 1))) {
      for (const trigger of definition.triggers) {
        if (trigger.type !== 'http') continue;
        const what = this.add(name, trigger);
        if (what === undefined) continue;
        const { method, path } = trigger;
        this.problems.push(new IguanaError('IGU_FUNCTION_ROUTE', { method, path, name, what }));
      }
    }
  }

  /**
   * @param path as it came, without the query; percent-encoded
   * @returns undefined when nothing is served there
   */
  match(method: string, path: string): HttpMatch | OtherMethods | undefined {
    const literal = this.literal.get(path)?.get(method);
    if (literal) return literal;
    const segments = segmentsOf(path);
    if (!segments) return undefined;
    const methods = method === 'HEAD' ? ['HEAD', '*', 'GET'] : [method, '*'];
    const others = new Set<string>();
    const bound: string[] = [];

    const choose = (routes: Map<string, Route>): Route | undefined => {
      for (const one of methods) {
        const route = routes.get(one);
        if (route) return route;
      }
      for (const one of routes.keys()) others.add(one);
      return undefined;
    };
    const search = (node: Node, at: number): Route | undefined => {
      if (at === segments.length) return choose(node.here);
      const segment = segments[at]!;
      const literal = node.literals.get(segment);
      let found = literal && search(literal, at + 1);
      if (found) return found;
      if (node.parameter && segment !== '') {
        bound.push(segment);
        found = search(node.parameter, at + 1);
        if (found) return found;
        bound.pop();
      }
      if (node.rest.size === 0) return undefined;
      found = choose(node.rest);
      if (found) bound.push(segments.slice(at).join('/'));
      return found;
    };

    const route = search(this.root, 0);
    if (route) {
      const { name, trigger, names } = route;
      if (names.length === 0) return { name, trigger, params: {} };
      const params: Record<string, string> = Object.create(null);
      for (const [i, parameter] of names.entries()) params[parameter] = bound[i]!;
      return { name, trigger, params };
    }
    if (others.size === 0) return undefined;
    if (others.has('GET')) others.add('HEAD');
    return { allow: [...others].sort() };
  }

  /** Why it is not served, if it is not. */
  private add(name: string, trigger: HttpTrigger): string | undefined {
    const { method, path } = trigger;
    const steps = stepsOf(path);
    if (typeof steps === 'string') return steps;
    const names: string[] = [];
    let node = this.root;
    let routes: Map<string, Route> | undefined;
    for (const step of steps) {
      if ('rest' in step) {
        names.push('*');
        routes = node.rest;
      } else if ('parameter' in step) {
        names.push(step.parameter);
        node.parameter ??= newNode();
        node = node.parameter;
      } else {
        let next = node.literals.get(step.literal);
        if (!next) {
          next = newNode();
          node.literals.set(step.literal, next);
        }
        node = next;
      }
    }
    routes ??= node.here;
    const taken = routes.get(method);
    if (taken) return `${taken.name} has it already`;
    routes.set(method, { name, trigger, names });
    if (names.length === 0 && isPlain(path)) {
      const methods = this.literal.get(path) ?? new Map<string, HttpMatch>();
      this.literal.set(path, methods.set(method, { name, trigger, params: {} }));
    }
    return undefined;
  }
}

/** Of one connection, not of the message: neither given to a function nor taken from one. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'expect',
  'http2-settings',
]);

export interface HttpRequest {
  readonly method: string;
  /** As it came, percent-encoded, without the query. */
  readonly path: string;
  /** After the question mark. */
  readonly query: string;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  readonly body: Uint8Array | undefined;
}

/** @throws IguanaError `IGU_HTTP_BODY` when the body is not what its content type says */
export function httpEvent(request: HttpRequest, params: Readonly<Record<string, string>>): FunctionEvent {
  const { method, path } = request;
  const headers = endToEnd(request.headers);
  const body = decodedBody(request.body, headers['content-type'] ?? '');
  return { trigger: 'http', method, path, params, query: parsedQuery(request.query), headers, body };
}

function endToEnd(headers: HttpRequest['headers']): Record<string, string> {
  const { connection } = headers;
  // What the connection header names is of the connection too. Nearly always it says keep-alive, or nothing.
  const named =
    typeof connection === 'string' && connection !== 'keep-alive' && connection !== 'close'
      ? new Set(
          connection
            .toLowerCase()
            .split(',')
            .map((one) => one.trim()),
        )
      : undefined;
  const kept: Record<string, string> = {};
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined || hopByHop.has(name) || named?.has(name) || name === '__proto__') continue;
    kept[name] = typeof value === 'string' ? value : value.join(', ');
  }
  return kept;
}

function parsedQuery(text: string): Readonly<Record<string, string | readonly string[]>> {
  if (text === '') return {};
  const query: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of new URLSearchParams(text)) {
    const before = query[name];
    if (before === undefined) query[name] = value;
    else if (typeof before === 'string') query[name] = [before, value];
    else before.push(value);
  }
  return query;
}

const JSON_BODY = 'application/json';
const utf8 = new TextDecoder('utf-8', { fatal: true });

function decodedBody(bytes: Uint8Array | undefined, contentType: string): unknown {
  if (bytes === undefined || bytes.byteLength === 0) return null;
  const type = contentType === JSON_BODY ? JSON_BODY : contentType.split(';', 1)[0]!.trim().toLowerCase();
  const json = type === JSON_BODY || type.endsWith('+json');
  const text =
    json ||
    type.startsWith('text/') ||
    type === 'application/x-www-form-urlencoded' ||
    type === 'application/xml' ||
    type.endsWith('+xml');
  if (!text) return bytes;
  try {
    const decoded = utf8.decode(bytes);
    return json ? JSON.parse(decoded) : decoded;
  } catch (error) {
    const what = error instanceof SyntaxError ? `it is no JSON (${error.message})` : 'it is no UTF-8';
    throw new IguanaError('IGU_HTTP_BODY', { what }, { cause: error });
  }
}

export interface HttpAnswer {
  readonly status: number;
  /** Names in lower case; never those of the connection, nor `content-length`. */
  readonly headers: Readonly<Record<string, string | readonly string[]>>;
  /** Undefined for an answer that has none. */
  readonly body: string | Uint8Array | undefined;
}

const JSON_TYPE = { 'content-type': 'application/json; charset=utf-8' } as const;
const BYTES_TYPE = { 'content-type': 'application/octet-stream' } as const;
const TEXT_TYPE = { 'content-type': 'text/plain; charset=utf-8' } as const;

/**
 * What is answered for what a function returned: `{statusCode, headers, body}` as it says (text and bytes as they are, anything else as JSON), nothing as 204,
 * bytes as they are, any other value as JSON with 200.
 * @throws IguanaError `IGU_FUNCTION_ANSWER` for a status, header or body that HTTP does not have
 */
export function httpAnswer(name: string, output: unknown): HttpAnswer {
  if (!isShaped(output)) {
    if (output === null || output === undefined) return { status: 204, headers: {}, body: undefined };
    if (output instanceof Uint8Array) return { status: 200, headers: BYTES_TYPE, body: output };
    if (output instanceof ArrayBuffer) return { status: 200, headers: BYTES_TYPE, body: new Uint8Array(output) };
    return { status: 200, headers: JSON_TYPE, body: json(name, output) };
  }
  const { status, headers } = httpHead(name, output);
  const { body } = output;
  if (status === 204 || status === 304 || body === null || body === undefined) {
    return { status, headers, body: undefined };
  }
  if (typeof body === 'string') return { status, headers: { ...TEXT_TYPE, ...headers }, body };
  if (body instanceof Uint8Array) return { status, headers: { ...BYTES_TYPE, ...headers }, body };
  if (body instanceof ArrayBuffer)
    return { status, headers: { ...BYTES_TYPE, ...headers }, body: new Uint8Array(body) };
  return { status, headers: { ...JSON_TYPE, ...headers }, body: json(name, body) };
}

/**
 * Status and headers of an answer whose body comes piece by piece.
 * @throws IguanaError `IGU_FUNCTION_ANSWER`
 */
export function httpHead(
  name: string,
  head: { readonly statusCode?: unknown; readonly headers?: unknown },
): Pick<HttpAnswer, 'status' | 'headers'> {
  const refuse = (what: string) => new IguanaError('IGU_FUNCTION_ANSWER', { name, what });
  const status = head.statusCode ?? 200;
  if (typeof status !== 'number' || !Number.isInteger(status) || status < 200 || status > 599) {
    throw refuse(`statusCode is ${shown(status)}, not a whole number from 200 to 599`);
  }
  const headers: Record<string, string | string[]> = {};
  if (head.headers === undefined || head.headers === null) return { status, headers };
  if (typeof head.headers !== 'object' || Array.isArray(head.headers)) throw refuse('headers is no object');
  let size = 0;
  for (const [written, value] of Object.entries(head.headers)) {
    const header = written.toLowerCase();
    if (!/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(header)) throw refuse(`${shown(written)} is no name of a header`);
    if (value === undefined || value === null) continue;
    if (hopByHop.has(header) || header === 'content-length' || header === '__proto__') continue;
    const values = Array.isArray(value) ? value : [value];
    const texts = values.map((one: unknown) => {
      const text = typeof one === 'number' || typeof one === 'boolean' ? String(one) : one;
      // Control characters end a header and begin another one.
      if (typeof text !== 'string' || !/^[\t\x20-\x7e\x80-\xff]*$/.test(text)) {
        throw refuse(`the value of header ${header} has characters that a header cannot have`);
      }
      size += header.length + text.length;
      return text;
    });
    headers[header] = texts.length === 1 ? texts[0]! : texts;
  }
  if (size > httpAnswerLimits.maxHeaderBytes) {
    throw refuse(`its headers have ${size} bytes, more than ${httpAnswerLimits.maxHeaderBytes}`);
  }
  return { status, headers };
}

/** `statusCode` alone makes an object an answer: `{ body: … }` is a value like any other. */
function isShaped(
  output: unknown,
): output is { readonly statusCode: unknown; readonly headers?: unknown; readonly body?: unknown } {
  return typeof output === 'object' && output !== null && !Array.isArray(output) && Object.hasOwn(output, 'statusCode');
}

function json(name: string, value: unknown): string {
  let what = 'it has no JSON form';
  try {
    const text: string | undefined = JSON.stringify(value);
    if (text !== undefined) return text;
  } catch (error) {
    what = error instanceof Error ? error.message : String(error);
  }
  throw new IguanaError('IGU_FUNCTION_ANSWER', { name, what });
}

function shown(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 40)) : String(value);
}
