/**
 * Binary forms of a snapshot: its state without pages (for a store, which keeps pages by content), and all of it in one
 * piece.
 */
import { createHash } from 'node:crypto';
import { wasmSnapshotLimits } from '../../limits.js';
import { StateReader, StateWriter } from '../../state.js';
import type { ValueType } from '../types.js';
import { checkSnapshot } from './check-snapshot.js';
import { type SavedGlobal, SNAPSHOT_FORMAT, type Snapshot, snapshotError } from './snapshot.js';

const MAGIC = 'iguana snapshot\n';
const CHECKSUM = 32;

const types: readonly ValueType[] = ['i32', 'i64', 'f32', 'f64', 'funcref', 'externref'];

/** How the value of a global is written. */
const NULL = 0;
const NUMBER = 1;
const BIGINT = 2;

/** All of a snapshot in one piece, with a SHA-256 at its end: to send it, or to keep it in one file. Not compressed. */
export function encodeSnapshot(snapshot: Snapshot): Buffer {
  const writer = new StateWriter();
  writer.text(MAGIC).u32(snapshot.format);
  writer.nested((inner) => writeState(inner, snapshot));
  writer.u32(snapshot.wasi ? 1 : 0).bytes(snapshot.wasi ?? new Uint8Array(0));
  writer.bytes(snapshot.pages);
  const body = writer.finish();
  return Buffer.concat([body, createHash('sha256').update(body).digest()]);
}

/**
 * What `encodeSnapshot` wrote. Whether it fits a module shows when it is restored.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` when it is not a snapshot, of another format, damaged or cut off.
 */
export function decodeSnapshot(bytes: Uint8Array): Snapshot {
  const body = bytes.subarray(0, Math.max(0, bytes.length - CHECKSUM));
  const reader = new StateReader(body);
  return reading(() => {
    readHead(reader, MAGIC);
    if (!createHash('sha256').update(body).digest().equals(bytes.subarray(body.length)))
      throw damaged('its checksum is wrong');
    const state = readState(new StateReader(reader.bytes()));
    const hasWasi = reader.bool();
    const wasi = own(reader.bytes());
    const snapshot = { ...state, pages: own(reader.bytes()), ...(hasWasi && { wasi }) };
    if (!reader.done) throw damaged('it has more bytes than it says');
    checkSnapshot(snapshot, 'loaded');
    return snapshot;
  });
}

/** Everything but pages and WASI bytes. */
export function writeState(writer: StateWriter, snapshot: Snapshot): void {
  writer.text(snapshot.moduleId).text(snapshot.image);
  writer.u32(snapshot.memories.length);
  for (const { size, runs } of snapshot.memories) {
    writer.u32(size).u32(runs.length);
    for (const value of runs) writer.u32(value);
  }
  writer.u32(snapshot.globals.length);
  for (const { index, type, value } of snapshot.globals) {
    writer.u32(index).u32(types.indexOf(type));
    if (value === null) writer.u32(NULL);
    else if (typeof value === 'number') writer.u32(NUMBER).f64(value);
    else writeBigint(writer.u32(BIGINT), value);
  }
  writer.u32(snapshot.tables.length);
  for (const { index, length, changes } of snapshot.tables) {
    writer.u32(index).u32(length).u32(changes.length);
    for (const value of changes) writer.u32(value);
  }
  writer.u32(snapshot.dropped.length);
  for (const { kind, index } of snapshot.dropped) writer.bool(kind === 'data').u32(index);
  writeBigint(writer, snapshot.gasUsed);
}

/** Contents are not checked yet: `checkSnapshot` does, once the pages are there. */
export function readState(reader: StateReader): Omit<Snapshot, 'pages' | 'wasi'> {
  const moduleId = reader.text();
  const image = reader.text();
  const memories = list(reader, () => ({
    size: reader.u32(),
    runs: new Uint32Array(list(reader, () => reader.u32())),
  }));
  const globals = list(reader, () => {
    const index = reader.u32();
    const type = types[reader.u32()];
    if (type === undefined) throw damaged(`global ${index} is of no known type`);
    return { index, type, value: readValue(reader) };
  });
  const tables = list(reader, () => ({
    index: reader.u32(),
    length: reader.u32(),
    changes: new Int32Array(list(reader, () => reader.u32() | 0)),
  }));
  const dropped = list(reader, () => ({
    kind: reader.bool() ? ('data' as const) : ('element' as const),
    index: reader.u32(),
  }));
  const gasUsed = readBigint(reader);
  if (!reader.done) throw damaged('its state has more bytes than it says');
  return { format: SNAPSHOT_FORMAT, moduleId, image, memories, globals, tables, dropped, gasUsed };
}

/** Reads the text that begins a file of this kind, and the format after it. */
export function readHead(reader: StateReader, magic: string): void {
  if (reader.text() !== magic) throw damaged('it is not a snapshot of Iguana');
  const format = reader.u32();
  if (format !== SNAPSHOT_FORMAT) throw damaged(`its format is ${format}, this version reads ${SNAPSHOT_FORMAT}`);
}

/** Runs what reads bytes from outside; whatever it stumbles over is a damaged snapshot. */
export function reading<T>(read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'IGU_WASM_SNAPSHOT') throw error;
    throw damaged(error instanceof RangeError ? 'it says to be larger than memory is' : 'it is cut off', error);
  }
}

export function damaged(why: string, cause?: unknown): Error {
  return snapshotError('loaded', why, 'take the snapshot again, or get an undamaged copy', cause);
}

/** A copy that shares its memory with nothing. */
function own(bytes: Buffer): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}

/** Elements preceded by their count; a count beyond the limit ends here and not in memory. */
function list<T>(reader: StateReader, read: () => T): T[] {
  const count = reader.u32();
  if (count > 3 * wasmSnapshotLimits.maxEntries) throw damaged(`it has a list of ${count} entries`);
  const out: T[] = [];
  for (let i = 0; i < count; i++) out.push(read());
  return out;
}

function readValue(reader: StateReader): SavedGlobal['value'] {
  const form = reader.u32();
  if (form === NULL) return null;
  if (form === NUMBER) return reader.f64();
  if (form === BIGINT) return readBigint(reader);
  throw damaged('a global has a value of no known form');
}

function writeBigint(writer: StateWriter, value: bigint): void {
  const bits = BigInt.asUintN(64, value);
  writer.u32(Number(bits & 0xffffffffn)).u32(Number(bits >> 32n));
}

function readBigint(reader: StateReader): bigint {
  const low = BigInt(reader.u32());
  return BigInt.asIntN(64, low | (BigInt(reader.u32()) << 32n));
}
