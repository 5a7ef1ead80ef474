import { IguanaError } from '../../errors.js';
import { PAGE_BYTES } from '../types.js';

/** What a worker thread is given to take part in an account. */
export interface AccountShare {
  readonly name: string;
  /** Two Int32: pages in use, most pages. Shared by all threads. */
  readonly all: SharedArrayBuffer;
  /** One Int32: pages in use in this thread, so that they can be given back when the thread is stopped. */
  readonly own: SharedArrayBuffer;
}

const USED = 0;
const MOST = 1;

/**
 * The linear memory that the instances of one tenant hold together, counted over all threads: no limit of Node or V8 counts it. Reserving is two
 * atomic operations.
 */
export class TenantAccount {
  readonly #all: Int32Array;
  readonly #own: Int32Array;

  private constructor(readonly share: AccountShare) {
    this.#all = new Int32Array(share.all);
    this.#own = new Int32Array(share.own);
  }

  /** @param maxBytes of all memories together; rounded down to pages of 64 KiB */
  static create(name: string, maxBytes: number): TenantAccount {
    const all = new SharedArrayBuffer(8);
    new Int32Array(all)[MOST] = Math.min(2 ** 31 - 1, Math.floor(maxBytes / PAGE_BYTES));
    return new TenantAccount({ name, all, own: new SharedArrayBuffer(4) });
  }

  static of(share: AccountShare): TenantAccount {
    return new TenantAccount(share);
  }

  /** The same account, with a count of its own for another thread. */
  forThread(): TenantAccount {
    return new TenantAccount({ ...this.share, own: new SharedArrayBuffer(4) });
  }

  get usedBytes(): number {
    return Atomics.load(this.#all, USED) * PAGE_BYTES;
  }

  get maxBytes(): number {
    return Atomics.load(this.#all, MOST) * PAGE_BYTES;
  }

  set maxBytes(bytes: number) {
    Atomics.store(this.#all, MOST, Math.min(2 ** 31 - 1, Math.floor(bytes / PAGE_BYTES)));
  }

  /** False when the tenant would have more than it may; nothing is taken then. */
  reserve(pages: number): boolean {
    if (pages === 0) return true;
    const before = Atomics.add(this.#all, USED, pages);
    if (before + pages > Atomics.load(this.#all, MOST)) {
      Atomics.sub(this.#all, USED, pages);
      return false;
    }
    Atomics.add(this.#own, 0, pages);
    return true;
  }

  /** @throws IguanaError `IGU_WASM_LIMIT` */
  reserveOrThrow(pages: number): void {
    if (this.reserve(pages)) return;
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: `memory of tenant ${this.share.name}`,
      value: `${this.usedBytes} bytes and ${pages * PAGE_BYTES} more`,
      limit: `${this.maxBytes} bytes`,
      fix: 'destroy instances of the tenant, or raise maxTenantMemory',
    });
  }

  release(pages: number): void {
    Atomics.sub(this.#own, 0, pages);
    Atomics.sub(this.#all, USED, pages);
  }

  /** Gives back all that this thread holds. Call it once the thread has ended. */
  releaseThread(): void {
    this.release(Atomics.load(this.#own, 0));
  }
}
