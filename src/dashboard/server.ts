import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { type Clock, wallClock } from '../clock.js';
import { IguanaError } from '../errors.js';
import type { GpuService } from '../gpu/gpu-service.js';
import { dashboardLimits, httpLimits } from '../limits.js';
import { Connections } from './connections.js';
import type { FunctionApi } from './function-api.js';
import { FunctionRequests, isFunctionTarget } from './function-requests.js';
import { FunctionRoutes, functionRoutes } from './function-routes.js';
import { FunctionRows } from './function-rows.js';
import { GpuRoutes, gpuRoutes } from './gpu-routes.js';
import { gpuRows } from './gpu-rows.js';
import { hostName, isLoopback, urlHost } from './hosts.js';
import { errorAnswer, sendError } from './http-errors.js';
import { LiveEvents } from './live-events.js';
import type { LiveModel } from './live-model.js';
import { dashboardMetrics } from './metrics.js';
import { BodyReader } from './read-body.js';
import { staticFile } from './static-files.js';

export interface DashboardOptions {
  /** Interface to listen on; default 127.0.0.1 (this machine only). */
  readonly host?: string;
  /** Default 4480; 0 takes any free one. */
  readonly port?: number;
  readonly model: LiveModel;
  /** Default the wall clock. */
  readonly clock?: Clock;
  /** What `/readyz` says; default: ready once a pipeline has reported. */
  readonly ready?: () => { readonly ready: boolean; readonly reason: string };
  /** Serves these under `/functions` and `/api/functions`; without them nothing is there. */
  readonly functions?: FunctionApi;
  /** Shows these on the page and in the metrics, and serves them under `/api/gpu`; without them nothing is there. */
  readonly gpus?: GpuService;
  /** What requests to `/api/functions` and `/api/gpu` must have; without one only this machine is answered there. */
  readonly token?: string;
  /** Told of HTTP triggers that are not served, as `IGU_FUNCTION_ROUTE`, and of waits for GPUs that cannot be ended for who went away. */
  readonly onError?: (error: unknown) => void;
  /** Other bounds than `httpLimits`. */
  readonly limits?: Partial<HttpBounds>;
}

/** Numbers of `httpLimits` that hold for a whole server. */
type HttpBounds = Record<
  'maxConnections' | 'headersTimeoutMs' | 'requestTimeoutMs' | 'keepAliveMs' | 'checkEveryMs' | 'maxBufferedBytes',
  number
>;

export interface Dashboard {
  readonly port: number;
  readonly url: string;
  stop(): Promise<void>;
}

/** All routes with a sentence each; also the answer of `GET /api`. */
const routes = {
  '/': 'the live page',
  '/api': 'this list',
  '/api/info': 'version, broker, data directory, TensorFlow.js backend',
  '/api/series': 'all series with their newest value',
  '/api/series/{id}': 'one series, by id or canonical name: history, forecasts, anomalies',
  '/api/anomalies': 'anomaly episodes, newest first',
  '/api/decisions': 'scaling decisions with their reasons, newest first',
  '/api/pipelines': 'rate, lag and verdict of each pipeline',
  '/api/desired-instances': 'the instances each policy last asked for',
  '/api/desired-instances/{policy}':
    "the same of one policy, for KEDA's metrics-api scaler (valueLocation: desired); ?entity= picks one of several",
  '/events':
    'server-sent events: everything once, then what changed each second; ?series= adds the chart of one series',
  '/metrics': 'Prometheus metrics',
  '/healthz': '200 while the process answers',
  '/readyz': '200 when the pipelines read their input, else 503 with the reason',
} as const;

const jsonType = 'application/json; charset=utf-8';

/** The page needs nothing from elsewhere, so everything else is forbidden to it. */
const securityHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;

/**
 * Serves the live page, its JSON API, server-sent events, Prometheus metrics and health on one port, read only; with functions, also those with an HTTP
 * trigger and the API that deploys and calls them; with GPUs, also the API that allocates them.
 * Errors: IGU_PORT_TAKEN. `stop` ends open pages and calls and resolves within half a second.
 */
