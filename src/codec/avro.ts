import { readFileSync } from 'node:fs';
import avro from 'avsc';
import { IguanaError, messageOf } from '../errors.js';
import { fits } from './avro-bounds.js';
import { fingerprint64 } from './fingerprint.js';

/** The schemas of `schemas/`, one a topic; `metrics-batch` is the columnar form of `metrics`. */
export const schemaNames = [
  'metrics',
  'metrics-batch',
  'forecasts',
  'anomalies',
  'decisions',
  'actions',
  'gpu-inventory',
  'gpu-requests',
  'gpu-allocations',
  'function-events',
  'function-results',
  'function-usage',
  'dead-letters',
] as const;
export type SchemaName = (typeof schemaNames)[number];

interface Known {
  readonly name: SchemaName;
  readonly type: avro.Type;
  /** `C3 01` and the fingerprint, as Avro's single-object encoding begins. */
  readonly header: Buffer;
}

const loaded = new Map<SchemaName, Known>();
let byFingerprint: Map<number, Known> | undefined;

/** Reads a schema on first use. */
function load(name: SchemaName): Known {
  let known = loaded.get(name);
  if (!known) {
    const type = avro.Type.forSchema(JSON.parse(readSchema(name)));
    // avsc's `schema()` is the parsing canonical form when printed without spaces
    const header = Buffer.concat([Buffer.from([0xc3, 0x01]), fingerprint64(JSON.stringify(type.schema()))]);
    known = { name, type, header };
    loaded.set(name, known);
  }
  return known;
}

function readSchema(name: SchemaName): string {
  // beside `src/` in the sources, beside `dist/` when compiled
  for (const up of ['../../', '../../../']) {
    try {
      return readFileSync(new URL(`${up}schemas/${name}.avsc`, import.meta.url), 'utf8');
    } catch {
      // the other place
    }
  }
  throw new IguanaError('IGU_FILE_MISSING', { path: `schemas/${name}.avsc` });
}

/** A value of a schema as Avro single-object: marker, fingerprint, body. */
export function encodeAvro(name: SchemaName, value: unknown): Buffer {
  const { type, header } = load(name);
  return Buffer.concat([header, type.toBuffer(value)]);
}

/** Length of what precedes the body in Avro single-object encoding. */
export const SINGLE_OBJECT_HEADER = 10;

/** Which schema Avro single-object bytes name. Errors: `IGU_SCHEMA_UNKNOWN`. */
export function schemaOf(bytes: Buffer): SchemaName {
  byFingerprint ??= new Map(schemaNames.map((name) => [keyOf(load(name).header), load(name)]));
  const known = bytes.length < SINGLE_OBJECT_HEADER ? undefined : byFingerprint.get(keyOf(bytes));
  if (known && bytes.compare(known.header, 0, SINGLE_OBJECT_HEADER, 0, SINGLE_OBJECT_HEADER) === 0) return known.name;
  throw new IguanaError('IGU_SCHEMA_UNKNOWN', { id: bytes.subarray(2, SINGLE_OBJECT_HEADER).toString('hex') });
}

/** Half of the fingerprint: enough to find the one schema that may be meant. */
function keyOf(header: Buffer): number {
  return header.readUInt32LE(2);
}

/** Reads Avro single-object. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeAvro(bytes: Buffer): { name: SchemaName; value: unknown } {
  const name = schemaOf(bytes);
  return { name, value: decodeBody(name, bytes.subarray(SINGLE_OBJECT_HEADER)) };
}

/** A parsed value, if it has the shape of a schema. Errors: `IGU_RECORD_MALFORMED`, which names the first field that has not. */
export function checked(name: SchemaName, value: unknown): unknown {
  let wrong: string | undefined;
  load(name).type.isValid(value, {
    errorHook: (path, found) => {
      wrong ??= `"${path.join('.')}" is ${JSON.stringify(found)?.slice(0, 40) ?? 'missing'}`;
    },
  });
  if (wrong !== undefined) throw new IguanaError('IGU_RECORD_MALFORMED', { what: `${name}: ${wrong}` });
  return value;
}

/** Reads an Avro body whose schema is known from elsewhere. Errors: `IGU_RECORD_MALFORMED`. */
export function decodeBody(name: SchemaName, body: Buffer): unknown {
  const { type } = load(name);
  if (!fits(type, body))
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: `${name}: the record is torn or damaged` });
  try {
    return type.fromBuffer(body);
  } catch (cause) {
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: `${name}: ${messageOf(cause)}` }, { cause });
  }
}
