/**
 * Modules and instances behind plain-data handles, in place or in a pool of worker threads. One file because loading, placing, calling, losing and
 * bringing back an instance all work on the same record of it.
 */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { IguanaError } from '../../errors.js';
import { wasmRuntimeLimits } from '../../limits.js';
import type { AheadResult } from '../aot/v8-code-cache.js';
import type { Engine, EngineName, Tier } from '../engines/engine.js';
import { engineNames } from '../engines/open-engine.js';
import { inspectModule, prepareModule } from '../module/prepare.js';
import type { PreparedModule, PrepareOptions } from '../module/prepared.js';
import type { Snapshot } from '../snapshot/snapshot.js';
import { type ExportInfo, type ImportInfo, type ModuleInfo, PAGE_BYTES } from '../types.js';
import { WasiExit } from '../wasi/wasi-error.js';
import type { GuestOutput, GuestWasi } from './guest-wasi.js';
import type { GasUsed, Instance, UserImports } from './instance.js';
import { type CallOutcome, InstanceHost, type InstanceInfo, type InstanceSpec } from './instance-host.js';
import { fromPlain } from './plain-errors.js';
import { checkModuleSize, readModule } from './read-module.js';
import type { Created, FailedCall, Request, WorkerOptions } from './requests.js';
import { effectiveLimits, type ResourceLimits, wholeWithin } from './resource-limits.js';
import { TenantAccount } from './tenant-account.js';
import type { TypedValue } from './values.js';
import { type ThreadEnd, WorkerThread } from './worker-thread.js';

export type Placement = 'worker' | 'in-place';

export interface RuntimeOptions {
  /** Most worker threads; started when instances need them. Default: as many as processors, at most 4. */
  readonly workers?: number;
  /** Most live instances, default 10,000. */
  readonly maxInstances?: number;
  /** Most loaded modules, default 1,024. */
  readonly maxModules?: number;
  /** Bytes of all modules as engines get them, default 512 MiB. */
  readonly maxCodeBytes?: number;
  /** Memory of all instances of one tenant, bytes, default 4 GiB. */
  readonly maxTenantMemory?: number;
  /** Directory of this user for metered modules and machine code that later processes begin with, default none: see `compileAhead`, and `CodeCache` for trust. */
  readonly codeCache?: string;
}

/** A loaded module. `id` is the SHA-256 of its bytes: the same module loaded twice is the same. */
export interface ModuleHandle {
  readonly id: string;
  /** Bytes. */
  readonly size: number;
  readonly exports: readonly ExportInfo[];
  readonly imports: readonly ImportInfo[];
  /** In bytes, imported memories first. */
  readonly memory: readonly { readonly initial: number; readonly maximum?: number }[];
  /** What an engine must be able to run, by the proposals' names. */
  readonly features: readonly string[];
  /** Functions with a body. */
  readonly functions: number;
  /** Runs code when an instance is made. */
  readonly hasStart: boolean;
}

export interface CreateOptions {
  readonly moduleId: string;
  /** Engine, default `native`. Those that are native libraries run in worker threads only. */
  readonly runtime?: EngineName;
  /** Default: the engine's first. */
  readonly tier?: Tier;
  /** `worker` (default): in a thread of the pool, where an endless loop stops nobody else; `in-place`: on this thread, where a call costs least. */
  readonly placement?: Placement;
  readonly limits?: ResourceLimits;
  /** As `setGasLimit`, but the start function counts too. */
  readonly gas?: number;
  /** Whose memory it is, default `default`. */
  readonly tenant?: string;
  /** Functions of the host, in place only: functions cannot cross threads. */
  readonly imports?: UserImports | ((instance: Instance) => UserImports);
  /** JavaScript file whose default export is such imports; for both placements. */
  readonly importsFrom?: string;
  readonly afterTrap?: 'keep' | 'refuse';
  /** Count gas and stack, default true. An instance that is not metered has no gas limit and no stack of its own. */
  readonly metered?: boolean;
  /** State to begin with instead of running the start function. */
  readonly snapshot?: Snapshot;
  /** What WASI gives the guest: arguments, environment, directories, streams. A module that imports WASI is refused without it; `{}` gives nothing. */
  readonly wasi?: GuestWasi;
}

export interface InstanceHandle {
  readonly id: string;
  readonly moduleId: string;
  readonly runtime: EngineName;
  readonly version: string;
  readonly tier: Tier;
  readonly placement: Placement;
  readonly tenant: string;
}

