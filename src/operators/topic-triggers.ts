import { type Clock, wallClock } from '../clock.js';
import { defined } from '../defined.js';
import type { DeployedFunction, FunctionService } from '../functions/function-service.js';
import type { TriggerHost } from '../functions/trigger-host.js';
import { Slots } from '../functions/triggers/slots.js';
import { type DispatchCounts, noCounts } from '../functions/triggers/stream-dispatcher.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { type PartitionConsumer, partitionConsumer } from '../kafka/partition-consumer.js';
import { sink as openSink, type Sink } from '../kafka/sink.js';
import { transactionalWriter } from '../kafka/transactional-writer.js';
import { streamTriggerLimits } from '../limits.js';
import { TopicPartition, type TopicTrigger } from './topic-trigger-partition.js';

export interface TopicTriggersOptions {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix: the group of a trigger is this, the function's name and the topic. */
  readonly group: string;
  readonly service: Pick<FunctionService, 'invoke'>;
  /** Where records go that were given up, unless a trigger names another topic. */
  readonly deadLetters: string;
  readonly onError: (error: unknown) => void;
  /** What is written goes through it. Default: one of its own. */
  readonly sink?: Sink;
  /** Default the wall clock. */
  readonly clock?: Clock;
  /** A process silent for so long leaves its groups, ms: how long its partitions wait after a kill (default 15,000). */
  readonly sessionTimeoutMs?: number;
}

type TriggerVerdict = 'keeping up' | 'behind' | 'recovering' | 'stalled';

/** How one trigger of a function stands in this process. */
export interface TopicTriggerStatus {
  readonly type: 'stream' | 'queue';
  readonly function: string;
  /** The topic. */
  readonly source: string;
  /** Of the function's triggers of this type and topic: 1 for the first. */
  readonly nth: number;
  readonly groupId: string;
  /** Assigned here. */
  readonly partitions: readonly number[];
  /** Records of them that are not finished. */
  readonly lag: number;
  /** Age of the oldest record that is read and not finished, ms by its timestamp; 0 without one. */
  readonly oldestAgeMs: number;
  /** `stalled`: nothing gets through for a reason that no record is at fault for; it is told to `onError`. */
  readonly verdict: TriggerVerdict;
  /** Finished, given up, passed over by the filter, calls, calls that failed; since the function came to this process. */
  readonly counts: Readonly<DispatchCounts>;
}

export interface TopicTriggers extends TriggerHost {
  /** Of all its triggers. Call it about once a second: the verdict is over the calls of the last five. */
  status(): TopicTriggerStatus[];
}

/** A trigger that names no topic of its own has this one in its definition; the process's own takes its place. */
const DEFAULT_DEAD_LETTERS = 'dead-letters';

/** Which versions are called and where what comes of records goes, whatever kind of trigger brought them. */
export function placesOf(
  { output, onSuccess, onFailure }: DeployedFunction['definition'],
  trigger: { readonly deadLetters: string | false; readonly alias?: string | undefined },
  options: Pick<TopicTriggersOptions, 'deadLetters'>,
): Pick<TopicTrigger, 'to' | 'deadLetters' | 'alias'> {
  const { deadLetters, alias } = trigger;
  return {
    ...defined({ alias }),
    to: defined({ output, onSuccess, onFailure }),
    deadLetters: deadLetters === DEFAULT_DEAD_LETTERS ? options.deadLetters : deadLetters,
  };
}

/** Below this many records a trigger keeps up. */
const SMALL_LAG = 1_000;
const WINDOW_MS = 5_000;

interface Running {
  /** What it was started as. */
  readonly identity: string;
  readonly trigger: TopicTrigger;
  readonly nth: number;
  readonly counts: DispatchCounts;
  readonly consumer: PartitionConsumer;
  readonly sink: Sink | undefined;
  marks: { readonly at: number; readonly lag: number }[];
}

