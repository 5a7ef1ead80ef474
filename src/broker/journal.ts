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
    writeSync(this.fd, `${JSON.stringify(entry)}\n`);
    if (++this.lines >= COMPACT_AFTER_LINES) this.compact();
  }

  close(): void {
    if (this.fd !== undefined) closeSync(this.fd);
    this.fd = undefined;
  }

  private compact(): void {
    if (!this.file) return;
    this.close();
    const entries = this.snapshot();
    writeFileSync(`${this.file}.new`, entries.map((e) => `${JSON.stringify(e)}\n`).join(''));
    renameSync(`${this.file}.new`, this.file);
    this.fd = openSync(this.file, 'a');
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
