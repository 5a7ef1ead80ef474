import type { ServerResponse } from 'node:http';
import { IguanaError, messageOf } from '../errors.js';
import { httpLimits } from '../limits.js';

const statuses: Partial<Record<string, number>> = {
  IGU_USAGE: 400,
  IGU_CONFIG: 400,
  IGU_HTTP_BODY: 400,
  IGU_HTTP_REQUEST: 400,
  IGU_RECORD_MALFORMED: 400,
  IGU_FUNCTION_EVENT_DEPTH: 400,
  IGU_GPU_REQUEST: 400,
  IGU_HTTP_TOKEN: 401,
  IGU_HTTP_ORIGIN: 403,
  IGU_HTTP_PATH: 404,
  IGU_NOT_FOUND: 404,
  IGU_FUNCTION_NOT_FOUND: 404,
  IGU_GPU_ALLOCATION: 404,
  IGU_HTTP_METHOD: 405,
  IGU_FUNCTION_ROUTE: 409,
  IGU_GPU_REFUSED: 409,
  IGU_FUNCTION_CALL_ENDED: 409,
  IGU_HTTP_TOO_LARGE: 413,
  IGU_HTTP_HOST: 421,
  IGU_FUNCTION_CODE: 422,
  IGU_FUNCTION_BUSY: 429,
  IGU_FUNCTION_CANCELLED: 499,
  IGU_FUNCTION_FAILED: 502,
  IGU_FUNCTION_ANSWER: 502,
  IGU_FUNCTION_MEMORY: 502,
  IGU_FUNCTION_CRASHED: 502,
  IGU_FUNCTION_INTERRUPTED: 503,
  IGU_FUNCTION_NOT_READY: 503,
  IGU_LIMIT: 503,
  IGU_BROKER_UNREACHABLE: 503,
  IGU_GPU_SCHEDULER: 503,
  IGU_FUNCTION_TIMEOUT: 504,
  IGU_FUNCTION_EXPIRED: 504,
};

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: {
    readonly code: string;
    readonly message: string;
    readonly fix: string;
    /** Of the call that failed: its lines in the log have it. */
    readonly invocationId?: string;
  };
}

/** What is answered for an error: its status, `{code, message, fix}` with the id of a call, and when to come again where that helps. */
export function errorAnswer(error: unknown): ErrorAnswer {
  const known = error instanceof IguanaError ? error : undefined;
  const code = known?.code ?? 'IGU_HTTP';
  const status = statuses[code] ?? 500;
  const headers: Record<string, string> = {};
  if (status === 429 || status === 503) headers['retry-after'] = '1';
  if (status === 401) headers['www-authenticate'] = 'Bearer';
  if (code === 'IGU_HTTP_METHOD') headers.allow = String(known?.details.allow ?? '');
  const { invocationId } = known?.details ?? {};
  const call = typeof invocationId === 'string' ? { invocationId } : {};
  return { status, headers, body: { code, message: messageOf(error), fix: known?.fix ?? 'see the log', ...call } };
}

/** Sends it; when part of an answer is out already, ends the connection, so that nobody takes that part for the whole. */
export function sendError(response: ServerResponse, { status, headers, body }: ErrorAnswer, withBody: boolean): void {
  if (response.headersSent) {
    if (!response.writableEnded) response.destroy();
    return;
  }
  const text = `${JSON.stringify(body)}\n`;
  const { req: request } = response;
  response.writeHead(status, {
    ...headers,
    // What is left of a body would be taken for the next request.
    ...(request.complete ? {} : { connection: 'close' }),
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
  });
  if (request.complete || !withBody) {
    response.end(withBody ? text : undefined);
    return;
  }
  // A connection that is closed while the other end sends is reset, and the answer lost with it: what comes is passed over for a moment.
  response.write(text);
  request.resume();
  const end = () => {
    clearTimeout(late);
    response.end();
  };
  const late = setTimeout(end, httpLimits.lingerMs);
  request.once('close', end);
  request.once('end', end);
}
