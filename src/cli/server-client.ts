import http from 'node:http';
import https from 'node:https';
import { type Command, InvalidArgumentError } from 'commander';
import { IguanaError } from '../errors.js';

/** Where a running Iguana is, and what it asks for. */
export interface ServerOptions {
  readonly url: string;
  readonly token?: string;
  readonly json?: boolean;
}

const DEFAULT_URL = 'http://127.0.0.1:4480';
/** Longest wait for an answer that is no function's, ms. */
const ANSWER_MS = 60_000;
/** What is served below a path, unless it is turned off there. */
const parts: readonly (readonly [path: string, missing: string])[] = [
  ['/api/functions', 'runs no functions (functions.enabled is false)'],
  ['/api/gpu', 'gives no GPUs (gpu.enabled is false)'],
];
/** Of a running Iguana's error, as it says it. */
interface ErrorBody {
  readonly code?: unknown;
  readonly message?: unknown;
}

/** An error that the server told: its line is shown as it is. */
export class AnsweredError extends Error {
  /** @param body all that it told */
  constructor(
    readonly code: string,
    message: string,
    readonly body: unknown = undefined,
  ) {
    super(message);
  }
}

/** Options of every command that asks a running Iguana. */
export function serverOptions(command: Command): Command {
  return serverAddress(command).option('--json', 'print the answer as JSON');
}

/** Those of them that say where it is. */
export function serverAddress(command: Command): Command {
  return command
    .option('--url <url>', 'address of the running Iguana', parseUrl, process.env.IGUANA_URL ?? DEFAULT_URL)
    .option('--token <token>', 'its dashboard.token, if it has one (default: IGUANA_TOKEN in the environment)');
}

/**
 * Asks a running Iguana.
 * @param timeoutMs longest wait for the answer (default 60 s)
 * @throws IguanaError `IGU_SERVER_UNREACHABLE`; AnsweredError with what it answered
 */
export async function ask<T>(
  { url, token = process.env.IGUANA_TOKEN }: ServerOptions,
  method: 'GET' | 'POST' | 'PUT' | 'DELETE',
  path: string,
  body?: unknown,
  timeoutMs: number = ANSWER_MS,
): Promise<T> {
  const sent = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const headers = {
    accept: 'application/json',
    ...(sent ? { 'content-type': 'application/json', 'content-length': sent.length } : {}),
    ...(token ? { authorization: `Bearer ${token}` } : {}),
  };
  const target = new URL(`${url.replace(/\/+$/, '')}${path}`);
  const { status, text } = await exchange(target, method, headers, sent, timeoutMs);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const why = `: what answers there is something else (status ${status})`;
    throw new IguanaError('IGU_SERVER_UNREACHABLE', { url, why }, { cause });
  }
  if (status < 400) return value as T;
  const { code, message } = value as ErrorBody;
  if (typeof code !== 'string' || typeof message !== 'string') {
    const why = `: what answers there is something else (status ${status})`;
    throw new IguanaError('IGU_SERVER_UNREACHABLE', { url, why });
  }
  // the path of a command is there and takes its method, unless that part is turned off: then it is as unknown as any other
  if (code === 'IGU_HTTP_PATH' || code === 'IGU_HTTP_METHOD') {
    const missing = parts.find(([below]) => path.startsWith(below))?.[1] ?? `serves nothing at ${path}`;
    throw new IguanaError('IGU_USAGE', { what: `the Iguana at ${url} ${missing}` });
  }
  throw new AnsweredError(code, message, value);
}

/** A path below `/api/functions`. */
export function functionPath(...below: readonly string[]): string {
  return pathOf('/api/functions', below);
}

/** A path below `/api/gpu`. */
export function gpuPath(...below: readonly string[]): string {
  return pathOf('/api/gpu', below);
}

/** @throws IguanaError `IGU_USAGE` for a name that no address can have, an empty one above all: a variable of a script that is not set */
function pathOf(part: string, below: readonly string[]): string {
  const wrong = below.find((name) => name === '' || name === '.' || name === '..');
  if (wrong !== undefined)
    throw new IguanaError('IGU_USAGE', { what: `a name is needed, not ${JSON.stringify(wrong)}` });
  return [part, ...below.map(encodeURIComponent)].join('/');
}

/** Not `fetch`: that gives up after five minutes, and functions may take fifteen. */
function exchange(
  url: URL,
  method: string,
  headers: Record<string, string | number>,
  body: Buffer | undefined,
  timeoutMs: number,
): Promise<{ status: number; text: string }> {
  const { request } = url.protocol === 'https:' ? https : http;
  return new Promise((resolve, reject) => {
    const unreachable = (cause: NodeJS.ErrnoException): void => {
      const why = cause.code === 'ECONNREFUSED' ? '' : `: ${cause.message}`;
      reject(new IguanaError('IGU_SERVER_UNREACHABLE', { url: url.origin, why }, { cause }));
    };
    const asking = request(url, { method, headers, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      const pieces: Buffer[] = [];
      response.on('data', (piece: Buffer) => pieces.push(piece));
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(pieces).toString('utf8') }),
      );
      response.once('error', unreachable);
    });
    asking.once('error', unreachable);
    asking.end(body);
  });
}

function parseUrl(given: string): string {
  const text = /^https?:\/\//.test(given) ? given : `http://${given}`;
  if (!URL.canParse(text)) throw new InvalidArgumentError(`An address such as ${DEFAULT_URL} is needed.`);
  return text;
}
