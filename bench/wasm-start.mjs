/**
 * How long until WebAssembly runs, comes back, or stops; what does an instance weigh, and what does a call cost? Cold start of a 100 KB module, load of
 * a 5 MB module compiled ahead, restoring snapshots of 1, 16 and 64 MiB with 1 MiB touched, 10,000 live instances, calls from JavaScript, the end of
 * endless loops; each beside plain V8, and Wasmtime where it is installed. Every part runs in processes of its own.
 * `node bench/wasm-start.mjs [count]`, default 200 cold starts and restores; writes bench/results/wasm-start.md.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { machine, quantile } from './wasm/measure.mjs';

const count = Number(process.argv[2] ?? 200);
const COLD_KB = 100;
const AHEAD_MB = 5;
const script = fileURLToPath(new URL('./wasm/start-part.mjs', import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), 'iguana-bench-start-'));
const load = loadavg()[0];

function run(...args) {
  const output = execFileSync(process.execPath, ['--expose-gc', '--no-warnings', script, ...args.map(String)], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, IGUANA_WASM_CHILD: '1' },
    timeout: 300_000,
  });
  return JSON.parse(output.trim().split('\n').at(-1));
}

const ms = (value) => (value < 1 ? value.toFixed(3) : value < 100 ? value.toFixed(2) : value.toFixed(0));
const row = (...cells) => `| ${cells.join(' | ')} |`;
const spread = ({ p50, p99, most }) => [ms(p50), ms(p99), ms(most)];
const notMeasured = [];
const note = (what, { missing }) => notMeasured.push(`- not measured: ${what}: ${missing}`);

const cold = run('cold', scratch, COLD_KB, count);
const coldRows = Object.entries(cold.ways).map(([way, times]) => row(way, ms(times.first), ...spread(times)));
for (const [title, ...args] of [
  ['Wasmtime, metered, in place', 'wasmtime', 'optimised'],
  ['Wasmtime baseline, metered, in place', 'wasmtime', 'baseline'],
]) {
  const times = run('coldEngine', scratch, COLD_KB, 10, ...args);
  if (times.missing) note(title, times);
  else coldRows.push(row(`${title} (${times.version}; ${times.n} times)`, '', ...spread(times)));
}

const compiled = run('aotCompile', scratch, AHEAD_MB);
const aheadRows = [];
for (const [title, way] of [
  ['compiled ahead, loaded', 'ahead'],
  ['compiled lazily', 'lazy'],
]) {
  const loads = Array.from({ length: 15 }, () => run('aotLoad', scratch, AHEAD_MB, way));
  if (loads[0].missing) note(title, loads[0]);
  else {
    const of = (name) => loads.map((one) => one[name]);
    const most = Math.max(...of('load'));
    aheadRows.push(
      row(
        title,
        ms(quantile(of('load'), 0.5)),
        ms(most),
        ms(quantile(of('first'), 0.5)),
        ms(quantile(of('tenth'), 0.5)),
      ),
    );
  }
}

const snapshotRows = [1, 16, 64].map((megabytes) => {
  const { create, live, fresh } = run('snapshot', megabytes, count);
  return row(`${megabytes} MiB`, ...spread(live), ms(fresh.p50), ms(fresh.p99), ms(create.p50));
});

const weights = [
  ['plain V8', 'plain'],
  ['Iguana, in place', 'runtime'],
].map(([title, way]) => {
  const { count: live, bytesEach, microsEach } = run('instances', way, 10_000);
  return row(title, live.toLocaleString('en-US'), (bytesEach / 1024).toFixed(1), microsEach.toFixed(0));
});

const calls = run('calls');
const callRows = Object.entries(calls).map(([name, nanos]) =>
  row(name, nanos < 1000 ? `${nanos.toFixed(0)} ns` : `${(nanos / 1000).toFixed(1)} µs`),
);
for (const [name, title] of [
  ['wasmtime', 'Wasmtime, engine alone'],
  ['wasm3', 'wasm3 in V8, engine alone'],
]) {
  const answer = run('callsEngine', name);
  if (answer.missing) note(title, answer);
  else callRows.push(row(`${title} (${answer.version})`, `${answer.each.toFixed(0)} ns`));
}

const stops = run('stop', Math.min(50, count));
rmSync(scratch, { recursive: true, force: true });

const text = `# Starting, restoring, calling and stopping WebAssembly

Wall-clock times; every part in a process of its own, what is compared in turns. Load average when it began: ${load.toFixed(1)}.

${machine()}. \`node bench/wasm-start.mjs ${count}\`
${notMeasured.length > 0 ? `\n${notMeasured.join('\n')}\n` : ''}
## Cold start of a module of ${(cold.size / 1000).toFixed(0)} KB, ms

From the file to the first result: read, checked, metered, compiled, instantiated, called. Each time a module that nothing has met before; ${count} times after 10
that are not counted. "Very first": in a process whose own code was not warm either.

| way | very first | p50 | p99 | most |
| --- | ---: | ---: | ---: | ---: |
${coldRows.join('\n')}

## A module of ${AHEAD_MB} MB compiled ahead, ms

Compiled once with the optimising compiler: ${(compiled.tookMs / 1000).toFixed(1)} s, ${(compiled.codeBytes / 1e6).toFixed(1)} MB of machine code. Each load in a fresh process, 15 times. The calls: SHA-256 of 256 KiB
and a scan of 64 KiB of JSON.

| way | load, p50 | load, most | first call | tenth call |
| --- | ---: | ---: | ---: | ---: |
${aheadRows.join('\n')}

## Restoring a snapshot after 1 MiB was touched, ms

256 pages of 4 KiB all over the memory are changed before each restore; ${count} times.

| memory | into a live instance, p50 | p99 | most | into a new one, p50 | p99 | taking one, p50 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${snapshotRows.join('\n')}

## Live instances in one process

With one page of memory each, called once. Growth of the resident set after a collection.

| | instances | KiB each | µs to make and call |
| --- | ---: | ---: | ---: |
${weights.join('\n')}

## A call from JavaScript

\`add\` of two numbers, best of 5 rounds.

| way | a call |
| --- | ---: |
${callRows.join('\n')}

## Stopping an endless loop, ms beyond a timeout of 20 ms

Until the caller has its error.

| where | p50 | p99 | most |
| --- | ---: | ---: | ---: |
${Object.entries(stops)
  .map(([where, times]) => row(where, ...spread(times)))
  .join('\n')}
`;
writeFileSync(new URL('./results/wasm-start.md', import.meta.url), text);
console.log(text);
