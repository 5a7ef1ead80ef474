/** Kafka messages described as data: a message is a list of fields, each with the versions that have it. Interpreted both ways. */
import type { ByteReader, ByteWriter } from './bytes.js';

export type Primitive = 'bool' | 'int8' | 'int16' | 'int32' | 'int64' | 'string' | 'string?' | 'bytes' | 'bytes?';

export type Type = Primitive | { readonly array: Type | Fields; readonly nullable?: boolean };

export interface Field {
  readonly name: string;
  readonly type: Type;
  /** First and last version that has the field. */
  readonly from: number;
  readonly to: number;
}

export type Fields = readonly Field[];

/** A field of all versions, or of those from `from` to `to`. */
export function field(name: string, type: Type, from = 0, to = Number.MAX_SAFE_INTEGER): Field {
  return { name, type, from, to };
}

export function array(of: Type | Fields): Type {
  return { array: of };
}

export function nullableArray(of: Type | Fields): Type {
  return { array: of, nullable: true };
}

export type Struct = { [name: string]: unknown };

export function decode(fields: Fields, version: number, reader: ByteReader): Struct {
  const out: Struct = {};
  for (const { name, type, from, to } of fields) {
    if (version >= from && version <= to) out[name] = readValue(type, version, reader);
  }
  return out;
}

/** Fields the version lacks are left out; a field the value lacks is written as its zero (empty, 0, false, or null where it may be). */
export function encode(fields: Fields, version: number, value: Struct, writer: ByteWriter): void {
  for (const { name, type, from, to } of fields) {
    if (version >= from && version <= to) writeValue(type, version, value[name], writer);
  }
}

function readValue(type: Type, version: number, reader: ByteReader): unknown {
  switch (type) {
    case 'bool':
      return reader.int8() !== 0;
    case 'int8':
      return reader.int8();
    case 'int16':
      return reader.int16();
    case 'int32':
      return reader.int32();
    case 'int64':
      return reader.int64();
    case 'string':
    case 'string?':
      return reader.string();
    case 'bytes':
    case 'bytes?':
      return reader.bytes();
    default: {
      const length = reader.int32();
      if (length < 0) return null;
      reader.assertArray(length);
      const of = type.array;
      const out: unknown[] = [];
      for (let i = 0; i < length; i++) {
        out.push(isFields(of) ? decode(of, version, reader) : readValue(of, version, reader));
      }
      return out;
    }
  }
}

function writeValue(type: Type, version: number, value: unknown, writer: ByteWriter): void {
  switch (type) {
    case 'bool':
      writer.int8(value ? 1 : 0);
      return;
    case 'int8':
      writer.int8((value as number | undefined) ?? 0);
      return;
    case 'int16':
      writer.int16((value as number | undefined) ?? 0);
      return;
    case 'int32':
      writer.int32((value as number | undefined) ?? 0);
      return;
    case 'int64':
      writer.int64((value as bigint | undefined) ?? 0n);
      return;
    case 'string':
      writer.string((value as string | undefined) ?? '');
      return;
    case 'string?':
      writer.string((value as string | null | undefined) ?? null);
      return;
    case 'bytes':
      writer.bytes((value as Buffer | undefined) ?? Buffer.alloc(0));
      return;
    case 'bytes?':
      writer.bytes((value as Buffer | null | undefined) ?? null);
      return;
    default: {
      const list = (value as readonly unknown[] | null | undefined) ?? (type.nullable ? null : []);
      writer.int32(list ? list.length : -1);
      const of = type.array;
      for (const item of list ?? []) {
        if (isFields(of)) encode(of, version, item as Struct, writer);
        else writeValue(of, version, item, writer);
      }
    }
  }
}

function isFields(of: Type | Fields): of is Fields {
  return Array.isArray(of);
}
