import { Command } from 'commander';
import { wasmRuntimeLimits } from '../limits.js';
import { NativeEngine } from '../wasm/engines/native.js';
import { prices } from '../wasm/gas/prices.js';
import { inspectModule, prepareModule } from '../wasm/module/prepare.js';
import {
  countingImports,
  type FunctionGas,
  type ProfiledModule,
  profileModule,
  readProfile,
} from '../wasm/runtime/gas-profile.js';
import { makeWasi, wasiImports } from '../wasm/runtime/guest-wasi.js';
import { Instance } from '../wasm/runtime/instance.js';
import { readModule } from '../wasm/runtime/read-module.js';
import { type ModuleInfo, PAGE_BYTES } from '../wasm/types.js';
import { textTable } from './terminal.js';
import { endingOf, entryOf, guestOptions, guestWasi, type RunOptions, type RunTrap, trapText } from './wasm-run.js';

type GasOptions = Omit<RunOptions, 'runtime' | 'gas' | 'maxStack'>;

/** `iguana wasm gas`: where the gas of a call goes, function by function. */
export function wasmGasCommand(): Command {
  return guestOptions(new Command('gas'))
    .description('Tell where the gas of a call goes, by function, exactly')
    .argument('<file>', 'module in binary format')
    .argument('[args...]', 'arguments of the guest, after --')
    .option('--json', 'print it as JSON, with what the guest wrote')
    .addHelpText(
      'after',
      '\nThe sum is what iguana wasm run counts. A call that traps, exits or is stopped is counted up to there, so an endless one needs --timeout.\n\nExamples:\n  iguana wasm gas kernels.wasm --invoke fib 20\n  iguana wasm gas tool.wasm --timeout 1s --json -- --count 3',
    )
    .action(async (file: string, args: string[], options: GasOptions) => {
      const { functions, trap, exitCode, stdout } = profile(await readModule(file), file, args, options);
      const total = functions.reduce((sum, { gas }) => sum + gas, 0);
      if (options.json) {
        const report = { file, total, priceVersion: prices.version, functions, exitCode, trap, stdout };
        process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
      } else {
        const share = (gas: number): string => `${((100 * gas) / Math.max(1, total)).toFixed(1)} %`;
        const rows = functions
          .slice(0, MOST_ROWS)
          .map(({ name, calls, gas }) => [String(gas), share(gas), String(calls), name]);
        const more =
          functions.length > MOST_ROWS ? `\n… and ${functions.length - MOST_ROWS} more (--json has all)` : '';
        process.stdout.write(`${textTable(['gas', 'share', 'calls', 'function'], rows)}${more}\n`);
        process.stdout.write(`${total} gas in all (prices version ${prices.version})\n`);
        if (trap) process.stderr.write(`${trapText(trap)}\n`);
      }
      process.exitCode = exitCode;
    });
}

const MOST_ROWS = 40;

interface Profile {
  readonly functions: readonly FunctionGas[];
  readonly exitCode: number;
  readonly trap: RunTrap | null;
  readonly stdout: string;
}

function profile(bytes: Uint8Array<ArrayBuffer>, file: string, args: readonly string[], options: GasOptions): Profile {
  const info = inspectModule(bytes);
  const maxMemoryPages = Math.floor((options.maxMemory ?? wasmRuntimeLimits.defaultMaxMemory) / PAGE_BYTES);
  const maxTableElements = wasmRuntimeLimits.defaultMaxTableElements;
  const profiled = profileModule(bytes, maxMemoryPages, maxTableElements);
  const prepared = prepareModule(profiled.bytes, { metered: false, maxMemoryPages, maxTableElements });
  const wasi = makeWasi(guestWasi(options, [file, ...args], options.json === true));
  const counting = countingImports(wasiImports(wasi, info), () => wasi.gasOfBytes);
  const engine = new NativeEngine();
  const instance = new Instance(engine.compile(prepared, options.tier), {
    wasi,
    viewsDetach: true,
    imports: counting.imports,
    limits: {
      maxMemory: maxMemoryPages * PAGE_BYTES,
      ...(options.timeout !== undefined && { timeout: options.timeout }),
    },
  });
  try {
    const ending = call(instance, info, options);
    return { ...ending, functions: accounts(instance, profiled, counting), stdout: instance.output().stdout };
  } finally {
    instance.close();
    engine.close();
  }
}

function accounts(
  instance: Instance,
  profiled: ProfiledModule,
  { hostCalls }: ReturnType<typeof countingImports>,
): FunctionGas[] {
  return [...readProfile(instance, profiled), ...hostCalls()].sort((a, b) => b.gas - a.gas);
}

function call(instance: Instance, info: ModuleInfo, options: GasOptions): Pick<Profile, 'exitCode' | 'trap'> {
  const { name, args } = entryOf(info, options);
  try {
    const initialises = info.exports.some((one) => one.kind === 'function' && one.name === '_initialize');
    if (initialises && name !== '_initialize') instance.call('_initialize');
    instance.call(name, args);
    return { exitCode: 0, trap: null };
  } catch (error) {
    return endingOf(error);
  }
}
