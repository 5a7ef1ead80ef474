import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import type { ZodIssue } from 'zod';
import { IguanaError } from '../errors.js';
import { functionSchema, type GivenDefinition } from '../functions/definition.js';
import { codeProblem, readFunctionFile } from './function-files.js';
import { parseMemory, parsePair, parseTrigger } from './function-options.js';
import { type ListedFunction, timeText, triggerText } from './function-text.js';
import { ask, functionPath, type ServerOptions, serverOptions } from './server-client.js';
import { oneOf, wholeNumber } from './suggest.js';
import { paint } from './terminal.js';
import { collect, parseEnvironment, parseTime } from './wasm-options.js';

interface CreateOptions extends ServerOptions {
  readonly runtime?: 'javascript' | 'wasm';
  readonly code: string;
  readonly handler?: string;
  readonly memory?: number;
  readonly timeout?: number;
  readonly concurrency?: number;
  readonly env?: string[];
  readonly secret?: (readonly [string, string])[];
  readonly trigger?: ReturnType<typeof parseTrigger>[];
  readonly output?: string;
  readonly minInstances?: number;
  readonly maxInstances?: number;
  readonly isolation?: 'thread' | 'process' | 'shared';
}

/** `iguana function create NAME`: deploys code from the command line alone. */
export function functionCreateCommand(): Command {
  const command = new Command('create')
    .description('Deploy a function from its code')
    .argument('<name>', 'lower-case letters, digits and hyphens')
    .requiredOption('--code <file>', 'a JavaScript or TypeScript module, or a WebAssembly module')
    .option('--runtime <name>', 'javascript or wasm (default: by the code)', oneOf(['javascript', 'wasm'] as const))
    .option('--handler <name>', 'exported function to call (default: handle)')
    .option('--memory <mb>', 'megabytes, or 1GB (default: 256)', parseMemory)
    .option('--timeout <time>', 'longest time of a call, such as 500ms or 30s (default: 30s)', parseTime)
    .option('--concurrency <n>', 'calls at once in one instance (default: 1)', wholeNumber(1, 1_000))
    .option('--env <name=value>', 'a variable; again for more', collect(parseEnvironment))
    .option(
      '--secret <name=secret>',
      'a variable whose value is a secret of the server; again for more',
      collect(parsePair),
    )
    .option(
      '--trigger <trigger>',
      'http:POST:/path, timer:"0 * * * *", queue:TOPIC, stream:TOPIC or event:TYPE; again for more',
      collect(parseTrigger),
    )
    .option('--output <topic>', 'topic for what stream, queue, timer and event calls return')
    .option('--min-instances <n>', 'instances that are always ready (default: 0)', wholeNumber(0, 1_000))
    .option('--max-instances <n>', 'most instances of one process (default: 100)', wholeNumber(1, 1_000))
    .option(
      '--isolation <how>',
      'where JavaScript runs: thread, process or shared (default: thread)',
      oneOf(['thread', 'process', 'shared'] as const),
    );
  return serverOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function create orders --code orders.js --trigger http:POST:/orders --trigger timer:"0 * * * *"\n  iguana function create resize --runtime wasm --code resize.wasm --handler resize --memory 64 --trigger stream:images --output thumbnails',
    )
    .action(async (name: string, options: CreateOptions) => {
      const code = codeOf(options.code);
      const { definition, runtime } = definitionOf(name, code, options);
      const problem = codeProblem(runtime, code);
      if (problem) throw new IguanaError('IGU_USAGE', { what: `${options.code} ${problem.what}: ${problem.fix}` });
      await deploy(options, definition, code);
    });
}

/** `iguana function deploy FILE…`: deploys definitions. */
export function functionDeployCommand(): Command {
  const command = new Command('deploy')
    .description('Deploy functions from their definitions')
    .argument('<file...>', 'YAML definitions; the code they name is relative to them');
  return serverOptions(command)
    .addHelpText(
      'after',
      '\nExamples:\n  iguana function deploy functions/orders.yaml\n  iguana function deploy functions/*.yaml --json',
    )
    .action(async (files: string[], options: ServerOptions) => {
      // nothing is deployed when one of them is wrong
      for (const { deployment } of files.map(readFunctionFile)) {
        const { definition, code } = deployment;
        await deploy(options, definition, code);
      }
    });
}

