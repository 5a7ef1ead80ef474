import { assembled, type Stops } from '../src/assembled.js';
import { type Clock, wallClock } from '../src/clock.js';
import { defined } from '../src/defined.js';
import { IguanaError } from '../src/errors.js';
import { GpuDiscovery } from '../src/gpu/discovery.js';
import { type CommandedService, commandedService, GpuAnswers } from '../src/gpu/gpu-answers.js';
import type { GpuService } from '../src/gpu/gpu-service.js';
import type { GpuChange, GpuInventory } from '../src/gpu/inventory.js';
import type { PreallocationRule } from '../src/gpu/preallocation.js';
import { PreallocationPolicy } from '../src/gpu/preallocation.js';
import { ToolRunner } from '../src/gpu/tools/run-tool.js';
import { ensureTopics } from '../src/kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../src/kafka/client.js';
import { type PartitionConsumer, partitionConsumer } from '../src/kafka/partition-consumer.js';
import { sink as openSink } from '../src/kafka/sink.js';
import { transactionalWriter } from '../src/kafka/transactional-writer.js';
import { gpuSchedulerLimits } from '../src/limits.js';
import { type GpuAgent, gpuAgent } from '../src/operators/gpu-agent.js';
import { gpuDemand } from '../src/operators/gpu-demand.js';
import { encodeGpuCommand } from '../src/operators/gpu-records.js';
import { type GpuRules, gpuReplica } from '../src/operators/gpu-replica.js';
import { GpuSchedulerPartition } from '../src/operators/gpu-scheduler-partition.js';

export interface ScheduleGpusOptions {
  readonly connection: ConnectionOptions;
  /** Consumer group prefix: of the processes with the same one, one decides. */
  readonly group: string;
  readonly metrics: string;
  readonly forecasts: string;
  readonly deadLetters: string;
  /** Topics of one partition: `gpu-inventory`, `gpu-requests`, `gpu-allocations` by default. */
  readonly topics?: { readonly inventory: string; readonly requests: string; readonly allocations: string };
  /** The same for all processes of the group. */
  readonly rules?: GpuRules;
  readonly preallocate?: readonly PreallocationRule[];
  /** This machine's GPUs, told of under its name; without it none are. */
  readonly agent?: {
    readonly node: string;
    /** Between two looks, ms. */
    readonly everyMs?: number;
    /** Default the tools of this machine. */
    readonly discovery?: Pick<GpuDiscovery, 'look' | 'inventory'>;
    readonly onChange?: (change: GpuChange) => void;
  };
  /** Whether this process may become the one that decides (default true); else it asks and knows. */
  readonly decide?: boolean;
  /** A process silent for so long is decided for no more, ms (default 15,000). */
  readonly sessionTimeoutMs?: number;
  readonly clock?: Clock;
  readonly onError?: (error: unknown) => void;
}

export interface ScheduledGpus extends GpuService {
  /** The newest look at this machine's own GPUs; undefined before the first one. */
  inventory(): GpuInventory | undefined;
  /** Resolves when the first look has been taken. */
  looked(): Promise<void>;
}

const defaultTopics = { inventory: 'gpu-inventory', requests: 'gpu-requests', allocations: 'gpu-allocations' };

/** Agents tell of GPUs, requests and forecasts come in, one scheduler of the group decides, and all know what it decided. */
export async function scheduleGpus(options: ScheduleGpusOptions): Promise<ScheduledGpus> {
  return assembled((stops, stop) => assemble(options, stops, stop));
}

