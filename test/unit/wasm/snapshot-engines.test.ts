import { randomBytes } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { messageOf } from '../../../src/errors.js';
import type { Engine, EngineInstance, HostImports } from '../../../src/wasm/engines/engine.js';
import { engineNames, openEngine } from '../../../src/wasm/engines/open-engine.js';
import { packGas } from '../../../src/wasm/gas/packed.js';
import { prepareModule } from '../../../src/wasm/module/prepare.js';
import type { PreparedModule } from '../../../src/wasm/module/prepared.js';
import { initialImageOf } from '../../../src/wasm/snapshot/initial-image.js';
import { restoreInPlace, restoreSnapshot } from '../../../src/wasm/snapshot/restore-snapshot.js';
import { createSnapshot, type Snapshot } from '../../../src/wasm/snapshot/snapshot.js';

/**
 * A module that keeps its state to itself. Its text, for `wat2wasm` 1.0.32:
 *
 * (import "host" "now" (func $now (result i32)))  (memory (export "memory") 2 64)  (table $t 4 64 funcref)
 * (global $i (mut i32) (i32.const 7))  (global $l (mut i64) (i64.const 9))  (global $r (mut funcref) (ref.null func))
 * $a: 11  $b: 22  $c: $i + 33  (elem (table $t) (i32.const 0) func $a $b $now)  (elem $pe func $c $a)  (data (i32.const 100) "hello")
 * (data $pd "passive bytes")  start: adds 1 to the i32 at 0
 * init (n): now() at 4, $i = n, $l = n << 40, $r = $b, grows the memory by 3, memory.init of $pd at 4 × 65536, data.drop, table.init of $pe at 1, elem.drop,
 * table.grow by 2 × $c; call (i): call_indirect; again: memory.init of $pd; state: ($i, $l, memory.size, table.size, the i32 at 0);
 * work (n): i32 i at (i × 40503) & 0x1fffc for i < n
 */
const bytes = Buffer.from(
  'AGFzbQEAAAABGQVgAAF/YAAAYAF/AGABfwF/YAAFf35/f38CDAEEaG9zdANub3cAAAMKCQAAAAECAwEEAgQFAXABBEAFBAEBAkAGEAN/AUEHC34BQgkLcAHQcAsHLwYGbWVt' +
    'b3J5AgAEaW5pdAAFBGNhbGwABgVhZ2FpbgAHBXN0YXRlAAgEd29yawAJCAEECQ4CAEEACwMBAgABAAIDAQwBAgq2AQkEAEELCwQAQRYLBwAjAEEhagsPAEEAQQAoAgBBAWo2' +
    'AgALRQBBBBAANgIAIAAkACAArUIohiQB0gIkAkEDQAAaQQRBgIAEbEEAQQ38CAEA/AkBQQFBAEEC/AwBAPwNAdIDQQL8DwAaCwcAIAARAAALDABBAEEAQQH8CAEACxAAIwAj' +
    'AT8A/BAAQQAoAgALJgEBfwNAIAFBt7wCbEH8/wdxIAE2AgAgAUEBaiEBIAEgAEkNAAsLCxsCAEHkAAsFaGVsbG8BDXBhc3NpdmUgYnl0ZXM=',
  'base64',
);

/**
 * For engines of the first release of WebAssembly:
 *
 * (memory (export "memory") 2 16)  (global $i (mut i32) (i32.const 7))  (global $l (mut i64) (i64.const -9))  (global $f (mut f32) (f32.const 0.5))
 * (global $d (mut f64) (f64.const 0.5))  (data (i32.const 100) "hello")  work (n): grows the memory by 1; n times: stores $i at (i × 40503) & 0x1fffc,
 * $i + 1, $l × 6364136223846793005, $f ÷ 3, √$d
 */
const early = Buffer.from(
  'AGFzbQEAAAABBQFgAX8AAwIBAAUEAQECEAYfBH8BQQcLfgFCdwt9AUMAAAA/C3wBRAAAAAAAAOA/CwcRAgZtZW1vcnkCAAR3b3JrAAAKTgFMAEEBQAAaA0AjAEG3vAJsQfz/' +
    'B3EjADYCACMAQQFqJAAjAUKt/tXk1IX9qNgAfiQBIwJDAABAQJUkAiMDnyQDIABBAWshACAADQALCwsMAQBB5AALBWhlbGxv',
  'base64',
);

let now = 0;
const imports: HostImports = { host: { now: () => now }, iguana: { grow: () => 1 } };

const engines: Engine[] = [];
const missing: string[] = [];
for (const name of engineNames)
  try {
    engines.push(await openEngine(name));
  } catch (error) {
    missing.push(`${name}: ${messageOf(error)}`);
  }
