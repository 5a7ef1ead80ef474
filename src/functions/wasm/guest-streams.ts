import { functionLimits } from '../../limits.js';
import { BoundedOutput, type InputSource, type OutputSink } from '../../wasm/wasi/streams.js';
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

/** What a guest logs: text in lines, kept within the bounds of a call's log. */
export class LogOutput implements OutputSink {
  private readonly kept = new BoundedOutput(functionLimits.maxLogCharacters);

  write(memory: Uint8Array, start: number, end: number): void {
    this.kept.write(memory, start, end);
  }

  line(text: string): void {
    const bytes = Buffer.from(`${text}\n`);
    this.kept.write(bytes, 0, bytes.length);
  }

  /** The lines of the call that ended, each with its level; the next call begins with none. */
  take(): GuestLog {
    const { written, truncated } = this.kept;
    if (written === 0) return NOTHING;
    const all = this.kept.text().split('\n');
    if (all.at(-1) === '') all.pop();
    this.kept.clear();
    const { maxLogLines, maxLogLine } = functionLimits;
    const lines = all
      .slice(0, maxLogLines)
      .map((line) => (LEVEL.test(line) ? line : `info ${line}`).slice(0, maxLogLine));
    return { lines, truncated: truncated || all.length > maxLogLines || all.some((line) => line.length > maxLogLine) };
  }
}

const LEVEL = /^(debug|info|warn|error) /;
const NOTHING: GuestLog = { lines: [], truncated: false };
