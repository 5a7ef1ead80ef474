import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Clock, wallClock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { dashboardLimits } from '../limits.js';
import { LiveEvents } from './live-events.js';
import type { LiveModel } from './live-model.js';
import { dashboardMetrics } from './metrics.js';
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
}

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

/** The page needs nothing from elsewhere, so everything else is forbidden to it. */
const securityHeaders = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;

const statusOf: Partial<Record<string, number>> = {
  IGU_HTTP_METHOD: 405,
  IGU_HTTP_HOST: 421,
  IGU_HTTP_PATH: 404,
  IGU_NOT_FOUND: 404,
  IGU_LIMIT: 503,
};

/**
 * Serves the live page, its JSON API, server-sent events, Prometheus metrics and health on one port, read only.
 * Errors: IGU_PORT_TAKEN. `stop` ends open pages and resolves within half a second.
 */
export async function startDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { host = '127.0.0.1', port = 4480, model, clock = wallClock } = options;
  const ready =
    options.ready ??
    (() =>
      model.pipelines().length > 0
        ? { ready: true, reason: 'pipelines report' }
        : { ready: false, reason: 'no pipeline has reported yet' });
  const events = new LiveEvents(model, clock);
  const metrics = dashboardMetrics(model, events);
  const loopbackOnly = isLoopback(host);

  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    for (const [name, value] of Object.entries(securityHeaders)) response.setHeader(name, value);
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      throw new IguanaError('IGU_HTTP_METHOD', { method: request.method ?? '' });
    }
    // A page elsewhere that points its own name at 127.0.0.1 must not read this one.
    const named = request.headers.host ?? '';
    if (loopbackOnly && !isLoopback(named.replace(/:\d+$/, '')))
      throw new IguanaError('IGU_HTTP_HOST', { host: named });
    const { path, query } = target(request.url ?? '/');

    const file = await staticFile(path);
    if (file) return send(request, response, 200, file.type, file.body);
    switch (path) {
      case '/api':
        return sendJson(request, response, routes);
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

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      if (response.headersSent) return response.destroy();
      const code = error instanceof IguanaError ? error.code : 'IGU_HTTP';
      sendJson(request, response, { code, message: messageOf(error) }, statusOf[code] ?? 500);
    });
  });
  try {
    await listen(server, host, port);
  } catch (error) {
    events.stop();
    throw error;
  }
  const bound = (server.address() as AddressInfo).port;
  return {
    port: bound,
    url: `http://${urlHost(host)}:${bound}`,
    async stop() {
      events.stop();
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
  send(request, response, status, 'application/json; charset=utf-8', `${JSON.stringify(value)}\n`);
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || /^127\.\d+\.\d+\.\d+$/.test(host) || host === '::1' || host === '[::1]';
}

/** A host a browser can open: any-interface addresses become localhost, IPv6 gets brackets. */
function urlHost(host: string): string {
  if (host === '0.0.0.0' || host === '::') return 'localhost';
  return host.includes(':') ? `[${host}]` : host;
}
