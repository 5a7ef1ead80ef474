import { Command } from 'commander';
import { parseWeight } from './function-options.js';
import { ask, functionPath, type ServerOptions, serverOptions } from './server-client.js';
import { wholeNumber } from './suggest.js';

/** `iguana function delete NAME…`. */
export function functionDeleteCommand(): Command {
  const command = new Command('delete')
    .description('Delete functions in all processes')
    .argument('<name...>', 'functions');
  return serverOptions(command).action(async (names: string[], options: ServerOptions) => {
    for (const name of names) {
      const answer = await ask<unknown>(options, 'DELETE', functionPath(name));
      tell(options, answer, `${name} is deleted`);
    }
  });
}

/** `iguana function pause NAME` and `resume NAME`. */
export function functionPauseCommand(action: 'pause' | 'resume'): Command {
  const what = 'stream, queue, timer and event triggers';
  const command = new Command(action)
    .description(action === 'pause' ? `Stop what a function's ${what} do` : `Start again what a function's ${what} do`)
    .argument('<name>', 'function');
  return serverOptions(command).action(async (name: string, options: ServerOptions) => {
    const answer = await ask<unknown>(options, 'POST', functionPath(name, action), {});
    tell(options, answer, `${name} is ${action === 'pause' ? 'paused' : 'resumed'}`);
  });
}

/** `iguana function prewarm NAME --instances N`. */
export function functionPrewarmCommand(): Command {
  const command = new Command('prewarm')
    .description('Have instances ready before calls come')
    .argument('<name>', 'function')
    .option('--instances <n>', 'so many', wholeNumber(0, 1_000), 1);
  return serverOptions(command).action(async (name: string, options: ServerOptions & { instances: number }) => {
    const { instances } = options;
    const answer = await ask<{ instances: number }>(options, 'POST', functionPath(name, 'prewarm'), { instances });
    tell(options, answer, `${name} has ${answer.instances} ${answer.instances === 1 ? 'instance' : 'instances'} ready`);
  });
}

/** `iguana function alias NAME ALIAS VERSION=SHARE…`. */
export function functionAliasCommand(): Command {
  const command = new Command('alias')
    .description('Say which versions an alias calls')
    .argument('<name>', 'function')
    .argument('<alias>', 'lower-case letters, digits and hyphens')
    .argument(
      '<version=share...>',
      'shares add up to 1; a version alone has all calls',
      (given: string, before: (readonly [number, number])[] = []) => [...before, parseWeight(given)],
    )
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function alias orders live 3\n  iguana function alias orders live 3=0.9 4=0.1',
    );
  return serverOptions(command).action(
    async (name: string, alias: string, weights: (readonly [number, number])[], options: ServerOptions) => {
      const path = functionPath(name, 'aliases', alias);
      const answer = await ask<unknown>(options, 'PUT', path, { weights: Object.fromEntries(weights) });
      const shares = weights.map(([version, share]) => `version ${version} (${Math.round(1000 * share) / 10} %)`);
      tell(options, answer, `${alias} of ${name} calls ${shares.join(', ')}`);
    },
  );
}

function tell({ json }: ServerOptions, answer: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(answer) : text}\n`);
}