afterAll(() => {
  for (const engine of engines) engine.close();
});

const able = (engine: Engine, module: PreparedModule) =>
  module.info.features.every((feature) => engine.description.features.includes(feature));

/** A snapshot as values that compare fast. */
const plain = ({ pages, ...rest }: Snapshot) => ({ ...rest, pages: Buffer.from(pages).toString('latin1') });

/** Calls an export with gas enough. */
function call(instance: EngineInstance, module: PreparedModule, name: string, ...args: number[]) {
  if (module.gas !== undefined) instance.setGlobal(module.gas, packGas(1_000_000, 10_000));
  return instance.function(name)(...args);
}

describe.each([true, false])('prepared modules, metered: %s', (metered) => {
  const module = prepareModule(bytes, { metered });
  const usable = engines.filter((engine) => able(engine, module));
  const pairs = usable.flatMap((from) =>
    usable.map((to) => [from.description.name, to.description.name, from, to] as const),
  );

  test.each(pairs)('state goes from %s to %s', (_, __, from, to) => {
    const source = from.compile(module);
    const image = initialImageOf(source, imports);
    now = 1234;
    const instance = source.instantiate(imports);
    if (!instance.tables) {
      expect(() => createSnapshot(instance, module, image)).toThrow(/shows no tables/);
      return;
    }
    call(instance, module, module.start!);
    call(instance, module, 'init', 77);
    expect(call(instance, module, 'state')).toEqual([77, 77n << 40n, 5, 6, 1]);
    call(instance, module, 'work', 100);
    const snapshot = createSnapshot(instance, module, image);

    const target = to.compile(module);
    if (!target.instantiate(imports).tables) {
      expect(() => restoreSnapshot(snapshot, target, imports)).toThrow(/IGU_WASM_SNAPSHOT.*shows no tables/);
      return;
    }
    const restored = restoreSnapshot(snapshot, target, imports, initialImageOf(target, imports));
    expect(Buffer.compare(restored.memory('memory'), instance.memory('memory'))).toBe(0);
    expect(call(restored, module, 'state')).toEqual([77, 77n << 40n, 5, 6, 0]);
    const answers = Array.from({ length: 6 }, (_, i) => (i === 3 ? undefined : call(restored, module, 'call', i)));
    expect(answers).toEqual([11, 110, 11, undefined, 110, 110]);
    if (metered) expect(() => call(restored, module, 'again')).toThrow(/out-of-bounds-memory/);
    expect(plain(createSnapshot(restored, module, image))).toEqual(plain(snapshot));

    // on both, the same work from here gives the same state
    for (const one of [instance, restored]) call(one, module, 'work', 3000);
    const next = createSnapshot(instance, module, image);
    expect(plain(createSnapshot(restored, module, image))).toEqual(plain(next));
    restoreInPlace(snapshot, restored, module, image);
    expect(plain(createSnapshot(restored, module, image))).toEqual(plain(snapshot));
  });
});

describe.each([true, false])('numbers and memory, metered: %s', (metered) => {
  const module = prepareModule(early, { metered });
  const usable = engines.filter((engine) => able(engine, module));
  const pairs = usable.flatMap((from) =>
    usable.map((to) => [from.description.name, to.description.name, from, to] as const),
  );

  test.each(pairs)('state goes from %s to %s', (_, __, from, to) => {
    const source = from.compile(module);
    const target = to.compile(module);
    const image = initialImageOf(source, imports);
    const instance = source.instantiate(imports);
    call(instance, module, 'work', 40);
    const snapshot = createSnapshot(instance, module, image);
    const restored = restoreSnapshot(snapshot, target, imports, initialImageOf(target, imports));
    expect(plain(createSnapshot(restored, module, image))).toEqual(plain(snapshot));
    for (const one of [instance, restored]) call(one, module, 'work', 500);
    expect(plain(createSnapshot(restored, module, image))).toEqual(plain(createSnapshot(instance, module, image)));
  });
});

test('engines that are not there are named', () => {
  if (missing.length > 0) console.log(`not tested here: ${missing.join('\n')}`);
  expect(engines.length + missing.length).toBe(engineNames.length);
  expect(engines.map(({ description }) => description.name)).toContain('native');
});

