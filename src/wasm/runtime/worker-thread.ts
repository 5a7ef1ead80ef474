import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmRuntimeLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import type { Engine, Stopper } from '../engines/engine.js';
import { RunningRequest, stopCall } from '../engines/stop-call.js';
import { WasmTrap } from '../trap.js';
import { fromPlain } from './plain-errors.js';
import type { Answer, Request, WorkerOptions, WorkerStart } from './requests.js';
import type { TenantAccount } from './tenant-account.js';

interface Waiting {
  readonly number: number;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly instance: string | undefined;
  readonly timeoutMs: number | undefined;
  /** The thread stops the call itself; ending it is the last resort. */
  readonly selfStopping: boolean;
  readonly stopper: Stop;
}

/** How a call is stopped from here: by ending the thread where nothing is given. */
type Stop = Engine['stopper'];

/** Why a thread ended: `culprit` is the instance whose call had to be stopped. */
export interface ThreadEnd {
  readonly why: string;
  readonly culprit: string | undefined;
}

const STOPPED = 'a call in the same worker thread did not stop and the thread was ended';

/**
 * One worker thread with the instances that live in it. It works on one request at a time, in order; so the first that waits is the one that runs, and its
 * time is watched from here. An idle thread does not keep the process alive.
 */
export class WorkerThread {
  readonly instances = new Set<string>();
  readonly modules = new Set<string>();
  /** This thread's shares of the tenants' accounts, by tenant. */
  readonly accounts = new Map<string, TenantAccount>();
  readonly #worker: Worker;
  readonly #waiting: Waiting[] = [];
  readonly #running = new RunningRequest();
  readonly #exited: Promise<void>;
  #numbers = 0;
  #stopTimer: NodeJS.Timeout | undefined;
  #end: ThreadEnd | undefined;
  /** Before it is, nothing runs whose time could be watched. */
  #ready = false;

