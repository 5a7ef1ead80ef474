// How good are forecasts and scaling on two public traces of web traffic, played through the whole chain, beside naive forecasts and a plain autoscaler?
// Usage: node bench/replay-traffic.mjs [DATA_FOLDER] (default ../shared/data); writes bench/results/replay-traffic.md
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const folder = path.join(process.argv[2] ?? '../shared/data', 'traffic');
const traces = [
  { title: 'NASA-HTTP 1995, requests a second, means of minutes', file: 'nasa-1995-requests-per-second.txt.gz' },
  { title: 'World Cup 1998, requests a minute', file: 'worldcup98-requests-per-minute.csv.gz' },
];
const startups = ['60s', '180s'];
const missing = traces.map(({ file }) => path.join(folder, file)).filter((file) => !existsSync(file));
if (missing.length > 0) {
  console.error(`missing: ${missing.join(', ')}`);
  process.exit(1);
}

const text = [
  '# Replay of web traffic',
  '',
  `\`node bench/replay-traffic.mjs\`, each trace through \`iguana replay\` (embedded broker, pipelines forecast, detect and scale, model \`ensemble\`), Node ${process.versions.node}, ${os.cpus().length} cores of ${os.cpus()[0]?.model.trim()}`,
  '',
];
for (const { title, file } of traces) {
  const reports = startups.map((startup) => replay(path.join(folder, file), startup));
  const { samples, judgedFrom, to, forecasts, alerts, stepMs, seconds } = reports[0];
  text.push(
    `## ${title}`,
    '',
    `${samples} samples; judged from ${judgedFrom.slice(0, 10)} to ${to.slice(0, 10)}; ${seconds.toFixed(1)} s from reading the file to the table. ${alerts.opened} alerts, ${alerts.perSeriesDay.toFixed(2)} a day, ${alerts.critical} of them critical.`,
    '',
    '| ahead | forecasts | mean absolute error | a day before | newest value | in 80 % bounds | in 95 % bounds |',
    '|---|---|---|---|---|---|---|',
    ...forecasts.map(
      (f) =>
        `| ${(f.horizonSteps * stepMs) / 60_000} min | ${f.forecasts} | ${short(f.error)} | ${short(f.seasonalNaiveError)} | ${short(f.naiveError)} | ${percent(f.coverage[80], 1)} | ${percent(f.coverage[95], 1)} |`,
    ),
    '',
  );
  for (const { scaling } of reports) {
    text.push(
      `Start-up ${scaling.startupSeconds} s; an instance carries ${short(scaling.capacity)} and is planned for ${short(scaling.target)}:`,
      '',
      '| policy | unserved work | time short | mean instances | actions |',
      '|---|---|---|---|---|',
      ...scaling.outcomes.map(
        ({ policy, outcome }) =>
          `| ${policy} | ${percent(outcome.unserved, 3)} | ${percent(outcome.shortTime, 2)} | ${outcome.meanInstances.toFixed(2)} | ${outcome.actions} |`,
      ),
      '',
    );
  }
}
text.push(
  'The autoscaler is evaluated at each sample (a minute) with the defaults of Kubernetes: tolerance 0.1, up at once by 4 or 100 %, down after 300 s. 50 instances carry the 99.9 % quantile of the load at full use, 70 % of which is the target. A fluid model without a queue: what comes while too few instances serve is lost. The sample at a time is the mean load of the minute before it, so nothing sees what it is judged on. "Perfect forecast" knows the largest load until an instance started now serves.',
  '',
);
console.log(text.join('\n'));
mkdirSync('bench/results', { recursive: true });
writeFileSync('bench/results/replay-traffic.md', text.join('\n'));

function replay(file, startup) {
  const run = spawnSync(process.execPath, ['dist/src/cli/main.js', 'replay', file, '--startup', startup, '--json'], {
    encoding: 'utf8',
  });
  if (run.status !== 0) {
    console.error(run.stderr);
    process.exit(1);
  }
  return JSON.parse(run.stdout);
}

function short(value) {
  return String(Number(value.toPrecision(4)));
}

function percent(share, digits) {
  return `${(100 * share).toFixed(digits)} %`;
}
