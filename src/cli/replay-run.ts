import { setTimeout as delay } from 'node:timers/promises';
import { detect } from '../../pipelines/detect.js';
import { forecast } from '../../pipelines/forecast.js';
import { scale } from '../../pipelines/scale.js';
import { startBrokerThread } from '../broker/broker-thread.js';
import { encodeSamplesColumnar, type SampleRecord } from '../codec/encode.js';
import { readableValue } from '../codec/readable.js';
import { ensureTopics } from '../kafka/admin.js';
import { type ConnectionOptions, kafkaClient } from '../kafka/client.js';
import { sink as openSink } from '../kafka/sink.js';
import { stateTopic } from '../kafka/state-store.js';
import { tail } from '../kafka/tail.js';
import type { RunningPipeline } from '../operators/series-pipeline.js';
import type { AnomalyRecord, DecisionRecord, ForecastRecord } from '../records.js';
import type { ScalingPolicy } from '../scaling/policy.js';
import type { TraceSeries } from '../simulator/trace.js';
import { topicNames, topics } from './topics.js';

export interface ReplayRunOptions {
  readonly trace: readonly TraceSeries[];
  /** Times real time; infinity: as fast as it goes. */
  readonly speed: number;
  readonly model: string;
  readonly policies: readonly ScalingPolicy[];
  readonly onForecast: (record: ForecastRecord) => void;
  readonly onAnomaly: (record: AnomalyRecord) => void;
  readonly onDecision: (record: DecisionRecord) => void;
  /** Share of the work that is done, 0–1. */
  readonly onProgress: (share: number) => void;
}

/** Samples that travel in one message. */
const SAMPLES_PER_MESSAGE = 500;
/** Partitions of the topics: a replay runs in one process. */
const PARTITIONS = 2;
/** Nothing has moved for so long, ms: something is broken. */
const STALLED_MS = 60_000;
const FAR_MS = 86_400_000;

/**
 * The whole chain on a trace, through an embedded broker in memory. As fast as it goes, scaling follows when all forecasts are there, so
 * that it always knows those that had been made by a sample's time, however the pipelines race; at a given speed everything runs at the
 * same time, as it does live.
 */
export async function runReplay(options: ReplayRunOptions): Promise<void> {
  const { policies, model, speed, onProgress } = options;
  const total = options.trace.reduce((sum, { values }) => sum + values.length, 0);
  const broker = await startBrokerThread({ port: 0, dataDir: null, defaultPartitions: PARTITIONS });
  const connection: ConnectionOptions = { brokers: [`${broker.host}:${broker.port}`] };
  const stops: (() => Promise<void>)[] = [];
  let failure: unknown;
  const common = {
    connection,
    group: 'replay',
    input: topics.metrics,
    deadLetters: topics.deadLetters,
    // nothing is resumed here, so nothing has to be saved on the way
    checkpointEveryMs: FAR_MS,
    onError: (error: unknown) => {
      failure ??= error;
    },
  };
  const started = <T extends { stop(): Promise<void> }>(one: T): T => {
    stops.push(() => one.stop());
    return one;
  };
  const startScaling = async (awaitForecasts: number): Promise<RunningPipeline> =>
    started(
      await scale({ ...common, forecasts: topics.forecasts, output: topics.decisions, policies, awaitForecasts }),
    );
  try {
    await ensureTopics(connection, [
      ...topicNames.map((topic) => ({ topic, partitions: PARTITIONS })),
      ...['forecast', 'detect', 'scale'].map((name) => stateTopic(name, PARTITIONS)),
    ]);
    const events = collect(connection, options, common.onError);
    stops.push(events.stop);
    const [forecasting, detecting] = await Promise.all([
      forecast({ ...common, output: topics.forecasts, model }).then(started),
      detect({ ...common, output: topics.anomalies }).then(started),
    ]);
    const live = Number.isFinite(speed);
    const beside = policies.length > 0 && live ? [await startScaling(0)] : [];
    const shares = policies.length > 0 ? 3 : 2;
    const all = [forecasting, detecting, ...beside];
    const samplesOf = (pipelines: readonly RunningPipeline[], before: number): number => {
      if (failure !== undefined) throw failure;
      const samples = pipelines.reduce((sum, one) => sum + one.status().samples, 0);
      onProgress((before + samples) / (total * shares));
      return samples;
    };
    await Promise.all([
      feed(connection, options),
      reached(total * all.length, () => samplesOf(all, 0), live ? Number.POSITIVE_INFINITY : STALLED_MS),
    ]);
    const forecasts = forecasting.status().outputs;
    const running = [...all];
    if (policies.length > 0 && !live) {
      // of no use any more, and the machine may have few cores
      await Promise.all([forecasting.stop(), detecting.stop()]);
      stops.splice(stops.indexOf(events.stop) + 1);
      const scaling = await startScaling(forecasts);
      running.push(scaling);
      await reached(total, () => samplesOf([scaling], total * all.length));
    }
    const outputs = running.reduce((sum, one) => sum + one.status().outputs, 0);
    await reached(outputs, events.seen);
  } finally {
    await Promise.allSettled(stops.reverse().map((stop) => stop()));
    await broker.stop();
  }
}

