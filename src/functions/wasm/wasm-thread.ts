import { Worker } from 'node:worker_threads';
import { messageOf } from '../../errors.js';
import { wasmFunctionLimits, wasmRuntimeLimits } from '../../limits.js';
import type { TenantAccount } from '../../wasm/runtime/tenant-account.js';
import { workerUrl } from '../../worker-url.js';
import { MessageBatch } from '../message-batch.js';
import { loggedIn, sharedLogMemory } from './guest-streams.js';
import type { FromThread, GuestCode, ThreadOptions, ToThread } from './protocol.js';

type WithoutSequence<T> = T extends { readonly sequence: number } ? Omit<T, 'sequence'> : never;

/** What a thread is asked to do. */
export interface Job {
  readonly message: WithoutSequence<ToThread>;
  /** Requests of one owner stay in one thread, in order. */
  readonly owner: object;
  /** ms since 1970. */
  readonly deadline: number;
  answered(answer: FromThread): void;
  /** Its time is over; the thread was ended when it ran. @param logs what it had logged */
  late(logs: readonly string[]): void;
  /** The thread ended by itself while it ran. */
  crashed(why: string, logs: readonly string[]): void;
  /** It was not begun and will not be: ask another thread. */
  takenBack(): void;
}

interface Posted {
  readonly job: Job;
  readonly sequence: number;
  /** Nobody waits for the answer any more. */
  late: boolean;
}

const PROGRAM = workerUrl(import.meta.url, './wasm-worker.js');

/**
 * The owner's side of a worker thread that runs `wasm-worker`: one request at a time, in order. It keeps the process alive until it ends, idle or not: its
 * output is read.
 */
export class WasmThread {
  /** Instances that live here. */
  readonly owners = new Set<object>();
  ended = false;
  private readonly worker: Worker;
  private readonly batch: MessageBatch<ToThread>;
  private readonly begun = new SharedArrayBuffer(4);
  private readonly begunView = new Int32Array(this.begun);
  private readonly log = sharedLogMemory();
  private readonly account: TenantAccount;
  /** Not answered, oldest first: the first runs. */
  private readonly posted: Posted[] = [];
  /** Modules the thread has, least recently used first, with how many of its instances are of each. */
  private readonly codes = new Map<number, number>();
  private sequence = 0;
  /** When the first of `posted` became the first, ms of `performance.now`. */
  private firstSince = 0;
  /** What `begun` says once the first of `posted` runs. */
  private firstMark = 0;
  private stopping = false;
  private readonly gone: Promise<void>;

  constructor(account: TenantAccount, onEnd: (thread: WasmThread) => void) {
    this.account = account.forThread();
    const workerData: ThreadOptions = { account: this.account.share, begun: this.begun, log: this.log };
    this.worker = new Worker(PROGRAM, {
      workerData,
      env: {},
      stdout: true,
      stderr: true,
      resourceLimits: { stackSizeMb: wasmRuntimeLimits.workerStackMb },
    });
    this.worker.stdout.resume();
    this.worker.stderr.resume();
    this.batch = new MessageBatch<ToThread>(
      (messages) => this.worker.postMessage(messages),
      (_message, error) => {
        // text and modules can be sent
        throw error;
      },
    );
    this.worker.on('message', (message: 'ready' | FromThread) => {
      if (message === 'ready') this.firstSince = performance.now();
      else this.answer(message);
    });
    let why = '';
    this.worker.on('error', (error) => {
      why = messageOf(error);
    });
    this.gone = new Promise((resolve) => {
      this.worker.once('exit', (code) => {
        this.account.releaseThread();
        this.end(why || `its thread ended with ${code}`);
        onEnd(this);
        resolve();
      });
    });
  }

  get waiting(): number {
    return this.posted.length;
  }

  /** A request has run so long that others are not kept behind it. */
  get heldUp(): boolean {
    return this.runsFirst && performance.now() - this.firstSince > wasmFunctionLimits.heldUpMs;
  }

  request(job: Job): void {
    if (this.ended) {
      job.takenBack();
      return;
    }
    const sequence = ++this.sequence;
    if (this.posted.push({ job, sequence, late: false }) === 1) this.firstChanged();
    // the spread last, as in `eventText`
    this.batch.send({ sequence, ...job.message } as ToThread);
  }

  /** An instance of that code is about to live here. */
  attach(owner: object, code: number, guest: GuestCode): void {
    this.owners.add(owner);
    const instances = this.codes.get(code);
    if (instances === undefined) this.tell({ op: 'add-code', code, guest });
    else this.codes.delete(code);
    this.codes.set(code, (instances ?? 0) + 1);
  }

  detach(owner: object, instance: number, code: number): void {
    if (!this.owners.delete(owner) || this.ended) return;
    this.tell({ op: 'destroy', instance });
    this.codes.set(code, (this.codes.get(code) ?? 1) - 1);
    const idle = [...this.codes].filter(([, instances]) => instances <= 0);
    for (const [old] of idle.slice(0, Math.max(0, idle.length - wasmFunctionLimits.maxIdleCodes))) {
      this.codes.delete(old);
      this.tell({ op: 'remove-code', code: old });
    }
  }

  /** Looks after the request that runs and those behind it. To be called every few ms while there are some. */
  watch(): void {
    const now = Date.now();
    const { runsFirst } = this;
    for (const [at, one] of this.posted.entries()) {
      if (one.late || one.job.deadline > now) continue;
      if (at === 0 && runsFirst) {
        this.posted.shift();
        const { lines } = loggedIn(this.log);
        // first, so that nothing that is taken back comes here again
        void this.stop();
        this.takeBackAll();
        one.job.late(lines);
        return;
      }
      one.late = true;
      one.job.late([]);
    }
    if (this.posted.length > 1 && this.heldUp) this.takeBack();
  }

  /** Ends the thread, whatever runs in it. What was not begun is taken back. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.ended = true;
    await this.worker.terminate();
    await this.gone;
  }

  private get runsFirst(): boolean {
    return this.posted.length > 0 && Atomics.load(this.begunView, 0) === this.firstMark;
  }

  private firstChanged(): void {
    this.firstSince = performance.now();
    this.firstMark = this.posted[0]!.sequence;
  }

  private tell(message: ToThread): void {
    this.batch.send(message);
  }

  private answer(answer: FromThread): void {
    const first = this.posted.shift();
    // ended meanwhile: whoever asked has been told
    if (this.ended) return;
    if (first?.sequence !== answer.sequence) throw new Error(`answer ${answer.sequence} out of order`);
    if (this.posted.length > 0) this.firstChanged();
    if (!first.late) first.job.answered(answer);
  }

  /** Gives what waits behind the running request to other threads, save what belongs to the same instance. */
  private takeBack(): void {
    const first = this.posted[0]!;
    // from now on the thread begins nothing that was posted so far
    if (Atomics.compareExchange(this.begunView, 0, this.firstMark, this.sequence) !== this.firstMark) return;
    this.firstMark = this.sequence;
    const behind = this.posted.splice(1);
    for (const { job, late } of behind) {
      if (late) continue;
      if (job.owner === first.job.owner) this.request(job);
      else job.takenBack();
    }
  }

  private takeBackAll(): void {
    for (const { job, late } of this.posted.splice(0)) if (!late) job.takenBack();
  }

  private end(why: string): void {
    const { runsFirst } = this;
    this.ended = true;
    if (runsFirst) {
      const first = this.posted.shift()!;
      if (!first.late) first.job.crashed(this.stopping ? 'the system was closed' : why, loggedIn(this.log).lines);
    }
    this.takeBackAll();
    this.owners.clear();
  }
}
