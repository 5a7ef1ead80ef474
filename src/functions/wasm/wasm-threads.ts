import { availableParallelism } from 'node:os';
import { wasmFunctionLimits } from '../../limits.js';
import { TenantAccount } from '../../wasm/runtime/tenant-account.js';
import { WasmThread } from './wasm-thread.js';

/**
 * The worker threads that hold instances of WebAssembly functions. Guests never wait, so that as many threads as processors do all the work; a further one is
 * started only where a long call would keep another function's calls waiting, and ended when nothing lives there any more.
 */
export class WasmThreads {
  private readonly threads = new Set<WasmThread>();
  private readonly base: number;
  private readonly account = TenantAccount.create('functions', wasmFunctionLimits.maxMemoryBytes);
  private timer: NodeJS.Timeout | undefined;
  /** No thread is started any more. */
  closed = false;

  /** @param threads that are kept (default: as many as processors, at most 4) */
  constructor(threads: number = Math.min(wasmFunctionLimits.threads, availableParallelism())) {
    this.base = Math.max(1, threads);
  }

  get count(): number {
    return this.threads.size;
  }

  /** Linear memory of all instances, bytes. */
  get memoryBytes(): number {
    return this.account.usedBytes;
  }

  /** Starts the threads that are kept, so that no call waits for that. Cost: about 30 ms each, on other processors where there are some. */
  prepare(): void {
    while (this.threads.size < this.base && !this.closed) this.start();
  }

  /** The thread for another instance: of those that no long call holds up, the one with the fewest; a new one where all are held up. */
  place(except?: WasmThread): WasmThread {
    this.prepare();
    let best: WasmThread | undefined;
    for (const thread of this.threads) {
      if (thread === except || thread.ended || thread.heldUp) continue;
      if (!best || load(thread) < load(best)) best = thread;
    }
    if (best) return best;
    if (this.threads.size < wasmFunctionLimits.maxThreads) return this.start();
    return [...this.threads].reduce((least, thread) => (thread.waiting < least.waiting ? thread : least));
  }

  /** To be called after each request, so that what runs is looked after. */
  watch(): void {
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      for (const thread of this.threads) if (thread.waiting > 0) thread.watch();
      if ([...this.threads].some(({ waiting }) => waiting > 0)) this.watch();
    }, wasmFunctionLimits.watchMs);
  }

  /** An instance has left: threads beyond those that are kept go when nothing lives there. */
  trim(thread: WasmThread): void {
    if (this.threads.size <= this.base || thread.owners.size > 0 || thread.waiting > 0 || thread.ended) return;
    this.threads.delete(thread);
    void thread.stop();
  }

  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.timer);
    await Promise.all([...this.threads].map((thread) => thread.stop()));
  }

  private start(): WasmThread {
    const thread = new WasmThread(this.account, (ended) => this.threads.delete(ended));
    this.threads.add(thread);
    return thread;
  }
}

function load({ owners, waiting }: WasmThread): number {
  return owners.size + waiting;
}
