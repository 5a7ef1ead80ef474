import type { FunctionEvent, InvocationContext } from '../invocation.js';

/** The event as a guest reads it: JSON with the call's context beside the event's own members, bytes as `{"base64": "…"}`. */
export function eventText(event: FunctionEvent, context: InvocationContext): string {
  // the spread last: V8 11 keeps what is made by adding members behind one until a full collection
  const whole = { context, ...event };
  // a replacer is asked for every value: four times the time
  return holdsOthers(event) ? JSON.stringify(whole, jsonValue) : JSON.stringify(whole);
}

/** Whether there is something in it that JSON has no form for. */
function holdsOthers(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return typeof value === 'bigint';
  if (value instanceof Uint8Array) return true;
  for (const key in value) if (holdsOthers((value as Record<string, unknown>)[key])) return true;
  return false;
}

function jsonValue(this: unknown, _key: string, value: unknown): unknown {
  if (value instanceof Uint8Array) return { base64: Buffer.from(value).toString('base64') };
  // a Buffer has turned itself into this by now
  if (isBufferJson(value)) return { base64: Buffer.from(value.data).toString('base64') };
  return typeof value === 'bigint' ? value.toString() : value;
}

function isBufferJson(value: unknown): value is { data: number[] } {
  const { type, data } = (value ?? {}) as { type?: unknown; data?: unknown };
  return type === 'Buffer' && Array.isArray(data);
}

/** What a guest answered: JSON where it is some, else the text or the bytes. `{"base64": "…"}` is bytes, alone or as the member `body`. */
export function answerValue(answer: string | Uint8Array): unknown {
  if (typeof answer !== 'string') return answer;
  if (answer === '') return null;
  let value: unknown;
  try {
    value = JSON.parse(answer);
  } catch {
    // text is an answer too
    return answer;
  }
  const bytes = bytesOf(value);
  if (bytes) return bytes;
  const body = typeof value === 'object' && value !== null ? bytesOf((value as { body?: unknown }).body) : undefined;
  return body ? { ...(value as object), body } : value;
}

function bytesOf(value: unknown): Uint8Array | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { base64 } = value as { base64?: unknown };
  if (typeof base64 !== 'string' || Object.keys(value).length !== 1) return undefined;
  return new Uint8Array(Buffer.from(base64, 'base64'));
}
