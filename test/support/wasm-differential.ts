/**
 * Runs generated modules side by side: plain and metered on V8, with the rewriter's gas against the count of the module that counts itself, and metered
 * on other engines, where gas must agree to the unit.
 */
import { messageOf } from '../../src/errors.js';
import type { Engine, EngineInstance } from '../../src/wasm/engines/engine.js';
import { gasLeft, MAX_GAS, packGas, stackUsedUp } from '../../src/wasm/gas/packed.js';
import { prepareModule } from '../../src/wasm/module/prepare.js';
import type { PreparedModule } from '../../src/wasm/module/prepared.js';
import { WasmTrap } from '../../src/wasm/trap.js';
import { uniform } from './random.js';
import {
  FUEL,
  type GeneratedModule,
  generateModule,
  hostFunctions,
  LIMIT_AT_START,
  type Profile,
} from './wasm-generator.js';

export interface Tally {
  modules: number;
  calls: number;
  returned: number;
  readonly traps: Map<string, number>;
  /** Gas of all calls, which is about the number of instructions. */
  gas: number;
  /** Normal returns whose gas was held against the count of the module that counts itself. */
  counted: number;
  /** Calls done on each engine beside V8. */
  readonly engines: Map<string, number>;
}

export function newTally(): Tally {
  return { modules: 0, calls: 0, returned: 0, traps: new Map(), gas: 0, counted: 0, engines: new Map() };
}

/** What differs, in words; the seed and profile make it again. */
export class Difference extends Error {}

const profiles: readonly Profile['name'][] = ['first-release', 'second-release', 'simd'];
/** Gas of one call of a module that only gas ends. */
const LITTLE_GAS = LIMIT_AT_START;
/** Stack of such a call, in slots. */
const LITTLE_STACK = 4096;

/** Which module a seed stands for. */
export function profileOf(seed: number): Profile {
  return { name: profiles[seed % 3]!, bounded: seed % 6 < 3 };
}

/** Price of a call of the host beside that of the call. */
const HOST_CALL = 64n;

interface Call {
  readonly name: string;
  readonly args: readonly unknown[];
}

function callsOf(generated: GeneratedModule, seed: number): Call[] {
  const random = uniform(seed ^ 0x5eed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;
  return [0, 1].flatMap(() =>
    generated.functions.map(({ name, params }) => ({
      name,
      args: params.map((type) => {
        if (type === 'i64') return pick([0n, 1n, -1n, 77n, -(2n ** 63n), 2n ** 63n - 1n]);
        if (type === 'i32') return pick([0, 1, -1, 5, 100, 65_536, -2_147_483_648, 2_147_483_647]);
        return pick([0, -0, 1.5, -1e9, Number.NaN, Number.POSITIVE_INFINITY, 4_294_967_296]);
      }),
    })),
  );
}

/** What a call did. `trap` is a word, or V8's own message where that is compared. */
interface Outcome {
  readonly values?: readonly unknown[];
  readonly trap?: string;
}

interface Runner {
  run(call: Call): Outcome;
  memory(): Uint8Array;
  global(name: string): unknown;
  setGlobal(name: string, value: unknown): void;
}

/** @returns what the start function trapped with instead, when it did */
function plainRunner(bytes: Uint8Array<ArrayBuffer>): Runner | string {
  let exports: WebAssembly.Exports = {};
  let early = 0n;
  // The counting module cannot count what the host is called for: an import may stand in a table.
  const charged =
    (run: (...args: unknown[]) => unknown) =>
    (...args: unknown[]) => {
      const count = exports.count as WebAssembly.Global | undefined;
      if (count) count.value = (count.value as bigint) + HOST_CALL;
      else early += HOST_CALL;
      return run(...args);
    };
  const env = Object.fromEntries(Object.entries(hostFunctions).map(([name, run]) => [name, charged(run)]));
  try {
    ({ exports } = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env }));
    const count = exports.count as WebAssembly.Global | undefined;
    if (count) count.value = (count.value as bigint) + early;
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError || error instanceof RangeError) return error.message;
    throw error;
  }
  return {
    run: ({ name, args }) =>
      outcome(() => (exports[name] as (...args: readonly unknown[]) => unknown)(...args), messageOf),
    memory: () => new Uint8Array((exports.memory as WebAssembly.Memory).buffer),
    global: (name) => (exports[name] as WebAssembly.Global).value,
    setGlobal: (name, value) => {
      (exports[name] as WebAssembly.Global).value = value;
    },
  };
}

