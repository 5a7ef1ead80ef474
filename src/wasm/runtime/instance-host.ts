import { pathToFileURL } from 'node:url';
import { IguanaError, messageOf } from '../../errors.js';
import { contentHash } from '../aot/blob-store.js';
import { type AheadResult, CodeCache } from '../aot/v8-code-cache.js';
import type { CompiledModule, Engine, EngineName, Tier } from '../engines/engine.js';
import { NativeEngine } from '../engines/native.js';
import { openEngine } from '../engines/open-engine.js';
import type { PreparedModule } from '../module/prepared.js';
import type { Snapshot } from '../snapshot/snapshot.js';
import { type GuestOutput, type GuestWasi, makeWasi, wasiModulesOf } from './guest-wasi.js';
import { type GasUsed, Instance, type UserImports } from './instance.js';
import { PreparedStore } from './prepared-store.js';
import type { EffectiveLimits, ResourceLimits } from './resource-limits.js';
import { type AccountShare, TenantAccount } from './tenant-account.js';
import type { TypedValue } from './values.js';

/** What a new instance is made of, as plain data. */
export interface InstanceSpec {
  readonly id: string;
  /** Key of a module the host was given. */
  readonly module: string;
  readonly engine: EngineName;
  readonly tier?: Tier;
  readonly limits: ResourceLimits;
  readonly gas?: number;
  /** False: a small gas limit ends every call, nothing else needs to. Default true. */
  readonly stoppable?: boolean;
  readonly afterTrap?: 'keep' | 'refuse';
  /** File whose default export gives the imports, or a function of the instance that does. */
  readonly importsFrom?: string;
  readonly tenant?: AccountShare;
  readonly snapshot?: Snapshot;
  readonly wasi?: GuestWasi;
}

/** What an instance is and does. */
export interface InstanceInfo {
  readonly id: string;
  /** The engine that really runs it, with its version and what it itself runs on. */
  readonly engine: EngineName;
  readonly version: string;
  readonly host: 'native' | 'v8';
  readonly tier: Tier;
  /** What the engine can run. */
  readonly features: readonly string[];
  readonly limits: EffectiveLimits;
  readonly gasUsed: GasUsed;
  readonly memoryBytes: number;
  readonly calls: number;
  readonly traps: number;
}

export interface CallOutcome {
  readonly results: TypedValue[];
  readonly gasUsed: GasUsed;
}

interface Held {
  readonly instance: Instance;
  readonly engine: Engine;
}

/** The instances of one thread, by id: the same in place and inside a worker thread. */
export class InstanceHost {
  /** By name, and apart those that cannot be stopped though they could be. */
  readonly #engines = new Map<string, Promise<Engine>>();
  readonly #modules = new Map<string, PreparedModule>();
  readonly #compiled = new Map<string, CompiledModule>();
  readonly #instances = new Map<string, Held>();
  readonly #cache: CodeCache | undefined;
  /** Absent without a directory for code. */
  readonly preparedStore: PreparedStore | undefined;

  /** @param codeDirectory where machine code is kept between processes, default nowhere. @throws IguanaError `IGU_WASM_CACHE` */
  constructor(codeDirectory?: string) {
    this.#cache = codeDirectory === undefined ? undefined : new CodeCache(codeDirectory);
    this.preparedStore = this.#cache && new PreparedStore(this.#cache.blobs);
  }

