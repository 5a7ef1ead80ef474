import { encodeForecast } from '../src/codec/encode.js';
import type { SharedNetwork } from '../src/models/neural/shared-network.js';
import { SeriesForecaster } from '../src/models/series-forecaster.js';
import { acknowledge } from '../src/operators/acknowledge.js';
import { learnBySeries } from '../src/operators/learn-by-series.js';
import { type RunningPipeline, type SeriesPipelineOptions, seriesPipeline } from '../src/operators/series-pipeline.js';
import { write } from '../src/operators/write.js';
import { type ForecastRecord, hash64, type Series } from '../src/records.js';

export interface ForecastOptions extends SeriesPipelineOptions {
  readonly output: string;
  readonly deadLetters: string;
  /** Name of a model. Default `ensemble`. */
  readonly model?: string;
  /** The network over all series, for the neural member of the ensemble. Default: none. */
  readonly shared?: SharedNetwork;
  /** Horizons in steps of the series. Default 1, 5, 15, 60. */
  readonly horizons?: readonly number[];
  /** Levels of the bounds, per cent. Default 80, 95. */
  readonly levels?: readonly number[];
  /** A forecast after every so many steps. Default 5. */
  readonly everySteps?: number;
}

/** Metrics in, forecasts out: every series learns its samples; after every few steps it says what comes, with bounds and confidence. */
export function forecast(options: ForecastOptions): Promise<RunningPipeline> {
  const { horizons = [1, 5, 15, 60], levels = [80, 95], everySteps = 5, model = 'ensemble', shared } = options;
  const create = (): SeriesForecaster => new SeriesForecaster({ model, ...(shared ? { shared } : {}) });

  return seriesPipeline('forecast', options, create, ({ batches, table, states, sink }) =>
    batches.pipe(
      learnBySeries(table, states, options.output, (one: SeriesForecaster, series, timestamp, value, emit) => {
        const ended = one.learn(timestamp, value);
        if (!ended || !one.ready || one.steps % everySteps !== 0) return;
        const record = recordOf(one, series, model, horizons, levels);
        emit({ key: series.entity, value: encodeForecast(record) });
      }),
      write(sink, options.deadLetters),
      acknowledge(),
    ),
  );
}

function recordOf(
  one: SeriesForecaster,
  series: Series,
  model: string,
  horizons: readonly number[],
  levels: readonly number[],
): ForecastRecord {
  const points = one.forecast(horizons, levels);
  const first = points[0]!;
  const madeAt = first.timestamp - first.horizonMs + one.stepMs;
  const { id, name, labels, entity } = series;
  return { id: hash64(`${id}/${madeAt}`), series: id, name, labels, entity, model, madeAt, stepMs: one.stepMs, points };
}
