import { encodeSamplesJson } from '../codec/encode.js';
import type { KeptValue } from '../kafka/kept-value.js';
import type { Sink } from '../kafka/sink.js';
import { entityOf, type Labels } from '../records.js';
import { generatedSamples } from '../simulator/web-service.js';
import { collectHostSamples } from './host-metrics.js';

interface Sample {
  name: string;
  labels: Labels;
  timestamp: number;
  value: number;
}

/** Something that produces to the metrics topic until stopped. */
export interface Producing {
  stop(): Promise<void>;
}

/** Reads this machine's metrics every `everyMs` and produces them; a round that is still under way skips the next tick. */
export function produceHostMetrics(
  sink: Sink,
  topic: string,
  everyMs: number,
  onError: (error: unknown) => void,
): Producing {
  return repeat(everyMs, onError, async () => {
    await produce(sink, topic, await collectHostSamples());
  });
}

/** How much of the generated past is produced at once at the start, so that daily shapes are known when the clock begins to run. */
const GENERATED_HISTORY_MS = 3 * 86_400_000;
/** The generated clock starts this long before now; at 60x it reaches now after about ten hours, then runs at 1x. */
const GENERATED_LEAD_MS = 30 * 86_400_000;
const GENERATED_STEP_MS = 60_000;
const HISTORY_CHUNK = 240;

/**
 * Produces a generated web service's day at 60x speed: one sample of each of its metrics a generated minute, so one a second.
 * The first three generated days come at once, as history;
 * after a restart its clock goes on where it stood.
 */
export function produceGeneratedService(
  sink: Sink,
  topic: string,
  seed: number,
  kept: KeptValue,
  onError: (error: unknown) => void,
): Producing {
  const begin = Math.floor((Date.now() - GENERATED_LEAD_MS) / 86_400_000) * 86_400_000;
  const resumed = Number(kept.value?.toString());
  const goesOn = resumed > begin;
  let time = goesOn ? resumed : begin;
  const historyEnd = goesOn ? time : time + GENERATED_HISTORY_MS;
  const step = (): Sample[] => {
    const samples = generatedSamples(seed, time);
    time += GENERATED_STEP_MS;
    return samples;
  };
  return repeat(1000, onError, async () => {
    while (time < historyEnd) {
      const chunk: Sample[] = [];
      for (let i = 0; i < HISTORY_CHUNK && time < historyEnd; i++) chunk.push(...step());
      await produce(sink, topic, chunk);
    }
    if (time <= Date.now()) await produce(sink, topic, step());
    await kept.keep(String(time));
  });
}

/** One Kafka message per entity with all its samples as a JSON array, keyed by the entity. */
async function produce(sink: Sink, topic: string, samples: readonly Sample[]): Promise<void> {
  const byEntity = new Map<string, Sample[]>();
  for (const sample of samples) {
    const entity = entityOf(sample.name, sample.labels);
    const list = byEntity.get(entity);
    if (list) list.push(sample);
    else byEntity.set(entity, [sample]);
  }
  await sink.write(
    topic,
    [...byEntity].map(([entity, list]) => ({ key: entity, value: encodeSamplesJson(list) })),
  );
}

/** Runs `round` now and every `everyMs`, never twice at a time; `stop` waits for the one under way. */
function repeat(everyMs: number, onError: (error: unknown) => void, round: () => Promise<void>): Producing {
  let underWay: Promise<void> | undefined;
  const tick = (): void => {
    underWay ??= round()
      .catch(onError)
      .finally(() => {
        underWay = undefined;
      });
  };
  tick();
  const timer = setInterval(tick, everyMs);
  return {
    async stop() {
      clearInterval(timer);
      await underWay;
    },
  };
}
