import { type ChildProcess, spawn as spawnProcess } from 'node:child_process';
import { gpuToolLimits } from '../../limits.js';

export interface ToolOptions {
  /** The process is ended after this, ms; default 10,000. */
  readonly timeoutMs?: number;
  /** What is read of its answer, bytes; default 8 MiB. */
  readonly maxBytes?: number;
}

export interface ToolResult {
  /** null: it did not end by itself. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  /** It said more than `maxBytes`; the rest is missing. */
  readonly cut?: boolean;
  /** It was not run: there is no such command, it may not be run, too many wait for it, or an earlier run of it does not die. */
  readonly refused?: 'not-found' | 'denied' | 'busy' | 'stuck';
}

/** The one port through which tools of GPU makers are run. Never rejects. */
export type RunTool = (command: string, args: readonly string[], options?: ToolOptions) => Promise<ToolResult>;

type Spawn = (command: string, args: readonly string[]) => ChildProcess;

interface Lane {
  /** Runs and their turn, by arguments: the same question asked twice at once is asked once. */
  asked: Map<string, Promise<ToolResult>>;
  tail: Promise<unknown>;
  waiting: number;
  /** The process that ignores SIGKILL: it hangs in the kernel, and a second one would hang too. */
  stuck: ChildProcess | undefined;
}

const nothing = { code: null, stdout: '', stderr: '', timedOut: false } as const;

/**
 * Runs tools as processes: asynchronously, one at a time of a command, ended by SIGTERM and then SIGKILL at the timeout. One that outlives SIGKILL is counted and
 * no other of its command is started while it lives.
 *
 * @param spawn how a process is started; for tests
 * @param killGraceMs between SIGTERM and SIGKILL, and until it counts as stuck, ms; default 500
 */
export class ToolRunner {
  private readonly lanes = new Map<string, Lane>();

  constructor(
    private readonly spawn: Spawn = startProcess,
    private readonly killGraceMs: number = gpuToolLimits.killGraceMs,
  ) {}

  /** Commands of which a process does not die. */
  get stuck(): string[] {
    return [...this.lanes].filter(([, lane]) => lane.stuck).map(([command]) => command);
  }

  readonly run: RunTool = (command, args, options = {}) => {
    let lane = this.lanes.get(command);
    if (!lane) {
      lane = { asked: new Map(), tail: Promise.resolve(), waiting: 0, stuck: undefined };
      this.lanes.set(command, lane);
    }
    const key = JSON.stringify([args, options]);
    const same = lane.asked.get(key);
    if (same) return same;
    if (lane.stuck) return Promise.resolve({ ...nothing, refused: 'stuck' });
    if (lane.waiting >= gpuToolLimits.maxWaiting) return Promise.resolve({ ...nothing, refused: 'busy' });
    lane.waiting++;
    const own = lane;
    const answer = lane.tail
      .then(() => (own.stuck ? ({ ...nothing, refused: 'stuck' } as const) : this.once(own, command, args, options)))
      .finally(() => {
        own.waiting--;
        own.asked.delete(key);
      });
    lane.asked.set(key, answer);
    lane.tail = answer;
    return answer;
  };

  private once(lane: Lane, command: string, args: readonly string[], options: ToolOptions): Promise<ToolResult> {
    const { timeoutMs = gpuToolLimits.timeoutMs, maxBytes = gpuToolLimits.maxBytes } = options;
    return new Promise((resolve) => {
      let child: ChildProcess;
      try {
        child = this.spawn(command, args);
      } catch (error) {
        resolve({ ...nothing, refused: refusalOf(error), stderr: String(error) });
        return;
      }
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      let bytes = 0;
      let timedOut = false;
      let cut = false;
      let timer: NodeJS.Timeout | undefined;

      const settle = (code: number | null, refused?: ToolResult['refused'], what?: string): void => {
        clearTimeout(timer);
        child.stdout?.destroy();
        child.stderr?.destroy();
        const text = { stdout: Buffer.concat(out).toString(), stderr: what ?? Buffer.concat(err).toString() };
        resolve({ code, ...text, timedOut, ...(cut && { cut }), ...(refused && { refused }) });
      };
      const end = (): void => {
        signal(child, 'SIGTERM');
        clearTimeout(timer);
        timer = setTimeout(() => {
          signal(child, 'SIGKILL');
          timer = setTimeout(() => {
            lane.stuck = child;
            child.unref();
            settle(null);
          }, this.killGraceMs);
        }, this.killGraceMs);
      };
      const keep = (into: Buffer[]) => (chunk: Buffer) => {
        if (cut) return;
        into.push(chunk.subarray(0, maxBytes - bytes));
        bytes += chunk.length;
        if (bytes <= maxBytes) return;
        cut = true;
        end();
      };
      child.stdout?.on('data', keep(out));
      child.stderr?.on('data', keep(err));
      child.once('error', (error) => settle(null, refusalOf(error), error.message));
      // after `exit` what it said may still be on its way, and a child of its own may keep the pipes open for ever
      child.once('exit', (code) => {
        lane.stuck = undefined;
        clearTimeout(timer);
        timer = setTimeout(() => settle(code), this.killGraceMs);
      });
      child.once('close', (code) => settle(code));
      timer = setTimeout(() => {
        timedOut = true;
        end();
      }, timeoutMs);
    });
  }
}

const groups = process.platform !== 'win32';

function startProcess(command: string, args: readonly string[]): ChildProcess {
  // a group of its own, so that what a wrapper script started is ended with it; C locale, for numbers with a point
  return spawnProcess(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: groups,
    windowsHide: true,
    env: { ...process.env, LC_ALL: 'C' },
  });
}

function signal(child: ChildProcess, name: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    if (groups) process.kill(-child.pid, name);
    else child.kill(name);
  } catch {
    // it has no group of its own, or ended a moment ago
    child.kill(name);
  }
}

function refusalOf(error: unknown): 'not-found' | 'denied' {
  return (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'not-found' : 'denied';
}
