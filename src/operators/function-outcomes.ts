import { encodeJson } from '../codec/encode.js';
import { type ErrorCode, IguanaError, messageOf } from '../errors.js';
import type { FunctionDefinition } from '../functions/definition.js';
import type { CloudEvent } from '../functions/invocation.js';
import type { CallOutcome, DeliverOutcome } from '../functions/triggers/call-outcome.js';
import { resultEvent, writeCloudEvent } from '../functions/triggers/cloud-events.js';
import type { OutRecord, Sink } from '../kafka/sink.js';
import { kafkaLimits } from '../limits.js';

export interface OutcomeOptions {
  readonly sink: Pick<Sink, 'write'>;
  /** Undefined for a function that is not there any more: its outcomes go nowhere. */
  readonly definitionOf: (name: string) => FunctionDefinition | undefined;
  readonly onError?: (error: unknown) => void;
}

/**
 * Writes outcomes of timers, events and calls that nobody waits for to the topics of the function's definition. What timers and events make goes to
 * `output`, a list record by record: the value alone, with the attributes of a CloudEvent in the headers, so that a function may be started by it. How the
 * call ended goes to `onSuccess` or `onFailure` (`schemas/function-results.avsc`, as JSON).
 * Resolves when the broker has it. A result that no record can be made of counts as a failure of the function.
 */
export function functionOutcomes(options: OutcomeOptions): DeliverOutcome {
  const { sink, definitionOf, onError } = options;
  return async (outcome) => {
    const definition = definitionOf(outcome.function);
    if (!definition) return;
    const { output, onSuccess, onFailure } = definition;
    let ended = outcome;
    let records: OutRecord[] = [];
    if (output !== undefined && outcome.result && outcome.event.trigger !== 'call') {
      try {
        records = outputsOf(outcome);
      } catch (error) {
        onError?.(error);
        const { result: _, ...rest } = outcome;
        ended = { ...rest, error };
      }
    }
    const told = ended.result ? onSuccess : onFailure;
    await Promise.all([
      output === undefined ? undefined : sink.write(output, records),
      told === undefined ? undefined : sink.write(told, [{ key: ended.function, value: resultRecord(ended) }]),
    ]);
  };
}

function outputsOf({ function: name, invocationId, event, result }: CallOutcome): OutRecord[] {
  const cause: CloudEvent | undefined = event.trigger === 'event' ? event.event : undefined;
  const { output } = result!;
  const items: readonly unknown[] =
    output === undefined || output === null ? [] : Array.isArray(output) ? output : [output];
  return items.map((item, i) => {
    const made = resultEvent(name, item, `${invocationId}-${i}`, cause);
    const { headers, value } = writeCloudEvent(made, 'binary');
    const record = { key: made.subject ?? cause?.subject ?? name, headers, value };
    assertFits(record, `${name} returned`);
    return record;
  });
}

/** A record that no broker takes would be tried for ever. @throws IguanaError `IGU_RECORD_MALFORMED` */
export function assertFits({ key, value, headers = {} }: OutRecord, who: string): void {
  const texts = [key ?? '', value ?? '', ...Object.entries(headers).flat()];
  const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
  if (bytes <= kafkaLimits.maxBytesPerFlush) return;
  throw new IguanaError('IGU_RECORD_MALFORMED', { what: `${who} ${bytes} bytes for one record` });
}

const neverRan: ReadonlySet<ErrorCode> = new Set([
  'IGU_FUNCTION_BUSY',
  'IGU_FUNCTION_EXPIRED',
  'IGU_FUNCTION_NOT_FOUND',
  'IGU_FUNCTION_NOT_READY',
]);

/** A record of `schemas/function-results.avsc`. */
export function resultRecord({
  function: name,
  invocationId: id,
  startedAt,
  endedAt,
  result,
  error,
}: CallOutcome): Buffer {
  const code = error instanceof IguanaError ? error.code : undefined;
  const refused = code !== undefined && neverRan.has(code);
  const failure = code === 'IGU_FUNCTION_TIMEOUT' ? 'timeout' : refused ? 'refused' : 'failed';
  const durationMs = result?.durationMs ?? 0;
  const body = jsonBytes(result?.output);
  return encodeJson({
    id,
    function: name,
    timestamp: endedAt,
    outcome: result ? 'done' : failure,
    durationMs,
    waitedMs: Math.max(0, endedAt - startedAt - durationMs),
    cold: result ? result.cold !== false : false,
    memoryBytes: result ? result.memoryUsedMb * 2 ** 20 : null,
    error: result ? null : messageOf(error),
    contentType: 'application/json',
    body: body.length > kafkaLimits.maxBytesPerFlush / 2 ? '' : body,
  });
}

/** JSON in ASCII only: bytes of Avro in JSON are a text with a character for each. */
function jsonBytes(value: unknown): string {
  const text =
    value instanceof Uint8Array ? JSON.stringify(Buffer.from(value).toString('base64')) : JSON.stringify(value);
  return (text ?? 'null').replace(/[\u0080-\uffff]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
