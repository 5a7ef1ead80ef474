import { IguanaError } from '../errors.js';
import type { InvocationContext } from './invocation.js';

/** What the error of a call that failed says of it, as its cause. */
export interface FailureDetails {
  /** Where it was thrown, in the function. */
  readonly stack?: string;
  readonly logs?: readonly string[];
  readonly durationMs?: number;
  readonly gasUsed?: number;
}

/** The same error with what the call had logged, which its end could not tell. */
export function withLogs(error: IguanaError, logs: readonly string[]): IguanaError {
  if (logs.length === 0) return error;
  const { code, details, cause } = error;
  const { message, stack } = cause instanceof Error ? cause : { message: 'what it had logged', stack: '' };
  return new IguanaError(code, details, { cause: Object.assign(new Error(message, { cause }), { stack, logs }) });
}

interface GivenUp {
  lines: readonly string[];
  take: ((lines: readonly string[]) => void) | undefined;
}

/** Calls that were given up: who called was told at once, and they go on until they heed their signal or their time is over. */
const givenUp = new WeakMap<InvocationContext, GivenUp>();

/** For instances: lines of a call that was given up, when it is and when it has ended. */
export function tellLogs(context: InvocationContext, lines: readonly string[]): void {
  if (lines.length === 0) return;
  const call = givenUp.get(context);
  if (call?.take) call.take(lines);
  else givenUp.set(context, { lines: [...(call?.lines ?? []), ...lines], take: undefined });
}

/** For who called: what there is of them at once, the rest when the call has ended. */
export function takeLogs(context: InvocationContext, take: (lines: readonly string[]) => void): void {
  const lines = givenUp.get(context)?.lines ?? [];
  givenUp.set(context, { lines: [], take });
  if (lines.length > 0) take(lines);
}
