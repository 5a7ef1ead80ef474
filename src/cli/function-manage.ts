import { Command, InvalidArgumentError } from 'commander';
import { IguanaError } from '../errors.js';
import { aliasName } from '../functions/definition.js';
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

/** `iguana function alias NAME ALIAS VERSION=SHARE…`, or `--delete`. */
export function functionAliasCommand(): Command {
  const command = new Command('alias')
    .description('Say which versions an alias calls, or remove it')
    .argument('<name>', 'function')
    .argument('<alias>', 'lower-case letters, digits and hyphens', parseAlias)
    .argument('[version=share...]', 'shares add up to 1; a version alone has all calls', collectWeight)
    .option('--delete', 'remove the alias')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function alias orders live 3\n  iguana function alias orders live 3=0.9 4=0.1\n  iguana function alias orders live --delete',
    );
  return serverOptions(command).action(
    async (name: string, alias: string, weights: Weights, options: ServerOptions & { delete?: boolean }) => {
      const path = functionPath(name, 'aliases', alias);
      const given = (weights ?? []).length > 0;
      if (given === (options.delete ?? false)) {
        const what = given
          ? 'versions and --delete: one or the other'
          : 'give versions, such as 3=0.9 4=0.1, or --delete';
        throw new IguanaError('IGU_USAGE', { what });
      }
      if (options.delete) {
        tell(options, await ask<unknown>(options, 'DELETE', path), `${alias} of ${name} is removed`);
        return;
      }
      const answer = await ask<unknown>(options, 'PUT', path, { weights: Object.fromEntries(weights) });
      const shares = weights.map(([version, share]) => `version ${version} (${Math.round(1000 * share) / 10} %)`);
      tell(options, answer, `${alias} of ${name} calls ${shares.join(', ')}`);
    },
  );
}

type Weights = readonly (readonly [version: number, share: number])[];

function parseAlias(given: string): string {
  const { success, error } = aliasName.safeParse(given);
  if (success) return given;
  throw new InvalidArgumentError(
    `An alias is ${error.issues[0]!.message}; versions come after it: orders live 3=0.9 4=0.1.`,
  );
}

function collectWeight(given: string, before: Weights = []): Weights {
  const pair = parseWeight(given);
  if (before.some(([version]) => version === pair[0]))
    throw new InvalidArgumentError(`Version ${pair[0]} is given twice.`);
  return [...before, pair];
}

function tell({ json }: ServerOptions, answer: unknown, text: string): void {
  process.stdout.write(`${json ? JSON.stringify(answer) : text}\n`);
}
