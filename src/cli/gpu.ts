import { Command } from 'commander';
import { gpuListCommand, gpuTopCommand, gpuWatchCommand } from './gpu-list.js';
import { gpuSimulateCommand } from './gpu-simulate.js';

/** `iguana gpu`: what GPUs there are, who has them, and where workloads should go. */
export function gpuCommand(): Command {
  const group = new Command('gpu').description('GPUs: what there is, who has it, where workloads should go');
  for (const command of [gpuListCommand(), gpuWatchCommand(), gpuTopCommand(), gpuSimulateCommand()])
    group.addCommand(command.copyInheritedSettings(group).exitOverride());
  return group;
}