function engineRunner(instance: EngineInstance, trapWord: (error: unknown) => string): Runner {
  return {
    run: ({ name, args }) => outcome(() => instance.function(name)(...args), trapWord),
    memory: () => instance.memory('memory'),
    global: (name) => instance.getGlobal(name),
    setGlobal: (name, value) => instance.setGlobal(name, value),
  };
}

function outcome(run: () => unknown, trapWord: (error: unknown) => string): Outcome {
  try {
    const value = run();
    return { values: value === undefined ? [] : Array.isArray(value) ? value : [value] };
  } catch (error) {
    return { trap: trapWord(error) };
  }
}

/** V8's message, which the plain module gives too. */
function nativeMessage(error: unknown): string {
  return messageOf(error instanceof WasmTrap ? error.cause : error);
}

/** Engines do not agree in what they call an indirect call that finds no function, or one of another type. */
function engineWord(error: unknown): string {
  if (!(error instanceof WasmTrap)) return messageOf(error);
  return ['undefined-element', 'indirect-call-mismatch', 'null-reference'].includes(error.trap)
    ? 'indirect'
    : error.trap;
}

function show({ values, trap }: Outcome): string {
  if (trap !== undefined) return `trap ${trap}`;
  return `(${values!.map((value) => (typeof value === 'bigint' ? `${value}n` : Object.is(value, -0) ? '-0' : String(value))).join(', ')})`;
}

function must(same: boolean, what: () => string): void {
  if (!same) throw new Difference(what());
}

function sameState(a: Runner, b: Runner, generated: GeneratedModule, where: string): void {
  must(Buffer.compare(a.memory(), b.memory()) === 0, () => {
    const [x, y] = [a.memory(), b.memory()];
    const at = x.findIndex((byte, i) => byte !== y[i]);
    return `${where}: memory of ${x.length} and ${y.length} bytes differs at ${at}: ${x[at]} and ${y[at]}`;
  });
  for (const name of [...generated.globals, 'fuel']) {
    const [x, y] = [a.global(name), b.global(name)];
    must(Object.is(x, y), () => `${where}: global ${name} is ${x} and ${y}`);
  }
}

/** Runs one seed everywhere. @throws Difference */
export function runSeed(seed: number, native: Engine, others: readonly Engine[], tally: Tally): void {
  const profile = profileOf(seed);
  const generated = generateModule(seed, profile);
  tally.modules++;
  const prepared = prepareModule(generated.bytes);
  must(WebAssembly.validate(prepared.bytes), () => 'V8 refuses the prepared module');
  const calls = callsOf(generated, seed);
  if (profile.bounded) againstPlain(generated, prepared, calls, native, tally);
  else againstCounting(generated, prepared, calls, native, tally);
  againstEngines(generated, prepared, calls, native, others, tally, profile.bounded);
}

function instantiate(engine: Engine, prepared: PreparedModule): EngineInstance {
  return engine.compile(prepared).instantiate({ env: hostFunctions, iguana: { grow: () => 1 } });
}

