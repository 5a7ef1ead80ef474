import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { z } from 'zod';
import { IguanaError } from '../errors.js';
import { hostName, isLoopback, isThisMachine } from './hosts.js';
import type { BodyReader } from './read-body.js';

/** What an API call answers: a value, or JSON that was made already since it is large, with a status, 200 unless it says so. */
export type ApiAnswer = { readonly status?: number } & (
  | { readonly value: unknown; readonly json?: undefined }
  | { readonly json: string }
);

/**
 * What runs here can be changed over these APIs, so more is asked than of the page: a browser must be on the page itself, and who is not on this machine must
 * have the token.
 * @param token that every request must have; undefined: only requests of this machine are answered, and need none
 * @throws IguanaError `IGU_HTTP_ORIGIN`, `IGU_HTTP_TOKEN`, `IGU_HTTP_HOST`
 */
export function assertMayAsk(request: IncomingMessage, token: string | undefined): void {
  const { host = '', origin, 'sec-fetch-site': site, authorization } = request.headers;
  const changes = request.method !== 'GET' && request.method !== 'HEAD';
  const own = origin === undefined || origin === `http://${host}` || origin === `https://${host}`;
  const fetched = site === undefined || site === 'same-origin' || site === 'none';
  if (changes && !(own && fetched)) {
    throw new IguanaError('IGU_HTTP_ORIGIN', { origin: origin ?? `another site (${String(site)})` });
  }
  const from = request.socket.remoteAddress ?? 'an unknown address';
  if (token === undefined ? !isThisMachine(from) : !isToken(authorization, token)) {
    const fix =
      token === undefined
        ? 'give Iguana one (dashboard.token, or IGUANA_TOKEN in its environment), or ask from the machine that it runs on'
        : "send `authorization: Bearer TOKEN`; on the command line --token, or IGUANA_TOKEN, is Iguana's dashboard.token";
    throw new IguanaError('IGU_HTTP_TOKEN', { from, fix });
  }
  // A page elsewhere that points its own name at this machine comes from this machine, and is its own origin.
  if (token === undefined && !isLoopback(hostName(host))) throw new IguanaError('IGU_HTTP_HOST', { host });
}

function isToken(authorization: string | undefined, token: string): boolean {
  const given = Buffer.from(authorization ?? '');
  const expected = Buffer.from(`Bearer ${token}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/**
 * The answer of the method that was asked with; HEAD is answered as GET.
 * @throws IguanaError `IGU_HTTP_METHOD` with those that there are
 */
export function answerBy(
  request: IncomingMessage,
  methods: Readonly<Record<string, () => Promise<ApiAnswer> | ApiAnswer>>,
): Promise<ApiAnswer> | ApiAnswer {
  const method = request.method === 'HEAD' ? 'GET' : (request.method ?? '');
  const chosen = Object.hasOwn(methods, method) ? methods[method] : undefined;
  if (chosen) return chosen();
  const allow = Object.keys(methods).flatMap((one) => (one === 'GET' ? ['GET', 'HEAD'] : [one]));
  throw new IguanaError('IGU_HTTP_METHOD', { method, allow: allow.join(', ') });
}

/** @throws IguanaError `IGU_HTTP_BODY` when it is no JSON, or does not say so; and what `BodyReader.read` throws */
export async function readJson(
  bodies: BodyReader,
  request: IncomingMessage,
  response: ServerResponse,
  limit: number,
): Promise<unknown> {
  const bytes = await bodies.read(request, response, limit);
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]!.trim().toLowerCase();
  if (type !== 'application/json') {
    throw new IguanaError('IGU_HTTP_BODY', { what: 'it must be JSON, with content-type application/json' });
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes ?? new Uint8Array()));
  } catch (error) {
    throw new IguanaError('IGU_HTTP_BODY', { what: 'it is no JSON in UTF-8' }, { cause: error });
  }
}

/** @throws IguanaError `IGU_HTTP_BODY` with the first five fields that are wrong */
export function checked<T>(schema: z.ZodType<T>, value: unknown): T {
  const { success, data, error } = schema.safeParse(value);
  if (success) return data;
  const what = error.issues
    .slice(0, 5)
    .map(({ path, message }) => (path.length > 0 ? `${path.join('.')}: ${message}` : message))
    .join('; ');
  throw new IguanaError('IGU_HTTP_BODY', { what }, { cause: error });
}
