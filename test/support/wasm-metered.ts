/** Words to write small modules in, and to run them metered with the account in the test's hand. */
import { expect } from 'vitest';
import { IguanaError } from '../../src/errors.js';
import { gasLeft, packGas, stackUsedUp } from '../../src/wasm/gas/packed.js';
import { prepareModule } from '../../src/wasm/module/prepare.js';
import type { PrepareOptions } from '../../src/wasm/module/prepared.js';
import { body, functionType, moduleOf, name, section, signed, valueBytes } from './wasm-binary.js';

const { i32 } = valueBytes;
export const get = (local: number) => [0x20, local];
export const set = (local: number) => [0x21, local];
export const tee = (local: number) => [0x22, local];
export const constant = (value: number) => [0x41, ...signed(value)];
export const call = (f: number) => [0x10, f];
export const [add, sub, ne, eqz, unreachable, ret, end] = [[0x6a], [0x6b], [0x47], [0x45], [0x00], [0x0f], [0x0b]];
export const loop = (...code: number[][]) => [0x03, 0x40, ...code.flat(), 0x0b];
export const block = (...code: number[][]) => [0x02, 0x40, ...code.flat(), 0x0b];
export const brIf = (label: number) => [0x0d, label];
export const br = (label: number) => [0x0c, label];
export const when = (then: number[][], otherwise: number[][]) => [
  0x04,
  i32,
  ...then.flat(),
  0x05,
  ...otherwise.flat(),
  0x0b,
];

interface Source {
  types?: number[][];
  imports?: number[][];
  /** Type index of each function. */
  functions: number[];
  table?: number[];
  memory?: number[];
  globals?: number[][];
  exports?: number[][];
  start?: number;
  elements?: number[][];
  dataCount?: number;
  bodies: number[][];
  data?: number[][];
}

export const UNARY = functionType([i32], [i32]);

export function build(source: Source): Uint8Array<ArrayBuffer> {
  return moduleOf([
    section(1, source.types ?? [UNARY]),
    section(2, source.imports ?? []),
    section(
      3,
      source.functions.map((type) => [type]),
    ),
    section(4, source.table ? [source.table] : []),
    section(5, source.memory ? [source.memory] : []),
    section(6, source.globals ?? []),
    section(7, source.exports ?? [[...name('run'), 0, 0]]),
    source.start === undefined ? [] : [8, 1, source.start],
    section(9, source.elements ?? []),
    source.dataCount === undefined ? [] : [12, 1, source.dataCount],
    section(10, source.bodies),
    section(11, source.data ?? []),
  ]);
}

/** One function `run(i32) → i32` with extra i32 locals. */
export function oneFunction(code: number[][], locals = 0): Uint8Array<ArrayBuffer> {
  return build({ functions: [0], bodies: [body(locals ? [[locals, i32]] : [], code.flat())] });
}

export const SLOTS = 100_000;

export class Metered {
  readonly exports: WebAssembly.Exports;
  readonly prepared;

  constructor(bytes: Uint8Array, options: PrepareOptions = {}, imports: WebAssembly.Imports = {}) {
    this.prepared = prepareModule(bytes, options);
    const module = new WebAssembly.Module(this.prepared.bytes);
    this.exports = new WebAssembly.Instance(module, { iguana: { grow: () => 1 }, ...imports }).exports;
  }

  get gas(): { value: bigint } {
    return this.exports[this.prepared.gas!] as { value: bigint };
  }

  call(function_: string, ...args: number[]): unknown {
    return (this.exports[function_] as (...args: number[]) => unknown)(...args);
  }

  /** Result (or `trap`) and gas used of a call with so much gas. */
  run(arg: number, gas = 1e9): { result: unknown; used: number; stack: boolean } {
    this.gas.value = packGas(gas, SLOTS);
    let result: unknown;
    try {
      result = this.call('run', arg);
    } catch (error) {
      if (!(error instanceof WebAssembly.RuntimeError)) throw error;
      result = 'trap';
    }
    return { result, used: gas - gasLeft(this.gas.value), stack: stackUsedUp(this.gas.value) };
  }
}

/** What was used is exactly enough, and one unit less is not. */
export function expectExact(metered: Metered, arg: number, result: unknown, used: number): void {
  expect(metered.run(arg)).toEqual({ result, used, stack: false });
  expect(metered.run(arg, used)).toMatchObject({ result, used });
  const short = metered.run(arg, used - 1);
  expect(short.result).toBe('trap');
  expect(short.used).toBeGreaterThan(used - 1);
}

/** What a refused module's owner reads; `accepted` when it is not refused. */
export function refusal(bytes: Uint8Array): string {
  try {
    prepareModule(bytes);
  } catch (error) {
    if (error instanceof IguanaError) return error.message;
    throw error;
  }
  return 'accepted';
}
