import { IguanaError, messageOf } from '../../errors.js';
import { eventLimits } from '../../limits.js';
import type { CloudEvent } from '../invocation.js';

/** Extension attribute: how many functions have handed the event on. */
const DEPTH = 'iguanadepth';
const STRUCTURED = 'application/cloudevents+json';
const BATCH = 'application/cloudevents-batch+json';
const ATTRIBUTE = /^[a-z0-9]{1,64}$/;
const RFC_3339 = /^\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})$/;

/** How many functions have handed an event on; 0 for one that comes from outside. */
export function depthOf(event: CloudEvent): number {
  const depth = Number(event[DEPTH] ?? 0);
  return Number.isInteger(depth) && depth > 0 ? depth : 0;
}

/** @throws IguanaError `IGU_FUNCTION_EVENT_DEPTH` for an event that was handed on too often */
export function assertDepth(event: CloudEvent): void {
  const depth = depthOf(event);
  if (depth <= eventLimits.maxDepth) return;
  throw new IguanaError('IGU_FUNCTION_EVENT_DEPTH', { id: event.id, type: event.type, depth });
}

/**
 * The event that a function's result is: the result itself when it is a CloudEvent, else one of type `iguana.function.result` that carries it. It is one
 * deeper than what the function was started by, whatever the function says.
 * @param id of the event, when the result has none of its own
 */
export function resultEvent(name: string, output: unknown, id: string, cause: CloudEvent | undefined): CloudEvent {
  const given = isEvent(output) ? parseCloudEvent({ id, source: `/functions/${name}`, ...output }) : undefined;
  const made = given ?? {
    specversion: '1.0' as const,
    id,
    source: `/functions/${name}`,
    type: 'iguana.function.result',
    datacontenttype: output instanceof Uint8Array ? 'application/octet-stream' : 'application/json',
    data: output,
  };
  return { ...made, [DEPTH]: (cause ? depthOf(cause) : 0) + 1 };
}

function isEvent(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && 'specversion' in value && 'type' in value;
}

/**
 * Reads an event in its JSON form (CloudEvents 1.0.2, JSON event format): checks the attributes, takes `data_base64` apart to bytes, leaves out attributes
 * that are null.
 * @throws IguanaError `IGU_RECORD_MALFORMED`
 */
export function parseCloudEvent(value: unknown): CloudEvent {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed('not an object');
  const { data, data_base64: base64, ...attributes } = value as Record<string, unknown>;
  const event: Record<string, unknown> = {};
  const entries = Object.entries(attributes).filter(([, one]) => one !== null && one !== undefined);
  if (entries.length > eventLimits.maxAttributes) throw malformed(`${entries.length} attributes`);
  for (const [name, one] of entries) {
    if (!ATTRIBUTE.test(name)) throw malformed(`attribute ${JSON.stringify(name.slice(0, 80))}: a-z and 0-9 only`);
    const kind = typeof one;
    if (kind !== 'string' && kind !== 'boolean' && !(kind === 'number' && Number.isInteger(one)))
      throw malformed(`attribute ${name} is neither text, whole number nor boolean`);
    event[name] = one;
  }
  if (event.specversion !== '1.0') throw malformed(`specversion is ${JSON.stringify(event.specversion)}, not "1.0"`);
  for (const name of ['id', 'source', 'type']) {
    if (typeof event[name] !== 'string' || event[name] === '') throw malformed(`${name} is missing`);
  }
  for (const name of ['subject', 'datacontenttype', 'dataschema']) {
    if (event[name] !== undefined && (typeof event[name] !== 'string' || event[name] === ''))
      throw malformed(`${name} is not a text`);
  }
  const { time } = event;
  if (time !== undefined && !(typeof time === 'string' && RFC_3339.test(time) && Number.isFinite(Date.parse(time))))
    throw malformed(`time ${JSON.stringify(time).slice(0, 80)} is not RFC 3339`);
  if (base64 !== undefined && base64 !== null) {
    if (data !== undefined) throw malformed('both data and data_base64');
    if (typeof base64 !== 'string') throw malformed('data_base64 is not a text');
    event.data = new Uint8Array(Buffer.from(base64, 'base64'));
  } else if (data !== undefined) event.data = data;
  return event as CloudEvent;
}

/** The JSON form of an event. */
export function cloudEventJson(event: CloudEvent): string {
  const { data, ...attributes } = event;
  const body =
    data instanceof Uint8Array
      ? { data_base64: Buffer.from(data).toString('base64') }
      : data === undefined
        ? {}
        : { data };
  return JSON.stringify({ ...attributes, ...body });
}

