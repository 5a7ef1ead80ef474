import { closeSync, existsSync, openSync, readFileSync, renameSync, writeFileSync, writeSync } from 'node:fs';

/** Lines written since the last compaction above which the journal is compacted. */
const COMPACT_AFTER_LINES = 50_000;

/**
 * An append-only file of JSON lines that keeps small facts (offsets, producer ids, transactions) over a kill -9: each line is in the page cache
 * before the fact is acknowledged, a torn last line is dropped at start, and a long file is replaced by a snapshot of what still holds.
 */
export class Journal<T> {
  private fd: number | undefined;
  private lines = 0;
  private torn = false;

  /** `file` null: nothing is kept. `snapshot` gives the entries that rebuild the present state. */
  constructor(
    private readonly file: string | null,
    replay: (entry: T) => void,
    private readonly snapshot: () => T[],
  ) {
    if (!file) return;
    if (existsSync(file)) {
      for (const line of readFileSync(file, 'utf8').split('\n')) {
        const entry = parse<T>(line);
        if (entry !== undefined) replay(entry);
      }
    }
    this.compact();
  }

  append(entry: T): void {
    if (this.fd === undefined) return;
    // what a full disk left of the line before must not take this one with it
    const line = Buffer.from(`${this.torn ? '\n' : ''}${JSON.stringify(entry)}\n`);
    this.torn = true;
    for (let done = 0; done < line.length; ) done += writeSync(this.fd, line, done);
    this.torn = false;
    if (++this.lines < COMPACT_AFTER_LINES) return;
    try {
      this.compact();
    } catch {
      // the long file is whole and still open: it goes on, and compacting is tried again later
      this.lines = 0;
    }
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  private compact(): void {
    if (!this.file) return;
    const fresh = `${this.file}.new`;
    const entries = this.snapshot();
    writeFileSync(fresh, entries.map((e) => `${JSON.stringify(e)}\n`).join(''));
    const fd = openSync(fresh, 'a');
    try {
      renameSync(fresh, this.file);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    this.close();
    this.fd = fd;
    this.lines = 0;
  }
}

function parse<T>(line: string): T | undefined {
  if (line === '') return undefined;
  try {
    return JSON.parse(line) as T;
  } catch {
    return undefined; // the line that was being written when the process died
  }
}
