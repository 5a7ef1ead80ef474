import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { IguanaError, messageOf } from '../errors.js';
import type { AnswerSink } from '../functions/invocation.js';
import { type HttpAnswer, HttpRouter, httpAnswer, httpEvent, httpHead } from '../functions/triggers/http-trigger.js';
import { httpLimits } from '../limits.js';
import type { Connections } from './connections.js';
import type { FunctionApi } from './function-api.js';
import { errorAnswer, sendError } from './http-errors.js';
import type { BodyReader } from './read-body.js';

/** Under which functions are served. */
const PREFIX = '/functions';

/**
 * An answer of a function comes from the address of the page that may deploy functions, so a browser must not take the one for the other: in a sandbox its
 * scripts have an origin of their own. Sent beside whatever policy the function has; a browser heeds both.
 */
const SANDBOX = 'sandbox allow-downloads allow-forms allow-modals allow-popups allow-scripts';

/** Codes whose text comes from the function: it may say what a stranger should not know, so it stays in the function's log. */
const ownText: ReadonlySet<string> = new Set(['IGU_FUNCTION_FAILED', 'IGU_FUNCTION_CRASHED', 'IGU_FUNCTION_CODE']);

type Headers = Readonly<Record<string, string | readonly string[]>>;

/** Whether a request target is one of a function. */
export function isFunctionTarget(url: string): boolean {
  const end = url.charCodeAt(PREFIX.length);
  // The end, a slash or a question mark.
  return url.startsWith(PREFIX) && (Number.isNaN(end) || end === 0x2f || end === 0x3f);
}

/** Requests under `/functions`: finds the function, calls it, answers what it returns. */
export class FunctionRequests {
  private router = new HttpRouter([]);
  /** Triggers that are not served, as they were told. */
  private told: ReadonlySet<string> = new Set();
  private readonly unsubscribe: () => void;

  /** @param onError told of each trigger that is not served, once while it is not */
  constructor(
    private readonly functions: FunctionApi,
    private readonly bodies: BodyReader,
    private readonly connections: Connections,
    private readonly onError: (error: IguanaError) => void,
  ) {
    this.unsubscribe = functions.onChange(() => this.apply());
    this.apply();
  }

  /** Triggers that are not served, and why. */
  get problems(): readonly IguanaError[] {
    return this.router.problems;
  }

  stop(): void {
    this.unsubscribe();
  }

  /** Answers, whatever happens; never rejects. */
  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let invocationId: string | undefined;
    let streamed: StreamedAnswer | undefined;
    const refuse = (error: unknown): void => {
      const answer = errorAnswer(error);
      const { code, fix } = answer.body;
      const message = ownText.has(code)
        ? `${code} the function failed; see its log for call ${invocationId}`
        : undefined;
      const headers = code === 'IGU_FUNCTION_CODE' ? { status: 502 } : {};
      sendError(
        response,
        { ...answer, ...headers, ...(message ? { body: { code, message, fix } } : {}) },
        request.method !== 'HEAD',
      );
    };
    try {
      const url = request.url ?? '/';
      const cut = url.indexOf('?');
      const path = (cut < 0 ? url.slice(PREFIX.length) : url.slice(PREFIX.length, cut)) || '/';
      const method = request.method ?? 'GET';
      const found = this.router.match(method, path);
      if (!found) throw new IguanaError('IGU_HTTP_PATH', { path: PREFIX + path });
      if ('allow' in found) {
        if (method !== 'OPTIONS') {
          throw new IguanaError('IGU_HTTP_METHOD', { method, allow: [...found.allow, 'OPTIONS'].join(', ') });
        }
        response.writeHead(204, { allow: [...found.allow, 'OPTIONS'].join(', ') }).end();
        return;
      }
      const { name, trigger, params } = found;
      const body = await this.bodies.read(request, response, trigger.maxBodyBytes);
      const query = cut < 0 ? '' : url.slice(cut + 1);
      const event = httpEvent({ method, path, query, headers: request.headers, body }, params);

      invocationId = randomUUID();
      streamed = new StreamedAnswer(name, response, refuse);
      const { output } = await this.functions.invoke(name, event, {
        invocationId,
        signal: this.connections.signalOf(request.socket),
        answer: streamed,
        ...(trigger.alias === undefined ? {} : { qualifier: trigger.alias }),
      });
      if (streamed.begun) {
        response.end();
        return;
      }
      const { status, headers, body: answer } = this.answerOf(name, invocationId, output);
      const length =
        answer === undefined ? 0 : typeof answer === 'string' ? Buffer.byteLength(answer) : answer.byteLength;
      response.writeHead(status, withOurs(headers, status === 204 || status === 304 ? undefined : length));
      if (answer === undefined || method === 'HEAD') response.end();
      else response.end(answer);
      cutOffWhenStalled(response);
    } catch (error) {
      // one that was refused is answered; the call was told of it, and ended, later
      if (!streamed?.refused) refuse(error);
    }
  }

  /** The call was well: what is wrong with its answer is told to the function's log here. */
  private answerOf(name: string, invocationId: string, output: unknown): HttpAnswer {
    try {
      return httpAnswer(name, output);
    } catch (error) {
      this.functions.note?.(name, invocationId, `error ${messageOf(error)}`);
      throw error;
    }
  }

  private apply(): void {
    this.router = new HttpRouter(this.functions.list());
    const { problems } = this.router;
    for (const problem of problems) if (!this.told.has(problem.message)) this.onError(problem);
    this.told = new Set(problems.map(({ message }) => message));
  }
}