export async function startDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { host = '127.0.0.1', port = 4480, model, clock = wallClock } = options;
  const ready =
    options.ready ??
    (() =>
      model.pipelines().length > 0
        ? { ready: true, reason: 'pipelines report' }
        : { ready: false, reason: 'no pipeline has reported yet' });
  const { functions, gpus, token, onError = () => undefined } = options;
  const events = new LiveEvents(model, clock);
  const loopbackOnly = isLoopback(host);
  const limits: HttpBounds = { ...httpLimits, ...options.limits };
  const server = createServer({
    maxHeaderSize: httpLimits.maxHeaderBytes,
    headersTimeout: limits.headersTimeoutMs,
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.keepAliveMs,
    connectionsCheckingInterval: limits.checkEveryMs,
    insecureHTTPParser: false,
  });
  const connections = new Connections(server, limits.maxConnections);
  const bodies = new BodyReader(limits.maxBufferedBytes);
  const requests = functions && new FunctionRequests(functions, bodies, connections, onError);
  const api = functions && requests && new FunctionRoutes(functions, requests, bodies, connections, token);
  const rows = functions && new FunctionRows(functions);
  const stopRows = rows && clock.every(dashboardLimits.tickMs, () => model.functions(rows.read(clock.now())));
  if (rows) model.functions(rows.read(clock.now()));
  const gpuApi = gpus && new GpuRoutes(gpus, bodies, connections, token, onError);
  // For pages that are open only: of a large cluster it is some work.
  const stopGpus = gpus && clock.every(dashboardLimits.tickMs, () => events.size > 0 && model.gpus(gpuRows(gpus)));

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    for (const [name, value] of Object.entries(securityHeaders)) response.setHeader(name, value);
    const { path, query } = target(request.url ?? '/');
    const answered =
      (await api?.answer(request, response, path, query)) ?? (await gpuApi?.answer(request, response, path, query));
    if (answered) {
      const json = answered.json ?? JSON.stringify(answered.value);
      return send(request, response, answered.status ?? 200, jsonType, `${json}\n`);
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      throw new IguanaError('IGU_HTTP_METHOD', { method: request.method ?? '', allow: 'GET, HEAD' });
    }

    const file = await staticFile(path);
    if (file) return send(request, response, 200, file.type, file.body);
    switch (path) {
      case '/api':
        return sendJson(request, response, {
          ...routes,
          ...(functions && functionRoutes),
          ...(gpus && gpuRoutes),
        });
      case '/api/info':
        return sendJson(request, response, {
          ...model.pageInformation(),
          counts: model.counts,
          notShown: model.notShown,
        });
      case '/api/series':
        return sendJson(request, response, model.seriesList());
      case '/api/anomalies':
        return sendJson(request, response, model.anomalies());
      case '/api/decisions':
        return sendJson(request, response, model.decisions());
      case '/api/pipelines':
        return sendJson(request, response, model.pipelines());
      case '/api/desired-instances':
        return sendJson(request, response, model.desiredInstances());
      case '/metrics':
        return send(request, response, 200, metrics.contentType, await metrics.metrics());
      case '/healthz':
        return sendJson(request, response, { healthy: true });
      case '/readyz': {
        const state = ready();
        return sendJson(request, response, state, state.ready ? 200 : 503);
      }
      case '/events':
        if (request.method === 'HEAD') return send(request, response, 200, 'text/event-stream; charset=utf-8', '');
        if (gpus) model.gpus(gpuRows(gpus));
        if (!events.add(response, query.get('series') ?? model.defaultSeries())) {
          throw new IguanaError('IGU_LIMIT', { limit: 'open pages', value: dashboardLimits.maxClients });
        }
        return;
    }
    const series = path.match(/^\/api\/series\/(.+)$/)?.[1];
    if (series !== undefined) {
      const view = model.series(series);
      if (!view)
        throw new IguanaError('IGU_NOT_FOUND', { what: 'series', name: series, fix: 'GET /api/series lists them' });
      return sendJson(request, response, view);
    }
    const policy = path.match(/^\/api\/desired-instances\/(.+)$/)?.[1];
    if (policy !== undefined) {
      const entity = query.get('entity');
      const rows = model.desiredInstances(policy).filter((d) => entity === null || d.entity === entity);
      const row = rows.at(-1);
      if (!row) {
        throw new IguanaError('IGU_NOT_FOUND', {
          what: 'decision of policy',
          name: policy,
          fix: 'GET /api/desired-instances lists them; a policy appears with its first decision',
        });
      }
      return sendJson(request, response, row);
    }
    throw new IguanaError('IGU_HTTP_PATH', { path });
  };

  const metrics = dashboardMetrics(model, events, connections, functions, gpus);
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    connections.began(request, response);
    const refused = refusal(request, loopbackOnly);
    if (refused) sendError(response, errorAnswer(refused), request.method !== 'HEAD');
    else if (requests && isFunctionTarget(request.url ?? '/')) void requests.serve(request, response);
    else {
      answer(request, response).catch((error: unknown) =>
        sendError(response, errorAnswer(error), request.method !== 'HEAD'),
      );
    }
  };
  server.on('request', take);
  // The body is asked for when it is known that it will be read.
  server.on('checkContinue', take);
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    if (socket.writable && connections.isBetweenAnswers(socket)) socket.write(malformed(error.code));
    socket.destroy();
  });
  try {
    await listen(server, host, port);
  } catch (error) {
    events.stop();
    requests?.stop();
    stopRows?.();
    stopGpus?.();
    throw error;
  }
  const bound = (server.address() as AddressInfo).port;
  return {
    port: bound,
    url: `http://${urlHost(host)}:${bound}`,
    async stop() {
      events.stop();
      requests?.stop();
      stopRows?.();
      stopGpus?.();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const late = setTimeout(() => server.closeAllConnections(), dashboardLimits.stopMs);
      await closed;
      clearTimeout(late);
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const coded =
        error.code === 'EADDRINUSE'
          ? new IguanaError('IGU_PORT_TAKEN', { port, host }, { cause: error })
          : new IguanaError('IGU_LISTEN', { host, port, what: error.message }, { cause: error });
      reject(coded);
    });
    server.listen({ host, port, exclusive: true }, resolve);
  });
}

