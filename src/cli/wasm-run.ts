import { existsSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import type { EngineName, Tier } from '../wasm/engines/engine.js';
import { engineNames } from '../wasm/engines/open-engine.js';
import { type GuestWasi, wasiModulesOf } from '../wasm/runtime/guest-wasi.js';
import type { GasUsed } from '../wasm/runtime/instance.js';
import { type InstanceHandle, type ModuleHandle, WasmRuntime } from '../wasm/runtime/runtime.js';
import type { TypedValue } from '../wasm/runtime/values.js';
import { SnapshotStore } from '../wasm/snapshot/snapshot-store.js';
import { WasmTrap } from '../wasm/trap.js';
import { WasiExit } from '../wasm/wasi/wasi-error.js';
import { paint } from './terminal.js';
import {
  collect,
  type GivenDirectory,
  type Invocation,
  invocationOf,
  parseBytes,
  parseDirectory,
  parseEngine,
  parseEnvironment,
  parseTier,
  parseTime,
  valueText,
} from './wasm-options.js';

export interface RunOptions {
  readonly runtime: EngineName;
  readonly tier?: Tier;
  readonly invoke?: string[];
  readonly gas?: number;
  readonly maxMemory?: number;
  readonly maxStack?: number;
  readonly timeout?: number;
  readonly dir?: GivenDirectory[];
  readonly env?: string[];
  readonly store?: string;
  readonly codeCache?: string;
  readonly snapshot?: string;
  readonly json?: boolean;
}

export interface RunTrap {
  readonly kind: string;
  readonly message: string;
  readonly frames: readonly string[];
}

/** What a run came to. */
interface RunReport {
  readonly file: string;
  readonly invoke: string;
  readonly results: readonly { readonly type: string; readonly value: string | number | null }[];
  readonly gasUsed: number;
  readonly engine: EngineName;
  readonly version: string;
  readonly tier: Tier;
  readonly exitCode: number;
  readonly trap: null | RunTrap;
  readonly durationMs: number;
  readonly memoryBytes: number;
  /** What the guest wrote; only with --json, else it goes where this command's own output goes. */
  readonly stdout?: string;
  readonly stderr?: string;
}

/** Exit codes of calls that the guest did not end itself, as shells know them: aborted, out of processor time, timed out. */
const trapExitCodes: Readonly<Record<string, number>> = { 'out-of-gas': 152, timeout: 124 };
const TRAPPED = 134;

/** Options that say what a guest may have and see; the same for all commands that run one. */
export function guestOptions(command: Command): Command {
  return command
    .option('--tier <name>', 'baseline, optimised, tiered or interpreter (default: as the engine has it)', parseTier)
    .option('--invoke <export...>', 'function to call, then its arguments (default: _start)')
    .option('--max-memory <size>', 'most linear memory, such as 64MiB (default: 256MiB)', parseBytes)
    .option('--timeout <time>', 'longest time of the call, such as 500ms or 1s', parseTime)
    .option(
      '--dir <mapping>',
      'HOST::GUEST[:ro], a directory the guest may use; again for more',
      collect(parseDirectory),
    )
    .option('--env <name=value>', 'a variable of the guest; again for more', collect(parseEnvironment));
}

/** Options of commands that run a guest metered, on an engine of choice. */
export function meteredOptions(command: Command): Command {
  return guestOptions(
    command.option('--runtime <name>', `engine: ${engineNames.join(', ')}`, parseEngine, 'native' as const),
  )
    .option('--gas <n>', 'most gas, in simple instructions', parseGas)
    .option('--max-stack <n>', 'deepest stack, slots of 8 bytes (default: 32768)', parseGas);
}

/** `iguana wasm run`: one call in a sandbox. The exit code is the guest's. */
export function wasmRunCommand(): Command {
  return meteredOptions(new Command('run'))
    .description('Run a module: _start, or the export of --invoke')
    .argument('<file>', 'module in binary format')
    .argument('[args...]', 'arguments of the guest, after --')
    .option('--store <directory>', 'directory of snapshots, see iguana wasm snapshot')
    .option('--snapshot <id>', 'state to begin with, from --store')
    .option('--code-cache <directory>', 'compile ahead and keep machine code there: later runs begin at full speed')
    .option('--json', 'print results, gas, engine, exit code and trap as JSON')
    .addHelpText(
      'after',
      '\nExit code: the guest’s; 134 after a trap, 152 out of gas, 124 timed out, 1 when it could not be run, 2 for wrong usage.\n\nExamples:\n  iguana wasm run add.wasm --invoke add 2 40\n  iguana wasm run tool.wasm --dir ./data::/data:ro --env LANG=C --gas 1000000000 --max-memory 64MiB --timeout 1s -- --count 3',
    )
    .action(async (file: string, args: string[], options: RunOptions) => {
      const { codeCache } = options;
      const runtime = new WasmRuntime({ workers: 1, ...(codeCache !== undefined && { codeCache }) });
      try {
        const module = await runtime.loadModule(file);
        const report = await run(runtime, module, file, args, options);
        print(report, options.json === true);
        process.exitCode = report.exitCode;
      } finally {
        await runtime.close();
      }
    });
}

async function run(
  runtime: WasmRuntime,
  module: ModuleHandle,
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunReport> {
  const invocation = entryOf(module, options);
  const ahead = options.codeCache !== undefined && options.runtime === 'native' && options.tier === undefined;
  const limits = options.maxMemory === undefined ? {} : { maxMemory: options.maxMemory };
  if (ahead) await runtime.compileAhead(module.id, { limits });
  const begin = performance.now();
  const given: RunOptions = ahead ? { ...options, tier: 'optimised' } : options;
  const instance = await makeGuest(runtime, module, given, [file, ...args], options.json === true);
  let results: readonly TypedValue[] = [];
  let trap: RunReport['trap'] = null;
  let exitCode = 0;
  try {
    results = await invoke(runtime, module, instance, invocation, options.snapshot !== undefined);
  } catch (error) {
    ({ exitCode, trap } = endingOf(error));
  }
  const durationMs = performance.now() - begin;
  const gasUsed: GasUsed = await runtime.getGasUsed(instance);
  const { memoryBytes, ...output } = await leftOf(runtime, instance);
  return {
    file,
    invoke: invocation.name,
    results: results.map(({ type, value }) => ({ type, value: valueText(value) })),
    gasUsed: gasUsed.total,
    engine: instance.runtime,
    version: instance.version,
    tier: instance.tier,
    exitCode,
    trap,
    durationMs: Math.round(durationMs * 1000) / 1000,
    memoryBytes,
    ...(options.json && output),
  };
}

/** How a guest ended that did not just return. What is no ending of a guest is thrown on. */
export function endingOf(error: unknown): { readonly exitCode: number; readonly trap: RunTrap | null } {
  if (error instanceof WasiExit) return { exitCode: error.code, trap: null };
  if (!(error instanceof WasmTrap)) throw error;
  return {
    exitCode: trapExitCodes[error.trap] ?? TRAPPED,
    trap: { kind: error.trap, message: messageOf(error), frames: error.frames },
  };
}

/** What can still be told of a guest; nothing when its worker thread had to be ended. */
async function leftOf(runtime: WasmRuntime, instance: InstanceHandle) {
  try {
    const { memoryBytes } = await runtime.info(instance);
    const { stdout, stderr } = await runtime.output(instance);
    return { memoryBytes, stdout, stderr };
  } catch (error) {
    if (error instanceof IguanaError && error.code === 'IGU_WASM_LOST')
      return { memoryBytes: 0, stdout: '', stderr: '' };
    throw error;
  }
}

/** The call that the options ask for. @throws IguanaError when nothing says what to call */
export function entryOf(module: Pick<ModuleHandle, 'exports'>, options: Pick<RunOptions, 'invoke'>): Invocation {
  if (options.invoke) return invocationOf(module, options.invoke);
  if (module.exports.some(({ kind, name }) => kind === 'function' && name === '_start'))
    return { name: '_start', args: [] };
  const names = module.exports.filter(({ kind }) => kind === 'function').map(({ name }) => name);
  throw new IguanaError('IGU_USAGE', {
    what: `the module has no _start: say --invoke EXPORT ARG… (exports: ${names.slice(0, 8).join(', ') || 'none'})`,
  });
}

/** An instance with what the options give it. */
export async function makeGuest(
  runtime: WasmRuntime,
  module: ModuleHandle,
  options: RunOptions,
  args: readonly string[],
  capture: boolean,
): Promise<InstanceHandle> {
  if (options.snapshot !== undefined && options.store === undefined)
    throw new IguanaError('IGU_USAGE', { what: '--snapshot needs --store' });
  // opening would make it, and nobody begins with a state of an empty directory
  if (options.snapshot !== undefined && !existsSync(options.store!))
    throw new IguanaError('IGU_FILE_MISSING', { path: options.store! });
  if ((options.dir || options.env || args.length > 1) && wasiModulesOf(module).length === 0)
    throw new IguanaError('IGU_USAGE', {
      what: 'the module does not import WASI: --dir, --env and arguments mean nothing to it',
    });
  const snapshot =
    options.snapshot === undefined
      ? undefined
      : await (await SnapshotStore.open(options.store!)).load(options.snapshot);
  return runtime.createInstance({
    moduleId: module.id,
    runtime: options.runtime,
    placement: options.runtime === 'native' ? 'in-place' : 'worker',
    limits: {
      ...(options.maxMemory !== undefined && { maxMemory: options.maxMemory }),
      ...(options.maxStack !== undefined && { maxStackDepth: options.maxStack }),
      ...(options.timeout !== undefined && { timeout: options.timeout }),
    },
    ...(options.tier && { tier: options.tier }),
    ...(options.gas !== undefined && { gas: options.gas }),
    ...(snapshot && { snapshot }),
    wasi: guestWasi(options, args, capture),
  });
}

/** What the options give by WASI. */
export function guestWasi(
  options: Pick<RunOptions, 'env' | 'dir'>,
  args: readonly string[],
  capture: boolean,
): GuestWasi {
  return {
    args: [...args],
    env: Object.fromEntries((options.env ?? []).map((pair) => pair.split(/=(.*)/s, 2) as [string, string])),
    preopens: (options.dir ?? []).map(({ host, guest, readOnly }) => ({ host, guest, mode: readOnly ? 'ro' : 'rw' })),
    stdin: 'inherit',
    stdout: capture ? 'capture' : 'inherit',
    stderr: capture ? 'capture' : 'inherit',
  };
}

/** A library module is initialised before its first call, unless a snapshot is of later. */
export async function invoke(
  runtime: WasmRuntime,
  module: ModuleHandle,
  instance: InstanceHandle,
  { name, args }: Invocation,
  initialised: boolean,
): Promise<TypedValue[]> {
  const initialises = module.exports.some((one) => one.kind === 'function' && one.name === '_initialize');
  if (initialises && !initialised && name !== '_initialize') await runtime.callFunction(instance, '_initialize');
  return runtime.callFunction(instance, name, args);
}

function print(report: RunReport, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    return;
  }
  for (const { value } of report.results) process.stdout.write(`${value}\n`);
  if (report.trap) process.stderr.write(`${trapText(report.trap)}\n`);
}

/** One line of what and what to do, then the guest's stack. */
export function trapText({ message, frames }: RunTrap): string {
  const stack = frames.map((frame) => `\n  at ${frame}`).join('');
  return `${paint('red', message, process.stderr)}${paint('dim', stack, process.stderr)}`;
}

function parseGas(given: string): number {
  const value = Number(/^\d[\d_]*(e\d+)?$/.exec(given)?.[0].replaceAll('_', ''));
  if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('A whole number is needed.');
  return value;
}
