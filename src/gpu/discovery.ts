// One thing: the inventory. Asking the tools, knowing GPUs again from look to look, and saying what is old or gone share the same few maps.
import os from 'node:os';
import type { Clock } from '../clock.js';
import { gpuMonitorLimits, gpuToolLimits, gpuValueLimits } from '../limits.js';
import { HealthGrader, type HealthOptions } from './health.js';
import type { GpuInventory, GpuToolState } from './inventory.js';
import { namelessGpu } from './plain-gpu.js';
import { AmdSource } from './tools/amd-source.js';
import { IntelSource } from './tools/intel-source.js';
import { NvidiaSource } from './tools/nvidia-source.js';
import { type GpuFacts, type GpuReading, Problems } from './tools/reading.js';
import type { RunTool, ToolOptions } from './tools/run-tool.js';
import type { GpuSource, SourceAnswer } from './tools/source.js';
import { absent, type Fact, type Gpu, type GpuVendor, type HealthSignals, healthSignalNames } from './types.js';
import { busKey, parseXids } from './xid.js';

// systeminformation, which Iguana uses for the machine's own metrics, also lists GPUs. It is not used for that: it runs nvidia-smi synchronously and without a timeout, so that
// a driver that hangs stops the whole process; it drops real zeros, knows no UUIDs, MIG devices or processes, and of AMD and Intel no more than names.

export interface DiscoveryOptions {
  /** Of each run of a tool; default 10,000 ms and 8 MiB. */
  readonly tool?: ToolOptions;
  readonly health?: HealthOptions;
  /** Data older than this is stale, ms; default 5,000. */
  readonly staleAfterMs?: number;
  /** First wait after a failing tool, ms; default 2,000; it doubles up to a minute. */
  readonly backOffMs?: number;
  /** Read the kernel's log for Xid errors of NVIDIA's driver (`dmesg`); default true on Linux. */
  readonly kernelLog?: boolean;
  /** ms since 1970 when this machine started; for the times in the kernel's log. */
  readonly bootedAt?: number;
}

interface Maker {
  readonly source: GpuSource;
  state: GpuToolState;
  reading: Promise<void> | undefined;
  notBefore: number;
  failures: number;
  problems: readonly string[];
  /** Its last look was complete and went well. */
  complete: boolean;
}

interface Known {
  gpu: Gpu;
  seen: 'seen' | 'unanswered' | 'missing';
  firstMissing: number | undefined;
}

/** What does not change while a GPU is in a machine: kept from the last time it was told, also when it is lost. */
const lasting = [
  'busId',
  'serial',
  'driver',
  'architecture',
  'memoryTotalMb',
] as const satisfies readonly (keyof Gpu)[];

const factNames = [
  'index',
  'busId',
  'serial',
  'driver',
  'architecture',
  'memoryTotalMb',
  'memoryUsedMb',
  'memoryFreeMb',
  'memoryReservedMb',
  'utilization',
  'memoryUtilization',
  'temperature',
  'memoryTemperature',
  'power',
  'powerLimit',
  'coreClock',
  'memoryClock',
  'fanPercent',
  'computeMode',
  'partitionMode',
] as const satisfies readonly (keyof GpuFacts)[];

/**
 * Keeps the inventory of this machine's GPUs: asks the makers' tools, side by side and each at most once at a time, knows a GPU again by its UUID, and says of what it has not heard
 * anew that it is stale, or lost when a tool answers without it. Never rejects on what a tool does.
 */
export class GpuDiscovery {
  private readonly makers: readonly Maker[];
  private readonly known = new Map<string, Known>();
  private readonly grader: HealthGrader;
  private readonly run: RunTool;
  private readonly staleAfterMs: number;
  private readonly backOffMs: number;
  private readonly kernelLog: boolean;
  private readonly bootedAt: number;
  private lastXidUptime = Number.NEGATIVE_INFINITY;
  private logReadAt = Number.NEGATIVE_INFINITY;
  private logProblem: string | undefined;

  constructor(
    run: RunTool,
    private readonly clock: Clock,
    options: DiscoveryOptions = {},
  ) {
    this.run = (command, args, more) => run(command, args, { ...options.tool, ...more });
    this.grader = new HealthGrader(options.health);
    this.staleAfterMs = options.staleAfterMs ?? gpuMonitorLimits.staleAfterMs;
    this.backOffMs = options.backOffMs ?? gpuToolLimits.backOffMs;
    this.kernelLog = options.kernelLog ?? process.platform === 'linux';
    this.bootedAt = options.bootedAt ?? clock.now() - os.uptime() * 1000;
    this.makers = [new NvidiaSource(), new AmdSource(), new IntelSource()].map((source) => ({
      source,
      state: {
        vendor: source.vendor,
        command: commands[source.vendor],
        state: 'waiting',
        what: '',
        answeredAt: null,
        tookMs: null,
      },
      reading: undefined,
      notBefore: Number.NEGATIVE_INFINITY,
      failures: 0,
      problems: [],
      complete: false,
    }));
  }

