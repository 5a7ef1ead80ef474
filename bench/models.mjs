// What does one step of each model and one value of each detector cost? Usage: node bench/models.mjs; writes bench/results/models.md
import { mkdirSync, writeFileSync } from 'node:fs';
import { Bench } from 'tinybench';
import { createDetector, detectorNames } from '../dist/src/detectors/registry.js';
import { SeriesDetector } from '../dist/src/detectors/series-detector.js';
import { createForecaster, modelNames } from '../dist/src/models/registry.js';
import { SeriesForecaster } from '../dist/src/models/series-forecaster.js';
import { makeSeries } from '../dist/src/records.js';
import { StateWriter } from '../dist/src/state.js';

const STEP_MS = 60_000;
const WARM_UP = 3_000;
const value = (i) => 100 + 30 * Math.sin((2 * Math.PI * i) / 24) + ((i * 7919) % 13);

/** A learner that has learnt for a while, and a task that lets it learn on. */
function task(learn) {
  let i = 0;
  for (; i < WARM_UP; i++) learn(i, value(i));
  return () => {
    learn(i, value(i));
    i++;
  };
}

const saved = (one) => {
  const writer = new StateWriter();
  one.save(writer);
  return writer.finish().length;
};

const sizes = new Map();
const bench = new Bench({ time: 300 });
for (const name of modelNames) {
  const one = createForecaster(name, { seasons: [24] });
  bench.add(
    `${name}: learn`,
    task((_, v) => one.learn(v)),
  );
  sizes.set(`${name}: learn`, saved(one));
}
const series = new SeriesForecaster({ stepMs: STEP_MS, seasonsMs: [24 * STEP_MS] });
bench.add(
  'a series with ensemble, bounds and scores: learn',
  task((i, v) => series.learn(i * STEP_MS, v)),
);
sizes.set('a series with ensemble, bounds and scores: learn', saved(series));
bench.add('a series: forecast of 4 horizons, 2 levels', () => series.forecast([1, 5, 15, 60], [80, 95]));
for (const name of detectorNames) {
  const one = createDetector(name);
  bench.add(
    `${name}: score and learn`,
    task((_, v) => {
      one.score(v);
      one.learn(v);
    }),
  );
  sizes.set(`${name}: score and learn`, saved(one));
}
const detector = new SeriesDetector(makeSeries('requests', {}));
bench.add(
  'a series with the default detectors, calibrated: observe',
  task((i, v) => detector.observe(i * STEP_MS, v)),
);
sizes.set('a series with the default detectors, calibrated: observe', saved(detector));
await bench.run();

const rows = bench.tasks.map(({ name, result }) => {
  const micro = result.latency.p50 * 1000;
  return `| ${name} | ${micro.toFixed(2)} | ${sizes.get(name) ?? ''} |`;
});
const text = `# Cost of models and detectors\n\n\`node bench/models.mjs\`, season 24, Node ${process.versions.node}; median of a single call, clock included (about 0.1 µs).\n\n| what | µs | saved bytes |\n| --- | ---: | ---: |\n${rows.join('\n')}\n`;
console.log(text);
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/models.md', text);
