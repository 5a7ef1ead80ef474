import { wallClock } from '../src/clock.js';
import { encodeAnomaly } from '../src/codec/encode.js';
import type { Rule } from '../src/detectors/rule.js';
import { SeriesWatch } from '../src/detectors/series-watch.js';
import { acknowledge } from '../src/operators/acknowledge.js';
import { everyState } from '../src/operators/every-state.js';
import { learnBySeries } from '../src/operators/learn-by-series.js';
import { type RunningPipeline, type SeriesPipelineOptions, seriesPipeline } from '../src/operators/series-pipeline.js';
import { write } from '../src/operators/write.js';
import type { AnomalyRecord } from '../src/records.js';

export interface DetectOptions extends SeriesPipelineOptions {
  readonly output: string;
  readonly deadLetters: string;
  /** Names of detectors. Default z-score, mad, moving-average. */
  readonly methods?: readonly string[];
  readonly rules?: readonly Rule[];
}

/** How often it is looked for series that have stopped, ms. */
const SILENCE_EVERY_MS = 5_000;

/** Metrics in, anomalies out: every series judges each sample by what came before it, by the user's rules, and tells when it stops coming. */
export async function detect(options: DetectOptions): Promise<RunningPipeline> {
  const { methods, rules = [], output, clock = wallClock } = options;
  const recordOf = (anomaly: AnomalyRecord) => ({ key: anomaly.entity, value: encodeAnomaly(anomaly) });

  return seriesPipeline(
    'detect',
    options,
    (series) => new SeriesWatch(series, { rules, ...(methods ? { methods } : {}) }),
    ({ batches, table, states, sink }) =>
      batches.pipe(
        learnBySeries(table, states, output, (one: SeriesWatch, _series, timestamp, value, emit) =>
          one.observe(timestamp, value, clock.now(), (anomaly) => emit(recordOf(anomaly))),
        ),
        write(sink, options.deadLetters),
        acknowledge(),
      ),
    everyState(SILENCE_EVERY_MS, output, (one: SeriesWatch) => {
      const missing = one.checkSilence(clock.now());
      return missing && recordOf(missing);
    }),
  );
}
