import { encodeAnomaly } from '../src/codec/encode.js';
import { SeriesDetector } from '../src/detectors/series-detector.js';
import { acknowledge } from '../src/operators/acknowledge.js';
import { learnBySeries } from '../src/operators/learn-by-series.js';
import { type RunningPipeline, type SeriesPipelineOptions, seriesPipeline } from '../src/operators/series-pipeline.js';
import { write } from '../src/operators/write.js';

export interface DetectOptions extends SeriesPipelineOptions {
  readonly output: string;
  readonly deadLetters: string;
  /** Names of detectors. Default z-score, mad, moving-average. */
  readonly methods?: readonly string[];
}

/** Metrics in, anomalies out: every series judges each sample by what came before it and tells of episodes as they open, worsen and end. */
export function detect(options: DetectOptions): Promise<RunningPipeline> {
  const { methods } = options;

  return seriesPipeline(
    'detect',
    options,
    (series) => new SeriesDetector(series, methods ? { methods } : {}),
    ({ batches, table, states, sink }) =>
      batches.pipe(
        learnBySeries(table, states, options.output, (one: SeriesDetector, series, timestamp, value, emit) => {
          // late and repeated samples say nothing about now
          if (timestamp <= one.newest) return;
          const { event } = one.observe(timestamp, value);
          if (event) emit({ key: series.entity, value: encodeAnomaly(event) });
        }),
        write(sink, options.deadLetters),
        acknowledge(),
      ),
  );
}
