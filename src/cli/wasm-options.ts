import { InvalidArgumentError } from 'commander';
import { IguanaError } from '../errors.js';
import { engineNames } from '../wasm/engines/open-engine.js';
import type { ModuleHandle } from '../wasm/runtime/runtime.js';
import { parseValue, type TypedValue } from '../wasm/runtime/values.js';
import type { FunctionType } from '../wasm/types.js';
import { nearest, oneOf } from './suggest.js';

export const parseEngine = oneOf(engineNames);
export const parseTier = oneOf(['baseline', 'optimised', 'tiered', 'interpreter'] as const);

const units: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** Bytes of `64MiB`, `64MB`, `65536`. */
export function parseBytes(given: string): number {
  const parts = /^(\d+(?:\.\d+)?)\s*([a-z]*)$/i.exec(given);
  const bytes = Math.floor(Number(parts?.[1]) * (units[parts?.[2]?.toUpperCase() ?? ''] ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) throw new InvalidArgumentError('A size such as 64MiB, 500KB or 65536 is needed.');
  return bytes;
}

/** ms of `250ms`, `1s`, `5m`; a bare number is seconds. */
export function parseTime(given: string): number {
  const parts = /^(\d+(?:\.\d+)?)(ms|s|m)?$/.exec(given);
  const unit = { ms: 1, s: 1000, m: 60_000 }[parts?.[2] ?? 's'];
  const ms = Math.ceil(Number(parts?.[1]) * (unit ?? Number.NaN));
  if (!(ms > 0)) throw new InvalidArgumentError('A time such as 250ms, 1s or 5m is needed.');
  return ms;
}

/** An option that may be given several times. */
export function collect<T>(parse: (given: string) => T): (given: string, before: readonly T[] | undefined) => T[] {
  return (given, before = []) => [...before, parse(given)];
}

/** `K=V`; a name alone takes the value that it has here. */
export function parseEnvironment(given: string): string {
  const at = given.indexOf('=');
  if (at > 0) return given;
  const here = at < 0 ? process.env[given] : undefined;
  if (here === undefined)
    throw new InvalidArgumentError('NAME=VALUE is needed, or the name of a variable that is set here.');
  return `${given}=${here}`;
}

export interface GivenDirectory {
  readonly host: string;
  readonly guest: string;
  readonly readOnly: boolean;
}

/** `HOST::GUEST[:ro]`; `HOST` alone is the same path for the guest. */
export function parseDirectory(given: string): GivenDirectory {
  const readOnly = /:ro$/.test(given);
  const [host, guest, more] = given.replace(/:r[ow]$/, '').split('::');
  // one colon is what other tools take; a drive of Windows has one letter before it
  const oneColon = guest === undefined && /([^a-z]|..):\//i.test(host ?? '');
  if (!host || guest === '' || more !== undefined || oneColon)
    throw new InvalidArgumentError('HOST::GUEST is needed (two colons), with :ro behind it for reading only.');
  return { host, guest: guest ?? host, readOnly };
}

export interface Invocation {
  readonly name: string;
  readonly args: readonly TypedValue[];
}

/**
 * The export to call with its arguments as values of its signature.
 * @throws IguanaError `IGU_WASM_NOT_FOUND` with the name that was perhaps meant, `IGU_WASM_SIGNATURE`
 */
export function invocationOf(module: Pick<ModuleHandle, 'exports'>, words: readonly string[]): Invocation {
  const [name = '', ...texts] = words;
  const type = functionOf(module, name);
  if (texts.length !== type.params.length)
    throw new IguanaError('IGU_WASM_SIGNATURE', { name, expected: type.params.join(', '), given: texts.join(', ') });
  return { name, args: texts.map((text, i) => parseValue(`argument ${i + 1} of ${name}`, type.params[i]!, text)) };
}

function functionOf(module: Pick<ModuleHandle, 'exports'>, name: string): FunctionType {
  const functions = module.exports.filter((one) => one.kind === 'function');
  const found = functions.find((one) => one.name === name);
  if (found) return found.type;
  const names = functions.map((one) => one.name);
  const near = nearest(name, names);
  const known = names.length > 8 ? `${names.slice(0, 8).join(', ')}, …` : names.join(', ') || 'none';
  throw new IguanaError('IGU_WASM_NOT_FOUND', {
    kind: 'exported function',
    name,
    of: near ? ` in the module (did you mean ${near}?)` : ` in the module, which exports ${known}`,
  });
}

/** A value as a person or a program reads it: what JSON has no number for is text. */
export function valueText(value: unknown): string | number | null {
  if (typeof value === 'bigint') return String(value);
  if (typeof value === 'number') return Number.isFinite(value) && !Object.is(value, -0) ? value : showNumber(value);
  return value === null ? null : typeof value;
}

function showNumber(value: number): string {
  if (Object.is(value, -0)) return '-0';
  return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
}

export function signatureText({ params, results }: FunctionType): string {
  return `(${params.join(', ')}) → (${results.join(', ')})`;
}
