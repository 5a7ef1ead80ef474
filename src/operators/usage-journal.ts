import { closeSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../make-directories.js';

const SEGMENT = /^usage-(\d+)\.jsonl$/;

/**
 * Files of lines that outlive the process. A line is handed to the operating system before `append` returns: a kill loses nothing, a power failure may
 * lose what the system had not put on the disk. Lines are in segments; one that is no longer needed is removed as a whole.
 * A directory belongs to one process at a time.
 */
export class UsageJournal {
  private file: number | undefined;
  private number: number;

  constructor(private readonly directory: string) {
    makeDirectories(directory);
    this.number = Math.max(-1, ...this.segments()) + 1;
  }

  /** Numbers of the segments that are there, oldest first. */
  segments(): number[] {
    return readdirSync(this.directory)
      .flatMap((name) => SEGMENT.exec(name)?.[1] ?? [])
      .map(Number)
      .sort((a, b) => a - b);
  }

  /** Cost: one write to a file, 5 to 10 µs. */
  append(line: string): void {
    this.file ??= openSync(this.path(this.number), 'a');
    writeSync(this.file, `${line}\n`);
  }

  /** Ends the segment and returns its number; undefined when it is empty. */
  cut(): number | undefined {
    if (this.file === undefined) return undefined;
    closeSync(this.file);
    this.file = undefined;
    return this.number++;
  }

  /** Whole lines of a segment: one that was torn by the end of the process is left out. */
  read(segment: number): string[] {
    return readFileSync(this.path(segment), 'utf8').split('\n').slice(0, -1);
  }

  remove(segment: number): void {
    rmSync(this.path(segment), { force: true });
  }

  private path(segment: number): string {
    return join(this.directory, `usage-${segment}.jsonl`);
  }
}
