// Does `iguana detect` find the labelled events of the Numenta Anomaly Benchmark, and how often does it alert without one? Label-free: one setting for all files.
// Usage: node bench/detect-nab.mjs [DATA_FOLDER] (default ../shared/data); writes bench/results/detect-nab.md
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const folder = path.join(process.argv[2] ?? '../shared/data', 'nab');
const labels = path.join(folder, 'labels', 'combined_windows.json');
if (!existsSync(labels)) {
  console.error(`missing: ${labels}`);
  process.exit(1);
}
const windows = JSON.parse(readFileSync(labels, 'utf8'));
const time = (text) => Date.parse(`${text.slice(0, 19).replace(' ', 'T')}Z`);
const scratch = mkdtempSync(path.join(os.tmpdir(), 'iguana-nab-'));
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
    const at = lines.filter((cells) => cells[7] === '1').map((cells) => Date.parse(cells[1]));
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
  'The NAB score itself is not computed here.',
  '',
].join('\n');
console.log(text);
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/detect-nab.md', text);
