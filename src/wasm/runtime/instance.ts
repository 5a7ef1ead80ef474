/**
 * One instance on the thread it was made on: checked calls, gas accounts, limits, traps. One file because every call touches all of it and must
 * stay within a few hundred nanoseconds.
 */
import { IguanaError } from '../../errors.js';
import type { CompiledModule, EngineInstance, HostImports } from '../engines/engine.js';
import { GAS_UNIT, gasLeft, MAX_GAS, packGas, stackUsedUp } from '../gas/packed.js';
import type { PreparedModule } from '../module/prepared.js';
import { checkModule } from '../snapshot/check-snapshot.js';
import { type InitialImage, initialImageOf } from '../snapshot/initial-image.js';
import { restoreInPlace, restorePlan, restoreSnapshot } from '../snapshot/restore-snapshot.js';
import { createSnapshot, type Snapshot } from '../snapshot/snapshot.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import { type ExportInfo, type FunctionType, PAGE_BYTES, type RawFunction, type RawValue } from '../types.js';
import type { Wasi } from '../wasi/wasi.js';
import { readableFrames } from './frames.js';
import { type GuestOutput, outputOf, wasiImports } from './guest-wasi.js';
import {
  checkInitialSizes,
  type EffectiveLimits,
  effectiveLimits,
  type ResourceLimits,
  wholeWithin,
} from './resource-limits.js';
import type { TenantAccount } from './tenant-account.js';
import { fromRaw, rawChecks, rawMismatch, type TypedValue, toRaw } from './values.js';
import { TimeUp, withinTime } from './within-time.js';

/** A function of the host; `gas` is charged for each call beside the fixed price of a host call (default 0). */
export type HostFunction = RawFunction | { readonly call: RawFunction; readonly gas: number };

/** Import module → name → function, or for the native engine a WebAssembly.Memory, Table or Global. */
export type UserImports = Readonly<Record<string, Readonly<Record<string, HostFunction | object>>>>;

export interface InstanceOptions {
  readonly limits?: ResourceLimits;
  /** Gas that all calls together may use; default none. The start function counts. */
  readonly gas?: number;
  /** Called once with the instance before any guest code runs. */
  readonly imports?: UserImports | ((instance: Instance) => UserImports);
  /** What the guest's WASI imports are; the instance closes it. Default none: a module that imports WASI is refused. */
  readonly wasi?: Wasi;
  /** Views of its memory end visibly when it grows, as V8's do: they may be kept then (default false). */
  readonly viewsDetach?: boolean;
  /** Whose memory it is; default nobody's: only `maxMemory` holds. */
  readonly tenant?: TenantAccount;
  /** Whether calls after a trap are let through (`keep`, default) or refused with `IGU_WASM_LOST`. */
  readonly afterTrap?: 'keep' | 'refuse';
  /** State to begin with; the start function is not run then. Gas is counted anew. */
  readonly snapshot?: Snapshot;
}

export interface GasUsed {
  /** Since the instance was made, its start function included. */
  readonly total: number;
  /** Of the newest call that ended. */
  readonly lastCall: number;
  /** What is left of `setGasLimit`; absent without one. */
  readonly left?: number;
}

type Params = FunctionType['params'];

/** What a bound function calls: another one once the instance was put into the state of a snapshot. */
interface Target {
  run: RawFunction;
}

/** What instances of a module begin with, where that does not depend on imports. */
const images = new WeakMap<PreparedModule, InitialImage>();

/** Exported functions by name, shared by all instances of a module. */
const plans = new WeakMap<PreparedModule, ReadonlyMap<string, FunctionType>>();

function planOf(module: PreparedModule): ReadonlyMap<string, FunctionType> {
  let plan = plans.get(module);
  if (!plan) {
    const functions = module.info.exports.filter(
      (one): one is ExportInfo & { kind: 'function' } => one.kind === 'function',
    );
    plan = new Map(functions.map(({ name, type }) => [name, type]));
    plans.set(module, plan);
  }
  return plan;
}

/**
 * What a guest is to its host.
 *
 * Gas: a call is charged exactly what the code it ran through costs. A call that ends in `unreachable`, out of gas, stack overflow, an exit or an error
 * of a host function is exact too, since the module writes its account down before. A trap **inside** an instruction (bounds, division, conversion,
 * indirect call) or a timeout costs all that the call was given, when a limit was set; without one, what the module had written down last.
 *
 * After a trap everything can be inspected and, unless `afterTrap` says otherwise, called: memory and globals are as the trap left them, so a C program's
 * own stack pointer may not have been put back. Restore a snapshot to be sure.
 */