/** Why a request is not looked at, whatever it asks for. */
function refusal({ headers, rawHeaders }: IncomingMessage, loopbackOnly: boolean): IguanaError | undefined {
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2)
    if (rawHeaders[i]!.length === 4 && /^host$/i.test(rawHeaders[i]!)) hosts++;
  // Who stands before this server may go by the one, and this server by the other (RFC 9112, 3.2).
  if (hosts > 1) return new IguanaError('IGU_HTTP_REQUEST', { what: 'it has more than one host header' });
  if (!loopbackOnly) return undefined;
  // A page elsewhere that points its own name at 127.0.0.1 must not read this one.
  const { host = '', origin } = headers;
  if (!isLoopback(hostName(host))) return new IguanaError('IGU_HTTP_HOST', { host });
  // Nor may it start what runs here: a browser says where a request comes from.
  if (origin !== undefined && !isLoopback(hostName(origin.replace(/^https?:\/\//, '')))) {
    return new IguanaError('IGU_HTTP_ORIGIN', { origin });
  }
  return undefined;
}

/** The whole answer to what is no HTTP, or came too slowly. */
function malformed(code: string | undefined): string {
  const [status, what] =
    code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', 'it did not come in time']
      : code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', `its headers have more than ${httpLimits.maxHeaderBytes} bytes`]
        : ['400 Bad Request', 'it is no HTTP/1.1'];
  const { body } = errorAnswer(new IguanaError('IGU_HTTP_REQUEST', { what }));
  const text = `${JSON.stringify(body)}\n`;
  const head = [`HTTP/1.1 ${status}`, 'connection: close', 'content-type: application/json; charset=utf-8'];
  return [...head, `content-length: ${Buffer.byteLength(text)}`, '', text].join('\r\n');
}

/** Path (decoded) and query of a request; what cannot be decoded is a path that is not served. */
function target(url: string): { path: string; query: URLSearchParams } {
  const cut = url.indexOf('?');
  const raw = cut < 0 ? url : url.slice(0, cut);
  const query = new URLSearchParams(cut < 0 ? '' : url.slice(cut + 1));
  try {
    return { path: decodeURIComponent(raw), query };
  } catch (error) {
    throw new IguanaError('IGU_HTTP_PATH', { path: raw }, { cause: error });
  }
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  type: string,
  body: string | Buffer,
): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-cache',
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}

function sendJson(request: IncomingMessage, response: ServerResponse, value: unknown, status = 200): void {
  send(request, response, status, jsonType, `${JSON.stringify(value)}\n`);
}