async function assemble(options: ScheduleGpusOptions, stops: Stops, stop: () => Promise<void>): Promise<ScheduledGpus> {
  const { connection, group, metrics, forecasts, deadLetters, rules = {}, preallocate = [] } = options;
  const { topics = defaultTopics, clock = wallClock, decide = true, sessionTimeoutMs } = options;
  const { onError = () => undefined } = options;
  // costs that cannot be are told here, not by each process that begins to decide
  for (const costs of preallocate) new PreallocationPolicy(costs);
  await makeTopics(connection, topics);
  const kafka = kafkaClient(connection);
  const sink = openSink(kafka);
  stops.push(() => sink.close());
  await sink.connect();

  // what there is, and who has it
  let acting: GpuSchedulerPartition | undefined;
  const isActing = (): boolean => acting !== undefined;
  const replica = await gpuReplica({
    ...{ connection, ...topics, rules, clock, onError },
    onForgotten(node) {
      if (acting) sink.write(topics.inventory, [{ key: node, value: null, partition: 0 }]).catch(onError);
    },
  });
  stops.push(replica.stop);
  const answers = new GpuAnswers();
  replica.onEvent((event) => answers.take(event));

  // who decides
  const common = { connection, sink, metrics, forecasts, clock, onError };
  const demand = preallocate.length > 0 ? gpuDemand({ ...common, pairs: preallocate, acting: isActing }) : undefined;
  stops.push(() => demand?.stop());
  if (demand) replica.onEvent(demand.observe);
  const groupId = `${group}-gpu-scheduler`;
  const deciding = (): PartitionConsumer =>
    partitionConsumer(kafka, {
      ...{ groupId, topic: topics.requests, from: 'earliest', onError },
      ...defined({ sessionTimeoutMs }),
      async open(_partition, position, lost) {
        const writer = transactionalWriter(kafka, groupId);
        try {
          // it may have been deleted meanwhile
          await makeTopics(connection, topics);
          await writer.fence();
          const start = await position();
          await replica.settled();
          const opened = new GpuSchedulerPartition({
            ...{ groupId, ...topics, deadLetters, writer, start, replica, rules, preallocate, clock, onError },
            end: () => consumer?.partitions.get(0)?.end ?? 0,
            forecast: demand?.forecast ?? (() => undefined),
            lost,
            ended: () => {
              if (acting === opened) acting = undefined;
            },
          });
          acting = opened;
          return opened;
        } catch (error) {
          await writer.close();
          throw error;
        }
      },
    });
  const consumer = decide ? deciding() : undefined;
  stops.push(() => consumer?.stop());

  // this machine's own
  const { agent } = options;
  let own: GpuAgent | undefined;
  if (agent) {
    const { discovery = new GpuDiscovery(new ToolRunner().run, clock), ...rest } = agent;
    own = gpuAgent({ ...rest, discovery, sink, inventory: topics.inventory, metrics, clock, onError });
    stops.push(own.stop);
  }

  const ask = askOver({ answers, clock, write: (value, key) => sink.write(topics.requests, [{ key, value }]) });
  stops.push(() => answers.end());
  const service = commandedService({
    ...{ view: replica.view, ask, stop },
    role: () => (acting ? 'acting' : 'standing-by'),
    preallocation: () => acting?.preallocation ?? [],
  });
  return Object.assign(service, {
    inventory: () => own?.latest,
    looked: async () => own?.looked,
  });
}

/** The order of requests is what decides, so each of these topics has one partition. */
async function makeTopics(
  connection: ConnectionOptions,
  { inventory, requests, allocations }: typeof defaultTopics,
): Promise<void> {
  // a segment that is still written to is not compacted, and all of it is read when a process begins
  const configs = { 'cleanup.policy': 'compact', 'segment.bytes': String(gpuSchedulerLimits.segmentBytes) };
  const found = await ensureTopics(connection, [
    { topic: inventory, partitions: 1, configs },
    { topic: requests, partitions: 1 },
    { topic: allocations, partitions: 1, configs },
  ]);
  for (const topic of [inventory, requests, allocations]) {
    const partitions = found.get(topic) ?? 1;
    if (partitions !== 1) throw new IguanaError('IGU_GPU_TOPIC', { topic, partitions });
  }
}

interface Asking {
  readonly answers: GpuAnswers;
  readonly clock: Clock;
  readonly write: (value: Buffer, key: string) => Promise<void>;
}

/** Puts requests on the topic and waits for their answers. */
function askOver({ answers, clock, write }: Asking): CommandedService['ask'] {
  const unanswered = (what: string, cause?: unknown) => new IguanaError('IGU_GPU_SCHEDULER', { what }, { cause });
  return (command, waitMs) =>
    new Promise((resolve, reject) => {
      const patience = waitMs + gpuSchedulerLimits.answerMs;
      const end = (settle: () => void): void => {
        cancel();
        answers.forget(command.id);
        settle();
      };
      const fail = (error: unknown): void => end(() => reject(error));
      const cancel = clock.after(patience, () => fail(unanswered(`no answer came within ${patience / 1000} s`)));
      answers.expect(command.id, (events) => end(() => resolve(events)), fail);
      write(encodeGpuCommand(command), command.id).catch((cause: unknown) =>
        fail(unanswered('the request could not be written', cause)),
      );
    });
}
