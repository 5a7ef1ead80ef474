import { type ErrorCode, IguanaError, messageOf } from '../../errors.js';
import { type TrapKind, WasmTrap } from '../trap.js';
import { WasiExit } from '../wasi/wasi-error.js';

/** An error as it crosses threads. */
export type PlainError =
  | { readonly kind: 'trap'; readonly trap: TrapKind; readonly frames: readonly string[]; readonly cause: string }
  | { readonly kind: 'coded'; readonly code: ErrorCode; readonly details: Record<string, string | number> }
  | { readonly kind: 'exit'; readonly code: number; readonly signal?: number }
  | { readonly kind: 'other'; readonly name: string; readonly message: string; readonly stack: string };

export function toPlain(error: unknown): PlainError {
  if (error instanceof WasmTrap)
    return { kind: 'trap', trap: error.trap, frames: error.frames, cause: messageOf(error.cause) };
  if (error instanceof WasiExit)
    return { kind: 'exit', code: error.code, ...(error.signal !== undefined && { signal: error.signal }) };
  if (error instanceof IguanaError) return { kind: 'coded', code: error.code, details: error.details };
  const { name, stack } = error instanceof Error ? error : { name: 'Error', stack: undefined };
  return { kind: 'other', name, message: messageOf(error), stack: stack ?? '' };
}

export function fromPlain(plain: PlainError): Error {
  if (plain.kind === 'trap') return new WasmTrap(plain.trap, plain.frames, { cause: new Error(plain.cause) });
  if (plain.kind === 'coded') return new IguanaError(plain.code, plain.details);
  if (plain.kind === 'exit') return new WasiExit(plain.code, plain.signal);
  const error = new Error(plain.message);
  error.name = plain.name;
  error.stack = plain.stack;
  return error;
}