async function deploy(options: ServerOptions, definition: GivenDefinition, code: Uint8Array): Promise<void> {
  const body = { definition, code: Buffer.from(code).toString('base64') };
  const made = await ask<ListedFunction>(options, 'POST', functionPath(), body);
  if (options.json) {
    process.stdout.write(`${JSON.stringify(made)}\n`);
    return;
  }
  process.stdout.write(`${paint('bold', made.name)} version ${made.version} is deployed\n`);
  for (const trigger of made.definition.triggers) {
    const { url } = options;
    const where = trigger.type === 'http' ? `${url.replace(/\/+$/, '')}/functions${trigger.path}` : '';
    process.stdout.write(`  ${triggerText(trigger)}${where ? `  ${paint('dim', where)}` : ''}\n`);
  }
  for (const { message } of made.notServed) process.stderr.write(`${paint('yellow', message, process.stderr)}\n`);
}

function codeOf(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    throw new IguanaError('IGU_FILE_MISSING', { path: file }, { cause });
  }
}

/** Checked here too, so that what is wrong is said in the words of the command line. */
function definitionOf(
  name: string,
  code: Buffer,
  options: CreateOptions,
): { definition: GivenDefinition; runtime: 'javascript' | 'wasm' } {
  const runtime = options.runtime ?? (codeProblem('wasm', code) ? 'javascript' : 'wasm');
  const { handler, memory, timeout, concurrency, env, secret, trigger, output, isolation } = options;
  const { minInstances, maxInstances } = options;
  const definition: GivenDefinition = {
    name,
    runtime,
    code: { file: path.basename(options.code) },
    ...(handler === undefined ? {} : { handler }),
    ...(memory === undefined ? {} : { memoryMb: memory }),
    ...(timeout === undefined ? {} : { timeoutMs: timeout }),
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(env ? { env: Object.fromEntries(env.map((pair) => pair.split(/=(.*)/s, 2) as [string, string])) } : {}),
    ...(secret ? { secrets: Object.fromEntries(secret) } : {}),
    ...(trigger ? { triggers: trigger } : {}),
    ...(output === undefined ? {} : { output }),
    ...(isolation ? { isolation } : {}),
    scaling: {
      ...(minInstances === undefined ? {} : { minInstances }),
      ...(maxInstances === undefined ? {} : { maxInstances }),
    },
  };
  const { error } = functionSchema.safeParse(definition);
  if (error) throw new IguanaError('IGU_USAGE', { what: wrongOption(error.issues[0]!, options) });
  return { definition, runtime };
}

/** Field → how it is given here. */
const flags: Readonly<Record<string, string>> = {
  memoryMb: '--memory',
  timeoutMs: '--timeout',
  concurrency: '--concurrency',
  handler: '--handler',
  env: '--env',
  secrets: '--secret',
  triggers: '--trigger',
  output: '--output',
  isolation: '--isolation',
  runtime: '--runtime',
};

/** A mistake in the words of the command line, bounds with their unit. */
function wrongOption(issue: ZodIssue, { memory = 0, timeout = 0 }: CreateOptions): string {
  const { path: at, message } = issue;
  const [field, ...below] = at.map(String);
  const flag = flags[field ?? ''];
  if (!flag) return `${at.join('.')}: ${message}`;
  const bound =
    issue.code === 'too_small'
      ? (['at least', Number(issue.minimum)] as const)
      : issue.code === 'too_big'
        ? (['at most', Number(issue.maximum)] as const)
        : undefined;
  if (bound && field === 'memoryMb') return `${flag}: ${bound[0]} ${bound[1]} MB, not ${memory} MB`;
  if (bound && field === 'timeoutMs')
    return `${flag}: ${bound[0]} ${timeText(bound[1])}, not ${timeText(timeout)}; a number without a unit is seconds`;
  return `${flag}: ${[...below, message].join(': ')}`;
}
