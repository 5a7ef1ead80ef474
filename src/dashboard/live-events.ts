import type { ServerResponse } from 'node:http';
import type { Clock } from '../clock.js';
import { dashboardLimits } from '../limits.js';
import type { LiveModel } from './live-model.js';

interface Client {
  readonly response: ServerResponse;
  readonly series: string | undefined;
  version: number;
  sampleTime: number;
  /** Since when its socket is full, by the clock; undefined while it drains. */
  fullSince: number | undefined;
}

/**
 * Server-sent events: one `change` a tick to each page with what is new for it. There is no queue of events: a page whose socket is full is left
 * out and later gets everything in one change, made from the model; one that stays full is cut off.
 */
export class LiveEvents {
  private readonly clients = new Set<Client>();
  private readonly stopTicking: () => void;
  /** Ticks left out for a full socket, and pages cut off. */
  readonly counts = { coalesced: 0, dropped: 0 };

  constructor(
    private readonly model: LiveModel,
    private readonly clock: Clock,
  ) {
    this.stopTicking = clock.every(dashboardLimits.tickMs, () => this.tick());
  }

  get size(): number {
    return this.clients.size;
  }

  /** Takes a page in and sends it everything at once; `false` when no more are accepted. */
  add(response: ServerResponse, series: string | undefined): boolean {
    if (this.clients.size >= dashboardLimits.maxClients) return false;
    const client: Client = { response, series, version: 0, sampleTime: Number.NEGATIVE_INFINITY, fullSince: undefined };
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8', 'cache-control': 'no-store' });
    response.write('retry: 1000\n\n');
    this.clients.add(client);
    response.on('close', () => this.clients.delete(client));
    this.send(client);
    return true;
  }

  stop(): void {
    this.stopTicking();
    for (const client of this.clients) client.response.end();
    this.clients.clear();
  }

  private tick(): void {
    for (const client of this.clients) this.send(client);
  }

  private send(client: Client): void {
    if (client.response.writableLength > dashboardLimits.maxPendingBytes) {
      this.counts.coalesced++;
      client.fullSince ??= this.clock.now();
      if (this.clock.now() - client.fullSince >= dashboardLimits.slowClientMs) {
        this.counts.dropped++;
        this.clients.delete(client);
        client.response.destroy();
      }
      return;
    }
    client.fullSince = undefined;
    const change = this.model.changesAfter(client.version, client.series, client.sampleTime);
    client.version = change.version;
    client.sampleTime = change.chart?.samples.at(-1)?.[0] ?? client.sampleTime;
    client.response.write(`event: change\ndata: ${JSON.stringify(change)}\n\n`);
  }
}