test('memory and tables of the host are put back too, and its own global is left to it', async () => {
  // (import "env" "memory" (memory 1 4)) (import "env" "table" (table $t 4 funcref)) (import "env" "base" (global $base i32))
  // (import "env" "sp" (global (mut i32))) (global $n (mut i32) (i32.const 0)) (data (i32.const 100) "hello") (elem (global.get $base) func $a $b)
  // run: $n + 1, i32 0 at 100, 5 at 9000, $b at element 3, null at 1
  const module = prepareModule(
    Buffer.from(
      'AGFzbQEAAAABCAJgAAF/YAAAAjQEA2VudgZtZW1vcnkCAQEEA2VudgV0YWJsZQFwAAQDZW52BGJhc2UDfwADZW52AnNwA38BAwQDAAABBgYBfwFBAAsHBwEDcnVuAAIJCAEA' +
        'IwALAgABCjIDBABBCwsEAEEWCyYAIwJBAWokAkHkAEEANgIAQajGAEEFNgIAQQPSASYAQQHQcCYACwsMAQBB5AALBWhlbGxv',
      'base64',
    ),
  );
  const compiled = (await openEngine('native')).compile(module);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 4 });
  const table = new WebAssembly.Table({ element: 'anyfunc', initial: 4 });
  const sp = new WebAssembly.Global({ value: 'i32', mutable: true }, 70);
  const env = { memory, table, base: new WebAssembly.Global({ value: 'i32' }, 0), sp };
  const instance = compiled.instantiate({ env });
  const bytes = () => Buffer.from(memory.buffer);
  const image = initialImageOf(compiled, { env });
  call(instance, module, 'run');
  const kept = Buffer.from(bytes());
  const snapshot = createSnapshot(instance, module, image);
  expect([bytes().readUInt32LE(100), bytes().readUInt32LE(9000)]).toEqual([0, 5]);
  const scribble = () => {
    bytes().fill(7);
    table.set(0, null);
    table.set(2, table.get(3));
  };
  const same = (one: EngineInstance) => {
    expect(Buffer.compare(bytes(), kept)).toBe(0);
    expect(createSnapshot(one, module, image)).toEqual(snapshot);
  };
  scribble();
  restoreInPlace(snapshot, instance, module, image);
  same(instance);
  scribble();
  const restored = restoreSnapshot(snapshot, compiled, { env }, image);
  same(restored);
  expect(sp.value).toBe(70);
  expect(() =>
    restoreSnapshot(snapshot, compiled, {
      env: { ...env, memory: new WebAssembly.Memory({ initial: 2, maximum: 4 }) },
    }),
  ).toThrow(/IGU_WASM_SNAPSHOT.*memory 0 is larger/);
});

test('where a global of the host places segments, another place is another image', async () => {
  // (import "env" "base" (global i32)) (memory (export "memory") 1) (data (global.get 0) "hello")
  const module = prepareModule(
    Buffer.from(
      '0061736d01000000020d0103656e76046261736503' +
        '7f00' +
        '0503010001' +
        '070a01066d656d6f727902000b0b01002300' +
        '0b0568656c6c6f',
      'hex',
    ),
  );
  const compiled = (await openEngine('native')).compile(module);
  const at = (base: number) => ({ env: { base: new WebAssembly.Global({ value: 'i32' }, base) } });
  const snapshot = createSnapshot(compiled.instantiate(at(8)), module, initialImageOf(compiled, at(8)));
  expect(restoreSnapshot(snapshot, compiled, at(8), initialImageOf(compiled, at(8))).memory('memory')[8]).toBe(104);
  expect(() => restoreSnapshot(snapshot, compiled, at(16), initialImageOf(compiled, at(16)))).toThrow(
    /IGU_WASM_SNAPSHOT.*begin with other memory/,
  );
});

test('a global of vectors cannot be saved, and is named', async () => {
  // (memory 1) (global (export "v") (mut v128) (v128.const i64x2 0 0))
  const vector = Buffer.from(
    `0061736d01000000 0616017b01fd0c${'00'.repeat(16)}0b 07050101760300`.replaceAll(' ', ''),
    'hex',
  );
  const module = prepareModule(vector);
  const compiled = (await openEngine('native')).compile(module);
  const instance = compiled.instantiate({});
  expect(() => createSnapshot(instance, module, initialImageOf(compiled, {}))).toThrow(
    /IGU_WASM_SNAPSHOT.*global 0.*v128/,
  );
});

test('random bytes in all of a grown memory survive', async () => {
  const module = prepareModule(bytes, { maxMemoryPages: 8 });
  const compiled = (await openEngine('native')).compile(module);
  const instance = compiled.instantiate(imports);
  expect(instance.growMemory('memory', 6)).toBe(true);
  const noise = randomBytes(8 * 65_536);
  instance.memory('memory').set(noise);
  const snapshot = createSnapshot(instance, module, initialImageOf(compiled, imports));
  expect([...snapshot.memories[0]!.runs]).toEqual([0, 0, 128]);
  expect(Buffer.compare(restoreSnapshot(snapshot, compiled, imports).memory('memory'), noise)).toBe(0);
});
