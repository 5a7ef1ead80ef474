import { Worker } from 'node:worker_threads';
import { functionLimits, sharedWorkerLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import { MessageBatch } from '../message-batch.js';
import { CLOSED, type Host, JavaScriptInstance, LOAD, thrown } from './javascript-instance.js';
import type { ThrownError, ToWorker } from './protocol.js';
import { BEGUN, type FromShared, RUNS, type SharedWorkerData, type ToShared } from './shared-protocol.js';

/** What is known of one version of a function. */
export interface Conduct {
  /** It ended a worker that others lived in, or held it up: from now on it lives alone. */
  alone: boolean;
}

interface Lodger {
  readonly number: number;
  readonly instance: JavaScriptInstance;
  readonly conduct: Conduct;
}

interface Posted {
  readonly sequence: number;
  readonly lodger: Lodger;
  readonly message: ToWorker;
  readonly id: number;
  readonly at: number;
}

const PROGRAM = workerUrl(import.meta.url, './shared-worker.js');
let numbers = 0;

/**
 * The host's side of a worker that instances of many functions share. It knows what has begun there, and whose code runs, without asking the worker: so it can
 * take back what waits behind a function that does not give way, and tell who that is. It keeps the process alive until it ends, idle or not: its output is
 * read.
 */
export class SharedThread {
  readonly lodgers = new Map<number, Lodger>();
  ended = false;
  /** Takes no instances any more, and ends when the calls that are there have ended. */
  retired = false;
  /** Resolves when it takes messages, or has ended. */
  readonly ready: Promise<void>;
  private readonly worker: Worker;
  private readonly state = new Int32Array(new SharedArrayBuffer(8));
  private readonly batch: MessageBatch<ToShared>;
  /** What may not have begun, oldest first. */
  private posted: Posted[] = [];
  private sequence = 0;
  private pings = 0;
  private readonly pongs = new Map<number, () => void>();
  private timer: NodeJS.Timeout | undefined;
  private received = 0;
  private slice = { runs: 0, begun: 0, received: 0, since: 0 };
  private loads = 0;
  private loadedCharacters = 0;

  constructor(private readonly onEnd: (thread: SharedThread) => void) {
    const workerData: SharedWorkerData = { state: this.state.buffer };
    this.worker = new Worker(PROGRAM, {
      workerData,
      env: {},
      stdout: true,
      stderr: true,
      resourceLimits: {
        maxOldGenerationSizeMb: sharedWorkerLimits.heapMb,
        maxYoungGenerationSizeMb: functionLimits.workerOverheadMb,
      },
    });
    this.worker.stdout.resume();
    this.worker.stderr.resume();
    this.ready = new Promise((resolve) => {
      this.pongs.set(0, resolve);
      this.worker.once('exit', () => resolve());
    });
    this.worker.on('message', (message: FromShared) => this.receive(message));
    this.worker.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ERR_WORKER_OUT_OF_MEMORY') this.fall('memory', undefined);
      else this.fall({ crash: thrown(error) }, this.runs);
    });
    this.worker.on('exit', (code) => this.fall({ crash: thrown(`its thread ended with ${code}`) }, this.runs));
    this.batch = new MessageBatch<ToShared>(
      (messages) => this.worker.postMessage(messages),
      (message, error) => this.unsendable(message, error),
    );
  }

  /** Whether another instance may live here. */
  get hasRoom(): boolean {
    return !this.ended && !this.retired && this.lodgers.size < sharedWorkerLimits.maxInstances && !this.heldUp;
  }

  /** Somebody's code has run without a break for longer than others should wait. */
  get heldUp(): boolean {
    this.look();
    return this.slice.runs !== 0 && performance.now() - this.slice.since > sharedWorkerLimits.heldUpMs;
  }

  /** A place for an instance; nothing is sent before it loads code. */
  lodge(conduct: Conduct, memoryMb: number): JavaScriptInstance {
    const number = ++numbers;
    const host: Host = {
      maxInitMs: sharedWorkerLimits.maxInitMs,
      sharesMemory: true,
      send: (message, id) => this.send(lodger, message, id),
      stop: () => this.leave(lodger),
      late: (id) => this.late(lodger, id),
    };
    const lodger: Lodger = { number, instance: JavaScriptInstance.within(host, memoryMb), conduct };
    this.lodgers.set(number, lodger);
    return lodger.instance;
  }

  /** Lets nobody in any more; ends when nothing is under way. */
  retire(): void {
    this.retired = true;
    this.settle();
  }

  async stop(): Promise<void> {
    this.ended = true;
    clearTimeout(this.timer);
    await this.worker.terminate();
  }

  private get runs(): number {
    return Atomics.load(this.state, RUNS);
  }

  private send(lodger: Lodger, message: ToWorker, id: number | undefined): void {
    const { number: instance } = lodger;
    if (this.ended) {
      if (id !== undefined) queueMicrotask(() => lodger.instance.takenBack(id));
      return;
    }
    if (id === undefined) {
      this.batch.send({ instance, sequence: 0, message });
      return;
    }
    if (id === LOAD && typeof message === 'object' && 'code' in message) {
      this.loads++;
      this.loadedCharacters += message.code.length;
      const { maxLoads, maxLoadedCharacters } = sharedWorkerLimits;
      if (this.loads >= maxLoads || this.loadedCharacters >= maxLoadedCharacters) this.retired = true;
    }
    this.post({ lodger, message, id });
    this.watch();
  }

  private post({ lodger, message, id }: Omit<Posted, 'sequence' | 'at'>): void {
    const sequence = ++this.sequence;
    this.posted.push({ sequence, lodger, message, id, at: performance.now() });
    this.batch.send({ instance: lodger.number, sequence, message });
  }

  /** A message that cannot be sent would leave a gap in the numbers, which nothing behind it gets over. */
  private unsendable(message: ToShared, error: unknown): void {
    if (!('instance' in message)) throw error;
    const { instance, sequence, message: given } = message;
    this.lodgers.get(instance)?.instance.unsendable(given, error);
    if (sequence === 0) return;
    this.posted = this.posted.filter((one) => one.sequence !== sequence);
    this.worker.postMessage([{ instance, sequence, message: { type: 'more', id: LOAD, bytes: 0 } }]);
  }

  private async leave(lodger: Lodger): Promise<void> {
    if (!this.lodgers.delete(lodger.number) || this.ended) return;
    this.batch.send({ unload: lodger.number });
    if (lodger.instance.busy) {
      lodger.instance.endShared({ crash: thrown(CLOSED) });
      this.retire();
    } else this.settle();
  }

  private receive(message: FromShared): void {
    if (this.ended) return;
    this.received++;
    if ('pong' in message) {
      this.pongs.get(message.pong)?.();
      this.pongs.delete(message.pong);
    } else if ('crashed' in message) {
      const lodger = this.lodgers.get(message.crashed);
      if (lodger) this.expel(lodger, () => lodger.instance.endShared({ crash: message.error }));
      // of an instance that is gone, or of nobody
      else if (message.crashed === 0) this.fall({ crash: message.error }, undefined);
    } else {
      this.lodgers.get(message[0])?.instance.receiveAll(message[1]);
      this.settle();
    }
  }

  /** Ends one instance. What is left of it is stopped with the thread, when the calls of the others have ended. */
  private expel(lodger: Lodger, end: () => void, itsOwnDoing = true): void {
    if (itsOwnDoing) lodger.conduct.alone = true;
    end();
    this.retire();
  }

  /** Something is under way in one that lives here. */
  private get busy(): boolean {
    for (const { instance } of this.lodgers.values()) if (instance.busy) return true;
    return false;
  }

  private settle(): void {
    if (this.ended || this.busy) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    if (!this.retired) return;
    this.ended = true;
    this.onEnd(this);
    void this.worker.terminate();
  }

  /** A call is not done at its deadline. */
  private async late(lodger: Lodger, id: number): Promise<void> {
    this.trim();
    if (this.posted.some((one) => one.lodger === lodger && one.id === id)) this.takeBack(() => true);
    if (!lodger.instance.has(id)) return;
    const { runs } = this;
    const heldUp = runs !== 0 && runs !== lodger.number;
    const answers = await this.answers(lodger);
    // done meanwhile, if late
    if (!lodger.instance.has(id)) return;
    // late for what another did is no reason to live alone
    if (answers) this.expel(lodger, () => lodger.instance.endLate(id), !heldUp);
    else this.fall('held', this.runs);
  }

  /** Whether the thread answers: soon when the late one's own code runs, else as soon as may be asked of one that others compute in. */
  private answers(late: Lodger): Promise<boolean> {
    if (this.ended) return Promise.resolve(true);
    const ping = ++this.pings;
    const { answerMs, maxHoldMs } = sharedWorkerLimits;
    return new Promise((resolve) => {
      let waited = 0;
      const timer = setInterval(() => {
        waited += answerMs;
        if (!this.ended && this.runs !== late.number && waited < maxHoldMs) return;
        clearInterval(timer);
        this.pongs.delete(ping);
        resolve(this.ended);
      }, answerMs);
      this.pongs.set(ping, () => {
        clearInterval(timer);
        resolve(true);
      });
      this.batch.send({ ping });
      this.batch.flush();
    });
  }

  /**
   * The thread ends, or is ended. What had not begun is taken back, what had begun is told that it may be made again, save that of who did it.
   * @param culprit number of an instance; undefined or 0: it cannot be told, and each that lives here lives alone from now on
   */
  private fall(why: 'held' | 'memory' | { readonly crash: ThrownError }, culprit: number | undefined): void {
    if (this.ended) return;
    const ran = this.runs;
    this.takeBack(() => true);
    this.ended = true;
    clearTimeout(this.timer);
    this.onEnd(this);
    void this.worker.terminate();
    const lodgers = [...this.lodgers.values()];
    const known = culprit !== undefined && this.lodgers.has(culprit);
    this.lodgers.clear();
    for (const { number, instance, conduct } of lodgers) {
      const did = known ? number === culprit : true;
      if (did) conduct.alone = true;
      // who runs when memory ends is told so, though another may have kept it
      const told = why === 'memory' ? number === ran : why === 'held' ? did : known && did;
      instance.endShared(told ? why : undefined);
    }
  }

  /** Looks after what was begun and what waits, every few ms while there is something. */
  private watch(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      if (this.ended) return;
      this.trim();
      const [first] = this.posted;
      const now = performance.now();
      if (this.heldUp) {
        const runs = this.lodgers.get(this.slice.runs);
        if (first && now - first.at > sharedWorkerLimits.heldUpMs) this.takeBack((lodger) => lodger !== runs);
        if (runs && now - this.slice.since > sharedWorkerLimits.maxHoldMs) runs.conduct.alone = true;
      }
      this.settle();
      // also who runs for nobody any more is known to hold it up
      if (!this.ended && (this.busy || this.heldUp)) this.watch();
    }, sharedWorkerLimits.watchMs).unref();
  }

  /** Since when the same code runs. */
  private look(): void {
    const { runs, received } = this;
    const begun = Atomics.load(this.state, BEGUN);
    const { slice } = this;
    if (slice.runs !== runs || slice.begun !== begun || slice.received !== received)
      this.slice = { runs, begun, received, since: performance.now() };
  }

  private trim(): void {
    const begun = Atomics.load(this.state, BEGUN);
    let gone = 0;
    while (gone < this.posted.length && this.posted[gone]!.sequence <= begun) gone++;
    this.posted.splice(0, gone);
  }

  /** What has not begun goes elsewhere, or is posted again. */
  private takeBack(elsewhere: (lodger: Lodger) => boolean): void {
    let begun = Atomics.load(this.state, BEGUN);
    // it may begin one more meanwhile
    for (;;) {
      const found = Atomics.compareExchange(this.state, BEGUN, begun, this.sequence);
      if (found === begun) break;
      begun = found;
    }
    const waiting = this.posted.filter(({ sequence }) => sequence > begun);
    this.posted = [];
    for (const one of waiting) {
      if (elsewhere(one.lodger)) one.lodger.instance.takenBack(one.id);
      else this.post(one);
    }
  }
}
