/**
 * Timers: starts functions when their cron says so. Over the usual length of a file because one timer's life is one thing: it wakes, asks whether it is its
 * process's own, finds what is due since it last looked, and remembers what has ended.
 */
import type { Clock } from '../../clock.js';
import { defined } from '../../defined.js';
import { IguanaError } from '../../errors.js';
import { timerLimits } from '../../limits.js';
import { hash64 } from '../../records.js';
import type { TimerTrigger } from '../definition.js';
import type { FunctionService } from '../function-service.js';
import { callWithRetries } from '../retries.js';
import type { TriggerHost } from '../trigger-host.js';
import type { DeliverOutcome } from './call-outcome.js';
import { TimerSchedule } from './timer-schedule.js';

/** Keeps, over restarts, up to when each timer's runs have ended. */
export interface TimerMemory {
  /** Timer → time of its newest run that ended, ms since 1970. Called when a process takes a timer over. */
  load(): Promise<ReadonlyMap<string, number>>;
  save(timer: string, at: number): Promise<void>;
  /** The timer's function was deleted: one that is made like it later has missed nothing. */
  forget(timer: string): Promise<void>;
}

export interface TimerOptions {
  readonly service: Pick<FunctionService, 'invoke'>;
  readonly clock: Clock;
  /** Default: none; then runs that were missed while no process was up are not known. */
  readonly memory?: TimerMemory;
  /** Whether this process starts the function's timers; of a group exactly one should say so. Default: it does. */
  readonly isOwner?: (functionName: string) => boolean;
  readonly deliver?: DeliverOutcome;
  readonly onError?: (error: unknown) => void;
  /** Tries of a run (default 3). */
  readonly attempts?: number;
  readonly random?: () => number;
}

export interface TimerCounts {
  readonly runs: number;
  readonly failures: number;
  /** Missed, and left out as `missed` says. */
  readonly missed: number;
  /** Due while the one before ran, and left out. */
  readonly overlapped: number;
}

export interface TimerTriggers extends TriggerHost {
  /** Function → the next time one of its timers is due here, ms since 1970: for warming up before. */
  nextRuns(): ReadonlyMap<string, number>;
  /** Since the function came to this process. @param trigger default: all its timers together */
  counts(functionName: string, trigger?: TimerTrigger): TimerCounts;
}

export function timerTriggers(options: TimerOptions): TimerTriggers {
  const timers = new Map<string, Timer>();
  /** They outlive timers that are paused. */
  const counts = new Map<string, MutableCounts>();
  /** Functions there were when it last looked. */
  let names: ReadonlySet<string> = new Set();

  /** All timers that the function ever had: paused ones and those of another cron too. */
  const forget = async (name: string): Promise<void> => {
    const { memory, isOwner, onError } = options;
    if (!memory || !(isOwner?.(name) ?? true)) return;
    try {
      await Promise.all(keysOf(await memory.load(), name).map((key) => memory.forget(key)));
    } catch (error) {
      onError?.(error);
    }
  };

  return {
    async apply(functions) {
      const wanted = new Map<string, { readonly name: string; readonly trigger: TimerTrigger }>();
      for (const { name, definition } of functions) {
        for (const trigger of definition.triggers) {
          if (trigger.type === 'timer') wanted.set(keyOf(name, trigger), { name, trigger });
        }
      }
      const gone = [...timers].filter(([key]) => !wanted.has(key));
      for (const [key] of gone) timers.delete(key);
      for (const [key, { name, trigger }] of wanted) {
        const known = timers.get(key);
        if (known) {
          known.trigger = trigger;
          continue;
        }
        try {
          const counted = counts.get(key) ?? { runs: 0, failures: 0, missed: 0, overlapped: 0 };
          const timer = new Timer(key, name, trigger, counted, options);
          timers.set(key, timer);
          counts.set(key, counted);
          timer.wake();
        } catch (error) {
          options.onError?.(error);
        }
      }
      const before = names;
      names = new Set(functions.map(({ name }) => name));
      await Promise.all(gone.map(([, timer]) => timer.stop()));
      const deleted = [...before].filter((name) => !names.has(name));
      for (const name of deleted) for (const key of keysOf(counts, name)) counts.delete(key);
      await Promise.all(deleted.map(forget));
    },
    async stop() {
      await Promise.all([...timers.values()].map((timer) => timer.stop()));
      timers.clear();
    },
    nextRuns() {
      const next = new Map<string, number>();
      for (const { name, nextRun } of timers.values()) {
        if (nextRun !== undefined && nextRun < (next.get(name) ?? Number.POSITIVE_INFINITY)) next.set(name, nextRun);
      }
      return next;
    },
    counts(functionName, trigger) {
      const keys = trigger ? [keyOf(functionName, trigger)] : keysOf(counts, functionName);
      const sum = (of: keyof TimerCounts) => keys.reduce((total, key) => total + (counts.get(key)?.[of] ?? 0), 0);
      return { runs: sum('runs'), failures: sum('failures'), missed: sum('missed'), overlapped: sum('overlapped') };
    },
  };
}

