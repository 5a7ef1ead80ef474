/**
 * How long does a call take that finds no instance, how soon are there a hundred, and is the memory given back? WebAssembly from a snapshot and without one,
 * JavaScript from workers that wait, without them, in workers that are shared, and in a process of its own; beside a child process per call.
 * `node bench/functions-cold-start.mjs [count]`, default 200 cold starts; writes bench/results/functions-cold-start.md.
 */
import { writeFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import {
  childProcessCall,
  ECHO,
  machine,
  ms,
  poolOf,
  row,
  serviceOf,
  sleep,
  spread,
  TEXT_PROCESSOR,
} from './functions/service.mjs';

const count = Number(process.argv[2] ?? 200);
const about = machine();
const TEXT = 'a stream of records starts a function';

/** Calls of a function that has no instance, ms from the call to its answer. */
async function cold(options, code, definition, times, pause) {
  const { pool, call, close } = poolOf(options, code, definition);
  const all = [];
  const starts = [];
  for (let i = 0; i < times + 5; i++) {
    // workers that were taken are replaced between the calls, not during them
    await sleep(pause);
    const began = performance.now();
    const { cold: why, initMs } = await call(TEXT);
    const took = performance.now() - began;
    if (!why) throw new Error('it was warm');
    if (i >= 5) {
      all.push(took);
      starts.push(initMs);
    }
    await pool.scaleTo(0);
  }
  await close();
  return { all: spread(all), starts: spread(starts), times };
}

const wasm = { runtime: 'wasm', handler: 'keywords', memoryMb: 32 };
const javascript = { runtime: 'javascript', memoryMb: 32 };
const few = Math.max(10, Math.round(count / 10));
const ways = [
  ['WebAssembly from a snapshot', await cold({}, TEXT_PROCESSOR, wasm, count, 50)],
  ['WebAssembly from a snapshot, without a pause', await cold({}, TEXT_PROCESSOR, wasm, count, 2)],
  ['WebAssembly, initialised each time', await cold({}, TEXT_PROCESSOR, { ...wasm, snapshot: false }, count, 50)],
  ['JavaScript, a worker that waits', await cold({ warmWorkers: 4 }, ECHO, javascript, count, 120)],
  ['JavaScript, a new worker', await cold({ warmWorkers: 0 }, ECHO, javascript, few, 10)],
  ['JavaScript, a shared worker', await cold({}, ECHO, { ...javascript, isolation: 'shared' }, count, 50)],
  [
    'JavaScript, a process that waits',
    await cold({ warmWorkers: 2 }, ECHO, { ...javascript, isolation: 'process' }, few, 500),
  ],
];
const children = [];
for (let i = 0; i < few; i++) {
  const began = performance.now();
  await childProcessCall(TEXT);
  children.push(performance.now() - began);
}

/** From nothing to a hundred calls that all run at once, ms. */
async function burst(code, definition, input) {
  const { pool, call, close } = poolOf({}, code, { ...definition, scaling: { maxInstances: 100 } });
  await call(input);
  await pool.scaleTo(0);
  await sleep(300);
  const began = performance.now();
  const from = Date.now();
  const results = await Promise.all(Array.from({ length: 100 }, () => call(input)));
  const took = performance.now() - began;
  const { instances } = pool.state;
  await close();
  const begun = results.map(({ reply: { output } }) => (output?.begun ?? Number.NaN) - from);
  return { took, instances, begun: Math.max(...begun), mean: begun.reduce((sum, one) => sum + one, 0) / begun.length };
}
const WAITS = Buffer.from(
  'export async function handle({ input }) { const begun = Date.now(); await new Promise((r) => setTimeout(r, input)); return { begun }; }',
);
const burstWasm = await burst(TEXT_PROCESSOR, wasm, TEXT);
const burstJavaScript = await burst(WAITS, javascript, 3_000);
const burstShared = await burst(WAITS, { ...javascript, isolation: 'shared' }, 1_000);
const burstOne = await burst(WAITS, { ...javascript, concurrency: 100 }, 100);
const childrenBegan = performance.now();
await Promise.all(Array.from({ length: 100 }, () => childProcessCall(TEXT)));
const burstChildren = performance.now() - childrenBegan;

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');
const rss = async () => {
  for (let i = 0; i < 3; i++) {
    collect();
    await sleep(300);
  }
  return process.memoryUsage().rss / 2 ** 20;
};

/** MB of the process before a function has instances, with them, and after it has none again. */
async function memory(code, definition, instances, input) {
  const { pool, call, close } = poolOf({}, code, { ...definition, scaling: { maxInstances: instances } });
  await call(input);
  await pool.scaleTo(0);
  const before = await rss();
  await pool.scaleTo(instances);
  await Promise.all(Array.from({ length: instances }, () => call(input)));
  const during = await rss();
  await pool.scaleTo(0);
  await sleep(2_000);
  const after = await rss();
  await close();
  return [instances, before, during, after];
}
/** The same of so many functions, each with code of its own and one instance. */
async function memoryOfMany(definition, functions) {
  const { service, deploy, call, close } = serviceOf({});
  await deploy('first', ECHO, definition);
  await call('first', TEXT);
  const before = await rss();
  for (let i = 0; i < functions; i++) await deploy(`f${i}`, Buffer.from(`${ECHO} // ${i}`), definition);
  await Promise.all(Array.from({ length: functions }, (_, i) => call(`f${i}`, TEXT)));
  const during = await rss();
  await Promise.all(Array.from({ length: functions }, (_, i) => service.delete(`f${i}`)));
  await sleep(2_000);
  const after = await rss();
  await close();
  return [functions, before, during, after];
}
const memories = [
  ['WebAssembly', await memory(TEXT_PROCESSOR, wasm, 100, TEXT)],
  ['JavaScript', await memory(ECHO, javascript, 30, TEXT)],
  ['JavaScript, `isolation: shared`', await memory(ECHO, { ...javascript, isolation: 'shared' }, 100, TEXT)],
  ['JavaScript, functions of one instance each', await memoryOfMany(javascript, 100)],
  ['the same, `isolation: shared`', await memoryOfMany({ ...javascript, isolation: 'shared' }, 100)],
];

const text = `# Cold starts of functions

${about} \`node bench/functions-cold-start.mjs ${count}\`

## A call that finds no instance, ms

From the call to its answer, the work included; the function had been scaled to zero 50 ms (JavaScript: 120 ms) before each, in the row "without a pause" 2 ms: there the garbage of the instances before is collected in the midst of starts. "start": what of that was the instance. WebAssembly:
\`examples/functions/text-processor.c\`, 1 MiB of memory with a table that is filled once. \`shared\`: the instance comes into a worker that is there. Goals: p99 of 5 ms (WebAssembly from a snapshot), 20 ms (JavaScript from a worker that waits).

| way | calls | p50 | p99 | most | start, p50 | start, p99 |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
${ways.map(([title, { all, starts, times }]) => row(title, times, ...all.map(ms), ms(starts[0]), ms(starts[1]))).join('\n')}
${row('a child process per call', few, ...spread(children).map(ms), '', '')}

## From none to a hundred calls at once, ms

Goal: 1,500 ms. JavaScript: until the last of a hundred calls that wait had begun; the others: until all were answered.

| way | instances | ms | on average |
| --- | ---: | ---: | ---: |
${row('WebAssembly', burstWasm.instances, ms(burstWasm.took), '')}
${row('JavaScript, a worker each', burstJavaScript.instances, ms(burstJavaScript.begun), ms(burstJavaScript.mean))}
${row('JavaScript, `isolation: shared`', burstShared.instances, ms(burstShared.begun), ms(burstShared.mean))}
${row('JavaScript, `concurrency: 100`', burstOne.instances, ms(burstOne.begun), ms(burstOne.mean))}
${row('a child process each', 100, ms(burstChildren), '')}

## Memory of the process, MB

The heap's garbage is collected before each look only in the main thread. "functions of one instance each": so many functions with code of their own, removed in the end.

| runtime | instances | before | with them | scaled to zero | each |
| --- | ---: | ---: | ---: | ---: | ---: |
${memories.map(([title, [n, before, during, after]]) => row(title, n, before.toFixed(0), during.toFixed(0), after.toFixed(0), ((during - before) / n).toFixed(2))).join('\n')}
`;
writeFileSync(new URL('results/functions-cold-start.md', import.meta.url), text);
process.stdout.write(text);
