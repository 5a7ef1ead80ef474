/**
 * Instances of functions, and which call gets which. Over 300 lines because waiting, starting, stopping and the room for all of them decide on one state.
 */
import type { Clock } from '../clock.js';
import { IguanaError } from '../errors.js';
import { functionLimits } from '../limits.js';
import { AbortListener } from './abort-listeners.js';
import type {
  AnswerSink,
  ColdStartCause,
  FunctionEvent,
  FunctionInstance,
  InstanceReply,
  InvocationContext,
} from './invocation.js';

/** After a start that failed, while other instances take the calls, ms. */
const START_AGAIN_MS = 1_000;

/** Starts copies of one version of a function. */
export interface InstanceFactory {
  /** @throws IguanaError `IGU_FUNCTION_CODE` */
  start(): Promise<FunctionInstance>;
}

export interface PoolOptions {
  readonly name: string;
  /** Calls at once in one instance. */
  readonly concurrency: number;
  /** Calls at once in all of them. */
  readonly maxConcurrency: number;
  readonly maxInstances: number;
  /** Why the first start is one (default `first-call`). */
  readonly firstCause?: ColdStartCause;
}

export interface PoolReply {
  readonly reply: InstanceReply;
  readonly cold: ColdStartCause | false;
  /** Of the start that the call waited for, ms. */
  readonly initMs: number;
}

export interface PoolState {
  readonly instances: number;
  readonly starting: number;
  /** Without a call. */
  readonly idle: number;
  readonly running: number;
  readonly waiting: number;
  readonly memoryBytes: number;
}

interface Copy {
  readonly instance: FunctionInstance;
  running: number;
  /** Start that no call has used yet. */
  unused: { readonly cause: ColdStartCause; readonly initMs: number } | undefined;
  idleSince: number;
}

interface Call {
  /** Told when an instance has it. */
  readonly onBegin: ((start: Omit<PoolReply, 'reply'>) => void) | undefined;
  readonly event: FunctionEvent;
  readonly context: InvocationContext;
  readonly signal: AbortSignal | undefined;
  readonly answer: AnswerSink | undefined;
  /** When it has waited. */
  settle: (() => void) | undefined;
  readonly waitedForStart: boolean;
  readonly resolve: (reply: PoolReply) => void;
  readonly reject: (error: unknown) => void;
}

/** How many instances there may be of all functions together. One that has been idle longest gives way to a call that finds no room. */
export class InstanceRoom {
  private used = 0;
  private readonly pools = new Set<FunctionPool>();

  constructor(readonly limit: number = functionLimits.maxInstances) {}

  join(pool: FunctionPool): void {
    this.pools.add(pool);
  }

  part(pool: FunctionPool): void {
    this.pools.delete(pool);
  }

  /** Whether there was room for one more. Cost: O(1), O(instances) when it is full. */
  take(mayDisplace: boolean): boolean {
    if (this.used >= this.limit && mayDisplace) {
      let longest: FunctionPool | undefined;
      let since = Number.POSITIVE_INFINITY;
      for (const pool of this.pools) {
        const { idleSince } = pool;
        if (idleSince >= since) continue;
        longest = pool;
        since = idleSince;
      }
      longest?.giveWay();
    }
    if (this.used >= this.limit) return false;
    this.used++;
    return true;
  }

  leave(): void {
    this.used--;
  }
}

/**
 * The instances of one version of a function in this process. A call goes to the fullest instance that has room, so that others become idle; without one
 * it waits for whichever comes first, a free instance or a new one, which is started for it.
 */
