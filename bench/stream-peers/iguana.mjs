/**
 * One stream-processing job for comparison with other programs: per series additive Holt-Winters (season 24) and a z-score over the last 60
 * values; forecasts at every 60th sample, anomalies where |z| > 4. Written with Iguana's own source, state, sink and operators, so that the
 * state of every series survives a restart. Environment: BOOTSTRAP, GROUP, IN_TOPIC, OUT_FORECASTS, OUT_ANOMALIES, CHECKPOINT_MS (default
 * 5,000). Runs until SIGTERM.
 */
import { ensureTopics } from '../../dist/src/kafka/admin.js';
import { stateTopic } from '../../dist/src/kafka/state-store.js';
import { acknowledge } from '../../dist/src/operators/acknowledge.js';
import { learnBySeries } from '../../dist/src/operators/learn-by-series.js';
import { seriesPipeline } from '../../dist/src/operators/series-pipeline.js';
import { write } from '../../dist/src/operators/write.js';

const { BOOTSTRAP, GROUP, IN_TOPIC, OUT_FORECASTS, OUT_ANOMALIES } = process.env;
const connection = { brokers: BOOTSTRAP.split(',') };
const A = 0.3;
const B = 0.05;
const G = 0.1;
const SEASON = 24;
const WINDOW = 60;

/** Additive Holt-Winters and a rolling z-score of one series. */
class Job {
  n = 0;
  level = 0;
  trend = 0;
  sum = 0;
  squares = 0;
  forecast = 0;
  z = 0;
  season = new Float64Array(SEASON);
  window = new Float64Array(WINDOW);

  /** Sets `forecast` (of y, made before it) and `z`; true when a forecast of the next sample is due. */
  learn(y) {
    const i = this.n % SEASON;
    const w = this.n % WINDOW;
    const s = this.season[i];
    if (this.n === 0) this.level = y;
    this.forecast = this.level + this.trend + s;
    this.z = 0;
    if (this.n >= WINDOW) {
      const mean = this.sum / WINDOW;
      const variance = this.squares / WINDOW - mean * mean;
      if (variance > 1e-12) this.z = (y - mean) / Math.sqrt(variance);
    }
    const level = A * (y - s) + (1 - A) * (this.level + this.trend);
    this.trend = B * (level - this.level) + (1 - B) * this.trend;
    this.level = level;
    this.season[i] = G * (y - level) + (1 - G) * s;
    const old = this.window[w];
    this.window[w] = y;
    this.sum += y - old;
    this.squares += y * y - old * old;
    return ++this.n % WINDOW === 0;
  }

  next() {
    return this.level + this.trend + this.season[this.n % SEASON];
  }

  save(writer) {
    writer.u32(this.n).f64(this.level).f64(this.trend).f64(this.sum).f64(this.squares).f64s(this.season);
    writer.f64s(this.window);
  }

  restore(reader) {
    this.n = reader.u32();
    this.level = reader.f64();
    this.trend = reader.f64();
    this.sum = reader.f64();
    this.squares = reader.f64();
    this.season = reader.f64s();
    this.window = reader.f64s();
  }
}

const cut = GROUP.lastIndexOf('-');
const name = GROUP.slice(cut + 1);
await ensureTopics(connection, [stateTopic(name, 4)]);
const options = {
  connection,
  group: GROUP.slice(0, cut),
  input: IN_TOPIC,
  checkpointEveryMs: Number(process.env.CHECKPOINT_MS ?? 5_000),
  onError: (error) => console.error(error),
};
const pipeline = await seriesPipeline(
  name,
  options,
  () => new Job(),
  ({ batches, table, states, sink }) =>
    batches.pipe(
      learnBySeries(table, states, OUT_FORECASTS, (job, series, timestamp, value, emit) => {
        const due = job.learn(value);
        if (!due && Math.abs(job.z) <= 4) return;
        const { name, labels } = series;
        const head = { name, labels, timestamp };
        const { forecast, z } = job;
        if (Math.abs(z) > 4)
          emit({ key: labels.instance, value: JSON.stringify({ ...head, value, forecast, z }) }, OUT_ANOMALIES);
        if (due) emit({ key: labels.instance, value: JSON.stringify({ ...head, horizon: 1, forecast: job.next() }) });
      }),
      write(sink, `${IN_TOPIC}-dead-letters`),
      acknowledge(),
    ),
);
process.once('SIGTERM', async () => {
  await pipeline.stop();
  process.exit(0);
});
