import { type Clock, wallClock } from '../src/clock.js';
import { defined } from '../src/defined.js';
import { AsyncCalls } from '../src/functions/async-calls.js';
import type { PriceTable } from '../src/functions/billing.js';
import { FunctionService } from '../src/functions/function-service.js';
import { hostTriggers } from '../src/functions/host-triggers.js';
import { instanceFactories } from '../src/functions/instance-factories.js';
import { eventTriggers } from '../src/functions/triggers/event-trigger.js';
import { timerTriggers } from '../src/functions/triggers/timer-trigger.js';
import { type ConnectionOptions, kafkaClient } from '../src/kafka/client.js';
import { sink as openSink } from '../src/kafka/sink.js';
import { type DeployedFunctions, deployedFunctions } from '../src/operators/deployed-functions.js';
import { localUsage } from '../src/operators/local-usage.js';
import { type RunningFunctions, runningFunctions } from '../src/operators/running-functions.js';
import { timerState } from '../src/operators/timer-state.js';
import { usageTopic } from '../src/operators/usage-topic.js';

/** What functions need of Kafka. */
export interface FunctionKafka {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix: processes with the same one share the work. */
  readonly group: string;
  readonly deadLetters: string;
  /** Compacted; definitions and code (default `iguana-functions`). */
  readonly definitions?: string;
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

/** Functions are scaled this often, ms. */
const TICK_MS = 1_000;

/** Whatever starts functions in; what they return, what they cost and how they stand out. */
export async function invoke(options: InvokeOptions = {}): Promise<RunningFunctions> {
  const { kafka, clock = wallClock, prices, usageKey = '', onError = () => undefined } = options;
  const sink = kafka && openSink(kafkaClient(kafka.connection));
  await sink?.connect();

  // what they cost
  const journal = defined({ journal: options.usageJournal, prices });
  const usage = kafka
    ? await usageTopic({ connection: kafka.connection, keys: [usageKey], ...journal, onError, clock })
    : localUsage(prices);

  // what runs them
  const factories = instanceFactories(defined({ isolation: options.isolation }));
  const service = new FunctionService({
    clock,
    factory: factories.of,
    usageKey,
    onUsage: usage.record,
    ...defined({ secret: options.secret }),
  });

  // what starts them
  const timersOf = kafka && sink && (await timerState({ ...kafka, sink, onError }));
  const common = { service, clock, onError };
  const calls = new AsyncCalls(common);
  const events = eventTriggers(common);
  const timers = timerTriggers({ ...common, ...defined({ memory: timersOf?.memory, isOwner: timersOf?.isOwner }) });

  // which there are
  let deployed: DeployedFunctions | undefined;
  const hosted = hostTriggers([timers, events], () => deployed?.active() ?? [], onError);
  const topic = kafka?.definitions ?? 'iguana-functions';
  const kept = kafka && { connection: kafka.connection, topic };
  deployed = await deployedFunctions({ service, ...defined({ kept }), onChange: hosted.changed, onError });
  hosted.changed();

  // how many instances are ready
  const stopTicking = clock.every(TICK_MS, () => void service.tick().catch(onError));

  const stop = async (): Promise<void> => {
    stopTicking();
    await Promise.all([hosted.stop(), calls.close()]);
    await Promise.all([deployed.stop(), timersOf?.stop(), service.close()]);
    await factories.close();
    await Promise.all([usage.stop(), sink?.close()]);
  };
  const publish = async (event: Parameters<typeof events.publish>[0]) => events.publish(event);
  return runningFunctions({
    ...{ service, deployed, calls, usage, publish, stop },
    settled: hosted.settled,
    standings: () => [],
  });
}
