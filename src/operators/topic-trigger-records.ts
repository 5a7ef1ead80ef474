import { isUtf8 } from 'node:buffer';
import { decodeAvro } from '../codec/avro.js';
import { deadLetter } from '../codec/dead-letter.js';
import { IguanaError } from '../errors.js';
import type { EventRecord } from '../functions/invocation.js';
import type { GivenUp, StreamRecord } from '../functions/triggers/stream-dispatcher.js';
import type { ReceivedMessage } from '../kafka/partition-consumer.js';
import type { OutRecord } from '../kafka/sink.js';
import { streamTriggerLimits } from '../limits.js';

const NO_HEADERS: Readonly<Record<string, string>> = Object.freeze({});
/** First bytes of JSON: white space, an object, list, string, number, true, false, null. */
const BEGINS_JSON = new Set([...' \t\r\n{["-0123456789tfn'].map((c) => c.charCodeAt(0)));

/** A message as the dispatcher sees it. */
export class TopicRecord implements StreamRecord {
  readonly offset: number;
  readonly key: string | null;
  readonly bytes: number;
  readonly timestamp: number;

  constructor(readonly message: ReceivedMessage) {
    const { key, value } = message;
    this.offset = Number(message.offset);
    this.key = key ? textOf(key) : null;
    this.bytes = (key?.length ?? 0) + (value?.length ?? 0);
    this.timestamp = Number(message.timestamp);
  }

  decode(): EventRecord {
    const { key, offset, timestamp } = this;
    const { value, headers } = this.message;
    return { key, value: value ? decodeValue(value) : null, headers: headersOf(headers), offset, timestamp };
  }
}

/**
 * A value as a function gets it: Avro single-object of a schema that is known, JSON, other text, else bytes.
 * Errors: `IGU_RECORD_MALFORMED` for Avro that is torn.
 */
export function decodeValue(bytes: Buffer): unknown {
  if (bytes[0] === 0xc3 && bytes[1] === 0x01) {
    try {
      return decodeAvro(bytes).value;
    } catch (error) {
      if (!(error instanceof IguanaError) || error.code !== 'IGU_SCHEMA_UNKNOWN') throw error;
    }
  }
  // a copy: bytes that are sent to a thread take along all of the memory they lie in
  if (!isUtf8(bytes)) return Uint8Array.from(bytes);
  const text = bytes.toString('utf8');
  if (!BEGINS_JSON.has(bytes[0] ?? 0)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** Keys that are not text are base64. */
function textOf(key: Buffer): string {
  return isUtf8(key) ? key.toString('utf8') : key.toString('base64');
}

function headersOf(headers: ReceivedMessage['headers']): Readonly<Record<string, string>> {
  if (!headers) return NO_HEADERS;
  const texts: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const last = Array.isArray(value) ? value.at(-1) : value;
    if (last !== undefined) texts[name] = String(last);
  }
  return texts;
}

export interface Output {
  /** Offset of the input that it came of; undefined when it came of all of them. */
  readonly offset: number | undefined;
  readonly record: OutRecord;
}

/**
 * The records that a function's answer makes. Of a list with as many elements as there were inputs each comes of the input at its place and has its key; other
 * answers have the key of the first input. What is null or undefined makes none. `iguana-id` says of which input it is: the same input gives the same id.
 * Errors: `IGU_FUNCTION_FAILED` for one that is too large.
 */
export function outputsOf(name: string, source: string, inputs: readonly TopicRecord[], output: unknown): Output[] {
  if (output === undefined || output === null) return [];
  const outputs: Output[] = [];
  const [first, last] = [inputs[0]!, inputs.at(-1)!];
  const list: readonly unknown[] = Array.isArray(output) ? output : [output];
  const aligned = Array.isArray(output) && list.length === inputs.length;
  for (let i = 0; i < list.length; i++) {
    const element = list[i];
    if (element === undefined || element === null) continue;
    const input = aligned ? inputs[i]! : first;
    const value = encodeValue(element);
    if (value.length > streamTriggerLimits.maxOutputBytes) {
      const what = `it returned ${value.length} bytes for one record, more than ${streamTriggerLimits.maxOutputBytes}`;
      throw new IguanaError('IGU_FUNCTION_FAILED', { name, what });
    }
    const id = aligned ? `${source}/${input.offset}` : `${source}/${first.offset}-${last.offset}/${i}`;
    const record = { key: input.message.key, value, headers: { 'iguana-id': id } };
    outputs.push({ offset: aligned ? input.offset : undefined, record });
  }
  return outputs;
}

/** Text and bytes as they are, the rest as JSON. */
function encodeValue(value: unknown): Buffer | string {
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return JSON.stringify(value) ?? 'null';
}

/** What is kept of a record's headers with its dead letter: all of them where there is room, else none. */
export function keptHeaders(headers: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  let bytes = 0;
  for (const [name, value] of Object.entries(headers)) bytes += name.length + value.length;
  return bytes <= streamTriggerLimits.maxKeptHeaderBytes ? headers : NO_HEADERS;
}

/** A record that was given up, as it came, with its headers as far as there is room, and why. */
export function deadLetterOf(
  name: string,
  topic: string,
  partition: number,
  { record, code, reason, attempts }: GivenUp<TopicRecord>,
): OutRecord {
  const { message } = record;
  const letter = deadLetter({ topic, partition, ...message }, code, reason);
  return {
    key: letter.key,
    value: letter.value,
    headers: {
      ...keptHeaders(headersOf(message.headers)),
      ...letter.headers,
      'iguana-attempts': String(attempts),
      'iguana-function': name,
      'iguana-timestamp': message.timestamp,
    },
  };
}
