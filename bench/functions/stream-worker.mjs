// One process with one function that a stream starts, all of it real: consumer group, dispatcher, service, worker thread. Told what to do, and asked how far it
// is, over IPC: { type: 'start', … } → 'started'; { type: 'status' } → counts and CPU; { type: 'profile' } begins a profile, the next 'status' ends it.
import { Session } from 'node:inspector/promises';
import { wallClock } from '../../dist/src/clock.js';
import { functionSchema } from '../../dist/src/functions/definition.js';
import { FunctionService } from '../../dist/src/functions/function-service.js';
import { instanceFactories } from '../../dist/src/functions/instance-factories.js';
import { kafkaClient } from '../../dist/src/kafka/client.js';
import { streamTriggers } from '../../dist/src/operators/stream-triggers.js';

const factories = instanceFactories();
const service = new FunctionService({ clock: wallClock, factory: factories.of });
let triggers;
let plain;
let plainCounts = { done: 0, dead: 0 };
let session;

async function start({ brokers, group, code, definition, sessionTimeoutMs }) {
  const parsed = functionSchema.parse({ name: 'f', runtime: 'javascript', code: { inline: code }, ...definition });
  const deployed = await service.deploy({ definition: parsed, code: new TextEncoder().encode(code) });
  await service.prewarm('f', 1);
  triggers = streamTriggers({
    connection: { brokers },
    group,
    service,
    deadLetters: `${group}-dead`,
    onError: (error) => console.error(error),
    ...(sessionTimeoutMs ? { sessionTimeoutMs } : {}),
  });
  await triggers.apply([deployed]);
}

/** What there is to compare with: kafkajs alone, its records parsed and given to the same code in the same thread, batch by batch. */
async function startPlain({ brokers, group, code, topic }) {
  const { handle } = await import(`data:text/javascript,${encodeURIComponent(code)}`);
  plain = kafkaClient({ brokers }).consumer({ groupId: group });
  await plain.connect();
  await plain.subscribe({ topics: [topic], fromBeginning: true });
  await plain.run({
    partitionsConsumedConcurrently: 4,
    eachBatch: async ({ batch: { messages, partition } }) => {
      for (let i = 0; i < messages.length; i += 100) {
        const records = messages.slice(i, i + 100).map(({ key, value, offset, timestamp }) => ({
          key: String(key),
          value: JSON.parse(String(value)),
          headers: {},
          offset: Number(offset),
          timestamp: Number(timestamp),
        }));
        await handle({ trigger: 'stream', topic, partition, records });
        plainCounts.done += records.length;
      }
    },
  });
}

async function stop() {
  await triggers?.stop();
  await plain?.disconnect();
  triggers = plain = undefined;
  plainCounts = { done: 0, dead: 0 };
}

async function status() {
  const { counts, lag, verdict } = triggers?.status()[0] ?? { counts: { ...plainCounts }, lag: 0, verdict: '' };
  const { user, system } = process.cpuUsage();
  const { utilization } = performance.eventLoopUtilization();
  let profile;
  if (session) {
    ({ profile } = await session.post('Profiler.stop'));
    session.disconnect();
    session = undefined;
  }
  return { counts, lag, verdict, cpu: (user + system) / 1e6, utilization, shares: profile && shares(profile) };
}

async function profileFromNow() {
  session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.setSamplingInterval', { interval: 1_000 });
  await session.post('Profiler.start');
}

const places = [
  ['Kafka client (kafkajs)', /node_modules\/kafkajs/],
  ['decoding and encoding records', /topic-trigger-records|dist\/src\/codec/],
  ['dispatcher', /functions\/triggers/],
  ['service, pool, messages to and from the worker thread', /dist\/src\/functions/],
  ['consumer, writer, partition', /dist\/src\/(kafka|operators)/],
];

/** Self time of the main thread by place, per cent of the time that was not idle. */
function shares({ nodes, samples, timeDeltas }) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const spent = {};
  let busy = 0;
  samples.forEach((id, i) => {
    const { functionName, url } = byId.get(id).callFrame;
    if (functionName === '(idle)') return;
    busy += timeDeltas[i];
    const found = places.find(([, pattern]) => pattern.test(url))?.[0];
    const place = functionName === '(garbage collector)' ? 'garbage collection' : (found ?? "Node's own");
    spent[place] = (spent[place] ?? 0) + timeDeltas[i];
  });
  return Object.fromEntries(Object.entries(spent).map(([place, time]) => [place, (100 * time) / busy]));
}

process.on('message', async ({ type, id, ...rest }) => {
  const actions = { start, plain: startPlain, stop, status, profile: profileFromNow };
  process.send({ id, answer: (await actions[type](rest)) ?? {} });
});