export class FunctionPool {
  private readonly copies: Copy[] = [];
  private readonly queue: Call[] = [];
  private starting = 0;
  private running = 0;
  private startedOnce = false;
  private lastStop: 'idle' | 'failure' | undefined;
  private closed = false;
  /** A start failed while there were other instances: no call starts one until then. */
  private startAgainAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly options: PoolOptions,
    private readonly factory: InstanceFactory,
    private readonly clock: Clock,
    /** Shared with other pools. */
    private readonly room: InstanceRoom = new InstanceRoom(),
  ) {
    room.join(this);
  }

  /** Since when its longest idle instance is so; infinity without one. */
  get idleSince(): number {
    return this.idle()[0]?.idleSince ?? Number.POSITIVE_INFINITY;
  }

  /** Stops the instance that has been idle longest. */
  giveWay(): void {
    const [longest] = this.idle();
    if (longest) void this.stop(longest, 'idle');
  }

  get state(): PoolState {
    return {
      instances: this.copies.length,
      starting: this.starting,
      idle: this.copies.filter(({ running }) => running === 0).length,
      running: this.running,
      waiting: this.queue.length,
      memoryBytes: this.copies.reduce((sum, { instance }) => sum + instance.memoryBytes(), 0),
    };
  }

  /**
   * A call waits for an instance until its deadline.
   * @param onBegin told when an instance has the call: from then on it runs, and is not called for one that never runs
   * @throws IguanaError `IGU_FUNCTION_BUSY` when too many wait, `IGU_FUNCTION_NOT_READY` when it waited too long; what the instance throws
   */
  run(
    event: FunctionEvent,
    context: InvocationContext,
    signal?: AbortSignal,
    answer?: AnswerSink,
    onBegin?: (start: Omit<PoolReply, 'reply'>) => void,
  ): Promise<PoolReply> {
    const { name, maxConcurrency } = this.options;
    if (this.closed) return Promise.reject(new IguanaError('IGU_FUNCTION_NOT_FOUND', { name }));
    if (signal?.aborted) return Promise.reject(new IguanaError('IGU_FUNCTION_CANCELLED', { name }));
    return new Promise((resolve, reject) => {
      // Most calls run at once, and hear of their signal and their deadline in the instance.
      const copy = this.fullestWithRoom();
      const waitedForStart = copy === undefined;
      const call: Call = {
        event,
        context,
        signal,
        answer,
        onBegin,
        settle: undefined,
        waitedForStart,
        resolve,
        reject,
      };
      if (copy && this.queue.length === 0) {
        void this.call(copy, call);
        return;
      }
      if (this.queue.length >= functionLimits.maxWaiting) {
        const { length: waiting } = this.queue;
        reject(new IguanaError('IGU_FUNCTION_BUSY', { name, limit: maxConcurrency, waiting }));
        return;
      }
      this.queue.push(call);
      this.serve();
      if (this.queue.at(-1) !== call) return;
      const leave = (error: IguanaError) => {
        this.queue.splice(this.queue.indexOf(call), 1);
        refuse(call, error);
      };
      const waitMs = context.deadline - this.clock.now();
      const stopWaiting = this.clock.after(waitMs, () => leave(this.notReady(waitMs)));
      const cancel =
        signal && new AbortListener(signal, () => leave(new IguanaError('IGU_FUNCTION_CANCELLED', { name })));
      call.settle = () => {
        stopWaiting();
        cancel?.end();
      };
    });
  }

  /** Starts or stops instances until there are so many; those with calls are left. Resolves when starts are done. */
  async scaleTo(instances: number): Promise<void> {
    this.dropBroken();
    const wanted = Math.min(instances, this.options.maxInstances);
    const missing = wanted - this.copies.length - this.starting;
    await Promise.all(Array.from({ length: Math.max(0, missing) }, () => this.start('scale-up', false)));
    await Promise.all(
      this.idle()
        .slice(0, Math.max(0, this.copies.length - wanted))
        .map((copy) => this.stop(copy, 'idle')),
    );
  }

  /** Starts instances until there are so many, and stops none. Resolves when starts are done. */
  async atLeast(instances: number): Promise<void> {
    this.dropBroken();
    await this.scaleTo(Math.max(instances, this.copies.length + this.starting));
  }

  /**
   * Lets no more calls in, waits for those that run, and stops all instances.
   * @param graceMs calls that run longer are ended with their instances (default: none are)
   */
  async close(graceMs?: number): Promise<void> {
    this.closed = true;
    const stopAll = () => Promise.all([...this.copies].map((copy) => this.stop(copy, 'idle')));
    const cancel = graceMs === undefined ? undefined : this.clock.after(graceMs, () => void stopAll());
    for (const call of this.queue.splice(0))
      refuse(call, new IguanaError('IGU_FUNCTION_NOT_FOUND', { name: this.options.name }));
    while (this.running > 0 || this.starting > 0) await new Promise<void>((resolve) => this.onQuiet.push(resolve));
    cancel?.();
    await stopAll();
    this.room.part(this);
  }

  private readonly onQuiet: (() => void)[] = [];

  private hasRoom({ instance, running }: Copy): boolean {
    return instance.usable && running < this.options.concurrency && this.running < this.options.maxConcurrency;
  }

  private fullestWithRoom(): Copy | undefined {
    let best: Copy | undefined;
    for (const copy of this.copies) {
      if (this.hasRoom(copy) && (best === undefined || copy.running > best.running)) best = copy;
    }
    return best;
  }

  private serve(): void {
    while (this.queue.length > 0) {
      const copy = this.fullestWithRoom();
      if (!copy) break;
      void this.call(copy, this.queue.shift()!);
    }
    if (this.queue.length === 0) return;
    this.dropBroken();
    if (this.copies.length + this.starting > 0 && this.clock.now() < this.startAgainAt) return;
    const room = this.options.maxConcurrency - this.running;
    const wanted = Math.min(
      Math.ceil(Math.min(this.queue.length, room) / this.options.concurrency),
      this.options.maxInstances,
    );
    const missing = Math.min(wanted - this.starting, this.options.maxInstances - this.copies.length - this.starting);
    for (let i = 0; i < missing; i++) void this.start(this.causeOfStart(), true);
  }

  /** For a call that has waited as long as it may. */
  private notReady(waitedMs: number): IguanaError {
    const { name, maxConcurrency, maxInstances } = this.options;
    const ms = Math.round(waitedMs);
    const up = this.copies.length;
    const details =
      up === 0
        ? {
            what:
              this.starting > 0 ? `the first was still starting after ${ms} ms` : `none has started within ${ms} ms`,
            fix: 'give the call more time, do less when the module is loaded, or keep instances with scaling.minInstances',
          }
        : {
            what: `${up} of at most ${maxInstances}, with ${this.running} of at most ${maxConcurrency} calls, had no room within ${ms} ms`,
            fix: 'call again later, give the call more time, or raise maxConcurrency or scaling.maxInstances',
          };
    return new IguanaError('IGU_FUNCTION_NOT_READY', { name, ...details });
  }

  private causeOfStart(): ColdStartCause {
    if (this.copies.length + this.starting > 0) return 'scale-up';
    if (this.lastStop === 'failure') return 'after-failure';
    return this.startedOnce ? 'after-idle' : (this.options.firstCause ?? 'first-call');
  }

  /** Longest idle first. */
  private idle(): Copy[] {
    return this.copies.filter(({ running }) => running === 0).sort((a, b) => a.idleSince - b.idleSince);
  }

  /** @param mayDisplace an idle instance of another function may be stopped for it */
  private async start(cause: ColdStartCause, mayDisplace: boolean): Promise<void> {
    this.starting++;
    this.startedOnce = true;
    const began = performance.now();
    try {
      const instance = await this.startInRoom(mayDisplace);
      const copy: Copy = {
        instance,
        running: 0,
        unused: { cause, initMs: performance.now() - began },
        idleSince: this.clock.now(),
      };
      this.copies.push(copy);
    } catch (error) {
      // Nothing had to give way to it: a call's start may yet find room.
      if (!mayDisplace && error instanceof IguanaError && error.code === 'IGU_FUNCTION_NOT_READY') return;
      this.startAgainAt = this.clock.now() + START_AGAIN_MS;
      // Whoever waits is served by what there is; where nothing is, it would wait for the same failure again.
      if (this.copies.length + this.starting === 1) for (const call of this.queue.splice(0)) refuse(call, error);
    } finally {
      this.starting--;
      this.serve();
      this.quiet();
    }
  }

  private async startInRoom(mayDisplace: boolean): Promise<FunctionInstance> {
    if (!this.room.take(mayDisplace)) {
      const { name } = this.options;
      throw new IguanaError('IGU_FUNCTION_NOT_READY', {
        name,
        what: `all ${this.room.limit} instances that one process may have are taken by calls`,
        fix: 'call again later, or have more processes in the group',
      });
    }
    try {
      return await this.factory.start();
    } catch (error) {
      this.room.leave();
      throw error;
    }
  }

  private async call(copy: Copy, call: Call): Promise<void> {
    call.settle?.();
    const { unused } = copy;
    copy.unused = undefined;
    copy.running++;
    this.running++;
    const waitedFor = call.waitedForStart && unused ? unused : undefined;
    const start = { cold: waitedFor?.cause ?? false, initMs: waitedFor?.initMs ?? 0 } as const;
    call.onBegin?.(start);
    // Whoever gave it up waits no longer; its place is taken until nothing of it runs.
    const cancel =
      call.signal &&
      new AbortListener(call.signal, () => {
        call.reject(new IguanaError('IGU_FUNCTION_CANCELLED', { name: this.options.name }));
      });
    try {
      const reply = await copy.instance.invoke(call.event, call.context, call.signal, call.answer);
      call.resolve({ reply, cold: start.cold, initMs: start.initMs });
    } catch (error) {
      call.reject(error);
    } finally {
      cancel?.end();
      copy.running--;
      this.running--;
      copy.idleSince = this.clock.now();
      if (!copy.instance.usable) await this.stop(copy, 'failure');
      this.serve();
      this.quiet();
    }
  }

  /** An instance may end by itself between two calls, and would hold the place of one that works. */
  private dropBroken(): void {
    for (const copy of this.copies.filter(({ instance, running }) => running === 0 && !instance.usable))
      void this.stop(copy, 'failure');
  }

  private async stop(copy: Copy, why: 'idle' | 'failure'): Promise<void> {
    const at = this.copies.indexOf(copy);
    if (at < 0) return;
    this.copies.splice(at, 1);
    this.room.leave();
    this.lastStop = why;
    await copy.instance.close();
  }

  private quiet(): void {
    if (this.running > 0 || this.starting > 0) return;
    for (const resolve of this.onQuiet.splice(0)) resolve();
  }
}

/** For a call that waits. */
function refuse({ settle, reject }: Call, error: unknown): void {
  settle?.();
  reject(error);
}
