import type avro from 'avsc';

/** Walks over bytes without reading values. */
interface Walk {
  readonly bytes: Buffer;
  at: number;
}

/**
 * Whether bytes are exactly one value of a schema. To be asked before avsc decodes bytes from outside: it finds torn records only at their
 * end, and an array count of 2^50 in a damaged record would keep it busy, and fill memory, until the process dies. Cost: one pass over the
 * bytes.
 */
export function fits(type: avro.Type, bytes: Buffer): boolean {
  const walk: Walk = { bytes, at: 0 };
  return skip(type, walk) && walk.at === bytes.length;
}

function skip(type: avro.Type, walk: Walk): boolean {
  switch (type.typeName) {
    case 'null':
      return true;
    case 'boolean':
      return take(walk, 1);
    case 'int':
    case 'long':
      return long(walk) !== undefined;
    case 'float':
      return take(walk, 4);
    case 'double':
      return take(walk, 8);
    case 'string':
    case 'bytes':
      return take(walk, long(walk));
    case 'record':
      return (type as avro.types.RecordType).fields.every((field) => skip(field.type, walk));
    case 'array':
      return blocks(walk, () => skip((type as avro.types.ArrayType).itemsType, walk));
    case 'map':
      return blocks(walk, () => take(walk, long(walk)) && skip((type as avro.types.MapType).valuesType, walk));
    case 'union:unwrapped':
    case 'union:wrapped': {
      const branch = (type as avro.types.UnwrappedUnionType).types[long(walk) ?? -1];
      return branch !== undefined && skip(branch, walk);
    }
    default:
      return false;
  }
}

/** Items of an array or map, block after block; an item has a byte or more in all our schemas. */
function blocks(walk: Walk, item: () => boolean): boolean {
  for (;;) {
    let count = long(walk);
    if (count === undefined) return false;
    if (count === 0) return true;
    if (count < 0) {
      count = -count;
      if (long(walk) === undefined) return false;
    }
    if (count > walk.bytes.length - walk.at) return false;
    for (let i = 0; i < count; i++) if (!item()) return false;
  }
}

function take(walk: Walk, length: number | undefined): boolean {
  if (length === undefined || length < 0 || length > walk.bytes.length - walk.at) return false;
  walk.at += length;
  return true;
}

/** A zigzag varint; undefined: it does not end, or is not a safe integer. */
function long(walk: Walk): number | undefined {
  let value = 0;
  let scale = 1;
  for (let i = 0; i < 9; i++, scale *= 128) {
    const byte = walk.bytes[walk.at++];
    if (byte === undefined) return undefined;
    value += (byte & 127) * scale;
    if (byte < 128) {
      if (value > Number.MAX_SAFE_INTEGER) return undefined;
      return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    }
  }
  return undefined;
}
