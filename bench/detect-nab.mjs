// Does `iguana detect` find the labelled events of the Numenta Anomaly Benchmark, and how often does it alert without one? Label-free: one setting for all files.
// Usage: node bench/detect-nab.mjs [DATA_FOLDER] (default ../shared/data); writes bench/results/detect-nab.md
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { nabScore, probationOf, profiles } from './support/nab-score.mjs';

const folder = path.join(process.argv[2] ?? '../shared/data', 'nab');
const labels = path.join(folder, 'labels', 'combined_windows.json');
if (!existsSync(labels)) {
  console.error(`missing: ${labels}`);
  process.exit(1);
}
const published = JSON.parse(readFileSync(path.join(folder, 'results', 'final_results.json'), 'utf8'));
const windows = JSON.parse(readFileSync(labels, 'utf8'));
const time = (text) => Date.parse(`${text.slice(0, 19).replace(' ', 'T')}Z`);
const scratch = mkdtempSync(path.join(os.tmpdir(), 'iguana-nab-'));
/** Windows of a file as first and last row. */
const rowsOf = (name, times) =>
  (windows[name] ?? []).map(([from, to]) => [
    times.findIndex((t) => t >= time(from)),
    times.findLastIndex((t) => t <= time(to)),
  ]);

const proof = [];
proveScorer();
const files = [];
let events = 0;
let found = 0;
let alerts = 0;
let hits = 0;
let rows = 0;
let days = 0;
const started = performance.now();
for (const group of readdirSync(path.join(folder, 'data'), { withFileTypes: true })) {
  if (!group.isDirectory()) continue;
  for (const file of readdirSync(path.join(folder, 'data', group.name))) {
    const output = path.join(scratch, file);
    const run = spawnSync(
      process.execPath,
      ['dist/src/cli/main.js', 'detect', '--input', path.join(folder, 'data', group.name, file), '--output', output],
      { encoding: 'utf8' },
    );
    if (run.status !== 0) {
      console.error(run.stderr);
      process.exit(1);
    }
    const lines = readFileSync(output, 'utf8')
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(','));
    const wanted = (windows[`${group.name}/${file}`] ?? []).map(([from, to]) => [time(from), time(to)]);
    const probation = probationOf(lines.length);
    const at = lines.filter((cells, i) => i >= probation && cells[7] === '1').map((cells) => Date.parse(cells[1]));
    const times = lines.map((cells) => Date.parse(cells[1]));
    const name = `${group.name}/${file}`;
    files.push({
      scores: lines.map((cells) => Number(cells[6])),
      alerts: lines.map((cells) => Number(cells[7])),
      windows: rowsOf(name, times),
    });
    events += wanted.length;
    found += wanted.filter(([from, to]) => at.some((t) => t >= from && t <= to)).length;
    alerts += at.length;
    hits += at.filter((t) => wanted.some(([from, to]) => t >= from && t <= to)).length;
    rows += lines.length;
    days += (Date.parse(lines.at(-1)[1]) - Date.parse(lines[0][1])) / 86_400_000;
  }
}
rmSync(scratch, { recursive: true });
const seconds = (performance.now() - started) / 1000;
const text = [
  '# Anomaly detection on NAB',
  '',
  `\`node bench/detect-nab.mjs\`, 58 files through \`iguana detect\` with its defaults (z-score, mad, moving-average; one setting, no labels used), Node ${process.versions.node}`,
  '',
  '| figure | value |',
  '|---|---|',
  `| rows | ${rows} |`,
  `| labelled events found | ${found} of ${events} (${((100 * found) / events).toFixed(1)} %) |`,
  `| alerts | ${alerts} |`,
  `| alerts within a labelled window | ${hits} (${((100 * hits) / alerts).toFixed(1)} %) |`,
  `| alerts outside of windows, per series-day | ${((alerts - hits) / days).toFixed(2)} |`,
  `| wall time, 58 processes one after the other | ${seconds.toFixed(1)} s |`,
  '',
  '| NAB score | alerts as given | best threshold of the score column |',
  '|---|---|---|',
  ...Object.keys(profiles).map((profile) => {
    const own = nabScore(
      files.map(({ alerts, windows }) => ({ scores: alerts, windows })),
      profile,
      1,
    );
    const swept = nabScore(files, profile);
    return `| ${profile} | ${own.score.toFixed(1)} | ${swept.score.toFixed(1)} (${swept.hits} windows, ${swept.falseRows} false rows) |`;
  }),
  '',
  ...proof,
  '',
].join('\n');
console.log(text);
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/detect-nab.md', text);

/** The scorer must give the published scores from the published raw scores before it is used. */
function proveScorer() {
  const archive = path.join(folder, 'raw-scores-of-two-detectors.tar.gz');
  if (!existsSync(archive)) {
    proof.push('The scorer was not proved: the published raw scores are missing.');
    return;
  }
  const unpacked = mkdtempSync(path.join(os.tmpdir(), 'iguana-nab-raw-'));
  const run = spawnSync('tar', ['xzf', archive, '-C', unpacked], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr);
  for (const detector of ['windowedGaussian', 'numenta']) {
    const raw = [];
    for (const group of readdirSync(path.join(unpacked, detector), { withFileTypes: true })) {
      if (!group.isDirectory()) continue;
      for (const file of readdirSync(path.join(unpacked, detector, group.name))) {
        const lines = readFileSync(path.join(unpacked, detector, group.name, file), 'utf8')
          .trim()
          .split('\n')
          .slice(1)
          .map((line) => line.split(','));
        const name = `${group.name}/${file.slice(detector.length + 1)}`;
        raw.push({
          scores: lines.map((cells) => Number(cells[2])),
          windows: rowsOf(
            name,
            lines.map((cells) => time(cells[0])),
          ),
        });
      }
    }
    const { score } = nabScore(raw, 'standard');
    const wanted = published[detector].standard;
    if (Math.abs(score - wanted) > 0.02)
      throw new Error(`the scorer gives ${detector} ${score}, published is ${wanted}`);
    proof.push(
      `Scorer: ${detector} comes out at ${score.toFixed(2)} from its published raw scores, published is ${wanted.toFixed(2)}.`,
    );
  }
  rmSync(unpacked, { recursive: true });
}
