/**
 * How long does a workload wait for the scheduler's answer when GPUs are given over topics, and how many answers a second are there? Everything has a process of its own as in a cluster: the broker a
 * thread here, the agents of all nodes one process, the schedulers one each, and this one asks. `node bench/gpu-scheduler.mjs [NODES]`: the openb trace's list of nodes with GPUs (default
 * ../shared/data/gpu/openb/openb_node_list_gpu_node.csv; where it is not there, as many are made up); writes bench/results/gpu-scheduler.md.
 */
import { fork } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { scheduleGpus } from '../dist/pipelines/schedule-gpus.js';
import { startBrokerThread } from '../dist/src/broker/broker-thread.js';
import { readNodes } from '../dist/src/gpu/placement/openb.js';
import { absent, known } from '../dist/src/gpu/types.js';
import { ensureTopics } from '../dist/src/kafka/admin.js';
import { kafkaClient } from '../dist/src/kafka/client.js';
import { followPartition, readPartition } from '../dist/src/kafka/partition-reader.js';
import { sink as openSink } from '../dist/src/kafka/sink.js';
import { encodeGpuInventory } from '../dist/src/operators/gpu-records.js';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const program = fileURLToPath(import.meta.url);
const topics = { inventory: 'gpu-inventory', requests: 'gpu-requests', allocations: 'gpu-allocations' };
const others = { group: 'bench', metrics: 'metrics', forecasts: 'forecasts', deadLetters: 'dead-letters' };

// one whose parent is gone ends too
process.on('disconnect', () => process.exit());
if (process.argv[2] === 'scheduler') await beScheduler(JSON.parse(process.argv[3]));
else if (process.argv[2] === 'agents') await beAgents(JSON.parse(process.argv[3]), process.argv[4]);
else await measure(process.argv[2] ?? '../shared/data/gpu/openb/openb_node_list_gpu_node.csv');

async function beScheduler({ connection, sessionTimeoutMs }) {
  const onError = (error) => console.error(error);
  const gpus = await scheduleGpus({
    connection,
    ...others,
    topics,
    onError,
    ...(sessionTimeoutMs && { sessionTimeoutMs }),
  });
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send({ role: gpus.role, cpuMs: (user + system) / 1000 });
  });
  process.send({ role: gpus.role });
}

/** All nodes, each every five seconds, evenly. */
async function beAgents(connection, file) {
  const sink = openSink(kafkaClient(connection));
  const nodes = nodesOf(file);
  let next = 0;
  let bytes = 0;
  const tell = (count) =>
    sink.write(
      topics.inventory,
      Array.from({ length: count }, () => {
        const { id, model, gpus } = nodes[next++ % nodes.length];
        const told = Array.from({ length: gpus }, (_, i) => gpuOf(id, model, i));
        const value = encodeGpuInventory({ node: id, timestamp: Date.now(), gpus: told });
        bytes += value.length;
        return { key: id, value, partition: 0 };
      }),
    );
  await tell(nodes.length);
  process.send({ bytes });
  setInterval(() => tell(Math.ceil(nodes.length / 50)).catch((error) => console.error(error)), 100);
}

function nodesOf(file) {
  if (existsSync(file)) return readNodes(readFileSync(file, 'utf8'));
  return Array.from({ length: 1_213 }, (_, i) => ({ id: `node-${i}`, model: 'A10', gpus: i % 10 === 0 ? 6 : 5 }));
}

function gpuOf(node, model, i) {
  const none = absent('not-reported');
  const names = ['eccUncorrectedVolatile', 'eccUncorrectedTotal', 'remapPending', 'remapFailed', 'retiredPagesPending'];
  const signals = Object.fromEntries([...names, 'throttleReasons', 'recoveryAction'].map((name) => [name, none]));
  const some = (below) => known(Math.floor(Math.random() * below));
  return {
    id: `GPU-${node}-${i}`,
    vendor: 'nvidia',
    name: model,
    ...{ index: known(i), busId: known(`0000:${i}0:00.0`), serial: none, driver: known('570.10') },
    ...{
      architecture: known('7.0'),
      memoryTotalMb: known(24_576),
      memoryUsedMb: known(0),
      memoryFreeMb: known(24_576),
    },
    ...{ memoryReservedMb: none, utilization: some(100), memoryUtilization: some(100), temperature: some(80) },
    ...{ memoryTemperature: none, power: some(300), powerLimit: known(300), coreClock: some(1_400), memoryClock: none },
    ...{ fanPercent: none, computeMode: known('Default'), partitionMode: none, partitions: [], processes: [] },
    ...{ signals, health: { state: 'ok', causes: [] }, seenAt: Date.now(), stale: false },
  };
}

