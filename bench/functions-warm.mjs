/**
 * What does a call of a function cost beside its work? Calls one after the other, at a fixed rate whether answered or not, and as many as go, of JavaScript and
 * WebAssembly; beside a message to a bare worker thread and back, and a child process per call.
 * `node bench/functions-warm.mjs [rate] [seconds] [rounds]`, default 10,000 a second for 4 s, five times in turns; writes bench/results/functions-warm.md.
 */
import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import {
  childProcessCall,
  ECHO,
  machine,
  quantile,
  row,
  serviceOf,
  spread,
  TEXT_PROCESSOR,
} from './functions/service.mjs';

const rate = Number(process.argv[2] ?? 10_000);
const seconds = Number(process.argv[3] ?? 4);
const rounds = Number(process.argv[4] ?? 5);
const about = machine();
const micros = (value) => (value * 1000 < 100 ? (value * 1000).toFixed(1) : (value * 1000).toFixed(0));

async function oneByOne(call, count) {
  for (let i = 0; i < count; i++) await call(i);
  const times = [];
  for (let i = 0; i < count; i++) {
    const began = performance.now();
    const worked = await call(i);
    times.push(performance.now() - began - worked);
  }
  return spread(times);
}

/**
 * Calls begin when they are due, however many are under way: what waits is in the time. The calls are made where a program that uses the library makes its own,
 * in the thread that serves them; what this takes is little: no object is kept of a call, and its time goes where there is room for it already.
 */
function atRate(call) {
  return new Promise((resolve, reject) => {
    const total = rate * seconds;
    const times = new Float64Array(total);
    const began = performance.now();
    const cpu = process.cpuUsage();
    let sent = 0;
    let answered = 0;
    let refused = 0;
    const finish = () => {
      if (answered + refused < total) return;
      const took = performance.now() - began;
      const { user, system } = process.cpuUsage(cpu);
      resolve({
        spread: spread(times.subarray(0, answered)),
        rate: (answered / took) * 1000,
        refused,
        cores: (user + system) / 1000 / took,
      });
    };
    const one = async (at) => {
      try {
        const worked = await call(sent);
        times[answered++] = performance.now() - at - worked;
      } catch (error) {
        if (!['IGU_FUNCTION_BUSY', 'IGU_FUNCTION_NOT_READY'].includes(error.code)) reject(error);
        refused++;
      }
      finish();
    };
    const step = () => {
      for (const now = performance.now() - began; sent < total; sent++) {
        const due = (sent * 1000) / rate;
        if (due > now) break;
        void one(began + due);
      }
      if (sent < total) setImmediate(step);
    };
    step();
  });
}

/** Calls a second with so many under way. */
async function most(call, underWay = 64, time = 3_000) {
  const began = performance.now();
  let done = 0;
  const one = async () => {
    for (; performance.now() - began < time; done++) await call(done);
  };
  await Promise.all(Array.from({ length: underWay }, one));
  return (done / (performance.now() - began)) * 1000;
}

const { deploy, service, close } = serviceOf({});
const scaling = { minInstances: 1, maxInstances: 1 };
await deploy('javascript', ECHO, { runtime: 'javascript', memoryMb: 64, concurrency: 1_000, scaling });
await deploy('wasm', TEXT_PROCESSOR, {
  runtime: 'wasm',
  handler: 'keywords',
  memoryMb: 32,
  concurrency: 1_000,
  scaling,
});
const caller = (name) => async (i) => (await service.invoke(name, { trigger: 'call', input: `order ${i}` })).durationMs;
const bare = new Worker(
  `const { parentPort } = require('node:worker_threads'); parentPort.on('message', (m) => parentPort.postMessage(m));`,
  { eval: true },
);
const waiting = [];
bare.on('message', () => waiting.shift()(0));
const message = (i) =>
  new Promise((resolve) => {
    waiting.push(resolve);
    bare.postMessage({ id: i, event: { trigger: 'call', input: `order ${i}` } });
  });

const ways = [
  ['JavaScript, a thread', caller('javascript')],
  ['WebAssembly, from a snapshot', caller('wasm')],
  ['a message to a bare worker and back', message],
].map(([title, call]) => ({ title, call, turns: [] }));
for (let round = 0; round < rounds; round++) {
  for (const { call, turns } of ways) {
    const sequential = await oneByOne(call, 2_000);
    turns.push({ sequential, steady: await atRate(call), throughput: await most(call, 64, 1_000) });
  }
}
/** In the middle of the rounds: what else the machine does meets one way as the other. */
const median = (values) => quantile(values, 0.5);
const rows = ways.map(({ title, turns }) => {
  const of = (pick) => median(turns.map(pick));
  const p99 = turns.map(({ steady }) => steady.spread[1]);
  const refused = of(({ steady }) => steady.refused);
  return row(
    title,
    ...[0, 1].map((i) => micros(of(({ sequential }) => sequential[i]))),
    micros(of(({ steady }) => steady.spread[0])),
    `${micros(median(p99))} (${micros(Math.min(...p99))} to ${micros(Math.max(...p99))})`,
    micros(of(({ steady }) => steady.spread[2])),
    `${Math.round(of(({ steady }) => steady.rate))}${refused > 0 ? ` (${refused} refused)` : ''}`,
    of(({ steady }) => steady.cores).toFixed(2),
    Math.round(of(({ throughput }) => throughput)),
  );
});
const children = await oneByOne(async (i) => {
  await childProcessCall(`order ${i}`);
  return 0;
}, 15);
rows.push(row('a child process per call', ...children.slice(0, 2).map(micros), '', '', '', '', '', ''));
await close();
await bare.terminate();

const text = `# Warm calls of functions

${about} \`node bench/functions-warm.mjs ${rate} ${seconds} ${rounds}\`

Time from the call to its answer, less the time in the handler, µs: the hop to the instance and back, the service's accounts, logs and limits. WebAssembly counts every instruction
too. One process makes the calls and serves them. A call at a rate begins when it is due. A bare message to a worker and back is the floor: on processors that sleep between
calls most of it is the waking of the thread, and on busy ones the wait for a processor. The ways take turns, ${rounds} rounds; the median of the rounds is shown, for the
99th percentile also the least and the most. Goals: p50 of 50 µs and p99 of 500 µs at 10,000 calls a second on two cores.

| way | one by one, p50 | p99 | at ${rate.toLocaleString('en-US')} a second, p50 | p99 (rounds) | most | calls/s | processors | calls/s, 64 under way |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
${rows.join('\n')}
`;
writeFileSync(new URL('results/functions-warm.md', import.meta.url), text);
process.stdout.write(text);
