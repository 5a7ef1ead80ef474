import { messageOf } from '../errors.js';
import { alertLimits } from '../limits.js';
import type { Severity } from '../records.js';
import { type Anomaly, anomaly } from './anomaly.js';
import { Webhook, type WebhookOptions } from './webhook.js';

export interface AlertOptions {
  /** What it is about, e.g. the id of an anomaly: told once until it is resolved. */
  readonly episode: string;
  readonly severity: Severity;
  readonly title: string;
  readonly message: string;
  readonly service?: string;
  /** ms since 1970, default now. */
  readonly timestamp?: number;
}

export interface Alert extends Required<AlertOptions> {
  readonly state: 'firing' | 'resolved';
}

export interface SinkOptions {
  /** Milder alerts are left out. Default info: none is. */
  readonly severity?: Severity;
}

const RANK: Readonly<Record<Severity, number>> = { info: 0, warning: 1, critical: 2 };

class Alerts {
  private readonly told = new Map<string, Alert>();
  private readonly sinks = new Set<(alert: Alert) => void>();
  private readonly counts = { sent: 0, repeated: 0, resolved: 0, sinkErrors: 0 };

  /** Tells all sinks, once an episode; false when this episode was told before and is not resolved yet. */
  send(options: AlertOptions): boolean {
    if (this.told.has(options.episode)) {
      this.counts.repeated++;
      return false;
    }
    const { service = '', timestamp = Date.now() } = options;
    const alert: Alert = { ...options, service, timestamp, state: 'firing' };
    if (this.told.size >= alertLimits.maxOpen) this.told.delete(this.told.keys().next().value!);
    this.told.set(alert.episode, alert);
    this.counts.sent++;
    this.tell(alert);
    return true;
  }

  /** Tells all sinks that an episode has ended; false when it was not told. */
  resolve(episode: string, timestamp = Date.now()): boolean {
    const alert = this.told.get(episode);
    if (!alert) return false;
    this.told.delete(episode);
    this.counts.resolved++;
    this.tell({ ...alert, timestamp, state: 'resolved' });
    return true;
  }

  /** Alerts for all anomalies of this program from now on, and for their end. Returns what ends it. */
  forAnomalies({ severity = 'info' }: SinkOptions = {}): () => void {
    const ends = [
      anomaly.onDetect((a) => {
        if (RANK[a.severity] >= RANK[severity]) this.send(alertOf(a));
      }),
      anomaly.onResolve((a) => this.resolve(a.id)),
    ];
    return () => {
      for (const end of ends) end();
    };
  }

  /** Calls back for each alert and for its end (`state` says which). Returns what ends the subscription. */
  onAlert(listener: (alert: Alert) => void, { severity = 'info' }: SinkOptions = {}): () => void {
    const sink = (alert: Alert) => {
      if (RANK[alert.severity] >= RANK[severity]) listener(alert);
    };
    this.sinks.add(sink);
    return () => this.sinks.delete(sink);
  }

  /** One line an alert on standard error. Returns what ends it. */
  toConsole(options: SinkOptions & { readonly write?: (line: string) => void } = {}): () => void {
    const { write = (line) => process.stderr.write(line) } = options;
    return this.onAlert((alert) => write(`${lineOf(alert)}\n`), options);
  }

  /**
   * Posts each alert as JSON (the fields of `Alert`) to a URL, with retries; see `Webhook`. `close` ends it and waits a while for what is under way. Errors: `IGU_USAGE`.
   */
  toWebhook(options: WebhookOptions & SinkOptions): Pick<Webhook, 'stats' | 'close'> {
    const webhook = new Webhook(options);
    const end = this.onAlert((alert) => webhook.post(`${alert.episode}-${alert.state}`, alert), options);
    return {
      stats: () => webhook.stats(),
      close: (graceMs) => {
        end();
        return webhook.close(graceMs);
      },
    };
  }

  /** Told and not resolved yet. */
  getOpen(): Alert[] {
    return [...this.told.values()];
  }

  stats(): { sent: number; repeated: number; resolved: number; open: number; sinkErrors: number } {
    return { ...this.counts, open: this.told.size };
  }

  private tell(alert: Alert): void {
    for (const sink of this.sinks) {
      try {
        sink(alert);
      } catch (error) {
        // a sink that throws must not keep the others from being told
        this.counts.sinkErrors++;
        process.emitWarning(`alert sink: ${messageOf(error)}`);
      }
    }
  }
}

export const alert = new Alerts();

function alertOf(a: Anomaly): AlertOptions {
  return {
    episode: a.id,
    severity: a.severity,
    title: `${a.metricName} is ${a.detectedValue}, expected ${Number(a.expectedValue.toPrecision(4))}`,
    message: `${a.reason}; ${a.recommendation}`,
    service: a.serviceName,
    timestamp: a.openedAt,
  };
}

/** Names come from outside: they must not steer the terminal. */
function lineOf({ timestamp, state, severity, service, title, message }: Alert): string {
  const head = `${new Date(timestamp).toISOString()} ${state === 'resolved' ? 'resolved' : severity}`;
  return `${head} ${service === '' ? '' : `${service}: `}${title} (${message})`.replace(/\p{Cc}/gu, ' ');
}