export class Instance {
  readonly module: PreparedModule;
  readonly #compiled: CompiledModule;
  readonly #functions: ReadonlyMap<string, FunctionType>;
  readonly #bound = new Map<string, { readonly target: Target; readonly call: RawFunction }>();
  readonly #imports: HostImports;
  #engine!: EngineInstance;
  #limits: EffectiveLimits;
  readonly #tenant: TenantAccount | undefined;
  readonly #wasi: Wasi | undefined;
  #view: Uint8Array | undefined;
  readonly #viewsDetach: boolean;
  /** Of memories that are the instance's own, as counted with the tenant. */
  #pages = 0;
  readonly #gasName: string | undefined;
  /** Left of the budget over all calls. */
  #budget: number | undefined;
  /** In the gas global since the last read or write. */
  #granted = 0;
  #packed = 0n;
  #packedOf = -1;
  #mustWrite = true;
  #total = 0;
  #last = 0;
  /** Calls on the stack: a host function may call back. */
  #depth = 0;
  readonly #refuseAfterTrap: boolean;
  #lost: string | undefined;
  #calls = 0;
  #traps = 0;
  #refusedGrowths = 0;

  /**
   * Runs the start function. Cost: about 10 µs for a small module.
   * @throws IguanaError `IGU_WASM_LIMIT` when it or its tenant may not have the memory, `IGU_WASM_LINK` for imports, `IGU_USAGE` for limits; WasmTrap when the
   * start function traps.
   */
  constructor(compiled: CompiledModule, options: InstanceOptions = {}) {
    const { module } = compiled;
    this.#compiled = compiled;
    this.module = module;
    this.#functions = planOf(module);
    this.#gasName = module.gas;
    this.#wasi = options.wasi;
    this.#tenant = options.tenant;
    this.#viewsDetach = options.viewsDetach === true;
    this.#wasi?.bind(
      () => this.#currentMemory(),
      (units) => this.charge(units),
    );
    this.#refuseAfterTrap = options.afterTrap === 'refuse';
    const { snapshot } = options;
    try {
      this.#limits = effectiveLimits(options.limits);
      this.#checkMetered(this.#limits);
      checkInitialSizes(module.info, this.#limits);
      if (options.gas !== undefined) this.setGasLimit(options.gas);
      const given = typeof options.imports === 'function' ? options.imports(this) : options.imports;
      this.#imports = this.#wrap(given ?? {});
      if (snapshot) checkModule(snapshot, module);
      this.#take(snapshot ? pagesOf(snapshot) : ownPages(module));
      if (snapshot) {
        if (snapshot.wasi) this.#wasi?.restore(snapshot.wasi);
        this.#engine = restoreSnapshot(snapshot, compiled, this.#imports, this.#image());
      } else {
        this.#engine = compiled.instantiate(this.#imports);
        if (module.start !== undefined) this.#start(module.start);
      }
    } catch (error) {
      this.#give();
      this.#wasi?.close();
      throw error;
    }
  }

