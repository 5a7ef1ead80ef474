import { AsyncLocalStorage } from 'node:async_hooks';
import { formatWithOptions } from 'node:util';
import { functionLimits } from '../../limits.js';
import { LogRing } from './log-ring.js';
import { shortened } from './short-stacks.js';

type Level = 'debug' | 'info' | 'warn' | 'error';
export type Logger = Readonly<Record<Level, (...values: unknown[]) => void>>;

/** Who runs in a worker that is shared: number of the instance, and its environment. */
export interface Resident {
  readonly number: number;
  readonly env: Record<string, string | undefined>;
}

/** Keeps lines where the host finds them when the call's end does not tell them: it may be ended in the midst of anything. */
export interface Journal {
  /** The newest line of a log. */
  keep(log: CallLog): void;
}

/** Log lines of one call, and whose it is where functions share a worker. */
export class CallLog {
  readonly lines: string[] = [];
  truncated = false;
  /** So many of the lines were sent ahead. */
  sent = 0;
  /** The call was answered. */
  done = false;
  private characters = 0;

  constructor(
    readonly resident: Resident | undefined,
    /** Number of the call. */
    readonly id: number,
    private readonly journal: Journal | undefined,
  ) {}

  add(level: Level, values: readonly unknown[]): void {
    if (this.done) return;
    if (this.lines.length >= functionLimits.maxLogLines || this.characters >= functionLimits.maxLogCharacters) {
      this.truncated = true;
      return;
    }
    const text = formatWithOptions(
      { breakLength: Number.POSITIVE_INFINITY, maxStringLength: functionLimits.maxLogLine },
      ...values,
    );
    const line = `${level} ${shortened(text)}`;
    if (line.length > functionLimits.maxLogLine) this.truncated = true;
    this.lines.push(line.slice(0, functionLimits.maxLogLine));
    this.characters += Math.min(line.length, functionLimits.maxLogLine);
    this.journal?.keep(this);
  }
}

type Send = (id: number, lines: readonly string[]) => void;

/**
 * In a thread: lines go to memory that the host sees. When that is full the lines of all calls under way are sent, which is once for 32 KB of log.
 * @param send at once: a thread that does not come to an end sends too
 */
export function ringJournal(memory: SharedArrayBuffer, send: Send): Journal {
  const ring = new LogRing(memory);
  /** Those with lines in the memory. */
  let logs: CallLog[] = [];
  return {
    keep(log) {
      const { lines, sent } = log;
      if (lines.length === sent + 1) logs.push(log);
      if (ring.add(log.id, lines.length - 1, lines.at(-1)!)) return;
      for (const one of logs) {
        if (one.done) continue;
        send(one.id, one.lines.slice(one.sent));
        one.sent = one.lines.length;
      }
      logs = [];
      ring.empty();
    },
  };
}

/** In a process: each line is sent at once, since nothing is shared. */
export function sendingJournal(send: Send): Journal {
  return {
    keep(log) {
      send(log.id, log.lines.slice(log.sent));
      log.sent = log.lines.length;
    },
  };
}

const current = new AsyncLocalStorage<CallLog>();

/** Runs what belongs to a call: its log gets what is written there, also after it has waited. */
export function inLog<T>(log: CallLog, action: () => T): T {
  return current.run(log, action);
}

/** Whose code runs; undefined for none of a function. */
export function residentNow(): Resident | undefined {
  return current.getStore()?.resident;
}

function logger(): Logger {
  const at =
    (level: Level) =>
    (...values: unknown[]) =>
      current.getStore()?.add(level, values);
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Writes to the log of the call that runs. */
export const log = logger();
