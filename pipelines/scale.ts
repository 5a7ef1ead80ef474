import { lastValueFrom, share, take } from 'rxjs';
import { decodeForecast } from '../src/codec/decode.js';
import { encodeDecision } from '../src/codec/encode.js';
import { kafkaClient } from '../src/kafka/client.js';
import { tail } from '../src/kafka/tail.js';
import { acknowledge } from '../src/operators/acknowledge.js';
import { learnBySeries } from '../src/operators/learn-by-series.js';
import { type RunningPipeline, type SeriesPipelineOptions, seriesPipeline } from '../src/operators/series-pipeline.js';
import { write } from '../src/operators/write.js';
import { PlannerSet, type SeriesPlanners } from '../src/scaling/planner-set.js';
import type { ScalingPolicy } from '../src/scaling/policy.js';

export interface ScaleOptions extends SeriesPipelineOptions {
  readonly forecasts: string;
  readonly output: string;
  readonly deadLetters: string;
  readonly policies: readonly ScalingPolicy[];
  /**
   * Called at every evaluation, in the process that has the policy's series, with the instances wanted now: it brings them about. What fails is so tried again at the next
   * evaluation, and of several processes in a group one acts. Default: decisions are only written.
   */
  readonly act?: (policy: ScalingPolicy, instances: number) => void;
  /**
   * Wait until so many forecasts, from the oldest on, are there before the first sample is judged: for a replay. Default: those that come
   * from now on.
   */
  readonly awaitForecasts?: number;
}

/**
 * Metrics and forecasts in, decisions out. The metric drives: each sample is an evaluation of the policies that watch its series. Forecasts
 * are read by every process on the side, since they only raise a floor and the next one is never far.
 */
export async function scale(options: ScaleOptions): Promise<RunningPipeline> {
  const planners = new PlannerSet(options.policies);
  const { awaitForecasts = 0, act } = options;
  const forecasts = tail(
    kafkaClient(options.connection),
    [options.forecasts],
    awaitForecasts > 0 ? 'earliest' : 'latest',
  );
  const messages = forecasts.messages.pipe(share());
  const following = messages.subscribe({
    next: ({ message }) => {
      try {
        if (message.value) planners.forecast(decodeForecast(message.value));
      } catch (error) {
        // anybody may write to the topic
        options.onError?.(error);
      }
    },
    error: (error) => options.onError?.(error),
  });
  if (awaitForecasts > 0) await lastValueFrom(messages.pipe(take(awaitForecasts)));

  const pipeline = await seriesPipeline(
    'scale',
    options,
    (series) => planners.forSeries(series),
    ({ batches, table, states, sink }) =>
      batches.pipe(
        learnBySeries(table, states, options.output, (one: SeriesPlanners, series, timestamp, value, emit, replay) => {
          for (const decision of one.decide(timestamp, value))
            emit({ key: series.entity, value: encodeDecision(decision) });
          if (!replay) for (const { policy, instances } of one.wanted) act?.(policy, instances);
        }),
        write(sink, options.deadLetters),
        acknowledge(),
      ),
  );
  return {
    ...pipeline,
    async stop() {
      following.unsubscribe();
      await Promise.all([pipeline.stop(), forecasts.closed()]);
    },
  };
}