async function measure(file) {
  const started = loadavg()[0];
  const broker = await startBrokerThread({ port: 0 });
  const connection = { brokers: [`${broker.host}:${broker.port}`] };
  await ensureTopics(
    connection,
    [others.metrics, others.forecasts, others.deadLetters].map((topic) => ({ topic, partitions: 1 })),
  );
  const children = [];
  const child = async (...args) => {
    const one = fork(program, args);
    children.push(one);
    const [first] = await once(one, 'message');
    return { one, first };
  };
  const ask = async ({ one }) => {
    one.send('how');
    return (await once(one, 'message'))[0];
  };
  const scheduler = (more = {}) => child('scheduler', JSON.stringify({ connection, ...more }));
  const acts = async (candidates) => {
    for (;;) {
      for (const candidate of candidates) if ((await ask(candidate)).role === 'acting') return candidate;
      await pause(20);
    }
  };
  const nodes = nodesOf(file);
  const total = nodes.reduce((sum, { gpus }) => sum + gpus, 0);
  const first = await scheduler();
  const asker = () => scheduleGpus({ connection, ...others, topics, decide: false });
  const gpus = await asker();
  await acts([first]);
  const agents = await child('agents', JSON.stringify(connection), file);
  while (gpus.stats().gpus < total) await pause(20);
  const rows = [];
  const row = (what, result) => {
    rows.push(`| ${what} | ${result} |`);
    console.log(`${what}: ${result}`);
  };
  const bytesOf = async (topic) => {
    const seen = { records: 0, bytes: 0 };
    await readPartition(kafkaClient(connection), topic, 0, ({ key, value }) => {
      seen.records++;
      seen.bytes += (key?.length ?? 0) + (value?.length ?? 0);
    });
    return seen;
  };

  const request = { owner: 'team', leaseMs: null };
  await timed(50, (i) => gpus.allocate(`warm-${i}`, request));
  const single = await timed(500, (i) => gpus.allocate(`single-${i}`, request));
  row('one allocation after the other, from asking to knowing', spread(single));
  row('one release after the other', spread(await timed(500, (i) => gpus.release(`single-${i}`))));
  for (let i = 0; i < 50; i++) await gpus.release(`warm-${i}`);

  const many = async (what, count, each) => {
    const before = (await ask(first)).cpuMs;
    const since = performance.now();
    const answers = await Promise.all(Array.from({ length: count }, (_, i) => each(i)));
    const ms = performance.now() - since;
    const granted = answers.filter((answer) => answer?.granted ?? true).length;
    const cpu = (await ask(first)).cpuMs - before;
    const done = granted === count ? '' : `, ${granted} of them granted`;
    row(
      `${count} ${what} at once${done}`,
      `${Math.round((1000 * count) / ms)} a second; ${(cpu / count).toFixed(2)} ms of the scheduler's CPU each`,
    );
  };
  const lease = { owner: 'team', leaseMs: 600_000 };
  await many('whole GPUs', 6_000, (i) => gpus.allocate(`job-${i}`, lease));
  await many('whole GPUs where the cluster is nearly full', 1_000, (i) => gpus.allocate(`late-${i}`, request));

  // of the inventories alone
  const alone = { own: process.cpuUsage(), scheduler: (await ask(first)).cpuMs, at: performance.now() };
  await pause(10_000);
  const alones = {
    own: process.cpuUsage(alone.own),
    scheduler: (await ask(first)).cpuMs - alone.scheduler,
    ms: performance.now() - alone.at,
  };
  const load = (scheduler, own, ms) =>
    `${percent(scheduler / ms)} in the scheduler, ${percent((own.user + own.system) / 1000 / ms)} in this process, which asks, follows and has the broker`;
  row('of a core for the inventory of all nodes', load(alones.scheduler, alones.own, alones.ms));

  // 6,000 leases, a heartbeat each every 20 s
  const heard = [];
  // as they come: the topic may be compacted meanwhile
  const came = { [topics.allocations]: 0, [topics.requests]: 0 };
  let counting = false;
  const counters = Object.keys(came).map((topic) =>
    followPartition(
      kafkaClient(connection),
      topic,
      0,
      ({ key, value }) => {
        if (counting) came[topic] += (key?.length ?? 0) + (value?.length ?? 0);
      },
      (error) => console.error(error),
    ),
  );
  await Promise.all(counters.map((counter) => counter.caughtUp()));
  counting = true;
  const before = {
    own: process.cpuUsage(),
    scheduler: (await ask(first)).cpuMs,
  };
  const since = performance.now();
  const renewing = [];
  const HEARTBEATS = 6_000;
  while (renewing.length < HEARTBEATS) {
    const due = Math.min(HEARTBEATS, Math.floor(((performance.now() - since) * 300) / 1000));
    while (renewing.length < due) {
      const at = performance.now();
      renewing.push(gpus.renew(`job-${renewing.length}`).then(() => heard.push(performance.now() - at)));
    }
    await pause(5);
  }
  await Promise.all(renewing);
  const span = performance.now() - since;
  const schedulerMs = (await ask(first)).cpuMs - before.scheduler;
  const own = process.cpuUsage(before.own);
  await Promise.all(counters.map((counter) => counter.caughtUp()));
  await Promise.all(counters.map((counter) => counter.stop()));
  const each = (topic) => Math.round(came[topic] / HEARTBEATS);
  row('6,000 leases with a heartbeat each 20 s, from asking to knowing', spread(heard));
  row(
    'bytes of a heartbeat',
    `${each(topics.requests)} to ${topics.requests}, ${each(topics.allocations)} to ${topics.allocations}: ${Math.round((each(topics.requests) + each(topics.allocations)) * 0.3)} kB a second in all`,
  );
  row('of a core for that and 300 heartbeats a second', load(schedulerMs, own, span));
  row('inventory of all nodes, each 5 s', `${Math.round(agents.first.bytes / 5_000)} kB a second`);

  await many('releases', 6_000, (i) => gpus.release(`job-${i}`));
  await many('quarters of a GPU', 10_000, (i) =>
    gpus.allocate(`share-${i}`, { owner: 'team', computeShare: 0.25, leaseMs: null }),
  );

  const records = gpus.records().length;
  const beginning = performance.now();
  const late = await asker();
  const took = performance.now() - beginning;
  if (late.records().length !== records) throw new Error(`${late.records().length} of ${records} records were there`);
  const log = await bytesOf(topics.allocations);
  row(
    `start of a process that follows: ${records} records`,
    `${(took / 1000).toFixed(2)} s, ${log.records} records of ${(log.bytes / 1e6).toFixed(1)} MB and the inventory read`,
  );
  await late.stop();

  for (const [session, last] of [
    ['15 s, the default', first],
    ['6 s', undefined],
  ]) {
    const more = session === '6 s' ? { sessionTimeoutMs: 6_000 } : {};
    const old = last ?? (await acts(await Promise.all([scheduler(more)])));
    await acts([old]);
    const next = await scheduler(more);
    const at = performance.now();
    old.one.kill('SIGKILL');
    const answer = await gpus.allocate(`takeover-${session}`, { ...request, computeShare: 0.25 });
    if (!answer.granted) throw new Error(answer.what);
    row(
      `kill -9 of the scheduler with another one standing by, until that one answers, session ${session}`,
      `${((performance.now() - at) / 1000).toFixed(1)} s`,
    );
    await acts([next]);
    next.one.disconnect();
    next.one.kill('SIGTERM');
    next.one.kill('SIGKILL');
  }

  writeFileSync(
    new URL('results/gpu-scheduler.md', import.meta.url),
    `# GPUs given over topics: how long an answer takes

Node ${process.version}, ${cpus().length} × ${cpus()[0].model.trim()}, load ${started.toFixed(1)} at the start and ${loadavg()[0].toFixed(1)} at the end. \`node bench/gpu-scheduler.mjs\`.

${nodes.length} nodes with ${total} GPUs, whose inventories all come anew every 5 s; the embedded broker in memory, one scheduler, one process that asks.

| what | result |
| --- | --- |
${rows.join('\n')}
`,
  );
  for (const one of children) one.kill('SIGKILL');
  await gpus.stop();
  await broker.stop();
}

async function timed(count, each) {
  const took = [];
  for (let i = 0; i < count; i++) {
    const at = performance.now();
    const answer = await each(i);
    if (answer?.granted === false) throw new Error(answer.what);
    took.push(performance.now() - at);
  }
  return took;
}

function spread(took) {
  const sorted = [...took].sort((a, b) => a - b);
  const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))].toFixed(1);
  return `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, longest ${sorted.at(-1).toFixed(1)} ms, of ${sorted.length}`;
}

function percent(part) {
  return `${(100 * part).toFixed(0)} %`;
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function once(emitter, event) {
  return new Promise((resolve) => emitter.once(event, (...values) => resolve(values)));
}
