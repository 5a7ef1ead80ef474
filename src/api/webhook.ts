import { type Clock, wallClock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { alertLimits } from '../limits.js';

export interface WebhookOptions {
  /** http or https; redirects are not followed. */
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Deliveries tried of one message before it is given up. Default 6: with the default pauses half a minute. */
  readonly attempts?: number;
  /** Pause before the second attempt, ms; doubled each time, at most a minute. Default 1000. */
  readonly pauseMs?: number;
  /** An attempt that takes longer has failed, ms. Default 10000. */
  readonly timeoutMs?: number;
  readonly clock?: Clock;
}

interface Message {
  readonly key: string;
  readonly body: string;
}

/** What happened to one attempt; `pauseMs` is what the receiver asked for. */
type Outcome = { done: true } | { done: false; retriable: boolean; why: string; pauseMs?: number };

/**
 * Posts JSON to a URL, one message at a time and in their order. An attempt that fails for a reason that passes (no connection, time out, 408, 425, 429, 5xx) is made again with growing pauses, or after what
 * `Retry-After` asks for; anything else is given up at once. The header `Idempotency-Key` is the same for all attempts. A full queue loses its oldest message. What is lost is counted and warned of.
 * Errors: `IGU_USAGE` for a URL that is none.
 */
export class Webhook {
  private readonly queue: Message[] = [];
  private readonly counts = { delivered: 0, retried: 0, givenUp: 0, overflowed: 0 };
  private readonly abort = new AbortController();
  private readonly idle: (() => void)[] = [];
  private wake: (() => void) | undefined;
  private working = false;
  private readonly clock: Clock;

  constructor(private readonly options: WebhookOptions) {
    if (!URL.canParse(options.url) || !/^https?:$/.test(new URL(options.url).protocol))
      throw new IguanaError('IGU_USAGE', { what: `a webhook needs an http or https URL, not ${options.url}` });
    this.clock = options.clock ?? wallClock;
  }

  /** Queues a message; returns at once. After `close` nothing is taken. */
  post(key: string, content: unknown): void {
    if (this.abort.signal.aborted) return;
    // the message under way is the first: it stays, the oldest that waits goes
    if (this.queue.length >= alertLimits.maxWaiting) {
      this.queue.splice(1, 1);
      this.counts.overflowed++;
      if (this.counts.overflowed === 1)
        process.emitWarning(`webhook ${this.name}: too many messages wait, oldest lost`);
    }
    this.queue.push({ key, body: JSON.stringify(content) });
    if (!this.working) void this.work();
  }

  stats(): { delivered: number; retried: number; givenUp: number; overflowed: number; waiting: number } {
    return { ...this.counts, waiting: this.queue.length };
  }

  /** Waits until nothing is left to deliver, at most `graceMs` (default 5000); what is left then is given up. */
  async close(graceMs = 5_000): Promise<void> {
    if (this.working) {
      let cancel = () => {};
      await new Promise<void>((resolve) => {
        this.idle.push(resolve);
        cancel = this.clock.after(graceMs, resolve);
      });
      cancel();
    }
    this.abort.abort();
    this.wake?.();
    this.counts.givenUp += this.queue.length;
    this.queue.length = 0;
  }

  /** Without what may be secret: user, path and query. */
  private get name(): string {
    return new URL(this.options.url).origin;
  }

  private async work(): Promise<void> {
    this.working = true;
    while (this.queue.length > 0) {
      const message = this.queue[0]!;
      await this.deliver(message);
      if (this.queue[0] === message) this.queue.shift();
    }
    this.working = false;
    for (const resolve of this.idle.splice(0)) resolve();
  }

  private async deliver(message: Message): Promise<void> {
    const { attempts = 6, pauseMs = 1_000 } = this.options;
    for (let attempt = 1; ; attempt++) {
      const outcome = await this.attempt(message);
      if (this.abort.signal.aborted) return;
      if (outcome.done) {
        this.counts.delivered++;
        return;
      }
      if (!outcome.retriable || attempt >= attempts) {
        this.counts.givenUp++;
        process.emitWarning(`webhook ${this.name}: ${message.key} given up after ${attempt} attempts: ${outcome.why}`);
        return;
      }
      this.counts.retried++;
      await this.pause(Math.min(outcome.pauseMs ?? pauseMs * 2 ** (attempt - 1), alertLimits.maxPauseMs));
      if (this.abort.signal.aborted) return;
    }
  }

  private async attempt({ key, body }: Message): Promise<Outcome> {
    const { url, headers = {}, timeoutMs = 10_000 } = this.options;
    try {
      const answer = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json', 'idempotency-key': key, ...headers },
        body,
        redirect: 'manual',
        signal: AbortSignal.any([this.abort.signal, AbortSignal.timeout(timeoutMs)]),
      });
      // nothing in the answer is of use; leaving it unread would hold the connection
      await answer.body?.cancel();
      if (answer.ok) return { done: true };
      const retriable = answer.status >= 500 || [408, 425, 429].includes(answer.status);
      const seconds = Number(answer.headers.get('retry-after') ?? Number.NaN);
      return {
        done: false,
        retriable,
        why: `status ${answer.status}`,
        ...(seconds >= 0 ? { pauseMs: seconds * 1000 } : {}),
      };
    } catch (error) {
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      return { done: false, retriable: true, why: messageOf(cause) };
    }
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(ms, resolve);
      this.wake = () => {
        cancel();
        resolve();
      };
    });
  }
}