export interface RuntimeStats {
  readonly modules: number;
  readonly codeBytes: number;
  readonly instances: number;
  readonly byPlacement: Readonly<Record<Placement, number>>;
  readonly byEngine: Readonly<Partial<Record<EngineName, number>>>;
  readonly workers: number;
  readonly waitingCalls: number;
  readonly calls: number;
  readonly failedCalls: number;
  /** Worker threads that had to be ended, and what became of their instances. */
  readonly workersEnded: number;
  readonly lost: number;
  readonly restored: number;
  /** Bytes in use by tenant. */
  readonly tenants: Readonly<Record<string, number>>;
}

interface LoadedModule {
  readonly handle: ModuleHandle;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly info: ModuleInfo;
  instances: number;
}

interface Held {
  readonly handle: InstanceHandle;
  readonly key: string;
  readonly prepare: PrepareOptions;
  readonly spec: InstanceSpec;
  limits: ResourceLimits;
  /** See `Engine.stopper`; of the thread that it is in. */
  stopper: Engine['stopper'];
  /** Absent: in place. */
  thread: WorkerThread | undefined;
  /** Why it is not there any more. */
  lost: string | undefined;
  /** The newest that was taken of it or put into it. */
  snapshot: Snapshot | undefined;
  /** Used in threads that are gone. */
  gasBefore: number;
  gas: GasUsed;
  bringingBack: Promise<WorkerThread> | undefined;
}

/** Handles are plain data; an id alone will do. */
export type InstanceRef = InstanceHandle | string;

/**
 * The WebAssembly runtime of one process.
 *
 * A call in a worker thread that does not end within its timeout is stopped: where other instances live in the thread by interrupting just it (about 100 µs
 * a call), else by ending the thread. Instances of a thread that ended come back from their newest snapshot at the next call; those without one answer
 * `IGU_WASM_LOST`.
 */
export class WasmRuntime {
  readonly #options: Required<Omit<RuntimeOptions, 'codeCache'>>;
  readonly #modules = new Map<string, LoadedModule>();
  /** Least recently used first. */
  readonly #prepared = new Map<string, PreparedModule>();
  readonly #preparing = new Map<string, Promise<PreparedModule>>();
  readonly #instances = new Map<string, Held>();
  readonly #tenants = new Map<string, TenantAccount>();
  readonly #threads = new Set<WorkerThread>();
  readonly #local: InstanceHost;
  readonly #workerOptions: WorkerOptions;
  #codeBytes = 0;
  #numbers = 0;
  /** Modules of the instances that are being made, by instance. */
  readonly #making = new Map<string, string>();
  #keptBytes = 0;
  #calls = 0;
  #failedCalls = 0;
  #workersEnded = 0;
  #lost = 0;
  #restored = 0;
  #closed = false;

