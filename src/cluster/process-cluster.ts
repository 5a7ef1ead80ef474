import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { type Clock, wallClock } from '../clock.js';
import { IguanaError, messageOf } from '../errors.js';
import { clusterLimits } from '../limits.js';
import { BoundedLog } from './bounded-log.js';
import type { Cluster, Instance } from './cluster.js';

export interface ProcessClusterOptions {
  readonly name: string;
  readonly command: string;
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Port of the first instance, the next ones count up; given to each as PORT. Default: none. */
  readonly basePort?: number;
  /** Time between SIGTERM and SIGKILL, ms. Default 10,000. */
  readonly graceMs?: number;
  /** Wait before the first restart of an instance that ended by itself, ms; doubled each time. Default 200. */
  readonly backOffMs?: number;
  /** Folder for what instances print, a bounded file each. Default: none. */
  readonly logDir?: string;
  /** Takes what instances print, piece by piece as it comes. */
  readonly onOutput?: (id: string, text: string) => void;
  /** Further environment of one instance, asked for before each start; it wins over `env`. When it rejects, the instance does not start. Default: none. */
  readonly environmentOf?: (id: string) => Promise<Readonly<Record<string, string>>>;
  /** Called when an instance is gone for good, or never started: what `environmentOf` got for it can be given back. */
  readonly onRemoved?: (id: string) => Promise<void>;
  /** Id of the instance in a slot, from 0. Default: name and slot. */
  readonly idOf?: (slot: number) => string;
  readonly clock?: Clock;
}

interface Running {
  readonly id: string;
  readonly slot: number;
  child: ChildProcess | undefined;
  log: BoundedLog | undefined;
  stopping: boolean;
  restarts: number;
  startedAt: number;
  cancelRestart: (() => void) | undefined;
  /** Counts starts and stops: a start that finds another number after a pause is out of date. */
  turn: number;
}

/**
 * Runs N copies of a command as supervised child processes: each with a port of its own, started again with growing pauses when it ends by
 * itself, stopped with SIGTERM and, after a grace, SIGKILL. Cost: one process an instance, at most `clusterLimits.maxInstances`.
 */
export class ProcessCluster implements Cluster {
  readonly name: string;
  private readonly running: Running[] = [];
  private readonly clock: Clock;
  private changing: Promise<void> = Promise.resolve();

  constructor(private readonly options: ProcessClusterOptions) {
    this.name = options.name;
    this.clock = options.clock ?? wallClock;
  }

  instances(): Instance[] {
    return this.running.map(({ id, slot, child, stopping, restarts }) => ({
      id,
      state: stopping ? 'stopping' : child ? 'running' : 'waiting',
      pid: child?.pid ?? null,
      port: this.options.basePort === undefined ? null : this.options.basePort + slot,
      restarts,
    }));
  }

  /** Changes are made one after the other. */
  scaleTo(count: number): Promise<void> {
    return this.after(() => this.bringTo(count));
  }

  /** Adds instances (or takes away, below 0, at most all), counted when earlier changes are made. */
  scaleBy(change: number): Promise<void> {
    return this.after(() => this.bringTo(Math.max(0, this.running.length + change)));
  }

  restart(id: string): Promise<void> {
    return this.after(async () => {
      const one = this.running.find((r) => r.id === id);
      if (!one)
        throw new IguanaError('IGU_NOT_FOUND', {
          what: 'instance',
          name: id,
          fix: `one of: ${this.running.map((r) => r.id).join(', ')}`,
        });
      one.cancelRestart?.();
      one.stopping = true;
      one.turn++;
      await this.end(one);
      one.stopping = false;
      await this.start(one).catch((error: unknown) => {
        this.startLater(one);
        throw error;
      });
    });
  }

  private async bringTo(count: number): Promise<void> {
    if (!Number.isInteger(count) || count < 0 || count > clusterLimits.maxInstances) {
      const what = `${count} instances were asked for, 0 to ${clusterLimits.maxInstances} are possible`;
      throw new IguanaError('IGU_ACTUATOR', { name: this.name, what });
    }
    while (this.running.length < count) await this.add();
    const removed = await Promise.allSettled(this.running.slice(count).map((one) => this.remove(one)));
    // not before all of them have ended
    for (const one of removed) if (one.status === 'rejected') throw one.reason;
  }

