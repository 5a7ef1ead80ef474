import os from 'node:os';
import path from 'node:path';
import { detect } from '../../pipelines/detect.js';
import { forecast } from '../../pipelines/forecast.js';
import { invoke } from '../../pipelines/invoke.js';
import { scale } from '../../pipelines/scale.js';
import { startBrokerThread } from '../broker/broker-thread.js';
import { Actuators } from '../cluster/actuators.js';
import { ProcessCluster } from '../cluster/process-cluster.js';
import { decodeDecision } from '../codec/decode.js';
import { readableValue } from '../codec/readable.js';
import { SampleDecoder } from '../codec/sample-decoder.js';
import { LiveModel } from '../dashboard/live-model.js';
import { startDashboard } from '../dashboard/server.js';
import { defined } from '../defined.js';
import { IguanaError, messageOf } from '../errors.js';
import { ensureTopics } from '../kafka/admin.js';
import { assertReachable, type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { keptValue } from '../kafka/kept-value.js';
import { sink as openSink } from '../kafka/sink.js';
import { stateTopic } from '../kafka/state-store.js';
import { type TailedMessage, tail } from '../kafka/tail.js';
import { dashboardLimits } from '../limits.js';
import type { RunningFunctions } from '../operators/running-functions.js';
import type { RunningPipeline } from '../operators/series-pipeline.js';
import { trainedNetwork } from '../operators/trained-network.js';
import { type AnomalyRecord, type ForecastRecord, SeriesTable } from '../records.js';
import { policySchema, type ScalingPolicy } from '../scaling/policy.js';
import { boundedLines } from './bounded-lines.js';
import type { Config } from './config.js';
import { connectionOf } from './connection.js';
import { anomalyLine, decisionLine, forecastLine, noteLine } from './event-lines.js';
import { functionDirectory } from './function-directory.js';
import { passingUsageKey, secrets, usageKey } from './function-secrets.js';
import { gpusRow, startGpus, withGpuRules } from './gpu-part.js';
import { type Producing, produceGeneratedService, produceHostMetrics } from './producers.js';
import { repeatedErrors } from './repeated-errors.js';
import { topicNames, topics } from './topics.js';

export interface SystemOptions {
  readonly demo: boolean;
  readonly json: boolean;
  readonly print: (line: string) => void;
  readonly banner: (rows: readonly (readonly [string, string])[], json: boolean) => void;
}

/** How to stop what was started: everything that talks to the broker at the same time, then the broker. */
interface Stops {
  readonly clients: (() => Promise<void>)[];
  readonly broker: (() => Promise<void>)[];
}

export interface RunningSystem {
  stop(): Promise<void>;
}

/** Seed of the generated day: the same for everybody, so that what one sees can be talked about. */
const DEMO_SEED = 7;
/** A forecast of a series is printed at most this often, ms. */
const FORECAST_LINE_EVERY_MS = 60_000;
/** The generated service's scaling, dry run: six instances of 90 requests a second would serve its peak. */
const demoPolicy = policySchema.parse({
  name: 'shop',
  entity: 'shop',
  metric: 'requests_per_second',
  targetPerInstance: 60,
  min: 2,
  max: 20,
  initial: 4,
  startupSeconds: 300,
});

/** Starts everything in this process and returns when it runs. What was started is stopped again when a later step fails. */
export async function startSystem(config: Config, options: SystemOptions): Promise<RunningSystem> {
  const stops: Stops = { clients: [], broker: [] };
  const stop = async (): Promise<void> => {
    const outcomes = await Promise.allSettled(stops.clients.splice(0).map((one) => one()));
    await Promise.all(stops.broker.splice(0).map((one) => one()));
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  };
  try {
    await startParts(config, options, stops);
  } catch (error) {
    await stop();
    throw error;
  }
  return { stop };
}

async function startParts(config: Config, options: SystemOptions, stops: Stops): Promise<void> {
  const { print, json } = options;
  const note = (what: string, why: string): void =>
    print(json ? JSON.stringify({ event: 'note', what, why }) : noteLine(Date.now(), what, why));
  const onError = repeatedErrors((message, error) => {
    const route = error instanceof IguanaError && error.code === 'IGU_FUNCTION_ROUTE';
    note(route ? 'an HTTP trigger is not served' : 'something failed and is tried again', message);
  });
  const policies = options.demo ? [...config.policies, demoPolicy] : config.policies;

  // what a person has to mend in a file is said before anything begins
  const secret = config.functions.enabled ? secrets(config.functions.secretsFile) : undefined;
  if (config.functions.enabled && config.functions.usageKeyFile !== undefined) usageKey(config.functions.usageKeyFile);
  const { connection, row: brokerRow, remark } = await reachBroker(config, stops);
  // the key's usual place is the data directory, which the broker has made, or found to be unusable
  const functionOptions = secret && { secret, usageKey: usageKeyOf(config) };
  const { partitions } = config.broker;
  const found = await ensureTopics(
    connection,
    topicNames.map((topic) => ({ topic, partitions })),
  );
  // each input partition has its state, also where the input was there before
  const inputs = found.get(topics.metrics) ?? partitions;
  await ensureTopics(
    connection,
    ['forecast', 'detect', 'scale'].map((name) => stateTopic(name, inputs)),
  );

  const network = config.neural.enabled
    ? await trainedNetwork({
        connection,
        trainEveryMs: config.neural.trainEveryMs,
        onError,
        onTrained: ({ error, naiveError, swapped }) =>
          note(
            swapped ? 'the neural network was trained' : 'a training made the neural network no better',
            `error ${(error / naiveError).toFixed(2)} of seasonal naive's on steps it had not seen`,
          ),
      })
    : undefined;
  if (network) stops.clients.push(() => network.stop());
  const backend = network ? network.backend().then(({ name, why }) => `${name} (${why})`, messageOf) : 'not used';

  const model = new LiveModel();
  const common = { connection, group: config.group, input: topics.metrics, deadLetters: topics.deadLetters, onError };
  const actuators = new Actuators(clustersOf(policies, config.data), onError);
  stops.clients.push(() => actuators.stop());
  const stoppable = async <T extends { stop(): Promise<unknown> } | undefined>(starting: Promise<T>): Promise<T> => {
    const part = await starting;
    if (part) stops.clients.push(async () => void (await part.stop()));
    return part;
  };
  const starting = [
    stoppable(startFunctions(config, functionOptions, connection, onError)),
    stoppable(startGpus(config, connection, note, onError)),
    stoppable(forecast({ ...common, output: topics.forecasts, ...(network ? { shared: network.shared } : {}) })),
    stoppable(detect({ ...common, output: topics.anomalies, rules: withGpuRules(config) })),
    stoppable(
      scale({
        ...common,
        forecasts: topics.forecasts,
        output: topics.decisions,
        policies,
        act: ({ name, dryRun }, instances) => actuators.want(name, instances, dryRun),
      }),
    ),
  ] as const;
  // when one fails the others are still stopped: those that began late would go on without a broker
  await Promise.allSettled(starting);
  const [functions, gpus, ...pipelines] = await Promise.all(starting);

  const { host, port, token = process.env.IGUANA_TOKEN } = config.dashboard;
  const dashboard = await startDashboard({ host, port, model, onError, ...defined({ token, functions, gpus }) });
  stops.clients.push(() => dashboard.stop());
  const dataRow = config.kafka.brokers.length > 0 ? 'on the cluster' : (config.data ?? 'in memory, lost at the end');
  model.info({ broker: brokerRow, dataDir: dataRow, backend: await backend });
  if (functions) await deployDirectory(config, functions, stops, note);

  stops.clients.push(showEvents(connection, model, options, onError));
  stops.clients.push(watch(pipelines, model, note));

  const producer = openSink(kafkaClient(connection));
  await producer.connect();
  const producing: Producing[] = [];
  stops.clients.push(async () => {
    await Promise.all(producing.map((one) => one.stop()));
    await producer.close();
  });
  const sources: string[] = [];
  if (options.demo) {
    producing.push(
      produceGeneratedService(
        producer,
        topics.metrics,
        DEMO_SEED,
        await keptValue(connection, producer, 'generated-day'),
        onError,
      ),
    );
    sources.push("a generated web service's day at 60x speed");
  }
  if (config.host.enabled) {
    producing.push(produceHostMetrics(producer, topics.metrics, config.host.everyMs, onError));
    sources.unshift('this machine');
  }
  options.banner(
    [
      ['broker', brokerRow],
      ['page', dashboard.url],
      ['metrics', sources.length > 0 ? sources.join(' + ') : `what is produced to ${topics.metrics}`],
      ['data', dataRow],
      ['tensorflow', await backend],
      [
        'scaling',
        `${policies.length} ${policies.length === 1 ? 'policy' : 'policies'}, ${policies.every((p) => p.dryRun) ? 'dry run' : 'acting'}`,
      ],
      ['functions', functions ? functionsRow(functions, config.functions.directory) : 'not used'],
      ['gpus', gpus ? gpusRow(gpus) : 'not used'],
      ['stop', 'q or Ctrl-C'],
    ],
    json,
  );
  if (remark) note(remark, 'see the banner for the port in use');
}

/** What usage is signed with. */
function usageKeyOf({ functions, data }: Config): string {
  const file = functions.usageKeyFile ?? (data === null ? undefined : path.join(data, 'usage.key'));
  return file === undefined ? passingUsageKey() : usageKey(file);
}

/** What runs functions, over the same broker as everything else. @param own undefined: none run */
async function startFunctions(
  { functions: { prices, isolation }, data, group, dashboard }: Config,
  own: { readonly secret: (name: string) => string | undefined; readonly usageKey: string } | undefined,
  connection: ConnectionOptions,
  onError: (error: unknown) => void,
): Promise<RunningFunctions | undefined> {
  if (!own) return undefined;
  return invoke({
    ...own,
    kafka: { connection, group, ...topics, process: `${os.hostname()}:${dashboard.port}` },
    prices,
    onError,
    ...defined({ isolation, usageJournal: data === null ? undefined : path.join(data, 'usage') }),
  });
}

/** Deploys what lies in the directory of functions, and follows it. */
async function deployDirectory(
  { functions: { directory } }: Config,
  functions: RunningFunctions,
  stops: Stops,
  note: (what: string, why: string) => void,
): Promise<void> {
  const following = functionDirectory({
    directory,
    functions,
    onChange: note,
    onError: (error) => note('a function cannot be deployed', messageOf(error)),
  });
  stops.clients.push(() => following.stop());
  await following.look();
}

function functionsRow(functions: RunningFunctions, directory: string): string {
  const names = functions.list().map(({ name }) => name);
  const some = names.length > 6 ? [...names.slice(0, 6), `${names.length - 6} more`] : names;
  return names.length === 0
    ? `none yet: put definitions into ${directory}/, or iguana function create`
    : some.join(', ');
}

/** The configured cluster, or the embedded broker; on a free port when the usual one is taken. */
async function reachBroker(
  config: Config,
  stops: Stops,
): Promise<{ connection: ConnectionOptions; row: string; remark?: string }> {
  if (config.kafka.brokers.length > 0) {
    const connection = connectionOf(config);
    await assertReachable(connection);
    return { connection, row: config.kafka.brokers.join(', ') };
  }
  const { host, port, partitions, advertisedHost } = config.broker;
  const start = (at: number) =>
    startBrokerThread({
      host,
      ...(advertisedHost ? { advertisedHost } : {}),
      port: at,
      dataDir: config.data,
      defaultPartitions: partitions,
    });
  let remark: string | undefined;
  const broker = await start(port).catch((error: unknown) => {
    if (!(error instanceof IguanaError) || error.code !== 'IGU_PORT_TAKEN') throw error;
    remark = `port ${port} is taken, the broker took a free one`;
    return start(0);
  });
  stops.broker.push(() => broker.stop());
  const address = `${broker.host}:${broker.port}`;
  return { connection: connectionOf(config, [address]), row: address, ...(remark ? { remark } : {}) };
}

/** Instances get this long to end, ms: the whole stop must be over within two seconds. */
const INSTANCE_GRACE_MS = 1_500;

/**
 * One cluster of child processes for each policy that names a command and is no dry run, whatever decisions say; what they print goes to
 * the data directory, if there is one.
 */
function clustersOf(policies: readonly ScalingPolicy[], data: string | null): Map<string, ProcessCluster> {
  return new Map(
    policies.flatMap(({ name, dryRun, process: run }) => {
      if (!run || dryRun) return [];
      const { command, args, basePort } = run;
      return [
        [
          name,
          new ProcessCluster({
            name,
            command,
            args,
            graceMs: INSTANCE_GRACE_MS,
            ...(data === null ? {} : { logDir: path.join(data, 'logs') }),
            ...(basePort === undefined ? {} : { basePort }),
          }),
        ] as const,
      ];
    }),
  );
}

/** Follows all topics for the page and the terminal. */
function showEvents(
  connection: ConnectionOptions,
  model: LiveModel,
  { print, json }: SystemOptions,
  onError: (error: unknown) => void,
): () => Promise<void> {
  const following = tail(
    kafkaClient(connection),
    [topics.metrics, topics.forecasts, topics.anomalies, topics.decisions],
    'latest',
  );
  // the page shows what the pipelines read, in whichever form it was produced
  const table = new SeriesTable();
  const decoder = new SampleDecoder(table, { limits: { maxSeries: 100 * dashboardLimits.maxSeries } });
  const lastForecastLine = new Map<string, number>();
  const lines = boundedLines(print, (left) =>
    print(
      noteLine(
        Date.now(),
        `${left} more events`,
        'too many at once to read here; they are on the page and in the topics',
      ),
    ),
  );
  const tell = (event: string, line: string | undefined, record: unknown): void => {
    if (line === undefined) return;
    if (json) print(JSON.stringify({ event, record }));
    else lines.print(line);
  };
  const take = ({ topic, partition, message }: TailedMessage): void => {
    if (!message.value) return;
    if (topic === topics.metrics) {
      const { batch } = decoder.decode(topic, partition, [message]);
      for (let i = 0; i < batch.length; i++)
        model.sample(table.get(batch.seriesIndex[i]!), batch.timestamps[i]!, batch.values[i]!);
    } else if (topic === topics.forecasts) {
      const record = readableValue(message.value) as ForecastRecord;
      model.forecast(record);
      const now = Date.now();
      if (now - (lastForecastLine.get(record.entity) ?? 0) < FORECAST_LINE_EVERY_MS || record.labels.core) return;
      if (lastForecastLine.size >= dashboardLimits.maxSeries) lastForecastLine.clear();
      lastForecastLine.set(record.entity, now);
      tell('forecast', forecastLine(record), record);
    } else if (topic === topics.anomalies) {
      const record = readableValue(message.value) as AnomalyRecord;
      model.anomaly(record);
      if (record.severity !== 'info') tell('anomaly', anomalyLine(record), record);
    } else {
      // anybody may write to the topic, and this is acted upon: all of its fields are checked
      const record = decodeDecision(message.value);
      model.decision(record);
      tell('decision', decisionLine(record), record);
    }
  };
  const subscription = following.messages.subscribe({
    next: (message) => {
      try {
        take(message);
      } catch {
        // what cannot be read is in the dead letters already
      }
    },
    error: onError,
  });
  return async () => {
    lines.stop();
    subscription.unsubscribe();
    await following.closed();
  };
}

/** Shows once a second how pipelines stand; says so when a verdict changes. */
function watch(
  pipelines: readonly RunningPipeline[],
  model: LiveModel,
  note: (what: string, why: string) => void,
): () => Promise<void> {
  const verdicts = new Map<string, string>();
  const timer = setInterval(() => {
    for (const pipeline of pipelines) {
      const { name, rate, lag, verdict } = pipeline.status();
      model.pipeline({ name, rate, lag, verdict });
      const before = verdicts.get(name);
      verdicts.set(name, verdict);
      if (before !== undefined && before !== verdict)
        note(`${name} is ${verdict}`, `${lag} records behind at ${Math.round(rate)} samples a second`);
    }
  }, 1000);
  return async () => clearInterval(timer);
}
