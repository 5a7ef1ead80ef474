import { Command } from 'commander';
import { functionCallCommand, functionInvokeCommand } from './function-call.js';
import { functionCreateCommand, functionDeployCommand } from './function-deploy.js';
import { functionInitCommand } from './function-init.js';
import { functionLintCommand } from './function-lint.js';
import { functionLogsCommand } from './function-logs.js';
import {
  functionAliasCommand,
  functionDeleteCommand,
  functionPauseCommand,
  functionPrewarmCommand,
} from './function-manage.js';
import { functionBillingCommand, functionListCommand, functionMetricsCommand } from './function-show.js';

/** `iguana function`: deploy, call and look after functions of a running Iguana. */
export function functionCommand(): Command {
  const group = new Command('function')
    .description('Deploy, call and look after functions of a running Iguana')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function create hello --code hello.js --trigger http:GET:/hello\n  iguana function invoke hello --input \'{"name": "Ada"}\'\n  iguana function list',
    );
  for (const command of [
    functionInitCommand(),
    functionCreateCommand(),
    functionDeployCommand(),
    functionListCommand(),
    functionInvokeCommand(),
    functionCallCommand(),
    functionLogsCommand(),
    functionMetricsCommand(),
    functionBillingCommand(),
    functionPauseCommand('pause'),
    functionPauseCommand('resume'),
    functionPrewarmCommand(),
    functionAliasCommand(),
    functionDeleteCommand(),
    functionLintCommand(),
  ])
    group.addCommand(command.copyInheritedSettings(group).exitOverride());
  return group;
}