  private after(change: () => Promise<void>): Promise<void> {
    const next = this.changing.then(change);
    this.changing = next.catch(() => undefined);
    return next;
  }

  private async add(): Promise<void> {
    const taken = new Set(this.running.map((r) => r.slot));
    let slot = 0;
    while (taken.has(slot)) slot++;
    const id = this.options.idOf?.(slot) ?? `${this.name}-${slot}`;
    const one: Running = {
      id,
      slot,
      child: undefined,
      log: this.openLog(id),
      stopping: false,
      restarts: 0,
      startedAt: 0,
      cancelRestart: undefined,
      turn: 0,
    };
    try {
      await this.start(one);
    } catch (error) {
      one.log?.close();
      try {
        await this.options.onRemoved?.(id);
      } catch (cause) {
        const what = `${messageOf(error)}; then: ${messageOf(cause)}`;
        throw new IguanaError('IGU_ACTUATOR', { name: this.name, what }, { cause });
      }
      throw error;
    }
    this.running.push(one);
  }

  private async start(one: Running): Promise<void> {
    const { command, args = [], env = {}, basePort, onOutput, environmentOf } = this.options;
    const port = basePort === undefined ? {} : { PORT: String(basePort + one.slot) };
    const turn = ++one.turn;
    let own: Readonly<Record<string, string>> = {};
    if (environmentOf) {
      try {
        own = await environmentOf(one.id);
      } catch (error) {
        if (one.turn === turn) throw error;
      }
      // stopped meanwhile, or started by another call
      if (one.turn !== turn) return;
    }
    const failed = (cause: unknown) =>
      new IguanaError('IGU_ACTUATOR', { name: this.name, what: messageOf(cause) }, { cause });
    let child: ChildProcessByStdio<null, Readable, Readable>;
    try {
      child = spawn(command, [...args], {
        env: { ...process.env, ...env, ...port, INSTANCE: one.id, ...own },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    } catch (cause) {
      // an argument that no process can have
      throw failed(cause);
    }
    // known from the first moment on, so that a stop that comes meanwhile finds it
    one.child = child;
    one.startedAt = this.clock.now();
    const take = (text: Buffer): void => {
      this.keep(one, text);
      onOutput?.(one.id, text.toString());
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    try {
      await once(child, 'spawn');
    } catch (cause) {
      one.child = undefined;
      throw failed(cause);
    }
    child.on('error', (error) => onOutput?.(one.id, messageOf(error)));
    child.once('exit', () => {
      one.child = undefined;
      if (!one.stopping) this.startLater(one);
    });
  }

  private openLog(id: string): BoundedLog | undefined {
    if (this.options.logDir === undefined) return undefined;
    try {
      return new BoundedLog(this.options.logDir, id);
    } catch (cause) {
      throw new IguanaError('IGU_ACTUATOR', { name: this.name, what: messageOf(cause) }, { cause });
    }
  }

  /** A log that cannot be written (disk full) is given up; the service goes on. */
  private keep(one: Running, text: Buffer): void {
    try {
      one.log?.write(text);
    } catch (error) {
      one.log = undefined;
      this.options.onOutput?.(one.id, `its log is given up: ${messageOf(error)}`);
    }
  }

  private startLater(one: Running): void {
    // an instance that ran for a while has earned a short pause again
    if (this.clock.now() - one.startedAt > clusterLimits.stableMs) one.restarts = 0;
    const pause = Math.min(clusterLimits.maxBackOffMs, (this.options.backOffMs ?? 200) * 2 ** one.restarts);
    one.restarts++;
    one.cancelRestart = this.clock.after(pause * (0.75 + 0.5 * Math.random()), () => {
      one.cancelRestart = undefined;
      this.start(one).catch(() => {
        if (!one.stopping) this.startLater(one);
      });
    });
  }

  private async remove(one: Running): Promise<void> {
    one.stopping = true;
    one.turn++;
    one.cancelRestart?.();
    await this.end(one);
    one.log?.close();
    one.log = undefined;
    this.running.splice(this.running.indexOf(one), 1);
    await this.options.onRemoved?.(one.id);
  }

  private async end(one: Running): Promise<void> {
    const { child } = one;
    if (!child) return;
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    child.kill('SIGTERM');
    const cancel = this.clock.after(this.options.graceMs ?? 10_000, () => child.kill('SIGKILL'));
    await ended;
    cancel();
  }
}
