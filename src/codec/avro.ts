import { readFileSync } from 'node:fs';
import avro from 'avsc';
import { IguanaError, messageOf } from '../errors.js';
import { fingerprint64 } from './fingerprint.js';

/** The schemas of `schemas/`, one a topic; `metrics-batch` is the columnar form of `metrics`. */
export const schemaNames = ['metrics', 'metrics-batch', 'forecasts', 'anomalies', 'decisions', 'dead-letters'] as const;
export type SchemaName = (typeof schemaNames)[number];

interface Known {
  readonly name: SchemaName;
  readonly type: avro.Type;
  /** `C3 01` and the fingerprint, as Avro's single-object encoding begins. */
  readonly header: Buffer;
}

const loaded = new Map<SchemaName, Known>();
let byFingerprint: Map<string, Known> | undefined;

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

/** Reads Avro single-object. Errors: `IGU_SCHEMA_UNKNOWN`, `IGU_RECORD_MALFORMED`. */
export function decodeAvro(bytes: Buffer): { name: SchemaName; value: unknown } {
  byFingerprint ??= new Map(schemaNames.map((name) => [load(name).header.toString('hex'), load(name)]));
  const known = byFingerprint.get(bytes.subarray(0, 10).toString('hex'));
  if (!known) throw new IguanaError('IGU_SCHEMA_UNKNOWN', { id: bytes.subarray(2, 10).toString('hex') });
  return { name: known.name, value: decodeBody(known.name, bytes.subarray(10)) };
}

/** Reads an Avro body whose schema is known from elsewhere. Errors: `IGU_RECORD_MALFORMED`. */
export function decodeBody(name: SchemaName, body: Buffer): unknown {
  try {
    return load(name).type.fromBuffer(body);
  } catch (cause) {
    throw new IguanaError('IGU_RECORD_MALFORMED', { what: `${name}: ${messageOf(cause)}` }, { cause });
  }
}
