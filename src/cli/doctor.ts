import { accessSync, constants, existsSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { Command } from 'commander';
import { messageOf } from '../errors.js';
import { describeTopics } from '../kafka/admin.js';
import { assertReachable } from '../kafka/client.js';
import { chooseBackend } from '../models/neural/backend.js';
import { type Config, readConfig } from './config.js';
import { brokersOf, connectionOf } from './connection.js';
import { functionFilesIn, readFunctionFile } from './function-files.js';
import { secrets } from './function-secrets.js';
import { paint, textTable } from './terminal.js';
import { topicNames } from './topics.js';

interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly found: string;
  readonly fix: string;
}

/** `iguana doctor`: what a start would meet here, one line each with the fix. Exit code 1 when something would fail. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('Check broker, topics, clock, ports, data directory and TensorFlow.js backend')
    .option('--config <file>', 'configuration (default: iguana.yaml here, if there is one)')
    .option('--brokers <list>', 'the cluster to check, host:port[,host:port]')
    .option('--json', 'print an array of findings')
    .addHelpText('after', '\nExamples:\n  iguana doctor\n  iguana doctor --brokers kafka-1:9092 --json')
    .action(async (options: { config?: string; brokers?: string; json?: boolean }) => {
      const config = readConfig(options.config);
      const findings = await examine(config, options.brokers);
      if (options.json) process.stdout.write(`${JSON.stringify(findings, null, 2)}\n`);
      else {
        const rows = findings.map((f) => [
          f.ok ? paint('green', 'ok') : paint('red', 'no'),
          f.check,
          f.ok ? f.found : `${f.found}; ${f.fix}`,
        ]);
        process.stdout.write(`${textTable(['', 'check', 'found'], rows)}\n`);
      }
      if (findings.some((f) => !f.ok)) process.exitCode = 1;
    });
}

async function examine(config: Config, brokersFlag: string | undefined): Promise<Finding[]> {
  const brokers = brokersOf(config, brokersFlag);
  const external = brokersFlag !== undefined || config.kafka.brokers.length > 0;
  const connection = connectionOf(config, brokers);
  const findings: Finding[] = [];
  const note = async (check: string, fix: string, look: () => Promise<string> | string): Promise<boolean> => {
    try {
      findings.push({ check, ok: true, found: await look(), fix: '' });
      return true;
    } catch (error) {
      findings.push({ check, ok: false, found: messageOf(error), fix });
      return false;
    }
  };
  await note('node', 'install Node 20.19 or newer', () => {
    const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
    if (major < 20 || (major === 20 && minor < 19)) throw new Error(`Node ${process.versions.node}`);
    return process.versions.node;
  });
  const running = await note(
    'broker',
    external ? 'check the address' : 'run `iguana start` or `iguana broker`',
    async () => {
      await assertReachable(connection);
      return `answers at ${brokers.join(', ')}`;
    },
  );
  if (running) {
    await note('topics', 'run `iguana start` once; it creates them', async () => {
      const known = await describeTopics(connection);
      const missing = topicNames.filter((name) => !known.has(name));
      if (missing.length > 0) throw new Error(`missing: ${missing.join(', ')}`);
      return topicNames.map((name) => `${name} (${known.get(name)})`).join(', ');
    });
  } else if (!external) {
    await note('broker port', 'start with --broker-port 0 or stop what uses it', () =>
      portFree(config.broker.host, config.broker.port),
    );
  }
  await note('page port', 'start with --port 0 or stop what uses it', () =>
    portFree(config.dashboard.host, config.dashboard.port),
  );
  if (config.functions.enabled) {
    await note('functions', 'see `iguana function lint`', () => {
      const { directory, secretsFile } = config.functions;
      const secret = secrets(secretsFile);
      if (!existsSync(directory)) return `none: there is no ${directory}/`;
      const definitions = functionFilesIn(directory).map((file) => readFunctionFile(file).deployment.definition);
      for (const { name, secrets: wanted } of definitions) {
        for (const one of Object.values(wanted))
          if (secret(one) === undefined) throw new Error(`secret ${one} of ${name} is not there`);
      }
      return definitions.map(({ name }) => name).join(', ') || `no *.yaml in ${directory}/`;
    });
  }
  await note('clock', 'set the clock: samples from other machines would be refused', () => {
    const year = new Date().getUTCFullYear();
    if (year < 2024 || year > 2100) throw new Error(`it is ${new Date().toISOString()}`);
    return new Date().toISOString();
  });
  await note('data', 'give a writable directory with --data, or run with --memory', () => {
    if (config.data === null) return 'in memory';
    let folder = path.resolve(config.data);
    while (!existsSync(folder)) folder = path.dirname(folder);
    accessSync(folder, constants.W_OK);
    return path.resolve(config.data);
  });
  await note(
    'tensorflow',
    'the ensemble goes on without its neural member; npm install @tensorflow/tfjs-node for the native library',
    async () => {
      const { name, why } = await chooseBackend();
      return `${name} (${why})`;
    },
  );
  return findings;
}

function portFree(host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error) => reject(new Error(`${host}:${port}: ${messageOf(error)}`)));
    server.listen(port, host, () => server.close(() => resolve(`${host}:${port} is free`)));
  });
}