/** What a timer's memory is kept under. A timer whose cron was changed is another one: it has missed nothing. */
function keyOf(name: string, { cron, timezone }: TimerTrigger): string {
  return `${keyPrefix(name)}${timezone} ${cron.trim().split(/\s+/).join(' ')}`;
}

function keyPrefix(functionName: string): string {
  return `${functionName} `;
}

/** Those of a function's timers. */
function keysOf(timers: ReadonlyMap<string, unknown>, functionName: string): string[] {
  return [...timers.keys()].filter((key) => key.startsWith(keyPrefix(functionName)));
}

/** The same run has the same id whichever process starts it, and however often: it is billed once. */
function invocationIdOf(key: string, name: string, at: number): string {
  return `timer-${name}-${new Date(at).toISOString()}-${hash64(key).slice(0, 8)}`;
}

type MutableCounts = { -readonly [K in keyof TimerCounts]: number };

interface Run {
  readonly at: number;
  /** It and others like it follow each other. */
  readonly inTurn: boolean;
  ended: boolean;
}

class Timer {
  /** Undefined while the timer is another process's. */
  nextRun: number | undefined;
  private readonly schedule: TimerSchedule;
  /** Runs up to here were started or left out; undefined while another process has the timer. */
  private seen: number | undefined;
  private loading = false;
  /** What is due now fell between: nobody had the timer. */
  private tookOver = false;
  private stopped = false;
  private cancelWake = (): void => undefined;
  /** Runs that have not all ended before them, oldest first. */
  private readonly runs: Run[] = [];
  private readonly waiting: Run[] = [];
  private readonly active = new Map<Run, AbortController>();
  private onIdle = (): void => undefined;
  private keeping: Promise<void> = Promise.resolve();

  constructor(
    private readonly key: string,
    readonly name: string,
    public trigger: TimerTrigger,
    private readonly counts: MutableCounts,
    private readonly options: TimerOptions,
  ) {
    this.schedule = new TimerSchedule(trigger.cron, trigger.timezone);
  }

  /** Starts what is due and sleeps until the next time. */
  wake(): void {
    this.cancelWake();
    if (this.stopped || this.loading) return;
    const { clock, isOwner } = this.options;
    if (isOwner && !isOwner(this.name)) {
      this.seen = undefined;
      this.nextRun = undefined;
      this.sleep(timerLimits.ownershipMs);
      return;
    }
    if (this.seen === undefined) {
      void this.takeOver();
      return;
    }
    const now = clock.now();
    // most of the time nothing is due, and that is known
    if (this.nextRun === undefined || this.nextRun <= now) {
      const due = this.schedule.between(this.seen, now, timerLimits.maxMissed);
      this.seen = Math.max(this.seen, now);
      this.start(due, now);
      this.tookOver = false;
      this.nextRun = this.schedule.next(this.seen);
    }
    const most = isOwner ? timerLimits.ownershipMs : timerLimits.maxSleepMs;
    this.sleep(Math.min(most, (this.nextRun ?? Number.POSITIVE_INFINITY) - now));
  }

  /** Resolves when its runs have ended and that is kept. */
  async stop(): Promise<void> {
    this.stopped = true;
    this.cancelWake();
    this.waiting.length = 0;
    if (this.active.size > 0) {
      await new Promise<void>((resolve) => {
        const cancel = this.options.clock.after(timerLimits.drainMs, () => {
          for (const controller of this.active.values()) controller.abort();
        });
        this.onIdle = () => {
          cancel();
          resolve();
        };
      });
    }
    await this.keeping;
  }

  private sleep(ms: number): void {
    this.cancelWake = this.options.clock.after(Math.max(1, ms), () => this.wake());
  }

