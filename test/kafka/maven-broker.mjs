// One Apache Kafka broker (KRaft, broker and controller in one process) from the jars on Maven Central, kept in a cache folder of the user.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const VERSION = process.env.KAFKA_VERSION ?? '4.1.1';
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;

/** Starts a broker on a free port of the loopback; `stop` ends it and removes its data. */
export async function startFromMaven() {
  const jars = download();
  const folder = mkdtempSync(path.join(os.tmpdir(), 'iguana-kafka-'));
  const [port, controllerPort] = await Promise.all([freePort(), freePort()]);
  const properties = path.join(folder, 'server.properties');
  writeFileSync(
    properties,
    [
      'process.roles=broker,controller',
      'node.id=1',
      `controller.quorum.voters=1@127.0.0.1:${controllerPort}`,
      `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
      `advertised.listeners=PLAINTEXT://127.0.0.1:${port}`,
      'listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
      'controller.listener.names=CONTROLLER',
      `log.dirs=${path.join(folder, 'data')}`,
      'num.partitions=4',
      'offsets.topic.replication.factor=1',
      'offsets.topic.num.partitions=4',
      'transaction.state.log.replication.factor=1',
      'transaction.state.log.min.isr=1',
      'transaction.state.log.num.partitions=4',
      'group.initial.rebalance.delay.ms=0',
      'log.cleaner.dedupe.buffer.size=16777216',
      'log.cleaner.backoff.ms=1000',
    ].join('\n'),
  );
  const java = (args) => ['-Xmx512m', '-cp', path.join(jars, '*'), ...args];
  const clusterId = randomBytes(16).toString('base64url');
  const format = spawnSync('java', java(['kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', properties]), {
    encoding: 'utf8',
  });
  if (format.status !== 0) throw new Error(`Kafka's storage could not be formatted: ${format.stderr || format.stdout}`);
  const log = openSync(path.join(folder, 'server.log'), 'w');
  const broker = spawn('java', java(['kafka.Kafka', properties]), { stdio: ['ignore', log, log] });
  const ended = new Promise((resolve) => broker.once('exit', resolve));

  const stop = async () => {
    broker.kill('SIGTERM');
    if ((await Promise.race([ended, delay(STOP_TIMEOUT_MS, 'late', { ref: false })])) === 'late') {
      broker.kill('SIGKILL');
      await ended;
    }
    rmSync(folder, { recursive: true, force: true });
  };
  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answersMetadata(port))) {
    if (broker.exitCode !== null || Date.now() > deadline) {
      const tail = readFileSync(path.join(folder, 'server.log'), 'utf8').slice(-2000);
      await stop();
      throw new Error(`Kafka did not come up:\n${tail}`);
    }
    await delay(100);
  }
  return { brokers: `127.0.0.1:${port}`, how: `Apache Kafka ${VERSION} from Maven's jars`, stop };
}

function download() {
  const cache = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'iguana-test');
  const jars = path.join(cache, `kafka-${VERSION}`);
  if (existsSync(jars)) return jars;
  mkdirSync(cache, { recursive: true });
  const fresh = mkdtempSync(path.join(cache, 'download-'));
  const pom = path.join(import.meta.dirname, 'pom.xml');
  const run = spawnSync(
    'mvn',
    ['-B', '-q', '-f', pom, `-Dkafka.version=${VERSION}`, `-DoutputDirectory=${fresh}`, 'dependency:copy-dependencies'],
    {
      encoding: 'utf8',
    },
  );
  if (run.status !== 0) throw new Error(`Maven could not get Kafka ${VERSION}: ${run.stdout}${run.stderr}`);
  renameSync(fresh, jars);
  return jars;
}

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

/** Asks for metadata version 1 without topics and looks for at least one broker in the answer: more than an open port. */
function answersMetadata(port) {
  const request = Buffer.from('000000120003000100000001000477616974' + '00000000', 'hex');
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' }, () => socket.write(request));
    let answer = Buffer.alloc(0);
    const done = (value) => {
      socket.destroy();
      resolve(value);
    };
    socket.setTimeout(2000, () => done(false));
    socket.on('error', () => done(false));
    socket.on('close', () => done(false));
    socket.on('data', (chunk) => {
      answer = Buffer.concat([answer, chunk]);
      if (answer.length >= 12) done(answer.readInt32BE(8) >= 1);
    });
  });
}