function againstPlain(
  generated: GeneratedModule,
  prepared: PreparedModule,
  calls: readonly Call[],
  native: Engine,
  tally: Tally,
): void {
  const plain = plainRunner(generated.bytes);
  const counted = plainRunner(generated.counted);
  const instance = instantiate(native, prepared);
  const metered = engineRunner(instance, nativeMessage);
  const gas = prepared.gas!;
  instance.setGlobal(gas, packGas(MAX_GAS, STACK));
  if (prepared.start) {
    const started = metered.run({ name: prepared.start, args: [] });
    must((started.trap === undefined) === (typeof plain !== 'string'), () => `start: ${plain} and ${show(started)}`);
    if (typeof plain === 'string') must(plain === started.trap, () => `start: ${plain} and ${show(started)}`);
  }
  must(typeof plain === typeof counted, () => 'start: the counting module does not do as the plain one');
  if (typeof plain === 'string' || typeof counted === 'string') return;
  const used = () => MAX_GAS - gasLeft(instance.getGlobal(gas) as bigint);
  if (prepared.start) {
    must(used() === Number(counted.global('count')), () => `start: gas ${used()}, counted ${counted.global('count')}`);
  }
  for (const [i, call] of calls.entries()) {
    const where = `call ${i} ${call.name}(${call.args.map(String).join(', ')})`;
    instance.setGlobal(gas, packGas(MAX_GAS, STACK));
    counted.setGlobal('count', 0n);
    counted.setGlobal('limit', BigInt(MAX_GAS));
    for (const runner of [plain, counted, metered]) runner.setGlobal('fuel', FUEL);
    const [a, b, c] = [plain.run(call), metered.run(call), counted.run(call)];
    must(show(a) === show(b), () => `${where}: plain ${show(a)}, metered ${show(b)}`);
    must(show(a) === show(c), () => `${where}: plain ${show(a)}, counting ${show(c)}`);
    sameState(plain, metered, generated, `${where}: plain and metered`);
    const left = instance.getGlobal(gas) as bigint;
    must(gasLeft(left) >= 0 && !stackUsedUp(left), () => `${where}: out of gas or stack`);
    if (a.trap === undefined) {
      must(
        used() === Number(counted.global('count')),
        () => `${where}: gas ${used()}, counted ${counted.global('count')}`,
      );
      must(left === packGas(MAX_GAS - used(), STACK), () => `${where}: stack slots are not given back`);
      tally.counted++;
    }
  }
}

/**
 * A module that only gas ends, against the form that counts and stops by itself. The rewriter may test later, or charge ahead of a trap, but a call
 * returns on both or on none. Ends where the states may have come apart.
 */
function againstCounting(
  generated: GeneratedModule,
  prepared: PreparedModule,
  calls: readonly Call[],
  native: Engine,
  tally: Tally,
): void {
  const counted = plainRunner(generated.counted);
  const instance = instantiate(native, prepared);
  const metered = engineRunner(instance, nativeMessage);
  const gas = prepared.gas!;
  const left = () => instance.getGlobal(gas) as bigint;
  const full = packGas(LITTLE_GAS, STACK);
  instance.setGlobal(gas, full);
  if (prepared.start) {
    const started = metered.run({ name: prepared.start, args: [] });
    const stopped = typeof counted === 'string' || (counted.global('count') as bigint) > BigInt(LITTLE_GAS);
    must((started.trap !== undefined) === stopped, () => `start: metered ${show(started)}, counting ${stopped}`);
    if (stopped) return;
  }
  if (typeof counted === 'string') throw new Difference(`instantiating: ${counted}`);
  for (const [i, call] of calls.entries()) {
    const where = `call ${i} ${call.name}(${call.args.map(String).join(', ')})`;
    instance.setGlobal(gas, full);
    counted.setGlobal('count', 0n);
    counted.setGlobal('limit', BigInt(LITTLE_GAS));
    for (const runner of [counted, metered]) runner.setGlobal('fuel', FUEL);
    const [a, b] = [counted.run(call), metered.run(call)];
    const count = Number(counted.global('count'));
    const stopped = count > LITTLE_GAS;
    const ranOut = gasLeft(left()) < 0;
    if (stackUsedUp(left()) || a.trap?.startsWith('Maximum call stack')) return;
    must((a.trap === undefined && !stopped) === (b.trap === undefined), () => {
      return `${where}: counting ${show(a)} after ${count}, metered ${show(b)} with ${gasLeft(left())} of ${LITTLE_GAS} left`;
    });
    if (b.trap !== undefined) {
      if (stopped || ranOut) return;
      must(a.trap === b.trap, () => `${where}: counting ${show(a)}, metered ${show(b)}`);
    } else {
      must(show(a) === show(b), () => `${where}: counting ${show(a)}, metered ${show(b)}`);
      must(
        LITTLE_GAS - gasLeft(left()) === count,
        () => `${where}: gas ${LITTLE_GAS - gasLeft(left())}, counted ${count}`,
      );
      tally.counted++;
    }
    sameState(counted, metered, generated, `${where}: counting and metered`);
  }
}

/** Enough for what fuel allows. */
const STACK = 2 ** 18;