  /**
   * Asks the tools and gives the inventory.
   *
   * @param full identity and partitions too; the first look is always full
   * @param patienceMs a tool that takes longer is not waited for: its answer is in a later inventory; default: waits for all, each at most its timeout
   */
  async look(full = true, patienceMs = Number.POSITIVE_INFINITY): Promise<GpuInventory> {
    const now = this.clock.now();
    for (const maker of this.makers)
      if (!maker.reading && now >= maker.notBefore) maker.reading = this.ask(maker, full || !maker.complete);
    const all = Promise.all(this.makers.flatMap(({ reading }) => reading ?? []));
    if (Number.isFinite(patienceMs)) {
      let cancel = (): void => undefined;
      await Promise.race([all, new Promise<void>((resolve) => (cancel = this.clock.after(patienceMs, resolve)))]);
      cancel();
    } else await all;
    return this.inventory();
  }

  /** What is known now, without asking; what has become old since is marked stale. */
  inventory(): GpuInventory {
    const now = this.clock.now();
    for (const [id, known] of this.known) {
      const gone = known.firstMissing !== undefined && now - known.firstMissing >= gpuMonitorLimits.forgetLostAfterMs;
      if (gone) {
        this.known.delete(id);
        this.grader.forget(id);
        continue;
      }
      const stale = known.seen === 'missing' || now - known.gpu.seenAt > this.staleAfterMs;
      const gpu = stale === known.gpu.stale ? known.gpu : { ...known.gpu, stale };
      known.gpu = { ...gpu, health: this.grader.grade(gpu, known.seen, now) };
      if (known.seen === 'seen') known.seen = 'unanswered';
    }
    const gpus = [...this.known.values()]
      .map(({ gpu }) => gpu)
      .sort((a, b) => order(a.vendor, b.vendor) || order(a.id, b.id));
    const tools = this.makers.map(({ state }) => state);
    const problems = this.makers.flatMap((maker) => maker.problems.map((what) => `${maker.state.command}: ${what}`));
    if (this.logProblem !== undefined && gpus.some(({ vendor }) => vendor === 'nvidia')) problems.push(this.logProblem);
    return { gpus, tools, takenAt: now, summary: summaryOf(gpus, tools), problems };
  }

  private async ask(maker: Maker, full: boolean): Promise<void> {
    const started = this.clock.now();
    const answer = await maker.source.read(this.run, full);
    const now = this.clock.now();
    const answered = answer.state === 'ok' || answer.state === 'no-driver';
    maker.state = {
      vendor: maker.source.vendor,
      command: answer.command,
      state: answer.state,
      what: answer.what,
      answeredAt: answered ? now : maker.state.answeredAt,
      tookMs: answered ? now - started : maker.state.tookMs,
    };
    maker.problems = answer.problems;
    maker.complete = answer.state === 'ok' && (full || maker.complete);
    if (answer.state === 'ok') {
      maker.failures = 0;
      maker.notBefore = Number.NEGATIVE_INFINITY;
    } else {
      const wait = Math.min(gpuToolLimits.maxBackOffMs, this.backOffMs * 2 ** Math.min(20, maker.failures++));
      maker.notBefore = now + (answer.state === 'missing' ? gpuToolLimits.missingRetryMs : wait);
    }
    if (answered) this.take(maker.source.vendor, answer, now);
    if (maker.source.vendor === 'nvidia' && answer.state === 'ok') await this.readLog(full);
    maker.reading = undefined;
  }

  /** Merges an answer: by it every GPU of this maker is seen or missing. */
  private take(vendor: GpuVendor, answer: SourceAnswer, now: number): void {
    const seen = new Set<string>();
    const odd = new Problems();
    for (const reading of answer.gpus) {
      const id = this.idOf(vendor, reading);
      if (id === undefined) odd.add('a GPU without UUID and address');
      else if (seen.has(id)) odd.add(`two GPUs ${id}`);
      else if (!this.known.has(id) && this.known.size >= gpuValueLimits.maxGpus)
        odd.add(`more than ${gpuValueLimits.maxGpus} GPUs`);
      else {
        if (reading.lost && this.known.has(id)) continue;
        this.replaceAddress(id, reading);
        if (!reading.lost) seen.add(id);
        const before = this.known.get(id)?.gpu;
        this.known.set(id, { gpu: gpuFrom(id, reading, before, now), seen: 'seen', firstMissing: undefined });
      }
    }
    for (const [id, { gpu }] of this.known) if (gpu.vendor === vendor && !seen.has(id)) this.miss(id);
    const maker = this.makers.find(({ source }) => source.vendor === vendor);
    if (maker && odd.list.length > 0) maker.problems = [...maker.problems, ...odd.list];
  }

  private idOf(vendor: GpuVendor, reading: GpuReading): string | undefined {
    if (reading.uuid.value !== null) return reading.uuid.value;
    const bus = reading.facts.busId?.value;
    if (bus === undefined || bus === null) return undefined;
    // an answer in which its UUID cannot be read is still about the GPU that was at this address
    for (const [id, { gpu }] of this.known)
      if (gpu.vendor === vendor && gpu.busId.value !== null && busKey(gpu.busId.value) === busKey(bus)) return id;
    return bus;
  }

