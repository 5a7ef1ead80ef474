import { createHash } from 'node:crypto';
import type { CompiledModule, EngineInstance, HostImports } from '../../../src/wasm/engines/engine.js';
import { NativeEngine } from '../../../src/wasm/engines/native.js';
import type { PreparedModule } from '../../../src/wasm/module/prepared.js';
import type { RawFunction, RawValue } from '../../../src/wasm/types.js';

/**
 * A module with one of each thing that a snapshot keeps, prepared by hand. Its text, for `wat2wasm` 1.0.32:
 *
 * (import "host" "log" (func $log (param i32)))  (memory (export "m0") 2 64)  (table (export "t0") 4 64 funcref)
 * (global (export "g0") (mut i32) (i32.const 7))  (global (export "g1") (mut i64) (i64.const 9))  (global (export "g2") (mut f32) (f32.const 1.5))
 * (global (export "g3") (mut f64) (f64.const 2.5))  (global (export "g4") (mut funcref) (ref.null func))
 * (global (export "g5") (mut externref) (ref.null extern))  (global (export "d0"), "d1": (mut i32) (i32.const 0))
 * (func $a (export "f1") (result i32) (i32.const 11))  $b "f2": 22  $c "f3": 33
 * (elem (i32.const 0) func $a $b)  (elem $pe func $c $a)  (data (i32.const 100) "hello")  (data (i32.const 70000) "world")  (data $pd "passive bytes")
 * start: adds 1 to the i32 at 0; init: i32 4242 at 4, g0 = 99, g4 = $b; call (i): call_indirect of element i; load-passive (to), load-elements (to),
 * drop-data, drop-elements (which set d0 and d1); read (i): the i32 there; argument (i32): nothing
 */
const bytes = new Uint8Array(
  Buffer.from(
    'AGFzbQEAAAABEQRgAAF/YAF/AGAAAGABfwF/AgwBBGhvc3QDbG9nAAEDDQwAAAACAgMBAQICAwEEBQFwAQRABQQBAQJABjMIfwFBBwt+AUIJC30BQwAAwD8LfAFEAAAA' +
      'AAAABEALcAHQcAtvAdBvC38BQQALfwFBAAsHpQEWAm0wAgACdDABAAJnMAMAAmcxAwECZzIDAgJnMwMDAmc0AwQCZzUDBQJkMAMGAmQxAwcCZjEAAQJmMgACAmYzAAMF' +
      'c3RhcnQABARpbml0AAUEY2FsbAAGDGxvYWQtcGFzc2l2ZQAHDWxvYWQtZWxlbWVudHMACAlkcm9wLWRhdGEACQ1kcm9wLWVsZW1lbnRzAAoEcmVhZAALCGFyZ3VtZW50' +
      'AAwJDQIAQQALAgECAQACAwEMAQMKdQwEAEELCwQAQRYLBABBIQsPAEEAQQAoAgBBAWo2AgALEwBBBEGSITYCAEHjACQA0gIkBAsHACAAEQAACwwAIABBAEEN/AgCAAsM' +
      'ACAAQQBBAvwMAQALCQD8CQJBASQGCwkA/A0BQQEkBwsHACAAKAIACwIACwsnAwBB5AALBWhlbGxvAEHwogQLBXdvcmxkAQ1wYXNzaXZlIGJ5dGVz',
    'base64',
  ),
);

const none = { params: [], results: [] } as const;

export const prepared: PreparedModule = {
  id: 'c'.repeat(64),
  bytes,
  info: {
    size: bytes.length,
    imports: [{ module: 'host', name: 'log', kind: 'function', type: { params: ['i32'], results: [] } }],
    exports: [
      { name: 'init', index: 5, kind: 'function', type: none },
      { name: 'argument', index: 12, kind: 'function', type: { params: ['i32'], results: [] } },
    ],
    memories: [{ min: 2, max: 64, shared: false, imported: false }],
    tables: [{ min: 4, max: 64, element: 'funcref', imported: false }],
    globals: (['i32', 'i64', 'f32', 'f64', 'funcref', 'externref'] as const).map((type) => ({
      type,
      mutable: true,
      imported: false,
    })),
    functionCount: 12,
    features: ['bulk-memory', 'reference-types'],
    hasStart: true,
    functionNames: new Map(),
  },
  metered: false,
  start: 'start',
  hostImports: [],
  memories: ['m0'],
  globals: (['i32', 'i64', 'f32', 'f64', 'funcref', 'externref'] as const).map((type, index) => ({
    index,
    export: `g${index}`,
    type,
  })),
  tables: [{ index: 0, export: 't0', element: 'funcref' }],
  references: [1, 2, 3].map((index) => ({ index, export: `f${index}` })),
  segments: [
    { kind: 'data', index: 2, dropped: 'd0', drop: 'drop-data' },
    { kind: 'element', index: 1, dropped: 'd1', drop: 'drop-elements' },
  ],
};

