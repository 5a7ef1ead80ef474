// The integration suite on a real Apache Kafka: KAFKA_BROKERS if set, else through testcontainers where Docker answers,
// else a broker from Maven's jars where java and mvn are there, else it is skipped and says so.
import { spawn, spawnSync } from 'node:child_process';
import { startFromMaven } from './maven-broker.mjs';

const broker = await findBroker();
if (!broker) {
  console.log('real-Kafka lane skipped: set KAFKA_BROKERS, or have Docker, or java and mvn');
  process.exit(0);
}
console.log(`real-Kafka lane on ${broker.brokers} (${broker.how})`);
let code = 1;
try {
  code = await vitest(broker.brokers);
} finally {
  await broker.stop();
}
process.exit(code);

async function findBroker() {
  if (process.env.KAFKA_BROKERS)
    return { brokers: process.env.KAFKA_BROKERS, how: 'KAFKA_BROKERS', stop: async () => {} };
  if (answers('docker', ['info'])) {
    try {
      return await startContainer();
    } catch (error) {
      console.log(`Docker answers, but its Kafka did not start (${error.message}); trying Maven's jars`);
    }
  }
  return answers('java', ['-version']) && answers('mvn', ['-v']) ? startFromMaven() : undefined;
}

async function startContainer() {
  const { GenericContainer, Wait } = await import('testcontainers');
  const start = '/tmp/start.sh';
  const container = await new GenericContainer(process.env.KAFKA_IMAGE ?? 'apache/kafka:4.1.1')
    .withExposedPorts(9092)
    .withCommand(['sh', '-c', `echo waiting for script; while [ ! -f ${start} ]; do sleep 0.05; done; exec ${start}`])
    .withWaitStrategy(Wait.forLogMessage('waiting for script'))
    .start();
  const brokers = `${container.getHost()}:${container.getMappedPort(9092)}`;
  await container.copyContentToContainer([
    {
      target: start,
      mode: 0o755,
      content: [
        '#!/bin/bash',
        'export KAFKA_NODE_ID=1 KAFKA_PROCESS_ROLES=broker,controller KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093',
        'export KAFKA_LISTENERS=PLAINTEXT://:9092,BROKER://:9094,CONTROLLER://:9093 KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER',
        `export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://${brokers},BROKER://localhost:9094 KAFKA_INTER_BROKER_LISTENER_NAME=BROKER`,
        'export KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT',
        'export KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1 KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1',
        'export KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0 KAFKA_NUM_PARTITIONS=4',
        'exec /etc/kafka/docker/run',
      ].join('\n'),
    },
  ]);
  return { brokers, how: 'testcontainers', stop: () => container.stop() };
}

function answers(command, args) {
  return spawnSync(command, args, { stdio: 'ignore', timeout: 10_000 }).status === 0;
}

function vitest(brokers) {
  const run = spawn(
    process.execPath,
    ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.kafka.config.ts', ...process.argv.slice(2)],
    {
      stdio: 'inherit',
      env: { ...process.env, KAFKA_BROKERS: brokers },
    },
  );
  return new Promise((resolve) => run.on('exit', (status) => resolve(status ?? 1)));
}
