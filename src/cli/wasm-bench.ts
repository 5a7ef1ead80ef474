import { Command } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { EngineName, Tier } from '../wasm/engines/engine.js';
import { engineNames } from '../wasm/engines/open-engine.js';
import { type InstanceHandle, type ModuleHandle, WasmRuntime } from '../wasm/runtime/runtime.js';
import { WasiExit } from '../wasm/wasi/wasi-error.js';
import { wholeNumber } from './suggest.js';
import { progress, textTable } from './terminal.js';
import { collect, type Invocation, parseEngine } from './wasm-options.js';
import { entryOf, guestOptions, guestWasi, invoke, type RunOptions } from './wasm-run.js';

type BenchOptions = Omit<RunOptions, 'runtime' | 'gas'> & {
  readonly runtime?: EngineName[];
  readonly runs: number;
};

/** One way to run the module. */
interface Way {
  readonly runtime: EngineName;
  readonly metered: boolean;
  readonly tier?: Tier;
}

interface Measured extends Way {
  readonly tier: Tier;
  readonly version: string;
  readonly makeMs: number;
  readonly bestMs: number;
  readonly medianMs: number;
  readonly gasUsed: number | null;
}

/** `iguana wasm bench`: the same call on every engine that is there, metered and not. */
export function wasmBenchCommand(): Command {
  return guestOptions(new Command('bench'))
    .description('Time one call on every engine that is there, metered and not')
    .argument('<file>', 'module in binary format')
    .argument('[args...]', 'arguments of the guest, after --')
    .option('--runtime <name>', 'an engine to time; again for more (default: all)', collect(parseEngine))
    .option('--runs <n>', 'calls of each', wholeNumber(1, 100_000), 20)
    .option('--json', 'print it as JSON')
    .addHelpText(
      'after',
      '\nEvery way runs in a worker thread, and they take turns, so that they meet the same machine; a call to a thread and back takes about 0.05 ms of it.\n\nExamples:\n  iguana wasm bench kernels.wasm --invoke fib 25\n  iguana wasm bench kernels.wasm --invoke fib 25 --runtime native --runtime wasm3 --runs 50',
    )
    .action(async (file: string, args: string[], options: BenchOptions) => {
      const runtime = new WasmRuntime();
      try {
        const module = await runtime.loadModule(file);
        const { measured, left } = await measure(runtime, module, [file, ...args], options);
        if (options.json)
          process.stdout.write(`${JSON.stringify({ file, runs: options.runs, measured, left }, null, 2)}\n`);
        else print(measured, left);
      } finally {
        await runtime.close();
      }
    });
}

function waysOf({ runtime, tier }: BenchOptions): Way[] {
  return (runtime ?? engineNames).flatMap((name) =>
    [false, true].map((metered) => ({ runtime: name, metered, ...(tier && { tier }) })),
  );
}

async function measure(
  runtime: WasmRuntime,
  module: ModuleHandle,
  args: readonly string[],
  options: BenchOptions,
): Promise<{ measured: Measured[]; left: string[] }> {
  const invocation = entryOf(module, options);
  const left: string[] = [];
  const runners: { way: Way; run: Runner; times: number[] }[] = [];
  for (const way of waysOf(options)) {
    try {
      const run = await runner(runtime, module, way, invocation, args, options);
      await run.once();
      runners.push({ way, run, times: [] });
    } catch (error) {
      if (!(error instanceof IguanaError)) throw error;
      if (!left.includes(messageOf(error))) left.push(messageOf(error));
    }
  }
  const bar = progress('bench', options.runs);
  for (let i = 0; i < options.runs; i++) {
    for (const { run, times } of runners) times.push(await run.once());
    bar.update(i);
  }
  bar.end();
  const measured = runners.map(({ way, run, times }) => {
    times.sort((a, b) => a - b);
    return {
      ...way,
      tier: run.tier(),
      version: run.version(),
      makeMs: run.makeMs(),
      bestMs: times[0]!,
      medianMs: times[times.length >> 1]!,
      gasUsed: way.metered ? run.gas() : null,
    };
  });
  return { measured, left };
}

interface Runner {
  /** Time of one call, ms. */
  once(): Promise<number>;
  gas(): number;
  tier(): Tier;
  version(): string;
  /** Time from the loaded module to the first instance, ms: compiling above all. */
  makeMs(): number;
}

/** A command (`_start`) gets a new instance for each run, since it ends with the call; making it is not timed. */
async function runner(
  runtime: WasmRuntime,
  module: ModuleHandle,
  way: Way,
  invocation: Invocation,
  args: readonly string[],
  options: BenchOptions,
): Promise<Runner> {
  const make = (): Promise<InstanceHandle> =>
    runtime.createInstance({
      moduleId: module.id,
      ...way,
      limits: {
        ...(options.maxMemory !== undefined && { maxMemory: options.maxMemory }),
        ...(options.timeout !== undefined && { timeout: options.timeout }),
      },
      wasi: { ...guestWasi(options, args, true), stdin: new Uint8Array(0) },
    });
  const begin = performance.now();
  let instance = await make();
  const makeMs = performance.now() - begin;
  const { tier, version } = instance;
  const again = invocation.name === '_start';
  let fresh = true;
  let gas = 0;
  return {
    async once() {
      if (again && !fresh) {
        await runtime.destroy(instance);
        instance = await make();
      }
      const start = performance.now();
      try {
        await invoke(runtime, module, instance, invocation, !fresh && !again);
      } catch (error) {
        if (!(error instanceof WasiExit)) throw error;
      }
      const took = performance.now() - start;
      fresh = false;
      gas = (await runtime.getGasUsed(instance)).lastCall;
      return took;
    },
    gas: () => gas,
    tier: () => tier,
    version: () => version,
    makeMs: () => makeMs,
  };
}

function print(measured: readonly Measured[], left: readonly string[]): void {
  const plain = measured.find(({ runtime, metered }) => runtime === 'native' && !metered)?.bestMs;
  const rows = measured.map(({ runtime, version, tier, metered, makeMs, bestMs, medianMs, gasUsed }) => [
    runtime,
    version,
    tier,
    metered ? 'yes' : 'no',
    makeMs.toFixed(2),
    bestMs.toFixed(3),
    medianMs.toFixed(3),
    plain === undefined ? '-' : (bestMs / plain).toFixed(2),
    gasUsed === null ? '-' : String(gasUsed),
  ]);
  const header = ['engine', 'version', 'tier', 'metered', 'make ms', 'best ms', 'median ms', 'to native', 'gas'];
  if (rows.length > 0) process.stdout.write(`${textTable(header, rows)}\n`);
  for (const why of left) process.stderr.write(`left out: ${why}\n`);
  if (rows.length === 0) process.exitCode = 1;
}