  /** Compiles for the native engine's tier `optimised` in another process. @throws IguanaError `IGU_USAGE` without a directory; as `CodeCache.compileAhead` */
  async compileAhead(module: PreparedModule): Promise<AheadResult> {
    if (!this.#cache)
      throw new IguanaError('IGU_USAGE', { what: 'the runtime has no directory for code: give codeCache' });
    return this.#cache.compileAhead(module);
  }

  addModule(key: string, module: PreparedModule): void {
    this.#modules.set(key, module);
  }

  removeModule(key: string): void {
    this.#modules.delete(key);
    for (const [name, compiled] of this.#compiled) {
      if (!name.endsWith(` ${key}`)) continue;
      compiled.close();
      this.#compiled.delete(name);
    }
  }

  /**
   * What creating needs and takes its time; done before when the start function is timed.
   * @returns how another thread stops a call, see `Engine.stopper`
   * @throws as `openEngine` and `Engine.compile`
   */
  async compile(spec: InstanceSpec): Promise<Engine['stopper']> {
    const engine = await this.#engine(spec);
    this.#compile(engine, spec);
    return engine.stopper;
  }

  /** @throws as `openEngine`, `Engine.compile` and `Instance`; `IGU_CONFIG` when `importsFrom` cannot be loaded. */
  async create(
    spec: InstanceSpec,
    imports?: UserImports | ((instance: Instance) => UserImports),
  ): Promise<InstanceInfo> {
    const engine = await this.#engine(spec);
    const given = spec.importsFrom === undefined ? imports : await importedFrom(spec.importsFrom);
    const compiled = this.#compile(engine, spec);
    const tenant = spec.tenant && TenantAccount.of(spec.tenant);
    const wasi = spec.wasi && wasiModulesOf(compiled.module.info).length > 0 ? makeWasi(spec.wasi) : undefined;
    const instance = new Instance(compiled, {
      limits: spec.limits,
      viewsDetach: engine.description.name === 'native',
      ...(wasi && { wasi }),
      ...(given && { imports: given }),
      ...(spec.snapshot && { snapshot: spec.snapshot }),
      ...(spec.gas !== undefined && { gas: spec.gas }),
      ...(spec.afterTrap && { afterTrap: spec.afterTrap }),
      ...(tenant && { tenant }),
    });
    this.#instances.set(spec.id, { instance, engine });
    return this.info(spec.id);
  }

  /** @throws IguanaError `IGU_WASM_NOT_FOUND` */
  instance(id: string): Instance {
    return this.#held(id).instance;
  }

  call(id: string, name: string, args: readonly TypedValue[], timeoutMs?: number): CallOutcome {
    const { instance } = this.#held(id);
    return { results: instance.call(name, args, timeoutMs), gasUsed: instance.getGasUsed() };
  }

  info(id: string): InstanceInfo {
    const { instance, engine } = this.#held(id);
    const { name, version, host, features } = engine.description;
    return {
      id,
      engine: name,
      version,
      host,
      tier: instance.compiled.tier,
      features,
      limits: instance.limits,
      gasUsed: instance.getGasUsed(),
      memoryBytes: instance.memoryBytes,
      ...instance.counts,
    };
  }

  readMemory(id: string, memory: string, offset: number, length: number): Uint8Array<ArrayBuffer> {
    const bytes = this.#held(id).instance.memory(memory);
    checkRange(offset, length, bytes.length);
    return new Uint8Array(bytes.subarray(offset, offset + length));
  }

  writeMemory(id: string, memory: string, offset: number, data: Uint8Array): void {
    const bytes = this.#held(id).instance.memory(memory);
    checkRange(offset, data.length, bytes.length);
    bytes.set(data, offset);
  }

  /** @throws IguanaError `IGU_WASM_SNAPSHOT` */
  snapshot(id: string): Snapshot {
    return this.#held(id).instance.snapshot();
  }

  /** @throws as `Instance.restore` */
  restore(id: string, snapshot: Snapshot): void {
    this.#held(id).instance.restore(snapshot);
  }

  output(id: string): GuestOutput {
    return this.#held(id).instance.output();
  }

  destroy(id: string): void {
    this.#held(id).instance.close();
    this.#instances.delete(id);
  }

  get count(): number {
    return this.#instances.size;
  }

  async close(): Promise<void> {
    for (const id of [...this.#instances.keys()]) this.destroy(id);
    for (const compiled of this.#compiled.values()) compiled.close();
    for (const engine of this.#engines.values()) (await engine).close();
    this.#engines.clear();
    this.#compiled.clear();
    this.#modules.clear();
  }

  #held(id: string): Held {
    const held = this.#instances.get(id);
    if (!held) throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'instance', name: id, of: '' });
    return held;
  }

  #engine({ engine: name, stoppable = true }: InstanceSpec): Promise<Engine> {
    const key = engineKey(name, stoppable);
    let engine = this.#engines.get(key);
    if (!engine) {
      engine = name === 'native' ? Promise.resolve(new NativeEngine(this.#cache)) : openEngine(name, { stoppable });
      this.#engines.set(key, engine);
      // one that is not there may be installed meanwhile
      engine.catch(() => this.#engines.delete(key));
    }
    return engine;
  }

  #compile(engine: Engine, { module: key, tier, stoppable = true }: InstanceSpec): CompiledModule {
    const module = this.#modules.get(key);
    if (!module) throw new IguanaError('IGU_WASM_NOT_FOUND', { kind: 'module', name: key, of: '' });
    const { name: engineName, tiers } = engine.description;
    const name = `${engineKey(engineName, stoppable)} ${tier ?? tiers[0]} ${key}`;
    let compiled = this.#compiled.get(name);
    if (!compiled) {
      compiled = this.#compileOrLoad(engine, stoppable, module, tier);
      this.#compiled.set(name, compiled);
    }
    return compiled;
  }

  /** Engines that give their machine code away get it back in a later process. The native engine asks the cache itself. */
  #compileOrLoad(
    engine: Engine,
    stoppable: boolean,
    module: PreparedModule,
    tier = engine.description.tiers[0]!,
  ): CompiledModule {
    if (!this.#cache || !engine.load) return engine.compile(module, tier);
    const { name, version } = engine.description;
    const content = contentHash(module.bytes);
    const identity = {
      kind: 'cwasm',
      engine: `${name} ${version}`,
      flags: engineKey(tier, stoppable),
      content,
    } as const;
    const { blobs } = this.#cache;
    const kept = blobs.get(identity).found;
    const loaded = kept && engine.load(module, new Uint8Array(kept), tier);
    if (loaded) return loaded;
    const compiled = engine.compile(module, tier);
    try {
      if (compiled.serialize) blobs.put(identity, compiled.serialize());
    } catch (error) {
      // the module runs all the same; the next process compiles again
      process.emitWarning(messageOf(error));
    }
    return compiled;
  }
}

const engineKey = (name: string, stoppable: boolean): string => (stoppable ? name : `${name} by gas`);

function checkRange(offset: number, length: number, size: number): void {
  const whole = Number.isInteger(offset) && Number.isInteger(length) && offset >= 0 && length >= 0;
  if (whole && offset + length <= size) return;
  throw new IguanaError('IGU_USAGE', { what: `bytes ${offset} to ${offset + length} are not in a memory of ${size}` });
}

/** @throws IguanaError `IGU_CONFIG` */
async function importedFrom(file: string): Promise<UserImports | ((instance: Instance) => UserImports)> {
  const url = file.startsWith('file:') ? file : pathToFileURL(file).href;
  try {
    const { default: given } = (await import(url)) as { default: UserImports | ((instance: Instance) => UserImports) };
    if (given === undefined || given === null) throw new Error('it has no default export');
    return given;
  } catch (error) {
    const fix = 'give a file that exports import module → name → function, or a function that returns them, as default';
    throw new IguanaError('IGU_CONFIG', { where: file, what: messageOf(error), fix }, { cause: error });
  }
}
