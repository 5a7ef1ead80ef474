import { Argument, Command } from 'commander';
import { describeEngines, type EngineState } from '../wasm/engines/describe.js';
import { type InstallableEngine, installableEngines, installEngine } from '../wasm/engines/install.js';
import { aligned, paint } from './terminal.js';

/** `iguana engines`: which WebAssembly engines are here, and how to get the others. */
export function enginesCommand(): Command {
  const list = new Command('list')
    .description('Open every WebAssembly engine and tell version, host, tiers and features, or what is missing')
    .option('--json', 'print an array')
    .action(async ({ json }: { json?: boolean }) => {
      const states = await describeEngines();
      process.stdout.write(`${json ? JSON.stringify(states, null, 2) : states.map(lines).join('\n')}\n`);
    });
  const install = new Command('install')
    .description('Get an engine that does not come with Iguana, pinned by version and hash, into the cache directory')
    .addArgument(new Argument('<engine>', 'which one').choices(installableEngines))
    .option('--yes', 'agree to a build that takes minutes (wasmer)')
    .addHelpText(
      'after',
      '\nwasmtime comes by pip (10 MB); wasm3 by pip (75 KB of sources) and clang; wasmer is built by cargo.' +
        '\n\nExamples:\n  iguana engines install wasmtime\n  iguana engines install wasm3\n  iguana engines install wasmer --yes',
    )
    .action(async (name: InstallableEngine, { yes }: { yes?: boolean }) => {
      const print = (line: string): void => {
        process.stderr.write(`${line}\n`);
      };
      const file = await installEngine(name, { print, ...(yes ? { yes } : {}) });
      process.stdout.write(`${name}: ${file}\n`);
    });
  return new Command('engines')
    .description('The engines that run WebAssembly: list and install')
    .addCommand(list.exitOverride())
    .addCommand(install.exitOverride())
    .addHelpText(
      'after',
      '\nExamples:\n  iguana engines list\n  iguana engines list --json\n  iguana engines install wasmtime',
    );
}

function lines(state: EngineState): string {
  if ('missing' in state) return `${paint('yellow', 'no')}  ${state.name}\n${aligned([['missing', state.missing]])}`;
  const { version, host, tiers, features } = state.description;
  return `${paint('green', 'ok')}  ${state.name}\n${aligned([
    ['version', version],
    ['host', host === 'v8' ? 'inside V8' : 'machine code'],
    ['tiers', tiers.join(', ')],
    ['features', features.join(', ')],
    ['a stuck call ends', state.ends],
    ...(state.path === undefined ? [] : [['path', state.path] as const]),
  ])}`;
}