export const imports: HostImports = { host: { log: () => undefined } };

export const compiled: CompiledModule = new NativeEngine().compile(prepared);

/**
 * The same module the way another engine would show it: memory at an odd place of a larger buffer, references that are
 * fresh objects at every look. Only what snapshots use; the guest runs in the instance below and sees its memory after
 * `sync`.
 */
export function foreign(module: PreparedModule = prepared): CompiledModule {
  return {
    module,
    tier: 'interpreter',
    instantiate: (given) => new ForeignInstance(compiled.instantiate(given)),
    close: () => undefined,
  };
}

export class ForeignInstance implements EngineInstance {
  #whole = new Uint8Array(0);

  constructor(private readonly inner: EngineInstance) {
    this.#look();
  }

  function(name: string): RawFunction {
    const run = this.inner.function(name);
    return (...args) => {
      this.inner.memory('m0').set(this.memory('m0'));
      try {
        return run(...args);
      } finally {
        this.#look();
      }
    };
  }

  memory(name: string): Uint8Array {
    return this.#whole.subarray(3, 3 + this.inner.memory(name).length);
  }

  growMemory(name: string, pages: number): boolean {
    this.inner.memory('m0').set(this.memory('m0'));
    const grown = this.inner.growMemory(name, pages);
    this.#look();
    return grown;
  }

  getGlobal(name: string): RawValue {
    return wrap(this.inner.getGlobal(name));
  }

  setGlobal(name: string, value: RawValue): void {
    this.inner.setGlobal(name, unwrap(value));
  }

  readonly tables = {
    length: (name: string) => this.inner.tables!.length(name),
    grow: (name: string, elements: number) => this.inner.tables!.grow(name, elements),
    get: (name: string, index: number) => wrap(this.inner.tables!.get(name, index)),
    set: (name: string, index: number, reference: RawValue) => this.inner.tables!.set(name, index, unwrap(reference)),
    reference: (name: string) => wrap(this.inner.tables!.reference(name)),
    same: (a: RawValue, b: RawValue) => unwrap(a) === unwrap(b),
  };

  close(): void {
    this.inner.close();
  }

  #look(): void {
    const memory = this.inner.memory('m0');
    const whole = new Uint8Array(memory.length + 7);
    whole.set(memory, 3);
    this.#whole = whole;
  }
}

class Reference {
  constructor(readonly to: RawValue) {}
}

const wrap = (value: RawValue) => (typeof value === 'function' ? new Reference(value) : value);
const unwrap = (value: RawValue) => (value instanceof Reference ? value.to : value);

/** All that a guest could tell apart, in a form that `toEqual` compares. */
export function stateOf(instance: EngineInstance, module: PreparedModule = prepared) {
  return {
    memories: module.memories.map((name) => {
      const memory = instance.memory(name);
      return `${memory.length} bytes: ${createHash('sha256').update(memory).digest('hex')}`;
    }),
    globals: module.globals.map(({ export: name }) => nameOf(instance, module, instance.getGlobal(name))),
    tables: module.tables.map(({ export: name }) =>
      Array.from({ length: instance.tables!.length(name) }, (_, i) =>
        nameOf(instance, module, instance.tables!.get(name, i)),
      ),
    ),
    dropped: module.segments.map(({ dropped }) => instance.getGlobal(dropped)),
  };
}

function nameOf(instance: EngineInstance, module: PreparedModule, value: RawValue): RawValue {
  if (value === null || typeof value === 'number' || typeof value === 'bigint') return value;
  return module.references.find((one) => instance.tables!.same(value, instance.tables!.reference(one.export)))?.export;
}
