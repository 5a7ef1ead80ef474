import { assembled, type Stops } from '../src/assembled.js';
import { type Clock, wallClock } from '../src/clock.js';
import { defined } from '../src/defined.js';
import { IguanaError } from '../src/errors.js';
import { AsyncCalls } from '../src/functions/async-calls.js';
import type { PriceTable } from '../src/functions/billing.js';
import { FunctionService } from '../src/functions/function-service.js';
import { hostTriggers } from '../src/functions/host-triggers.js';
import { instanceFactories } from '../src/functions/instance-factories.js';
import { eventTriggers } from '../src/functions/triggers/event-trigger.js';
import { timerTriggers } from '../src/functions/triggers/timer-trigger.js';
import { type ConnectionOptions, kafkaClient } from '../src/kafka/client.js';
import { sink as openSink } from '../src/kafka/sink.js';
import { functionLimits } from '../src/limits.js';
import { type DeployedFunctions, deployedFunctions } from '../src/operators/deployed-functions.js';
import { eventTopic } from '../src/operators/event-topic.js';
import { functionOutcomes } from '../src/operators/function-outcomes.js';
import { topicOfGroup } from '../src/operators/group-topic.js';
import { invocationForecasts, invocationForecastsOn } from '../src/operators/invocation-forecasts.js';
import { keepAliveMemory } from '../src/operators/keep-alive-memory.js';
import { localUsage } from '../src/operators/local-usage.js';
import { queueTriggers } from '../src/operators/queue-triggers.js';
import { type RunningFunctions, runningFunctions } from '../src/operators/running-functions.js';
import { streamTriggers } from '../src/operators/stream-triggers.js';
import { timerState } from '../src/operators/timer-state.js';
import type { TopicTriggerStatus } from '../src/operators/topic-triggers.js';
import { usageTopic } from '../src/operators/usage-topic.js';

/** What functions need of Kafka. */
export interface FunctionKafka {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix: processes with the same one share functions and work; other groups know nothing of them. */
  readonly group: string;
  readonly deadLetters: string;
  /** Compacted; definitions and code (default `iguana-functions`, of another group than `iguana` with its name behind). */
  readonly definitions?: string;
  /** Topics that rates of calls are written to and forecasts of them come from; without them only timers are foreseen. */
  readonly metrics?: string;
  readonly forecasts?: string;
  /** Names this process among those that share the work, the same after a restart: each has its own rates. */
  readonly process?: string;
}

export interface InvokeOptions {
  /** Without it functions live and die with this process, and only HTTP, timers, events and calls start them. */
  readonly kafka?: FunctionKafka;
  readonly secret?: (name: string) => string | undefined;
  /** Signs usage. */
  readonly usageKey?: string | Uint8Array;
  readonly prices?: PriceTable;
  /** Directory of this process where usage is kept until its topic has it. */
  readonly usageJournal?: string;
  /** `process`: all JavaScript in child processes, whatever definitions say. */
  readonly isolation?: 'thread' | 'process';
  /** Default the wall clock. */
  readonly clock?: Clock;
  readonly onError?: (error: unknown) => void;
}

/** Where functions are kept unless it is said otherwise. */
const TOPIC = 'iguana-functions';
/** Functions are scaled this often, ms. */
const TICK_MS = 1_000;

/** Whatever starts functions in; what they return, what they cost and how they stand out. */
export async function invoke(options: InvokeOptions = {}): Promise<RunningFunctions> {
  return assembled((stops, stop) => assemble(options, stops, stop));
}

