/**
 * How many samples a second go through the forecast and the detect pipeline, and where the time goes? One process: embedded broker in its worker thread, pipelines in the
 * main thread, kafkajs between them. The same samples in three forms: one JSON sample a message, JSON arrays of 100, columns of 100 (Avro single-object).
 * `node bench/throughput.mjs [samples] [series]`, default 600,000 samples of 1,000 series; writes bench/results/throughput.md.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Session } from 'node:inspector/promises';
import { cpus, platform, release } from 'node:os';
import { fileURLToPath } from 'node:url';
import { detect } from '../dist/pipelines/detect.js';
import { forecast } from '../dist/pipelines/forecast.js';
import { startBrokerThread } from '../dist/src/broker/broker-thread.js';
import { encodeSamplesColumnar, encodeSamplesJson } from '../dist/src/codec/encode.js';
import { ensureTopics } from '../dist/src/kafka/admin.js';
import { kafkaClient } from '../dist/src/kafka/client.js';
import { sink as openSink } from '../dist/src/kafka/sink.js';
import { stateTopic } from '../dist/src/kafka/state-store.js';

const wanted = Number(process.argv[2] ?? 600_000);
const seriesCount = Number(process.argv[3] ?? 1_000);
const METRICS = ['cpu_usage', 'memory_usage'];
const STEP_MS = 60_000;
const SLOTS_PER_MESSAGE = 50;
const PARTITIONS = 4;
/** Samples that go through first, so that compiling is not in the figures. */
const WARM_UP_SAMPLES = 100_000;

const entities = Math.max(1, Math.round(seriesCount / METRICS.length));
const slotsFor = (samples) => Math.ceil(samples / (entities * METRICS.length) / SLOTS_PER_MESSAGE) * SLOTS_PER_MESSAGE;
const slots = slotsFor(wanted);
const samplesOf = (slotCount) => entities * METRICS.length * slotCount;
const total = samplesOf(slots);
const start = Math.floor(Date.now() / STEP_MS) * STEP_MS - slots * STEP_MS;

/** A daily shape with noise, the same at every run. */
function valueAt(entity, metric, slot) {
  const noise = Math.sin(entity * 12.9898 + metric * 78.233 + slot * 37.719) * 43758.5453;
  const day = Math.sin((2 * Math.PI * (slot + 7 * entity)) / 1440);
  return Math.round(1000 * (50 + 20 * day + 4 * (noise - Math.floor(noise)))) / 1000;
}

const sample = (entity, metric, slot) => ({
  name: METRICS[metric],
  labels: { service: `service-${entity}` },
  timestamp: start + slot * STEP_MS,
  value: valueAt(entity, metric, slot),
});

const forms = {
  'one JSON sample a message': function* (slotCount) {
    for (let slot = 0; slot < slotCount; slot++)
      for (let e = 0; e < entities; e++)
        for (let m = 0; m < METRICS.length; m++)
          yield { key: `service-${e}`, value: JSON.stringify(sample(e, m, slot)) };
  },
  'JSON arrays of 100': (slotCount) => packed(encodeSamplesJson, slotCount),
  'columns of 100': (slotCount) => packed(encodeSamplesColumnar, slotCount),
};

function* packed(encode, slotCount) {
  for (let from = 0; from < slotCount; from += SLOTS_PER_MESSAGE)
    for (let e = 0; e < entities; e++) {
      const samples = [];
      for (let slot = from; slot < from + SLOTS_PER_MESSAGE; slot++)
        for (let m = 0; m < METRICS.length; m++) samples.push(sample(e, m, slot));
      yield { key: `service-${e}`, value: encode(samples) };
    }
}

async function produce(topic, messages) {
  const sink = openSink(kafkaClient(connection));
  await sink.connect();
  let some = [];
  for (const message of messages) {
    some.push(message);
    if (some.length === 5_000) {
      await sink.write(topic, some);
      some = [];
    }
  }
  await sink.write(topic, some);
  await sink.close();
}

/** CPU seconds of the main thread (Linux), else of the process. */
function cpuSeconds() {
  try {
    const stat = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  }
}

const places = [
  ['Kafka client (kafkajs)', /node_modules\/kafkajs/],
  ['decoding samples', /dist\/src\/codec|node_modules\/avsc/],
  ['models', /dist\/src\/(models|stats)/],
  ['detectors', /dist\/src\/detectors/],
  ['state and checkpoints', /dist\/src\/(state|kafka\/(partition-state|state-store|partition-reader))|series-states/],
  ['source, sink, operators, RxJS', /dist\/(src\/(kafka|operators|records)|pipelines)|node_modules\/rxjs/],
];

/** Self time by place, per cent of the time that was not idle. */
function shares(profile) {
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const spent = new Map();
  let busy = 0;
  profile.samples.forEach((id, i) => {
    const { functionName, url } = byId.get(id).callFrame;
    const time = profile.timeDeltas[i];
    if (functionName === '(idle)') return;
    busy += time;
    const place =
      functionName === '(garbage collector)'
        ? 'garbage collection'
        : (places.find(([, pattern]) => pattern.test(url))?.[0] ?? "Node's own (sockets, buffers, JSON)");
    spent.set(place, (spent.get(place) ?? 0) + time);
  });
  return new Map([...spent].map(([place, time]) => [place, (100 * time) / busy]));
}

