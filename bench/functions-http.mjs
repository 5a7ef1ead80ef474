/**
 * How many requests a second does a JavaScript function behind an HTTP trigger answer, beside a plain node:http handler that does the same (and workerd where it
 * is installed)? Every server and the client are processes of their own; servers take turns with the same load (keep-alive, one request at a time a connection),
 * and what is compared is the median of the rounds' ratios. Also: the same with 10,000 idle connections open.
 * `node bench/functions-http.mjs [seconds] [rounds]`, default 4 s, 5 rounds; writes bench/results/functions-http.md.
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { machine, quantile } from './wasm/measure.mjs';

const seconds = Number(process.argv[2] ?? 4);
const rounds = Number(process.argv[3] ?? 5);
const IDLE = 10_000;
const loadBefore = loadavg()[0];
const part = (name) => fileURLToPath(new URL(`./functions/${name}.mjs`, import.meta.url));

async function serve(way) {
  const child = spawn(process.execPath, [part('http-server'), way], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout);
  const port = await new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('exit', (code) => reject(new Error(`server ${way} ended with ${code}`)));
  });
  return {
    port,
    /** µs of processor time so far. */
    cpu: () =>
      new Promise((resolve) => {
        lines.once('line', (line) => resolve(Number(line)));
        child.stdin.write('cpu\n');
      }),
    stop: () =>
      new Promise((resolve) => {
        child.removeAllListeners('exit').once('exit', resolve);
        child.stdin.end();
      }),
  };
}

/** One line of JSON of http-load.mjs. */
function load(port, connections, idle = 0) {
  const args = [part('http-load'), port, '/functions/sum', connections, seconds, idle].map(String);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.on('data', (piece) => {
      text += piece;
    });
    child.once('exit', (code) => {
      if (code !== 0) return reject(new Error(`the client ended with ${code}`));
      const result = JSON.parse(text);
      if (result.wrong > 0) return reject(new Error(`${result.wrong} answers were wrong`));
      resolve(result);
    });
  });
}

const median = (values) => quantile(values, 0.5);
const whole = (value) => Math.round(value).toLocaleString('en-US');
const two = (value) => value.toFixed(2);

/** Rounds of both servers in turn, each in a new process, so that none has the better half of the machine's time. */
async function compare(connections) {
  const runs = { plain: [], function: [] };
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? ['plain', 'function'] : ['function', 'plain']) {
      const server = await serve(way);
      await load(server.port, connections); // compiled by the time that it counts
      const before = await server.cpu();
      const run = await load(server.port, connections);
      runs[way].push({ ...run, cpu: ((await server.cpu()) - before) / run.all });
      await server.stop();
    }
  }
  const ratios = runs.function.map(({ rate }, i) => rate / runs.plain[i].rate);
  const of = (way) =>
    ['rate', 'p50', 'p99', 'cpu', 'clientCpu'].map((name) => median(runs[way].map((run) => run[name])));
  return { connections, ratios, plain: of('plain'), function: of('function') };
}

const compared = [];
for (const connections of [1, 16, 64]) compared.push(await compare(connections));
const rows = compared.flatMap(({ connections, ratios, ...ways }) =>
  ['plain', 'function'].map((way) => {
    const [rate, p50, p99, cpu, client] = ways[way];
    const share =
      way === 'plain'
        ? ''
        : `${(100 * median(ratios)).toFixed(0)} % (${ratios.map((one) => (100 * one).toFixed(0)).join(', ')})`;
    const name = way === 'plain' ? 'plain node:http' : 'HTTP-triggered function';
    return `| ${connections} | ${name} | ${whole(rate)} | ${two(p50)} | ${two(p99)} | ${cpu.toFixed(1)} | ${two(client)} | ${share} |`;
  }),
);

const idleRows = [];
{
  const server = await serve('function');
  await load(server.port, 16);
  for (const idle of [0, IDLE, 0, IDLE]) {
    const { rate, p50, p99 } = await load(server.port, 16, idle);
    idleRows.push(`| ${whole(idle)} | ${whole(rate)} | ${two(p50)} | ${two(p99)} |`);
  }
  await server.stop();
}

const best = compared.reduce((a, b) => (median(a.ratios) > median(b.ratios) ? a : b));
const text = `# Functions behind HTTP triggers

A POST with a small JSON body; the answer is a small JSON object made of it. Connections are kept alive and have one request at a time. Each of ${rounds} rounds
starts both servers anew, warms each up for ${seconds} s and counts for ${seconds} s, in turns; rates and times are medians of the rounds, the last column is the median of the
rounds' ratios (and each of them). A call through the function is routed, counted, logged, has its deadline, crosses to a worker thread and back, and has its
record of usage signed and written to a journal before it ends, as in \`iguana start\`. Processor time is of all threads of the server. Load average when it began: ${loadBefore.toFixed(1)}${loadBefore > 0.5 ? ' (not idle: rates are preliminary; run it again on an idle machine)' : ''}.

${machine()}. \`npm run bench -- functions-http\`

- not measured: workerd: it is no dependency of this project, and its npm package fetches a native binary of its own

## Requests a second

| connections | server | requests/s | p50, ms | p99, ms | processor µs a request | client, cores | share of plain |
| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}

Best share: ${(100 * median(best.ratios)).toFixed(0)} % with ${best.connections} connections; the goal is 60 %.

## With idle connections open

16 connections ask; so many others are open beside them and never do. One server, in turns.

| idle connections | requests/s | p50, ms | p99, ms |
| ---: | ---: | ---: | ---: |
${idleRows.join('\n')}
`;
writeFileSync(new URL('./results/functions-http.md', import.meta.url), text);
console.log(text);