async function assemble(options: InvokeOptions, stops: Stops, stop: () => Promise<void>): Promise<RunningFunctions> {
  const { kafka, clock = wallClock, prices, usageKey = '', onError = () => undefined } = options;
  if (kafka && usageKey.length === 0)
    onError(
      new IguanaError('IGU_USAGE', { what: 'usage is signed with an empty key: give all processes the same usageKey' }),
    );
  const sink = kafka && openSink(kafkaClient(kafka.connection));
  stops.push(() => sink?.close());
  await sink?.connect();

  // what they cost
  const journal = defined({ journal: options.usageJournal, prices });
  const usage = kafka
    ? await usageTopic({ ...kafka, keys: [usageKey], ...journal, onError, clock })
    : localUsage(prices);
  stops.push(usage.stop);

  // what runs them
  const factories = instanceFactories(defined({ isolation: options.isolation }));
  stops.push(factories.close);
  const ports = { clock, usageKey, onUsage: usage.record, ...defined({ secret: options.secret }) };
  const service = new FunctionService({ ...ports, factory: factories.of });
  stops.push(() => service.close(functionLimits.drainMs));
  const history = kafka && sink && (await keepAliveMemory({ ...kafka, service, sink, clock, onError }));
  stops.push(() => history?.stop());

  // what starts them
  const timersOf = kafka && sink && (await timerState({ ...kafka, sink, onError }));
  stops.push(() => timersOf?.stop());
  const definitionOf = (name: string) => service.list().find((one) => one.name === name)?.definition;
  const deliver = sink && functionOutcomes({ sink, definitionOf, onError });
  const common = { service, clock, onError, ...defined({ deliver }) };
  const calls = new AsyncCalls(common);
  stops.push(() => calls.close());
  const events = eventTriggers(common);
  const timers = timerTriggers({ ...common, ...defined({ memory: timersOf?.memory, isOwner: timersOf?.isOwner }) });
  const streams = kafka && streamTriggers({ ...common, ...kafka });
  const queues = kafka && queueTriggers({ ...common, ...kafka });

  // which there are
  let deployed: DeployedFunctions | undefined;
  const hosts = [timers, events, streams, queues].filter((host) => host !== undefined);
  const hosted = hostTriggers(hosts, () => deployed?.active() ?? [], onError);
  stops.push(hosted.stop);
  const kept = kafka && { connection: kafka.connection, topic: kafka.definitions ?? topicOfGroup(TOPIC, kafka.group) };
  deployed = await deployedFunctions({ service, ...defined({ kept }), onChange: hosted.changed, onError });
  stops.push(deployed.stop);
  hosted.changed();
  // events that come before what they start would start nothing
  const eventsOf = kafka && sink && (await eventTopic({ ...kafka, sink, triggers: events, onError }));
  stops.push(() => eventsOf?.stop());

  // how many instances are ready
  const { nextRuns } = timers;
  const { metrics, forecasts } = kafka ?? {};
  const foreseen =
    kafka && sink && metrics !== undefined && forecasts !== undefined
      ? invocationForecastsOn({ ...common, ...kafka, metrics, forecasts, sink, nextRuns })
      : invocationForecasts({ ...common, publish: async () => undefined, nextRuns });
  stops.push(foreseen.stop);
  let standings: readonly TopicTriggerStatus[] = [];
  const tick = (): void => {
    standings = [...(streams?.status() ?? []), ...(queues?.status() ?? [])];
    service.tick().catch(onError);
  };
  stops.push(clock.every(TICK_MS, tick));

  return runningFunctions({
    ...{ service, deployed, calls, usage, stop },
    publish: eventsOf?.emit ?? (async (event) => events.publish(event)),
    settled: hosted.settled,
    standing(name, trigger, nth) {
      if (trigger.type === 'timer') return { counts: { ...timers.counts(name, trigger) } };
      if (trigger.type !== 'stream' && trigger.type !== 'queue') return undefined;
      const standing = standings.find(
        (one) => one.function === name && one.type === trigger.type && one.source === trigger.topic && one.nth === nth,
      );
      if (!standing) return undefined;
      const { dead: givenUp, ...counts } = standing.counts;
      return { ...standing, counts: { ...counts, givenUp } };
    },
  });
}
