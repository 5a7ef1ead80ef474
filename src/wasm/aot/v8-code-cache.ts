import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { IguanaError, messageOf } from '../../errors.js';
import { wasmAotLimits } from '../../limits.js';
import { workerUrl } from '../../worker-url.js';
import type { PreparedModule } from '../module/prepared.js';
import { type BlobIdentity, type BlobMiss, BlobStore, codeDirectory, contentHash } from './blob-store.js';
import { v8State, withNatives } from './v8-natives.js';

/** `refused`: V8 did not take a blob of ours. */
export type CodeCacheMiss = BlobMiss | 'refused';

export interface CodeCacheStats {
  readonly loads: number;
  readonly hits: number;
  /** How often, by reason. */
  readonly misses: Readonly<Partial<Record<CodeCacheMiss, number>>>;
  /** The latest miss in words. */
  readonly lastMiss?: string;
  readonly compiled: number;
  readonly failed: number;
  readonly waiting: number;
  readonly blobs: number;
  readonly bytes: number;
  readonly maxBytes: number;
  readonly evicted: number;
}

export interface AheadResult {
  /** Machine code, bytes. */
  readonly bytes: number;
  /** Time of the whole, ms; 0 when it was there already. */
  readonly tookMs: number;
}

type Source = PreparedModule | Uint8Array<ArrayBuffer>;

/**
 * Optimised machine code of V8 kept between processes. `compileAhead` compiles a module wholly with the optimising compiler in a process of its own, and
 * `load` takes the result back in any later process or thread with the same Node, flags and directory: no compiling, no warming up.
 *
 * A module loaded so is at its best speed from the first call; it is otherwise like one that `new WebAssembly.Module` gives. Its bytes carry one more custom
 * section, the one by which the `native` engine marks the tier `optimised`, since V8 shares code between equal bytes and would else hand out what it compiled
 * lazily before. What does not fit is not used and counted in `stats`; the caller compiles then.
 *
 * Cost: `load` 3 ms of processor time a MB of machine code, which is about three times the module (reading, one HMAC over the code, one hash over the
 * module, V8's relocation): 45 ms for 5 MB, see bench/results/wasm-aot.md; `compileAhead` 1 to 3 s of processor time a MB of module in the other process,
 * one at a time.
 *
 * V8 offers this to its own tests only (`%SerializeWasmModule`); see nodejs/node#36671 for the missing public way. V8 checks its version, the processor's
 * features and the hash of its flags, the latter two are in the blob's name too; the directory's signatures answer for the rest, see `BlobStore`.
 */
export class CodeCache {
  readonly #store: BlobStore;
  readonly #misses: Partial<Record<CodeCacheMiss, number>> = {};
  readonly #running = new Map<string, Promise<AheadResult>>();
  readonly #hashes = new WeakMap<Uint8Array, string>();
  #last: Promise<unknown> = Promise.resolve();
  #lastMiss: string | undefined;
  #loads = 0;
  #hits = 0;
  #compiled = 0;
  #failed = 0;

  /**
   * @param directory of this user only; made when it is not there (default `$XDG_CACHE_HOME/iguana/code`)
   * @param maxBytes of all machine code in it (default 2 GiB)
   * @throws IguanaError `IGU_WASM_CACHE`
   */
  constructor(directory: string = codeDirectory(), maxBytes?: number) {
    this.#store = new BlobStore(directory, maxBytes);
  }

  /** The store, for machine code of other engines. */
  get blobs(): BlobStore {
    return this.#store;
  }

  /**
   * The module with its optimised code, or undefined when there is none that fits. Never throws for what is on the disk.
   */
  load(source: Source): WebAssembly.Module | undefined {
    this.#loads++;
    const bytes = bytesOf(source);
    const result = this.#store.get(this.#identity(bytes));
    if (!result.found) {
      const why = result.miss === 'absent' ? 'none was kept for this module and the flags V8 has now' : result.why;
      return this.#miss(result.miss, why);
    }
    const module = deserialise(result.found, withOptimisedMark(bytes));
    if (!module) return this.#miss('refused', 'V8 does not take the code');
    this.#hits++;
    return module;
  }

