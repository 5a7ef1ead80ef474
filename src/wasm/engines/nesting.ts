import { wasmEngineLimits } from '../../limits.js';
import { WasmTrap } from '../trap.js';

/**
 * How deep guest and host calls are nested in one engine. A call that V8 cuts off from outside (a timeout of `node:vm`) never comes to its `finally`; what
 * it left counted is forgotten at the end of the turn, when no call can be under way.
 */
export class Nesting {
  #depth = 0;
  #watched = false;
  readonly #forget: () => void;

  /** @param forget what else such a call leaves behind */
  constructor(forget: () => void = () => undefined) {
    this.#forget = forget;
  }

  get depth(): number {
    return this.#depth;
  }

  /** @returns the depth of the call that begins, from 0. @throws WasmTrap `stack-overflow` */
  enter(): number {
    if (this.#depth >= wasmEngineLimits.maxNestedCalls) throw new WasmTrap('stack-overflow');
    if (!this.#watched) {
      this.#watched = true;
      queueMicrotask(() => {
        this.#watched = false;
        if (this.#depth === 0) return;
        this.#depth = 0;
        this.#forget();
      });
    }
    return this.#depth++;
  }

  leave(): void {
    this.#depth--;
  }
}