async function measure(topic, names, expected) {
  const group = `bench-${topic}-${names.join('-')}`;
  const common = { connection, group, input: topic, deadLetters: 'dead-letters', onError: fail };
  const start = {
    forecast: () => forecast({ ...common, output: 'forecasts' }),
    detect: () => detect({ ...common, output: 'anomalies' }),
  };
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 1_000 });
  await session.post('Profiler.start');
  const begun = { at: performance.now(), cpu: cpuSeconds() };
  const running = await Promise.all(names.map((name) => start[name]()));
  await until(() => running.every((one) => one.status().samples >= expected));
  const wall = (performance.now() - begun.at) / 1000;
  const cpu = cpuSeconds() - begun.cpu;
  const { profile } = await session.post('Profiler.stop');
  session.disconnect();
  const status = running.map((one) => one.status());
  await Promise.all(running.map((one) => one.stop()));
  if (status.some((one) => one.deadLetters > 0 || one.samples !== expected))
    throw new Error('samples were lost or repeated');
  return {
    wall,
    cpu,
    measured: expected,
    shares: shares(profile),
    outputs: status.reduce((n, one) => n + one.outputs, 0),
  };
}

async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

function fail(error) {
  console.error(error);
  process.exit(1);
}

const broker = await startBrokerThread({ port: 0, defaultPartitions: PARTITIONS });
const connection = { brokers: [`${broker.host}:${broker.port}`] };
const rows = [];
const where = new Map();
let turn = 0;
for (const [form, messages] of Object.entries(forms)) {
  const warmUp = `warm-up-${++turn}`;
  const topic = `metrics-${turn}`;
  const made = ['forecasts', 'anomalies', 'dead-letters', warmUp, topic];
  await ensureTopics(
    connection,
    made.map((one) => ({ topic: one, partitions: PARTITIONS })),
  );
  const few = slotsFor(Math.min(WARM_UP_SAMPLES, total));
  await produce(warmUp, messages(few));
  await produce(topic, messages(slots));
  for (const names of [['forecast'], ['detect'], ['forecast', 'detect']]) {
    // state of an earlier turn would be taken for this one's
    await forgetState();
    await measure(warmUp, names, samplesOf(few));
    await forgetState();
    const one = await measure(topic, names, total);
    const title = `${form}, ${names.join(' + ')}`;
    console.error(
      `${title}: ${Math.round(one.measured / one.wall)} samples/s, ${Math.round(one.measured / one.cpu)} a CPU second`,
    );
    rows.push({ form, pipelines: names.join(' + '), ...one });
    where.set(title, one.shares);
  }
}
await broker.stop();

async function forgetState() {
  const admin = kafkaClient(connection).admin();
  await admin.connect();
  const existing = await admin.listTopics();
  const old = ['forecast', 'detect'].map((one) => stateTopic(one, PARTITIONS).topic);
  await admin.deleteTopics({ topics: old.filter((one) => existing.includes(one)) });
  await admin.disconnect();
  await ensureTopics(
    connection,
    ['forecast', 'detect'].map((one) => stateTopic(one, PARTITIONS)),
  );
}

const number = (n) => Math.round(n).toLocaleString('en-US');
const titles = [...where.keys()];
const names = [...new Set([...where.values()].flatMap((one) => [...one.keys()]))];
const text = `# Samples a second through the pipelines

${number(total)} samples of ${number(entities * METRICS.length)} series, ${PARTITIONS} partitions, default model (ensemble) and detectors (z-score, mad, moving-average), forecasts at four horizons after every 5th step, at-least-once,
changed state written every 5 s. Embedded broker in memory in its worker thread, same process. Each row: from the pipeline's start to its last acknowledged batch, joining the group included, after a warm-up on another topic.
"A core": samples divided by the CPU seconds of the main thread, where client, decoder, models and sink run. With two pipelines every sample goes through both.
The profiler samples at 1 ms during the measurement.

${cpus().length} × ${cpus()[0]?.model.trim()}, ${platform()} ${release()}, Node ${process.version}, ${new Date().toISOString().slice(0, 10)}. \`node bench/throughput.mjs ${wanted} ${seriesCount}\`

| form | pipelines | samples/s | samples a second and core | outputs |
| --- | --- | ---: | ---: | ---: |
${rows.map((r) => `| ${r.form} | ${r.pipelines} | ${number(r.measured / r.wall)} | ${number(r.measured / r.cpu)} | ${number(r.outputs)} |`).join('\n')}

## Where the main thread's time goes, per cent of its busy time

| | ${titles.join(' | ')} |
| --- |${titles.map(() => ' ---: |').join('')}
${names.map((name) => `| ${name} | ${titles.map((t) => (where.get(t).get(name) ?? 0).toFixed(0)).join(' | ')} |`).join('\n')}
`;
writeFileSync(fileURLToPath(new URL('results/throughput.md', import.meta.url)), text);
console.log(text);
process.exit(0);
