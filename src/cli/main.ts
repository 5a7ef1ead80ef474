#!/usr/bin/env node
/**
 * The `iguana` command: parses, runs one command, turns what went wrong into one line and an exit code (0 done, 1 failed, 2 wrong usage,
 * 130 interrupted).
 */
import { readFileSync, realpathSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import { AnsweredError } from './server-client.js';
import { paint } from './terminal.js';

/** Loaded when they are called: most need a part of Iguana only, and starting takes as long as loading. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  start: async () => (await import('./start.js')).startCommand(),
  broker: async () => (await import('./broker.js')).brokerCommand(),
  tail: async () => (await import('./tail.js')).tailCommand(),
  forecast: async () => (await import('./forecast.js')).forecastCommand(),
  detect: async () => (await import('./detect.js')).detectCommand(),
  record: async () => (await import('./record.js')).recordCommand(),
  replay: async () => (await import('./replay.js')).replayCommand(),
  doctor: async () => (await import('./doctor.js')).doctorCommand(),
  function: async () => (await import('./function.js')).functionCommand(),
  wasm: async () => (await import('./wasm.js')).wasmCommand(),
  engines: async () => (await import('./engines.js')).enginesCommand(),
  gpu: async () => (await import('./gpu.js')).gpuCommand(),
};

/**
 * The command tree; a test or the reference generator reads it without running anything.
 * @param only the command that is called (default: all of them)
 */
export async function program(only?: string): Promise<Command> {
  const root = new Command('iguana')
    .description('Metrics on Kafka in; forecasts, anomalies and scaling decisions out.')
    .version(version(), '-V, --version')
    .showHelpAfterError('(--help shows what is possible)')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana start --demo\n  iguana tail forecasts\n  iguana forecast --input requests.csv --horizon 24',
    );
  const wanted = only !== undefined && Object.hasOwn(commands, only) ? [only] : Object.keys(commands);
  for (const name of wanted) root.addCommand((await commands[name]!()).copyInheritedSettings(root));
  for (const command of [root, ...root.commands]) command.exitOverride();
  return root;
}

/** Errors that another call of the command mends. */
const usageErrors: ReadonlySet<string> = new Set([
  'IGU_USAGE',
  'IGU_CONFIG',
  'IGU_GPU_REQUEST',
  'IGU_WASM_SIGNATURE',
  'IGU_WASM_NOT_FOUND',
]);

/** Exit code of an error: the user's to mend in the call (2) or a failure of the work (1). */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if ((error instanceof IguanaError || error instanceof AnsweredError) && usageErrors.has(error.code)) return 2;
  return 1;
}

async function main(): Promise<void> {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(0);
    throw error;
  });
  try {
    const [called] = process.argv.slice(2);
    await (await program(called)).parseAsync();
  } catch (error) {
    if (!(error instanceof CommanderError)) {
      const told = error instanceof IguanaError || error instanceof AnsweredError || !(error instanceof Error);
      const text = told ? messageOf(error) : (error.stack ?? error.message);
      process.stderr.write(`${paint('red', text, process.stderr)}\n`);
    }
    process.exitCode = exitCodeOf(error);
  }
}

function version(): string {
  const file = new URL('../../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) await main();