/** How a transport writes attributes into headers: Kafka as they are behind `ce_`, HTTP with percent signs behind `ce-`. */
export type CloudEventBinding = 'kafka' | 'http';

/**
 * Reads a message of the Kafka or HTTP protocol binding: structured when its content type says so, binary when it has the version among its headers.
 * @param headers names in lower case
 * @throws IguanaError `IGU_RECORD_MALFORMED` also for what is no event at all
 */
export function readCloudEvent(
  headers: Readonly<Record<string, string>>,
  body: Uint8Array | null,
  binding: CloudEventBinding,
): CloudEvent {
  const type = headers['content-type'];
  if (type !== undefined && mediaType(type) === STRUCTURED) return parseCloudEvent(parsedJson(textOf(body ?? NOTHING)));
  const prefix = binding === 'kafka' ? 'ce_' : 'ce-';
  const attributes: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (!name.startsWith(prefix)) continue;
    attributes[name.slice(prefix.length)] = binding === 'http' ? unescaped(value) : value;
  }
  if (attributes.specversion === undefined) throw malformed('neither a structured nor a binary CloudEvent');
  if (type !== undefined) attributes.datacontenttype = type;
  const event = parseCloudEvent(attributes);
  return body === null || body.length === 0 ? event : { ...event, data: dataOf(type, body) };
}

/**
 * Reads the body of an HTTP request: one event as `readCloudEvent`, or several in the batched mode.
 * @throws IguanaError `IGU_RECORD_MALFORMED`: none of a batch is taken then
 */
export function readCloudEvents(headers: Readonly<Record<string, string>>, body: Uint8Array | null): CloudEvent[] {
  const type = headers['content-type'];
  if (type === undefined || mediaType(type) !== BATCH) return [readCloudEvent(headers, body, 'http')];
  const events = parsedJson(textOf(body ?? NOTHING));
  if (!Array.isArray(events)) throw malformed('a batch that is no list');
  if (events.length > eventLimits.maxBatch) throw malformed(`a batch of ${events.length}`);
  return events.map(parseCloudEvent);
}

/** An event as a Kafka message in structured mode, or in binary mode, whose value is the data alone. */
export function writeCloudEvent(
  event: CloudEvent,
  mode: 'structured' | 'binary',
): { readonly headers: Record<string, string>; readonly value: Buffer | null } {
  if (mode === 'structured') {
    return { headers: { 'content-type': `${STRUCTURED}; charset=UTF-8` }, value: Buffer.from(cloudEventJson(event)) };
  }
  const { data, datacontenttype, ...attributes } = event;
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(attributes)) headers[`ce_${name}`] = String(value);
  if (data === undefined)
    return { headers: datacontenttype ? { ...headers, 'content-type': datacontenttype } : headers, value: null };
  const bytes = data instanceof Uint8Array;
  const type = datacontenttype ?? (bytes ? 'application/octet-stream' : 'application/json');
  const text = typeof data === 'string' && !isJson(type);
  const value = bytes ? Buffer.from(data) : Buffer.from(text ? data : JSON.stringify(data));
  return { headers: { ...headers, 'content-type': type }, value };
}

const NOTHING = new Uint8Array(0);

/** JSON becomes values, text a string, the rest bytes; without a type what it can be read as. */
function dataOf(type: string | undefined, body: Uint8Array): unknown {
  if (type === undefined) {
    try {
      const text = textOf(body);
      return looksLikeJson(text) ? parsedJson(text) : text;
    } catch {
      // neither JSON nor text: bytes are the honest answer
      return new Uint8Array(body);
    }
  }
  if (isJson(type)) return parsedJson(textOf(body));
  return mediaType(type).startsWith('text/') ? textOf(body) : new Uint8Array(body);
}

function looksLikeJson(text: string): boolean {
  return /^\s*[[{"]/.test(text);
}

function isJson(type: string): boolean {
  return /^[^/]+\/([^/]+\+)?json$/.test(mediaType(type));
}

function mediaType(type: string): string {
  return type.split(';', 1)[0]!.trim().toLowerCase();
}

function textOf(body: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(body);
  } catch (cause) {
    throw malformed('not UTF-8', cause);
  }
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw malformed(messageOf(cause), cause);
  }
}

function unescaped(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch (cause) {
    throw malformed(messageOf(cause), cause);
  }
}

function malformed(what: string, cause?: unknown): IguanaError {
  return new IguanaError('IGU_RECORD_MALFORMED', { what: `CloudEvent: ${what}` }, cause === undefined ? {} : { cause });
}
