import { appendFileSync, closeSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { makeDirectories } from '../make-directories.js';

const SEGMENT = /^usage-(\d+)\.jsonl$/;

/** Characters that are written at once though the turn of the event loop goes on. */
const MOST_WAITING = 65_536;

/**
 * Files of lines that outlive the process. What is appended together is handed to the operating system together, in the next microtask: before whoever
 * awaits what the line is about goes on. So a kill loses nothing that anybody was told of; a power failure may lose what the system had not put on the disk.
 * Lines are in segments; one that is no longer needed is removed as a whole. A directory belongs to one process at a time.
 */
export class UsageJournal {
  private file: number | undefined;
  private number: number;
  private waiting = '';

  /** @param onError told when lines could not be written: they are not in the journal */
  constructor(
    private readonly directory: string,
    private readonly onError: (error: unknown) => void,
  ) {
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

  /** Cost: with what else is appended in this microtask one write to a file, 5 to 10 µs. */
  append(line: string): void {
    if (this.waiting === '') queueMicrotask(this.write);
    this.waiting += `${line}\n`;
    if (this.waiting.length > MOST_WAITING) this.write();
  }

  /** Ends the segment and returns its number; undefined when it is empty. */
  cut(): number | undefined {
    this.write();
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

  private readonly write = (): void => {
    if (this.waiting === '') return;
    const lines = this.waiting;
    this.waiting = '';
    try {
      this.file ??= openSync(this.path(this.number), 'a');
      // all of it, or an error: a disk that is nearly full takes a part at first
      appendFileSync(this.file, lines);
    } catch (error) {
      this.onError(error);
    }
  };

  private path(segment: number): string {
    return join(this.directory, `usage-${segment}.jsonl`);
  }
}
