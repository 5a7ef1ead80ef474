import { functionLimits } from '../../limits.js';
import type { InputSource, OutputSink } from '../../wasm/wasi/streams.js';
import type { GuestLog } from './protocol.js';

/** Standard input of a guest that is called many times. */
export class EventInput implements InputSource {
  private rest = new Uint8Array(0);

  set(bytes: Uint8Array<ArrayBuffer>): void {
    this.rest = bytes;
  }

  read(memory: Uint8Array, start: number, end: number): number {
    const count = Math.min(end - start, this.rest.length);
    memory.set(this.rest.subarray(0, count), start);
    this.rest = this.rest.subarray(count);
    return count;
  }
}

/** Int32 before the bytes of a log: how many there are. */
const HEAD = 4;

/** Where a thread's guests log, one call after the other. */
export function sharedLogMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(HEAD + functionLimits.maxLogCharacters);
}

/**
 * What a guest logs: text in lines, kept within the bounds of a call's log, where the owner of the thread can read it when the call does not come to an end.
 * The guests of a thread have one log: a call ends before the next begins.
 */
export class LogOutput implements OutputSink {
  private readonly state: Int32Array;
  private readonly bytes: Uint8Array;
  private length = 0;
  private written = 0;

  constructor(private readonly memory: SharedArrayBuffer) {
    this.state = new Int32Array(memory, 0, 1);
    this.bytes = new Uint8Array(memory, HEAD);
  }

  write(memory: Uint8Array, start: number, end: number): void {
    this.written += end - start;
    const kept = Math.min(end - start, this.bytes.length - this.length);
    if (kept <= 0) return;
    this.bytes.set(memory.subarray(start, start + kept), this.length);
    this.length += kept;
    Atomics.store(this.state, 0, this.length);
  }

  line(text: string): void {
    const bytes = Buffer.from(`${text}\n`);
    this.write(bytes, 0, bytes.length);
  }

  /** The lines since it was taken last, each with its level. */
  take(): GuestLog {
    if (this.written === 0) return NOTHING;
    const log = loggedIn(this.memory);
    const truncated = log.truncated || this.written > this.length;
    this.length = 0;
    this.written = 0;
    Atomics.store(this.state, 0, 0);
    return { lines: log.lines, truncated };
  }
}

/** What the call that runs in a thread has logged; nothing between two. */
export function loggedIn(memory: SharedArrayBuffer): GuestLog {
  const length = Atomics.load(new Int32Array(memory, 0, 1), 0);
  if (length === 0) return NOTHING;
  const all = Buffer.from(memory, HEAD, length).toString('utf8').split('\n');
  if (all.at(-1) === '') all.pop();
  const { maxLogLines, maxLogLine } = functionLimits;
  const lines = all
    .slice(0, maxLogLines)
    .map((line) => (LEVEL.test(line) ? line : `info ${line}`).slice(0, maxLogLine));
  return { lines, truncated: all.length > maxLogLines || all.some((line) => line.length > maxLogLine) };
}

const LEVEL = /^(debug|info|warn|error) /;
const NOTHING: GuestLog = { lines: [], truncated: false };