function againstEngines(
  generated: GeneratedModule,
  prepared: PreparedModule,
  calls: readonly Call[],
  native: Engine,
  others: readonly Engine[],
  tally: Tally,
  bounded: boolean,
): void {
  const full = bounded ? packGas(2 ** 24, LITTLE_STACK) : packGas(LITTLE_GAS, LITTLE_STACK);
  const gas = prepared.gas!;
  const begin = (engine: Engine): readonly [EngineInstance, Runner, Outcome | undefined] => {
    const instance = instantiate(engine, prepared);
    const runner = engineRunner(instance, engineWord);
    instance.setGlobal(gas, full);
    return [instance, runner, prepared.start ? runner.run({ name: prepared.start, args: [] }) : undefined];
  };
  const able = others.filter(({ description }) =>
    prepared.info.features.every((f) => description.features.includes(f)),
  );
  const [reference, referenceRunner, referenceStart] = begin(native);
  const there = able.map((engine) => ({ engine, started: begin(engine) }));
  const name = (engine: Engine) => engine.description.name;
  for (const { engine, started } of there) {
    const [instance, , start] = started;
    must(
      show(referenceStart ?? { values: [] }) === show(start ?? { values: [] }),
      () => `start: native ${show(referenceStart!)}, ${name(engine)} ${show(start!)}`,
    );
    must(instance.getGlobal(gas) === reference.getGlobal(gas), () => `start: gas of native and ${name(engine)} differ`);
  }
  for (const [i, call] of calls.entries()) {
    const where = `call ${i} ${call.name}(${call.args.map(String).join(', ')})`;
    reference.setGlobal(gas, full);
    referenceRunner.setGlobal('fuel', FUEL);
    const wanted = referenceRunner.run(call);
    const left = reference.getGlobal(gas) as bigint;
    note(tally, wanted, left, full);
    if (wanted.trap === undefined)
      atTheLimit(prepared, calls.slice(0, i), call, full, gasLeft(full) - gasLeft(left), native);
    for (const { engine, started } of there) {
      const [instance, runner] = started;
      instance.setGlobal(gas, full);
      runner.setGlobal('fuel', FUEL);
      const got = runner.run(call);
      must(show(wanted) === show(got), () => `${where}: native ${show(wanted)}, ${name(engine)} ${show(got)}`);
      const other = instance.getGlobal(gas) as bigint;
      must(
        other === left,
        () => `${where}: ${show(wanted)}: gas left on native ${gasLeft(left)}, on ${name(engine)} ${gasLeft(other)}`,
      );
      sameState(referenceRunner, runner, generated, `${where}: native and ${name(engine)}`);
      tally.engines.set(name(engine), (tally.engines.get(name(engine)) ?? 0) + 1);
    }
  }
  reference.close();
  for (const { started } of there) started[0].close();
}

function note(tally: Tally, { trap }: Outcome, left: bigint, full: bigint): void {
  tally.calls++;
  // A trap out of gas may be far below zero: what was asked for was too much.
  tally.gas += gasLeft(full) - Math.max(0, gasLeft(left));
  if (trap === undefined) tally.returned++;
  else {
    const kind = stackUsedUp(left) ? 'stack-overflow' : gasLeft(left) < 0 ? 'out-of-gas' : trap;
    tally.traps.set(kind, (tally.traps.get(kind) ?? 0) + 1);
  }
}

/** A call that took `used` gas runs with just so much, and not with one unit less. Only the first call, since others need what came before. */
function atTheLimit(
  prepared: PreparedModule,
  earlier: readonly Call[],
  call: Call,
  full: bigint,
  used: number,
  native: Engine,
): void {
  if (earlier.length > 0 || prepared.start !== undefined || used === 0) return;
  const slots = Number(full & 0xf_ffffn);
  for (const [given, enough] of [
    [used, true],
    [used - 1, false],
  ] as const) {
    const instance = instantiate(native, prepared);
    const runner = engineRunner(instance, engineWord);
    instance.setGlobal(prepared.gas!, packGas(given, slots));
    runner.setGlobal('fuel', FUEL);
    const got = runner.run(call);
    const left = gasLeft(instance.getGlobal(prepared.gas!) as bigint);
    must(
      enough ? got.trap === undefined && left === 0 : got.trap !== undefined && left < 0,
      () => `${call.name} takes ${used} gas; with ${given}: ${show(got)}, left ${left}`,
    );
    instance.close();
  }
}