/** Consumer groups that start functions, one for each function and trigger of a kind. */
export function topicTriggers(
  options: TopicTriggersOptions,
  triggersOf: (deployed: DeployedFunction) => readonly TopicTrigger[],
): TopicTriggers {
  const { clock = wallClock, onError } = options;
  const running = new Map<string, Running>();
  /** They outlive what is paused, deployed again, or has other partitions now. */
  const counts = new Map<string, { readonly name: string; readonly counts: DispatchCounts }>();
  const stopOne = async (groupId: string, { consumer, sink }: Running): Promise<void> => {
    running.delete(groupId);
    try {
      await consumer.stop();
      await sink?.close();
    } catch (error) {
      onError(error);
    }
  };
  return {
    async apply(functions) {
      const wanted = new Map<string, { readonly trigger: TopicTrigger; readonly nth: number }>();
      for (const deployed of functions) {
        for (const trigger of triggersOf(deployed)) {
          const kind = trigger.kind === 'queue' ? 'queue-' : '';
          const groupId = `${options.group}-${trigger.name}-${kind}${trigger.topic}`;
          // a second trigger of the same topic, with another filter say
          let own = groupId;
          let nth = 1;
          while (wanted.has(own)) own = `${groupId}-${++nth}`;
          wanted.set(own, { trigger, nth });
        }
      }
      await Promise.all(
        [...running].map(([groupId, one]) => {
          const trigger = wanted.get(groupId)?.trigger;
          if (trigger && JSON.stringify(trigger) === one.identity) return undefined;
          return stopOne(groupId, one);
        }),
      );
      const names = new Set(functions.map(({ name }) => name));
      for (const [groupId, { name }] of counts) if (!names.has(name)) counts.delete(groupId);
      for (const [groupId, { trigger, nth }] of wanted) {
        if (running.has(groupId)) continue;
        const known = counts.get(groupId) ?? { name: trigger.name, counts: noCounts() };
        counts.set(groupId, known);
        running.set(groupId, { ...start(options, clock, groupId, trigger, known.counts), nth });
      }
    },
    async stop() {
      await Promise.all([...running].map(([groupId, one]) => stopOne(groupId, one)));
    },
    status: () => [...running].map(([groupId, one]) => statusOf(groupId, one, clock.now())),
  };
}

function start(
  options: TopicTriggersOptions,
  clock: Clock,
  groupId: string,
  trigger: TopicTrigger,
  counts: DispatchCounts,
): Omit<Running, 'nth'> {
  const { connection, service, onError } = options;
  const kafka = kafkaClient(connection);
  const own = options.sink ? undefined : openSink(kafka);
  const sink = options.sink ?? own!;
  const shared = new Slots(trigger.parallel);
  const consumer = partitionConsumer(kafka, {
    groupId,
    topic: trigger.topic,
    from: trigger.from,
    onError,
    ...(options.sessionTimeoutMs === undefined ? {} : { sessionTimeoutMs: options.sessionTimeoutMs }),
    async open(partition, position, lost) {
      const slots = trigger.shared ? shared : new Slots(trigger.parallel);
      const common = { trigger, groupId, partition, slots, counts, service, sink, clock, onError };
      if (!trigger.exactlyOnce) return new TopicPartition({ ...common, start: await position() });
      const writer = transactionalWriter(kafka, `${groupId}-${partition}`);
      try {
        // first nobody else can move the group's offset, then it is asked for
        await writer.fence();
        return new TopicPartition({ ...common, start: await position(), transactions: { writer, position, lost } });
      } catch (error) {
        await writer.close();
        throw error;
      }
    },
  });
  return { identity: JSON.stringify(trigger), trigger, counts, consumer, sink: own, marks: [] };
}

function statusOf(groupId: string, one: Running, now: number): TopicTriggerStatus {
  const { trigger, nth, consumer } = one;
  const counts = { ...one.counts };
  let lag = 0;
  let oldestAgeMs = 0;
  let stalled = false;
  for (const { end, reader } of consumer.partitions.values()) {
    if (!(reader instanceof TopicPartition)) continue;
    const { dispatcher, stalledAt } = reader;
    lag += Math.max(0, end - (dispatcher.safeOffset ?? end));
    if (dispatcher.oldest !== undefined) oldestAgeMs = Math.max(oldestAgeMs, now - dispatcher.oldest);
    if (stalledAt !== undefined && now - stalledAt < 2 * streamTriggerLimits.maxStallMs) stalled = true;
  }
  const before = one.marks[0];
  one.marks.push({ at: now, lag });
  one.marks = one.marks.filter(({ at }) => at >= now - WINDOW_MS);
  let verdict: TriggerVerdict = before && lag < before.lag ? 'recovering' : 'behind';
  if (lag <= SMALL_LAG && oldestAgeMs <= streamTriggerLimits.behindMs) verdict = 'keeping up';
  if (stalled && lag > 0) verdict = 'stalled';
  const partitions = [...consumer.partitions.keys()].sort((a, b) => a - b);
  const { kind: type, name, topic: source } = trigger;
  return { type, function: name, source, nth, groupId, partitions, lag, oldestAgeMs, verdict, counts };
}
