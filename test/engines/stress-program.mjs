/**
 * The program of `stress.test.ts`, a process of its own: instances are made, called, trapped, destroyed and cut off in threads that end, on every engine
 * that is there, while V8's own bounds checks fault on the main thread. Arguments: the compiled runtime's and the list of engines' address, rounds.
 * Prints one line of JSON.
 */
import { readFileSync } from 'node:fs';

const [runtimeAt, engines, rounds] = process.argv.slice(2);
const { WasmRuntime } = await import(runtimeAt);
const names = engines.split(',');
const stoppable = names.filter((name) => ['native', 'wasmtime', 'wasm3'].includes(name));

const bytesOf = (file) => new Uint8Array(readFileSync(new URL(`../${file}`, import.meta.url)));
const traps = bytesOf('support/engine-programs/traps.wasm');
const loops = bytesOf('guests/hostile/endless-loop.wasm');
const i32 = (values) => values.map((value) => ({ type: 'i32', value }));
const endOf = (call) =>
  call.then(
    () => 'none',
    (error) => error.trap ?? error.code ?? String(error),
  );

const here = new WasmRuntime({ workers: 1 });
const bystander = await here.createInstance({ moduleId: (await here.loadModule(traps)).id, placement: 'in-place' });
const faultOfV8 = () => endOf(here.callFunction(bystander, 'load', i32([-1])));

const seen = new Map();
const count = (what) => seen.set(what, (seen.get(what) ?? 0) + 1);

for (let round = 0; round < Number(rounds); round++) {
  const runtime = new WasmRuntime({ workers: 1 + (round % 3) });
  const trapping = (await runtime.loadModule(traps)).id;
  const looping = (await runtime.loadModule(loops)).id;
  await Promise.all(
    names.map(async (name) => {
      const guest = await runtime.createInstance({
        moduleId: trapping,
        runtime: name,
        limits: { maxInstructions: 100_000_000 },
      });
      for (const [call, ...args] of [['load', -1], ['unreachable'], ['recurse', 0], ['divide', 1, 0]]) {
        count(`${name} ${call} ${await endOf(runtime.callFunction(guest, call, i32(args)))}`);
        count(`v8 ${await faultOfV8()}`);
      }
      const loop = await runtime.createInstance({
        moduleId: looping,
        runtime: name,
        limits: { maxInstructions: 100_000 },
      });
      count(`${name} spin ${await endOf(runtime.callFunction(loop, 'spin'))}`);
      count(`${name} add ${(await runtime.callFunction(loop, 'add', i32([40, 2])))[0].value}`);
      // the others are left to the end of their thread
      if (round % 2 === 0) for (const one of [guest, loop]) await runtime.destroy(one);
    }),
  );
  const cutOff = [];
  for (const name of stoppable) cutOff.push([name, await runtime.createInstance({ moduleId: looping, runtime: name })]);
  const ends = cutOff.map(async ([name, one]) =>
    count(`${name} cut off ${await endOf(runtime.callFunction(one, 'spin'))}`),
  );
  await runtime.close();
  await Promise.all(ends);
  count(`v8 ${await faultOfV8()}`);
}
await here.close();
process.stdout.write(`${JSON.stringify(Object.fromEntries(seen))}\n`);
