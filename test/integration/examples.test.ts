import { type ChildProcess, spawn } from 'node:child_process';
import { afterEach, expect, it } from 'vitest';
import { until } from '../support/kafka.js';

const running: ChildProcess[] = [];

afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
  }
});

function run(program: string, ...args: string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, KAFKAJS_NO_PARTITIONER_WARNING: '1' },
  });
  running.push(child);
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  return { child, output: () => text };
}

it('the examples send a metric and read its forecasts', async () => {
  const system = run('dist/src/cli/main.js', 'start', '--memory', '--json', '--port', '0', '--broker-port', '0');
  const banner = await until('the banner', () => /\{"event":"started".*\}/.exec(system.output())?.[0]);
  const { broker } = JSON.parse(banner) as { broker: string };
  const reader = run('dist/examples/read-forecasts.js', broker);
  const producer = run('dist/examples/produce-metrics.js', broker, '20');
  await until('a sample', () => producer.output().includes('queue_length'));
  const line = await until(
    'a forecast',
    () => /^forecast checkout queue_length in .*$/m.exec(reader.output())?.[0],
    30_000,
  );
  expect(line).toMatch(/in [\d.]+ s: -?[\d.]+ \(-?[\d.]+ to -?[\d.]+\), confidence [\d.]+$/);
  producer.child.kill('SIGINT');
  expect(await new Promise((resolve) => producer.child.once('exit', resolve))).toBe(0);
}, 60_000);
