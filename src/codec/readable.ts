import { decodeAvro } from './avro.js';

/** Any value of our topics as plain data: Avro single-object or JSON; other text as it is. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function readableValue(bytes: Buffer): unknown {
  if (bytes[0] === 0xc3 && bytes[1] === 0x01) return decodeAvro(bytes).value;
  const text = bytes.toString('utf8');
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