function withOurs(headers: Headers, length: number | undefined): Record<string, string | string[] | number> {
  const all: Record<string, string | string[] | number> = { 'content-security-policy': SANDBOX };
  for (const name in headers) {
    const value = headers[name]!;
    all[name] = typeof value === 'string' ? value : [...value];
  }
  const own = headers['content-security-policy'];
  if (own !== undefined) all['content-security-policy'] = [SANDBOX, ...(typeof own === 'string' ? [own] : own)];
  // With it a script of a function could become the one that answers for the page.
  delete all['service-worker-allowed'];
  if (length !== undefined) all['content-length'] = length;
  return all;
}

/** An answer that comes piece by piece, at the pace of whoever reads it. */
class StreamedAnswer implements AnswerSink {
  begun = false;
  refused = false;

  /** @param refuse answers that the function's answer cannot be given: at once, whatever the function goes on to do */
  constructor(
    private readonly name: string,
    private readonly response: ServerResponse,
    private readonly refuse: (error: unknown) => void,
  ) {}

  begin(head: { readonly statusCode?: unknown; readonly headers?: unknown }): void {
    const { status, headers } = this.head(head);
    this.begun = true;
    this.response.writeHead(status, withOurs(headers, undefined));
    // To who asks for the head alone, the first piece would go nowhere.
    if (this.response.req.method === 'HEAD') this.response.end();
    else this.response.flushHeaders();
  }

  private head(head: { readonly statusCode?: unknown; readonly headers?: unknown }): ReturnType<typeof httpHead> {
    try {
      return httpHead(this.name, head);
    } catch (error) {
      this.refused = true;
      this.refuse(error);
      throw error;
    }
  }

  /** Resolves when the reader has room again. */
  write(piece: Uint8Array): Promise<void> | undefined {
    const { response } = this;
    if (response.writableEnded) throw new IguanaError('IGU_FUNCTION_CANCELLED', { name: this.name });
    if (response.destroyed || response.write(piece)) return undefined;
    return new Promise((resolve) => {
      const stalled = setTimeout(() => response.destroy(), httpLimits.stalledAnswerMs);
      const done = () => {
        clearTimeout(stalled);
        response.off('drain', done);
        response.off('close', done);
        resolve();
      };
      response.once('drain', done);
      response.once('close', done);
    });
  }
}

/** A large answer that nobody reads must not be held forever. The socket's own timer is the server's, for keeping connections. */
function cutOffWhenStalled(response: ServerResponse): void {
  const { socket } = response;
  if (!socket || socket.writableLength <= socket.writableHighWaterMark) return;
  let taken = socket.writableLength;
  const watch = setInterval(() => {
    if (socket.writableLength === taken) socket.destroy();
    taken = socket.writableLength;
  }, httpLimits.stalledAnswerMs);
  response.once('close', () => clearInterval(watch));
}
