import { IguanaError } from '../../errors.js';
import type { AnswerSink, FunctionEvent, FunctionInstance, InstanceReply, InvocationContext } from '../invocation.js';
import type { InstanceFactory } from '../pool.js';
import { type JavaScriptCode, TakenBack } from './javascript-instance.js';
import type { Conduct, SharedThread } from './shared-thread.js';
import type { SharedThreads } from './shared-threads.js';
import type { WarmWorkers } from './warm-workers.js';

/** One version of a function that may share workers. */
interface SharedCode {
  readonly code: JavaScriptCode;
  readonly memoryMb: number;
  readonly conduct: Conduct;
  /** An instance in a worker of its own. */
  readonly alone: () => Promise<FunctionInstance>;
}

interface Home {
  /** Undefined: a worker of its own. */
  readonly thread: SharedThread | undefined;
  readonly instance: FunctionInstance;
  calls: number;
}

/**
 * A JavaScript function's copy in a worker that it shares with others. When another function ends that worker or holds it up, the copy begins anew elsewhere,
 * and calls that had not begun run there: what a module keeps between calls is a cache.
 */
class SharedInstance implements FunctionInstance {
  private home: Home | undefined;
  private moving: Promise<Home> | undefined;
  private closed = false;

  private constructor(
    private readonly threads: SharedThreads,
    private readonly shared: SharedCode,
  ) {}

  /** Resolves when it can be called. Cost: about 1 ms. @throws IguanaError `IGU_FUNCTION_CODE` */
  static async start(threads: SharedThreads, shared: SharedCode): Promise<SharedInstance> {
    const instance = new SharedInstance(threads, shared);
    await instance.settled(undefined);
    return instance;
  }

  get usable(): boolean {
    return !this.closed && (this.home?.thread !== undefined || this.home?.instance.usable !== false);
  }

  /** Its part of its worker's: all who live there have the same. */
  memoryBytes(): number {
    if (!this.home) return 0;
    const { thread, instance } = this.home;
    return instance.memoryBytes() / Math.max(1, thread?.lodgers.size ?? 1);
  }

  async invoke(
    event: FunctionEvent,
    context: InvocationContext,
    signal?: AbortSignal,
    answer?: AnswerSink,
  ): Promise<InstanceReply> {
    let heldUp: SharedThread | undefined;
    for (;;) {
      const home = await this.settled(heldUp);
      home.calls++;
      try {
        return await home.instance.invoke(event, context, signal, answer);
      } catch (error) {
        if (!(error instanceof TakenBack)) throw error;
        if (this.closed || Date.now() >= context.deadline) throw this.interrupted();
        heldUp = home.thread;
      } finally {
        home.calls--;
        if (home !== this.home && home.calls === 0) void this.quit(home);
      }
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    const home = await (this.moving?.catch(() => undefined) ?? this.home);
    this.home = undefined;
    if (home) await this.quit(home);
  }

  /** Where it is to be called. @param heldUp not there */
  private async settled(heldUp: SharedThread | undefined): Promise<Home> {
    if (this.moving) return this.moving;
    const { home } = this;
    if (home && this.staysIn(home, heldUp)) return home;
    this.moving = this.move(heldUp);
    try {
      return await this.moving;
    } finally {
      this.moving = undefined;
      if (home && home !== this.home && home.calls === 0) void this.quit(home);
    }
  }

  private staysIn({ thread, instance }: Home, heldUp: SharedThread | undefined): boolean {
    if (thread === undefined) return true;
    return thread !== heldUp && !thread.retired && instance.usable && !this.shared.conduct.alone;
  }

  private async move(heldUp: SharedThread | undefined): Promise<Home> {
    const { code, memoryMb, conduct, alone } = this.shared;
    let except = heldUp;
    for (;;) {
      if (this.closed) throw this.interrupted();
      const thread = conduct.alone ? undefined : this.threads.place(except);
      if (!thread) {
        this.home = { thread, instance: await alone(), calls: 0 };
        return this.home;
      }
      // one instance after the other: the place is taken before the thread is waited for
      const instance = thread.lodge(conduct, memoryMb);
      try {
        await thread.ready;
        await instance.load(code);
        this.home = { thread, instance, calls: 0 };
        return this.home;
      } catch (error) {
        await instance.close();
        // another took the thread with it
        const again = error instanceof IguanaError && error.code === 'IGU_FUNCTION_INTERRUPTED';
        if (!again && !(error instanceof TakenBack)) throw error;
        except = thread;
      }
    }
  }

  private async quit({ instance }: Home): Promise<void> {
    await instance.close();
    this.threads.trim();
  }

  private interrupted(): IguanaError {
    return new IguanaError('IGU_FUNCTION_INTERRUPTED', { name: this.shared.code.name, what: 'its worker was held up' });
  }
}

/**
 * Starts instances of a function in workers that it shares, and in workers of its own once it has ended or held up a shared one.
 * @param code what gives it in the end
 */
export function sharedFactory(
  threads: SharedThreads,
  workers: WarmWorkers,
  code: Promise<JavaScriptCode>,
  memoryMb: number,
): InstanceFactory {
  threads.prepare();
  const conduct: Conduct = { alone: false };
  const { start: alone } = workers.factory(code, memoryMb, 'thread');
  return { start: async () => SharedInstance.start(threads, { code: await code, memoryMb, conduct, alone }) };
}
