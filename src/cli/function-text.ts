import type { TriggerStatus } from '../dashboard/function-api.js';
import type { FunctionDefinition, Trigger } from '../functions/definition.js';
import type { AliasWeights } from '../functions/function-service.js';

/** A function as the API lists it: without its code. */
export interface ListedFunction {
  readonly name: string;
  readonly version: number;
  readonly aliases: Readonly<Record<string, AliasWeights>>;
  /** Its stream, queue, timer and event triggers do nothing. */
  readonly paused: boolean;
  readonly definition: Omit<FunctionDefinition, 'code'>;
  /** Triggers that cannot be served, and why. */
  readonly notServed: readonly { readonly message: string }[];
}

/** A trigger as it is written on the command line, with the alias that it calls. */
export function triggerText(trigger: Trigger): string {
  return trigger.alias === undefined ? sourceText(trigger) : `${sourceText(trigger)} (${trigger.alias})`;
}

function sourceText(trigger: Trigger): string {
  switch (trigger.type) {
    case 'http':
      return `http:${trigger.method}:${trigger.path}`;
    case 'timer':
      return `timer:"${trigger.cron}"${trigger.timezone === 'UTC' ? '' : ` ${trigger.timezone}`}`;
    case 'event':
      return `event:${trigger.eventType}`;
    default:
      return `${trigger.type}:${trigger.topic}`;
  }
}

/** How a trigger stands and what was counted of it; empty when nothing is known. */
export function standingText({ type, lag, verdict, counts }: TriggerStatus): string {
  if (!counts) return '';
  const { runs = 0, failures = 0, missed = 0, overlapped = 0 } = counts;
  if (type === 'timer')
    return `${runs} ${runs === 1 ? 'run' : 'runs'}, of them ${failures} failed; left out: ${missed} missed, ${overlapped} overlapped`;
  const { done = 0, givenUp = 0, filtered = 0, calls = 0, failedCalls = 0 } = counts;
  const now = lag === undefined ? '' : `; ${lag} behind${verdict === undefined ? '' : ` (${verdict})`}`;
  return `${done} done, ${givenUp} given up, ${filtered} filtered in ${calls} calls, of them ${failedCalls} failed${now}`;
}

/** A time in milliseconds with three digits that count. */
export function timeText(ms: number): string {
  if (ms >= 60_000) return `${(ms / 60_000).toPrecision(3)} min`;
  if (ms >= 1_000) return `${(ms / 1_000).toPrecision(3)} s`;
  return ms >= 1 || ms === 0 ? `${Number(ms.toPrecision(3))} ms` : `${Number((ms * 1_000).toPrecision(3))} µs`;
}

/** US dollars: cents from a dollar on, else as many digits as there are to tell. */
export function costText(usd: number): string {
  if (usd === 0 || usd >= 1) return `${usd.toFixed(2)} USD`;
  const digits = Math.min(12, 3 - Math.floor(Math.log10(usd)));
  return `${usd.toFixed(digits)} USD`;
}