  constructor(options: RuntimeOptions = {}) {
    this.#options = {
      workers: Math.min(options.workers ?? Math.min(4, availableParallelism()), wasmRuntimeLimits.maxWorkers),
      maxInstances: options.maxInstances ?? wasmRuntimeLimits.maxInstances,
      maxModules: options.maxModules ?? wasmRuntimeLimits.maxModules,
      maxCodeBytes: options.maxCodeBytes ?? wasmRuntimeLimits.maxCodeBytes,
      maxTenantMemory: options.maxTenantMemory ?? wasmRuntimeLimits.defaultMaxTenantMemory,
    };
    this.#workerOptions = options.codeCache === undefined ? {} : { codeDirectory: options.codeCache };
    this.#local = new InstanceHost(options.codeCache);
    for (const name of ['maxInstances', 'maxModules', 'maxCodeBytes', 'maxTenantMemory'] as const)
      wholeWithin(name, this.#options[name], Number.MAX_SAFE_INTEGER);
    if (!(this.#options.workers >= 1)) throw new IguanaError('IGU_USAGE', { what: 'workers must be 1 or more' });
  }

  /**
   * Reads, checks and meters a module. Cost: about 100 ms a MB, once for the same bytes; larger ones are metered in a worker thread. With `codeCache` an earlier
   * process has paid it.
   * @param metered false when instances will not be: the metered form is left for when it is asked for
   * @throws IguanaError `IGU_FILE_MISSING`, `IGU_WASM_MALFORMED`, `IGU_WASM_UNSUPPORTED`, `IGU_WASM_LIMIT`
   */
  async loadModule(
    source: string | URL | Uint8Array,
    { metered = true }: { readonly metered?: boolean } = {},
  ): Promise<ModuleHandle> {
    this.#assertOpen();
    const bytes = source instanceof Uint8Array ? new Uint8Array(source) : await readModule(source);
    const id = createHash('sha256').update(bytes).digest('hex');
    const known = this.#modules.get(id);
    if (known) return known.handle;
    this.#checkRoom(bytes.length);
    const info = await this.#examine(id, bytes, metered);
    const again = this.#modules.get(id);
    if (again) return again.handle;
    const handle: ModuleHandle = {
      id,
      size: bytes.length,
      exports: info.exports,
      imports: info.imports,
      memory: info.memories.map(({ min, max }) => ({
        initial: min * PAGE_BYTES,
        ...(max !== undefined && { maximum: max * PAGE_BYTES }),
      })),
      features: info.features,
      functions: info.functionCount,
      hasStart: info.hasStart,
    };
    this.#modules.set(id, { handle, bytes, info, instances: 0 });
    this.#codeBytes += bytes.length;
    return handle;
  }

  /** Lets go of a module. @throws IguanaError `IGU_WASM_NOT_FOUND`; `IGU_USAGE` while instances of it live */
  unloadModule(id: string): void {
    const module = this.#module(id);
    if (module.instances > 0)
      throw new IguanaError('IGU_USAGE', { what: `module ${id.slice(0, 12)} has ${module.instances} instances` });
    this.#modules.delete(id);
    this.#codeBytes -= module.bytes.length;
    for (const key of [...this.#prepared.keys()]) if (key.startsWith(id)) this.#forget(key);
  }

  /**
   * Optimises a module for the native engine in another process and keeps the code in `codeCache`: instances of the tier `optimised` begin at full speed then,
   * in this and later processes. Wasmtime's code is kept there by itself. Cost: 1 to 2 s of another processor a MB, nothing when it is there.
   * @throws IguanaError `IGU_USAGE` without `codeCache`, `IGU_WASM_NOT_FOUND`; as `CodeCache.compileAhead`
   */
  async compileAhead(
    moduleId: string,
    { limits = {}, metered = true }: Pick<CreateOptions, 'limits' | 'metered'> = {},
  ): Promise<AheadResult> {
    this.#assertOpen();
    const { bytes } = this.#module(moduleId);
    return this.#local.compileAhead(await this.#prepare(moduleId, bytes, prepareOptionsOf(limits, metered)));
  }

  /**
   * Makes an instance and runs its start function. Cost: 10 to 50 µs in place, about 0.1 ms in a thread; the first thread takes about 30 ms to start.
   * @throws IguanaError `IGU_WASM_NOT_FOUND` for the module, `IGU_WASM_LIMIT` at a wall, `IGU_WASM_ENGINE_MISSING`, `IGU_WASM_LINK`, `IGU_WASM_UNSUPPORTED`;
   * WasmTrap of the start function
   */
  async createInstance(options: CreateOptions): Promise<InstanceHandle> {
    this.#assertOpen();
    const module = this.#module(options.moduleId);
    const { placement = 'worker', runtime = 'native', tenant = 'default', metered = true, limits = {} } = options;
    for (const [what, given, known] of [
      ['runtime', runtime, engineNames],
      ['placement', placement, ['worker', 'in-place']],
    ] as const)
      if (!(known as readonly string[]).includes(given))
        throw new IguanaError('IGU_USAGE', { what: `${what} must be one of ${known.join(', ')}, not ${given}` });
    if (placement === 'worker' && options.imports)
      throw new IguanaError('IGU_USAGE', {
        what: 'functions cannot be given to a worker thread: use importsFrom, or placement in-place',
      });
    if (this.#instances.size + this.#making.size >= this.#options.maxInstances)
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: 'number of instances',
        value: this.#instances.size + this.#making.size + 1,
        limit: this.#options.maxInstances,
        fix: 'destroy instances that are not used any more',
      });
    const prepare = prepareOptionsOf(limits, metered);
    const key = keyOf(options.moduleId, prepare);
    const account = this.#tenant(tenant);
    const spec: InstanceSpec = {
      id: `${options.moduleId.slice(0, 8)}-${++this.#numbers}`,
      module: key,
      engine: runtime,
      limits,
      ...(options.tier && { tier: options.tier }),
      ...(options.gas !== undefined && { gas: options.gas }),
      ...(endedByGas(runtime, limits, options.gas) && { stoppable: false }),
      ...(options.afterTrap && { afterTrap: options.afterTrap }),
      ...(options.importsFrom !== undefined && { importsFrom: options.importsFrom }),
      ...(options.snapshot && { snapshot: options.snapshot }),
      ...(options.wasi && { wasi: options.wasi }),
    };
    this.#making.set(spec.id, key);
    module.instances++;
    try {
      const { thread, info, stopper } =
        placement === 'worker'
          ? await this.#createInThread(spec, module, prepare, account)
          : {
              thread: undefined,
              info: await this.#createHere(spec, module, prepare, account, options.imports),
              stopper: undefined,
            };
      const handle: InstanceHandle = {
        id: spec.id,
        moduleId: options.moduleId,
        runtime: info.engine,
        version: info.version,
        tier: info.tier,
        placement,
        tenant,
      };
      const held: Held = {
        handle,
        key,
        prepare,
        spec,
        limits,
        stopper,
        thread,
        lost: thread?.ended ? 'its worker thread ended' : undefined,
        snapshot: undefined,
        gasBefore: 0,
        gas: info.gasUsed,
        bringingBack: undefined,
      };
      this.#instances.set(spec.id, held);
      if (placement === 'worker') this.#keep(held, options.snapshot);
      return handle;
    } catch (error) {
      module.instances--;
      throw error;
    } finally {
      this.#making.delete(spec.id);
    }
  }

  /**
   * Calls an exported function. Cost beside the call: well under 1 µs and a promise in place, about 0.1 ms to a thread and back.
   * @throws IguanaError `IGU_WASM_NOT_FOUND`, `IGU_WASM_SIGNATURE`, `IGU_WASM_LOST`; WasmTrap
   */
  async callFunction(ref: InstanceRef, name: string, args: readonly TypedValue[] = []): Promise<TypedValue[]> {
    const held = this.#held(ref);
    this.#calls++;
    try {
      if (held.handle.placement === 'in-place') return this.#local.instance(held.handle.id).call(name, args);
      const thread = await this.#threadOf(held);
      const timeout = held.limits.timeout ?? undefined;
      const shared = timeout !== undefined && held.stopper === undefined && thread.instances.size > 1;
      const request = { op: 'call', id: held.handle.id, name, args, ...(shared && { timeoutMs: timeout }) } as const;
      const outcome = (await thread.request(request, timeout, held.stopper)) as CallOutcome | FailedCall;
      held.gas = outcome.gasUsed;
      if ('error' in outcome) throw fromPlain(outcome.error);
      return outcome.results;
    } catch (error) {
      if (!(error instanceof WasiExit)) this.#failedCalls++;
      throw error;
    }
  }

  /** The instance itself, for calls without promises. @throws IguanaError `IGU_USAGE` when it lives in a worker thread */
  inPlace(ref: InstanceRef): Instance {
    const { handle } = this.#held(ref);
    if (handle.placement === 'in-place') return this.#local.instance(handle.id);
    throw new IguanaError('IGU_USAGE', { what: `instance ${handle.id} lives in a worker thread: use callFunction` });
  }

  /** From the next call on. @throws as `Instance.setResourceLimits` */
  async setResourceLimits(ref: InstanceRef, limits: ResourceLimits): Promise<void> {
    const held = this.#held(ref);
    const { timeout, ...others } = limits;
    const written = (held.prepare.maxMemoryPages ?? 65_536) * PAGE_BYTES;
    if (limits.maxMemory !== undefined && limits.maxMemory > written)
      throw new IguanaError('IGU_USAGE', {
        what: `maxMemory above ${written} bytes is written into the module: give it when the instance is made`,
      });
    if (held.handle.placement === 'in-place') this.#local.instance(held.handle.id).setResourceLimits(limits);
    else {
      effectiveLimits(limits);
      assertStillBounded(held, { ...held.limits, ...limits }, held.gas.left);
      await this.#ask(held, { op: 'limits', limits: others });
    }
    held.limits = { ...held.limits, ...others, ...(timeout !== undefined && { timeout }) };
  }

  /** @param gas units for all calls from now on together; null: no limit */
  async setGasLimit(ref: InstanceRef, gas: number | null): Promise<void> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') this.#local.instance(held.handle.id).setGasLimit(gas);
    else {
      assertStillBounded(held, held.limits, gas ?? undefined);
      await this.#ask(held, { op: 'gas', gas });
      const { left: _, ...used } = held.gas;
      held.gas = gas === null ? used : { ...used, left: gas };
    }
  }

  /** Also of an instance that was lost: what is known of it. */
  async getGasUsed(ref: InstanceRef): Promise<GasUsed> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') return this.#local.instance(held.handle.id).getGasUsed();
    if (held.lost === undefined && held.thread && !held.thread.ended)
      held.gas = ((await this.#ask(held, { op: 'info' })) as InstanceInfo).gasUsed;
    return { ...held.gas, total: held.gasBefore + held.gas.total };
  }

  async info(ref: InstanceRef): Promise<InstanceInfo> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') return this.#local.info(held.handle.id);
    const info = (await this.#ask(held, { op: 'info' })) as InstanceInfo;
    const limits = effectiveLimits({ timeout: held.limits.timeout ?? null }, info.limits);
    return { ...info, limits, gasUsed: { ...info.gasUsed, total: held.gasBefore + info.gasUsed.total } };
  }

  /** A copy of bytes of an exported memory. @throws IguanaError `IGU_USAGE` outside of it, `IGU_WASM_NOT_FOUND` */
  async readMemory(ref: InstanceRef, offset: number, length: number, memory = 'memory'): Promise<Uint8Array> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') return this.#local.readMemory(held.handle.id, memory, offset, length);
    return (await this.#ask(held, { op: 'read', memory, offset, length })) as Uint8Array;
  }

  async writeMemory(ref: InstanceRef, offset: number, data: Uint8Array, memory = 'memory'): Promise<void> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') this.#local.writeMemory(held.handle.id, memory, offset, data);
    else await this.#ask(held, { op: 'write', memory, offset, data });
  }

  /** What the guest wrote to captured streams so far. */
  async output(ref: InstanceRef): Promise<GuestOutput> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') return this.#local.output(held.handle.id);
    return (await this.#ask(held, { op: 'output' })) as GuestOutput;
  }

  /** The state between two calls, plain data. It is kept to bring the instance back should its thread be lost. @throws IguanaError `IGU_WASM_SNAPSHOT` */
  async snapshotCreate(ref: InstanceRef): Promise<Snapshot> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') return this.#local.snapshot(held.handle.id);
    const snapshot = (await this.#ask(held, { op: 'snapshot' })) as Snapshot;
    this.#keep(held, snapshot);
    return snapshot;
  }

  /** Puts an instance of the same module into that state. One that was lost comes back by it. @throws IguanaError `IGU_WASM_SNAPSHOT`, `IGU_WASM_LIMIT` */
  async snapshotRestore(ref: InstanceRef, snapshot: Snapshot): Promise<void> {
    const held = this.#held(ref);
    if (held.handle.placement === 'in-place') {
      this.#local.restore(held.handle.id, snapshot);
      return;
    }
    if (held.lost === undefined) await this.#ask(held, { op: 'restore', snapshot });
    this.#keep(held, snapshot);
    if (held.lost !== undefined) await this.#threadOf(held);
  }

  /**
   * Ends the call that an instance in a worker thread is running now, as its timeout would; others that live in a thread that has to be ended come back from
   * their snapshots.
   * @returns false when none runs, or on an engine that only gas stops
   */
  async interrupt(ref: InstanceRef): Promise<boolean> {
    const { thread, handle } = this.#held(ref);
    return thread !== undefined && (await thread.interrupt(handle.id));
  }

  /** Ends an instance; its handle means nothing any more. @throws IguanaError `IGU_WASM_NOT_FOUND` */
  async destroy(ref: InstanceRef): Promise<void> {
    const held = this.#held(ref);
    const { id, moduleId } = held.handle;
    this.#keep(held, undefined);
    this.#instances.delete(id);
    const module = this.#modules.get(moduleId);
    if (module) module.instances--;
    if (held.handle.placement === 'in-place') {
      this.#local.destroy(id);
      return;
    }
    // what is coming back meanwhile is ended too
    await held.bringingBack?.catch(() => undefined);
    const { thread } = held;
    if (!thread || thread.ended || held.lost !== undefined) return;
    try {
      await thread.request({ op: 'destroy', id });
    } catch (error) {
      // a thread that ended meanwhile has destroyed it too
      if (!(error instanceof IguanaError && error.code === 'IGU_WASM_LOST')) throw error;
    } finally {
      thread.instances.delete(id);
    }
  }

  instances(): readonly InstanceHandle[] {
    return [...this.#instances.values()].map(({ handle }) => handle);
  }

  stats(): RuntimeStats {
    const byPlacement: Record<Placement, number> = { worker: 0, 'in-place': 0 };
    const byEngine: Partial<Record<EngineName, number>> = {};
    for (const { handle } of this.#instances.values()) {
      byPlacement[handle.placement]++;
      byEngine[handle.runtime] = (byEngine[handle.runtime] ?? 0) + 1;
    }
    return {
      modules: this.#modules.size,
      codeBytes: this.#codeBytes,
      instances: this.#instances.size,
      byPlacement,
      byEngine,
      workers: this.#threads.size,
      waitingCalls: [...this.#threads].reduce((sum, { waiting }) => sum + waiting, 0),
      calls: this.#calls,
      failedCalls: this.#failedCalls,
      workersEnded: this.#workersEnded,
      lost: this.#lost,
      restored: this.#restored,
      tenants: Object.fromEntries([...this.#tenants].map(([name, { usedBytes }]) => [name, usedBytes])),
    };
  }

  /** Ends all instances and threads, whatever runs. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#threads].map((thread) => thread.stop('the runtime was closed')));
    await this.#local.close();
    this.#instances.clear();
    this.#keptBytes = 0;
    this.#modules.clear();
    this.#prepared.clear();
    this.#codeBytes = 0;
  }

  async #examine(id: string, bytes: Uint8Array<ArrayBuffer>, metered: boolean): Promise<ModuleInfo> {
    const options = prepareOptionsOf({}, metered);
    try {
      return (await this.#prepare(id, bytes, options)).info;
    } catch (error) {
      // it may still run unmetered, or with higher limits: creating an instance tells
      if (error instanceof IguanaError && (error.code === 'IGU_WASM_UNSUPPORTED' || error.code === 'IGU_WASM_LIMIT'))
        return inspectModule(bytes);
      throw error;
    }
  }

  async #prepare(id: string, bytes: Uint8Array<ArrayBuffer>, options: PrepareOptions): Promise<PreparedModule> {
    const key = keyOf(id, options);
    const known = this.#prepared.get(key);
    if (known) {
      this.#prepared.delete(key);
      this.#prepared.set(key, known);
      return known;
    }
    const under = this.#preparing.get(key);
    if (under) return under;
    const making = this.#make(id, key, bytes, options);
    this.#preparing.set(key, making);
    try {
      const prepared = await making;
      this.#makeRoomFor(prepared.bytes.length);
      this.#prepared.set(key, prepared);
      this.#codeBytes += prepared.bytes.length;
      return prepared;
    } finally {
      this.#preparing.delete(key);
    }
  }

  async #make(
    id: string,
    key: string,
    bytes: Uint8Array<ArrayBuffer>,
    options: PrepareOptions,
  ): Promise<PreparedModule> {
    const store = this.#local.preparedStore;
    const kept = store?.get(id, key);
    if (kept) return kept;
    const made =
      bytes.length <= wasmRuntimeLimits.meteredInPlaceBytes
        ? prepareModule(bytes, options)
        : ((await this.#thread().request({ op: 'prepare', bytes, options })) as PreparedModule);
    store?.put(id, key, made);
    return made;
  }

  /** Metered forms can be made again: those that no instance needs go first. @throws IguanaError `IGU_WASM_LIMIT` */
  #makeRoomFor(bytes: number): void {
    const used = new Set([...[...this.#instances.values()].map(({ key }) => key), ...this.#making.values()]);
    for (const key of [...this.#prepared.keys()]) {
      if (this.#prepared.size < wasmRuntimeLimits.maxPrepared && this.#codeBytes + bytes <= this.#options.maxCodeBytes)
        return;
      if (!used.has(key)) this.#forget(key);
    }
    if (this.#codeBytes + bytes > this.#options.maxCodeBytes) throw this.#noRoom(bytes);
  }

  #forget(key: string): void {
    const prepared = this.#prepared.get(key);
    if (!prepared) return;
    this.#prepared.delete(key);
    this.#codeBytes -= prepared.bytes.length;
    this.#local.removeModule(key);
    for (const thread of this.#threads) {
      if (!thread.modules.delete(key)) continue;
      // nothing to tell when the thread ends meanwhile: the module goes with it
      thread.request({ op: 'remove-module', key }).catch(() => undefined);
    }
  }

  #checkRoom(bytes: number): void {
    checkModuleSize(bytes);
    if (this.#modules.size >= this.#options.maxModules)
      throw new IguanaError('IGU_WASM_LIMIT', {
        what: 'number of loaded modules',
        value: this.#modules.size + 1,
        limit: this.#options.maxModules,
        fix: 'unload modules that are not used any more',
      });
    if (this.#codeBytes + bytes > this.#options.maxCodeBytes) throw this.#noRoom(bytes);
  }

  #noRoom(bytes: number): IguanaError {
    return new IguanaError('IGU_WASM_LIMIT', {
      what: 'code of all modules',
      value: `${this.#codeBytes + bytes} bytes`,
      limit: `${this.#options.maxCodeBytes} bytes`,
      fix: 'unload modules that are not used any more, or raise maxCodeBytes',
    });
  }

  async #createHere(
    spec: InstanceSpec,
    module: LoadedModule,
    prepare: PrepareOptions,
    account: TenantAccount,
    imports: CreateOptions['imports'],
  ): Promise<InstanceInfo> {
    this.#local.addModule(spec.module, await this.#prepare(module.handle.id, module.bytes, prepare));
    return this.#local.create({ ...spec, tenant: account.share }, imports);
  }

  async #createInThread(
    spec: InstanceSpec,
    module: LoadedModule,
    prepare: PrepareOptions,
    account: TenantAccount,
  ): Promise<Created & { thread: WorkerThread }> {
    const prepared = await this.#prepare(module.handle.id, module.bytes, prepare);
    const thread = this.#thread();
    thread.instances.add(spec.id);
    try {
      if (!thread.modules.has(spec.module)) {
        // in order: what is asked of the thread from now on finds it there
        const added = thread.request({ op: 'add-module', key: spec.module, module: prepared });
        thread.modules.add(spec.module);
        await added.catch((error: unknown) => {
          thread.modules.delete(spec.module);
          throw error;
        });
      }
      let share = thread.accounts.get(account.share.name);
      if (share?.share.all !== account.share.all) {
        share = account.forThread();
        thread.accounts.set(account.share.name, share);
      }
      const { timeout, ...limits } = spec.limits;
      const timed = typeof timeout === 'number' && module.info.hasStart && !spec.snapshot ? timeout : undefined;
      const known = (await thread.request({ op: 'compile', spec })) as Engine['stopper'];
      if (known === 'never') assertBounded(spec);
      const shared = timed !== undefined && known === undefined && thread.instances.size > 1;
      const here = shared ? { ...limits, timeout: timed } : limits;
      const request = { op: 'create', spec: { ...spec, limits: here, tenant: share.share } } as const;
      const { info, stopper } = (await thread.request(request, timed, known)) as Created;
      return { thread, info, stopper };
    } catch (error) {
      thread.instances.delete(spec.id);
      throw error;
    }
  }

  /** The thread with the fewest instances; another one while all have some and more may be started. */
  #thread(): WorkerThread {
    this.#assertOpen();
    let best: WorkerThread | undefined;
    for (const thread of this.#threads) {
      if (thread.ended) continue;
      if (!best || thread.instances.size < best.instances.size) best = thread;
    }
    if (best && (best.instances.size === 0 || this.#threads.size >= this.#options.workers)) return best;
    const thread = new WorkerThread(this.#workerOptions, (ended, end) => this.#threadEnded(ended, end));
    this.#threads.add(thread);
    return thread;
  }

  #threadEnded(thread: WorkerThread, { why, culprit }: ThreadEnd): void {
    this.#threads.delete(thread);
    if (this.#closed) return;
    this.#workersEnded++;
    for (const id of thread.instances) {
      const held = this.#instances.get(id);
      if (!held) continue;
      held.lost = id === culprit ? 'its own call did not stop and its worker thread was ended' : why;
      held.thread = undefined;
      // a stopped call costs all it was given
      const given = id === culprit ? Math.min(held.gas.left ?? Infinity, held.limits.maxInstructions ?? Infinity) : 0;
      const charged = Number.isFinite(given) ? given : 0;
      held.gasBefore += held.gas.total + charged;
      held.gas = {
        total: 0,
        lastCall: charged,
        ...(held.gas.left !== undefined && { left: held.gas.left - charged }),
      };
      this.#lost++;
    }
  }

  /** The thread of an instance, which is brought back when its thread was lost. @throws IguanaError `IGU_WASM_LOST` */
  async #threadOf(held: Held): Promise<WorkerThread> {
    if (held.thread && !held.thread.ended && held.lost === undefined) return held.thread;
    held.bringingBack ??= this.#bringBack(held).finally(() => {
      held.bringingBack = undefined;
    });
    return held.bringingBack;
  }

  async #bringBack(held: Held): Promise<WorkerThread> {
    const { snapshot, handle, spec } = held;
    if (!snapshot)
      throw new IguanaError('IGU_WASM_LOST', { instance: handle.id, why: held.lost ?? 'its thread ended' });
    const module = this.#module(handle.moduleId);
    const { prepare } = held;
    const { gas: _, ...made } = spec;
    const { left } = held.gas;
    const again = { ...made, limits: held.limits, snapshot, ...(left !== undefined && { gas: left }) };
    const { thread, stopper } = await this.#createInThread(again, module, prepare, this.#tenant(handle.tenant));
    held.thread = thread;
    held.stopper = stopper;
    held.lost = undefined;
    this.#restored++;
    return thread;
  }

  #keep(held: Held, snapshot: Snapshot | undefined): void {
    // it may have been destroyed while its snapshot was taken
    if (this.#instances.get(held.handle.id) !== held) return;
    this.#keptBytes += bytesOf(snapshot) - bytesOf(held.snapshot);
    held.snapshot = snapshot;
    if (this.#keptBytes <= wasmRuntimeLimits.maxKeptSnapshotBytes) return;
    for (const one of this.#instances.values()) {
      if (one === held || !one.snapshot) continue;
      this.#keep(one, undefined);
      if (this.#keptBytes <= wasmRuntimeLimits.maxKeptSnapshotBytes) return;
    }
  }

  async #ask(held: Held, request: OwnRequest): Promise<unknown> {
    const thread = await this.#threadOf(held);
    return thread.request({ ...request, id: held.handle.id });
  }

  #tenant(name: string): TenantAccount {
    let account = this.#tenants.get(name);
    if (!account) {
      if (this.#tenants.size >= wasmRuntimeLimits.maxTenants) this.#forgetTenants();
      account = TenantAccount.create(name, this.#options.maxTenantMemory);
      this.#tenants.set(name, account);
    }
    return account;
  }

  #forgetTenants(): void {
    const used = new Set([...this.#instances.values()].map(({ handle }) => handle.tenant));
    for (const [name, account] of this.#tenants) {
      // instances that are being made or ended hold some too
      if (used.has(name) || account.usedBytes > 0) continue;
      this.#tenants.delete(name);
      for (const thread of this.#threads) thread.accounts.delete(name);
    }
    if (this.#tenants.size < wasmRuntimeLimits.maxTenants) return;
    throw new IguanaError('IGU_WASM_LIMIT', {
      what: 'number of tenants',
      value: this.#tenants.size + 1,
      limit: wasmRuntimeLimits.maxTenants,
      fix: 'destroy the instances of tenants that are gone',
    });
  }

  #module(id: string): LoadedModule {
    const module = this.#modules.get(id);
    if (module) return module;
    throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'module', name: id, of: '' });
  }

  #held(ref: InstanceRef): Held {
    const id = typeof ref === 'string' ? ref : ref.id;
    const held = this.#instances.get(id);
    if (held) return held;
    throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'instance', name: id, of: '' });
  }

  #assertOpen(): void {
    if (this.#closed) throw new IguanaError('IGU_USAGE', { what: 'the runtime was closed' });
  }
}

type OwnRequest = OmitId<Exclude<Request, { op: 'prepare' | 'add-module' | 'remove-module' | 'compile' | 'create' }>>;
type OmitId<T> = T extends unknown ? Omit<T, 'id'> : never;

const bytesOf = (snapshot: Snapshot | undefined): number =>
  (snapshot?.pages.length ?? 0) + (snapshot?.wasi?.length ?? 0);

function prepareOptionsOf(limits: ResourceLimits, metered: boolean): PrepareOptions {
  const { maxMemoryPages, maxTableElements } = effectiveLimits(limits);
  // without the meter nothing asks before memory grows: what is written is what holds
  return { metered, maxMemoryPages: metered ? writtenMaximum(maxMemoryPages) : maxMemoryPages, maxTableElements };
}

/** Steps of powers of two from 256 MiB up, so that instances with other limits share code; what the instance may have is held at each growth. */
function writtenMaximum(pages: number): number {
  const least = wasmRuntimeLimits.defaultMaxMemory / PAGE_BYTES;
  return pages <= least ? least : Math.min(65_536, 2 ** Math.ceil(Math.log2(pages)));
}

function keyOf(id: string, { metered, maxMemoryPages, maxTableElements }: PrepareOptions): string {
  return `${id}:${metered ? 'metered' : 'plain'}:${maxMemoryPages}:${maxTableElements}`;
}

/** Wasmtime's code pays for looking whether it shall stop. */
function endedByGas(engine: EngineName, { timeout, maxInstructions }: ResourceLimits, gas = Infinity): boolean {
  const most = Math.min(maxInstructions ?? Infinity, gas);
  return engine === 'wasmtime' && typeof timeout !== 'number' && most <= wasmRuntimeLimits.maxUnstoppableGas;
}

/** What nothing from outside stops keeps the limits that end it. @throws IguanaError `IGU_WASM_UNSUPPORTED` */
function assertStillBounded({ stopper, spec }: Held, limits: ResourceLimits, gas: number | undefined): void {
  if (stopper !== 'never') return;
  if (spec.stoppable !== false) assertBounded({ ...spec, limits, gas });
  else if (!endedByGas(spec.engine, limits, gas))
    throw new IguanaError('IGU_WASM_UNSUPPORTED', {
      what: `a timeout, or more than ${wasmRuntimeLimits.maxUnstoppableGas} units of gas a call,`,
      where: ` by ${spec.engine} for an instance that was made with a gas limit alone and runs faster for it`,
      fix: 'give the timeout, or the higher limit, when the instance is made',
    });
}

/** Where nothing from outside ends a call, a time limit is only kept with gas. @throws IguanaError `IGU_WASM_UNSUPPORTED` */
function assertBounded({
  engine,
  limits: { timeout, maxInstructions },
  gas,
}: Pick<InstanceSpec, 'engine' | 'limits'> & { readonly gas?: number | undefined }): void {
  if (typeof timeout !== 'number' || typeof maxInstructions === 'number' || gas !== undefined) return;
  throw new IguanaError('IGU_WASM_UNSUPPORTED', {
    what: 'a timeout without a gas limit',
    where: ` by ${engine}, whose code nothing can stop from outside`,
    fix: 'give maxInstructions or gas too, which ends the call there, or use native, wasmtime or wasm3',
  });
}