  /** A GPU that was known by its address only, for it was lost when first heard of, has its UUID now. */
  private replaceAddress(id: string, reading: GpuReading): void {
    const bus = reading.facts.busId?.value;
    if (bus === undefined || bus === null || this.known.has(id)) return;
    for (const [old, { gpu }] of this.known)
      if (gpu.vendor === reading.vendor && busKey(old) === busKey(bus)) {
        this.known.delete(old);
        this.grader.forget(old);
      }
  }

  private miss(id: string): void {
    const known = this.known.get(id);
    if (!known || known.seen === 'missing') return;
    known.seen = 'missing';
    known.firstMissing = this.clock.now();
    known.gpu = gpuFrom(
      id,
      { vendor: known.gpu.vendor, uuid: absent('lost'), name: absent('lost'), facts: {}, signals: {} },
      known.gpu,
      known.gpu.seenAt,
      'lost',
    );
  }

  private async readLog(full: boolean): Promise<void> {
    const since = this.clock.now() - this.logReadAt;
    if (!this.kernelLog || this.known.size === 0 || (!full && since < gpuMonitorLimits.kernelLogEveryMs)) return;
    this.logReadAt = this.clock.now();
    const log = await this.run('dmesg', []);
    if (log.code !== 0) {
      this.logProblem = `dmesg: Xid errors are not seen, for the kernel log cannot be read${log.stderr ? ` (${log.stderr.trim().slice(0, 80)})` : ''}`;
      return;
    }
    this.logProblem = undefined;
    const now = this.clock.now();
    let newest = this.lastXidUptime;
    for (const event of parseXids(log.stdout)) {
      if (event.uptime === undefined || event.uptime <= this.lastXidUptime) continue;
      newest = Math.max(newest, event.uptime);
      for (const [id, { gpu }] of this.known)
        if (gpu.busId.value !== null && busKey(gpu.busId.value) === busKey(event.busId))
          this.grader.xid(id, event, this.bootedAt + event.uptime * 1000, now);
    }
    this.lastXidUptime = newest;
  }
}

const commands: Readonly<Record<GpuVendor, string>> = { nvidia: 'nvidia-smi', amd: 'amd-smi', intel: 'xpu-smi' };

/** The GPUs of this machine, asked once. */
export function discover(run: RunTool, clock: Clock, options?: DiscoveryOptions): Promise<GpuInventory> {
  return new GpuDiscovery(run, clock, options).look();
}

function gpuFrom(
  id: string,
  reading: GpuReading,
  before: Gpu | undefined,
  seenAt: number,
  otherwise: 'not-reported' | 'lost' = 'not-reported',
): Gpu {
  const facts: Record<string, Fact<number | string>> = {};
  for (const name of factNames) {
    const told: Fact<number | string> = reading.facts[name] ?? absent(otherwise);
    const kept = before?.[name];
    const keep = (lasting as readonly string[]).includes(name) && told.value === null && kept?.absent === undefined;
    facts[name] = keep && kept ? kept : told;
  }
  const signals: Record<string, Fact<unknown>> = {};
  for (const name of healthSignalNames) signals[name] = reading.signals[name] ?? absent(otherwise);
  return {
    ...(facts as unknown as GpuFacts),
    id,
    vendor: reading.vendor,
    name: reading.name.value ?? before?.name ?? namelessGpu(reading.vendor),
    partitions:
      reading.partitions?.map(({ device: _, ...partition }) => partition) ??
      (otherwise === 'lost' ? [] : (before?.partitions ?? [])),
    processes: reading.processes ?? null,
    signals: signals as unknown as HealthSignals,
    health: before?.health ?? { state: 'ok', causes: [] },
    seenAt,
    stale: otherwise === 'lost',
  };
}

function order(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function summaryOf(gpus: readonly Gpu[], tools: readonly GpuToolState[]): string {
  const wrong = tools
    .filter(({ state }) => state === 'failed' || state === 'no-driver')
    .map(({ command, what }) => `${command}: ${what}`);
  if (gpus.length === 0) {
    if (wrong.length > 0) return `no GPU can be told of: ${wrong.join('; ')}`;
    return tools.every(({ state }) => state === 'missing')
      ? 'no GPU tools are installed here (nvidia-smi, amd-smi or rocm-smi, xpu-smi), so no GPUs are known'
      : 'there are no GPUs here';
  }
  const counts = new Map<string, number>();
  for (const { name } of gpus) counts.set(name, (counts.get(name) ?? 0) + 1);
  const models = [...counts].map(([name, count]) => `${count} × ${name}`).join(', ');
  const unwell = gpus.filter(({ health }) => health.state !== 'ok').length;
  return [models, ...(unwell > 0 ? [`${unwell} not well`] : []), ...wrong].join('; ');
}
