import { IguanaError } from '../../errors.js';
import type { FunctionType, RawValue, ValueType } from '../types.js';

/**
 * A value with its WebAssembly type. i32, f32, f64 are numbers, i64 is a bigint (a whole number within ±2^53 is taken too). i32 and i64 are taken signed or
 * unsigned and given back signed. References are opaque; across threads only `null` can be given.
 */
export interface TypedValue {
  readonly type: ValueType;
  readonly value: unknown;
}

const isInt32 = (value: unknown): boolean =>
  typeof value === 'number' && ((value | 0) === value || value >>> 0 === value);
const isInt64 = (value: unknown): boolean =>
  typeof value === 'bigint' && (BigInt.asIntN(64, value) === value || BigInt.asUintN(64, value) === value);
const isNumber = (value: unknown): boolean => typeof value === 'number';
const isFunctionReference = (value: unknown): boolean => value === null || typeof value === 'function';

/** Whether the engine can be handed the value as it is. */
export const rawChecks: Readonly<Record<ValueType, (value: unknown) => boolean>> = {
  i32: isInt32,
  i64: isInt64,
  f32: isNumber,
  f64: isNumber,
  v128: () => false,
  funcref: isFunctionReference,
  externref: () => true,
};

/** @throws IguanaError `IGU_WASM_SIGNATURE` when number, types or values are not those of the signature. */
export function toRaw(name: string, type: FunctionType, args: readonly TypedValue[]): RawValue[] {
  if (args.length !== type.params.length) throw mismatch(name, type, args);
  return args.map((given, i) => {
    const wanted = type.params[i]!;
    const value =
      wanted === 'i64' && typeof given.value === 'number' && Number.isSafeInteger(given.value)
        ? BigInt(given.value)
        : given.value;
    if (given.type !== wanted || !rawChecks[wanted](value)) throw mismatch(name, type, args);
    return value;
  });
}

export function fromRaw(type: FunctionType, result: RawValue): TypedValue[] {
  const { results } = type;
  if (results.length === 0) return [];
  if (results.length === 1) return [{ type: results[0]!, value: result }];
  return results.map((one, i) => ({ type: one, value: (result as RawValue[])[i] }));
}

/** The error of a call with raw values, which carry no types. */
export function rawMismatch(name: string, type: FunctionType, given: readonly unknown[]): IguanaError {
  const shown = given.map((value) => `${typeof value} ${show(value)}`).join(', ');
  return new IguanaError('IGU_WASM_SIGNATURE', { name, expected: type.params.join(', '), given: shown });
}

function mismatch(name: string, type: FunctionType, args: readonly TypedValue[]): IguanaError {
  const shown = args.map((arg) => `${arg.type} ${show(arg.value)}`).join(', ');
  return new IguanaError('IGU_WASM_SIGNATURE', { name, expected: type.params.join(', '), given: shown });
}

function show(value: unknown): string {
  const text = typeof value === 'function' ? 'function' : String(value);
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

/**
 * A value from text: whole numbers decimal or 0x…, floats as JavaScript reads them, also nan, inf and -inf; `null` for references.
 * @throws IguanaError `IGU_WASM_SIGNATURE`
 */
export function parseValue(name: string, type: ValueType, text: string): TypedValue {
  const value = parseText(type, text.trim());
  if (value === undefined || !rawChecks[type](value))
    throw new IguanaError('IGU_WASM_SIGNATURE', { name, expected: type, given: text });
  return { type, value };
}

function parseText(type: ValueType, text: string): unknown {
  if (type === 'i32' || type === 'i64') {
    const digits = /^(-?)(\d+|0x[0-9a-f]+)$/i.exec(text);
    if (!digits) return undefined;
    const whole = digits[1] === '-' ? -BigInt(digits[2]!) : BigInt(digits[2]!);
    return type === 'i64' ? whole : Number(whole);
  }
  if (type === 'f32' || type === 'f64') {
    const special = /^(-?)(nan|inf|infinity)$/i.exec(text);
    if (special) return special[2]!.toLowerCase() === 'nan' ? Number.NaN : special[1] ? -Infinity : Infinity;
    const value = text === '' ? Number.NaN : Number(text);
    return Number.isNaN(value) ? undefined : value;
  }
  return text === 'null' ? null : undefined;
}
