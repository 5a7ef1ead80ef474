import { Command } from 'commander';
import { wasmBenchCommand } from './wasm-bench.js';
import { wasmGasCommand } from './wasm-gas.js';
import { wasmInspectCommand } from './wasm-inspect.js';
import { wasmRunCommand } from './wasm-run.js';
import { wasmSnapshotCommand } from './wasm-snapshot.js';

/** `iguana wasm`: run, look into and measure WebAssembly modules. */
export function wasmCommand(): Command {
  const group = new Command('wasm')
    .description('Run, look into and measure WebAssembly modules')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana wasm inspect tool.wasm\n  iguana wasm run add.wasm --invoke add 2 40\n  iguana wasm run tool.wasm --dir ./data::/data:ro --timeout 1s -- --count 3',
    );
  for (const command of [
    wasmRunCommand(),
    wasmInspectCommand(),
    wasmGasCommand(),
    wasmSnapshotCommand(),
    wasmBenchCommand(),
  ])
    group.addCommand(command.copyInheritedSettings(group).exitOverride());
  return group;
}