  /**
   * Compiles the module in another process and keeps the code; done at once when it is there already. Equal modules are compiled once.
   * @throws IguanaError `IGU_WASM_INVALID` when V8 refuses the module or the compiling process fails; `IGU_WASM_LIMIT` when too many wait;
   * `IGU_WASM_CACHE` when the code cannot be written
   */
  compileAhead(source: Source): Promise<AheadResult> {
    const bytes = bytesOf(source);
    const identity = this.#identity(bytes);
    const running = this.#running.get(identity.content);
    if (running) return running;
    const kept = this.#store.get(identity);
    if (kept.found) return Promise.resolve({ bytes: kept.found.byteLength, tookMs: 0 });
    if (this.#running.size >= wasmAotLimits.maxWaiting) {
      const error = new IguanaError('IGU_WASM_LIMIT', {
        what: 'number of modules waiting to be compiled ahead',
        value: this.#running.size + 1,
        limit: wasmAotLimits.maxWaiting,
        fix: 'wait for some of them',
      });
      return Promise.reject(error);
    }
    const task = this.#last.then(() => this.#compile(bytes, identity));
    this.#running.set(identity.content, task);
    this.#last = task.then(
      () => this.#running.delete(identity.content),
      () => this.#running.delete(identity.content),
    );
    return task;
  }

  stats(): CodeCacheStats {
    return {
      loads: this.#loads,
      hits: this.#hits,
      misses: { ...this.#misses },
      ...(this.#lastMiss !== undefined && { lastMiss: this.#lastMiss }),
      compiled: this.#compiled,
      failed: this.#failed,
      waiting: this.#running.size,
      ...this.#store.stats(),
    };
  }

  async #compile(bytes: Uint8Array<ArrayBuffer>, identity: BlobIdentity): Promise<AheadResult> {
    const begin = performance.now();
    const output = this.#store.temporary();
    try {
      await serialise(withOptimisedMark(bytes), output, identity.flags);
      const size = this.#store.adopt(identity, output);
      this.#compiled++;
      return { bytes: size, tookMs: performance.now() - begin };
    } catch (error) {
      this.#failed++;
      rmSync(output, { force: true });
      throw error;
    }
  }

  #identity(bytes: Uint8Array<ArrayBuffer>): BlobIdentity {
    let content = this.#hashes.get(bytes);
    if (content === undefined) {
      content = contentHash(bytes);
      this.#hashes.set(bytes, content);
    }
    return { kind: 'v8', engine: `V8 ${process.versions.v8}`, flags: v8State(), content };
  }

  #miss(kind: CodeCacheMiss, why: string): undefined {
    this.#misses[kind] = (this.#misses[kind] ?? 0) + 1;
    this.#lastMiss = why;
    return undefined;
  }
}

function bytesOf(source: Source): Uint8Array<ArrayBuffer> {
  return source instanceof Uint8Array ? source : source.bytes;
}

/** As the `native` engine marks the tier. */
function withOptimisedMark(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const name = Buffer.from('iguana:tier:optimised');
  const marked = new Uint8Array(bytes.length + name.length + 3);
  marked.set(bytes);
  marked.set([0, name.length + 1, name.length], bytes.length);
  marked.set(name, bytes.length + 3);
  return marked;
}

/**
 * Flags of this process that may be V8's, for the child to set: those of its command line and environment. V8 passes over Node's own among them; whether all
 * have been found is seen by the state.
 */
function userFlags(): string[] {
  const given = [...(process.env.NODE_OPTIONS ?? '').split(/\s+/), ...process.execArgv];
  return given.filter((flag) => /^--[\w-]+(=[\w.-]+)?$/.test(flag));
}

/** Another thread that sets flags in the same moment makes V8 refuse once: hence the second and third try. */
function deserialise(code: ArrayBuffer, bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module | undefined {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      const run = withNatives<[ArrayBuffer, Uint8Array], WebAssembly.Module | undefined>(
        'function (code, bytes) { return %DeserializeWasmModule(code, bytes); }',
      );
      const module = run(code, bytes);
      if (module) return module;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return undefined;
}

function serialise(bytes: Uint8Array, output: string, state: string): Promise<void> {
  const program = fileURLToPath(workerUrl(import.meta.url, './serialise-worker.js'));
  const { NODE_OPTIONS: _, ...env } = process.env;
  return new Promise((settle, reject) => {
    const child = spawn(process.execPath, [program, output, state, ...userFlags()], {
      env,
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: wasmAotLimits.compileTimeoutMs,
      killSignal: 'SIGKILL',
    });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-wasmAotLimits.maxMessage);
    });
    let failure: unknown;
    const failed = (error: unknown) => {
      failure ??= error;
    };
    child.on('error', failed);
    child.stdin.on('error', failed); // the child ended before it had read all
    child.on('close', (code, signal) => {
      if (code === 0) return settle();
      const line = /^\w*Error: (?!unrecognized flag).*$/m.exec(said)?.[0];
      const why = line ?? (failure ? messageOf(failure) : `its compiler ended with ${signal ?? `exit code ${code}`}`);
      reject(new IguanaError('IGU_WASM_INVALID', { engine: 'native', what: why }, { cause: failure ?? said }));
    });
    child.stdin.end(bytes);
  });
}