  constructor(options: WorkerOptions, onEnd: (thread: WorkerThread, end: ThreadEnd) => void) {
    this.#worker = new Worker(workerUrl(import.meta.url, './runtime-worker.js'), {
      workerData: { ...options, running: this.#running.memory } satisfies WorkerStart,
      resourceLimits: { stackSizeMb: wasmRuntimeLimits.workerStackMb },
    });
    this.#worker.unref();
    this.#worker.on('message', (answer: Answer | 'ready') => {
      if (answer !== 'ready') this.#answered(answer);
      else {
        this.#ready = true;
        this.#watch();
      }
    });
    this.#worker.on('error', (error) => {
      this.#end ??= { why: `its worker thread failed: ${messageOf(error)}`, culprit: undefined };
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', (code) => {
        const end = this.#end ?? { why: `its worker thread ended with ${code}`, culprit: undefined };
        this.#end = end;
        this.#ended(end);
        onEnd(this, end);
        resolve();
      });
    });
  }

  get ended(): boolean {
    return this.#end !== undefined;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * @param timeoutMs of the request's own running time, waiting not counted; when it is over the call is stopped, or the thread ended
   * @param stopper of the engine that runs it
   * @throws what the request throws; WasmTrap `timeout`; IguanaError `IGU_WASM_LOST` when the thread ends before it is done, `IGU_LIMIT` when too many wait
   */
  request(request: Request, timeoutMs?: number, stopper?: Stop): Promise<unknown> {
    if (this.#end) return Promise.reject(lost(instanceOf(request), this.#end));
    if (this.#waiting.length >= wasmRuntimeLimits.maxWaitingCalls)
      return Promise.reject(
        new IguanaError('IGU_LIMIT', { limit: 'calls that wait for a worker thread', value: this.#waiting.length }),
      );
    return new Promise((resolve, reject) => {
      const number = ++this.#numbers;
      try {
        this.#worker.postMessage({ number, request });
      } catch (error) {
        reject(
          new IguanaError(
            'IGU_USAGE',
            { what: `cannot cross to a worker thread: ${messageOf(error)}` },
            { cause: error },
          ),
        );
        return;
      }
      const selfStopping =
        request.op === 'call'
          ? request.timeoutMs !== undefined
          : request.op === 'create' && request.spec.limits.timeout !== undefined;
      const instance = instanceOf(request);
      this.#waiting.push({ number, resolve, reject, instance, timeoutMs, selfStopping, stopper });
      if (this.#waiting.length > 1) return;
      this.#worker.ref();
      this.#watch();
    });
  }

  /** Ends the thread, whatever runs in it. Resolves when it has ended; on an engine whose code nothing stops, after a grace time at most. */
  async stop(why: string, culprit?: string): Promise<void> {
    this.#end ??= { why, culprit };
    const stoppers = new Set(this.#waiting.map(({ stopper }) => stopper).filter((one) => typeof one === 'object'));
    // an idle thread keeps nothing alive, but whoever waits for its end must hear of it
    this.#worker.ref();
    let ended = false;
    // told to end first, so that it begins nothing more; then it is let out of a library's code, which it may enter only now
    const ending = Promise.all([this.#worker.terminate(), this.#exited]).finally(() => {
      ended = true;
    });
    while (!ended && stoppers.size > 0) {
      for (const stopper of stoppers) await stopCall(stopper);
      await Promise.race([ending, delay(wasmRuntimeLimits.stopAgainMs)]);
    }
    if (this.#waiting[0]?.stopper === 'never') await Promise.race([ending, delay(wasmRuntimeLimits.graceMs)]);
    else await ending;
    if (ended) return;
    // a library's code that nothing stops: the thread ends when that does, and nobody waits for it
    this.#ended(this.#end);
    this.#worker.unref();
  }

  /**
   * Ends the call of an instance that is running now, as its timeout would.
   * @returns false when none of its calls runs, or nothing can stop it
   */
  async interrupt(instance: string): Promise<boolean> {
    const head = this.#waiting[0];
    if (head?.instance !== instance || head.stopper === 'never') return false;
    if (head.stopper === undefined) await this.stop(STOPPED, instance);
    else await this.#stopRequest(head, head.stopper);
    return true;
  }

  /** A request that an engine's library runs may be about to enter guest code: it is stopped again until it has ended. */
  async #stopRequest(head: Waiting, stopper: Stopper): Promise<void> {
    while (this.#waiting[0] === head) {
      await stopCall(stopper, { running: this.#running, request: head.number });
      await delay(wasmRuntimeLimits.stopAgainMs);
    }
  }

  #watch(): void {
    clearTimeout(this.#stopTimer);
    const head = this.#waiting[0];
    if (!this.#ready || head?.timeoutMs === undefined || head.stopper === 'never') return;
    const end = (): void => {
      void this.stop(STOPPED, head.instance);
    };
    const { graceMs } = wasmRuntimeLimits;
    const { stopper, timeoutMs, selfStopping } = head;
    const due = (): void => {
      if (stopper === undefined) {
        end();
        return;
      }
      this.#stopTimer = setTimeout(end, graceMs);
      // what goes wrong here is left to the end of the thread
      this.#stopRequest(head, stopper).catch(() => undefined);
    };
    this.#stopTimer = setTimeout(due, timeoutMs + (selfStopping ? graceMs : 0));
  }

  #answered(answer: Answer): void {
    const head = this.#waiting.shift();
    if (head?.number !== answer.number) throw new Error(`answer ${answer.number} out of order`);
    if (answer.ok) head.resolve(answer.value);
    else head.reject(fromPlain(answer.error));
    this.#watch();
    if (this.#waiting.length === 0) this.#worker.unref();
  }

  #ended(end: ThreadEnd): void {
    clearTimeout(this.#stopTimer);
    for (const account of this.accounts.values()) account.releaseThread();
    const [head, ...others] = this.#waiting.splice(0);
    if (head) head.reject(end.culprit !== undefined ? new WasmTrap('timeout') : lost(head.instance, end));
    for (const { reject, instance } of others) reject(lost(instance, end));
  }
}

function instanceOf(request: Request): string | undefined {
  if ('id' in request) return request.id;
  return request.op === 'create' ? request.spec.id : undefined;
}

function lost(instance: string | undefined, { why }: ThreadEnd): IguanaError {
  return new IguanaError('IGU_WASM_LOST', { instance: instance ?? 'to be made', why });
}
