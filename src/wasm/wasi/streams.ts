import { wasiLimits } from '../../limits.js';

/** What a guest reads as standard input. */
export interface InputSource {
  /** Bytes put at `memory[start…end)`; 0 means the end. */
  read(memory: Uint8Array, start: number, end: number): number;
}

/** What takes a guest's standard output. */
export interface OutputSink {
  /** Takes all of `memory[start…end)`, which is the guest's memory and stays its own: keep a copy. */
  write(memory: Uint8Array, start: number, end: number): void;
}

/** Keeps output up to a bound; what is beyond it is counted and dropped, and the guest goes on. */
export class BoundedOutput implements OutputSink {
  private buffer = new Uint8Array(0);
  private length = 0;
  /** All that the guest wrote, bytes. */
  written = 0;

  /** @param maxBytes kept at most (default 1 MiB); memory grows as needed. */
  constructor(readonly maxBytes: number = wasiLimits.maxOutputBytes) {}

  get truncated(): boolean {
    return this.written > this.length;
  }

  write(memory: Uint8Array, start: number, end: number): void {
    const count = end - start;
    this.written += count;
    const kept = Math.min(count, this.maxBytes - this.length);
    if (kept <= 0) return;
    const after = this.length + kept;
    if (after > this.buffer.length) {
      const grown = new Uint8Array(Math.min(this.maxBytes, Math.max(after, 2 * this.buffer.length, 256)));
      grown.set(this.buffer.subarray(0, this.length));
      this.buffer = grown;
    }
    if (kept > 32) this.buffer.set(memory.subarray(start, start + kept), this.length);
    else for (let i = start, j = this.length; j < after; i++, j++) this.buffer[j] = memory[i]!;
    this.length = after;
  }

  /** A copy of what was kept. */
  bytes(): Uint8Array<ArrayBuffer> {
    return this.buffer.slice(0, this.length);
  }

  text(): string {
    return Buffer.from(this.buffer.buffer, 0, this.length).toString('utf8');
  }

  /** Forgets what was kept; the count and the bound begin anew. */
  clear(): void {
    this.length = 0;
    this.written = 0;
  }
}