  /**
   * Calls an exported function with checked values. Cost: about 0.3 µs and the call.
   * @param timeoutMs default: the limit `timeout`
   * @throws IguanaError `IGU_WASM_NOT_FOUND`, `IGU_WASM_SIGNATURE`; WasmTrap; whatever a host function throws.
   */
  call(name: string, args: readonly TypedValue[] = [], timeoutMs = this.#limits.timeout): TypedValue[] {
    const type = this.signature(name);
    const raw = toRaw(name, type, args);
    const run = this.#bind(name, type);
    return fromRaw(type, timeoutMs === undefined ? run(...raw) : this.#timed(timeoutMs, () => run(...raw)));
  }

  /**
   * An exported function for many calls: raw values in (i64 as bigint), checked and metered like `call`, without its objects. The timeout holds too.
   * @throws IguanaError `IGU_WASM_NOT_FOUND`
   */
  function(name: string): RawFunction {
    const run = this.#bind(name, this.signature(name));
    return (...args) => {
      const { timeout } = this.#limits;
      return timeout === undefined ? run(...args) : this.#timed(timeout, () => run(...args));
    };
  }

  /** @throws IguanaError `IGU_WASM_NOT_FOUND` */
  signature(name: string): FunctionType {
    const type = this.#functions.get(name);
    if (type) return type;
    const near = [...this.#functions.keys()].slice(0, 8).join(', ');
    throw new IguanaError('IGU_WASM_NOT_FOUND', {
      kind: 'exported function',
      name,
      of: near ? ` in the module, which exports ${near}` : ' in the module, which exports none',
    });
  }

  get limits(): EffectiveLimits {
    return this.#limits;
  }

  /**
   * Changes limits from the next call on; those not given stay. Memory that is there is not taken away.
   * @throws IguanaError `IGU_USAGE`, also for another `maxTableElements`: that one is written into the module.
   */
  setResourceLimits(limits: ResourceLimits): void {
    const next = effectiveLimits(limits, this.#limits);
    if (next.maxTableElements !== this.#limits.maxTableElements)
      throw new IguanaError('IGU_USAGE', {
        what: 'maxTableElements is written into the module: give it when the instance is made',
      });
    this.#checkMetered(next);
    this.#limits = next;
    this.#mustWrite = true;
  }

  /**
   * Gas that all calls from now on may use together; null: no limit. A call that is running keeps what it was given.
   * @throws IguanaError `IGU_USAGE`; `IGU_WASM_UNSUPPORTED` when the module is not metered
   */
  setGasLimit(gas: number | null): void {
    this.#budget = gas === null ? undefined : wholeWithin('gas limit', gas, MAX_GAS);
    if (gas !== null) this.#assertMetered('a gas limit');
    this.#mustWrite = true;
  }

  getGasUsed(): GasUsed {
    return { total: this.#total, lastCall: this.#last, ...(this.#budget !== undefined && { left: this.#budget }) };
  }

  /**
   * For host functions: takes gas for what they do.
   * @throws WasmTrap `out-of-gas`
   */
  charge(units: number): void {
    if (this.#gasName === undefined || units === 0) return;
    const packed = this.#engine.getGlobal(this.#gasName) as bigint;
    this.#engine.setGlobal(this.#gasName, packed - BigInt(Math.ceil(units)) * BigInt(GAS_UNIT));
    if (gasLeft(packed) < units) throw new WasmTrap('out-of-gas');
  }

  /** An exported memory as it is now; the view ends with the next growth or call. @throws IguanaError `IGU_WASM_NOT_FOUND` */
  memory(name = 'memory'): Uint8Array {
    return this.#engine.memory(name);
  }

  /** @throws IguanaError `IGU_WASM_NOT_FOUND` */
  global(name: string): RawValue {
    return this.#engine.getGlobal(name);
  }

  /** Bytes of all its memories. */
  get memoryBytes(): number {
    return this.#pages * PAGE_BYTES;
  }

  get counts(): { readonly calls: number; readonly traps: number } {
    return { calls: this.#calls, traps: this.#traps };
  }

  /** How often a memory could not grow because of `maxMemory` or the tenant: tells why a guest that ran out of memory gave up. */
  get refusedGrowths(): number {
    return this.#refusedGrowths;
  }

  get compiled(): CompiledModule {
    return this.#compiled;
  }

  /**
   * The state as it is now. Cost: see `createSnapshot`, and once for each module an instance to compare with.
   * @throws IguanaError `IGU_WASM_SNAPSHOT` during a call, or naming what cannot be saved
   */
  snapshot(): Snapshot {
    this.#assertAtRest('created');
    return createSnapshot(this.#engine, this.module, this.#image(), {
      gasUsed: BigInt(this.#total),
      ...(this.#wasi && { wasi: this.#wasi.save() }),
    });
  }

  /**
   * Puts the instance into the state of a snapshot of the same module, whatever ran in it; one that was refused after a trap may be called again. Limits, gas
   * and counts stay.
   * @throws IguanaError `IGU_WASM_SNAPSHOT`, `IGU_WASM_LIMIT` when it or its tenant may not have the memory
   */
  restore(snapshot: Snapshot): void {
    this.#assertAtRest('restored');
    if (this.#lost === DESTROYED) throw this.#gone(DESTROYED);
    checkModule(snapshot, this.module);
    const more = Math.max(0, pagesOf(snapshot) - this.#pages);
    this.#reserve(more);
    const reserved = this.#pages + more;
    try {
      const image = this.#image();
      const { inPlace } = restorePlan(snapshot, this.#engine, this.module);
      const next = inPlace ? undefined : restoreSnapshot(snapshot, this.#compiled, this.#imports, image);
      try {
        if (snapshot.wasi) this.#wasi?.restore(snapshot.wasi);
      } catch (error) {
        next?.close();
        throw error;
      }
      if (next) this.#replace(next);
      else {
        this.#lost = 'a snapshot was put into it in part only';
        restoreInPlace(snapshot, this.#engine, this.module, image);
      }
      this.#lost = undefined;
      this.#mustWrite = true;
    } finally {
      this.#recount(reserved);
    }
  }

  /** What the guest wrote to captured streams. */
  output(): GuestOutput {
    return outputOf(this.#wasi);
  }

  /** Frees it; a second time does nothing. */
  close(): void {
    if (this.#lost === DESTROYED) return;
    this.#lost = DESTROYED;
    this.#bound.clear();
    this.#give();
    this.#view = undefined;
    this.#wasi?.close();
    this.#engine.close();
  }

  #start(name: string): void {
    const { call } = this.#checked(name, { params: [], results: [] });
    const { timeout } = this.#limits;
    try {
      if (timeout === undefined) call();
      else this.#timed(timeout, call);
    } catch (error) {
      this.#engine.close();
      throw error;
    }
  }

  #bind(name: string, type: FunctionType): RawFunction {
    let bound = this.#bound.get(name);
    if (!bound) {
      bound = this.#checked(name, type);
      this.#bound.set(name, bound);
    }
    return bound.call;
  }

  /** Up to three arguments are written out: spreading would cost more than all checks. */
  #checked(name: string, type: FunctionType): { readonly target: Target; readonly call: RawFunction } {
    if ([...type.params, ...type.results].includes('v128'))
      throw new IguanaError('IGU_WASM_UNSUPPORTED', {
        what: `v128 in the signature of ${name}`,
        where: ' at the border to the host',
        fix: 'pass vectors through memory',
      });
    const target = { run: this.#engine.function(name) };
    return { target, call: this.#guarded(target, type.params, (given) => rawMismatch(name, type, given)) };
  }

  #guarded(target: Target, params: Params, wrong: (given: readonly unknown[]) => IguanaError): RawFunction {
    const [p = () => true, q = () => true, r = () => true] = params.map((one) => rawChecks[one]);
    const enter = (): void => this.#enter();
    const leave = (): void => this.#leave();
    const failed = (error: unknown): unknown => this.#failed(error);
    switch (params.length) {
      case 0:
        return (...more) => {
          if (more.length > 0) throw wrong(more);
          enter();
          try {
            const result = target.run();
            leave();
            return result;
          } catch (error) {
            throw failed(error);
          }
        };
      case 1:
        return (a, ...more) => {
          if (more.length > 0 || !p(a)) throw wrong([a, ...more]);
          enter();
          try {
            const result = target.run(a);
            leave();
            return result;
          } catch (error) {
            throw failed(error);
          }
        };
      case 2:
        return (a, b, ...more) => {
          if (more.length > 0 || !p(a) || !q(b)) throw wrong([a, b, ...more]);
          enter();
          try {
            const result = target.run(a, b);
            leave();
            return result;
          } catch (error) {
            throw failed(error);
          }
        };
      case 3:
        return (a, b, c, ...more) => {
          if (more.length > 0 || !p(a) || !q(b) || !r(c)) throw wrong([a, b, c, ...more]);
          enter();
          try {
            const result = target.run(a, b, c);
            leave();
            return result;
          } catch (error) {
            throw failed(error);
          }
        };
      default:
        return this.#guardedMany(target, params, wrong);
    }
  }

  #guardedMany(target: Target, params: Params, wrong: (given: readonly unknown[]) => IguanaError): RawFunction {
    const checks = params.map((one) => rawChecks[one]);
    return (...args) => {
      if (args.length !== checks.length || !checks.every((check, i) => check(args[i]))) throw wrong(args);
      this.#enter();
      try {
        const result = target.run(...args);
        this.#leave();
        return result;
      } catch (error) {
        throw this.#failed(error);
      }
    };
  }

  #enter(): void {
    if (this.#lost !== undefined) throw this.#gone(this.#lost);
    if (this.#depth === 0) {
      this.#calls++;
      if (this.#gasName !== undefined) this.#grant(this.#gasName);
    }
    this.#depth++;
  }

  /** Writes what the call may use, unless the global holds just that. */
  #grant(gasName: string): void {
    const perCall = this.#limits.maxInstructions;
    let gas = perCall ?? MAX_GAS;
    if (this.#budget !== undefined && this.#budget < gas) gas = this.#budget;
    if (!this.#mustWrite && (gas === this.#granted || (gas === MAX_GAS && this.#granted > MAX_GAS / 2))) return;
    if (gas !== this.#packedOf || this.#mustWrite) {
      this.#packed = packGas(gas, this.#limits.maxStackDepth);
      this.#packedOf = gas;
    }
    this.#engine.setGlobal(gasName, this.#packed);
    this.#granted = gas;
    this.#mustWrite = false;
  }

  #leave(): void {
    if (--this.#depth > 0) return;
    if (this.#gasName === undefined) {
      this.#countGrowth();
      return;
    }
    this.#settle(gasLeft(this.#engine.getGlobal(this.#gasName) as bigint));
  }

  #settle(left: number): void {
    const used = this.#granted - left;
    this.#granted = left;
    this.#last = used;
    this.#total += used;
    if (this.#budget !== undefined) this.#budget -= used;
  }

  /** Books a call that ended early and gives the error to throw. */
  #failed(error: unknown): unknown {
    const outermost = --this.#depth === 0;
    const what = this.#understand(error);
    if (outermost) {
      if (what instanceof WasmTrap) {
        this.#traps++;
        if (this.#refuseAfterTrap) this.#lost = `it trapped (${what.trap})`;
      }
      if (this.#gasName !== undefined) {
        this.#settle(Math.max(0, gasLeft(this.#engine.getGlobal(this.#gasName) as bigint)));
        this.#mustWrite = true;
      } else this.#countGrowth();
    }
    return what;
  }

  /** The meter tells by `unreachable` that gas or stack is used up; other traps lose what the module had not written down. */
  #understand(error: unknown): unknown {
    if (!(error instanceof WasmTrap)) return error;
    const named = (trap: TrapKind): WasmTrap =>
      new WasmTrap(trap, readableFrames(error, this.module), { cause: error.cause ?? error });
    if (this.#gasName === undefined || error.trap === 'out-of-gas') return named(error.trap);
    const packed = this.#engine.getGlobal(this.#gasName) as bigint;
    if (error.trap === 'unreachable') {
      if (gasLeft(packed) < 0) return named('out-of-gas');
      return named(stackUsedUp(packed) ? 'stack-overflow' : 'unreachable');
    }
    const limited = this.#budget !== undefined || this.#limits.maxInstructions !== undefined;
    if (limited) this.#engine.setGlobal(this.#gasName, packGas(0, this.#limits.maxStackDepth));
    return named(error.trap);
  }

  #timed(ms: number, run: () => RawValue): RawValue {
    // a call from within a host function runs in its caller's time
    if (this.#depth > 0) return run();
    try {
      return withinTime(ms, run);
    } catch (error) {
      if (!(error instanceof TimeUp)) throw error;
      // nothing ran after the cut: the call is still counted as running
      this.#depth = 1;
      this.#wasi?.afterCut();
      throw this.#failed(new WasmTrap('timeout', [], { cause: error }));
    }
  }

  #wrap(given: UserImports): HostImports {
    const imports: Record<string, Readonly<Record<string, RawFunction | object>>> = {};
    if (this.#wasi) Object.assign(imports, wasiImports(this.#wasi, this.module.info));
    for (const [module, names] of Object.entries(given)) {
      const wrapped: Record<string, RawFunction | object> = {};
      for (const [name, value] of Object.entries(names)) wrapped[name] = this.#priced(value);
      imports[module] = wrapped;
    }
    if (this.module.hostImports.includes('grow'))
      imports.iguana = { grow: (pages) => (this.#mayGrow(pages as number) ? 1 : 0) };
    return imports;
  }

  #priced(value: HostFunction | object): RawFunction | object {
    if (!isPriced(value)) return value;
    const { call, gas } = value;
    wholeWithin('gas of a host function', gas, MAX_GAS);
    return (...args: RawValue[]) => {
      this.charge(gas);
      return call(...args);
    };
  }

  #mayGrow(wanted: number): boolean {
    const pages = wanted >>> 0;
    const refused = this.#pages + pages > this.#limits.maxMemoryPages || (this.#tenant && !this.#tenant.reserve(pages));
    if (refused) this.#refusedGrowths++;
    else this.#pages += pages;
    return !refused;
  }

  #take(pages: number): void {
    this.#reserve(pages);
    this.#pages = pages;
  }

  /** @throws IguanaError `IGU_WASM_LIMIT` */
  #reserve(more: number): void {
    if (this.#pages + more > this.#limits.maxMemoryPages)
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: 'memory of the snapshot',
        value: `${(this.#pages + more) * PAGE_BYTES} bytes`,
        limit: `${this.#limits.maxMemoryPages * PAGE_BYTES} bytes`,
        fix: 'raise maxMemory',
      });
    this.#tenant?.reserveOrThrow(more);
  }

  /** For WASI. V8 detaches a view when the memory grows; of other engines it is taken anew. */
  #currentMemory(): Uint8Array {
    if (this.#view && this.#view.length > 0) return this.#view;
    const view = this.#engine.memory(this.module.memories[0] ?? 'memory');
    if (this.#viewsDetach) this.#view = view;
    return view;
  }

  #give(): void {
    this.#tenant?.release(this.#pages);
    this.#pages = 0;
  }

  /** A restored snapshot brings memories of its own size; what was reserved for them is booked here. */
  #recount(reserved: number): void {
    const { info, memories } = this.module;
    const now = memories.reduce(
      (sum, name, i) => sum + (info.memories[i]?.imported ? 0 : this.#engine.memory(name).length / PAGE_BYTES),
      0,
    );
    if (now !== reserved) this.#tenant?.release(reserved - now);
    this.#pages = now;
  }

  /** A module that is not metered grows without asking: within its written maximum, and counted when the call has ended. */
  #countGrowth(): void {
    if (this.module.memories.length > 0) this.#recount(this.#pages);
  }

  #replace(engine: EngineInstance): void {
    this.#engine.close();
    this.#engine = engine;
    this.#view = undefined;
    for (const [name, { target }] of this.#bound) target.run = engine.function(name);
  }

  /** Read off an instance of its own in which nothing runs. */
  #image(): InitialImage {
    const { module } = this;
    const known = images.get(module);
    if (known) return known;
    const kinds = new Set(module.info.imports.map(({ kind }) => kind));
    if (kinds.has('memory') || kinds.has('table'))
      throw new IguanaError('IGU_WASM_SNAPSHOT', {
        what: 'created or restored',
        why: 'the module imports a memory or a table, which is the host’s',
        fix: 'link the module with a memory of its own',
      });
    const image = initialImageOf(this.#compiled, this.#imports);
    if (!kinds.has('global')) images.set(module, image);
    return image;
  }

  #assertAtRest(what: 'created' | 'restored'): void {
    if (this.#depth > 0)
      throw new IguanaError('IGU_WASM_SNAPSHOT', { what, why: 'a call is running', fix: 'wait until it has ended' });
  }

  #gone(why: string): IguanaError {
    return new IguanaError('IGU_WASM_LOST', { instance: `of module ${this.module.id.slice(0, 12)}`, why });
  }

  #checkMetered(limits: EffectiveLimits): void {
    if (limits.maxInstructions !== undefined) this.#assertMetered('maxInstructions');
  }

  #assertMetered(what: string): void {
    if (this.module.metered) return;
    throw new IguanaError('IGU_WASM_UNSUPPORTED', {
      what,
      where: ' for a module that is not metered',
      fix: 'make the instance metered',
    });
  }
}

const DESTROYED = 'it was destroyed';

const ownPages = ({ info }: PreparedModule): number =>
  info.memories.filter(({ imported }) => !imported).reduce((sum, { min }) => sum + min, 0);

const pagesOf = (snapshot: Snapshot): number => snapshot.memories.reduce((sum, { size }) => sum + size, 0);

function isPriced(value: HostFunction | object): value is { call: RawFunction; gas: number } {
  return typeof value !== 'function' && 'call' in value && 'gas' in value && typeof value.call === 'function';
}
