import { IguanaError } from '../../errors.js';
import { StateReader, StateWriter } from '../../state.js';

/** Raised when the form of what WASI saves changes. */
const FORMAT = 1;

/** Plain data and bytes as one: a format number, the data as JSON, then each blob with its length. */
export function encodeState<T>(json: T, blobs: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const writer = new StateWriter().u32(FORMAT).text(JSON.stringify(json)).u32(blobs.length);
  for (const blob of blobs) writer.bytes(blob);
  return new Uint8Array(writer.finish());
}

/**
 * What the JSON says may come from anywhere: a snapshot's checksum is no signature. Whoever takes it checks it, see `whileReading`.
 * @throws IguanaError `IGU_WASM_SNAPSHOT` for bytes of another format or cut short.
 */
export function decodeState<T>(bytes: Uint8Array): { json: T; blobs: Uint8Array[] } {
  const reader = new StateReader(bytes);
  try {
    const format = reader.u32();
    if (format !== FORMAT) throw unreadable(`WASI state has format ${format}, this version reads ${FORMAT}`);
    const json = JSON.parse(reader.text()) as T;
    return { json, blobs: Array.from({ length: reader.u32() }, () => reader.bytes()) };
  } catch (cause) {
    if (cause instanceof IguanaError && cause.code === 'IGU_WASM_SNAPSHOT') throw cause;
    throw unreadable('WASI state cannot be read', cause);
  }
}

/** Turns what data of another shape than was written leads to into `IGU_WASM_SNAPSHOT`. */
export function whileReading<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof TypeError || cause instanceof RangeError || cause instanceof SyntaxError)
      throw unreadable('WASI state has another form than is written', cause);
    throw cause;
  }
}

export function unreadable(why: string, cause?: unknown): IguanaError {
  return new IguanaError(
    'IGU_WASM_SNAPSHOT',
    { what: 'restored', why, fix: 'take the snapshot anew with this version' },
    { cause },
  );
}
