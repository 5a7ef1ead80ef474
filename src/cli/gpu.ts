import { Command } from 'commander';
import { gpuSimulateCommand } from './gpu-simulate.js';

/** `iguana gpu`: what GPUs there are, who has them, and where workloads should go. */
export function gpuCommand(): Command {
  const group = new Command('gpu').description('GPUs: what there is, who has it, where workloads should go');
  for (const command of [gpuSimulateCommand()]) group.addCommand(command.copyInheritedSettings(group).exitOverride());
  return group;
}
