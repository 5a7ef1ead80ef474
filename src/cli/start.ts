import { Command } from 'commander';
import { IguanaError, messageOf } from '../errors.js';
import { type Config, readConfig, saslMechanisms } from './config.js';
import { type LogLevel, logLevels } from './log.js';
import { oneOf, wholeNumber } from './suggest.js';
import { type RunningSystem, startSystem } from './system.js';
import { aligned, paint } from './terminal.js';
import { untilStopped } from './until-stopped.js';

interface StartOptions {
  config?: string;
  brokers?: string;
  ssl?: boolean;
  saslMechanism?: (typeof saslMechanisms)[number];
  saslUsername?: string;
  data?: string;
  memory?: boolean;
  host?: string;
  port?: number;
  brokerPort?: number;
  demo?: boolean;
  isolation?: 'thread' | 'process';
  log?: LogLevel;
  json?: boolean;
}

/** The clean stop must be over within two seconds; what hangs longer is named and left. */
const STOP_DEADLINE_MS = 2000;

/** `iguana start`: broker, this machine's metrics, forecasts, anomalies, scaling decisions and the page in one process. */
export function startCommand(): Command {
  return new Command('start')
    .description('Run everything in this process: broker, metrics, forecasts, anomalies, decisions, page')
    .option('--config <file>', 'configuration (default: iguana.yaml here, if there is one)')
    .option('--brokers <list>', 'use this Kafka cluster instead of the embedded broker, host:port[,host:port]')
    .option('--ssl', 'TLS to the cluster')
    .option(
      '--sasl-mechanism <name>',
      'plain, scram-sha-256 or scram-sha-512; the password comes from IGUANA_SASL_PASSWORD',
      oneOf(saslMechanisms),
    )
    .option('--sasl-username <name>', 'user for SASL')
    .option('--data <dir>', 'keep records, offsets and learnt state in this directory (default: .iguana)')
    .option('--memory', 'keep everything in memory')
    .option('--host <address>', 'address of the page (default: 127.0.0.1)')
    .option('--port <n>', 'port of the page; 0: any free one (default: 4480)', wholeNumber(0, 65_535))
    .option('--broker-port <n>', 'port of the embedded broker; 0: any free one (default: 9092)', wholeNumber(0, 65_535))
    .option('--demo', "run a generated web service's day beside this machine's metrics, at 60x speed")
    .option(
      '--isolation <how>',
      'where JavaScript functions run, whatever they say: thread or process (default: as they say)',
      oneOf(['thread', 'process'] as const),
    )
    .option('--log <level>', `log of the Kafka client on standard error: ${logLevels.join(', ')}`, oneOf(logLevels))
    .option('--json', 'one JSON object per event instead of lines')
    .addHelpText(
      'after',
      '\nExamples:\n  iguana start --demo\n  iguana start --data ./data --port 0\n  iguana start --brokers kafka-1:9092,kafka-2:9092',
    )
    .action(async (options: StartOptions) => {
      const config = configOf(options);
      const stopped = untilStopped();
      const print = (line: string): void => void process.stdout.write(`${line}\n`);
      const starting = startSystem(config, {
        demo: options.demo === true,
        json: options.json === true,
        print,
        banner: showBanner,
      });
      // whoever asks to stop does not wait until all has begun, or could not
      const early = await Promise.race([starting.then(() => undefined), stopped]);
      process.exitCode = early ?? (await stopped);
      await stopInTime(starting);
      // Whatever still keeps the event loop alive (a socket of a vanished broker, say) must not keep the user waiting.
      process.exit();
    });

  function showBanner(rows: readonly (readonly [string, string])[], json: boolean): void {
    if (json) process.stdout.write(`${JSON.stringify({ event: 'started', ...Object.fromEntries(rows) })}\n`);
    else process.stdout.write(`\n  ${paint('bold', 'iguana')}\n${aligned(rows)}\n\n`);
  }
}

/** Flags win over the file. */
function configOf(options: StartOptions): Config {
  const config = readConfig(options.config);
  if (options.brokers) config.kafka.brokers = options.brokers.split(',').map((one) => one.trim());
  if (options.ssl) config.kafka.ssl = true;
  if (options.saslMechanism) {
    const password = process.env.IGUANA_SASL_PASSWORD;
    if (!options.saslUsername || password === undefined) {
      throw new IguanaError('IGU_USAGE', {
        what: '--sasl-mechanism needs --sasl-username and IGUANA_SASL_PASSWORD in the environment',
      });
    }
    config.kafka.sasl = { mechanism: options.saslMechanism, username: options.saslUsername, password };
  }
  if (options.log) config.log = options.log;
  if (options.isolation) config.functions.isolation = options.isolation;
  if (options.data !== undefined) config.data = options.data;
  if (options.memory) config.data = null;
  if (options.host !== undefined) config.dashboard.host = options.host;
  if (options.port !== undefined) config.dashboard.port = options.port;
  if (options.brokerPort !== undefined) config.broker.port = options.brokerPort;
  return config;
}

async function stopInTime(starting: Promise<RunningSystem>): Promise<void> {
  const late = new Promise<'late'>((resolve) => setTimeout(() => resolve('late'), STOP_DEADLINE_MS).unref());
  const outcome = await Promise.race([
    starting
      // what failed to start was stopped
      .catch(() => undefined)
      .then((system) => system?.stop())
      .then(
        () => 'clean' as const,
        (error: unknown) => messageOf(error),
      ),
    late,
  ]);
  if (outcome !== 'clean') process.stderr.write(`iguana: not all was stopped cleanly: ${outcome}\n`);
}