  private async takeOver(): Promise<void> {
    const { clock, memory, onError } = this.options;
    this.loading = true;
    try {
      const last = (await memory?.load())?.get(this.key);
      const now = clock.now();
      // what is remembered of a first start are the runs missed from now on
      if (last === undefined) await memory?.save(this.key, now);
      this.seen = Math.min(last ?? now, now);
      this.tookOver = true;
    } catch (error) {
      onError?.(error);
    }
    this.loading = false;
    if (this.stopped) return;
    if (this.seen === undefined) this.sleep(timerLimits.ownershipMs);
    else this.wake();
  }

  private start(due: readonly number[], now: number): void {
    const { overlap } = this.trigger;
    // within the grace time a process that had the timer all along was late, and has missed nothing
    const missed = due.length > 0 && (this.tookOver || now - due[0]! > timerLimits.graceMs);
    const kept = missed ? this.madeGood(due, now) : due;
    this.counts.missed += due.length - kept.length;
    const passedOver = due.length > kept.length ? due[due.length - kept.length - 1] : undefined;
    if (passedOver !== undefined) this.runs.push({ at: passedOver, inTurn: true, ended: true });
    // runs that one wake finds follow each other, whatever is done when one overlaps the next
    const queues = missed || overlap === 'queue' || (overlap === 'skip' && !this.busy);
    for (const at of kept) {
      const run: Run = { at, inTurn: missed || overlap !== 'allow', ended: false };
      this.runs.push(run);
      if (!run.inTurn || !this.busy) void this.run(run);
      else if (queues && this.waiting.length < timerLimits.maxQueued) this.waiting.push(run);
      else {
        this.counts.overlapped++;
        run.ended = true;
        if (queues) {
          const waiting = this.waiting.length;
          this.options.onError?.(new IguanaError('IGU_FUNCTION_BUSY', { name: this.name, limit: 1, waiting }));
        }
      }
    }
    this.remember();
  }

  /** The last ones of what was missed, as `missed` says. What a group misses while it gives the timer to another process is made good by `skip` too. */
  private madeGood(due: readonly number[], now: number): readonly number[] {
    const { missed } = this.trigger;
    if (missed === 'all') return due;
    return missed === 'latest' || now - due.at(-1)! <= timerLimits.graceMs ? due.slice(-1) : [];
  }

  /** Whether a run that follows others has to wait for them. */
  private get busy(): boolean {
    return !this.isFree || this.waiting.length > 0;
  }

  /** Whether the next in turn may start. */
  private get isFree(): boolean {
    if (this.trigger.overlap !== 'allow') return this.active.size === 0;
    return ![...this.active.keys()].some(({ inTurn }) => inTurn);
  }

  private async run(run: Run): Promise<void> {
    const { service, clock, deliver, onError, attempts = timerLimits.attempts, random } = this.options;
    const { name } = this;
    const controller = new AbortController();
    const { signal } = controller;
    this.active.set(run, controller);
    this.counts.runs++;
    const invocationId = invocationIdOf(this.key, name, run.at);
    const event = { trigger: 'timer', scheduledTime: new Date(run.at).toISOString() } as const;
    const startedAt = clock.now();
    const how = { invocationId, signal, ...defined({ qualifier: this.trigger.alias }) };
    const outcome = await callWithRetries((attempt) => service.invoke(name, event, { attempt, ...how }), {
      name,
      clock,
      attempts,
      signal,
      ...(random ? { random } : {}),
    });
    if (!outcome.result) {
      this.counts.failures++;
      onError?.(outcome.error);
    }
    try {
      if (!signal.aborted) {
        await deliver?.({ function: name, invocationId, event, startedAt, endedAt: clock.now(), ...outcome });
      }
    } catch (error) {
      onError?.(error);
    }
    this.active.delete(run);
    // one that was broken off by the end of the process is made again
    if (!signal.aborted) run.ended = true;
    this.remember();
    const next = this.isFree ? this.waiting.shift() : undefined;
    if (next) void this.run(next);
    else if (this.active.size === 0) this.onIdle();
  }

  /** Keeps the time up to which all runs have ended. */
  private remember(): void {
    let at: number | undefined;
    while (this.runs[0]?.ended) at = this.runs.shift()!.at;
    if (at === undefined) return;
    const { memory } = this.options;
    const newest = at;
    if (memory) this.keep(() => memory.save(this.key, newest));
  }

  /** One after the other, so that the newest stays. */
  private keep(write: () => Promise<void>): void {
    this.keeping = this.keeping.then(write).catch((error) => this.options.onError?.(error));
  }
}