/** Follows what the pipelines write, from the beginning. */
function collect(
  connection: ConnectionOptions,
  { onForecast, onAnomaly, onDecision }: ReplayRunOptions,
  onError: (error: unknown) => void,
): { seen(): number; stop(): Promise<void> } {
  const following = tail(kafkaClient(connection), [topics.forecasts, topics.anomalies, topics.decisions], 'earliest');
  let seen = 0;
  const subscription = following.messages.subscribe({
    next: ({ topic, message }) => {
      seen++;
      if (!message.value) return;
      const record = readableValue(message.value);
      if (topic === topics.forecasts) onForecast(record as ForecastRecord);
      else if (topic === topics.anomalies) onAnomaly(record as AnomalyRecord);
      else onDecision(record as DecisionRecord);
    },
    error: onError,
  });
  return {
    seen: () => seen,
    async stop() {
      subscription.unsubscribe();
      await following.closed();
    },
  };
}

/** Produces the samples of all series in order of time, paced unless the speed is infinite. */
async function feed(connection: ConnectionOptions, { trace, speed }: ReplayRunOptions): Promise<void> {
  const producer = openSink(kafkaClient(connection));
  await producer.connect();
  try {
    const next = trace.map(() => 0);
    const origin = Math.min(...trace.map(({ timestamps }) => timestamps[0] ?? Number.POSITIVE_INFINITY));
    const begun = performance.now();
    let waiting: { entity: string; sample: SampleRecord }[] = [];
    for (;;) {
      const earliest = earliestOf(trace, next);
      const ready = earliest && (earliest.timestamp - origin) / speed <= performance.now() - begun;
      if (waiting.length >= SAMPLES_PER_MESSAGE || !ready) {
        await write(producer, waiting);
        waiting = [];
      }
      if (!earliest) break;
      if (!ready) await delay(Math.min(100, begun + (earliest.timestamp - origin) / speed - performance.now()));
      else {
        next[earliest.index]!++;
        const { name, labels, entity } = trace[earliest.index]!.series;
        waiting.push({ entity, sample: { name, labels, timestamp: earliest.timestamp, value: earliest.value } });
      }
    }
  } finally {
    await producer.close();
  }
}

function earliestOf(
  trace: readonly TraceSeries[],
  next: readonly number[],
): { index: number; timestamp: number; value: number } | undefined {
  let index = -1;
  let timestamp = Number.POSITIVE_INFINITY;
  for (let i = 0; i < trace.length; i++) {
    const at = trace[i]!.timestamps[next[i]!];
    if (at !== undefined && at < timestamp) {
      index = i;
      timestamp = at;
    }
  }
  return index < 0 ? undefined : { index, timestamp, value: trace[index]!.values[next[index]!]! };
}

async function write(
  producer: ReturnType<typeof openSink>,
  waiting: readonly { entity: string; sample: SampleRecord }[],
): Promise<void> {
  const byEntity = new Map<string, SampleRecord[]>();
  for (const { entity, sample } of waiting) {
    const samples = byEntity.get(entity);
    if (samples) samples.push(sample);
    else byEntity.set(entity, [sample]);
  }
  await producer.write(
    topics.metrics,
    [...byEntity].map(([entity, samples]) => ({ key: entity, value: encodeSamplesColumnar(samples) })),
  );
}

/** Waits until `count` reaches `goal`; gives up when it stands still for `stalledMs`. */
async function reached(goal: number, count: () => number, stalledMs = STALLED_MS): Promise<void> {
  let last = -1;
  let moved = performance.now();
  for (;;) {
    const now = count();
    if (now >= goal) return;
    if (now !== last) moved = performance.now();
    else if (performance.now() - moved > stalledMs) throw new Error(`the replay stands still at ${now} of ${goal}`);
    last = now;
    await delay(50);
  }
}
