import { Command } from 'commander';
import { gpuAllocateCommand } from './gpu-allocate.js';
import { gpuListCommand, gpuTopCommand, gpuWatchCommand } from './gpu-list.js';
import { gpuReleaseCommand, gpuRenewCommand, gpuReserveCommand } from './gpu-manage.js';
import { gpuAllocationsCommand, gpuExplainCommand, gpuPlanCommand } from './gpu-show.js';
import { gpuSimulateCommand } from './gpu-simulate.js';

/** `iguana gpu`: what GPUs there are, who has them, and where workloads should go. */
export function gpuCommand(): Command {
  const group = new Command('gpu')
    .description('GPUs: what there is, who has it, where workloads should go')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana gpu list\n  iguana gpu allocate train --gpus 2 -- python train.py\n  iguana gpu allocations',
    );
  for (const command of [
    gpuListCommand(),
    gpuWatchCommand(),
    gpuTopCommand(),
    gpuAllocateCommand(),
    gpuReleaseCommand(),
    gpuRenewCommand(),
    gpuReserveCommand(),
    gpuAllocationsCommand(),
    gpuExplainCommand(),
    gpuPlanCommand(),
    gpuSimulateCommand(),
  ])
    group.addCommand(command.copyInheritedSettings(group).exitOverride());
  return group;
}
